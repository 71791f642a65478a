//! Objects in memory, for unit tests of authorisation and of the controllers.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;

use crate::request::{ObjectReader, UserInfo};

type Key = (String, String, String, String, String);

/// A store without history.
#[derive(Default)]
pub(crate) struct Objects(Mutex<BTreeMap<Key, Arc<Value>>>);

impl Objects {
    /// Stores an object under its own namespace and name.
    pub(crate) fn put(&self, cluster: &str, group: &str, resource: &str, object: Value) {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or("").to_owned();
        let key = (cluster.into(), group.into(), resource.into(), text("namespace"), text("name"));
        self.0.lock().insert(key, Arc::new(object));
    }

    /// Removes an object.
    pub(crate) fn delete(&self, cluster: &str, group: &str, resource: &str, namespace: &str, name: &str) {
        self.0.lock().remove(&(cluster.into(), group.into(), resource.into(), namespace.into(), name.into()));
    }
}

impl ObjectReader for Objects {
    fn get(&self, cluster: &str, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.0.lock().get(&(cluster.into(), group.into(), resource.into(), namespace.into(), name.into())).cloned()
    }

    fn list(&self, cluster: &str, group: &str, resource: &str, namespace: Option<&str>) -> Vec<Arc<Value>> {
        self.0
            .lock()
            .iter()
            .filter(|((c, g, r, n, _), _)| {
                c == cluster && g == group && r == resource && namespace.is_none_or(|wanted| n == wanted)
            })
            .map(|(_, object)| object.clone())
            .collect()
    }
}

/// The user that a ServiceAccount of logical cluster `c` is.
pub(crate) fn service_account(namespace: &str, name: &str) -> UserInfo {
    UserInfo { cluster: Some("c".into()), ..crate::auth::service_account::user(namespace, name, "uid-1") }
}

/// A fixed time.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}
