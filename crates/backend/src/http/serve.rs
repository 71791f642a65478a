//! The listener: HTTP, or HTTPS with the certificate that its files hold.
//!
//! In: an address, routes, a token that ends it. Out: the bound address; then requests are served until the token is
//! cancelled and those under way are answered, or cut when they take too long. Called by [`crate::run`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::certificate::Certificate;
use crate::config::TlsFiles;

/// A TLS handshake that takes longer is given up.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Why no listener could be made.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be bound.
    #[error("cannot listen on {0}: {1}")]
    Bind(SocketAddr, io::Error),
    /// Certificate or key.
    #[error("the TLS certificate or key cannot be used: {0}")]
    Tls(String),
}

/// A bound listener.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    tls: Option<Tls>,
    /// Where it listens.
    pub address: SocketAddr,
}

#[derive(Debug)]
struct Tls {
    config: Arc<rustls::ServerConfig>,
    certificate: Arc<Certificate>,
}

impl Tls {
    async fn read(files: &TlsFiles) -> Result<Self, ListenError> {
        let certificate = Arc::new(Certificate::read(files).await.map_err(ListenError::Tls)?);
        let builder = rustls::ServerConfig::builder().with_no_client_auth();
        let mut config = builder.with_cert_resolver(certificate.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), certificate })
    }
}

/// Binds the address.
///
/// # Errors
/// [`ListenError`].
pub async fn bind(address: SocketAddr, tls: Option<&TlsFiles>) -> Result<Bound, ListenError> {
    let tls = match tls {
        Some(files) => Some(Tls::read(files).await?),
        None => None,
    };
    let listener = program::listen::listen(address).await.map_err(|err| ListenError::Bind(address, err))?;
    let address = listener.local_addr().map_err(|err| ListenError::Bind(address, err))?;
    Ok(Bound { listener, tls, address })
}

/// Serves until cancelled; then requests under way have the time `drain`.
///
/// # Errors
/// Those of the listener.
pub async fn serve(bound: Bound, router: Router, drain: Duration, stop: CancellationToken) -> io::Result<()> {
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    let graceful = stop.clone().cancelled_owned();
    let serving = async {
        match bound.tls {
            None => axum::serve(bound.listener, router).with_graceful_shutdown(graceful).await,
            Some(Tls { config, certificate }) => {
                let following = stop.clone();
                tokio::spawn(async move { certificate.follow(following).await });
                let acceptor = TlsAcceptor::from(config);
                let listener = TlsListener::start(bound.listener, acceptor, bound.address, stop.clone());
                axum::serve(listener, router).with_graceful_shutdown(graceful).await
            }
        }
    };
    tokio::select! {
        served = serving => served,
        () = late => {
            tracing::warn!(?drain, "connections that are still busy are cut");
            Ok(())
        }
    }
}

/// Hands out connections whose handshake is done; a slow client keeps nobody waiting.
struct TlsListener {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
}

impl TlsListener {
    fn start(listener: TcpListener, acceptor: TlsAcceptor, address: SocketAddr, stop: CancellationToken) -> Self {
        let (sender, ready) = mpsc::channel(64);
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = stop.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let (stream, peer) = match accepted {
                    Ok(pair) => pair,
                    Err(err) => {
                        tracing::warn!(error = %err, "accepting a connection failed");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                };
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                tokio::spawn(async move {
                    match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                        Ok(Ok(stream)) => {
                            let _ = sender.send((stream, peer)).await;
                        }
                        Ok(Err(err)) => tracing::debug!(%peer, error = %err, "TLS handshake failed"),
                        Err(_) => tracing::debug!(%peer, "TLS handshake timed out"),
                    }
                });
            }
        });
        Self { ready, address }
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(pair) => pair,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}
