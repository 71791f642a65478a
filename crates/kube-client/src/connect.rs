//! Clients from kubeconfigs. In: kubeconfig bytes or the environment. Out: a [`kube::Client`] without kube's own
//! retries (they re-send POST on 504) and with timeouts that fit watches. Boxed: what is not is compiled anew in every crate
//! that awaits it.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use kube::config::{Config, KubeConfigOptions, Kubeconfig, KubeconfigError};

pub use crate::transport::Lanes;
use crate::{api::Api, transport};

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The bytes are not a kubeconfig.
    #[error("not a kubeconfig: {0}")]
    Parse(String),
    /// The kubeconfig is incomplete or names files that are not there.
    #[error("unusable kubeconfig: {0}")]
    Use(String),
    /// It would run a program or a plugin, which a credential from a Secret must not.
    #[error("the kubeconfig runs a program ({0}) to get its credential; only tokens and certificates are allowed")]
    Exec(String),
    /// Its current context names no namespace.
    #[error("the kubeconfig's current context has no namespace")]
    NoNamespace,
    /// The client could not be built.
    #[error("cannot build a client: {0}")]
    Build(String),
}

/// A kubeconfig that was read: where it points and in which namespace.
pub struct Connection {
    /// The client, for requests.
    pub client: kube::Client,
    /// Further connections, for watches.
    pub lanes: Arc<Lanes>,
    /// API server URL, for messages.
    pub server: String,
    /// Namespace of the current context.
    pub namespace: String,
}

impl Connection {
    /// Requests and watches; `side` names the cluster in error messages.
    pub fn api(&self, side: &str) -> Api {
        Api::new(self.client.clone(), side).with_lanes(self.lanes.clone())
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("server", &self.server)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

/// Client for a kubeconfig that came over the network (from a Secret). It must carry its credential itself, refer to no
/// local file, run nothing, and name a namespace.
pub fn from_untrusted_kubeconfig(bytes: &[u8]) -> BoxFuture<'_, Result<Connection, ConnectError>> {
    async move {
        let text = std::str::from_utf8(bytes).map_err(|e| ConnectError::Parse(e.to_string()))?;
        let kubeconfig = Kubeconfig::from_yaml(text).map_err(|e| ConnectError::Parse(words(&e)))?;
        let context_name = kubeconfig
            .current_context
            .clone()
            .filter(|c| !c.is_empty())
            .ok_or_else(|| ConnectError::Use("it has no current-context".into()))?;
        let context = kubeconfig
            .contexts
            .iter()
            .find(|c| c.name == context_name)
            .and_then(|c| c.context.clone())
            .ok_or_else(|| ConnectError::Use(format!("it has no context {context_name:?}")))?;
        let namespace = context.namespace.clone().filter(|n| !n.is_empty()).ok_or(ConnectError::NoNamespace)?;
        for user in &kubeconfig.auth_infos {
            let Some(auth) = &user.auth_info else { continue };
            if let Some(exec) = &auth.exec {
                return Err(ConnectError::Exec(exec.command.clone().unwrap_or_default()));
            }
            if auth.auth_provider.is_some() {
                return Err(ConnectError::Exec("auth-provider".into()));
            }
            if auth.token_file.is_some() || auth.client_certificate.is_some() || auth.client_key.is_some() {
                return Err(ConnectError::Use("it refers to files of another machine".into()));
            }
        }
        if kubeconfig.clusters.iter().filter_map(|c| c.cluster.as_ref()).any(|c| c.certificate_authority.is_some()) {
            return Err(ConnectError::Use("it refers to a CA file of another machine".into()));
        }
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .map_err(|e| ConnectError::Use(words(&e)))?;
        build(config, namespace)
    }
    .boxed()
}

/// Client for a local kubeconfig text (all forms allowed), with an optional context.
pub fn from_kubeconfig<'a>(text: &'a str, context: Option<&'a str>) -> BoxFuture<'a, Result<Connection, ConnectError>> {
    async move {
        let kubeconfig = Kubeconfig::from_yaml(text).map_err(|e| ConnectError::Parse(words(&e)))?;
        let options = KubeConfigOptions { context: context.map(Into::into), ..Default::default() };
        let config =
            Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|e| ConnectError::Use(words(&e)))?;
        finish(config)
    }
    .boxed()
}

/// Client for a kubeconfig file.
pub fn from_file<'a>(
    path: &'a std::path::Path,
    context: Option<&'a str>,
) -> BoxFuture<'a, Result<Connection, ConnectError>> {
    async move {
        let kubeconfig =
            Kubeconfig::read_from(path).map_err(|e| ConnectError::Use(format!("{}: {}", path.display(), words(&e))))?;
        let options = KubeConfigOptions { context: context.map(Into::into), ..Default::default() };
        let config = Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .map_err(|e| ConnectError::Use(format!("{}: {}", path.display(), words(&e))))?;
        finish(config)
    }
    .boxed()
}

