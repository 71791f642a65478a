//! Pruning: fields that the schema does not know are dropped.
//!
//! In: a node and a value. Out: the value without unknown fields, and their paths (`spec.list[0].foo`). `apiVersion`,
//! `kind` and `metadata` belong to every object, at the root and in embedded resources; metadata has a schema of its own.

use serde_json::Value;

use super::{metadata, node::Node};
use crate::field_path::PathBuf;

/// Prunes a whole object.
pub(super) fn prune_object(node: &Node, object: &mut Value) -> Vec<String> {
    let mut dropped = Vec::new();
    prune(node, object, true, &mut PathBuf::default(), &mut dropped);
    dropped
}

/// Prunes a value inside an object.
pub(super) fn prune_value(node: &Node, value: &mut Value) -> Vec<String> {
    let mut dropped = Vec::new();
    prune(node, value, false, &mut PathBuf::default(), &mut dropped);
    dropped
}

fn prune(node: &Node, value: &mut Value, root: bool, path: &mut PathBuf, dropped: &mut Vec<String>) {
    let resource = root || node.embedded_resource;
    match value {
        Value::Object(map) => {
            let keep_unknown = node.preserve_unknown;
            map.retain(|name, child| {
                if resource && name == "metadata" {
                    path.field(name, |path| prune(&metadata::NODE, child, false, path, dropped));
                    metadata::tidy(child);
                    return true;
                }
                match node.field(name) {
                    Some(schema) => {
                        if !schema.is_open() {
                            path.field(name, |path| prune(schema, child, false, path, dropped));
                        }
                        true
                    }
                    None if keep_unknown => true,
                    None if resource && (name == "apiVersion" || name == "kind") => true,
                    None => {
                        dropped.push(path.child(name));
                        false
                    }
                }
            });
        }
        Value::Array(items) => {
            if let Some(schema) = &node.items {
                for (index, item) in items.iter_mut().enumerate() {
                    path.index(index, |path| prune(schema, item, false, path, dropped));
                }
            }
        }
        _ => {}
    }
}
