//! `APIServiceExport`: what one consumer was granted. The backend writes the spec, backend and agent the status.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::claim::{PermissionClaim, StatedClaim};
use crate::conditions::Condition;
use crate::refs::ExportedResource;

/// Exported kinds, claims, and how consumers are kept apart.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kube-bind.io",
    version = "v1alpha2",
    kind = "APIServiceExport",
    plural = "apiserviceexports",
    singular = "apiserviceexport",
    category = "kube-bindings",
    namespaced,
    status = "APIServiceExportStatus",
    derive = "PartialEq",
    doc = "An API that this provider grants to one consumer. Its name is that of the request and of the consumer's binding.",
    printcolumn(
        name = "Established",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Established\")].status",
        priority = 5
    ),
    printcolumn(name = "Resources", type_ = "string", json_path = ".spec.resources[*].resource", priority = 1),
    printcolumn(
        name = "Consumer",
        type_ = "string",
        json_path = ".metadata.annotations.backend\\.kube-bind\\.io/author",
        priority = 1
    ),
    printcolumn(
        name = "Connected",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Connected\")].status",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct APIServiceExportSpec {
    /// Exported kinds.
    #[schemars(length(min = 1), extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "resources are immutable"}]))]
    pub resources: Vec<ExportedResource>,
    /// What the provider asks for beyond them. May change: a claim that comes later waits for the consumer's word.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permission_claims: Vec<PermissionClaim>,
    /// Whether the agent may watch all namespaces of the provider or only mapped ones.
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "informerScope is immutable"}]))]
    pub informer_scope: InformerScope,
    /// How consumers' objects are kept apart.
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "isolation is immutable"}]))]
    pub isolation: Isolation,
    /// Deprecated, ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "clusterScopedIsolation is immutable"}]))]
    pub cluster_scoped_isolation: Option<Isolation>,
}

/// Where the agent may watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum InformerScope {
    /// All namespaces at once.
    Cluster,
    /// Mapped namespaces one by one.
    #[default]
    Namespaced,
}

/// How objects of several consumers are kept apart at the provider (reference §4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Isolation {
    /// Mapped namespaces and names start with the contract namespace.
    #[default]
    Prefixed,
    /// Cluster-scoped consumer objects live in the contract namespace.
    Namespaced,
    /// Not at all.
    None,
}

/// What backend and agent say about an export.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct APIServiceExportStatus {
    /// Addition. Claims with the consumer's decision, as the agent reports them; the agent's rights follow the accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permission_claims: Vec<StatedClaim>,
    /// Observations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
