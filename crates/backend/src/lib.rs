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
//! else is in the API server. It runs with the rights of `contract::rbac`, never with a wildcard.
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
pub mod pages;
pub mod resources;
pub mod seal;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use url::Url;

pub use crate::config::{Config, KubeSource, TlsPem};
pub use crate::identity::oidc::OidcConfig;

use crate::connection::ConnectionError;
use crate::contracts::Issuing;
use crate::http::serve::{self, ListenError};
use crate::http::{App, UsedOnce};
use crate::identity::oidc::{OidcError, RelyingParty};
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
    #[error("--cookie-signing-key: {0}")]
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
pub async fn run(
    config: Config,
    shutdown: CancellationToken,
    ready: Option<oneshot::Sender<SocketAddr>>,
) -> Result<(), RunError> {
    let connection = connection::connect(&config.kube).await?;
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
        None => http::health_only(),
        Some(oidc) => http::router(Arc::new(app(&config, oidc.clone(), &connection.api, issuing.clone(), address)?)),
    };
    tracing::info!(%address, server = %connection.server, user = %connection.user, "backend starts");
    let controllers = tokio::spawn(controllers::run(
        connection.api.clone(),
        issuing,
        controllers::Settings {
            allowed_groups: config.oidc.as_ref().map(|oidc| oidc.allowed_groups.clone()).unwrap_or_default(),
            allowed_users: config.oidc.as_ref().map(|oidc| oidc.allowed_users.clone()).unwrap_or_default(),
            resync: config.schema_sync_interval,
        },
        shutdown.clone(),
    ));
    if let Some(ready) = ready {
        let _ = ready.send(address);
    }
    let served = serve::serve(bound, router, shutdown.clone()).await;
    shutdown.cancel();
    let _ = controllers.await;
    served?;
    Ok(())
}

fn app(
    config: &Config,
    oidc: OidcConfig,
    api: &kube_client::Api,
    issuing: Issuing,
    address: SocketAddr,
) -> Result<App, RunError> {
    let sealer = match &config.signing_key {
        Some(key) => Sealer::new(key)?,
        None => {
            tracing::warn!(
                "no --cookie-signing-key: sessions and tokens end with this process, and replicas do not share them"
            );
            Sealer::new(&rand::random::<[u8; 32]>())?
        }
    };
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
    })
}

/// Reads flags, environment and file, and runs until SIGINT or SIGTERM.
#[must_use]
pub fn main_from_args(args: Vec<OsString>) -> ExitCode {
    let args = match config::with_file(args) {
        Ok(args) => args,
        Err(err) => return fail(&err),
    };
    let flags = match config::Flags::try_parse_from(args) {
        Ok(flags) => flags,
        Err(err) => {
            let _ = err.print();
            return ExitCode::from(u8::try_from(err.exit_code()).unwrap_or(2));
        }
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config = match flags.into_config() {
        Ok(config) => config,
        Err(err) => return fail(&err),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(err) => return fail(&err),
    };
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        tokio::spawn(async move {
            signalled().await;
            tracing::info!("shutting down");
            stop.cancel();
        });
        match run(config, shutdown, None).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(err) => fail(&err),
        }
    })
}

async fn signalled() {
    let interrupt = tokio::signal::ctrl_c();
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
        }
        Err(_) => {
            let _ = interrupt.await;
        }
    }
}

fn fail(err: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("kube-bind-backend: {err}");
    ExitCode::FAILURE
}
