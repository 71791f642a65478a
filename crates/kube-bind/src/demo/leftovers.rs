//! What an unbind must not leave: looks through both sides for anything of ours. The agent's own installation and the
//! provider's own things are no leftovers.

use anyhow::Result;
use kube_client::api::{Api, ListQuery};
use kube_client::connect;
use kube_client::resource::Resource;
use serde_json::Value;

const BIND: &str = "kube-bind.io";
const RBAC: &str = "rbac.authorization.k8s.io";

/// Everything of ours that is still in the consumer cluster.
pub(super) async fn in_consumer(kubeconfig: &std::path::Path, bound: &[&str]) -> Result<Vec<String>> {
    let api = Api::new(connect::from_file(kubeconfig, None).await?.client, "consumer");
    let mut left = Vec::new();
    let kinds = [
        ("", "secrets"),
        ("", "services"),
        ("", "configmaps"),
        (RBAC, "rolebindings"),
        (RBAC, "clusterroles"),
        (RBAC, "clusterrolebindings"),
        ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
        ("apiextensions.k8s.io", "customresourcedefinitions"),
    ];
    for (group, plural) in kinds {
        for object in list(&api, group, "v1", plural).await? {
            let name = text(&object, "/metadata/name");
            let labels = object.pointer("/metadata/labels").map(Value::to_string).unwrap_or_default();
            if labels.contains("kube-bind.io/") || name.starts_with("kube-bind:") || bound.contains(&name) {
                left.push(format!("consumer: {plural} {name}"));
            }
        }
    }
    for object in list(&api, BIND, "v1alpha2", "apiservicebindings").await? {
        left.push(format!("consumer: binding {}", text(&object, "/metadata/name")));
    }
    Ok(left)
}

/// Everything of consumers that is still at a provider.
pub(super) async fn at_provider(kubeconfig: &std::path::Path, kind: (&str, &str, &str)) -> Result<Vec<String>> {
    let api = Api::new(connect::from_file(kubeconfig, None).await?.client, "provider");
    let mut left = Vec::new();
    for plural in
        ["apiserviceexportrequests", "apiserviceexports", "boundschemas", "apiservicenamespaces", "clusterbindings"]
    {
        for object in list(&api, BIND, "v1alpha2", plural).await? {
            left.push(format!(
                "provider: {plural} {}/{}",
                text(&object, "/metadata/namespace"),
                text(&object, "/metadata/name")
            ));
        }
    }
    for object in list(&api, "", "v1", "namespaces").await? {
        let name = text(&object, "/metadata/name");
        let annotations = object.pointer("/metadata/annotations").map(Value::to_string).unwrap_or_default();
        if name.starts_with("cluster-") || annotations.contains("kube-bind.io/") {
            left.push(format!("provider: namespace {name}"));
        }
    }
    for object in list(&api, kind.0, kind.1, kind.2).await? {
        left.push(format!("provider: {} {}", kind.2, text(&object, "/metadata/name")));
    }
    Ok(left)
}

/// Secrets of that name in any namespace of a provider.
pub(super) async fn secrets_named(kubeconfig: &std::path::Path, name: &str) -> Result<Vec<String>> {
    let api = Api::new(connect::from_file(kubeconfig, None).await?.client, "provider");
    let secrets = list(&api, "", "v1", "secrets").await?;
    let strays = secrets.iter().filter(|secret| text(secret, "/metadata/name") == name);
    Ok(strays.map(|secret| format!("{}/{name}", text(secret, "/metadata/namespace"))).collect())
}

async fn list(api: &Api, group: &str, version: &str, plural: &str) -> Result<Vec<Value>> {
    match api.list(&Resource::new(group, version, plural, ""), &ListQuery::default()).await {
        Ok(objects) => Ok(objects),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
