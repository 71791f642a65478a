//! An API object as bytes plus the header that a server needs at hand.
//!
//! In: the JSON of an object. Out: [`Object`], whose header (names, revision, labels, ...) is parsed once while the
//! body stays what it was: one byte buffer, shared by store, watchers and answers.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One entry of `metadata.ownerReferences`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    /// Group and version of the owner.
    pub api_version: String,
    /// Kind of the owner.
    pub kind: String,
    /// Name of the owner.
    pub name: String,
    /// UID of the owner.
    pub uid: String,
    /// Whether it is the managing controller.
    pub controller: Option<bool>,
    /// Whether foreground deletion of the owner waits for this object.
    pub block_owner_deletion: Option<bool>,
}

/// The part of `metadata` that servers and caches look at.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// Name, unique among its kind in its namespace.
    pub name: String,
    /// Namespace, empty for cluster-scoped objects.
    pub namespace: String,
    /// Unique in time.
    pub uid: String,
    /// Opaque revision.
    pub resource_version: String,
    /// Counts changes of the desired state.
    pub generation: i64,
    /// RFC 3339.
    pub creation_timestamp: Option<String>,
    /// RFC 3339; set while the object is being deleted.
    pub deletion_timestamp: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// What has to be cleaned up before the object goes.
    pub finalizers: Vec<String>,
    /// Owners, for garbage collection.
    pub owner_references: Vec<OwnerReference>,
}

/// Type and metadata of an object.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Header {
    /// Group and version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Metadata.
    pub metadata: Meta,
}

impl Header {
    /// Reads the header of a parsed object.
    ///
    /// # Errors
    /// When a header field has the wrong type.
    pub fn of(value: &Value) -> Result<Self, serde_json::Error> {
        Header::deserialize(value)
    }

    /// Group of the apiVersion, empty for core.
    pub fn group(&self) -> &str {
        split_api_version(&self.api_version).0
    }

    /// Version of the apiVersion.
    pub fn version(&self) -> &str {
        split_api_version(&self.api_version).1
    }
}

/// An object: its bytes and its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    header: Header,
    raw: Bytes,
}

impl Object {
    /// Parses only the header of these bytes.
    ///
    /// # Errors
    /// When the bytes are no JSON object with a readable header.
    pub fn parse(raw: Bytes) -> Result<Self, serde_json::Error> {
        Ok(Object { header: serde_json::from_slice(&raw)?, raw })
    }

    /// Encodes a value.
    ///
    /// # Errors
    /// When a header field has the wrong type.
    pub fn from_value(value: &Value) -> Result<Self, serde_json::Error> {
        Ok(Object { header: Header::of(value)?, raw: serde_json::to_vec(value)?.into() })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The JSON text.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The whole object, parsed.
    ///
    /// # Errors
    /// When the bytes are no JSON.
    pub fn to_value(&self) -> Result<Value, serde_json::Error> {
        serde_json::from_slice(&self.raw)
    }
}

/// `group/version` in its parts; the core group is empty.
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// `group/version`, or only the version for the core group.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keeps_bytes_and_reads_the_header() {
        let value = json!({"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d","namespace":"n","generation":3,
            "ownerReferences":[{"apiVersion":"v1","kind":"X","name":"o","uid":"u","controller":true}]},"spec":{"a":1}});
        let object = Object::from_value(&value).unwrap();
        assert_eq!((object.header().group(), object.header().version()), ("apps", "v1"));
        assert_eq!(object.header().metadata.owner_references[0].controller, Some(true));
        assert_eq!(Object::parse(object.raw().clone()).unwrap(), object);
        assert_eq!(object.to_value().unwrap(), value);
        assert_eq!(api_version("", "v1"), "v1");
    }
}
