//! A running control plane: store, rules and controllers behind an HTTPS port.
//!
//! Flows in: [`Options`]. Flows out: a [`ControlPlane`] with its URL, its certificate authority and administrators'
//! kubeconfigs. Called by programs and tests.

mod data_dir;
mod serve;
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::status::StatusError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use data_dir::DataDir;

use crate::api::Api;
use crate::auth::{AccessLog, Auth};
use crate::clusters::Clusters;
use crate::core::{Clock, Core};
use crate::http::Front;
use crate::registry::builtin;
use crate::store::Store;
use crate::store::log::{Log, LogError};
use crate::store::memory::MemoryLog;
use crate::store::sqlite::SqliteLog;
use crate::{ALL_CLUSTERS, controllers};

/// How long connections get to end when the server stops.
const DRAIN: Duration = Duration::from_secs(3);
/// How often history is forgotten and the log compacted.
const COMPACTION: Duration = Duration::from_secs(300);

/// How to run a control plane.
#[derive(Clone)]
pub struct Options {
    /// Where everything is kept; `None`: in memory, gone with the process.
    pub data_dir: Option<PathBuf>,
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Logical clusters that exist from the start. `default` is served without `/clusters/…`.
    pub clusters: Vec<String>,
    /// Further DNS names and addresses for the server's certificate.
    pub names: Vec<String>,
    /// Where the time comes from.
    pub clock: Clock,
    /// Told of every authorisation decision; `None` costs nothing.
    pub access_log: Option<Arc<dyn AccessLog>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            data_dir: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            clusters: vec![crate::http::path::DEFAULT_CLUSTER.to_owned()],
            names: Vec::new(),
            clock: Arc::new(Timestamp::now),
            access_log: None,
        }
    }
}

