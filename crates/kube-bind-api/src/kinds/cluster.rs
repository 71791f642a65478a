//! `Cluster`: stands for the provider cluster itself; RBAC objects of the backend hang off it. Name `default`.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;

/// Empty.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kube-bind.io",
    version = "v1alpha2",
    kind = "Cluster",
    plural = "clusters",
    singular = "cluster",
    category = "kube-bind",
    status = "ClusterStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Represents this provider cluster; there is one, named default.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status")
)]
pub struct ClusterSpec {}

/// What the backend says about its cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterStatus {
    /// Observations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
