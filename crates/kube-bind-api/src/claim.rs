//! Permission claims as they stand on the wire: what a provider asks for beyond its own kinds.
//!
//! Only the shape is here; what a claim means (matching, sentences, consent) is in crate `contract`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::refs::GroupResource;

/// Who creates a claimed object, and so the direction in which it is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ClaimOwner {
    /// The provider makes it, the consumer gets a copy.
    Provider,
    /// The consumer makes it, the provider gets a copy.
    Consumer,
}

/// What the consumer has decided about a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ClaimState {
    /// Objects may be copied.
    Accepted,
    /// Copies go, nothing crosses.
    Rejected,
    /// Nothing crosses, nothing is deleted; the same as no decision at all.
    Pending,
}

/// Asks for objects of one kind that the selector picks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PermissionClaim {
    /// API group; empty (or `core`) for the core group.
    #[serde(default)]
    #[schemars(extend("default" = "", "pattern" = "^(|[a-z0-9]([-a-z0-9]*[a-z0-9](\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?)$"))]
    pub group: String,
    /// Plural name of the resource.
    #[schemars(extend("pattern" = "^[a-z][-a-z0-9]*[a-z0-9]$"))]
    pub resource: String,
    /// Which objects. An empty selector picks nothing.
    pub selector: Selector,
    /// Addition. Who creates the object; absent: whoever has it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<ClaimOwner>,
    /// Addition. What the sentence shown to the consumer says (`create`, `read`, `update`, `delete`); no effect on rights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verbs: Vec<String>,
    /// Addition. The service does not work without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required: Option<bool>,
    /// Addition. Why the provider asks, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl PermissionClaim {
    /// The claimed kind; `core` is the empty group.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(self.group.clone(), self.resource.clone())
    }
}

/// A whole claim with the consumer's decision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatedClaim {
    /// The claim.
    #[serde(flatten)]
    pub claim: PermissionClaim,
    /// Addition. The decision; absent means pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<ClaimState>,
}

impl StatedClaim {
    /// A claim with a decision.
    pub fn new(claim: PermissionClaim, state: ClaimState) -> Self {
        Self { claim, state: Some(state) }
    }

    /// The decision, absent read as pending.
    pub fn state(&self) -> ClaimState {
        self.state.unwrap_or(ClaimState::Pending)
    }
}

/// Picks objects: an object is selected if any of the three says so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// By label. `{}` selects everything, absent nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub label_selector: Option<LabelSelector>,
    /// By name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub named_resources: Vec<NamedResource>,
    /// By what another object says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<Reference>,
}

/// One object by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct NamedResource {
    /// `metadata.name`.
    pub name: String,
    /// Consumer namespace; absent or empty: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// Objects whose name stands in another object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    /// API group of the referring kind.
    #[serde(default)]
    #[schemars(extend("default" = "", "pattern" = "^(|[a-z0-9]([-a-z0-9]*[a-z0-9](\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?)$"))]
    pub group: String,
    /// Plural name of the referring kind.
    #[schemars(extend("pattern" = "^[a-z][-a-z0-9]*[a-z0-9]$"))]
    pub resource: String,
    /// Versions in which to read the referring objects; absent: those of the export.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<String>,
    /// Where name and namespace stand.
    pub json_path: ReferencePath,
    /// Addition. Kind of the referring objects, for the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Addition. The provider vouches that whatever object has that name is meant for the consumer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_name: Option<bool>,
}

impl Reference {
    /// The referring kind.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(self.group.clone(), self.resource.clone())
    }
}

/// Paths into a referring object. With a leading `.`, `$` or `{` Kubernetes JSONPath, bare the subset of the Go release.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct ReferencePath {
    /// Path of the name (a string or a list of strings).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Path of the namespace; absent: the referring object's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}
