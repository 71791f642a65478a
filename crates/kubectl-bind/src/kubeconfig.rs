//! What is in a contract's kubeconfig: which contract it opens, and a note of what the user bound. In: bytes. Out: facts,
//! or the bytes with the note.

use secrecy::SecretString;
use serde_json::{Value, json};

use crate::cluster::text;

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
