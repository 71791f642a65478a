//! What installs the agent in a consumer cluster, as objects to be written. In: a version and an image. Out: JSON objects
//! in an order in which they can be created. The CLI writes and prints them, the backend serves them, an administrator's
//! setup applies them; so all of them install the same.
//!
//! Each object but the namespace carries the version that made it (`app.kubernetes.io/version`), which is how a CLI knows
//! whether there is something to upgrade, and who looks after it (`app.kubernetes.io/managed-by`).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_bind_api::constants::{CONSUMER_NAMESPACE, KONNECTOR};
use serde::Serialize;
use serde_json::{Value, json};

use crate::rbac::admission::{self, Policy};
use crate::rbac::birth::Birth;
use crate::rbac::{RBAC_GROUP, consumer};

/// The version that this release installs.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Label with the version of an installed object.
pub const LABEL_VERSION: &str = "app.kubernetes.io/version";
/// Label that says who looks after an installed object.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Its value where the plugin does.
pub const MANAGED_BY: &str = "kubectl-bind";
/// Port of the agent's probes and metrics in its pod.
pub const PROBE_PORT: u16 = 8090;

/// The agent's image without its tag, unless somebody says otherwise.
pub const IMAGE: &str = "kube-bind/konnector";

/// The image of a version, unless somebody says otherwise.
pub fn default_image(version: &str) -> String {
    format!("{IMAGE}:v{version}")
}

/// Everything for the agent but Deployment and policies.
pub fn objects(version: &str) -> Vec<Value> {
    let base = consumer::base();
    let rbac = format!("{RBAC_GROUP}/v1");
    let mut objects = Vec::new();
    for crd in kube_bind_api::consumer_crds() {
        objects.push(object("apiextensions.k8s.io/v1", "CustomResourceDefinition", &crd));
    }
    objects.push(object("v1", "ServiceAccount", &base.service_account));
    objects.push(object(&rbac, "ClusterRole", &base.cluster_role));
    objects.push(object(&rbac, "ClusterRoleBinding", &base.cluster_role_binding));
    objects.push(object(&rbac, "Role", &base.role));
    objects.push(object(&rbac, "RoleBinding", &base.role_binding));
    for object in &mut objects {
        label(object, version);
    }
    // The namespace may be somebody else's: it only has to be there.
    objects.insert(0, object("v1", "Namespace", &base.namespace));
    objects
}

/// Policies that narrow the agent's rights whatever is bound, for API servers that know policies (Kubernetes 1.30).
pub fn policies(version: &str) -> Vec<Value> {
    let mut objects: Vec<Value> = admission::agent().iter().flat_map(policy).collect();
    for object in &mut objects {
        label(object, version);
    }
    objects
}

const ADMISSION: &str = "admissionregistration.k8s.io/v1";

/// A policy and what puts it in force; the policy first, so that the other finds it.
pub fn policy(policy: &Policy) -> [Value; 2] {
    [
        object(ADMISSION, "ValidatingAdmissionPolicy", &policy.policy),
        object(ADMISSION, "ValidatingAdmissionPolicyBinding", &policy.binding),
    ]
}

/// The same for the policy that gives finalizers at birth.
pub fn birth(birth: &Birth) -> [Value; 2] {
    [
        object(ADMISSION, "MutatingAdmissionPolicy", &birth.policy),
        object(ADMISSION, "MutatingAdmissionPolicyBinding", &birth.binding),
    ]
}

/// The Deployment. It says nothing about replicas: how many candidates wait for the Lease is the cluster's choice.
pub fn deployment(version: &str, image: Option<&str>) -> Value {
    let image = image.map_or_else(|| default_image(version), str::to_owned);
    let name = json!({"app.kubernetes.io/name": KONNECTOR});
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    let probe =
        |path: &str| json!({"httpGet": {"path": path, "port": "health"}, "periodSeconds": 10, "timeoutSeconds": 3});
    let container = json!({
        "name": KONNECTOR,
        "image": image,
        "args": ["--lease-namespace", CONSUMER_NAMESPACE, "--server-address", format!(":{PROBE_PORT}")],
        "env": [
            {"name": "POD_NAME", "valueFrom": field("metadata.name")},
            {"name": "POD_NAMESPACE", "valueFrom": field("metadata.namespace")},
        ],
        "ports": [{"name": "health", "containerPort": PROBE_PORT}],
        "livenessProbe": probe("/healthz"),
        "readinessProbe": probe("/readyz"),
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
        },
    });
    let security = json!({
        "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"},
    });
    let mut deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": KONNECTOR, "namespace": CONSUMER_NAMESPACE},
        "spec": {
            "selector": {"matchLabels": name},
            "template": {
                "metadata": {"labels": name},
                "spec": {
                    "serviceAccountName": KONNECTOR,
                    "securityContext": security,
                    "containers": [container],
                },
            },
        },
    });
    label(&mut deployment, version);
    deployment
}

/// A typed object as JSON with its `apiVersion` and `kind`.
pub fn object(api_version: &str, kind: &str, typed: &impl Serialize) -> Value {
    let mut value = json!(typed);
    value["apiVersion"] = json!(api_version);
    value["kind"] = json!(kind);
    value
}

fn label(object: &mut Value, version: &str) {
    let ours = [
        ("app.kubernetes.io/name", KONNECTOR),
        ("app.kubernetes.io/part-of", "kube-bind"),
        (LABEL_MANAGED_BY, MANAGED_BY),
        (LABEL_VERSION, version),
    ];
    let mut metadata: ObjectMeta = serde_json::from_value(object["metadata"].clone()).unwrap_or_default();
    metadata
        .labels
        .get_or_insert_with(BTreeMap::new)
        .extend(ours.map(|(name, value)| (name.to_owned(), value.to_owned())));
    object["metadata"]["labels"] = json!(metadata.labels);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_installation_is_golden() {
        let mut all = objects("1.2.3");
        all.retain(|object| object["kind"] != "CustomResourceDefinition");
        all.push(deployment("1.2.3", None));
        let text: Vec<String> = all.iter().map(|object| serde_saphyr::to_string(object).unwrap()).collect();
        insta::assert_snapshot!(text.join("---\n"));
    }

    #[test]
    fn everything_but_the_namespace_says_its_version() {
        let all: Vec<Value> = [objects("1.2.3"), policies("1.2.3"), vec![deployment("1.2.3", Some("a/b:c"))]].concat();
        for object in &all[1..] {
            assert_eq!(object["metadata"]["labels"][LABEL_VERSION], "1.2.3", "{object}");
            assert_eq!(object["metadata"]["labels"][LABEL_MANAGED_BY], MANAGED_BY, "{object}");
        }
        assert_eq!(all[0]["metadata"], json!({"name": CONSUMER_NAMESPACE}));
        assert_eq!(all.last().unwrap()["spec"]["template"]["spec"]["containers"][0]["image"], "a/b:c");
    }

    #[test]
    fn probes_reach_the_address_that_the_agent_is_told_to_serve() {
        let container = &deployment("1.2.3", None)["spec"]["template"]["spec"]["containers"][0];
        let port = container["ports"][0].clone();
        assert_eq!(container["args"][3], format!(":{}", port["containerPort"]));
        for probe in ["livenessProbe", "readinessProbe"] {
            assert_eq!(container[probe]["httpGet"]["port"], port["name"]);
        }
    }
}
