//! What never crosses, whatever was accepted (`contract.md` §4).
//!
//! In: a claimed object of one side. Out: what may be written on the other side, or why nothing may. Both agents' writers
//! take their bodies from here; the caller sets namespace, ownership label and source annotations.

use std::collections::BTreeSet;

use kube_bind_api::constants::{
    ANNOTATION_BINDING_UID, ANNOTATION_CLUSTER_NAMESPACE, LABEL_BINDING, LABEL_OWNER, OWNER_CONSUMER, OWNER_PROVIDER,
};
use serde_json::{Map, Value, json};

/// An object does not cross. The text is for a condition or Event that the affected person sees.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The kind is not one of those that may be claimed.
    #[error("{kind} objects are never copied")]
    Kind {
        /// Kind.
        kind: String,
    },
    /// A Secret that stands for an identity of the cluster.
    #[error("Secret {name:?} of type {type_} is never copied: it is a credential of the cluster itself")]
    ClusterCredential {
        /// Name.
        name: String,
        /// Type.
        type_: String,
    },
    /// A Service that captures traffic.
    #[error("Service {name:?} has externalIPs and is never copied: remove them")]
    ExternalIps {
        /// Name.
        name: String,
    },
    /// The provider's object is not marked as meant for the consumer.
    #[error(
        "{kind} {name:?} at the provider is not meant for the consumer: it has neither an owner reference to the object \
         that refers to it nor the label {LABEL_OWNER}: {OWNER_PROVIDER}"
    )]
    NotMeant {
        /// Kind.
        kind: String,
        /// Name.
        name: String,
    },
    /// Not an object with a name.
    #[error("not an object with kind and name")]
    Malformed,
}

/// The part of a claimed object that may be written on the other side: `apiVersion`, `kind`, `metadata` with name, labels
/// and annotations, and the kind's own data. Namespace, UIDs, owners, finalizers, managed fields and status are gone.
///
/// # Errors
/// The [`Refusal`] if the object must not cross at all.
pub fn sanitize_claimed(object: &Value) -> Result<Value, Refusal> {
    let kind = object.get("kind").and_then(Value::as_str).ok_or(Refusal::Malformed)?;
    let group_version = object.get("apiVersion").and_then(Value::as_str).ok_or(Refusal::Malformed)?;
    let name = object.pointer("/metadata/name").and_then(Value::as_str).ok_or(Refusal::Malformed)?;
    if group_version != "v1" {
        return Err(Refusal::Kind { kind: format!("{kind}.{group_version}") });
    }
    let fields: &[&str] = match kind {
        "Secret" => {
            let type_ = object.get("type").and_then(Value::as_str).unwrap_or("Opaque");
            if matches!(type_, "kubernetes.io/service-account-token" | "bootstrap.kubernetes.io/token") {
                return Err(Refusal::ClusterCredential { name: name.into(), type_: type_.into() });
            }
            &["type", "data", "immutable"]
        }
        "ConfigMap" => &["data", "binaryData", "immutable"],
        "ServiceAccount" => &["automountServiceAccountToken"],
        "Service" => {
            let external = object.pointer("/spec/externalIPs").and_then(Value::as_array);
            if external.is_some_and(|list| !list.is_empty()) {
                return Err(Refusal::ExternalIps { name: name.into() });
            }
            &[]
        }
        _ => return Err(Refusal::Kind { kind: kind.into() }),
    };
    let mut metadata = Map::new();
    metadata.insert("name".into(), json!(name));
    // Load balancers and DNS controllers read Services' labels and annotations, so those get ours only.
    if kind != "Service" {
        for key in ["labels", "annotations"] {
            let kept = crossing(object.pointer(&format!("/metadata/{key}")));
            if !kept.is_empty() {
                metadata.insert(key.into(), Value::Object(kept));
            }
        }
    }
    let mut out = Map::new();
    out.insert("apiVersion".into(), json!(group_version));
    out.insert("kind".into(), json!(kind));
    out.insert("metadata".into(), Value::Object(metadata));
    for field in fields {
        if let Some(value) = object.get(*field).filter(|value| !value.is_null()) {
            out.insert((*field).into(), value.clone());
        }
    }
    if kind == "Service" {
        out.insert("spec".into(), service_spec(object.get("spec").unwrap_or(&Value::Null)));
    }
    Ok(Value::Object(out))
}

