//! Whose contract this is. In: the provider's `ClusterBinding`, our cluster's uid. Out: whether anything may move.

use contract::identity::Pin;
use kube_bind_api::ClusterBindingSpec;
use serde_json::Value;

/// What the pin of a `ClusterBinding` says about the cluster of this uid. One that cannot be read belongs to nobody we
/// know: nothing moves.
pub fn check(cluster_binding: &Value, uid: &str) -> Pin {
    match serde_json::from_value::<ClusterBindingSpec>(cluster_binding["spec"].clone()) {
        Ok(spec) => Pin::check(&spec, uid),
        Err(_) => Pin::ClaimedElsewhere { pinned: "(unreadable ClusterBinding)".into() },
    }
}

/// Whether the contract is this cluster's and objects may move.
pub fn holds(cluster_binding: &Value, uid: &str) -> bool {
    check(cluster_binding, uid).may_sync()
}
