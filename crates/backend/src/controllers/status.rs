//! Writing a status without losing what others write.
//!
//! In: the object as it was read and the status it should have. Out: one merge patch of the fields that differ, bound to
//! the revision that was read; nothing if nothing differs. Called by the controllers.

use kube_client::{Api, ApiError, ObjectKey, Resource, Subresource};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::contracts::MANAGER;

/// The patch that makes `status` of `live` equal to `wanted`; `None` if it is.
#[must_use]
pub fn patch(live: &Value, wanted: &Value) -> Option<Value> {
    let empty = Map::new();
    let old = live["status"].as_object().unwrap_or(&empty);
    let new = wanted.as_object().unwrap_or(&empty);
    let mut changed = Map::new();
    for (field, value) in new {
        if old.get(field) != Some(value) {
            changed.insert(field.clone(), value.clone());
        }
    }
    for field in old.keys().filter(|field| !new.contains_key(*field)) {
        changed.insert(field.clone(), Value::Null);
    }
    if changed.is_empty() {
        return None;
    }
    Some(json!({
        "metadata": {"uid": live["metadata"]["uid"], "resourceVersion": live["metadata"]["resourceVersion"]},
        "status": changed,
    }))
}

/// Writes the status if it differs; says whether it did.
///
/// # Errors
/// Those of the API server; a conflict if the object has changed since it was read.
pub async fn write<S: Serialize>(api: &Api, kind: &Resource, live: &Value, wanted: &S) -> Result<bool, ApiError> {
    let wanted = serde_json::to_value(wanted).unwrap_or_default();
    let Some(patch) = patch(live, &wanted) else { return Ok(false) };
    let key = ObjectKey::of(live).unwrap_or_else(|| ObjectKey::cluster(""));
    api.merge_patch(kind, &key, Subresource::Status, &patch, MANAGER).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_written() {
        let live = json!({"metadata": {"uid": "u", "resourceVersion": "7"}, "status": {"a": 1, "b": [1], "c": 2}});
        assert_eq!(patch(&live, &json!({"a": 1, "b": [1], "c": 2})), None);
        assert_eq!(
            patch(&live, &json!({"a": 1, "b": [1, 2]})).unwrap(),
            json!({"metadata": {"uid": "u", "resourceVersion": "7"}, "status": {"b": [1, 2], "c": null}})
        );
        assert_eq!(patch(&json!({"metadata": {}}), &json!({})), None);
    }
}
