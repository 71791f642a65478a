//! `ClusterBinding`: one consumer at the provider, named `cluster` in its contract namespace. The backend writes the
//! spec, the agent its heartbeat into the status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::conditions::Condition;
use crate::refs::{LocalSecretKeyRef, LocalSecretRef};

/// The consumer's credential and the cluster the contract is pinned to.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kube-bind.io",
    version = "v1alpha2",
    kind = "ClusterBinding",
    plural = "clusterbindings",
    singular = "clusterbinding",
    category = "kube-bindings",
    namespaced,
    status = "ClusterBindingStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Represents a consumer cluster at the provider. There is one in a contract namespace, named cluster.",
    printcolumn(name = "Konnector Version", type_ = "string", json_path = ".status.konnectorVersion"),
    printcolumn(name = "Last Heartbeat", type_ = "date", json_path = ".status.lastHeartbeatTime"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Consumer", type_ = "string", json_path = ".spec.consumerClusterUID", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterBindingSpec {
    /// The Secret with the consumer's kubeconfig.
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "kubeconfigSecretRef is immutable"}]))]
    pub kubeconfig_secret_ref: LocalSecretKeyRef,
    /// Name of the provider for people.
    #[schemars(length(min = 1))]
    pub provider_pretty_name: String,
    /// Free form; unused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "serde_json::Map<String, Value>", extend("x-kubernetes-preserve-unknown-fields" = true))]
    pub service_provider_spec: Option<Value>,
    /// Addition. UID of the cluster (its `kube-system` namespace) that this contract belongs to.
    #[serde(rename = "consumerClusterUID", default, skip_serializing_if = "Option::is_none")]
    pub consumer_cluster_uid: Option<String>,
    /// Addition. UID of a cluster to which the provider lets the contract move.
    #[serde(rename = "approvedClusterUID", default, skip_serializing_if = "Option::is_none")]
    pub approved_cluster_uid: Option<String>,
}

/// What the agent and the backend say about a consumer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterBindingStatus {
    /// When the agent last said that it lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_heartbeat_time: Option<Time>,
    /// How often it means to, a Go duration (`5m0s`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_interval: Option<String>,
    /// Version of the agent, `unknown` if it does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub konnector_version: Option<String>,
    /// Where the agent keeps the credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer_secret_ref: Option<LocalSecretRef>,
    /// Addition. UID of the cluster from which the last heartbeat came.
    #[serde(rename = "consumerClusterUID", default, skip_serializing_if = "Option::is_none")]
    pub consumer_cluster_uid: Option<String>,
    /// Observations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
