//! `APIServiceBinding`: the consumer's side of a bound API. The CLI or a person writes the spec, the agent the status.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::claim::{PermissionClaim, StatedClaim};
use crate::conditions::Condition;
use crate::refs::{ClusterSecretKeyRef, GroupResource};

/// Which API is bound, with which credential, and what of the provider's claims is accepted.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kube-bind.io",
    version = "v1alpha2",
    kind = "APIServiceBinding",
    plural = "apiservicebindings",
    singular = "apiservicebinding",
    shortname = "sb",
    shortname = "apibindings",
    shortname = "apibinding",
    category = "kube-bindings",
    status = "APIServiceBindingStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Binds an API that an APIServiceExport at a provider offers into this consumer cluster. It has the export's name.",
    printcolumn(name = "Export", type_ = "string", json_path = ".spec.reference.export.url"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Provider", type_ = "string", json_path = ".status.providerPrettyName", priority = 1),
    printcolumn(
        name = "Resources",
        type_ = "string",
        json_path = ".metadata.annotations.kube-bind\\.io/resources",
        priority = 1
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct APIServiceBindingSpec {
    /// The Secret with the kubeconfig of the contract.
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "kubeconfigSecretRef is immutable"}]))]
    pub kubeconfig_secret_ref: ClusterSecretKeyRef,
    /// Addition. What the user bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<BindingReference>,
    /// Addition. Whole claims with the consumer's decision; a claim of the export that is not here is pending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permission_claims: Vec<StatedClaim>,
    /// Addition. What unbinding does with objects; absent: `Orphan`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
}

impl APIServiceBindingSpec {
    /// The URL that was bound, as shown to people.
    pub fn export_url(&self) -> Option<&str> {
        self.reference.as_ref()?.export.as_ref()?.url.as_deref()
    }

    /// What unbinding does.
    pub fn deletion_policy(&self) -> DeletionPolicy {
        self.deletion_policy.unwrap_or_default()
    }
}

/// What a binding refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BindingReference {
    /// The export.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<ExportReference>,
}

/// How the user named an export.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExportReference {
    /// URL as typed, without query and trailing slash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// What unbinding does with the objects of the bound kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// Leave objects and copies on both sides.
    #[default]
    Orphan,
    /// Delete each object properly on both sides.
    Delete,
}

/// What the agent says about a binding.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct APIServiceBindingStatus {
    /// Name of the provider for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_pretty_name: Option<String>,
    /// Kinds that are bound.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1))]
    pub bound_schemas: Vec<GroupResource>,
    /// The claims of the export.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permission_claims: Vec<PermissionClaim>,
    /// Addition. In one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<BindingPhase>,
    /// Addition. Kinds that are bound, with the schema they have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bound_resources: Vec<BoundResource>,
    /// Observations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// State of a binding in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BindingPhase {
    /// Not there yet.
    Pending,
    /// API served and syncing.
    Connected,
    /// The provider does not answer.
    Disconnected,
    /// Another cluster holds this contract.
    ClaimedElsewhere,
    /// Needs a person.
    Failed,
}

/// A bound kind and the published schema that it has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BoundResource {
    /// API group.
    #[serde(default)]
    pub group: String,
    /// Plural name.
    pub resource: String,
    /// Immutable name of the schema, for example `v1-48f0….acmedbs.acmedb.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_revision: Option<String>,
}
