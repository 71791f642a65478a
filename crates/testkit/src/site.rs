//! An API server of one side that can stop and come back with its data on the same port, and an administrator's hands on
//! it. In: a folder and the side. Out: a kubeconfig, and short calls that panic with the object's name when they fail.
//!
//! Which kind of API server a side has is decided here and nowhere else, by `KUBE_BIND_TEST_PAIRING=<provider>/<consumer>`,
//! where each is `embedded` (the control plane in this process, the default) or `real` ([`crate::real`]).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use controlplane::ControlPlane;
use kube_bind::stage::cluster::{self, Setup};
use kube_client::api::{Api, FieldManager, ListQuery, Subresource};
use kube_client::connect;
use kube_client::resource::Resource;
use kube_client::store::ObjectKey;
use serde_json::{Value, json};

use crate::ports;
use crate::real::pool::{self, Loan};
use crate::rights::Record;

/// Names the kinds of API servers.
const PAIRING: &str = "KUBE_BIND_TEST_PAIRING";
const ADMIN: FieldManager = FieldManager("scenario");

/// A side of kube-bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Offers.
    Provider,
    /// Binds.
    Consumer,
}

/// What answers.
enum Server {
    Embedded { folder: PathBuf, address: SocketAddr, running: Option<ControlPlane> },
    Real(Option<Loan>),
}

/// An API server.
pub struct Site {
    /// Name of the logical cluster, and of the site.
    pub cluster: String,
    /// Administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// Administrator's hands.
    pub api: Api,
    /// What others asked for.
    pub record: Arc<Record>,
    server: Server,
}

/// Objects of the core group that scenarios look at.
#[must_use]
pub fn core(plural: &str) -> Resource {
    let kind = match plural {
        "secrets" => "Secret",
        "services" => "Service",
        "configmaps" => "ConfigMap",
        "namespaces" => "Namespace",
        "events" => "Event",
        "serviceaccounts" => "ServiceAccount",
        other => other,
    };
    Resource::new("", "v1", plural, kind)
}

/// CustomResourceDefinitions.
#[must_use]
pub fn crds() -> Resource {
    Resource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition")
}

/// A kind of kube-bind.
#[must_use]
pub fn ours(plural: &str, kind: &str) -> Resource {
    Resource::new(kube_bind_api::GROUP, kube_bind_api::VERSION, plural, kind)
}

/// Bindings.
#[must_use]
pub fn bindings() -> Resource {
    ours("apiservicebindings", "APIServiceBinding")
}

impl Site {
    /// Starts one, or takes one from the pool: with `what` perhaps one in which that is installed ([`Site::token`]).
    pub async fn start(folder: &Path, cluster: &str, side: Side, what: Option<&str>) -> Self {
        // An error means that it is installed already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        std::fs::create_dir_all(folder).unwrap();
        let mut record = Record::default();
        let (text, record, server) = if is_real(side) {
            let loan = pool::take(cluster, what).await;
            if pool::audited() {
                record.follow(&loan.cluster().folder().join("audit.log"), loan.audit_from);
            }
            (loan.cluster().admin_kubeconfig(), Arc::new(record), Server::Real(Some(loan)))
        } else {
            let record = Arc::new(record);
            let running = run(folder, ports::free(), cluster, &record).await;
            let address = running.url().trim_start_matches("https://").parse().unwrap();
            let text = running.admin_kubeconfig(cluster);
            let server = Server::Embedded { folder: folder.to_owned(), address, running: Some(running) };
            (text, record, server)
        };
        let kubeconfig = folder.join("admin.kubeconfig");
        std::fs::write(&kubeconfig, &text).unwrap();
        let api = Api::new(connect::from_kubeconfig(&text, None).await.unwrap().client, cluster);
        Self { cluster: cluster.to_owned(), kubeconfig, api, record, server }
    }

