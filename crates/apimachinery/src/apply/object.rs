//! What every object has in common, as server-side apply sees it.
//!
//! In: a schema or an object. Out: the schema with `apiVersion`, `kind` and the built-in `metadata`, the object without
//! managedFields, and the fields that nobody owns.

use std::sync::{Arc, LazyLock};

use serde_json::Value;

use super::{
    ResetFields,
    field_set::{FieldSet, PathElement},
};
use crate::schema::{Node, metadata};

/// Fields that the server sets, or that identify the object.
pub(super) static NEVER_OWNED: LazyLock<FieldSet> = LazyLock::new(|| {
    const PATHS: [&[&str]; 12] = [
        &["apiVersion"],
        &["kind"],
        &["metadata"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "creationTimestamp"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
        &["metadata", "clusterName"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "resourceVersion"],
    ];
    PATHS.iter().map(|path| path.iter().map(|name| PathElement::Field((*name).to_owned())).collect()).collect()
});

/// The schema of a whole object. Children are shared, so this copies one level of names.
pub(super) fn root(node: &Arc<Node>) -> Node {
    let mut root = (**node).clone();
    let fixed = [("apiVersion", &metadata::TEXT), ("kind", &metadata::TEXT), ("metadata", &metadata::NODE)];
    for (name, node) in fixed {
        root.properties.insert(name.to_owned(), Arc::clone(node));
    }
    root
}

/// A copy without `metadata.managedFields`.
pub(super) fn without_managed_fields(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.remove("managedFields");
    }
    object
}

/// What a configuration can own through an endpoint: without the fields that the endpoint ignores, and without the
/// metadata that the server sets (`creationTimestamp: null` is in many configurations).
pub(super) fn owned_part(config: &Value, reset: ResetFields) -> Value {
    const SERVERS: [&str; 8] = [
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "managedFields",
    ];
    let mut config = config.clone();
    let Some(map) = config.as_object_mut() else {
        return config;
    };
    map.retain(|name, _| matches!(name.as_str(), "apiVersion" | "kind" | "metadata") || !reset.ignores(name));
    if let Some(Value::Object(metadata)) = map.get_mut("metadata") {
        metadata.retain(|name, _| {
            let identity = matches!(name.as_str(), "name" | "namespace" | "generateName");
            identity || (!reset.ignores("metadata") && !SERVERS.contains(&name.as_str()))
        });
    }
    config
}

/// `namespace/name; group/version, Kind=Kind`.
pub(super) fn described(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let version = text("/apiVersion");
    // Types of the core group are written with a leading slash.
    let slash = if version.contains('/') { "" } else { "/" };
    format!("{}/{}; {slash}{version}, Kind={}", text("/metadata/namespace"), text("/metadata/name"), text("/kind"))
}
