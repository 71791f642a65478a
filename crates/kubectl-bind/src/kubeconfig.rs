//! What is in kubeconfigs: which contract one opens, a note of what the user bound, and where the person's own leads. In:
//! bytes, or what kubectl would use. Out: facts, or another kubeconfig.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube_bind_api::constants::{CONSUMER_NAMESPACE, KONNECTOR};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::args::Common;
use crate::cluster::text;
use crate::errors::CliError;

/// The kubeconfig in a Secret.
pub(crate) fn kubeconfig_of(secret: &Value, key: &str) -> Option<Vec<u8>> {
    let encoded = secret.get("data")?.get(key)?;
    serde_json::from_value::<k8s_openapi::ByteString>(encoded.clone()).ok().map(|bytes| bytes.0)
}

/// Server and namespace of a kubeconfig's current context: which contract it opens.
pub(crate) fn endpoint(kubeconfig: &[u8]) -> Option<(String, String)> {
    let config = kube::config::Kubeconfig::from_yaml(std::str::from_utf8(kubeconfig).ok()?).ok()?;
    let current = config.current_context?;
    let context = config.contexts.into_iter().find(|context| context.name == current)?.context?;
    let cluster = config.clusters.into_iter().find(|cluster| cluster.name == context.cluster)?.cluster?;
    Some((cluster.server?.trim_end_matches('/').to_owned(), context.namespace?))
}

/// The token of a kubeconfig's current context.
pub(crate) fn token(kubeconfig: &[u8]) -> Option<SecretString> {
    let config = kube::config::Kubeconfig::from_yaml(std::str::from_utf8(kubeconfig).ok()?).ok()?;
    let current = config.current_context?;
    let context = config.contexts.into_iter().find(|context| context.name == current)?.context?;
    config.auth_infos.into_iter().find(|user| Some(&user.name) == context.user.as_ref())?.auth_info?.token
}

/// The cluster entry of the person's own kubeconfig, with everything in it that another machine needs.
pub(crate) fn cluster(common: &Common) -> Result<Value, CliError> {
    let failed = |reason: String| CliError::NoKubeconfig { side: "consumer", reason };
    let config = match &common.kubeconfig {
        Some(path) => kube::config::Kubeconfig::read_from(path),
        None => kube::config::Kubeconfig::read(),
    };
    let config = config.map_err(|error| failed(error.to_string()))?;
    let name = common.context.clone().or(config.current_context).unwrap_or_default();
    let context = config.contexts.into_iter().find(|context| context.name == name).and_then(|named| named.context);
    let context = context.ok_or_else(|| failed(format!("there is no context {name:?}")))?;
    let found = config.clusters.into_iter().find(|cluster| cluster.name == context.cluster);
    let mut cluster =
        found.and_then(|named| named.cluster).ok_or_else(|| failed(format!("context {name:?} has no cluster")))?;
    if let Some(path) = cluster.certificate_authority.take() {
        let pem = std::fs::read(&path).map_err(|error| failed(format!("{path}: {error}")))?;
        cluster.certificate_authority_data = Some(STANDARD.encode(pem));
    }
    Ok(json!(cluster))
}

/// A kubeconfig for a cluster entry with a token of the agent.
pub(crate) fn with_token(cluster: &Value, token: &str) -> String {
    apimachinery::yaml::write(&json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "consumer",
        "clusters": [{"name": "consumer", "cluster": cluster}],
        "contexts": [{"name": "consumer", "context": {
            "cluster": "consumer", "user": KONNECTOR, "namespace": CONSUMER_NAMESPACE,
        }}],
        "users": [{"name": KONNECTOR, "user": {"token": token}}],
    }))
}

/// Where [`with_export_url`] puts the URL: kubeconfigs have room for such.
const EXTENSION: &str = "kube-bind.io/export";

