//! Contracts that this cluster holds the credential of, but that belong to another cluster: what a rebuilt cluster finds
//! after its manifests were applied. In: the consumer's bindings. Out: the contract that a login may move here.

use kube_client::api::ListQuery;
use serde_json::Value;
use url::Url;

use crate::cluster::{Cluster, kinds, text};
use crate::errors::CliError;
use crate::kubeconfig::{endpoint, kubeconfig_of};

/// Phase of a binding whose contract belongs to another cluster.
const ELSEWHERE: &str = "ClaimedElsewhere";

/// The contract namespace that a binding of this provider refers to, if it belongs to another cluster.
pub(crate) async fn elsewhere(consumer: &Cluster, url: &Url) -> Result<Option<String>, CliError> {
    let bindings = consumer.list(&kinds::bindings(), &ListQuery::default()).await?;
    for binding in bindings.iter().filter(|binding| asks_for_move(binding, url)) {
        let reference = |field: &str| text(binding, &format!("/spec/kubeconfigSecretRef/{field}"));
        let secret = consumer.get(&kinds::secrets(), reference("namespace"), reference("name")).await?;
        let kubeconfig = secret.and_then(|secret| kubeconfig_of(&secret, reference("key")));
        if let Some((_, namespace)) = kubeconfig.as_deref().and_then(endpoint) {
            return Ok(Some(namespace));
        }
    }
    Ok(None)
}

/// Whether a binding waits for its owner's login at this provider.
fn asks_for_move(binding: &Value, url: &Url) -> bool {
    let bound = Url::parse(text(binding, "/spec/reference/export/url"));
    text(binding, "/status/phase") == ELSEWHERE && bound.is_ok_and(|bound| bound.origin() == url.origin())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_binding_of_this_provider_that_is_claimed_elsewhere_asks() {
        let binding = |phase: &str, url: &str| json!({"spec": {"reference": {"export": {"url": url}}}, "status": {"phase": phase}});
        let url = Url::parse("https://a.example/kubernetes").unwrap();
        assert!(asks_for_move(&binding("ClaimedElsewhere", "https://a.example/exports"), &url));
        assert!(!asks_for_move(&binding("Connected", "https://a.example/exports"), &url));
        assert!(!asks_for_move(&binding("ClaimedElsewhere", "https://b.example/exports"), &url));
        assert!(!asks_for_move(&json!({"status": {"phase": "ClaimedElsewhere"}}), &url));
    }
}
