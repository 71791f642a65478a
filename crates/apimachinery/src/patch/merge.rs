//! JSON Merge Patch (RFC 7386).
//!
//! In: a document and a patch. Out: the merged document: null removes, objects merge, all else replaces.

use serde_json::{Map, Value};

/// Merges the patch into the document.
pub fn merge_patch(document: &Value, patch: &Value) -> Value {
    let mut result = document.clone();
    merge(&mut result, patch);
    result
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = without_nulls(patch);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else {
        return;
    };
    for (key, change) in changes {
        if change.is_null() {
            fields.remove(key);
        } else if let Some(current) = fields.get_mut(key) {
            merge(current, change);
        } else {
            fields.insert(key.clone(), without_nulls(change));
        }
    }
}

/// A value that comes in whole: nulls in its objects mean "absent".
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), without_nulls(v)));
            Value::Object(kept.collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case(json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"}))]
    #[case(json!({"a":"b"}), json!({"a":null}), json!({}))]
    #[case(json!({"a":["b"]}), json!({"a":["c", null]}), json!({"a":["c", null]}))]
    #[case(json!({"a":{"b":"c","d":1}}), json!({"a":{"b":null,"e":2}}), json!({"a":{"d":1,"e":2}}))]
    #[case(json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}}))]
    #[case(json!({"a":1}), json!({"a":{"b":null,"c":1}}), json!({"a":{"c":1}}))]
    fn merges(#[case] document: Value, #[case] patch: Value, #[case] expected: Value) {
        assert_eq!(merge_patch(&document, &patch), expected);
    }
}
