//! Object metadata: what clients may set, what the server sets, what must not change.
//!
//! Flows in: objects as decoded, and the stored ones. Flows out: objects whose metadata is sound, or the errors that
//! kube-apiserver gives (`ValidateObjectMeta`, `ValidateObjectMetaUpdate`). Called by the other parts of the pipeline.

use apimachinery::field_path::FieldError;
use apimachinery::names;
use apimachinery::status::StatusError;
use serde_json::{Map, Value};

use super::Target;
use crate::registry::Resource;

/// The fields of ObjectMeta.
const FIELDS: &[&str] = &[
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// All annotations of an object together, in bytes.
const ANNOTATIONS_LIMIT: usize = 256 * 1024;

/// A string of the metadata; empty if absent.
pub(crate) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get("metadata").and_then(|m| m.get(field)).and_then(Value::as_str).unwrap_or_default()
}

/// The finalizers.
pub(crate) fn finalizers(object: &Value) -> Vec<String> {
    let list = object.pointer("/metadata/finalizers").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|f| f.as_str().map(str::to_owned)).collect()
}

/// Whether deletion has begun.
pub(crate) fn is_deleting(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some_and(|t| !t.is_null())
}

/// The metadata, made if it is not there.
pub(crate) fn of(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let metadata = &mut object["metadata"];
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    // Just made an object if it was none.
    match metadata {
        Value::Object(map) => map,
        _ => unreachable!("metadata was made an object"),
    }
}

/// Brings metadata into shape: unknown fields and nulls go, types must fit. Returns the paths of unknown fields.
pub(crate) fn coerce(object: &mut Value) -> Result<Vec<String>, StatusError> {
    match object.get("metadata") {
        None | Some(Value::Null | Value::Object(_)) => {}
        Some(other) => return Err(wrong_type(other, "metadata", "ObjectMeta")),
    }
    let metadata = of(object);
    let unknown: Vec<String> = metadata.keys().filter(|k| !FIELDS.contains(&k.as_str())).cloned().collect();
    metadata.retain(|field, value| FIELDS.contains(&field.as_str()) && !value.is_null());
    for field in [
        "name",
        "namespace",
        "generateName",
        "uid",
        "resourceVersion",
        "selfLink",
        "creationTimestamp",
        "deletionTimestamp",
    ] {
        match metadata.get(field) {
            None | Some(Value::String(_)) => {}
            Some(other) => return Err(wrong_type(other, &format!("metadata.{field}"), "string")),
        }
    }
    for field in ["labels", "annotations"] {
        match metadata.get_mut(field) {
            None => {}
            Some(Value::Object(map)) => {
                for (key, value) in map.iter_mut() {
                    match value {
                        Value::String(_) => {}
                        // A null decodes to the empty string.
                        Value::Null => *value = Value::String(String::new()),
                        other => {
                            return Err(wrong_type(other, &format!("metadata.{field}.{key}"), "string"));
                        }
                    }
                }
            }
            Some(other) => {
                return Err(wrong_type(other, &format!("metadata.{field}"), "map[string]string"));
            }
        }
    }
    for field in ["finalizers", "ownerReferences", "managedFields"] {
        match metadata.get(field) {
            None => {}
            Some(Value::Array(list)) => {
                let want_text = field == "finalizers";
                if let Some(bad) = list.iter().find(|v| if want_text { !v.is_string() } else { !v.is_object() }) {
                    let kind = if want_text { "string" } else { "object" };
                    return Err(wrong_type(bad, &format!("metadata.{field}"), kind));
                }
            }
            Some(other) => return Err(wrong_type(other, &format!("metadata.{field}"), "array")),
        }
    }
    metadata.remove("selfLink");
    for field in ["labels", "annotations"] {
        if metadata.get(field).and_then(Value::as_object).is_some_and(Map::is_empty) {
            metadata.remove(field);
        }
    }
    for field in ["finalizers", "ownerReferences"] {
        if metadata.get(field).and_then(Value::as_array).is_some_and(Vec::is_empty) {
            metadata.remove(field);
        }
    }
    Ok(unknown.into_iter().map(|field| format!("metadata.{field}")).collect())
}

fn wrong_type(value: &Value, field: &str, wanted: &str) -> StatusError {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    StatusError::bad_request(format!("json: cannot unmarshal {found} into Go struct field .{field} of type {wanted}"))
}

/// What is wrong with the name of an object of this resource.
pub(crate) fn name_errors(resource: &Resource, name: &str) -> Vec<String> {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "namespaces") => names::dns1123_label(name),
        ("", "services") => names::dns1123_label(name),
        ("rbac.authorization.k8s.io", _) => names::path_segment(name),
        _ => names::dns1123_subdomain(name),
    }
}

