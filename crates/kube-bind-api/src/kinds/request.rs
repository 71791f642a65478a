//! `APIServiceExportRequest`: asks the provider for an export. The CLI (with the contract's credential) or the backend
//! writes it, the backend answers in the status.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::claim::StatedClaim;
use crate::conditions::Condition;
use crate::refs::{ExportedResource, NamespaceName};

/// Which kinds are asked for, and what the consumer has agreed to.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kube-bind.io",
    version = "v1alpha2",
    kind = "APIServiceExportRequest",
    plural = "apiserviceexportrequests",
    singular = "apiserviceexportrequest",
    category = "kube-bindings",
    namespaced,
    status = "APIServiceExportRequestStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Asks the provider for an APIServiceExport of the same name. May be removed by the provider after a while.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct APIServiceExportRequestSpec {
    /// Free form; unused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "serde_json::Map<String, Value>", extend("x-kubernetes-preserve-unknown-fields" = true, "x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "parameters are immutable"}]))]
    pub parameters: Option<Value>,
    /// Kinds asked for.
    #[schemars(length(min = 1), extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "resources are immutable"}]))]
    pub resources: Vec<ExportedResource>,
    /// Claims of the offering; `state` is the consent of a reviewed file. The provider fills them from its template,
    /// whatever stands here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "permissionClaims are immutable"}]))]
    pub permission_claims: Vec<StatedClaim>,
    /// Consumer namespaces that the provider wants from the start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "namespaces are immutable"}]))]
    pub namespaces: Vec<NamespaceName>,
    /// Whether published schemas follow the provider's CRDs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Never", "x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "schemaUpdatePolicy is immutable"}]))]
    pub schema_update_policy: Option<SchemaUpdatePolicy>,
}

/// Whether published schemas follow the provider's CRDs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SchemaUpdatePolicy {
    /// Frozen at the first bind.
    #[default]
    Never,
    /// Follow.
    Always,
}

/// The provider's answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct APIServiceExportRequestStatus {
    /// In one word.
    #[serde(default)]
    #[schemars(extend("default" = "Pending"))]
    pub phase: RequestPhase,
    /// Why it failed, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal_message: Option<String>,
    /// Observations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// State of a request in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RequestPhase {
    /// Not decided.
    #[default]
    Pending,
    /// Refused for good.
    Failed,
    /// Granted.
    Succeeded,
}
