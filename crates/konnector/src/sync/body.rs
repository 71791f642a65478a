//! Bodies on their way up. In: the consumer's object and where it goes. Out: what our apply at the provider says: every
//! top-level field but `metadata` and `status`, labels and annotations by policy, and the annotations that mark the copy
//! as ours.

use std::collections::BTreeMap;

use apimachinery::schema::Structural;
use contract::safety::bound_key_may_cross;
use kube_bind_api::constants::{ANNOTATION_CLUSTER_NAMESPACE, ANNOTATION_CONSUMER_NAMESPACE, ANNOTATION_CONSUMER_UID};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{ConsumerKey, ProviderKey, digest::Digest};

/// What marks a copy as made under this contract from that object.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The contract namespace.
    pub contract_namespace: &'a str,
    /// The consumer's object.
    pub consumer: &'a ConsumerKey,
    /// Its uid.
    pub uid: &'a str,
}

/// The part of labels or annotations that travels; the policy is the contract's.
pub fn travelling(values: &Value) -> Map<String, Value> {
    values
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| bound_key_may_cross(key) && value.is_string())
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// What we apply at the provider for a consumer's object. Fields that the provider's schema does not know are left out.
/// Without a target it is the same but for the name, which [`owned_digest`] does not look at.
pub fn desired(
    consumer: &Value,
    target: Option<&ProviderKey>,
    origin: Origin<'_>,
    schema: Option<&Structural>,
) -> Value {
    let mut fields: Map<String, Value> = consumer
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut annotations = travelling(&consumer["metadata"]["annotations"]);
    annotations.insert(ANNOTATION_CLUSTER_NAMESPACE.into(), json!(origin.contract_namespace));
    annotations
        .insert(ANNOTATION_CONSUMER_NAMESPACE.into(), json!(origin.consumer.namespace.as_deref().unwrap_or_default()));
    annotations.insert(ANNOTATION_CONSUMER_UID.into(), json!(origin.uid));
    let mut metadata = json!({"annotations": annotations});
    if let Some(target) = target {
        metadata["name"] = json!(target.name);
        if let Some(namespace) = &target.namespace {
            metadata["namespace"] = json!(namespace);
        }
    }
    let labels = travelling(&consumer["metadata"]["labels"]);
    if !labels.is_empty() {
        metadata["labels"] = Value::Object(labels);
    }
    fields.insert("metadata".into(), metadata);
    let mut body = Value::Object(fields);
    if let Some(schema) = schema {
        schema.prune(&mut body);
    }
    body
}

/// The same without members that are empty maps, if it has any. kube-apiserver (1.36) turns a map that an apply empties into
/// null, and then refuses the null; a map that is not applied at all goes, and can come back empty with the next apply.
pub fn without_empty_maps(body: &Value) -> Option<Value> {
    fn prune(value: &mut Value, changed: &mut bool) {
        match value {
            Value::Object(members) => {
                let before = members.len();
                members.retain(|_, member| member.as_object().is_none_or(|map| !map.is_empty()));
                *changed |= members.len() != before;
                members.values_mut().for_each(|member| prune(member, changed));
            }
            Value::Array(items) => items.iter_mut().for_each(|item| prune(item, changed)),
            _ => {}
        }
    }
    let (mut body, mut changed) = (body.clone(), false);
    prune(&mut body, &mut changed);
    changed.then_some(body)
}

/// Digest of what an apply owns: of a body that we would apply, or of the projection of a live object on our fields.
/// Identity (kind, name) is left out, and so are label and annotation maps that are empty.
pub fn owned_digest(body: &Value) -> Digest {
    /// Borrowed, because this is computed for every object that anybody changes.
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Part<'a> {
        Field(&'a Value),
        Metadata(BTreeMap<&'a str, &'a Value>),
    }
    let fields = body.as_object().into_iter().flatten();
    let fields = fields.filter(|(name, _)| !matches!(name.as_str(), "apiVersion" | "kind" | "metadata" | "status"));
    let mut parts: BTreeMap<&str, Part<'_>> = fields.map(|(name, value)| (name.as_str(), Part::Field(value))).collect();
    let values =
        |part| Some((part, &body["metadata"][part])).filter(|(_, v)| v.as_object().is_some_and(|v| !v.is_empty()));
    let metadata = ["labels", "annotations"].into_iter().filter_map(values).collect();
    parts.insert("metadata", Part::Metadata(metadata));
    Digest::of(&parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_metadata_and_status_goes_up() {
        let consumer = json!({"apiVersion": "x/v1", "kind": "T", "data": {"a": 1}, "spec": {"b": 2}, "status": {"c": 3},
            "metadata": {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7", "finalizers": ["f"],
                "labels": {"team": "red"}, "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}}});
        let key = ConsumerKey::new(Some("n"), "a");
        let origin = Origin { contract_namespace: "c", consumer: &key, uid: "u" };
        let body = desired(&consumer, Some(&ProviderKey::new(Some("c-n"), "a")), origin, None);
        assert_eq!(
            body,
            json!({"apiVersion": "x/v1", "kind": "T", "data": {"a": 1}, "spec": {"b": 2},
                "metadata": {"name": "a", "namespace": "c-n", "labels": {"team": "red"}, "annotations": {
                    "kube-bind.io/cluster-namespace": "c", "kube-bind.io/consumer-namespace": "n",
                    "kube-bind.io/consumer-uid": "u"}}})
        );
    }

    #[test]
    fn empty_maps_are_left_out_and_nothing_else() {
        let body = json!({"spec": {"tags": {}, "deep": [{"er": {}, "kept": {"a": {}}}, {}], "list": [], "none": null}});
        let less = json!({"spec": {"deep": [{"kept": {}}, {}], "list": [], "none": null}});
        assert_eq!(without_empty_maps(&body), Some(less));
        assert_eq!(without_empty_maps(&json!({"spec": {"list": [{}], "a": 1}})), None);
    }
}
