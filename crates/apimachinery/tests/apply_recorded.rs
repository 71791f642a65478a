//! Server-side apply against what a real kube-apiserver (1.36) answered.
//!
//! `recorded/apply.json` holds requests and answers: for each step the object with its managedFields (times masked), or
//! the error; `recorded/apply_random.json` the same for random histories. Each case is replayed through the same pipeline a registry has.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use apimachinery::{
    apply::{ApplyError, ApplyOptions, ResetFields, UpdateOptions, apply, track_update},
    schema::Structural,
};
use serde_json::{Map, Value, json};

fn config_map() -> Structural {
    let text = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let schema = json!({
        "type": "object",
        "properties": {"data": text, "binaryData": text, "immutable": {"type": "boolean"}},
    });
    Structural::compile_builtin(&schema, &json!({})).unwrap()
}

fn thing() -> Structural {
    let schemas: Value = serde_json::from_str(include_str!("recorded/schemas.json")).unwrap();
    Structural::compile(&schemas["things"]).unwrap()
}

/// One request, as a registry would handle it.
fn handle(
    live: Option<&Value>,
    step: &Value,
    name: &str,
    kind: &str,
    schema: &Structural,
) -> Result<Value, (u64, String)> {
    let text = |key: &str| step[key].as_str().unwrap_or_default().to_owned();
    let subresource = text("subresource");
    let reset = match (kind, subresource.as_str()) {
        ("ConfigMap", _) => ResetFields::None,
        (_, "status") => ResetFields::AllButStatus,
        _ => ResetFields::Status,
    };
    let body = if step["op"] == "merge" {
        merge_patch(live.unwrap(), &step["body"])
    } else {
        let version = if kind == "Thing" { "h1.example/v1" } else { "v1" };
        let mut body = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
        let given = step["body"].as_object().unwrap().clone();
        for (key, value) in given {
            if key == "metadata" {
                for (key, value) in value.as_object().unwrap() {
                    body["metadata"][key] = value.clone();
                }
            } else {
                body[key] = value;
            }
        }
        body
    };
    let mut new = if step["op"] == "apply" {
        let options = ApplyOptions {
            manager: text("manager"),
            force: step["force"] == true,
            subresource,
            now: "2026-01-02T03:04:05.678Z".parse().unwrap(),
            reset,
        };
        let mut new = apply(live, &body, &options, schema).map_err(|error| {
            let code = match error {
                ApplyError::Conflicts(_) => 409,
                ApplyError::Typed { .. } => 500,
                ApplyError::BadRequest(_) => 400,
            };
            (code, error.to_string())
        })?;
        reset.restore(live, &mut new);
        schema.prune(&mut new);
        match kind {
            // A built-in type has no nulls.
            "ConfigMap" => schema.apply_defaults(&mut new),
            _ => schema.fill_defaults(&mut new),
        }
        new
    } else {
        let mut new = body;
        reset.restore(live, &mut new);
        if !subresource.is_empty() {
            let managed = new["metadata"].get("managedFields").cloned();
            new["metadata"] = live.unwrap()["metadata"].clone();
            if let Some(managed) = managed {
                new["metadata"]["managedFields"] = managed;
            }
        }
        schema.prune(&mut new);
        schema.apply_defaults(&mut new);
        let options = UpdateOptions {
            manager: text("manager"),
            subresource,
            now: "2026-01-02T03:04:05.678Z".parse().unwrap(),
            reset,
        };
        track_update(live, &mut new, &options, schema);
        new
    };
    if kind == "ConfigMap" && new["data"].as_object().is_some_and(Map::is_empty) {
        // Built-in types are written without empty maps.
        new.as_object_mut().unwrap().remove("data");
    }
    if let Some(data) = new.get("data")
        && data.is_null()
    {
        new.as_object_mut().unwrap().remove("data");
    }
    let errors = schema.validate(&new, live);
    if errors.is_empty() {
        schema.drop_nulls(&mut new);
        Ok(new)
    } else {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let errors = match errors.as_slice() {
            [only] => only.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let group = if kind == "Thing" { ".h1.example" } else { "" };
        Err((422, format!("{kind}{group} \"{name}\" is invalid: {errors}")))
    }
}

fn merge_patch(target: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch.clone();
    };
    let mut out = target.as_object().cloned().unwrap_or_default();
    for (key, value) in patch {
        if value.is_null() {
            out.remove(key);
        } else {
            let old = out.get(key).cloned().unwrap_or(Value::Null);
            out.insert(key.clone(), merge_patch(&old, value));
        }
    }
    Value::Object(out)
}

/// Masks times and leaves out what the recording left out.
fn masked(object: &Value) -> Value {
    let mut object = object.clone();
    let map = object.as_object_mut().unwrap();
    map.remove("apiVersion");
    map.remove("kind");
    if let Some(Value::Array(entries)) = object.pointer_mut("/metadata/managedFields") {
        for entry in entries.iter_mut() {
            if let Some(time) = entry.get_mut("time") {
                *time = json!("T");
            }
        }
        entries.sort_by_key(ToString::to_string);
    }
    object
}

/// A message with its causes sorted: the server goes through the fields of an object in no order.
fn unordered(message: &str) -> String {
    let whole = message.replace("[spec.", ", spec.").replace(']', "");
    let mut parts: Vec<&str> = whole.split(", spec.").collect();
    parts.sort_unstable();
    parts.join("\n")
}

/// Appends where two values differ.
fn differences(expected: &Value, got: &Value, at: &str, report: &mut String) {
    match (expected, got) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))) {
                let (a, b) = (a.get(key), b.get(key));
                match (a, b) {
                    (Some(a), Some(b)) => differences(a, b, &format!("{at}/{key}"), report),
                    _ => report.push_str(&format!("\n  {at}/{key}: expected {a:?}, got {b:?}")),
                }
            }
        }
        _ if expected == got => {}
        _ => report.push_str(&format!("\n  {at}: expected {expected}, got {got}")),
    }
}

#[test]
fn every_recorded_step_gives_the_same_object_and_owners() {
    let mut cases: Vec<Value> = serde_json::from_str(include_str!("recorded/apply.json")).unwrap();
    let random: Vec<Value> = serde_json::from_str(include_str!("recorded/apply_random.json")).unwrap();
    cases.extend(random);
    let (thing, config_map) = (thing(), config_map());
    let mut wrong = Vec::new();
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let kind = case["kind"].as_str().unwrap();
        let schema = if kind == "Thing" { &thing } else { &config_map };
        let mut live: Option<Value> = None;
        for (index, step) in case["steps"].as_array().unwrap().iter().enumerate() {
            let answer = handle(live.as_ref(), step, name, kind, schema);
            let expected = match step.get("object") {
                Some(object) => Ok(masked(object)),
                None => Err((step["code"].as_u64().unwrap(), unordered(step["message"].as_str().unwrap()))),
            };
            let shown = answer.as_ref().map(masked).map_err(|(code, text)| (*code, unordered(text)));
            if shown != expected {
                let mut report = format!("{name} step {index} {} {}", step["op"], step["body"]);
                match (&expected, &shown) {
                    (Ok(expected), Ok(shown)) => differences(expected, shown, "", &mut report),
                    _ => report.push_str(&format!("\n  expected {expected:?}\n  got      {shown:?}")),
                }
                wrong.push(report);
            }
            if let Ok(object) = answer {
                live = Some(object);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
