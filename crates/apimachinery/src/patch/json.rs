//! JSON Patch (RFC 6902) as kube-apiserver applies it.
//!
//! In: a document and a list of operations. Out: the new document. Where the RFC and kube-apiserver differ, clients
//! rely on the server: `test` of a missing field against null passes, `replace` of a missing field adds it, negative
//! indices count from the end.

use serde_json::Value;

use super::{MAX_JSON_PATCH_OPERATIONS, PatchError};

/// Applies the operations in order; the document is unchanged if any of them fails.
///
/// # Errors
/// [`PatchError::Malformed`] if the patch is no list of operations, [`PatchError::DoesNotApply`] if one does not fit.
pub fn json_patch(document: &Value, patch: &Value) -> Result<Value, PatchError> {
    let Value::Array(operations) = patch else {
        return Err(PatchError::Malformed("a JSON patch must be an array of operations".into()));
    };
    if operations.len() > MAX_JSON_PATCH_OPERATIONS {
        return Err(PatchError::TooLarge(operations.len()));
    }
    if let Some(bad) = operations.iter().find(|o| !o.is_object()) {
        return Err(PatchError::Malformed(format!("a JSON patch operation must be an object, not {bad}")));
    }
    let mut result = document.clone();
    for operation in operations {
        run(&mut result, operation).map_err(PatchError::DoesNotApply)?;
    }
    Ok(result)
}

fn run(document: &mut Value, operation: &Value) -> Result<(), String> {
    let text = |field: &str| operation.get(field).and_then(Value::as_str);
    let name = text("op").unwrap_or("unknown");
    if !matches!(name, "add" | "remove" | "replace" | "move" | "test" | "copy") {
        return Err(format!("Unexpected kind: {name}"));
    }
    let path = text("path").ok_or_else(|| {
        format!("{name} operation failed to decode path: operation missing path field: missing value")
    })?;
    let value = || operation.get("value").cloned().unwrap_or_default();
    let from = || {
        text("from").ok_or_else(|| {
            format!("{name} operation failed to decode from: operation, missing from field: missing value")
        })
    };
    match name {
        "add" => add(document, path, value()).map_err(|e| in_operation("add", path, e)),
        "remove" => remove(document, path).map(drop).map_err(|e| in_operation("remove", path, e)),
        "replace" => replace(document, path, value()),
        "move" => {
            let from = from()?;
            let moved = remove(document, from).map_err(|e| in_operation("move", from, e))?;
            add(document, path, moved).map_err(|e| in_operation("move", path, e))
        }
        "copy" => {
            let from = from()?;
            let copied = lookup(document, from).map_err(|e| in_operation("copy", from, e))?.cloned();
            add(document, path, copied.unwrap_or_default()).map_err(|e| in_operation("copy", path, e))
        }
        _ => test(document, path, &value()),
    }
}

enum Problem {
    NoPath,
    Other(String),
}

fn in_operation(name: &str, path: &str, problem: Problem) -> String {
    match problem {
        Problem::NoPath => {
            format!("{name} operation does not apply: doc is missing path: \"{path}\": missing value")
        }
        Problem::Other(text) => format!("error in {name} for path: '{path}': {text}"),
    }
}

/// The parent container of a path, and the last segment.
fn parent<'a>(document: &'a mut Value, path: &str) -> Result<(&'a mut Value, String), Problem> {
    let mut segments = path.split('/').skip(1).map(decode).collect::<Vec<_>>();
    let last = segments.pop().ok_or(Problem::NoPath)?;
    let mut current = document;
    for segment in segments {
        current = child_mut(current, &segment).ok_or(Problem::NoPath)?;
    }
    if current.is_object() || current.is_array() { Ok((current, last)) } else { Err(Problem::NoPath) }
}

fn decode(segment: &str) -> String {
    segment.replace("~1", "/").replace("~0", "~")
}

fn child_mut<'a>(value: &'a mut Value, segment: &str) -> Option<&'a mut Value> {
    match value {
        Value::Object(fields) => fields.get_mut(segment),
        Value::Array(items) => {
            let at = index(segment, items.len()).ok()?;
            items.get_mut(at)
        }
        _ => None,
    }
}

/// An index into a list of this length; negative ones count from the end.
fn index(segment: &str, length: usize) -> Result<usize, Problem> {
    let number: i64 =
        segment.parse().map_err(|_| Problem::Other(format!("strconv.Atoi: parsing {segment:?}: invalid syntax")))?;
    let invalid = || Problem::Other(format!("Unable to access invalid index: {number}: invalid index referenced"));
    let at = if number < 0 { number + i64::try_from(length).unwrap_or(i64::MAX) } else { number };
    usize::try_from(at).ok().filter(|at| *at < length).ok_or_else(invalid)
}

fn add(document: &mut Value, path: &str, value: Value) -> Result<(), Problem> {
    match parent(document, path)? {
        (Value::Object(fields), key) => {
            fields.insert(key, value);
        }
        (Value::Array(items), key) if key == "-" => items.push(value),
        (Value::Array(items), key) => {
            if key.parse::<i64>().is_err() {
                let text = format!(
                    "value was not a proper array index: '{key}': strconv.Atoi: parsing {key:?}: invalid syntax"
                );
                return Err(Problem::Other(text));
            }
            let at = index(&key, items.len() + 1)?;
            items.insert(at, value);
        }
        _ => return Err(Problem::NoPath),
    }
    Ok(())
}

