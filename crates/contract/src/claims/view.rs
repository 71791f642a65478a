//! What of an object is the consumer's own word.
//!
//! A name that a claim follows must come from the consumer. The provider writes `status`, and it wrote the schema: a
//! field that the schema fills in says what the provider wants, not what the consumer wants.

use serde_json::{Map, Value};

/// The object without `status`, without machine-written metadata and without every field for which the schema has a
/// default (whatever stands there: it cannot be told who put it).
pub fn trusted_view(object: &Value, schema: Option<&Value>) -> Value {
    let mut view = object.clone();
    if let Some(root) = view.as_object_mut() {
        root.remove("status");
        if let Some(metadata) = root.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|key, _| matches!(key.as_str(), "name" | "namespace" | "labels" | "annotations"));
            for key in ["labels", "annotations"] {
                if let Some(map) = metadata.get_mut(key).and_then(Value::as_object_mut) {
                    map.retain(|key, _| !key.starts_with("kube-bind.io/"));
                }
            }
        }
        if let Some(schema) = schema {
            for (field, child) in properties(schema) {
                if !matches!(field.as_str(), "apiVersion" | "kind" | "metadata") {
                    prune_field(root, field, child, None);
                }
            }
        }
    }
    view
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten()
}

/// Takes `field` out of `parent` if `schema` or a default further up fills it in; else looks below.
fn prune_field(parent: &mut Map<String, Value>, field: &str, schema: &Value, outer: Option<&Value>) {
    let default = schema.get("default").or_else(|| outer.and_then(|outer| outer.get(field)));
    let Some(value) = parent.get_mut(field) else {
        return;
    };
    match default {
        Some(default) if !default.is_object() => {
            parent.remove(field);
        }
        _ => prune(value, schema, default),
    }
}

fn prune(value: &mut Value, schema: &Value, default: Option<&Value>) {
    match value {
        Value::Object(map) => {
            let mut fields: Vec<(String, Value)> =
                properties(schema).map(|(field, child)| (field.clone(), child.clone())).collect();
            // What a default puts under keys that the schema does not list.
            for (field, _) in default.and_then(Value::as_object).into_iter().flatten() {
                if !fields.iter().any(|(known, _)| known == field) {
                    let child = schema.get("additionalProperties").filter(|child| child.is_object());
                    fields.push((field.clone(), child.cloned().unwrap_or(Value::Object(Map::new()))));
                }
            }
            for (field, child) in &fields {
                prune_field(map, field, child, default);
            }
            if let Some(child) = schema.get("additionalProperties").filter(|child| child.is_object()) {
                let others: Vec<String> =
                    map.keys().filter(|key| !fields.iter().any(|(known, _)| known == *key)).cloned().collect();
                for key in others {
                    prune_field(map, &key, child, default);
                }
            }
        }
        Value::Array(items) => {
            if let Some(child) = schema.get("items") {
                if child.get("default").is_some_and(|default| !default.is_object()) {
                    items.clear();
                }
                items.iter_mut().for_each(|item| prune(item, child, child.get("default")));
            }
        }
        _ => {}
    }
}
