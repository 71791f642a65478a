//! `APIServiceNamespace`: maps a consumer namespace (its name) to a provider namespace. The agent creates it, the
//! backend makes the namespace and keeps the list of claimed objects.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::claim::ClaimOwner;
use crate::conditions::Condition;

/// Empty; may be absent on the wire.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kube-bind.io",
    version = "v1alpha2",
    kind = "APIServiceNamespace",
    plural = "apiservicenamespaces",
    singular = "apiservicenamespace",
    category = "kube-bindings",
    namespaced,
    status = "APIServiceNamespaceStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Maps the consumer's namespace of this name to a namespace of this provider.",
    printcolumn(name = "Namespace", type_ = "string", json_path = ".status.namespace"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(from = "Option<NoFields>")]
#[schemars(with = "NoFields")]
pub struct APIServiceNamespaceSpec {}

/// Reading through an option makes an absent `spec` the empty one.
#[derive(Deserialize, JsonSchema)]
struct NoFields {}

impl From<Option<NoFields>> for APIServiceNamespaceSpec {
    fn from(_: Option<NoFields>) -> Self {
        Self {}
    }
}

/// Where the namespace is mapped to and which claimed objects are there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct APIServiceNamespaceStatus {
    /// The provider's namespace; set only after the agent's rights in it are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Addition. Claimed objects in that namespace, at most 2,000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claimed_objects: Vec<ClaimedObject>,
    /// Addition. Observations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// One claimed object in a mapped namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimedObject {
    /// API group; empty for the core group.
    #[serde(default)]
    pub group: String,
    /// Plural name of its kind.
    pub resource: String,
    /// Its name (the same on both sides).
    pub name: String,
    /// Who creates it; absent: whoever has it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<ClaimOwner>,
    /// UID of the provider's object; absent: granted, may be created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Its revision; changes with every change of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// The object with this `uid` was deleted at the provider: evidence, unlike an entry that merely vanished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<bool>,
}