/// Type, ports and external name; of a port nothing that belongs to the other cluster's network.
fn service_spec(spec: &Value) -> Value {
    let mut out = Map::new();
    for field in ["type", "externalName"] {
        if let Some(value) = spec.get(field).filter(|value| !value.is_null()) {
            out.insert(field.into(), value.clone());
        }
    }
    let ports: Vec<Value> = spec
        .get("ports")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|port| {
            let fields = ["name", "protocol", "port", "targetPort", "appProtocol"];
            let kept = fields.iter().filter_map(|field| port.get(*field).map(|value| ((*field).into(), value.clone())));
            Value::Object(kept.collect())
        })
        .collect();
    if !ports.is_empty() {
        out.insert("ports".into(), Value::Array(ports));
    }
    Value::Object(out)
}

/// Labels or annotations that may cross with a claimed object.
fn crossing(map: Option<&Value>) -> Map<String, Value> {
    let entries = map.and_then(Value::as_object).into_iter().flatten();
    entries.filter(|(key, _)| key_may_cross(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Whether a label or annotation of this key may cross with a claimed object: not those of Kubernetes, ours, or of tools
/// that manage objects by what they find on them.
pub fn key_may_cross(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else {
        return true;
    };
    !DOMAINS.iter().any(|stop| domain == *stop || domain.ends_with(&format!(".{stop}")))
}

/// Whether a label or annotation of this key may cross with an object of a bound kind. Here Kubernetes' recommended
/// labels (`app.kubernetes.io/…`) are data of the user's.
pub fn bound_key_may_cross(key: &str) -> bool {
    key.starts_with("app.kubernetes.io/") && key != "app.kubernetes.io/managed-by" || key_may_cross(key)
}

/// Kubernetes itself, this project, and machinery that deletes or adopts what carries its marks.
const DOMAINS: [&str; 11] = [
    "kubernetes.io",
    "k8s.io",
    "kube-bind.io",
    "kcp.io",
    "internal.apis.kcp.io",
    "argoproj.io",
    "toolkit.fluxcd.io",
    "helm.sh",
    "crossplane.io",
    "kyverno.io",
    "openshift.io",
];

/// Whether a provider's object is meant for the consumer: it has an owner reference to one of the provider's copies of
/// the referring objects (`referrers`, UIDs), or the label `kube-bind.io/owner: provider`, or the template vouches for the
/// name (`trust_name`).
///
/// # Errors
/// [`Refusal::NotMeant`]; then not even its existence is told.
pub fn meant_for_consumer(object: &Value, referrers: &BTreeSet<&str>, trust_name: bool) -> Result<(), Refusal> {
    let owned = object
        .pointer("/metadata/ownerReferences")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|owner| owner.get("uid").and_then(Value::as_str))
        .any(|uid| referrers.contains(uid));
    if owned || trust_name || label(object, LABEL_OWNER) == Some(OWNER_PROVIDER) {
        return Ok(());
    }
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    Err(Refusal::NotMeant { kind: text("/kind"), name: text("/metadata/name") })
}

/// Whether an object at the consumer is the copy that this binding made: what is not is never taken over, changed or
/// deleted. `binding_uid` is compared if the copy carries one.
pub fn is_consumer_copy(object: &Value, binding: &str, binding_uid: Option<&str>) -> bool {
    label(object, LABEL_OWNER) == Some(OWNER_PROVIDER)
        && label(object, LABEL_BINDING) == Some(binding)
        && match (annotation(object, ANNOTATION_BINDING_UID), binding_uid) {
            (Some(theirs), Some(ours)) => theirs == ours,
            _ => true,
        }
}

/// Whether an object at the provider is a copy that this contract's agent made.
pub fn is_provider_copy(object: &Value, contract_namespace: &str) -> bool {
    label(object, LABEL_OWNER) == Some(OWNER_CONSUMER)
        && annotation(object, ANNOTATION_CLUSTER_NAMESPACE) == Some(contract_namespace)
}

/// Whether a copy of a bound object at the provider is this contract's. Without the annotation it is nobody's.
pub fn is_bound_copy(object: &Value, contract_namespace: &str) -> bool {
    annotation(object, ANNOTATION_CLUSTER_NAMESPACE) == Some(contract_namespace)
}

fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get("labels")?.get(key)?.as_str()
}

fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get("annotations")?.get(key)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn a_secret_crosses_without_its_machinery() {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": {"token": "eA=="}, "immutable": true,
            "metadata": {"name": "db-token", "namespace": "p", "uid": "u", "resourceVersion": "5", "generation": 1,
                "ownerReferences": [{"uid": "o"}], "finalizers": ["f"], "managedFields": [{}],
                "labels": {"app": "m", "app.kubernetes.io/name": "x", "kube-bind.io/owner": "provider",
                    "argocd.argoproj.io/instance": "a", "claimed.internal.apis.kcp.io/x": "y"},
                "annotations": {"note": "n", "kubectl.kubernetes.io/last-applied-configuration": "{}", "kcp.io/cluster": "c"}}});
        assert_eq!(
            sanitize_claimed(&secret).unwrap(),
            json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": {"token": "eA=="}, "immutable": true,
                "metadata": {"name": "db-token", "labels": {"app": "m"}, "annotations": {"note": "n"}}})
        );
    }

    #[test]
    fn a_service_crosses_as_a_name_and_ports() {
        let service = json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "prod", "labels": {"a": "b"}, "annotations": {"external-dns": "x"}},
            "spec": {"type": "ExternalName", "externalName": "as23129.eu-central-1.acmedb.com", "clusterIP": "10.0.0.1",
                "selector": {"a": "b"}, "externalIPs": [], "loadBalancerIP": "1.2.3.4", "externalTrafficPolicy": "Local",
                "ports": [{"name": "db", "port": 27017, "protocol": "TCP", "targetPort": 27017, "nodePort": 30000}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}});
        assert_eq!(
            sanitize_claimed(&service).unwrap(),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "prod"},
                "spec": {"type": "ExternalName", "externalName": "as23129.eu-central-1.acmedb.com",
                    "ports": [{"name": "db", "port": 27017, "protocol": "TCP", "targetPort": 27017}]}})
        );
    }

    #[rstest]
    #[case(json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token", "metadata": {"name": "t"}}))]
    #[case(json!({"apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token", "metadata": {"name": "t"}}))]
    #[case(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"externalIPs": ["1.2.3.4"]}}))]
    #[case(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}))]
    #[case(json!({"apiVersion": "evil/v1", "kind": "Secret", "metadata": {"name": "p"}}))]
    #[case(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {}}))]
    #[case(json!("nothing"))]
    fn some_things_never_cross(#[case] object: Value) {
        assert!(sanitize_claimed(&object).is_err());
    }

    #[test]
    fn the_providers_own_secrets_stay() {
        let mut object = json!({"kind": "Secret", "metadata": {"name": "root-password",
            "ownerReferences": [{"uid": "operator"}]}});
        let referrers: BTreeSet<&str> = ["copy-of-prod"].into();
        let refusal = meant_for_consumer(&object, &referrers, false).unwrap_err().to_string();
        assert!(refusal.contains("root-password") && refusal.contains("kube-bind.io/owner"), "{refusal}");
        assert!(meant_for_consumer(&object, &referrers, true).is_ok());
        object["metadata"]["labels"] = json!({"kube-bind.io/owner": "provider"});
        assert!(meant_for_consumer(&object, &referrers, false).is_ok());
        object["metadata"] = json!({"name": "db-token", "ownerReferences": [{"uid": "x"}, {"uid": "copy-of-prod"}]});
        assert!(meant_for_consumer(&object, &referrers, false).is_ok());
    }

    #[test]
    fn ours_is_what_says_so() {
        let copy = json!({"metadata": {"labels": {"kube-bind.io/owner": "provider", "kube-bind.io/binding": "acmedb"},
            "annotations": {"kube-bind.io/binding-uid": "u1"}}});
        assert!(is_consumer_copy(&copy, "acmedb", Some("u1")));
        assert!(is_consumer_copy(&copy, "acmedb", None));
        assert!(!is_consumer_copy(&copy, "acmedb", Some("u2")));
        assert!(!is_consumer_copy(&copy, "other", Some("u1")));
        assert!(!is_consumer_copy(&json!({"metadata": {}}), "acmedb", None));
        let copy = json!({"metadata": {"labels": {"kube-bind.io/owner": "consumer"}, "annotations": {"kube-bind.io/cluster-namespace": "c"}}});
        assert!(is_provider_copy(&copy, "c") && !is_provider_copy(&copy, "d"));
        assert!(is_bound_copy(&copy, "c") && !is_bound_copy(&json!({}), "c"));
    }

    #[test]
    fn keys() {
        for key in ["a", "example.com/a", "notkubernetes.io/a", "foo"] {
            assert!(key_may_cross(key), "{key}");
        }
        for key in [
            "kubernetes.io/a",
            "node.kubernetes.io/a",
            "app.kubernetes.io/name",
            "x.k8s.io/a",
            "meta.helm.sh/release-name",
        ] {
            assert!(!key_may_cross(key), "{key}");
        }
        assert!(bound_key_may_cross("app.kubernetes.io/name"));
        assert!(!bound_key_may_cross("app.kubernetes.io/managed-by"));
        assert!(!bound_key_may_cross("kubectl.kubernetes.io/last-applied-configuration"));
    }
}