/// Client from the environment: `KUBECONFIG`, `~/.kube/config`, or the pod's service account.
pub fn from_environment(context: Option<&str>) -> BoxFuture<'_, Result<Connection, ConnectError>> {
    async move {
        let options = KubeConfigOptions { context: context.map(Into::into), ..Default::default() };
        let config = match Config::from_kubeconfig(&options).await {
            Ok(config) => config,
            Err(error) if context.is_some() => return Err(ConnectError::Use(words(&error))),
            Err(error) => Config::incluster().map_err(|inside| {
                let inside = crate::error::chain(&inside);
                ConnectError::Use(format!(
                    "no kubeconfig ({}), and not in a pod of a cluster ({inside})",
                    words(&error)
                ))
            })?,
        };
        finish(config)
    }
    .boxed()
}

/// Why a kubeconfig cannot be used. Of one that is no YAML only the place: the parser quotes what it read, and what stands in
/// a kubeconfig are credentials.
fn words(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::Parse(error) => match error.location() {
            Some(place) => format!("its YAML is broken at or near line {}, column {}", place.line(), place.column()),
            None => "its YAML is broken".to_owned(),
        },
        other => crate::error::chain(other),
    }
}

fn finish(config: Config) -> Result<Connection, ConnectError> {
    let namespace = config.default_namespace.clone();
    build(config, namespace)
}

/// Clients with our timeouts and no retries of their own.
fn build(mut config: Config, namespace: String) -> Result<Connection, ConnectError> {
    config.connect_timeout = Some(Duration::from_secs(10));
    // Above the longest silence of a watch (200 s); requests have their own, shorter limit in `api`.
    config.read_timeout = Some(Duration::from_secs(240));
    config.write_timeout = Some(Duration::from_secs(30));
    config.default_retry = false;
    let server = config.cluster_url.to_string();
    let client = transport::client(&config).map_err(|e| ConnectError::Build(crate::error::chain(&e)))?;
    Ok(Connection { client, lanes: Arc::new(Lanes::new(config)), server, namespace })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = r#"
apiVersion: v1
kind: Config
current-context: c
clusters: [{name: k, cluster: {server: "https://127.0.0.1:1"}}]
contexts: [{name: c, context: {cluster: k, user: u, namespace: n}}]
"#;

    #[tokio::test]
    async fn a_credential_from_a_secret_cannot_run_programs_or_read_files() {
        let exec = format!(
            "{BASE}users: [{{name: u, user: {{exec: {{apiVersion: client.authentication.k8s.io/v1, command: touch, interactiveMode: Never}}}}}}]\n"
        );
        assert!(matches!(from_untrusted_kubeconfig(exec.as_bytes()).await, Err(ConnectError::Exec(c)) if c == "touch"));
        let file = format!("{BASE}users: [{{name: u, user: {{tokenFile: /etc/passwd}}}}]\n");
        assert!(matches!(from_untrusted_kubeconfig(file.as_bytes()).await, Err(ConnectError::Use(_))));
    }

    #[tokio::test]
    async fn what_is_wrong_in_a_kubeconfig_is_not_quoted() {
        let broken = [
            format!("{BASE}users: [{{name: u, user: \"token:s3cr3t\"}}]\n"),
            format!("{BASE}users:\n- name: u\n  user:\n    token: s3cr3t\n   client-key-data: s3cr3t\n"),
            format!("{BASE}users:\n- name: u\n  user:\n    token:s3cr3t\n"),
            format!("{BASE}users: [{{name: u, user: {{token: [s3cr3t]}}}}]\n"),
        ];
        for text in broken {
            let errors = [
                from_untrusted_kubeconfig(text.as_bytes()).await.unwrap_err(),
                from_kubeconfig(&text, None).await.unwrap_err(),
            ];
            for error in errors {
                assert!(!format!("{error} {error:?}").contains("s3cr3t"), "{error}");
                assert!(error.to_string().contains(", column "), "{error}");
            }
        }
    }

    #[tokio::test]
    async fn the_namespace_is_needed() {
        let text = BASE.replace(", namespace: n", "") + "users: [{name: u, user: {token: t}}]\n";
        assert!(matches!(from_untrusted_kubeconfig(text.as_bytes()).await, Err(ConnectError::NoNamespace)));
    }

    #[tokio::test]
    async fn a_token_kubeconfig_is_accepted() {
        let text = format!("{BASE}users: [{{name: u, user: {{token: t}}}}]\n");
        let connection = from_untrusted_kubeconfig(text.as_bytes()).await.unwrap();
        assert_eq!(connection.namespace, "n");
    }
}
