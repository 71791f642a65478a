//! `APIServiceBindingBundle`: binds every export of one contract. A person writes it, the agent makes the bindings.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::refs::ClusterSecretKeyRef;

/// The credential whose contract is to be bound as a whole.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kube-bind.io",
    version = "v1alpha2",
    kind = "APIServiceBindingBundle",
    plural = "apiservicebindingbundles",
    singular = "apiservicebindingbundle",
    shortname = "sbb",
    category = "kube-bindings",
    status = "APIServiceBindingBundleStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Makes an APIServiceBinding for every APIServiceExport of a contract at a provider.",
    printcolumn(name = "Provider", type_ = "string", json_path = ".status.providerPrettyName"),
    printcolumn(
        name = "Resources",
        type_ = "string",
        json_path = ".metadata.annotations.kube-bind\\.io/resources",
        priority = 1
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct APIServiceBindingBundleSpec {
    /// The Secret with the kubeconfig of the contract.
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "kubeconfigSecretRef is immutable"}]))]
    pub kubeconfig_secret_ref: ClusterSecretKeyRef,
}

/// What the agent says about a bundle.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct APIServiceBindingBundleStatus {
    /// Addition. Name of the provider for people (the Go CRD has the column but not the field).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_pretty_name: Option<String>,
    /// Observations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
