//! What the agent keeps of an object: a few dozen bytes. In: an object with the event that brought it. Out: summaries for
//! [`super::decide`]. Bodies are not kept.

use apimachinery::schema::Structural;
use kube_bind_api::constants::{
    ANNOTATION_CLUSTER_NAMESPACE, ANNOTATION_CONSUMER_NAMESPACE, ANNOTATION_CONSUMER_UID,
    ANNOTATION_PROVIDER_NAMESPACE, FIELD_MANAGER, FINALIZER,
};
use serde_json::Value;

use super::{
    ConsumerKey,
    body::{Origin, desired, owned_digest},
    digest::Digest,
    fields,
    status::StatusKey,
};

/// The consumer's object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerSummary {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub revision: String,
    /// `metadata.generation`, 0 where there is none.
    pub generation: i64,
    /// Has a deletion timestamp.
    pub deleting: bool,
    /// Has our finalizer.
    pub finalizer: bool,
    /// Has finalizers of others.
    pub other_finalizers: bool,
    /// Value of the annotation that says where the copy is.
    pub provider_namespace: Option<String>,
    /// Digest of what we want at the provider.
    pub desired: Digest,
    /// The status it shows.
    pub status: StatusKey,
    /// Names that it refers to, by claim (index in the export's list).
    pub references: Box<[(u16, Box<str>)]>,
}

/// The provider's copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderSummary {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub revision: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// Has a deletion timestamp.
    pub deleting: bool,
    /// Whose it is.
    pub belongs: Belongs,
    /// Digest of the part that our apply owns; `None` when we never applied.
    pub owned: Option<Digest>,
    /// Our field manager has a plain update entry (an object made by the Go agent).
    pub needs_migration: bool,
    /// Its status, in its own generations.
    pub status: StatusKey,
}

/// Whose a provider's object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Belongs {
    /// Made under this contract for the consumer's object of this key, then of this uid.
    Ours {
        /// `kube-bind.io/consumer-uid`.
        consumer_uid: String,
    },
    /// Made under another contract, or for another object.
    Other(String),
    /// Not made by an agent at all.
    Foreign,
}

fn text(object: &Value, name: &str) -> String {
    object["metadata"][name].as_str().unwrap_or_default().to_owned()
}

fn annotation<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][name].as_str()
}

/// Summary of a consumer's object.
pub fn consumer(
    object: &Value,
    contract_namespace: &str,
    schema: Option<&Structural>,
    references: Vec<(u16, Box<str>)>,
) -> ConsumerSummary {
    let key = ConsumerKey::new(
        object["metadata"]["namespace"].as_str(),
        object["metadata"]["name"].as_str().unwrap_or_default(),
    );
    let uid = text(object, "uid");
    let origin = Origin { contract_namespace, consumer: &key, uid: &uid };
    let wanted = owned_digest(&desired(object, None, origin, schema));
    let finalizers = kube_client::api::finalizers_of(object);
    ConsumerSummary {
        revision: text(object, "resourceVersion"),
        generation: object["metadata"]["generation"].as_i64().unwrap_or(0),
        deleting: object["metadata"]["deletionTimestamp"].is_string(),
        finalizer: finalizers.contains(&FINALIZER),
        other_finalizers: finalizers.iter().any(|finalizer| *finalizer != FINALIZER),
        provider_namespace: annotation(object, ANNOTATION_PROVIDER_NAMESPACE).map(Into::into),
        desired: wanted,
        status: StatusKey::of(object),
        references: references.into(),
        uid,
    }
}

/// Summary of a provider's object, as seen from the consumer's key that it maps to.
pub fn provider(
    object: &Value,
    consumer: &ConsumerKey,
    contract_namespace: &str,
    schema: Option<&Structural>,
) -> ProviderSummary {
    let belongs = match annotation(object, ANNOTATION_CLUSTER_NAMESPACE) {
        None => Belongs::Foreign,
        Some(contract) if contract != contract_namespace => Belongs::Other(contract.to_owned()),
        Some(_) => match annotation(object, ANNOTATION_CONSUMER_NAMESPACE) {
            Some(namespace) if namespace != consumer.namespace.as_deref().unwrap_or_default() => {
                Belongs::Other(format!("namespace {namespace}"))
            }
            _ => Belongs::Ours {
                consumer_uid: annotation(object, ANNOTATION_CONSUMER_UID).unwrap_or_default().to_owned(),
            },
        },
    };
    let node = schema.map(|s| s.root().as_ref());
    ProviderSummary {
        uid: text(object, "uid"),
        revision: text(object, "resourceVersion"),
        generation: object["metadata"]["generation"].as_i64().unwrap_or(0),
        deleting: object["metadata"]["deletionTimestamp"].is_string(),
        belongs,
        owned: fields::owned(object, FIELD_MANAGER, node).map(|owned| owned_digest(&owned)),
        needs_migration: fields::written_by_update(object),
        status: StatusKey::of(object),
    }
}
