//! The provider's service: login, catalogue, bind page, contracts and the controllers behind them.
//!
//! ```text
//!   browser ─────► pages, login ──┐                         ┌─► contract namespaces, credentials
//!   kubectl-bind ► HTTP API ──────┼─► catalogue, contracts ─┤
//!   requests, exports, namespaces ┴─► controllers ──────────┴─► bound schemas, mapped namespaces, roles
//! ```
//!
//! In: people and command lines over HTTP, objects of `kube-bind.io` in the provider's API server. Out: objects there.
//! Nothing is kept in memory that a second replica would miss: sessions and codes are sealed texts ([`seal`]), everything
//! else is in the API server. Every replica serves HTTP; the controllers run where the Lease is held. It runs with the rights of `contract::rbac`, never with a wildcard.
//!
//! [`run`] is the entry for programs, [`main_from_args`] for command lines.

pub mod bind;
pub mod catalogue;
pub mod config;
pub mod connection;
pub mod contracts;
pub mod controllers;
pub mod error;
pub mod http;
pub mod identity;
pub mod metrics;
pub mod pages;
pub mod release;
pub mod resources;
pub mod seal;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use kube_client::Api;
use kube_client::election::{ElectionConfig, campaign};
use program::probes;
use program::run::Threads;
use program::settings::Environment;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use url::Url;

pub use crate::config::{Config, KubeSource, Lease, TlsFiles};
pub use crate::identity::oidc::OidcConfig;

use crate::connection::ConnectionError;
use crate::contracts::Issuing;
use crate::http::serve::{self, ListenError};
use crate::http::{App, UsedOnce};
use crate::identity::oidc::{OidcError, RelyingParty};
use crate::metrics::Metrics;
use crate::seal::{SealError, Sealer};

/// Why the service ended or did not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The provider's API server.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The relying party's configuration.
    #[error(transparent)]
    Oidc(#[from] OidcError),
    /// The key for sessions and tokens.
    #[error("--cookie-signing-key-file: {0}")]
    Key(#[from] SealError),
    /// A URL in the configuration.
    #[error("{0}")]
    Url(String),
    /// Serving failed.
    #[error("serving HTTP failed: {0}")]
    Serve(#[from] std::io::Error),
}

/// Runs the service until `shutdown` is cancelled; sends the bound address once it listens.
///
/// # Errors
/// [`RunError`] if it cannot start. Trouble with the API server or the issuer later on is retried, not returned.
#[inline(never)]
pub fn run(
    config: Config,
    shutdown: CancellationToken,
    ready: Option<oneshot::Sender<SocketAddr>>,
) -> BoxFuture<'static, Result<(), RunError>> {
    // Boxed here: what is not is compiled anew in every crate that awaits it.
    Box::pin(work(config, shutdown, ready))
}

async fn work(
    config: Config,
    shutdown: CancellationToken,
    ready: Option<oneshot::Sender<SocketAddr>>,
) -> Result<(), RunError> {
    let metrics = Arc::new(Metrics::new(config.lease.is_some()));
    let probes = match config.server_address {
        Some(address) => {
            Some(probes::serve(address, metrics.clone()).await.map_err(|err| ListenError::Bind(address, err))?)
        }
        None => None,
    };
    let connection = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        connection = connection::connect(&config.kube) => connection?,
    };
    let api = connection.api.counting_restarts(metrics.restarts());
    let bound = serve::bind(config.listen, config.tls.as_ref()).await?;
    let address = bound.address;
    let issuing = Issuing {
        pretty_name: config.pretty_name.clone(),
        namespace_prefix: config.namespace_prefix.clone(),
        server: config.external_address.clone().unwrap_or_else(|| connection.server.clone()),
        ca: config.external_ca.clone().unwrap_or_else(|| connection.ca.clone()),
        tls_server_name: config.external_server_name.clone(),
        informer_scope: config.informer_scope,
        isolation: config.isolation,
        user: connection.user.clone(),
    };
    let router = match &config.oidc {
        None => http::health_only(metrics.clone()),
        Some(oidc) => {
            let app = app(&config, oidc.clone(), &api, issuing.clone(), address, metrics.clone())?;
            http::router(Arc::new(app))
        }
    };
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(%address, server = %connection.server, user = %connection.user, version, "backend starts");
    let settings = controllers::Settings {
        allowed_groups: config.oidc.as_ref().map(|oidc| oidc.allowed_groups.clone()).unwrap_or_default(),
        allowed_users: config.oidc.as_ref().map(|oidc| oidc.allowed_users.clone()).unwrap_or_default(),
        resync: config.schema_sync_interval,
        url: config.external_url.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned()),
    };
    let controllers = tokio::spawn(control(api, config.lease, issuing, settings, metrics.clone(), shutdown.clone()));
    if let Some(ready) = ready {
        let _ = ready.send(address);
    }
    let ending = metrics.clone();
    let begun = shutdown.clone();
    tokio::spawn(async move {
        begun.cancelled().await;
        ending.stopping();
    });
    let served = serve::serve(bound, router, config.drain, shutdown.clone()).await;
    shutdown.cancel();
    let _ = controllers.await;
    if let Some(probes) = probes {
        probes.stop().await;
    }
    tracing::info!("backend stopped");
    served?;
    Ok(())
}

