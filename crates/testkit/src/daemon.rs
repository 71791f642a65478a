//! The agent and the backend as the programs that they are: child processes, which can be killed as a machine that loses
//! power kills them. In: the program and its arguments. Out: a running process; SIGKILL whenever a scenario says so.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use backend::config::KubeSource;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube_bind_api::constants::{CONSUMER_NAMESPACE, KONNECTOR_LEASE};
use kube_client::resource::Resource;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::eventually;
use crate::program::file;
use crate::site::Site;
use crate::world::{Consumer, Provider};

/// A child process; it does not outlive its handle.
pub struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts it. What it logs goes to `log`, the whole life of a scenario in one file.
    #[must_use]
    pub fn start(mut command: Command, log: &Path) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).kill_on_drop(true);
        Self { child: command.spawn().unwrap() }
    }

    /// SIGKILL, and gone.
    pub async fn kill(mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "it had ended before it was killed");
        self.child.kill().await.unwrap();
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it has ended.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Waits for its end.
    pub async fn ended(mut self) -> std::process::ExitStatus {
        tokio::time::timeout(crate::PATIENCE, self.child.wait()).await.expect("it ends").unwrap()
    }

    /// The end that a service manager asks for; waits for it.
    pub async fn terminate(mut self) {
        let pid = self.child.id().expect("it runs").to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        let status = tokio::time::timeout(crate::PATIENCE, self.child.wait()).await.expect("it ends").unwrap();
        assert!(status.success(), "{status}");
    }
}

/// The agent of a consumer as a program, with its ServiceAccount's kubeconfig. An agent that is embedded in the scenario
/// has to be stopped before. Returns at once; [`leads`] waits until it works.
#[must_use]
pub fn agent(consumer: &Consumer, folder: &Path, identity: &str) -> Daemon {
    let kubeconfig = file(folder, "agent.kubeconfig", &consumer.agent_kubeconfig);
    let mut command = Command::new(&consumer.person.program);
    command.args(["konnector", "--kubeconfig", &kubeconfig, "--identity", identity, "--server-address", ""]);
    command.env_remove("RUST_LOG");
    Daemon::start(command, &folder.join("agent.log"))
}

/// Waits until the agent of that name holds the Lease.
pub async fn leads(consumer: &Consumer, identity: &str) {
    holds(&consumer.site, KONNECTOR_LEASE, identity).await;
}

/// Who holds a Lease.
pub async fn holder(site: &Site, name: &str) -> Value {
    let leases = Resource::new("coordination.k8s.io", "v1", "leases", "Lease");
    site.get(&leases, CONSUMER_NAMESPACE, name).await.unwrap_or_default()["spec"]["holderIdentity"].take()
}

/// Waits until the program of that name holds a Lease, and renews it.
pub async fn holds(site: &Site, name: &str, identity: &str) {
    let before = jiff::Timestamp::now();
    let leases = Resource::new("coordination.k8s.io", "v1", "leases", "Lease");
    eventually(&format!("{identity} holds the Lease {name}"), async || {
        let lease = site.get(&leases, CONSUMER_NAMESPACE, name).await.unwrap_or_default();
        let renewed = lease["spec"]["renewTime"].as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok());
        let ours = lease["spec"]["holderIdentity"] == identity;
        if ours && renewed.is_some_and(|renewed| renewed >= before) { Ok(()) } else { Err(lease.to_string()) }
    })
    .await;
}

/// The backend of a provider as a program, told by flags and files what the embedded one is told. That one has to be
/// stopped before. Returns at once; [`answers`] waits until it works.
#[must_use]
pub fn backend(provider: &Provider, program: &Path, folder: &Path) -> Daemon {
    let command = replica(provider, program, folder, "scenario", provider.config().listen, "none");
    Daemon::start(command, &folder.join("backend.log"))
}

/// The same as one of several replicas, not started yet: with its own name, address, and address for probes.
#[must_use]
pub fn replica(
    provider: &Provider,
    program: &Path,
    folder: &Path,
    identity: &str,
    listen: SocketAddr,
    probes: &str,
) -> Command {
    replica_of(&backend::Config { listen, ..provider.config().clone() }, program, folder, identity, probes)
}

/// The same for any configuration of a backend.
#[must_use]
pub fn replica_of(config: &backend::Config, program: &Path, folder: &Path, identity: &str, probes: &str) -> Command {
    let KubeSource::Text(kubeconfig) = &config.kube else { panic!("a world gives its backend a kubeconfig's text") };
    let oidc = config.oidc.as_ref().expect("a world's backend has a login");
    let secret = oidc.client_secret.as_ref().map(|secret| secret.expose_secret().to_owned()).unwrap_or_default();
    let key = STANDARD.encode(config.signing_key.as_deref().unwrap_or_default());
    let mut command = Command::new(program);
    command.arg("kube-bind-backend").env_remove("RUST_LOG");
    for (flag, value) in [
        ("--kubeconfig", file(folder, "backend.kubeconfig", kubeconfig)),
        ("--listen-address", config.listen.to_string()),
        ("--server-address", probes.to_owned()),
        ("--identity", identity.to_owned()),
        ("--external-url", config.external_url.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("--pretty-name", config.pretty_name.clone()),
        ("--isolation", format!("{:?}", config.isolation)),
        ("--oidc-issuer-url", oidc.issuer_url.clone()),
        ("--oidc-issuer-client-id", oidc.client_id.clone()),
        ("--oidc-issuer-client-secret-file", file(folder, "client-secret", &secret)),
        ("--oidc-allowed-groups", oidc.allowed_groups.join(",")),
        ("--cookie-signing-key-file", file(folder, "signing-key", &key)),
    ] {
        command.args([flag, &value]);
    }
    command
}

/// Waits until a provider's backend answers.
pub async fn answers(provider: &Provider) {
    answers_at(&provider.server).await;
}

/// Waits until the backend at a URL answers.
pub async fn answers_at(server: &str) {
    let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
    eventually("the backend answers", async || {
        let answer = http.get(format!("{server}/exports")).header("accept", "application/json").send().await;
        match answer {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(answer.status().to_string()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
}