/// The kubeconfig with a note of what the user bound, so that a bind from a file can show it too. A kubeconfig that
/// cannot be read is given back as it is.
pub(crate) fn with_export_url(kubeconfig: &[u8], url: &str) -> Vec<u8> {
    let note = |config: &mut Value| -> Option<()> {
        let cluster = config.pointer_mut("/clusters/0/cluster")?.as_object_mut()?;
        cluster.insert("extensions".to_owned(), json!([{"name": EXTENSION, "extension": {"url": url}}]));
        Some(())
    };
    let config = std::str::from_utf8(kubeconfig).ok().and_then(|text| apimachinery::yaml::document(text).ok());
    let noted = config.and_then(|mut config| note(&mut config).map(|()| apimachinery::yaml::write(&config)));
    noted.map_or_else(|| kubeconfig.to_vec(), String::into_bytes)
}

/// The note of [`with_export_url`], and the kubeconfig without it.
pub(crate) fn take_export_url(kubeconfig: &[u8]) -> (Option<String>, Vec<u8>) {
    let config = std::str::from_utf8(kubeconfig).ok().and_then(|text| apimachinery::yaml::document(text).ok());
    let Some(mut config) = config else { return (None, kubeconfig.to_vec()) };
    let cluster = config.pointer_mut("/clusters/0/cluster").and_then(Value::as_object_mut);
    let Some(Value::Array(extensions)) = cluster.and_then(|cluster| cluster.remove("extensions")) else {
        return (None, kubeconfig.to_vec());
    };
    let ours = extensions.iter().find(|extension| text(extension, "/name") == EXTENSION);
    let url = ours.map(|extension| text(extension, "/extension/url").to_owned()).filter(|url| !url.is_empty());
    match url {
        Some(url) => (Some(url), apimachinery::yaml::write(&config).into_bytes()),
        None => (None, kubeconfig.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_kubeconfig_leads_where_the_persons_does_without_their_credential() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        std::fs::write(folder.path().join("ca.crt"), "a certificate").unwrap();
        let text = "apiVersion: v1\nkind: Config\ncurrent-context: other\nclusters: [{name: k, cluster: {server: 'https://c:1', certificate-authority: ca.crt}}]\ncontexts: [{name: c, context: {cluster: k, user: u}}]\nusers: [{name: u, user: {token: mine}}]\n";
        std::fs::write(&path, text).unwrap();
        let common = |context: Option<&str>| Common {
            kubeconfig: Some(path.clone()),
            context: context.map(str::to_owned),
            config_file: None,
            server_ca_file: None,
            insecure_skip_tls_verify: false,
        };
        let made = with_token(&cluster(&common(Some("c"))).unwrap(), "agents");
        assert!(!made.contains("mine") && made.contains("agents"), "{made}");
        assert!(made.contains(&STANDARD.encode("a certificate")) && !made.contains("ca.crt"), "{made}");
        assert_eq!(endpoint(made.as_bytes()), Some(("https://c:1".into(), "kube-bind".into())));
        let error = cluster(&common(None)).unwrap_err().to_string();
        assert!(error.contains("other"), "{error}");
    }

    #[test]
    fn a_kubeconfig_is_known_by_server_and_namespace() {
        let text = "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: k, cluster: {server: 'https://p:1/'}}]\ncontexts: [{name: c, context: {cluster: k, user: u, namespace: ns}}]\nusers: [{name: u, user: {token: t}}]\n";
        assert_eq!(endpoint(text.as_bytes()), Some(("https://p:1".into(), "ns".into())));
        assert_eq!(endpoint(b"nonsense"), None);
        let noted = with_export_url(text.as_bytes(), "https://p/exports");
        assert_eq!(endpoint(&noted), endpoint(text.as_bytes()));
        let (url, plain) = take_export_url(&noted);
        assert_eq!((url.as_deref(), endpoint(&plain)), (Some("https://p/exports"), endpoint(text.as_bytes())));
        assert_eq!(take_export_url(text.as_bytes()), (None, text.as_bytes().to_vec()));
    }
}
