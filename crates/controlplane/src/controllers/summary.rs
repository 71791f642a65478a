//! What the controllers need to know of any object.
//!
//! In: the bytes of a stored object. Out: a [`Summary`] of its metadata. Called for every commit, so the rest of the
//! object is skipped, not decoded.

use serde::Deserialize;

/// An owner as an object names it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerReference {
    /// `group/version`, or only the version for core kinds.
    #[serde(default)]
    pub api_version: Box<str>,
    /// Kind.
    #[serde(default)]
    pub kind: Box<str>,
    /// Name.
    #[serde(default)]
    pub name: Box<str>,
    /// UID.
    #[serde(default)]
    pub uid: Box<str>,
    /// Whether the owner's foreground deletion waits for this dependent.
    #[serde(default, rename = "blockOwnerDeletion", deserialize_with = "nullable")]
    pub blocks: bool,
}

/// The metadata that decides about lifecycle.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// UID.
    pub uid: Box<str>,
    /// Owners, in order.
    pub owners: Vec<OwnerReference>,
    /// Finalizers, in order.
    pub finalizers: Vec<Box<str>>,
    /// Whether a deletion timestamp is set.
    pub deleting: bool,
}

fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    uid: Box<str>,
    #[serde(deserialize_with = "nullable")]
    owner_references: Vec<OwnerReference>,
    #[serde(deserialize_with = "nullable")]
    finalizers: Vec<Box<str>>,
    deletion_timestamp: Option<serde::de::IgnoredAny>,
}

impl Summary {
    /// Reads the metadata of an object's JSON; what cannot be read has no owners and no finalizers, so nothing will be
    /// done about it.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let metadata = serde_json::from_slice::<Object>(bytes).map(|object| object.metadata).unwrap_or_default();
        Self {
            uid: metadata.uid,
            owners: metadata.owner_references,
            finalizers: metadata.finalizers,
            deleting: metadata.deletion_timestamp.is_some(),
        }
    }

    /// Whether the object has this finalizer.
    #[must_use]
    pub fn has_finalizer(&self, name: &str) -> bool {
        self.finalizers.iter().any(|finalizer| **finalizer == *name)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::controllers::ObjectId;
    use crate::store::{ObjectKey, TableId};

    /// An object of logical cluster `c` in namespace `n`.
    pub(crate) fn id(resource: &str, name: &str) -> ObjectId {
        ObjectId { table: TableId::new("", resource), key: ObjectKey::new("c", "n", name) }
    }

    /// An object without owners.
    pub(crate) fn plain(uid: &str) -> Summary {
        Summary { uid: uid.into(), ..Summary::default() }
    }

    /// An object with owners.
    pub(crate) fn owned(uid: &str, owners: &[&str], blocks: bool) -> Summary {
        let owners = owners
            .iter()
            .map(|uid| OwnerReference {
                api_version: "v1".into(),
                kind: "ConfigMap".into(),
                name: "owner".into(),
                uid: (*uid).into(),
                blocks,
            })
            .collect();
        Summary { owners, ..plain(uid) }
    }

    /// An object under deletion that has a finalizer.
    pub(crate) fn with_finalizer(uid: &str, finalizer: &str) -> Summary {
        Summary { finalizers: vec![finalizer.into()], deleting: true, ..plain(uid) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_read_and_nulls_are_nothing() {
        let summary = Summary::of(
            br#"{"spec":{"x":1},"metadata":{"uid":"u","ownerReferences":[{"apiVersion":"v1","kind":"K","name":"n",
                "uid":"o","blockOwnerDeletion":null,"controller":true}],"finalizers":null,"deletionTimestamp":"2026-01-01T00:00:00Z"}}"#,
        );
        assert_eq!((&*summary.uid, summary.owners.len(), summary.deleting), ("u", 1, true));
        assert!(!summary.owners[0].blocks && summary.finalizers.is_empty());
        assert_eq!(Summary::of(br#"{"metadata":{"deletionTimestamp":null}}"#), Summary::default());
        assert_eq!(Summary::of(b"nonsense"), Summary::default());
    }
}
