//! `BindableResourcesRequest`: body of `POST /api/bind`, and a kind of its own where the backend runs without its HTTP
//! API.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition as MetaCondition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kinds::collection::TemplateRef;
use crate::kinds::request::RequestPhase;
use crate::refs::{ClusterIdentity, LocalSecretKeyRef};

/// Which offering, for which consumer.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kube-bind.io",
    version = "v1alpha2",
    kind = "BindableResourcesRequest",
    plural = "bindableresourcesrequests",
    singular = "bindableresourcesrequest",
    category = "kube-bindings",
    namespaced,
    status = "BindableResourcesRequestStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Asks for a contract with the template's resources. The answer is a BindingResourceResponse.",
    printcolumn(name = "Template", type_ = "string", json_path = ".spec.templateRef.name"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct BindableResourcesRequestSpec {
    /// The offering.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_ref: Option<TemplateRef>,
    /// The consumer.
    #[serde(default)]
    #[schemars(extend("default" = null))]
    pub cluster_identity: ClusterIdentity,
    /// Who asks, for the audit.
    #[serde(default)]
    #[schemars(extend("default" = null))]
    pub author: String,
    /// Where the answer goes; absent: Secret `<name>-binding-response`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig_secret_ref: Option<LocalSecretKeyRef>,
    /// How long the request stays after it was answered, a Go duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_after_finished: Option<String>,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BindableResourcesRequestStatus {
    /// In one word.
    #[serde(default)]
    #[schemars(extend("default" = "Pending"))]
    pub phase: RequestPhase,
    /// The contract namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Where the credential is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig_secret_ref: Option<LocalSecretKeyRef>,
    /// When it was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// Observations, in the metav1 dialect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<MetaCondition>,
}
