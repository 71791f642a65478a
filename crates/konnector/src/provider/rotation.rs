//! Credential rotation: the provider puts a fresh kubeconfig into the contract namespace, the agent carries it over into
//! the consumer's Secret while the old one still works. In: both Secrets. Out: at most one write. A kubeconfig that points
//! elsewhere is never taken: where this cluster connects to is the consumer's word.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use kube_client::{ApiError, ObjectKey, Subresource};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Provider;
use crate::resources::{self, MANAGER};

/// How often the provider's Secret is looked at.
const EVERY: Duration = Duration::from_secs(60);

/// Carries a rotated credential over, if there is one and it is time to look.
pub(super) async fn look(this: &Provider, cluster_binding: &Value) {
    {
        let mut last = this.rotation_looked.lock();
        if last.is_some_and(|at: Instant| at.elapsed() < EVERY) {
            return;
        }
        *last = Some(Instant::now());
    }
    match carry_over(this, cluster_binding).await {
        Ok(true) => tracing::info!(secret = %this.secret.name, "the provider has rotated the credential"),
        Ok(false) => {}
        // A Go backend, or a provider that does not let agents read it: then it is not rotated this way.
        Err(error) if error.is_forbidden() => {}
        Err(error) => tracing::warn!(%error, "cannot look for a rotated credential"),
    }
}

async fn carry_over(this: &Provider, cluster_binding: &Value) -> Result<bool, ApiError> {
    let reference = &cluster_binding["spec"]["kubeconfigSecretRef"];
    let (Some(name), Some(key)) = (reference["name"].as_str(), reference["key"].as_str()) else { return Ok(false) };
    let theirs = this.api.get_opt(&resources::secrets(), &ObjectKey::new(&this.contract_namespace, name)).await?;
    let ours_key = ObjectKey::new(&this.secret.namespace, &this.secret.name);
    let ours = this.consumer.api.get_opt(&resources::secrets(), &ours_key).await?;
    let (Some(theirs), Some(ours)) = (theirs, ours) else { return Ok(false) };
    let (Some(theirs), Some(now)) = (decode(&theirs, key), decode(&ours, &this.secret.key)) else { return Ok(false) };
    if !is_rotation(&now, &theirs) {
        return Ok(false);
    }
    let patch = json!({
        "metadata": {"uid": ours["metadata"]["uid"], "resourceVersion": ours["metadata"]["resourceVersion"]},
        "data": {this.secret.key.as_str(): STANDARD.encode(&theirs)},
    });
    this.consumer.api.merge_patch(&resources::secrets(), &ours_key, Subresource::Main, &patch, MANAGER).await?;
    Ok(true)
}

fn decode(secret: &Value, key: &str) -> Option<String> {
    let bytes = STANDARD.decode(secret["data"][key].as_str()?).ok()?;
    String::from_utf8(bytes).ok()
}

/// Whether `new` is the same connection with another credential: the same cluster (server, CA, proxy and all else that says
/// how to get there) and the same namespace.
fn is_rotation(old: &str, new: &str) -> bool {
    let read = |text: &str| serde_saphyr::from_str::<Value>(text).ok();
    let (Some(old), Some(new)) = (read(old), read(new)) else { return false };
    let place = |kubeconfig: &Value| -> Option<(Value, String)> {
        let current = kubeconfig["current-context"].as_str()?;
        let by_name =
            |list: &str, name: &str| kubeconfig[list].as_array()?.iter().find(|entry| entry["name"] == name).cloned();
        let context = by_name("contexts", current)?;
        let cluster = by_name("clusters", context["context"]["cluster"].as_str()?)?;
        let namespace = context["context"]["namespace"].as_str()?.to_owned();
        Some((cluster["cluster"].clone(), namespace))
    };
    let credential = |kubeconfig: &Value| kubeconfig["users"].clone();
    place(&old).is_some() && place(&old) == place(&new) && credential(&old) != credential(&new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubeconfig(server: &str, token: &str) -> String {
        through(&format!("server: \"{server}\""), token)
    }

    fn through(cluster: &str, token: &str) -> String {
        format!(
            "current-context: c\nclusters: [{{name: k, cluster: {{{cluster}}}}}]\n\
             contexts: [{{name: c, context: {{cluster: k, user: me, namespace: ns}}}}]\n\
             users: [{{name: me, user: {{token: {token}}}}}]\n"
        )
    }

    #[test]
    fn only_the_credential_may_change() {
        let old = kubeconfig("https://a", "one");
        assert!(is_rotation(&old, &kubeconfig("https://a", "two")));
        assert!(!is_rotation(&old, &old));
        assert!(!is_rotation(&old, &kubeconfig("https://evil", "two")));
        assert!(!is_rotation(&old, "nonsense"));
        for elsewhere in
            ["proxy-url: \"http://evil\"", "insecure-skip-tls-verify: true", "certificate-authority-data: eA=="]
        {
            let new = through(&format!("server: \"https://a\", {elsewhere}"), "two");
            assert!(!is_rotation(&old, &new), "{elsewhere}");
            let moved = through(&format!("server: \"https://a\", {elsewhere}"), "three");
            assert!(is_rotation(&new, &moved), "the same as before: {elsewhere}");
        }
    }
}
