//! A stored object: one JSON buffer and a small header, and the key it is found by.
//!
//! Flows in: a JSON value from the pipeline (as a [`Draft`], which has no revision yet) or bytes from the log. Flows out:
//! shared, immutable [`StoredObject`]s. The layout of the buffer is fixed (`apiVersion`, `kind`, `metadata` with
//! `resourceVersion` first, then the rest), so that a revision or an `apiVersion` is put in without parsing.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;

/// A stored resource: group and plural name. One table holds the objects of all logical clusters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableId {
    /// API group; empty for core.
    pub group: Arc<str>,
    /// Plural name.
    pub resource: Arc<str>,
}

impl TableId {
    /// Names a table.
    pub fn new(group: &str, resource: &str) -> Self {
        Self { group: group.into(), resource: resource.into() }
    }
}

/// Where an object lies inside its table. Order: cluster, namespace (empty for cluster scope), name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Logical cluster.
    pub cluster: Arc<str>,
    /// Namespace; empty for cluster-scoped objects.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl ObjectKey {
    /// Names an object.
    pub fn new(cluster: &str, namespace: &str, name: &str) -> Self {
        Self { cluster: cluster.into(), namespace: namespace.into(), name: name.into() }
    }
}

/// An object as committed.
pub struct StoredObject {
    /// Its key.
    pub key: ObjectKey,
    /// `metadata.resourceVersion`.
    pub revision: u64,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.labels`, sorted by key.
    pub labels: Box<[(Box<str>, Box<str>)]>,
    /// Whether `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// Digest of the schema whose defaults the object is known to have; 0 if unknown (after a restart).
    pub schema_mark: u64,
    /// The object as JSON.
    pub bytes: Bytes,
    /// The parsed form, for as long as somebody else keeps it.
    parsed: Mutex<Weak<Value>>,
}

/// An object on its way to the store: everything but the revision.
pub struct Draft {
    head: Vec<u8>,
    tail: Vec<u8>,
    header: Header,
    schema_mark: u64,
}

#[derive(Default)]
struct Header {
    uid: Box<str>,
    labels: Box<[(Box<str>, Box<str>)]>,
    deleting: bool,
}

/// What cannot be stored.
#[derive(Debug, thiserror::Error)]
#[error("an object is not valid JSON of a Kubernetes object: {0}")]
pub struct MalformedObject(String);

const REVISION_FIELD: &[u8] = br#""metadata":{"resourceVersion":""#;

