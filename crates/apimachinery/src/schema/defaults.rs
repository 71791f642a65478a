//! Defaulting.
//!
//! In: a node and a value. Out: absent fields have their default; a null on a field that is not nullable counts as
//! absent, so it gets the default or goes away. Defaults of a new object's own fields apply too.

use serde_json::Value;

use super::node::Node;

/// Applies the defaults below `node`; the value itself stays.
pub(super) fn apply(node: &Node, value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, child) in &node.properties {
                let absent = match map.get(name) {
                    None => true,
                    Some(present) => present.is_null() && !child.nullable,
                };
                if absent && let Some(default) = &child.default {
                    map.insert(name.clone(), default.clone());
                }
            }
            map.retain(|name, child| {
                let Some(schema) = node.field(name) else {
                    return true;
                };
                if child.is_null() && !schema.nullable && !schema.is_open() {
                    match &schema.default {
                        Some(default) => *child = default.clone(),
                        None => return false,
                    }
                }
                apply(schema, child);
                true
            });
        }
        Value::Array(items) => {
            if let Some(schema) = &node.items {
                for item in items {
                    if item.is_null()
                        && !schema.nullable
                        && let Some(default) = &schema.default
                    {
                        *item = default.clone();
                    }
                    apply(schema, item);
                }
            }
        }
        _ => {}
    }
}
