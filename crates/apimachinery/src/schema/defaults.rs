//! Defaulting, and what becomes of nulls.
//!
//! In: a node and a value. Out, of [`drop_nulls`]: without the nulls that their schema neither allows nor has a default
//! for; out, of [`apply`]: absent fields, and nulls that are not allowed, have their default. Items of lists stay where
//! they are, so a null among them is for validation. Whoever decodes a body or reads the store does both, one after the
//! other; what server-side apply has merged is only defaulted, and validated with its nulls.

use serde_json::Value;

use super::node::Node;

/// Drops the nulls of fields and map entries that are neither nullable nor have a default; the value itself stays.
pub(super) fn drop_nulls(node: &Node, value: &mut Value) {
    match value {
        Value::Object(map) => map.retain(|name, child| {
            let Some(schema) = node.field(name) else {
                return true;
            };
            if child.is_null() {
                return schema.nullable || schema.default.is_some();
            }
            drop_nulls(schema, child);
            true
        }),
        Value::Array(items) => {
            if let Some(schema) = &node.items {
                items.iter_mut().for_each(|item| drop_nulls(schema, item));
            }
        }
        _ => {}
    }
}

/// Applies the defaults below `node`; the value itself stays. Defaults of a new object's own fields apply too.
pub(super) fn apply(node: &Node, value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, child) in &node.properties {
                if let Some(default) = &child.default
                    && !map.contains_key(name)
                {
                    map.insert(name.clone(), default.clone());
                }
            }
            for (name, child) in map {
                if let Some(schema) = node.field(name) {
                    replace_null(schema, child);
                    apply(schema, child);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = &node.items {
                for item in items {
                    replace_null(schema, item);
                    apply(schema, item);
                }
            }
        }
        _ => {}
    }
}

fn replace_null(node: &Node, value: &mut Value) {
    if value.is_null()
        && !node.nullable
        && let Some(default) = &node.default
    {
        *value = default.clone();
    }
}