impl Draft {
    /// How large the object is, as JSON.
    pub fn size(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// Prepares a JSON object. `metadata.resourceVersion` inside it is ignored. `schema_mark` is remembered.
    pub fn new(object: &Value, schema_mark: u64) -> Result<Self, MalformedObject> {
        let malformed = |what: &str| MalformedObject(what.to_owned());
        let map = object.as_object().ok_or_else(|| malformed("not a JSON object"))?;
        let metadata = map.get("metadata").and_then(Value::as_object).ok_or_else(|| malformed("no metadata"))?;
        let text = |name: &str| map.get(name).and_then(Value::as_str).unwrap_or_default();
        let write = |out: &mut Vec<u8>, value: &Value| {
            serde_json::to_writer(out, value).map_err(|e| MalformedObject(e.to_string()))
        };

        let mut head = br#"{"apiVersion":"#.to_vec();
        write(&mut head, &Value::String(text("apiVersion").to_owned()))?;
        head.extend_from_slice(br#","kind":"#);
        write(&mut head, &Value::String(text("kind").to_owned()))?;
        head.push(b',');
        head.extend_from_slice(REVISION_FIELD);

        let mut tail = Vec::with_capacity(512);
        tail.push(b'"');
        for (name, value) in metadata.iter().filter(|(name, _)| *name != "resourceVersion") {
            tail.push(b',');
            write(&mut tail, &Value::String(name.clone()))?;
            tail.push(b':');
            write(&mut tail, value)?;
        }
        tail.push(b'}');
        for (name, value) in map.iter().filter(|(n, _)| !matches!(n.as_str(), "apiVersion" | "kind" | "metadata")) {
            tail.push(b',');
            write(&mut tail, &Value::String(name.clone()))?;
            tail.push(b':');
            write(&mut tail, value)?;
        }
        tail.push(b'}');

        let labels = metadata.get("labels").and_then(Value::as_object).map(|labels| {
            labels.iter().map(|(k, v)| (k.as_str().into(), v.as_str().unwrap_or_default().into())).collect()
        });
        let header = Header {
            uid: metadata.get("uid").and_then(Value::as_str).unwrap_or_default().into(),
            labels: labels.unwrap_or_default(),
            deleting: metadata.get("deletionTimestamp").is_some_and(|t| !t.is_null()),
        };
        Ok(Self { head, tail, header, schema_mark })
    }

    /// The object at its revision.
    pub fn seal(self, key: ObjectKey, revision: u64) -> StoredObject {
        let digits = revision.to_string();
        let mut bytes = Vec::with_capacity(self.head.len() + digits.len() + self.tail.len());
        bytes.extend_from_slice(&self.head);
        bytes.extend_from_slice(digits.as_bytes());
        bytes.extend_from_slice(&self.tail);
        StoredObject {
            key,
            revision,
            uid: self.header.uid,
            labels: self.header.labels,
            deleting: self.header.deleting,
            schema_mark: self.schema_mark,
            bytes: bytes.into(),
            parsed: Mutex::default(),
        }
    }
}

#[derive(Deserialize)]
struct PartialObject<'a> {
    #[serde(borrow, default)]
    metadata: PartialMeta<'a>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PartialMeta<'a> {
    #[serde(borrow)]
    uid: std::borrow::Cow<'a, str>,
    labels: std::collections::BTreeMap<Box<str>, Box<str>>,
    deletion_timestamp: Option<&'a serde_json::value::RawValue>,
}

impl StoredObject {
    /// Reads what a log holds.
    pub fn load(key: ObjectKey, revision: u64, bytes: Bytes) -> Result<Self, MalformedObject> {
        let partial: PartialObject<'_> = serde_json::from_slice(&bytes).map_err(|e| MalformedObject(e.to_string()))?;
        let (uid, labels, deleting) = (
            partial.metadata.uid.as_ref().into(),
            partial.metadata.labels.into_iter().collect(),
            partial.metadata.deletion_timestamp.is_some(),
        );
        Ok(Self { key, revision, uid, labels, deleting, schema_mark: 0, bytes, parsed: Mutex::default() })
    }

    /// The object as a JSON value, parsed anew.
    pub fn to_value(&self) -> Value {
        // The bytes were written by `Draft` or read by `load`, which both refuse what is not JSON.
        serde_json::from_slice(&self.bytes).unwrap_or_default()
    }

    /// The object as a JSON value; the same one for as long as anybody keeps it. For small objects that are read on
    /// every request (RBAC): the authorizer keeps those it needs.
    pub fn shared_value(&self) -> Arc<Value> {
        let mut parsed = self.parsed.lock();
        if let Some(value) = parsed.upgrade() {
            return value;
        }
        let value = Arc::new(self.to_value());
        *parsed = Arc::downgrade(&value);
        value
    }

    /// A label's value.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(k, _)| **k == *name).map(|(_, v)| v.as_ref())
    }

    /// The same bytes under another revision (deletions, and objects that leave a selection).
    pub fn bytes_at(&self, revision: u64) -> Bytes {
        if revision == self.revision {
            return self.bytes.clone();
        }
        let Some(at) = find(&self.bytes, REVISION_FIELD).map(|at| at + REVISION_FIELD.len()) else {
            return self.bytes.clone();
        };
        let end = self.bytes[at..].iter().position(|b| *b == b'"').map_or(at, |n| at + n);
        let mut out = Vec::with_capacity(self.bytes.len() + 4);
        out.extend_from_slice(&self.bytes[..at]);
        out.extend_from_slice(revision.to_string().as_bytes());
        out.extend_from_slice(&self.bytes[end..]);
        out.into()
    }

    /// The same object under another revision.
    pub fn at(&self, revision: u64) -> Self {
        Self {
            key: self.key.clone(),
            revision,
            uid: self.uid.clone(),
            labels: self.labels.clone(),
            deleting: self.deleting,
            schema_mark: self.schema_mark,
            bytes: self.bytes_at(revision),
            parsed: Mutex::default(),
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_revision_is_put_in_without_touching_the_rest() {
        let object = json!({"kind": "K", "apiVersion": "g/v1", "data": {"a": "\"metadata\":{\"resourceVersion\":\"7\""},
            "metadata": {"name": "n", "uid": "u", "labels": {"b": "2", "a": "1"}, "resourceVersion": "99"}});
        let stored = Draft::new(&object, 5).unwrap().seal(ObjectKey::new("c", "", "n"), 1234);
        let mut expected = object.clone();
        expected["metadata"]["resourceVersion"] = json!("1234");
        assert_eq!(stored.to_value(), expected);
        assert_eq!(stored.label("b"), Some("2"));
        assert!(!stored.deleting);
        let later = stored.at(99_999);
        expected["metadata"]["resourceVersion"] = json!("99999");
        assert_eq!(later.to_value(), expected);

        let loaded = StoredObject::load(ObjectKey::new("c", "", "n"), 1234, stored.bytes.clone()).unwrap();
        assert_eq!(&*loaded.uid, "u");
        assert_eq!(loaded.labels, stored.labels);
    }
}
