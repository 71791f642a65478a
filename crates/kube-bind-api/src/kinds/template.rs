//! `APIServiceExportTemplate`: one offering of a provider's catalogue. An administrator writes it, the backend reads it.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::claim::PermissionClaim;
use crate::conditions::Condition;
use crate::kinds::request::SchemaUpdatePolicy;
use crate::refs::{ExportedResource, NamespaceName};

/// What is offered and what the provider asks for.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kube-bind.io",
    version = "v1alpha2",
    kind = "APIServiceExportTemplate",
    plural = "apiserviceexporttemplates",
    singular = "apiserviceexporttemplate",
    category = "kube-bind",
    status = "APIServiceExportTemplateStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "An offering: kinds that can be bound together, with the claims that go with them.",
    printcolumn(name = "Resources", type_ = "string", json_path = ".spec.resources[*].group"),
    printcolumn(name = "PermissionClaims", type_ = "string", json_path = ".spec.permissionClaims[*].resource"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct APIServiceExportTemplateSpec {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// `Cluster` or `Namespaced`; informational.
    pub scope: String,
    /// Offered kinds.
    #[schemars(length(min = 1))]
    pub resources: Vec<ExportedResource>,
    /// What the provider asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permission_claims: Vec<PermissionClaim>,
    /// Consumer namespaces that the provider wants from the start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<NamespaceName>,
    /// Whether published schemas follow the provider's CRDs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Never"))]
    pub schema_update_policy: Option<SchemaUpdatePolicy>,
    /// Addition. A sample object for the bind page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "serde_json::Map<String, Value>", extend("x-kubernetes-preserve-unknown-fields" = true))]
    pub example: Option<Value>,
    /// Addition. Claimed kinds are readable in the whole mapped namespace (label claims and Go agents need it).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_namespaces: Option<bool>,
    /// Addition. Consumers share cluster-scoped objects of the provider, on purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_cluster_scope: Option<bool>,
}

/// What the backend says about an offering.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct APIServiceExportTemplateStatus {
    /// Observations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
