//! One cluster without nodes. In: a folder and options. Out: a URL, a CA, an administrator's kubeconfig.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tokio::time::Instant;

use super::binaries::{self, Binaries};
use super::certificates::{self, Certificates};
use super::etcd::{Etcd, Snapshot};
use super::process::Process;
use crate::ports;

const PATIENCE: Duration = Duration::from_secs(120);
const TAKEN: &str = "address already in use";
const CONTROLLERS: &str = "namespace-controller,garbage-collector-controller,serviceaccount-controller,\
serviceaccount-token-controller,clusterrole-aggregation-controller,root-ca-certificate-publisher-controller,\
validatingadmissionpolicy-status-controller";
/// The same before Kubernetes 1.28, where controllers had shorter names (and 1.30, where there were no policies).
const CONTROLLERS_1_27: &str = "namespace,garbagecollector,serviceaccount,serviceaccount-token,clusterrole-aggregation,\
root-ca-cert-publisher";
/// Who asks for what, but for the servers themselves and administrators. What gives rights is told with its content.
const AUDIT: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitManagedFields: true
omitStages: [RequestReceived]
rules:
- {level: None, userGroups: [system:masters]}
- {level: None, users: [system:apiserver, system:kube-controller-manager, system:anonymous]}
- level: RequestResponse
  verbs: [create, update, patch]
  resources: [{group: rbac.authorization.k8s.io}]
- {level: Metadata}
";

/// What may differ between clusters.
#[derive(Clone, Debug)]
pub struct Options {
    /// Further flags of kube-apiserver (the last of a name wins).
    pub apiserver: Vec<String>,
    /// Further flags of etcd.
    pub etcd: Vec<String>,
    /// Whether kube-controller-manager runs.
    pub controllers: bool,
    /// Whether to keep an audit log, `audit.log` in the folder.
    pub audit: bool,
    /// Remove the folder when the test process is gone, however it ended.
    pub remove_folder: bool,
    /// The port that etcd tries first; otherwise one where nobody listened a moment ago.
    pub etcd_port: Option<u16>,
    /// The port that kube-apiserver tries first.
    pub port: Option<u16>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            apiserver: Vec::new(),
            etcd: Vec::new(),
            controllers: true,
            audit: true,
            remove_folder: false,
            etcd_port: None,
            port: None,
        }
    }
}

/// A running cluster. Its processes end when it is dropped and when the test process ends, however it ends.
pub struct Kubernetes {
    folder: PathBuf,
    options: Options,
    binaries: Binaries,
    certificates: Certificates,
    port: u16,
    etcd_port: u16,
    etcd: Option<Process>,
    apiserver: Option<Process>,
    controllers: Option<Process>,
}

impl Kubernetes {
    /// Starts one; returns when it is ready and its controllers have made what every cluster has. Logs are in `folder`.
    ///
    /// # Panics
    /// When there are no binaries (ask [`super::binaries`] first), or it does not get ready: with its last words.
    pub async fn start(folder: &Path, options: Options) -> Self {
        // An error means that it is installed already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let binaries = binaries::binaries().expect("there is no real Kubernetes to start");
        std::fs::create_dir_all(folder).unwrap();
        let folder = folder.canonicalize().unwrap();
        let certificates = certificates::write(&folder);
        std::fs::write(folder.join("audit.yaml"), AUDIT).unwrap();
        let mut cluster = Self {
            folder,
            options,
            binaries,
            certificates,
            port: 0,
            etcd_port: 0,
            etcd: None,
            apiserver: None,
            controllers: None,
        };
        while !cluster.try_etcd().await {}
        while !cluster.try_apiserver().await {}
        cluster.start_controllers().await;
        cluster
    }

