//! What an informer knows: one small entry an object, shared with readers. In: the informer's upserts and removals.
//! Out: lookups for reconcilers. The entry's payload is a projection chosen by who starts the informer.

use std::{collections::HashMap, fmt, sync::Arc};

use parking_lot::RwLock;
use serde_json::Value;

/// Namespace and name; the namespace is empty for cluster-scoped objects.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Namespace, or empty.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ObjectKey {
    /// Key of a namespaced object (or, with an empty namespace, of a cluster-scoped one).
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Key of a cluster-scoped object.
    pub fn cluster(name: &str) -> Self {
        Self::new("", name)
    }

    /// The namespace as requests want it.
    pub fn namespace(&self) -> Option<&str> {
        Some(self.namespace.as_str()).filter(|n| !n.is_empty())
    }

    /// Reads the key out of an object's metadata; `None` without a name.
    pub fn of(object: &Value) -> Option<Self> {
        let metadata = &object["metadata"];
        Some(Self::new(metadata["namespace"].as_str().unwrap_or_default(), metadata["name"].as_str()?))
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// One known object.
#[derive(Debug)]
pub struct Entry<S> {
    /// `metadata.resourceVersion`, opaque.
    pub revision: String,
    /// The projection of the object.
    pub summary: S,
}

/// All objects that an informer knows, by key.
#[derive(Debug)]
pub struct Store<S> {
    entries: RwLock<HashMap<ObjectKey, Arc<Entry<S>>>>,
}

impl<S> Default for Store<S> {
    fn default() -> Self {
        Self { entries: RwLock::new(HashMap::new()) }
    }
}

impl<S> Store<S> {
    /// The entry under `key`.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<Entry<S>>> {
        self.entries.read().get(key).cloned()
    }

    /// All keys, in no order.
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.entries.read().keys().cloned().collect()
    }

    /// All entries with their keys, in no order.
    pub fn all(&self) -> Vec<(ObjectKey, Arc<Entry<S>>)> {
        self.entries.read().iter().map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// Keys of one namespace.
    pub fn keys_in(&self, namespace: &str) -> Vec<ObjectKey> {
        self.entries.read().keys().filter(|k| k.namespace == namespace).cloned().collect()
    }

    /// How many objects are known.
    pub fn len(&self) -> usize {
        self.entries.read().len()
    }

    /// True when nothing is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn put(&self, key: ObjectKey, entry: Entry<S>) -> (Option<Arc<Entry<S>>>, Arc<Entry<S>>) {
        let entry = Arc::new(entry);
        let old = self.entries.write().insert(key, entry.clone());
        (old, entry)
    }

    pub(crate) fn take(&self, key: &ObjectKey) -> Option<Arc<Entry<S>>> {
        self.entries.write().remove(key)
    }
}