/// Why a control plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process has the data folder.
    #[error("the data folder {} is in use by another process; stop that one, or choose another folder", .0.display())]
    InUse(PathBuf),
    /// A file or the port.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The store.
    #[error("cannot open the store: {0}")]
    Store(#[from] LogError),
    /// Certificates.
    #[error("cannot set up TLS: {0}")]
    Certificate(String),
    /// The key that signs tokens.
    #[error("cannot set up the signing key for tokens: {0}")]
    SigningKey(#[from] crate::auth::SigningError),
    /// A logical cluster.
    #[error("cannot make the logical cluster {cluster:?}: {error}")]
    Cluster {
        /// Its name.
        cluster: String,
        /// Why not.
        error: StatusError,
    },
}

/// A running control plane.
pub struct ControlPlane {
    core: Arc<Core>,
    address: SocketAddr,
    authority: tls::Authority,
    shutdown: CancellationToken,
    server: tokio::task::JoinHandle<()>,
    controllers: tokio::task::JoinHandle<()>,
    maintenance: tokio::task::JoinHandle<()>,
    _data: Option<DataDir>,
}

impl ControlPlane {
    /// Starts one; returns when it answers requests.
    ///
    /// # Errors
    /// See [`StartError`].
    #[inline(never)]
    pub fn start(options: Options) -> BoxFuture<'static, Result<Self, StartError>> {
        // Boxed here: what is not is compiled anew in every crate that awaits it.
        Box::pin(Self::starting(options))
    }

    async fn starting(options: Options) -> Result<Self, StartError> {
        let data = options.data_dir.as_deref().map(DataDir::open).transpose()?;
        let log: Box<dyn Log> = match &data {
            Some(data) => Box::new(SqliteLog::open(&data.path().join("store.db"))?),
            None => Box::new(MemoryLog::new((options.clock)())),
        };
        let store = Store::open(log)?;
        let mut auth = Auth::open(data.as_ref().map(DataDir::path))?;
        auth.observe(options.access_log.clone());
        let clusters = Arc::new(Clusters::new(builtin::resources()));
        clusters.attach(&store);
        let core = Arc::new(Core { store, clusters, auth, clock: options.clock.clone() });
        for cluster in &options.clusters {
            let made = core.create_cluster(cluster).await;
            made.map_err(|error| StartError::Cluster { cluster: cluster.clone(), error })?;
        }

        let authority = tls::Authority::open(data.as_ref())?;
        let listener = TcpListener::bind(options.listen).await;
        let listening = listener.and_then(|l| l.local_addr().map(|address| (l, address)));
        let (listener, address) = listening
            .map_err(|source| StartError::Io { what: format!("cannot listen on {}", options.listen), source })?;
        let config = authority.server_config(&options.names, address.ip())?;
        let shutdown = CancellationToken::new();
        let front = Arc::new(Front { core: core.clone(), shutdown: shutdown.clone(), counters: Default::default() });
        let server = tokio::spawn(serve::serve(listener, config, front, shutdown.clone(), DRAIN));
        let controllers = controllers::start(core.clone(), &authority.pem, shutdown.clone());
        let maintenance = tokio::spawn(maintain(core.store.clone(), shutdown.clone()));
        tracing::info!(%address, "the control plane answers");
        Ok(Self { core, address, authority, shutdown, server, controllers, maintenance, _data: data })
    }

    /// `https://127.0.0.1:<port>`, without a logical cluster.
    pub fn url(&self) -> String {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        format!("https://{address}")
    }

    /// URL of a logical cluster.
    pub fn cluster_url(&self, cluster: &str) -> String {
        format!("{}/clusters/{cluster}", self.url())
    }

    /// The certificate authority that clients must trust, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.authority.pem
    }

    /// The administrator's token of a logical cluster, or of all with `*`.
    pub fn admin_token(&self, cluster: &str) -> String {
        self.core.auth.admin_token(cluster)
    }

    /// An administrator's kubeconfig for a logical cluster (YAML; JSON is YAML). The same after every restart with the
    /// same data folder and port.
    pub fn admin_kubeconfig(&self, cluster: &str) -> String {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": cluster, "preferences": {},
            "clusters": [{"name": cluster, "cluster": {
                "server": self.cluster_url(cluster),
                "certificate-authority-data": STANDARD.encode(&self.authority.pem),
            }}],
            "contexts": [{"name": cluster, "context": {
                "cluster": cluster, "user": format!("{cluster}-admin"), "namespace": "default",
            }}],
            "users": [{"name": format!("{cluster}-admin"), "user": {"token": self.admin_token(cluster)}}],
        });
        apimachinery::yaml::write(&config)
    }

    /// A client certificate for a user of one logical cluster (`*`: of all), valid for a year.
    ///
    /// # Errors
    /// Names that cannot stand in a certificate.
    pub fn client_certificate(
        &self,
        cluster: &str,
        user: &str,
        group: Option<&str>,
    ) -> Result<crate::auth::certificate::ClientCertificate, crate::auth::certificate::CertificateError> {
        let year = Duration::from_secs(365 * 24 * 3600);
        crate::auth::certificate::issue(&self.authority.issuer, cluster, user, group, self.core.now(), year)
    }

    /// Makes a logical cluster, if it is not there.
    ///
    /// # Errors
    /// 400 for a bad name; what the store says.
    pub async fn create_cluster(&self, cluster: &str) -> Result<(), StatusError> {
        self.core.create_cluster(cluster).await
    }

    /// Removes a logical cluster with all it holds.
    ///
    /// # Errors
    /// What the store says.
    pub async fn delete_cluster(&self, cluster: &str) -> Result<(), StatusError> {
        self.core.delete_cluster(cluster).await
    }

    /// Names of the logical clusters.
    pub fn clusters(&self) -> Vec<String> {
        self.core.clusters.names().iter().filter(|n| ***n != *ALL_CLUSTERS).map(ToString::to_string).collect()
    }

    /// The same operations without HTTP and without authorisation.
    pub fn api(&self) -> Api {
        Api::new(self.core.clone())
    }

    /// Stops answering, ends watches, and leaves everything durable.
    pub async fn shutdown(self) {
        self.shutdown.cancel();
        let _ = self.server.await;
        let _ = self.controllers.await;
        let _ = self.maintenance.await;
        let store = self.core.store.clone();
        let _ = tokio::task::spawn_blocking(move || store.stop()).await;
    }
}

/// Forgets old history from time to time: what was current one period ago need not be known one period later.
async fn maintain(store: Store, shutdown: CancellationToken) {
    let mut before = store.revision();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(COMPACTION) => {
                let now = store.revision();
                store.compact(before);
                before = now;
            }
        }
    }
}
