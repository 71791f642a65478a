//! `TShirtClaim` in Rust; the schema is `manifests/crd.yaml`.

use std::collections::BTreeMap;

use kube::CustomResource;
use serde::{Deserialize, Serialize};

#[derive(CustomResource, Clone, Debug, Serialize, Deserialize)]
#[kube(
    group = "kubecon.kube-bind.io",
    version = "v1alpha1",
    kind = "TShirtClaim",
    plural = "tshirtclaims",
    namespaced,
    status = "TShirtClaimStatus",
    schema = "disabled"
)]
pub(crate) struct TShirtClaimSpec {
    pub(crate) size: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct TShirtClaimStatus {
    #[serde(default)]
    pub(crate) booth: String,
    #[serde(default)]
    pub(crate) code: String,
    #[serde(default)]
    pub(crate) ordered: bool,
    /// By condition name.
    #[serde(default)]
    pub(crate) conditions: BTreeMap<String, Outcome>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) message: String,
    pub(crate) reason: String,
    pub(crate) status: String,
}
