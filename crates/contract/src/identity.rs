//! Whose contract it is.
//!
//! A contract belongs to (issuer, subject, consumer cluster). The backend pins it in
//! `ClusterBinding.spec.consumerClusterUID`; the agent compares the pin with its own cluster before it moves anything, so
//! a copied credential moves nothing.

use kube_bind_api::ClusterBindingSpec;

use crate::names::contract_namespace;

/// The key of a contract.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContractKey {
    /// OIDC issuer.
    pub issuer: String,
    /// OIDC subject.
    pub subject: String,
    /// UID of the consumer's `kube-system` namespace.
    pub cluster_uid: String,
}

impl ContractKey {
    /// One text for the whole key. Lengths keep parts apart, so no two keys share it.
    pub fn identity(&self) -> String {
        format!("{}:{}/{}:{}/{}", self.issuer.len(), self.issuer, self.subject.len(), self.subject, self.cluster_uid)
    }

    /// Name of the contract namespace.
    pub fn namespace(&self, prefix: &str) -> String {
        contract_namespace(prefix, &self.identity())
    }
}

/// What the pin says about a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// The contract is this cluster's.
    Ours,
    /// Nobody's yet (a Go backend, or before the first contact): this cluster may take it.
    Unpinned,
    /// Another cluster's, but the provider lets it move here: the backend is to re-pin it; wait until it has.
    Approved {
        /// UID of the cluster it still belongs to.
        pinned: String,
    },
    /// Another cluster's: move nothing.
    ClaimedElsewhere {
        /// UID of that cluster.
        pinned: String,
    },
}

impl Pin {
    /// Compares the pin with a cluster's UID.
    pub fn check(spec: &ClusterBindingSpec, cluster_uid: &str) -> Self {
        let given = |uid: &Option<String>| uid.clone().filter(|uid| !uid.is_empty());
        match given(&spec.consumer_cluster_uid) {
            None => Pin::Unpinned,
            Some(pinned) if pinned == cluster_uid => Pin::Ours,
            Some(pinned) if given(&spec.approved_cluster_uid).as_deref() == Some(cluster_uid) => {
                Pin::Approved { pinned }
            }
            Some(pinned) => Pin::ClaimedElsewhere { pinned },
        }
    }

    /// Whether the agent may move objects.
    pub fn may_sync(&self) -> bool {
        matches!(self, Pin::Ours | Pin::Unpinned)
    }

    /// For the condition `ClaimedElsewhere`, with what mends it.
    pub fn message(&self, cluster_uid: &str) -> Option<String> {
        match self {
            Pin::Ours | Pin::Unpinned => None,
            Pin::Approved { pinned } => Some(format!(
                "the provider has approved that this contract moves from cluster {pinned} to this cluster \
                 ({cluster_uid}); waiting for it to do so"
            )),
            Pin::ClaimedElsewhere { pinned } => Some(format!(
                "this contract belongs to cluster {pinned}, not to this cluster ({cluster_uid}): log in from here with \
                 `kubectl bind` to move it, or ask the provider to approve the move"
            )),
        }
    }
}

/// What the backend makes of a heartbeat from a cluster: the pin to write, if any. The first cluster takes an unpinned
/// contract; an approved one takes it over, and the approval is used up (`approvedClusterUID` is to be cleared).
pub fn repin(spec: &ClusterBindingSpec, heartbeat_from: &str) -> Option<String> {
    if heartbeat_from.is_empty() {
        return None;
    }
    match Pin::check(spec, heartbeat_from) {
        Pin::Unpinned | Pin::Approved { .. } => Some(heartbeat_from.to_owned()),
        Pin::Ours | Pin::ClaimedElsewhere { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn spec(pinned: Option<&str>, approved: Option<&str>) -> ClusterBindingSpec {
        ClusterBindingSpec {
            consumer_cluster_uid: pinned.map(str::to_owned),
            approved_cluster_uid: approved.map(str::to_owned),
            ..Default::default()
        }
    }

    #[rstest]
    #[case(None, None, true, Some("me"))]
    #[case(Some(""), None, true, Some("me"))]
    #[case(Some("me"), None, true, None)]
    #[case(Some("other"), None, false, None)]
    #[case(Some("other"), Some("me"), false, Some("me"))]
    #[case(Some("other"), Some("third"), false, None)]
    fn the_pin_decides(
        #[case] pinned: Option<&str>,
        #[case] approved: Option<&str>,
        #[case] may: bool,
        #[case] write: Option<&str>,
    ) {
        let spec = spec(pinned, approved);
        let pin = Pin::check(&spec, "me");
        assert_eq!(pin.may_sync(), may);
        assert_eq!(pin.message("me").is_none(), may);
        assert_eq!(repin(&spec, "me").as_deref(), write);
        assert_eq!(repin(&spec, ""), None);
    }

    #[test]
    fn keys_are_not_confused() {
        let key = |issuer: &str, subject: &str| ContractKey {
            issuer: issuer.into(),
            subject: subject.into(),
            cluster_uid: "u".into(),
        };
        assert_ne!(key("a/1:b", "c").identity(), key("a", "1:b/c").identity());
        assert_ne!(key("a", "b").namespace("cluster-"), key("a", "c").namespace("cluster-"));
        assert!(key("a", "b").namespace("cluster-").starts_with("cluster-"));
    }
}
