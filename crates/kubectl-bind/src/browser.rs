//! The browser's part: a URL to open, and a listener on loopback to which the browser comes back.
//!
//! Only an answer with our session id counts; the code in it is worth nothing without the PKCE verifier, which never
//! leaves this process until it is redeemed. No credential passes through the browser.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use url::Url;

use crate::errors::CliError;

/// One trip of the browser to the provider and back.
pub(crate) struct Trip {
    session: String,
    verifier: SecretString,
    callback: String,
    answers: mpsc::Receiver<HashMap<String, String>>,
    server: tokio::task::JoinHandle<()>,
}

/// What the browser came back with.
pub(crate) enum Answer {
    /// A code to redeem with the verifier.
    Code(String),
    /// The whole answer of a bind (servers without redeeming): base64 of JSON.
    Response(Vec<u8>),
    /// The token of a login (servers without redeeming).
    Token(HashMap<String, String>),
}

struct Door {
    session: String,
    /// Whether an answer without a session id is let in: the Go release sends none after a login.
    open: bool,
    answers: mpsc::Sender<HashMap<String, String>>,
}

impl Trip {
    /// Starts to listen. `login`: the trip is for a token.
    pub(crate) async fn prepare(login: bool) -> Result<Self, CliError> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let callback = format!("http://127.0.0.1:{}/callback", listener.local_addr()?.port());
        let session = random();
        let (sender, answers) = mpsc::channel(1);
        let door = Arc::new(Door { session: session.clone(), open: login, answers: sender });
        let app = Router::new().route("/callback", get(come_back)).with_state(door);
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { session, verifier: random().into(), callback, answers, server })
    }

    /// `url` with what the provider has to know to send the browser back.
    pub(crate) fn url(&self, url: &Url, more: &[(&str, &str)]) -> Url {
        let mut url = url.clone();
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(self.verifier.expose_secret().as_bytes()));
        let ours =
            [("redirect_url", self.callback.as_str()), ("session_id", &self.session), ("code_challenge", &challenge)];
        let names: Vec<&str> = ours.iter().chain(more).map(|(name, _)| *name).collect();
        let kept: Vec<(String, String)> =
            url.query_pairs().into_owned().filter(|(name, _)| !names.contains(&name.as_str())).collect();
        url.query_pairs_mut().clear().extend_pairs(kept).extend_pairs(ours).extend_pairs(more);
        url
    }

    /// Waits for the browser.
    pub(crate) async fn answer(mut self, timeout: Duration) -> Result<(Answer, SecretString), CliError> {
        let answer = tokio::time::timeout(timeout, self.answers.recv()).await;
        // Let the browser's page arrive before the listener goes.
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.server.abort();
        let Ok(Some(mut query)) = answer else { return Err(CliError::LoginTimeout { seconds: timeout.as_secs() }) };
        if let Some(error) = query.remove("error") {
            let reason = match query.remove("error_description").filter(|text| !text.is_empty()) {
                Some(description) => format!("{description} ({error})"),
                None => error,
            };
            return Err(CliError::Login { reason });
        }
        let answer = if let Some(code) = query.remove("code") {
            Answer::Code(code)
        } else if let Some(response) = query.remove("binding_response") {
            let bytes = URL_SAFE
                .decode(&response)
                .or_else(|_| URL_SAFE_NO_PAD.decode(&response))
                .or_else(|_| STANDARD.decode(&response));
            Answer::Response(
                bytes
                    .map_err(|_| CliError::Login { reason: "the answer in the browser's URL is damaged".to_owned() })?,
            )
        } else if query.contains_key("access_token") {
            Answer::Token(query)
        } else {
            return Err(CliError::Login { reason: "the browser came back without an answer".to_owned() });
        };
        Ok((answer, self.verifier))
    }
}

/// Tells the user where to go, and goes there unless `skip`.
pub(crate) fn open(url: &Url, skip: bool) {
    if skip {
        eprintln!("Open this URL in a browser:\n\n  {url}\n");
        return;
    }
    eprintln!("Redirecting to browser ...\n\n  {url}\n");
    if open::that_detached(url.as_str()).is_err() {
        eprintln!("No browser could be opened; open the URL above in one.");
    }
}

async fn come_back(
    State(door): State<Arc<Door>>,
    Query(query): Query<HashMap<String, String>>,
) -> (StatusCode, Html<String>) {
    match query.get("session_id") {
        Some(session) if *session == door.session => {}
        None if door.open => {}
        _ => {
            return (
                StatusCode::UNAUTHORIZED,
                page("Not this one", "This is not the answer that kubectl bind waits for."),
            );
        }
    }
    let refused = query.contains_key("error");
    if door.answers.try_send(query).is_err() {
        return (StatusCode::GONE, page("Over", "kubectl bind has its answer already."));
    }
    let page = if refused {
        page("Nothing was bound", "You can close this window.")
    } else {
        page("Go on in the terminal", "Done here. You can close this window.")
    };
    (StatusCode::OK, page)
}

/// The last thing that the browser shows.
fn page(title: &str, text: &str) -> Html<String> {
    Html(format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <link rel=\"icon\" href=\"data:,\"><title>{title}</title>\
         <style>body{{font:1.1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:20vh auto;padding:0 1rem;color:#1a2233}}</style>\
         <h1>{title}</h1><p>{text}</p></html>"
    ))
}

fn random() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(url: &Url, callback: &[(&str, &str)]) -> u16 {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let to = url.query_pairs().find(|(name, _)| name == "redirect_url").unwrap().1.into_owned();
        let client = reqwest::Client::builder().tls_certs_only([]).build().unwrap();
        client.get(to).query(callback).send().await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn only_our_session_is_answered_and_once() {
        let trip = Trip::prepare(false).await.unwrap();
        let url = trip.url(
            &Url::parse("http://p.example/exports?redirect_url=http://evil&keep=1").unwrap(),
            &[("dry_run", "true")],
        );
        let pairs: HashMap<_, _> = url.query_pairs().into_owned().collect();
        assert_eq!((pairs["keep"].as_str(), pairs["dry_run"].as_str()), ("1", "true"));
        assert!(pairs["redirect_url"].starts_with("http://127.0.0.1:"), "ours, not what was in the URL");
        assert_eq!(get(&url, &[("session_id", "other"), ("code", "c")]).await, 401);
        assert_eq!(get(&url, &[("code", "c")]).await, 401);
        let session = pairs["session_id"].as_str();
        assert_eq!(get(&url, &[("session_id", session), ("code", "right")]).await, 200);
        assert_eq!(get(&url, &[("session_id", session), ("code", "late")]).await, 410);
        let (answer, _) = trip.answer(Duration::from_secs(1)).await.unwrap();
        assert!(matches!(answer, Answer::Code(code) if code == "right"));
    }

    #[tokio::test]
    async fn a_refusal_and_silence_are_told() {
        let trip = Trip::prepare(false).await.unwrap();
        let url = trip.url(&Url::parse("http://p.example/").unwrap(), &[]);
        let session = trip.session.clone();
        get(&url, &[("session_id", &session), ("error", "access_denied"), ("error_description", "cancelled")]).await;
        let error = trip.answer(Duration::from_secs(1)).await.err().unwrap().to_string();
        assert!(error.contains("cancelled (access_denied)"), "{error}");
        let silent = Trip::prepare(false).await.unwrap().answer(Duration::from_millis(10)).await;
        assert!(matches!(silent, Err(CliError::LoginTimeout { .. })));
    }
}
