//! The provider's server over HTTP: its document, and what a login lets us ask. URLs in, wire types out; every failure
//! becomes one sentence.

use std::time::Duration;

use kube_bind_api::wire::{self, BindingProvider, BindingResourceResponse, ErrorCode, RedeemRequest, TokenResponse};
use kube_client::error::chain;
use reqwest::header::{ACCEPT, USER_AGENT};
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use url::Url;

use crate::args::Common;
use crate::errors::CliError;
use crate::kubeconfig::{endpoint, token};
use crate::logins::origin;

/// More is not read from anybody.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// An HTTP client for one provider.
pub(crate) struct ProviderServer {
    http: reqwest::Client,
    /// `scheme://host[:port]`.
    base: Url,
}

/// Reads what the user typed as a provider's URL.
pub(crate) fn parse_url(text: &str) -> Result<Url, CliError> {
    let wrong = |reason: String| CliError::NotUrl { text: without_secret(text), reason };
    let url = Url::parse(text).map_err(|error| wrong(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong("it must start with https://".to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("it must not carry a user name or password".to_owned()));
    }
    Ok(url)
}

/// What was typed, as it may be shown: a password in it is nobody's business.
fn without_secret(text: &str) -> String {
    let from = text.find("://").map_or(0, |at| at + 3);
    let end = text.get(from..).and_then(|rest| rest.find(['/', '?', '#'])).map_or(text.len(), |at| from + at);
    match text.get(from..end).and_then(|authority| authority.rfind('@')) {
        Some(at) => format!("{}...{}", text.get(..from).unwrap_or_default(), text.get(from + at..).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The URL as the binding records it: as typed, without query, fragment and trailing slash.
pub(crate) fn recorded_url(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.as_str().trim_end_matches('/').to_owned()
}

impl ProviderServer {
    pub(crate) fn new(url: &Url, common: &Common) -> Result<Self, CliError> {
        let base = Url::parse(&origin(url))
            .map_err(|error| CliError::NotUrl { text: url.to_string(), reason: error.to_string() })?;
        Ok(Self { http: client(url, common)?, base })
    }

    /// The provider's document at the URL that the user gave.
    pub(crate) async fn document(&self, url: &Url) -> Result<BindingProvider, CliError> {
        let answer =
            self.http.get(url.clone()).header(ACCEPT, "application/json").header(USER_AGENT, agent()).send().await;
        let answer = answer.map_err(|error| unreachable(url, &error))?;
        let status = answer.status();
        let body = read(url, answer).await?;
        let not_ours = |reason: String| CliError::NotKubeBind { url: url.to_string(), reason };
        if !status.is_success() {
            return Err(match serde_json::from_slice::<wire::Error>(&body) {
                Ok(error) if status == StatusCode::NOT_FOUND => {
                    let details =
                        error.details.filter(|details| !details.is_empty()).map(|details| format!(" ({details})"));
                    CliError::NothingThere {
                        url: url.to_string(),
                        details: format!(": {}{}", error.message, details.unwrap_or_default()),
                    }
                }
                Ok(error) => refused(url, status, error),
                Err(_) if status == StatusCode::NOT_FOUND => {
                    CliError::NothingThere { url: url.to_string(), details: String::new() }
                }
                Err(_) => not_ours(format!("it answers {status}")),
            });
        }
        let document: BindingProvider = serde_json::from_slice(&body)
            .map_err(|_| not_ours("its answer is not a BindingProvider document".to_owned()))?;
        if document.kind != "BindingProvider" {
            return Err(not_ours("its answer is not a BindingProvider document".to_owned()));
        }
        if document.authenticated_url().is_none() {
            return Err(not_ours("it offers no login that this version knows (OAuth2CodeGrant)".to_owned()));
        }
        Ok(document)
    }

    /// What the code of an interactive bind stands for.
    pub(crate) async fn redeem_bind(
        &self,
        code: &str,
        verifier: &SecretString,
    ) -> Result<BindingResourceResponse, CliError> {
        self.redeem(code, verifier).await
    }

    /// What the code of a login stands for.
    pub(crate) async fn redeem_login(&self, code: &str, verifier: &SecretString) -> Result<TokenResponse, CliError> {
        self.redeem(code, verifier).await
    }

    async fn redeem<T: DeserializeOwned>(&self, code: &str, verifier: &SecretString) -> Result<T, CliError> {
        let body = RedeemRequest { code: code.to_owned(), code_verifier: verifier.expose_secret().to_owned() };
        let body = json!(body);
        self.call(Method::POST, "api/redeem", &[], None, Some(&body)).await
    }

    /// `templates` or `collections`: the list as it is on the wire.
    pub(crate) async fn list(&self, what: &str, token: &SecretString) -> Result<Value, CliError> {
        self.call(Method::GET, &format!("api/{what}"), &[], Some(token), None).await
    }

    /// Asks for an offering with the token of a login; `dry_run` only computes the requests.
    pub(crate) async fn bind(
        &self,
        token: &SecretString,
        offering: &str,
        name: &str,
        identity: &str,
        dry_run: bool,
    ) -> Result<BindingResourceResponse, CliError> {
        let body = json!({
            "metadata": {"name": name},
            "spec": {"templateRef": {"name": offering}, "clusterIdentity": {"identity": identity}, "author": ""},
        });
        let query: &[(&str, &str)] = if dry_run { &[("dry_run", "true")] } else { &[] };
        self.call(Method::POST, "api/bind", query, Some(token), Some(&body)).await
    }

    /// Gives back the contract of a bind that came to nothing; says what stays when the provider cannot take it. One that
    /// was there before, or that somebody uses, is kept by the provider in silence.
    pub(crate) async fn give_back(&self, kubeconfig: &[u8]) {
        let (Some((_, namespace)), Some(token)) = (endpoint(kubeconfig), token(kubeconfig)) else { return };
        let body = json!({"namespace": namespace});
        let answer = self.call::<Value>(Method::POST, "api/release", &[], Some(&token), Some(&body)).await;
        // A refusal means that the credential opens nothing any more: the contract has ended already.
        if matches!(&answer, Err(error) if !matches!(error, CliError::Refused { .. })) {
            eprintln!(
                "At the provider a contract without any API may be left (namespace {namespace}); the next bind uses it."
            );
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        token: Option<&SecretString>,
        body: Option<&Value>,
    ) -> Result<T, CliError> {
        let url = self
            .base
            .join(path)
            .map_err(|error| CliError::NotUrl { text: path.to_owned(), reason: error.to_string() })?;
        let mut request = self
            .http
            .request(method, url.clone())
            .query(query)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, agent());
        if let Some(token) = token {
            request = request.bearer_auth(token.expose_secret());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|error| unreachable(&url, &error))?;
        let status = answer.status();
        let bytes = read(&url, answer).await?;
        if !status.is_success() {
            return Err(match serde_json::from_slice::<wire::Error>(&bytes) {
                Ok(error) => refused(&self.base, status, error),
                Err(_) => CliError::NotKubeBind { url: url.to_string(), reason: format!("it answers {status}") },
            });
        }
        serde_json::from_slice(&bytes).map_err(|error| CliError::NotKubeBind {
            url: url.to_string(),
            reason: format!("its answer cannot be read: {error}"),
        })
    }
}

fn agent() -> String {
    format!("kubectl-bind-cli/{}", env!("CARGO_PKG_VERSION"))
}

/// A client for `url`. Where no TLS is spoken, the system's trust store need not exist.
pub(crate) fn client(url: &Url, common: &Common) -> Result<reqwest::Client, CliError> {
    let failed = |reason: String| CliError::ServerTls { url: url.to_string(), reason };
    let mut builder =
        reqwest::Client::builder().connect_timeout(Duration::from_secs(10)).timeout(Duration::from_secs(60));
    if let Some(path) = &common.server_ca_file {
        let pem = std::fs::read(path).map_err(|error| failed(format!("the CA file {}: {error}", path.display())))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem)
            .map_err(|error| failed(format!("the CA file {}: {}", path.display(), chain(&error))))?;
        if certificates.is_empty() {
            return Err(failed(format!("the CA file {} holds no certificate in PEM", path.display())));
        }
        builder = builder.tls_certs_merge(certificates);
    } else if url.scheme() == "http" {
        builder = builder.tls_certs_only([]);
    }
    if common.insecure_skip_tls_verify {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    builder.build().map_err(|error| failed(chain(&error)))
}

/// Why nobody answered: TLS trouble is told apart, because something else mends it.
pub(crate) fn unreachable(url: &Url, error: &reqwest::Error) -> CliError {
    let reason = chain(&error.without_url_ref());
    let lower = reason.to_lowercase();
    let url = recorded_url(url);
    if lower.contains("corrupt message") || lower.contains("invalidcontenttype") {
        CliError::ServerNoTls { url }
    } else if ["certificate", "tls", "handshake", "unknownissuer"].iter().any(|word| lower.contains(word)) {
        CliError::ServerTls { url, reason }
    } else {
        CliError::ServerUnreachable { url, reason }
    }
}

/// `reqwest` puts the URL, query and all, in its messages; ours name it themselves.
trait WithoutUrl {
    fn without_url_ref(&self) -> Cause;
}

/// The text of an error and its causes.
#[derive(Debug)]
pub(crate) struct Cause(String);

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Cause {}

impl WithoutUrl for reqwest::Error {
    fn without_url_ref(&self) -> Cause {
        if self.is_timeout() {
            return Cause("no answer in time".to_owned());
        }
        let mut deepest: &dyn std::error::Error = self;
        while let Some(inner) = deepest.source() {
            deepest = inner;
        }
        Cause(deepest.to_string())
    }
}

async fn read(url: &Url, mut answer: reqwest::Response) -> Result<Vec<u8>, CliError> {
    read_at_most(&mut answer, MAX_ANSWER).await.map_err(|error| match error {
        ReadError::TooLarge => {
            CliError::NotKubeBind { url: url.to_string(), reason: "its answer is larger than 4 MiB".to_owned() }
        }
        ReadError::Broken(error) => unreachable(url, &error),
    })
}

/// Why a body was not read.
pub(crate) enum ReadError {
    TooLarge,
    Broken(reqwest::Error),
}

/// The body of an answer, unless it has more than `limit` bytes.
pub(crate) async fn read_at_most(answer: &mut reqwest::Response, limit: usize) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(ReadError::Broken)? {
        if bytes.len() + chunk.len() > limit {
            return Err(ReadError::TooLarge);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn refused(url: &Url, status: StatusCode, error: wire::Error) -> CliError {
    let details = error.details.filter(|details| !details.is_empty()).map(|details| format!(" ({details})"));
    // What is wrong is said by the provider; here is only who can mend it.
    let mend = match (error.code, status) {
        (ErrorCode::AuthenticationFailed, _) => format!(". Log in again: kubectl bind login {}", origin(url)),
        (ErrorCode::AuthorizationFailed, _) => ". Ask the provider to allow it".to_owned(),
        (ErrorCode::ResourceNotFound, _) => ". See what there is: kubectl bind templates".to_owned(),
        (ErrorCode::BadRequest, StatusCode::CONFLICT) => ". Ask the provider".to_owned(),
        (ErrorCode::BadRequest, _) => ". Start again with the same command".to_owned(),
        _ => ". Ask the provider".to_owned(),
    };
    CliError::Refused { url: origin(url), message: format!("{}{}", error.message, details.unwrap_or_default()), mend }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_recorded_without_query_and_slash() {
        let recorded = |text: &str| recorded_url(&parse_url(text).unwrap());
        assert_eq!(recorded("https://acmedb.example/kubernetes/?a=b#c"), "https://acmedb.example/kubernetes");
        assert_eq!(recorded("https://acmedb.example"), "https://acmedb.example");
        assert_eq!(recorded("http://127.0.0.1:8080/exports"), "http://127.0.0.1:8080/exports");
        for wrong in ["acmedb.example", "ftp://x/", "https://u:p@x/", "lgoin", ""] {
            assert!(matches!(parse_url(wrong), Err(CliError::NotUrl { .. })), "{wrong}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_not_repeated() {
        assert_eq!(without_secret("https://ada:p@ss@acmedb.example/a@b"), "https://...@acmedb.example/a@b");
        assert_eq!(without_secret("ada:pass@acmedb.example"), "...@acmedb.example");
        for harmless in ["https://acmedb.example/exports?who=a@b", "acmedb.example/@", "", "https://", "login"] {
            assert_eq!(without_secret(harmless), harmless);
        }
    }
}