/// The controllers, for as long as the Lease is ours.
async fn control(
    api: Api,
    lease: Option<Lease>,
    issuing: Issuing,
    settings: controllers::Settings,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let work = |leading: CancellationToken| {
        controllers::run(api.clone(), issuing.clone(), settings.clone(), metrics.clone(), leading)
    };
    let Some(lease) = lease else { return work(stop).await };
    let election = ElectionConfig::new(&lease.namespace, &lease.name, &lease.identity);
    let wall = || format!("{:.6}", jiff::Timestamp::now());
    campaign(&api, &election, wall, &metrics.standing, stop, work).await;
}

/// What seals sessions and tokens; a random one if none is configured.
fn signing_key(config: &Config) -> Vec<u8> {
    config.signing_key.clone().unwrap_or_else(|| {
        tracing::warn!(
            "no --cookie-signing-key-file: sessions and tokens end with this process, and replicas do not share them"
        );
        rand::random::<[u8; 32]>().to_vec()
    })
}

fn app(
    config: &Config,
    oidc: OidcConfig,
    api: &kube_client::Api,
    issuing: Issuing,
    address: SocketAddr,
    metrics: Arc<Metrics>,
) -> Result<App, RunError> {
    let sealer = Sealer::new(&signing_key(config))?;
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let base = match &config.external_url {
        Some(url) => Some(url.clone()),
        None if address.ip().is_unspecified() => None,
        None => Some(Url::parse(&format!("{scheme}://{address}/")).map_err(|err| RunError::Url(err.to_string()))?),
    };
    let base = base.map(|mut url| {
        url.set_path("/");
        url.set_query(None);
        url
    });
    let callback = oidc
        .callback_url
        .as_deref()
        .map(Url::parse)
        .transpose()
        .map_err(|err| RunError::Url(format!("--oidc-callback-url: {err}")))?;
    let relying = RelyingParty::new(oidc)?;
    Ok(App {
        api: api.clone(),
        issuing,
        relying,
        sealer,
        base,
        tls: config.tls.is_some(),
        trust_forwarded: config.trust_forwarded,
        callback,
        token_expiry: config.token_expiry.max(Duration::from_secs(1)),
        konnector_image: config.konnector_image.clone(),
        version: format!("v{}", env!("CARGO_PKG_VERSION")),
        clock: jiff::Timestamp::now,
        used: UsedOnce::default(),
        metrics,
    })
}

/// Reads flags, environment and file, and runs until SIGINT or SIGTERM.
#[must_use]
pub fn main_from_args(args: Vec<OsString>) -> ExitCode {
    const NAME: &str = "kube-bind-backend";
    let environment: Environment<'_> = &|name| std::env::var_os(name);
    let flags: config::Flags = match config::PROGRAM.read(args, environment) {
        Ok(flags) => flags,
        Err(refused) => return refused.exit(NAME),
    };
    flags.logs().start();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let grace = flags.grace();
    let config = match flags.into_config(environment) {
        Ok(config) => config,
        Err(refused) => return refused.exit(NAME),
    };
    program::run(NAME, Threads::All, grace, |stop| async move {
        match config.kube.pinned() {
            None => run(config, stop, None).await,
            Some((source, kube)) => {
                // Sessions outlive a connection.
                let signing_key = config.oidc.is_some().then(|| signing_key(&config));
                let config = Config { kube, signing_key, ..config };
                source.keep(stop, async |turn| run(config.clone(), turn, None).await).await
            }
        }
    })
}
