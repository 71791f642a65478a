//! What of a live object is ours. In: an object with managedFields. Out: the part that our apply owns, as JSON, to
//! compare with what we want. Fields of others (composition tools, webhooks) are not in it, so they are neither reverted
//! nor sent back. The format is FieldsV1 of server-side apply: `f:<field>`, `k:<keys>`, `v:<value>`, `i:<index>`, `.`.

use apimachinery::schema::{ListType, MapType, Node};
use serde_json::{Map, Value, json};

/// The part of `live` that `manager` has applied (operation Apply, no subresource); `None` when it never applied
/// anything. Without a schema every map is granular and every list atomic, as API servers take untyped values.
pub fn owned(live: &Value, manager: &str, schema: Option<&Node>) -> Option<Value> {
    let entry = live["metadata"]["managedFields"].as_array()?.iter().find(|entry| {
        entry["manager"] == manager
            && entry["operation"] == "Apply"
            && entry["subresource"].as_str().unwrap_or_default().is_empty()
    })?;
    Some(project(live, &entry["fieldsV1"], schema))
}

/// Managers whose plain updates of a copy were an agent's: the Go agent creates as `konnector`.
const AGENTS: [&str; 2] = ["konnector", "kube-bind.io"];

fn is_agents_update(entry: &Value) -> bool {
    entry["operation"] == "Update"
        && entry["subresource"].as_str().unwrap_or_default().is_empty()
        && entry["manager"].as_str().is_some_and(|manager| AGENTS.contains(&manager))
}

/// True when an agent wrote the object by POST, PUT or PATCH instead of apply, as the Go agent does on creation.
pub fn written_by_update(live: &Value) -> bool {
    live["metadata"]["managedFields"].as_array().into_iter().flatten().any(is_agents_update)
}

/// The managedFields in which everything that an agent recorded as updates belongs to `manager`'s apply; `None` when
/// there is nothing to move.
pub fn migrated(live: &Value, manager: &str) -> Option<Vec<Value>> {
    let entries = live["metadata"]["managedFields"].as_array()?;
    let (moved, mut kept): (Vec<&Value>, Vec<Value>) = {
        let (moved, kept): (Vec<&Value>, Vec<&Value>) = entries.iter().partition(|e| is_agents_update(e));
        (moved, kept.into_iter().cloned().collect())
    };
    let mut fields = json!({});
    for entry in &moved {
        union(&mut fields, &entry["fieldsV1"]);
    }
    // The finalizers and owners that it set are not for our apply to keep.
    if let Some(metadata) = fields.get_mut("f:metadata").and_then(Value::as_object_mut) {
        metadata.retain(|name, _| matches!(name.as_str(), "f:labels" | "f:annotations"));
    }
    let first = moved.first()?;
    let ours = kept.iter_mut().find(|entry| {
        entry["manager"] == manager
            && entry["operation"] == "Apply"
            && entry["subresource"].as_str().unwrap_or_default().is_empty()
    });
    match ours {
        Some(entry) => union(&mut entry["fieldsV1"], &fields),
        None => kept.push(json!({
            "manager": manager, "operation": "Apply", "apiVersion": first["apiVersion"], "time": first["time"],
            "fieldsType": "FieldsV1", "fieldsV1": fields,
        })),
    }
    Some(kept)
}

fn union(into: &mut Value, from: &Value) {
    if let (Some(into), Some(from)) = (into.as_object_mut(), from.as_object()) {
        for (name, inner) in from {
            union(into.entry(name.clone()).or_insert_with(|| json!({})), inner);
        }
    }
}

fn project(live: &Value, set: &Value, node: Option<&Node>) -> Value {
    let children: Vec<(&String, &Value)> =
        set.as_object().into_iter().flatten().filter(|(name, _)| name.as_str() != ".").collect();
    if children.is_empty() {
        return leaf(live, node);
    }
    match live {
        Value::Object(fields) => {
            let mut out = Map::new();
            for (name, inner) in children {
                if let Some(name) = name.strip_prefix("f:")
                    && let Some(value) = fields.get(name)
                {
                    let child = node.and_then(|n| n.field(name)).map(AsRef::as_ref);
                    out.insert(name.to_owned(), project(value, inner, child));
                }
            }
            Value::Object(out)
        }
        Value::Array(items) => {
            let item_node = node.and_then(|n| n.items.as_deref());
            let mut out = Vec::new();
            for (index, item) in items.iter().enumerate() {
                let inner = children.iter().find(|(name, _)| selects(name, index, item)).map(|(_, inner)| *inner);
                if let Some(inner) = inner {
                    out.push(project(item, inner, item_node));
                }
            }
            Value::Array(out)
        }
        scalar => scalar.clone(),
    }
}