fn remove(document: &mut Value, path: &str) -> Result<Value, Problem> {
    match parent(document, path)? {
        (Value::Object(fields), key) => fields
            .remove(&key)
            .ok_or_else(|| Problem::Other(format!("Unable to remove nonexistent key: {key}: missing value"))),
        (Value::Array(items), key) => {
            let at = index(&key, items.len())?;
            Ok(items.remove(at))
        }
        _ => Err(Problem::NoPath),
    }
}

fn replace(document: &mut Value, path: &str, value: Value) -> Result<(), String> {
    if path.is_empty() {
        if !value.is_object() && !value.is_array() {
            return Err("replace operation value must be object or array".into());
        }
        *document = value;
        return Ok(());
    }
    let missing =
        |what: &str| format!("replace operation does not apply: doc is missing {what}: {path}: missing value");
    match parent(document, path).map_err(|_| missing("path"))? {
        (Value::Object(fields), key) => {
            fields.insert(key, value);
        }
        (Value::Array(items), key) => {
            let at = index(&key, items.len()).map_err(|_| missing("key"))?;
            if let Some(slot) = items.get_mut(at) {
                *slot = value;
            }
        }
        _ => return Err(missing("path")),
    }
    Ok(())
}

fn lookup<'a>(document: &'a mut Value, path: &str) -> Result<Option<&'a Value>, Problem> {
    match parent(document, path)? {
        (Value::Object(fields), key) => Ok(fields.get(&key)),
        (Value::Array(items), key) => {
            let at = index(&key, items.len())?;
            Ok(items.get(at))
        }
        _ => Err(Problem::NoPath),
    }
}

fn test(document: &mut Value, path: &str, expected: &Value) -> Result<(), String> {
    let failed = || format!("testing value {path} failed: test failed");
    if path.is_empty() {
        return if equal(document, expected) { Ok(()) } else { Err(failed()) };
    }
    let actual = lookup(document, path).map_err(|problem| match problem {
        Problem::NoPath => {
            format!("test operation does not apply: is missing path: {path}: missing value")
        }
        other => in_operation("test", path, other),
    })?;
    // absent and null are the same here
    if equal(actual.unwrap_or(&Value::Null), expected) { Ok(()) } else { Err(failed()) }
}

/// Equality with numbers compared by value (`1` and `1.0` are the same).
fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| equal(v, w)))
        }
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case(json!({}), json!([{"op":"add","path":"/a","value":1}]), json!({"a":1}))]
    #[case(json!({"a":[1,3]}), json!([{"op":"add","path":"/a/1","value":2}]), json!({"a":[1,2,3]}))]
    #[case(json!({"a":[1]}), json!([{"op":"add","path":"/a/-","value":2}]), json!({"a":[1,2]}))]
    #[case(json!({"a":[1,2]}), json!([{"op":"remove","path":"/a/-1"}]), json!({"a":[1]}))]
    #[case(json!({"a":1}), json!([{"op":"remove","path":"/a"}]), json!({}))]
    #[case(json!({}), json!([{"op":"replace","path":"/a","value":1}]), json!({"a":1}))]
    #[case(json!({"a":1}), json!([{"op":"replace","path":"","value":{"b":2}}]), json!({"b":2}))]
    #[case(json!({"a":1}), json!([{"op":"move","from":"/a","path":"/b"}]), json!({"b":1}))]
    #[case(json!({"a":1}), json!([{"op":"copy","from":"/a","path":"/b"}]), json!({"a":1,"b":1}))]
    #[case(json!({"a/b":{"c~d":1}}), json!([{"op":"remove","path":"/a~1b/c~0d"}]), json!({"a/b":{}}))]
    #[case(json!({"metadata":{}}), json!([{"op":"test","path":"/metadata/finalizers","value":null},
        {"op":"add","path":"/metadata/finalizers","value":["x"]}]), json!({"metadata":{"finalizers":["x"]}}))]
    #[case(json!({"a":1}), json!([{"op":"test","path":"/a","value":1.0}]), json!({"a":1}))]
    fn applies(#[case] document: Value, #[case] patch: Value, #[case] expected: Value) {
        assert_eq!(json_patch(&document, &patch).unwrap(), expected);
    }

    #[rstest]
    #[case(json!([{"op":"test","path":"/a","value":2}]), "testing value /a failed: test failed")]
    #[case(json!([{"op":"remove","path":"/b"}]), "error in remove for path: '/b': Unable to remove nonexistent key: b: missing value")]
    #[case(json!([{"op":"add","path":"/b/c","value":1}]), "add operation does not apply: doc is missing path: \"/b/c\": missing value")]
    #[case(json!([{"op":"replace","path":"/l/5","value":1}]), "replace operation does not apply: doc is missing key: /l/5: missing value")]
    #[case(json!([{"op":"spin","path":"/a"}]), "Unexpected kind: spin")]
    fn explains_failures(#[case] patch: Value, #[case] message: &str) {
        let error = json_patch(&json!({"a": 1, "l": []}), &patch).unwrap_err();
        assert_eq!(error, PatchError::DoesNotApply(message.into()));
    }

    #[test]
    fn refuses_what_is_no_patch() {
        assert!(matches!(json_patch(&json!({}), &json!({})), Err(PatchError::Malformed(_))));
    }
}