    /// `https://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// What to trust.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.certificates.ca_pem
    }

    /// Where its data and logs are: `etcd.log`, `kube-apiserver.log`, `kube-controller-manager.log`, `audit.log`; the
    /// serving certificate is `server.crt` with `server.key` (the server takes up new ones by itself).
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Kubeconfig of an administrator (`system:masters`), by client certificate.
    #[must_use]
    pub fn admin_kubeconfig(&self) -> String {
        let user = json!({
            "client-certificate-data": STANDARD.encode(&self.certificates.admin_certificate),
            "client-key-data": STANDARD.encode(&self.certificates.admin_key),
        });
        self.kubeconfig("admin", "default", &user)
    }

    /// Kubeconfig with a bearer token.
    #[must_use]
    pub fn token_kubeconfig(&self, user: &str, namespace: &str, token: &str) -> String {
        self.kubeconfig(user, namespace, &json!({"token": token}))
    }

    fn kubeconfig(&self, user: &str, namespace: &str, credential: &serde_json::Value) -> String {
        apimachinery::yaml::write(&json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "real",
            "clusters": [{"name": "real", "cluster": {
                "server": self.url(), "certificate-authority-data": STANDARD.encode(self.ca_pem()),
            }}],
            "contexts": [{"name": "real", "context": {"cluster": "real", "user": user, "namespace": namespace}}],
            "users": [{"name": user, "user": credential}],
        }))
    }

    /// Ends everything at once; data stays in the folder.
    pub async fn stop(&mut self) {
        for process in [self.controllers.take(), self.apiserver.take(), self.etcd.take()].into_iter().flatten() {
            process.stop().await;
        }
    }

    /// Brings everything back, on the same port with the same data; what still runs is ended first.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.again(Self::try_etcd).await;
        self.again(Self::try_apiserver).await;
        self.start_controllers().await;
    }

    /// Ends only the API server: clients get refused connections.
    pub async fn stop_apiserver(&mut self) {
        if let Some(process) = self.apiserver.take() {
            process.stop().await;
        }
    }

    /// Brings the API server back on its port, and the controllers with it: those that were turned away while it began would
    /// look away for up to half a minute.
    pub async fn start_apiserver(&mut self) {
        assert!(self.apiserver.is_none(), "it runs already");
        self.again(Self::try_apiserver).await;
        if let Some(controllers) = self.controllers.take() {
            controllers.stop().await;
        }
        self.start_controllers().await;
    }

    /// Whether the API server was started and not stopped.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.apiserver.is_some()
    }

    /// Everything that is stored.
    pub async fn snapshot(&self) -> Snapshot {
        Etcd::new(self.etcd_port).snapshot().await
    }

    /// Puts everything back as it was at the snapshot, under the running servers; only the cluster's identity (the UID of
    /// `kube-system`) is a new one. Ask [`Kubernetes::settled`] when the servers have noticed.
    pub async fn restore(&self, snapshot: &Snapshot) {
        Etcd::new(self.etcd_port).restore(snapshot).await;
    }

    /// Compacts etcd at the present revision.
    pub async fn compact(&self) {
        Etcd::new(self.etcd_port).compact().await;
    }

    /// A client with the administrator's certificate.
    #[must_use]
    pub fn http(&self) -> reqwest::Client {
        let ca = reqwest::Certificate::from_pem(self.ca_pem().as_bytes()).unwrap();
        let pem = format!("{}{}", self.certificates.admin_certificate, self.certificates.admin_key);
        let identity = reqwest::Identity::from_pem(pem.as_bytes()).unwrap();
        let builder = reqwest::Client::builder().tls_certs_only([ca]).identity(identity).no_proxy();
        builder.timeout(Duration::from_secs(10)).build().unwrap()
    }

    async fn again<'a>(&'a mut self, start: impl AsyncFn(&mut Self) -> bool + 'a) {
        for _ in 0..50 {
            if start(self).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("the ports {} and {} of a stopped cluster are taken", self.port, self.etcd_port);
    }

    /// False when a port was taken meanwhile.
    async fn try_etcd(&mut self) -> bool {
        // Its data tells whether it ran before, on a port that clients know.
        if !self.folder.join("etcd/member").exists() {
            self.etcd_port = self.options.etcd_port.take().unwrap_or_else(|| ports::free().port());
        }
        let url = format!("http://127.0.0.1:{}", self.etcd_port);
        let mut flags = vec![
            format!("--data-dir={}", self.folder.join("etcd").display()),
            format!("--listen-client-urls={url}"),
            format!("--advertise-client-urls={url}"),
            "--listen-peer-urls=http://127.0.0.1:0".to_owned(),
            // The machine will not lose power in the middle of a test.
            "--unsafe-no-fsync".to_owned(),
            "--max-txn-ops=1000000".to_owned(),
            "--log-level=warn".to_owned(),
        ];
        flags.extend(self.options.etcd.iter().cloned());
        let remove = self.options.remove_folder.then_some(self.folder.as_path());
        let process = Process::start(&self.binaries.etcd, &flags, &self.folder.join("etcd.log"), remove);
        let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
        self.etcd = ready("etcd", process, &http, &format!("{url}/health")).await;
        if self.etcd.is_none() && self.apiserver.is_none() && self.port == 0 {
            let _ = std::fs::remove_dir_all(self.folder.join("etcd"));
        }
        self.etcd.is_some()
    }

    /// False when a port was taken meanwhile.
    async fn try_apiserver(&mut self) -> bool {
        let first = self.port == 0;
        if first {
            self.port = self.options.port.take().unwrap_or_else(|| ports::free().port());
        }
        let file = |name: &str| self.folder.join(name).display().to_string();
        let mut flags = vec![
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.port),
            format!("--cert-dir={}", file("apiserver")),
            format!("--tls-cert-file={}", file("server.crt")),
            format!("--tls-private-key-file={}", file("server.key")),
            format!("--client-ca-file={}", file("ca.crt")),
            "--authorization-mode=RBAC".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", file("accounts.pub")),
            format!("--service-account-signing-key-file={}", file("accounts.key")),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--profiling=false".to_owned(),
        ];
        if self.options.audit {
            flags.push(format!("--audit-policy-file={}", file("audit.yaml")));
            flags.push(format!("--audit-log-path={}", file("audit.log")));
            flags.push("--audit-log-maxsize=4000".to_owned());
        }
        flags.extend(self.options.apiserver.iter().cloned());
        let log = self.folder.join("kube-apiserver.log");
        let process = Process::start(&self.binaries.apiserver, &flags, &log, None);
        let ca = reqwest::Certificate::from_pem(self.ca_pem().as_bytes()).unwrap();
        let http = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().unwrap();
        self.apiserver = ready("kube-apiserver", process, &http, &format!("{}/readyz", self.url())).await;
        if first && self.apiserver.is_none() {
            self.port = 0;
        }
        self.apiserver.is_some()
    }

    /// Starts the controllers and waits for what they make in every cluster.
    async fn start_controllers(&mut self) {
        if !self.options.controllers {
            return;
        }
        let file = |name: &str| self.folder.join(name).display().to_string();
        let text = apimachinery::yaml::write(&json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "real",
            "clusters": [{"name": "real", "cluster": {"server": self.url(), "certificate-authority": file("ca.crt")}}],
            "contexts": [{"name": "real", "context": {"cluster": "real", "user": "controllers"}}],
            "users": [{"name": "controllers", "user": {
                "client-certificate": file("controllers.crt"), "client-key": file("controllers.key"),
            }}],
        }));
        std::fs::write(self.folder.join("controllers.kubeconfig"), text).unwrap();
        let minor = self.binaries.minor();
        let controllers = match minor {
            ..28 => CONTROLLERS_1_27,
            28.. => CONTROLLERS,
        };
        let mut flags = vec![
            format!("--kubeconfig={}", file("controllers.kubeconfig")),
            format!("--controllers={controllers}"),
            format!("--root-ca-file={}", file("ca.crt")),
            format!("--service-account-private-key-file={}", file("accounts.key")),
            // Each controller has rights of its own; the common account has hardly any.
            "--use-service-account-credentials=true".to_owned(),
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
            "--kube-api-qps=500".to_owned(),
            "--kube-api-burst=500".to_owned(),
            "--profiling=false".to_owned(),
        ];
        if minor < 24 {
            // The port without TLS, which is 10252 for everybody otherwise.
            flags.push("--port=0".to_owned());
        }
        let log = self.folder.join("kube-controller-manager.log");
        self.controllers = Some(Process::start(&self.binaries.controller_manager, &flags, &log, None));
        self.settled().await;
    }

    /// Waits until every namespace has what the controllers make in it.
    pub async fn settled(&self) {
        let http = self.http();
        let deadline = Instant::now() + PATIENCE;
        let missing = async || {
            for namespace in ["default", "kube-system", "kube-public", "kube-node-lease"] {
                for what in ["serviceaccounts/default", "configmaps/kube-root-ca.crt"] {
                    let url = format!("{}/api/v1/namespaces/{namespace}/{what}", self.url());
                    let there = http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success());
                    if !there {
                        return Some(url);
                    }
                }
            }
            None
        };
        while let Some(url) = missing().await {
            let words = || self.controllers.as_ref().map(Process::last_words).unwrap_or_default();
            assert!(Instant::now() < deadline, "the controllers do not make {url}:\n{}", words());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The process once it answers; `None` when its port was taken.
async fn ready(name: &str, process: Process, http: &reqwest::Client, url: &str) -> Option<Process> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = http.get(url).timeout(Duration::from_secs(2)).send().await;
        if answer.is_ok_and(|answer| answer.status().is_success()) && !process.ended() {
            return Some(process);
        }
        if process.ended() {
            let words = process.last_words();
            assert!(words.contains(TAKEN), "{name} ended:\n{words}");
            // Its guard must not take this for the end of the test: the folder stays.
            process.stop().await;
            return None;
        }
        assert!(Instant::now() < deadline, "{name} does not get ready at {url}:\n{}", process.last_words());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