/// Whether a path element of FieldsV1 names this list item.
fn selects(element: &str, index: usize, item: &Value) -> bool {
    if let Some(keys) = element.strip_prefix("k:") {
        return serde_json::from_str::<Map<String, Value>>(keys)
            .is_ok_and(|keys| keys.iter().all(|(name, value)| item.get(name) == Some(value)));
    }
    if let Some(value) = element.strip_prefix("v:") {
        return serde_json::from_str::<Value>(value).is_ok_and(|value| value == *item);
    }
    element.strip_prefix("i:").and_then(|i| i.parse().ok()) == Some(index)
}

/// An owned leaf: the whole value, except that an empty granular map or list stays empty though others have put
/// something into it.
fn leaf(live: &Value, node: Option<&Node>) -> Value {
    match live {
        Value::Object(_) if node.is_none_or(|n| n.map_type == MapType::Granular) => Value::Object(Map::new()),
        Value::Array(_) if node.is_some_and(|n| n.list_type != ListType::Atomic) => Value::Array(Vec::new()),
        whole => whole.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live() -> Value {
        json!({
            "apiVersion": "x/v1", "kind": "T",
            "metadata": {"name": "a", "labels": {"mine": "1", "theirs": "2"}, "managedFields": [
                {"manager": "kube-bind.io", "operation": "Update", "fieldsV1": {"f:spec": {"f:tier": {}}}},
                {"manager": "kube-bind.io", "operation": "Apply", "fieldsV1": {
                    "f:metadata": {"f:labels": {"f:mine": {}}},
                    "f:spec": {".": {}, "f:tier": {}, "f:args": {}, "f:empty": {},
                        "f:ports": {"k:{\"port\":80}": {".": {}, "f:port": {}, "f:name": {}}},
                        "f:tags": {"v:\"x\"": {}}}}},
                {"manager": "compose", "operation": "Apply", "fieldsV1": {"f:spec": {"f:resourceRef": {}}}},
            ]},
            "spec": {"tier": "dedicated", "resourceRef": {"name": "r"}, "args": ["a", "b"], "empty": {"theirs": 1},
                "ports": [{"port": 443, "name": "s"}, {"port": 80, "name": "h", "default": true}], "tags": ["x", "y"]},
            "status": {"phase": "Running"},
        })
    }

    #[test]
    fn only_what_our_apply_owns() {
        assert_eq!(
            owned(&live(), "kube-bind.io", None).unwrap(),
            json!({
                "metadata": {"labels": {"mine": "1"}},
                "spec": {"tier": "dedicated", "args": ["a", "b"], "empty": {},
                    "ports": [{"port": 80, "name": "h"}], "tags": ["x"]},
            })
        );
    }

    #[test]
    fn updates_of_an_agent_become_part_of_our_apply() {
        assert!(written_by_update(&live()));
        let entries = migrated(&live(), "kube-bind.io").unwrap();
        assert_eq!(entries.len(), 2);
        let moved = json!({"metadata": {"managedFields": entries}});
        assert!(!written_by_update(&moved));
        assert!(migrated(&moved, "kube-bind.io").is_none());
        let go = json!({"metadata": {"managedFields": [{"manager": "konnector", "operation": "Update", "apiVersion": "x/v1",
            "time": "t", "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:finalizers": {}, "f:labels": {"f:a": {}}},
            "f:spec": {"f:b": {}}}}]}});
        assert_eq!(
            migrated(&go, "kube-bind.io").unwrap()[0]["fieldsV1"],
            json!({"f:metadata": {"f:labels": {"f:a": {}}}, "f:spec": {"f:b": {}}})
        );
    }

    #[test]
    fn nothing_applied_is_not_the_same_as_nothing_owned() {
        assert!(owned(&json!({"metadata": {}}), "kube-bind.io", None).is_none());
    }
}
