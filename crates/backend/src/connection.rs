//! The connection to the provider's API server, and who we are there.
//!
//! In: a [`KubeSource`]. Out: a client, the server's URL and CA (for consumers' kubeconfigs), and our own user name (for
//! the role bindings that the service makes for itself). Called by [`crate::run`].

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube_client::{Api, Resource, connect};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::config::KubeSource;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The kubeconfig.
    #[error("the kubeconfig of the provider's API server cannot be used: {0}")]
    Kubeconfig(String),
    /// Who we are.
    #[error("the provider's API server does not say as whom this service is logged in: {0}")]
    Whoami(String),
}

/// A connection to the provider.
pub struct Connection {
    /// The client.
    pub api: Api,
    /// API server URL.
    pub server: String,
    /// Its CA as PEM; empty if the system's certificates are used.
    pub ca: String,
    /// Our own user name.
    pub user: String,
}

/// Connects; the API server need not answer yet if our name stands in our token.
///
/// # Errors
/// [`ConnectionError`].
pub async fn connect(source: &KubeSource) -> Result<Connection, ConnectionError> {
    let bad = |err: &dyn std::fmt::Display| ConnectionError::Kubeconfig(err.to_string());
    // First, because it says what is wrong with a kubeconfig without quoting it.
    let made = match source {
        KubeSource::Inferred => connect::from_environment(None).await,
        KubeSource::Context(context) => connect::from_environment(Some(context)).await,
        KubeSource::File(path, context) => connect::from_file(path, context.as_deref()).await,
        KubeSource::Text(text) => connect::from_kubeconfig(text, None).await,
    };
    let made = made.map_err(|err| bad(&err))?;
    let config = match source {
        KubeSource::Inferred => kube::Config::infer().await.map_err(|err| bad(&err))?,
        KubeSource::Context(context) => {
            let options = KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
            kube::Config::from_kubeconfig(&options).await.map_err(|err| bad(&err))?
        }
        KubeSource::File(path, context) => {
            let kubeconfig = Kubeconfig::read_from(path).map_err(|err| bad(&err))?;
            let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
            kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|err| bad(&err))?
        }
        KubeSource::Text(text) => {
            let kubeconfig = Kubeconfig::from_yaml(text).map_err(|err| bad(&err))?;
            let options = KubeConfigOptions::default();
            kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|err| bad(&err))?
        }
    };
    let api = made.api("provider");
    let user = match token_subject(&config) {
        Some(user) => user,
        None => whoami(&api).await?,
    };
    let server = made.server.trim_end_matches('/').to_owned();
    Ok(Connection { api, server, ca: pem(config.root_cert.as_deref().unwrap_or_default()), user })
}

fn pem(certificates: &[Vec<u8>]) -> String {
    let mut text = String::new();
    for certificate in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let body = STANDARD.encode(certificate);
        let mut rest = body.as_str();
        while !rest.is_empty() {
            let (line, more) = rest.split_at(rest.len().min(64));
            text.push_str(line);
            text.push('\n');
            rest = more;
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

/// A service account's token says who it is.
fn token_subject(config: &kube::Config) -> Option<String> {
    let auth = &config.auth_info;
    let token = match (&auth.token, &auth.token_file) {
        (Some(token), _) => token.expose_secret().to_owned(),
        (None, Some(path)) => std::fs::read_to_string(path).ok()?,
        (None, None) => return None,
    };
    subject_of(token.trim())
}

fn subject_of(token: &str) -> Option<String> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    claims["sub"].as_str().filter(|sub| sub.starts_with("system:serviceaccount:")).map(str::to_owned)
}

async fn whoami(api: &Api) -> Result<String, ConnectionError> {
    let kind = Resource::new("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview");
    let body = json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {}});
    let answer = api.create(&kind, None, &body).await.map_err(|err| ConnectionError::Whoami(err.to_string()))?;
    answer["status"]["userInfo"]["username"]
        .as_str()
        .filter(|user| !user.is_empty())
        .map(str::to_owned)
        .ok_or_else(|| ConnectionError::Whoami("the SelfSubjectReview has no user name".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_account_token_says_who_it_is() {
        let claims = URL_SAFE_NO_PAD.encode(r#"{"sub":"system:serviceaccount:kube-bind:backend"}"#);
        assert_eq!(subject_of(&format!("h.{claims}.s")).as_deref(), Some("system:serviceaccount:kube-bind:backend"));
        let claims = URL_SAFE_NO_PAD.encode(r#"{"sub":"alice"}"#);
        assert_eq!(subject_of(&format!("h.{claims}.s")), None);
        assert_eq!(subject_of("opaque"), None);
    }

    #[test]
    fn certificates_become_pem() {
        let text = pem(&[vec![7; 60]]);
        assert!(text.starts_with("-----BEGIN CERTIFICATE-----\n"));
        assert!(text.lines().all(|line| line.len() <= 64));
        assert_eq!(pem(&[]), "");
    }
}
