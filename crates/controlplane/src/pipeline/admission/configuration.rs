//! Secrets and ConfigMaps: `stringData`, the default type, sizes, keys, immutability.

use apimachinery::field_path::FieldError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// All values together, in bytes.
const LIMIT: usize = 1024 * 1024;

/// Built-in types are written without empty maps.
pub(super) fn drop_empty(object: &mut Value) {
    let Some(map) = object.as_object_mut() else {
        return;
    };
    for field in ["data", "binaryData"] {
        if map.get(field).and_then(Value::as_object).is_some_and(Map::is_empty) {
            map.remove(field);
        }
    }
}

pub(super) fn default_secret(object: &mut Value) {
    drop_empty(object);
    let Some(map) = object.as_object_mut() else {
        return;
    };
    if let Some(Value::Object(plain)) = map.remove("stringData") {
        let data = map.entry("data").or_insert_with(|| Value::Object(Map::new()));
        if data.is_null() {
            *data = Value::Object(Map::new());
        }
        for (key, value) in plain {
            data[key] = STANDARD.encode(value.as_str().unwrap_or_default()).into();
        }
    }
    if map.get("type").and_then(Value::as_str).unwrap_or_default().is_empty() {
        map.insert("type".into(), "Opaque".into());
    }
}

fn entries<'a>(object: &'a Value, field: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    object.get(field).and_then(Value::as_object).into_iter().flatten()
}

fn key_error(path: &str, key: &str) -> Option<FieldError> {
    let fits = !key.is_empty()
        && key.len() <= 253
        && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && key != "."
        && !key.starts_with("..");
    let detail = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
                  'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
    (!fits).then(|| FieldError::invalid(format!("{path}[{key}]"), key, detail))
}

fn immutable(old: Option<&Value>, object: &Value, fields: &[&str]) -> Vec<FieldError> {
    let Some(old) = old.filter(|old| old.get("immutable") == Some(&Value::Bool(true))) else {
        return Vec::new();
    };
    let mut errors = Vec::new();
    let detail = "field is immutable when `immutable` is set";
    if object.get("immutable") != Some(&Value::Bool(true)) {
        errors.push(FieldError::forbidden("immutable", detail));
    }
    let empty = |v: Option<&Value>| v.is_none_or(|v| v.is_null() || v.as_object().is_some_and(Map::is_empty));
    for field in fields {
        let (was, is) = (old.get(field), object.get(field));
        if was != is && !(empty(was) && empty(is)) {
            errors.push(FieldError::forbidden(*field, detail));
        }
    }
    errors
}

/// The keys that a Secret of a certain type must have.
fn required_keys(kind: &str) -> &'static [&'static str] {
    match kind {
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        _ => &[],
    }
}

pub(super) fn validate_secret(old: Option<&Value>, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut size = 0;
    for (key, value) in entries(object, "data") {
        errors.extend(key_error("data", key));
        let text = value.as_str().unwrap_or_default();
        match STANDARD.decode(text) {
            Ok(bytes) => size += bytes.len(),
            Err(error) => errors.push(FieldError::invalid(format!("data[{key}]"), "<base64>", error.to_string())),
        }
    }
    if size > LIMIT {
        errors.push(FieldError::too_long("data", LIMIT as u64));
    }
    let kind = object.get("type").and_then(Value::as_str).unwrap_or_default();
    for key in required_keys(kind) {
        if !entries(object, "data").any(|(k, _)| k == key) {
            errors.push(FieldError::required(format!("data[{key}]"), ""));
        }
    }
    if kind == "kubernetes.io/service-account-token" {
        let account = "kubernetes.io/service-account.name";
        let named = object.pointer("/metadata/annotations").and_then(|a| a.get(account)).and_then(Value::as_str);
        if named.unwrap_or_default().is_empty() {
            errors.push(FieldError::required(format!("metadata.annotations[{account}]"), ""));
        }
    }
    if let Some(old) = old
        && old.get("type") != object.get("type")
    {
        errors.push(FieldError::invalid("type", kind, "field is immutable"));
    }
    errors.extend(immutable(old, object, &["data"]));
    errors
}

pub(super) fn validate_config_map(old: Option<&Value>, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut size = 0;
    for (key, value) in entries(object, "data") {
        errors.extend(key_error("data", key));
        if entries(object, "binaryData").any(|(k, _)| k == key) {
            let detail = "duplicate of key present in binaryData";
            errors.push(FieldError::invalid(format!("data[{key}]"), key.as_str(), detail));
        }
        size += value.as_str().unwrap_or_default().len();
    }
    for (key, value) in entries(object, "binaryData") {
        errors.extend(key_error("binaryData", key));
        match STANDARD.decode(value.as_str().unwrap_or_default()) {
            Ok(bytes) => size += bytes.len(),
            Err(error) => errors.push(FieldError::invalid(format!("binaryData[{key}]"), "<base64>", error.to_string())),
        }
    }
    if size > LIMIT {
        errors.push(FieldError::too_long("[]", LIMIT as u64));
    }
    errors.extend(immutable(old, object, &["data", "binaryData"]));
    errors
}