    /// Whether it is written down what is asked here: `KUBE_BIND_TEST_AUDIT=off` says that a real one writes no audit log.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        matches!(self.server, Server::Embedded { .. }) || pool::audited()
    }

    /// The Secret with the credential that a bind has left here, the first if there are several.
    pub async fn credential(&self) -> Value {
        let secrets = self.list(&core("secrets")).await;
        secrets.into_iter().find(|secret| secret["data"]["kubeconfig"].is_string()).expect("a credential")
    }

    /// Stops it; clients get refused connections.
    pub async fn stop(&mut self) {
        match &mut self.server {
            Server::Embedded { running, .. } => {
                if let Some(running) = running.take() {
                    running.shutdown().await;
                }
            }
            Server::Real(loan) => loan.as_mut().unwrap().cluster_mut().stop_apiserver().await,
        }
    }

    /// Brings it back.
    pub async fn restart(&mut self) {
        match &mut self.server {
            Server::Embedded { folder, address, running } => {
                assert!(running.is_none(), "{} runs already", self.cluster);
                *running = Some(run(folder, *address, &self.cluster, &self.record).await);
            }
            Server::Real(loan) => loan.as_mut().unwrap().cluster_mut().start_apiserver().await,
        }
    }

    /// Old revisions are forgotten, where the API server's store is one that forgets when told; says whether they are.
    pub async fn compact(&mut self) -> bool {
        match &mut self.server {
            // Its log is compacted when it likes.
            Server::Embedded { .. } => false,
            Server::Real(loan) => {
                loan.as_mut().unwrap().cluster_mut().compact().await;
                true
            }
        }
    }

    /// Nobody needs it any more.
    pub async fn end(&mut self) {
        match &mut self.server {
            Server::Embedded { .. } => self.stop().await,
            Server::Real(loan) => drop(loan.take()),
        }
    }

    /// The token of the program for which the site was installed, if it came so.
    #[must_use]
    pub fn token(&self) -> Option<String> {
        match &self.server {
            Server::Embedded { .. } => None,
            Server::Real(loan) => loan.as_ref().and_then(Loan::token),
        }
    }

    /// What was done to the site until now is `what`, for others who want it.
    pub async fn remember(&mut self, what: &str, token: &str) {
        if let Server::Real(Some(loan)) = &mut self.server {
            loan.remember(what, token).await;
        }
    }

    /// Whether ValidatingAdmissionPolicies are evaluated here, not only stored.
    #[must_use]
    pub fn enforces_admission(&self) -> bool {
        matches!(self.server, Server::Real(_))
    }

    /// The administrator's setup of the stage.
    pub async fn setup(&self) -> Setup {
        Setup::connect(&std::fs::read_to_string(&self.kubeconfig).unwrap(), &self.cluster).await.unwrap()
    }

    /// A kubeconfig with a token of this site.
    #[must_use]
    pub fn kubeconfig_with(&self, user: &str, token: &str) -> String {
        match &self.server {
            Server::Embedded { running, .. } => {
                cluster::kubeconfig(running.as_ref().unwrap(), &self.cluster, user, token)
            }
            Server::Real(loan) => loan.as_ref().unwrap().cluster().token_kubeconfig(user, cluster::NAMESPACE, token),
        }
    }

    /// An object, if it is there.
    pub async fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Option<Value> {
        let key = ObjectKey::new(namespace, name);
        self.api
            .get_opt(resource, &key)
            .await
            .unwrap_or_else(|error| panic!("{}: get {namespace}/{name}: {error}", self.cluster))
    }

    /// All objects of a kind.
    pub async fn list(&self, resource: &Resource) -> Vec<Value> {
        self.api
            .list(resource, &ListQuery::default())
            .await
            .unwrap_or_else(|error| panic!("{}: list: {error}", self.cluster))
    }

    /// `namespace/name` of all objects of a kind.
    pub async fn names(&self, resource: &Resource) -> Vec<String> {
        let key = |object: &Value| {
            let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
            format!("{}/{}", text("namespace"), text("name"))
        };
        self.list(resource).await.iter().map(key).collect()
    }

    /// Creates or changes an object, as `kubectl apply --server-side --force-conflicts` does.
    pub async fn apply(&self, resource: &Resource, object: &Value) -> Value {
        let key = ObjectKey::of(object).unwrap();
        let mut object = object.clone();
        object["apiVersion"] = json!(resource.api_version());
        object["kind"] = json!(resource.kind);
        let applied = self.api.apply(resource, &key, &object, ADMIN, Subresource::Main).await;
        applied.unwrap_or_else(|error| panic!("{}: apply {key:?}: {error}", self.cluster))
    }

    /// A merge patch.
    pub async fn patch(&self, resource: &Resource, namespace: &str, name: &str, patch: &Value) -> Value {
        let key = ObjectKey::new(namespace, name);
        let patched = self.api.merge_patch(resource, &key, Subresource::Main, patch, ADMIN).await;
        patched.unwrap_or_else(|error| panic!("{}: patch {namespace}/{name}: {error}", self.cluster))
    }

    /// A merge patch of the status.
    pub async fn patch_status(&self, resource: &Resource, namespace: &str, name: &str, status: &Value) -> Value {
        let key = ObjectKey::new(namespace, name);
        let patched =
            self.api.merge_patch(resource, &key, Subresource::Status, &json!({"status": status}), ADMIN).await;
        patched.unwrap_or_else(|error| panic!("{}: patch status of {namespace}/{name}: {error}", self.cluster))
    }

    /// Asks for an object's deletion; does not wait.
    pub async fn delete(&self, resource: &Resource, namespace: &str, name: &str) {
        let Some(object) = self.get(resource, namespace, name).await else { return };
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
        let deleted = self.api.delete(resource, &ObjectKey::new(namespace, name), uid).await;
        deleted.unwrap_or_else(|error| panic!("{}: delete {namespace}/{name}: {error}", self.cluster));
    }

    /// Makes a namespace.
    pub async fn namespace(&self, name: &str) {
        self.apply(&core("namespaces"), &json!({"metadata": {"name": name}})).await;
    }
}

/// Whether a side has real API servers in this run.
fn is_real(side: Side) -> bool {
    let pairing = std::env::var(PAIRING).unwrap_or_else(|_| "embedded/embedded".to_owned());
    let kinds = pairing.split_once('/').map(|(provider, consumer)| match side {
        Side::Provider => provider,
        Side::Consumer => consumer,
    });
    match kinds {
        Some("embedded") => false,
        Some("real") => true,
        _ => panic!("{PAIRING} is {pairing:?}; it should be <provider>/<consumer>, each embedded or real"),
    }
}

async fn run(folder: &Path, listen: SocketAddr, cluster: &str, record: &Arc<Record>) -> ControlPlane {
    let options = controlplane::Options {
        data_dir: Some(folder.join("data")),
        listen,
        clusters: vec![cluster.to_owned()],
        access_log: Some(record.clone()),
        ..Default::default()
    };
    // The port of the one before may linger for a moment.
    for _ in 0..50 {
        match ControlPlane::start(options.clone()).await {
            Ok(running) => return running,
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    ControlPlane::start(options).await.unwrap()
}
