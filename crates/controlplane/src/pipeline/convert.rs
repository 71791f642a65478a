//! Between the version of a request and the stored form.
//!
//! CustomResourceDefinitions here have the conversion strategy `None`: versions differ in `apiVersion` and schema only.
//! A built-in resource may be another view of a stored one (`events.k8s.io`); its descriptor lists the renamed fields.
//! Defaults are applied on reading, as a schema may have got new ones since the object was written.

use bytes::Bytes;
use serde_json::Value;

use crate::registry::Resource;
use crate::store::StoredObject;

/// What a [`StoredObject`] remembers of the schema whose defaults it has; never 0.
pub fn schema_mark(resource: &Resource) -> u64 {
    if !resource.custom {
        return 1;
    }
    let digest = resource.schema.digest();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first) | 1
}

/// An object as the requested version shows it.
pub fn to_request(resource: &Resource, stored: &StoredObject) -> Value {
    let mut object = stored.to_value();
    into_request(resource, &mut object, stored.schema_mark);
    object
}

/// Changes a stored object into the requested version.
pub fn into_request(resource: &Resource, object: &mut Value, mark: u64) {
    rename(resource, object, true);
    object["apiVersion"] = resource.api_version().into();
    if resource.custom && mark != schema_mark(resource) {
        resource.schema.apply_defaults(object);
    }
}

/// The JSON of an object in the requested version; without parsing where the stored bytes are just that.
pub fn bytes(resource: &Resource, stored: &StoredObject) -> Bytes {
    if is_plain(resource, stored) {
        return stored.bytes.clone();
    }
    serde_json::to_vec(&to_request(resource, stored)).unwrap_or_default().into()
}

/// Whether the stored bytes are what the requested version shows.
pub fn is_plain(resource: &Resource, stored: &StoredObject) -> bool {
    resource.stored_as.is_none()
        && (!resource.custom
            || (resource.version == resource.storage_version
                && stored.schema_mark == schema_mark(resource)
                && stored.bytes.starts_with(format!("{{\"apiVersion\":\"{}\"", resource.api_version()).as_bytes())))
}

/// Changes an object of the requested version into the stored form.
pub fn to_storage(resource: &Resource, object: &Value) -> Value {
    let mut object = object.clone();
    rename(resource, &mut object, false);
    object["apiVersion"] = resource.storage_api_version().into();
    object
}

fn rename(resource: &Resource, object: &mut Value, reading: bool) {
    let Some(other) = &resource.stored_as else {
        return;
    };
    for (here, stored) in other.renames {
        let (from, to) = if reading { (stored, here) } else { (here, stored) };
        if let Some(value) = take(object, from) {
            put(object, to, value);
        }
    }
}

fn take(object: &mut Value, path: &str) -> Option<Value> {
    match path.split_once('.') {
        Some((first, rest)) => take(object.get_mut(first)?, rest),
        None => object.as_object_mut()?.remove(path),
    }
}

fn put(object: &mut Value, path: &str, value: Value) {
    let Some(map) = object.as_object_mut() else {
        return;
    };
    match path.split_once('.') {
        Some((first, rest)) => {
            let inner = map.entry(first).or_insert_with(|| Value::Object(Default::default()));
            put(inner, rest, value);
        }
        None => {
            map.insert(path.to_owned(), value);
        }
    }
}
