//! The development OIDC issuer: a real login for one machine, in no program that is deployed.
//!
//! ```text
//!  browser ──► /authorize ──► login page ──► consent page ──► redirect_uri?code=…     (http, pages)
//!  backend ──► /.well-known/openid-configuration, /jwks.json, /token, /userinfo       (http)
//!                         both sides call into `Flow`, which decides and remembers    (flow)
//!                         tokens are signed by the folder's RSA key                   (keys)
//! ```
//!
//! It listens on loopback only, knows the clients that `dev` and `demo` register and the people of the data folder, and
//! takes nothing but the authorization code flow with PKCE (RFC 6749, RFC 7636, OpenID Connect Core).

mod flow;
mod http;
mod keys;

use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use flow::{Clock, Randomness};
pub use keys::SigningKey;

/// Someone who can log in.
#[derive(Clone, Debug)]
pub struct Person {
    /// The stable subject (`sub`).
    pub subject: String,
    /// What is typed on the login page.
    pub username: String,
    /// What is typed beside it.
    pub password: SecretString,
    /// The email address that the consent page asks to pass on.
    pub email: String,
    /// The full name, part of the profile.
    pub name: String,
    /// Groups, part of the profile.
    pub groups: Vec<String>,
}

/// A program that may ask who someone is (a backend).
#[derive(Clone, Debug)]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// `client_secret`.
    pub secret: SecretString,
    /// The name on the consent page.
    pub name: String,
    /// Where answers may be sent; compared as a whole.
    pub redirect_uris: Vec<String>,
}

/// What an issuer starts with.
pub struct Options {
    /// Where to listen; a loopback address, port 0 for any.
    pub listen: SocketAddr,
    /// The key that signs id_tokens.
    pub key: SigningKey,
    /// Who can log in.
    pub people: Vec<Person>,
    /// Who may ask.
    pub clients: Vec<Client>,
}

/// Why the issuer did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is reachable from other machines.
    #[error("the development issuer listens on loopback only, not on {0}")]
    NotLoopback(SocketAddr),
    /// The address cannot be listened on.
    #[error("the development issuer cannot listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the operating system says.
        source: std::io::Error,
    },
}

/// A running issuer.
#[derive(Clone)]
pub struct Issuer {
    url: String,
    flow: Arc<Mutex<flow::Flow>>,
}

impl Issuer {
    /// Starts serving; ends with `shutdown`.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(options: Options, shutdown: CancellationToken) -> Result<Self, StartError> {
        Self::start_with(options, Arc::new(jiff::Timestamp::now), Box::new(flow::random_text), shutdown).await
    }

    /// [`Issuer::start`] with a clock and a source of random texts of the caller's.
    ///
    /// # Errors
    /// See [`StartError`].
    #[inline(never)]
    pub fn start_with(
        options: Options,
        clock: Clock,
        random: Randomness,
        shutdown: CancellationToken,
    ) -> BoxFuture<'static, Result<Self, StartError>> {
        // Boxed here: what is not is compiled anew in every crate that awaits it.
        Box::pin(Self::starting(options, clock, random, shutdown))
    }

    async fn starting(
        options: Options,
        clock: Clock,
        random: Randomness,
        shutdown: CancellationToken,
    ) -> Result<Self, StartError> {
        if !options.listen.ip().is_loopback() {
            return Err(StartError::NotLoopback(options.listen));
        }
        let failed = |source| StartError::Listen { address: options.listen, source };
        let listener = TcpListener::bind(options.listen).await.map_err(failed)?;
        let url = format!("http://{}", listener.local_addr().map_err(failed)?);
        let flow = flow::Flow::new(url.clone(), options.key, options.people, options.clients, clock, random);
        let flow = Arc::new(Mutex::new(flow));
        let app = http::router(flow.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                result = axum::serve(listener, app) => if let Err(error) = result {
                    tracing::error!(%error, "the development issuer stopped serving");
                },
            }
        });
        Ok(Self { url, flow })
    }

    /// The issuer's URL, as it stands in `iss`: no trailing slash.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Makes a client known, or changes the one of that id.
    pub fn register(&self, client: Client) {
        self.flow.lock().register(client);
    }
}
