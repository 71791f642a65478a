//! Giving back a contract that came to nothing: somebody went through the pages, saw what the provider claims, and said no.
//!
//! In: the contract's namespace and the credential that was just handed out for it. Out: the contract is gone, if nobody
//! can miss it: its credential was handed out only this once, its agent was never heard of, nothing was asked for with it,
//! and no export before has left objects in it. Whoever holds the credential may end the contract anyway, by ending its exports; nothing more is possible here.
//! Called by `http::api`; what it relies on is noted by [`crate::contracts`].

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube_bind_api::constants::{CLUSTER_BINDING, KUBE_BINDER};
use kube_bind_api::{APIServiceExport, APIServiceExportRequest, ClusterBinding};
use kube_client::{Api, ApiError, ListQuery, ObjectKey, Subresource};
use serde_json::{Value, json};

use crate::contracts::MANAGER;
use crate::controllers::rights::ANNOTATION_KINDS;
use crate::resources;

/// Annotation on a `ClusterBinding`: how often its credential was handed out. There only while that is once.
pub const ANNOTATION_ISSUED: &str = "backend.kube-bind.io/issued";
/// Its value.
pub const ONCE: &str = "once";

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// The contract is gone, or going.
    Gone,
    /// It is in use, or may be.
    Kept,
    /// There is no such contract with this credential.
    Unknown,
}

/// Notes that the credential is handed out once more.
///
/// # Errors
/// Those of the API server.
pub async fn issued_again(api: &Api, namespace: &str, binding: &Value) -> Result<(), ApiError> {
    if binding["metadata"]["annotations"][ANNOTATION_ISSUED].is_null() {
        return Ok(());
    }
    let patch = json!({"metadata": {"annotations": {ANNOTATION_ISSUED: null}}});
    let key = ObjectKey::new(namespace, CLUSTER_BINDING);
    api.merge_patch(&resources::of::<ClusterBinding>(), &key, Subresource::Main, &patch, MANAGER).await.map(|_| ())
}

/// Ends the contract if nobody can miss it.
///
/// # Errors
/// Those of the API server.
pub async fn release(api: &Api, namespace: &str, credential: &str) -> Result<Released, ApiError> {
    let account = match api.get_opt(&resources::secrets(), &ObjectKey::new(namespace, KUBE_BINDER)).await {
        Ok(Some(secret)) => secret,
        // Not ours to look into: not a contract's namespace.
        Ok(None) => return Ok(Released::Unknown),
        Err(err) if err.is_forbidden() => return Ok(Released::Unknown),
        Err(err) => return Err(err),
    };
    let token = account["data"]["token"].as_str().and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
    if token.is_empty() || verify_slices_are_equal(&token, credential.as_bytes()).is_err() {
        return Ok(Released::Unknown);
    }
    let key = ObjectKey::new(namespace, CLUSTER_BINDING);
    let Some(binding) = api.get_opt(&resources::of::<ClusterBinding>(), &key).await? else {
        return Ok(Released::Unknown);
    };
    let query = ListQuery::namespace(namespace);
    let exports = api.list(&resources::of::<APIServiceExport>(), &query).await?;
    let requests = api.list(&resources::of::<APIServiceExportRequest>(), &query).await?;
    let there = ObjectKey::cluster(namespace);
    let live = api.get_opt(&resources::namespaces(), &there).await?.unwrap_or_default();
    if !unused(&binding) || lodged(&live) || !exports.is_empty() || !requests.is_empty() {
        return Ok(Released::Kept);
    }
    if let Some(uid) = live["metadata"]["uid"].as_str() {
        api.delete(&resources::namespaces(), &there, uid).await?;
    }
    tracing::info!(namespace, "contract given back, nothing was bound with it");
    Ok(Released::Gone)
}

/// Whether the one who holds the credential is the only one who ever got it, and no agent used it.
fn unused(binding: &Value) -> bool {
    binding["metadata"]["annotations"][ANNOTATION_ISSUED] == ONCE && binding["status"]["lastHeartbeatTime"].is_null()
}

/// Whether objects of a consumer have lain in the namespace: an unbind may have left them there, and whoever revokes the
/// contract then and opens it again has a credential that was handed out once.
fn lodged(namespace: &Value) -> bool {
    namespace["metadata"]["annotations"][ANNOTATION_KINDS].as_str().is_some_and(|kinds| !kinds.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_handed_out_once_and_never_used_is_given_back() {
        let fresh = json!({"metadata": {"annotations": {ANNOTATION_ISSUED: ONCE}}, "status": {}});
        assert!(unused(&fresh));
        let mut heard = fresh.clone();
        heard["status"]["lastHeartbeatTime"] = json!("2026-01-01T00:00:00Z");
        assert!(!unused(&heard));
        assert!(!unused(&json!({"metadata": {"annotations": {}}})), "one of an earlier release, or handed out again");
    }

    #[test]
    fn what_an_unbind_has_left_in_the_contract_namespace_is_not_given_back() {
        let annotations = json!({ANNOTATION_KINDS: "widgets.example/v1/widgets/Widget"});
        assert!(lodged(&json!({"metadata": {"annotations": annotations}})));
        assert!(!lodged(&json!({"metadata": {"annotations": {}}})));
        assert!(!lodged(&json!({"metadata": {"name": "cluster-x"}})));
    }
}
