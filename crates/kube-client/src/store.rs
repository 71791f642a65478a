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

/// `metadata.resourceVersion`: opaque, but nearly always a number, and kept as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revision {
    /// Digits, as nearly all API servers write it.
    Number(u64),
    /// Anything else.
    Text(Box<str>),
}

/// The number that is written so, and in no other way: it comes out again as it went in.
pub fn plain_number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text == "0" || !text.starts_with(['0', '+']))
}

impl From<&str> for Revision {
    fn from(text: &str) -> Self {
        plain_number(text).map_or_else(|| Self::Text(text.into()), Self::Number)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// A map by key that keeps each namespace's name once.
#[derive(Clone, Debug)]
pub struct KeyMap<V> {
    namespaces: HashMap<Box<str>, HashMap<Box<str>, V>>,
    len: usize,
}

impl<V> Default for KeyMap<V> {
    fn default() -> Self {
        Self { namespaces: HashMap::new(), len: 0 }
    }
}

impl<V> KeyMap<V> {
    /// The value under a key.
    pub fn get(&self, key: &ObjectKey) -> Option<&V> {
        self.namespaces.get(key.namespace.as_str())?.get(key.name.as_str())
    }

    /// The value under a key, to change.
    pub fn get_mut(&mut self, key: &ObjectKey) -> Option<&mut V> {
        self.namespaces.get_mut(key.namespace.as_str())?.get_mut(key.name.as_str())
    }

    /// Puts a value; returns the one that was there.
    pub fn insert(&mut self, key: &ObjectKey, value: V) -> Option<V> {
        if !self.namespaces.contains_key(key.namespace.as_str()) {
            self.namespaces.insert(key.namespace.as_str().into(), HashMap::new());
        }
        let names = self.namespaces.get_mut(key.namespace.as_str())?;
        let old = match names.get_mut(key.name.as_str()) {
            Some(known) => Some(std::mem::replace(known, value)),
            None => names.insert(key.name.as_str().into(), value),
        };
        self.len += usize::from(old.is_none());
        old
    }

    /// Takes a value out; what many left behind is given back.
    pub fn remove(&mut self, key: &ObjectKey) -> Option<V> {
        let names = self.namespaces.get_mut(key.namespace.as_str())?;
        let old = names.remove(key.name.as_str())?;
        self.len -= 1;
        if names.is_empty() {
            self.namespaces.remove(key.namespace.as_str());
        } else if names.capacity() > 64 && names.len() < names.capacity() / 4 {
            names.shrink_to_fit();
        }
        Some(old)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (ObjectKey, &V)> {
        self.namespaces.iter().flat_map(|(namespace, names)| {
            names.iter().map(move |(name, value)| (ObjectKey::new(namespace, name), value))
        })
    }

    /// Keys of one namespace.
    pub fn keys_in(&self, namespace: &str) -> Vec<ObjectKey> {
        let names = self.namespaces.get(namespace).into_iter().flat_map(HashMap::keys);
        names.map(|name| ObjectKey::new(namespace, name)).collect()
    }
}

/// One known object.
#[derive(Debug)]
pub struct Entry<S> {
    /// `metadata.resourceVersion`.
    pub revision: Revision,
    /// The projection of the object.
    pub summary: S,
}

/// All objects that an informer knows, by key.
#[derive(Debug)]
pub struct Store<S> {
    entries: RwLock<KeyMap<Arc<Entry<S>>>>,
}

impl<S> Default for Store<S> {
    fn default() -> Self {
        Self { entries: RwLock::default() }
    }
}

impl<S> Store<S> {
    /// The entry under `key`.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<Entry<S>>> {
        self.entries.read().get(key).cloned()
    }

    /// All keys, in no order.
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.entries.read().iter().map(|(key, _)| key).collect()
    }

    /// All entries with their keys, in no order.
    pub fn all(&self) -> Vec<(ObjectKey, Arc<Entry<S>>)> {
        self.entries.read().iter().map(|(key, entry)| (key, entry.clone())).collect()
    }

    /// Keys of one namespace.
    pub fn keys_in(&self, namespace: &str) -> Vec<ObjectKey> {
        self.entries.read().keys_in(namespace)
    }

    /// How many objects are known.
    pub fn len(&self) -> usize {
        self.entries.read().len()
    }

    /// True when nothing is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn put(&self, key: &ObjectKey, entry: Entry<S>) -> (Option<Arc<Entry<S>>>, Arc<Entry<S>>) {
        let entry = Arc::new(entry);
        let old = self.entries.write().insert(key, entry.clone());
        (old, entry)
    }

    pub(crate) fn take(&self, key: &ObjectKey) -> Option<Arc<Entry<S>>> {
        self.entries.write().remove(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_are_opaque() {
        for text in ["0", "42", "00", "007", "+1", "-1", "", "18446744073709551616", "abc"] {
            assert_eq!(Revision::from(text).to_string(), text);
        }
        assert_eq!(Revision::from("42"), Revision::Number(42));
        assert_ne!(Revision::from("042"), Revision::from("42"));
    }

    #[test]
    fn a_map_counts_what_it_holds() {
        let mut map = KeyMap::default();
        let (a, b) = (ObjectKey::new("n", "a"), ObjectKey::cluster("a"));
        assert_eq!(map.insert(&a, 1), None);
        assert_eq!(map.insert(&b, 2), None);
        assert_eq!(map.insert(&a, 3), Some(1));
        assert_eq!((map.len(), map.get(&a), map.keys_in("n")), (2, Some(&3), vec![a.clone()]));
        assert_eq!((map.remove(&a), map.remove(&a), map.len()), (Some(3), None, 1));
        assert_eq!(map.iter().collect::<Vec<_>>(), vec![(b, &2)]);
    }
}
