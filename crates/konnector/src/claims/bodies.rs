//! Bodies of copies. In: an object of one side, already fit to cross. Out: what our apply says on the other side, with the
//! marks by which a copy is known. What may cross at all is decided by `contract::safety`.

use contract::Claim;
use contract::safety::{Refusal, is_consumer_copy, sanitize_claimed};
use kube_bind_api::constants::{
    ANNOTATION_CLUSTER_NAMESPACE, ANNOTATION_CONSUMER_NAMESPACE, ANNOTATION_CONSUMER_UID,
    ANNOTATION_PROVIDER_NAMESPACE, ANNOTATION_PROVIDER_UID, FIELD_MANAGER, LABEL_BINDING, LABEL_OWNER, OWNER_CONSUMER,
    OWNER_PROVIDER,
};
use serde_json::{Value, json};

use crate::sync::{body::owned_digest, claims::ItemSummary, fields};

/// The copy at the consumer of a provider's object.
pub fn here(object: &Value, binding: &str, namespace: &str) -> Result<Value, Refusal> {
    let mut body = sanitize_claimed(object)?;
    let metadata = &mut body["metadata"];
    metadata["namespace"] = json!(namespace);
    metadata["labels"][LABEL_OWNER] = json!(OWNER_PROVIDER);
    metadata["labels"][LABEL_BINDING] = json!(binding);
    metadata["annotations"][ANNOTATION_PROVIDER_NAMESPACE] = object["metadata"]["namespace"].clone();
    metadata["annotations"][ANNOTATION_PROVIDER_UID] = object["metadata"]["uid"].clone();
    Ok(body)
}

/// The copy at the provider of a consumer's object; the provider's namespace is not part of what is compared.
pub fn there(object: &Value, contract_namespace: &str, namespace: Option<&str>) -> Result<Value, Refusal> {
    let mut body = sanitize_claimed(object)?;
    let metadata = &mut body["metadata"];
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    metadata["labels"][LABEL_OWNER] = json!(OWNER_CONSUMER);
    metadata["annotations"][ANNOTATION_CLUSTER_NAMESPACE] = json!(contract_namespace);
    metadata["annotations"][ANNOTATION_CONSUMER_NAMESPACE] = object["metadata"]["namespace"].clone();
    metadata["annotations"][ANNOTATION_CONSUMER_UID] = object["metadata"]["uid"].clone();
    Ok(body)
}

/// Built-in kinds come in lists without `apiVersion` and `kind`.
pub fn with_kind(object: &Value, kind: &str) -> Value {
    let mut object = object.clone();
    object["apiVersion"] = json!("v1");
    object["kind"] = json!(kind);
    object
}

/// Summary of an object of a claimed kind at the consumer.
pub fn summary(
    object: &Value,
    kind: &str,
    binding: &str,
    contract_namespace: &str,
    resource: &str,
    claims: &[Claim],
) -> ItemSummary {
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    let copy = is_consumer_copy(object, binding, None);
    let travels_there = claims.iter().any(|c| c.resource().resource == resource && c.direction().to_provider());
    let labels = &object["metadata"]["labels"];
    let by_label = claims
        .iter()
        .enumerate()
        .filter(|(_, claim)| {
            claim.resource().resource == resource && claim.labels().is_some_and(|selector| selector.matches(labels))
        })
        .filter_map(|(index, _)| u16::try_from(index).ok())
        .collect();
    ItemSummary {
        uid: text("uid"),
        revision: text("resourceVersion"),
        deleting: object["metadata"]["deletionTimestamp"].is_string(),
        copy,
        source_uid: object["metadata"]["annotations"][ANNOTATION_PROVIDER_UID].as_str().map(Into::into),
        owned: copy.then(|| fields::owned(object, FIELD_MANAGER, None).map(|o| owned_digest(&o))).flatten(),
        content: (!copy && travels_there)
            .then(|| there(&with_kind(object, kind), contract_namespace, None).ok().map(|b| owned_digest(&b)))
            .flatten(),
        by_label,
    }
}
