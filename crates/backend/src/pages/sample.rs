//! The sample object on the bind page: the template's, else one made from the schema.
//!
//! In: an [`Offering`]. Out: YAML that a consumer could apply. Called by `http::exports`.

use serde_json::{Map, Value, json};

use crate::catalogue::{OfferedKind, Offering};

/// How deep made-up objects go.
const DEPTH: usize = 6;

/// The sample as YAML; empty if the schema gives nothing away.
#[must_use]
pub fn yaml(offering: &Offering) -> String {
    let value = match &offering.template.spec.example {
        Some(example) => example.clone(),
        None => match offering.kinds.first() {
            Some(kind) => from_schema(kind),
            None => return String::new(),
        },
    };
    write(&value, 0)
}

/// A minimal object of the kind: required fields, and those of `spec` with a default, an enum or an example.
#[must_use]
pub fn from_schema(kind: &OfferedKind) -> Value {
    let mut object = json!({
        "apiVersion": format!("{}/{}", kind.group, kind.version),
        "kind": kind.kind,
        "metadata": {"name": "example"},
    });
    if let (Some(properties), Some(map)) = (kind.schema["properties"].as_object(), object.as_object_mut()) {
        for (name, schema) in properties {
            if !["apiVersion", "kind", "metadata", "status"].contains(&name.as_str()) {
                map.insert(name.clone(), example(schema, DEPTH));
            }
        }
    }
    object
}

fn example(schema: &Value, depth: usize) -> Value {
    for key in ["example", "default"] {
        if let Some(value) = schema.get(key) {
            return value.clone();
        }
    }
    if let Some(first) = schema["enum"].as_array().and_then(|list| list.first()) {
        return first.clone();
    }
    if schema["x-kubernetes-int-or-string"] == json!(true) {
        return json!(1);
    }
    match schema["type"].as_str() {
        Some("object") if depth > 0 => {
            let mut map = Map::new();
            let required: Vec<&str> = schema["required"]
                .as_array()
                .map(|list| list.iter().filter_map(Value::as_str).collect())
                .unwrap_or_default();
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                let telling = ["default", "enum", "example"].iter().any(|key| field.get(key).is_some());
                let simple = field["type"].as_str().is_some_and(|kind| kind != "object" && kind != "array");
                if required.contains(&name.as_str()) || telling || (simple && depth == DEPTH) {
                    map.insert(name.clone(), example(field, depth - 1));
                }
            }
            Value::Object(map)
        }
        Some("array") if depth > 0 && schema["minItems"].as_u64().unwrap_or(0) > 0 => {
            json!([example(&schema["items"], depth - 1)])
        }
        Some("array") => json!([]),
        Some("integer") => json!(schema["minimum"].as_i64().unwrap_or(1)),
        Some("number") => schema.get("minimum").cloned().unwrap_or(json!(1)),
        Some("boolean") => json!(false),
        Some("string") => match schema["format"].as_str() {
            Some("date-time") => json!("2030-01-01T00:00:00Z"),
            Some("date") => json!("2030-01-01"),
            _ => json!("example"),
        },
        _ => json!({}),
    }
}

/// Block-style YAML with the order that people write: apiVersion, kind, metadata, the rest.
fn write(value: &Value, indent: usize) -> String {
    let pad = "  ".repeat(indent);
    match value {
        Value::Object(map) if !map.is_empty() => {
            let rank = |key: &str| {
                ["apiVersion", "kind", "metadata", "name", "namespace"].iter().position(|k| *k == key).unwrap_or(9)
            };
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_by_key(|key| rank(key));
            keys.into_iter()
                .map(|key| match &map[key] {
                    Value::Object(inner) if !inner.is_empty() => {
                        format!("{pad}{}:\n{}", scalar(key), write(&map[key], indent + 1))
                    }
                    Value::Array(inner) if !inner.is_empty() => {
                        format!("{pad}{}:\n{}", scalar(key), write(&map[key], indent))
                    }
                    other => format!("{pad}{}: {}\n", scalar(key), leaf(other)),
                })
                .collect()
        }
        Value::Array(list) if !list.is_empty() => list
            .iter()
            .map(|item| match item {
                Value::Object(inner) if !inner.is_empty() => {
                    let text = write(item, indent + 1);
                    format!("{pad}- {}", text.trim_start())
                }
                Value::Array(_) => format!("{pad}- {item}\n"),
                other => format!("{pad}- {}\n", leaf(other)),
            })
            .collect(),
        other => format!("{pad}{}\n", leaf(other)),
    }
}

fn leaf(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

/// A text bare where YAML 1.1 and 1.2 read it back as that text, else in double quotes (JSON's are YAML's).
fn scalar(text: &str) -> String {
    let reserved = ["true", "false", "yes", "no", "on", "off", "y", "n", "null", "~"];
    let starts_well = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    if starts_well && plain && !reserved.contains(&text.to_ascii_lowercase().as_str()) {
        text.to_owned()
    } else {
        Value::String(text.to_owned()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_people_write() {
        let text = write(
            &json!({"spec": {"size": "XL", "on": "y", "list": [1, {"b": "x", "a": "1"}], "e": {}}, "kind": "K",
                    "apiVersion": "g/v1", "metadata": {"name": "a"}}),
            0,
        );
        assert_eq!(
            text,
            "apiVersion: g/v1\nkind: K\nmetadata:\n  name: a\nspec:\n  e: {}\n  list:\n  - 1\n  - a: \"1\"\n    b: x\n  \"on\": \"y\"\n  size: XL\n"
        );
        let back: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(back["spec"]["on"], json!("y"));
    }

    #[test]
    fn made_from_the_schema() {
        let kind = OfferedKind {
            group: "g".into(),
            plural: "things".into(),
            kind: "Thing".into(),
            version: "v1".into(),
            versions: vec!["v1".into()],
            scope: kube_bind_api::Scope::Namespaced,
            schema: json!({"type": "object", "properties": {
                "spec": {"type": "object", "required": ["tier", "deep"], "properties": {
                    "tier": {"type": "string", "enum": ["shared", "dedicated"]},
                    "region": {"type": "string", "default": "eu"},
                    "count": {"type": "integer"},
                    "deep": {"type": "object", "properties": {"x": {"type": "string"}}},
                    "left": {"type": "object"}}},
                "status": {"type": "object"}}}),
        };
        assert_eq!(from_schema(&kind)["spec"], json!({"tier": "shared", "region": "eu", "count": 1, "deep": {}}));
        assert!(from_schema(&kind).get("status").is_none());
    }
}
