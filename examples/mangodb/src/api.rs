//! `MongoDB`, the customer's order and its state. The schema is `manifests/crd.yaml`; these are the same shapes in Rust.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use serde::{Deserialize, Serialize};

#[derive(CustomResource, Clone, Debug, Serialize, Deserialize)]
#[kube(
    group = "mangodb.com",
    version = "v1alpha1",
    kind = "MongoDB",
    plural = "mangodbs",
    singular = "mangodb",
    namespaced,
    status = "MongoDBStatus",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MongoDBSpec {
    pub(crate) tier: String,
    pub(crate) region: String,
    #[serde(default)]
    pub(crate) backup: bool,
    pub(crate) token_secret: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MongoDBStatus {
    #[serde(default)]
    pub(crate) phase: String,
    #[serde(default)]
    pub(crate) size: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) observed_generation: Option<i64>,
    #[serde(default)]
    pub(crate) conditions: Vec<Condition>,
}
