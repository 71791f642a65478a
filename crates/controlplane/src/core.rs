//! The heart that the HTTP front, the in-process API and the controllers share.
//!
//! It holds the store, the logical clusters, authorisation and the clock; [`crate::pipeline`] adds the operations.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::auth::Auth;
use crate::clusters::Clusters;
use crate::request::ObjectReader;
use crate::store::{ObjectKey, Scope, Store, TableId};

/// Where the time comes from.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// State and rules of the control plane.
pub struct Core {
    /// Objects and their history.
    pub store: Store,
    /// Logical clusters and their catalogues.
    pub clusters: Arc<Clusters>,
    /// Who may do what.
    pub auth: Auth,
    /// The time.
    pub clock: Clock,
}

impl Core {
    /// The time.
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }
}

/// Resources whose few small objects are read on nearly every request.
fn is_hot(group: &str) -> bool {
    group == "rbac.authorization.k8s.io"
}

impl ObjectReader for Core {
    fn get(&self, cluster: &str, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let object = self.store.get(&TableId::new(group, resource), &ObjectKey::new(cluster, namespace, name))?;
        Some(if is_hot(group) { object.shared_value() } else { Arc::new(object.to_value()) })
    }

    fn list(&self, cluster: &str, group: &str, resource: &str, namespace: Option<&str>) -> Vec<Arc<Value>> {
        let scope = match namespace {
            Some(namespace) => Scope::Namespace(cluster.into(), namespace.into()),
            None => Scope::Cluster(cluster.into()),
        };
        let listed = self.store.list(&TableId::new(group, resource), &scope).objects;
        let value = |o: Arc<crate::store::StoredObject>| match is_hot(group) {
            true => o.shared_value(),
            false => Arc::new(o.to_value()),
        };
        listed.into_iter().map(value).collect()
    }
}