/// Metadata of any object that is to be stored.
pub(crate) fn validate(target: &Target, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let metadata = &object["metadata"];
    let name = text(object, "name");
    // What the server appends makes a name that ends with a dash a good one.
    let prefix = text(object, "generateName");
    if !prefix.is_empty() {
        let whole = prefix.strip_suffix('-').map_or(prefix.to_owned(), |start| format!("{start}a"));
        let found = name_errors(&target.resource, &whole);
        errors.extend(found.into_iter().map(|e| FieldError::invalid("metadata.generateName", prefix, e)));
    }
    if name.is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
    } else {
        let found = name_errors(&target.resource, name);
        errors.extend(found.into_iter().map(|e| FieldError::invalid("metadata.name", name, e)));
    }
    let entries = |field: &str| metadata.get(field).and_then(Value::as_object).into_iter().flatten();
    for (key, value) in entries("labels") {
        let value = value.as_str().unwrap_or_default();
        let found = names::label_key(key);
        errors.extend(found.into_iter().map(|e| FieldError::invalid("metadata.labels", key.as_str(), e)));
        let found = names::label_value(value);
        errors.extend(found.into_iter().map(|e| FieldError::invalid("metadata.labels", value, e)));
    }
    let mut size = 0;
    for (key, value) in entries("annotations") {
        size += key.len() + value.as_str().unwrap_or_default().len();
        let found = names::label_key(&key.to_lowercase());
        errors.extend(found.into_iter().map(|e| FieldError::invalid("metadata.annotations", key.as_str(), e)));
    }
    if size > ANNOTATIONS_LIMIT {
        errors.push(FieldError::too_long("metadata.annotations", ANNOTATIONS_LIMIT as u64));
    }
    for (at, finalizer) in finalizers(object).into_iter().enumerate() {
        let found = names::label_key(&finalizer);
        errors.extend(found.into_iter().map(|e| FieldError::invalid("metadata.finalizers", finalizer.as_str(), e)));
        let free = target.resource.custom || target.resource.group == crate::registry::crd::GROUP;
        if !free && !finalizer.contains('/') && !is_standard(&finalizer) {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(format!("metadata.finalizers[{at}]"), finalizer.as_str(), detail));
        }
    }
    errors.extend(owner_errors(metadata));
    errors
}

fn is_standard(finalizer: &str) -> bool {
    matches!(finalizer, "orphan" | "foregroundDeletion" | "kubernetes")
}

/// What is wrong with the owners that an object names.
fn owner_errors(metadata: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let empty = Vec::new();
    let owners = metadata.get("ownerReferences").and_then(Value::as_array).unwrap_or(&empty);
    let mut controllers = Vec::new();
    for owner in owners {
        let text = |field: &str| owner.get(field).and_then(Value::as_str).unwrap_or_default();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let mut fail = |field: &str, value: &str, detail: &str| {
            errors.push(FieldError::invalid(format!("metadata.ownerReferences.{field}"), value, detail));
        };
        let version = match api_version.split_once('/') {
            Some((_, version)) if version.contains('/') => "",
            Some((_, version)) => version,
            None => api_version,
        };
        if version.is_empty() {
            fail("apiVersion", api_version, "version must not be empty");
        }
        for field in ["kind", "name", "uid"] {
            if text(field).is_empty() {
                fail(field, "", "must not be empty");
            }
        }
        if (api_version, kind) == ("v1", "Event") {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::invalid("metadata.ownerReferences", owner.clone(), detail));
        }
        if owner.get("controller") == Some(&Value::Bool(true)) {
            controllers.push(format!("{kind}/{}", text("name")));
        }
    }
    if let [first, second, ..] = controllers.as_slice() {
        let detail = format!(
            "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {second}"
        );
        errors.push(FieldError::invalid("metadata.ownerReferences", Value::Array(owners.clone()), detail));
    }
    errors
}

/// Custom resources may have any finalizers; those that others could have chosen, too, are worth a word.
pub(crate) fn finalizer_warnings(resource: &Resource, old: Option<&Value>, object: &Value) -> Vec<String> {
    if !resource.custom {
        return Vec::new();
    }
    let before = old.map(finalizers).unwrap_or_default();
    let new = finalizers(object).into_iter().filter(|f| !f.contains('/') && !is_standard(f) && !before.contains(f));
    new.map(|finalizer| {
        let path = if finalizer.contains('.') { " including a path (/)" } else { "" };
        format!(
            "metadata.finalizers: {finalizer:?}: prefer a domain-qualified finalizer name{path} to avoid accidental \
             conflicts with other finalizer writers"
        )
    })
    .collect()
}

/// Carries over what clients cannot change, and finds what they tried to.
pub(crate) fn inherit(object: &mut Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let old = old.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    let metadata = of(object);
    for field in ["name", "namespace", "uid"] {
        match (metadata.get(field), old.get(field)) {
            (None, Some(was)) => {
                metadata.insert(field.to_owned(), was.clone());
            }
            (Some(is), was) if Some(is) != was => {
                errors.push(FieldError::invalid(format!("metadata.{field}"), is.clone(), "field is immutable"));
            }
            _ => {}
        }
    }
    let deleting = old.contains_key("deletionTimestamp");
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
        // Once deletion has begun its time is the server's, whatever a client says.
        let free = deleting && field == "deletionTimestamp";
        if let Some(is) = metadata.get(field).filter(|is| !is.is_null() && !free && Some(*is) != old.get(field)) {
            errors.push(FieldError::invalid(format!("metadata.{field}"), is.clone(), "field is immutable"));
        }
    }
    for field in ["creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        match old.get(field) {
            Some(was) => metadata.insert(field.to_owned(), was.clone()),
            None => metadata.remove(field),
        };
    }
    let was = old.get("finalizers").and_then(Value::as_array).cloned().unwrap_or_default();
    if deleting {
        let is = metadata.get("finalizers").and_then(Value::as_array).cloned().unwrap_or_default();
        let new: Vec<String> = is.iter().filter(|f| !was.contains(f)).map(Value::to_string).collect();
        if !new.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                new.join(", ")
            );
            errors.push(FieldError::forbidden("metadata.finalizers", detail));
        }
    }
    errors
}

/// Whether two objects are the same but for the times in managedFields and the resourceVersion.
pub(crate) fn same_but_times(a: &Value, b: &Value) -> bool {
    fn plain(object: &Value) -> Value {
        let mut object = object.clone();
        let metadata = of(&mut object);
        metadata.remove("resourceVersion");
        for entry in metadata.get_mut("managedFields").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(entry) = entry.as_object_mut() {
                entry.remove("time");
            }
        }
        object
    }
    plain(a) == plain(b)
}
