//! Validation of values, in the words of kube-apiserver.
//!
//! In: a node, a value and, for an update, the old value. Out: [`FieldError`]s. An update does not report what is wrong
//! in a part that did not change (ratcheting, KEP-4008). Rules (CEL) are in `rules`; list types at the end of this file.

use std::sync::Arc;

use serde_json::{Map, Number, Value};

use super::{
    formats::Format,
    metadata,
    node::{Bound, ListType, MapType, Node, NodeType},
};
use crate::field_path::{FieldError, FieldErrorKind, PathBuf, go_float};

/// Validates a whole object: `metadata` has the built-in schema beside what the schema says of it.
pub(super) fn validate_object(node: &Node, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut path = PathBuf::default();
    if let Some(meta) = object.get("metadata") {
        path.field("metadata", |path| check(&metadata::NODE, meta, None, path, &mut errors));
    }
    check(node, object, old, &mut path, &mut errors);
    embedded(node, object, &mut path, &mut errors);
    errors
}

/// Embedded resources name their type, and have metadata like any object.
fn embedded(node: &Node, value: &Value, path: &mut PathBuf, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(map) => {
            if node.embedded_resource {
                for name in ["apiVersion", "kind"] {
                    let text = map.get(name).and_then(Value::as_str).unwrap_or_default();
                    if text.is_empty() {
                        errors.push(FieldError::required(path.child(name), ""));
                    }
                }
                if let Some(meta) = map.get("metadata") {
                    path.field("metadata", |path| check(&metadata::NODE, meta, None, path, errors));
                }
            }
            for (name, child) in map {
                if let Some(schema) = node.field(name) {
                    path.field(name, |path| embedded(schema, child, path, errors));
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = &node.items {
                for (index, item) in items.iter().enumerate() {
                    path.index(index, |path| embedded(schema, item, path, errors));
                }
            }
        }
        _ => {}
    }
}

/// Validates a value on its own.
pub(super) fn validate_value(node: &Node, value: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    check(node, value, None, &mut PathBuf::default(), &mut errors);
    errors
}

fn check(node: &Node, value: &Value, old: Option<&Value>, path: &mut PathBuf, errors: &mut Vec<FieldError>) {
    if old == Some(value) {
        return;
    }
    check_type(node, value, path, errors);
    // Of a null, only type and enum are asked.
    if !value.is_null() {
        junctors(node, value, path, errors);
    }
    match value {
        Value::String(text) => string(node, text, path, errors),
        Value::Number(number) => numeric(node, number, path, errors),
        Value::Array(items) => array(node, items, old, path, errors),
        Value::Object(map) => object(node, map, old, path, errors),
        Value::Null | Value::Bool(_) => {}
    }
    if let Some(values) = &node.checks.values
        && !values.iter().any(|v| same(v, value))
    {
        let supported: Vec<String> = values
            .iter()
            .map(|v| match v {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            })
            .collect();
        errors.push(FieldError::not_supported(path.as_str(), value.clone(), &supported));
    }
}

/// JSON equality where 1 and 1.0 are the same.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

fn check_type(node: &Node, value: &Value, path: &PathBuf, errors: &mut Vec<FieldError>) {
    let wrong = |name: &str| {
        let detail = format!("{path} in body must be of type {}: \"{name}\"", node.kind.name());
        FieldError::type_invalid(path.as_str(), name, detail)
    };
    let fits = match (node.kind, value) {
        (NodeType::Any, _) => true,
        (_, Value::Null) => node.nullable,
        (NodeType::Object, Value::Object(_))
        | (NodeType::Array, Value::Array(_))
        | (NodeType::String | NodeType::IntOrString, Value::String(_))
        | (NodeType::Boolean, Value::Bool(_))
        | (NodeType::Number, Value::Number(_)) => true,
        (NodeType::Integer | NodeType::IntOrString, Value::Number(n)) => is_whole(n),
        _ => false,
    };
    if !fits {
        errors.push(wrong(type_name(value)));
    }
}

fn is_whole(number: &Number) -> bool {
    !number.is_f64() || number.as_f64().is_some_and(|f| f.fract() == 0.0)
}

/// The JSON type of a value as messages name it.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if is_whole(n) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn junctors(node: &Node, value: &Value, path: &PathBuf, errors: &mut Vec<FieldError>) {
    let checks = &node.checks;
    let try_one = |schema: &Arc<Node>| {
        let mut found = Vec::new();
        check(schema, value, None, &mut path.clone(), &mut found);
        found
    };
    let said = |text: &str| nameless(format!("\"{path}\" {text}"));
    if !checks.any_of.is_empty() {
        let results: Vec<_> = checks.any_of.iter().map(try_one).collect();
        if !results.iter().any(Vec::is_empty) {
            errors.push(said("must validate at least one schema (anyOf)"));
            errors.extend(best(results));
        }
    }
    if !checks.one_of.is_empty() {
        let results: Vec<_> = checks.one_of.iter().map(try_one).collect();
        match results.iter().filter(|r| r.is_empty()).count() {
            1 => {}
            0 => {
                errors.push(said("must validate one and only one schema (oneOf). Found none valid"));
                errors.extend(best(results));
            }
            count => errors.push(said(&format!(
                "must validate one and only one schema (oneOf). Found {count} valid alternatives"
            ))),
        }
    }
    if !checks.all_of.is_empty() {
        let failures: Vec<_> = checks.all_of.iter().flat_map(try_one).collect();
        if !failures.is_empty() {
            errors.extend(failures);
            errors.push(said("must validate all the schemas (allOf)"));
        }
    }
    if let Some(schema) = &checks.not
        && try_one(schema).is_empty()
    {
        errors.push(said("must not validate the schema (not)"));
    }
}

/// Some errors name the field in their text only.
fn nameless(detail: String) -> FieldError {
    FieldError::invalid("", "", detail)
}

/// Of several failed alternatives, the one that came closest explains the most.
fn best(results: Vec<Vec<FieldError>>) -> Vec<FieldError> {
    results.into_iter().min_by_key(Vec::len).unwrap_or_default()
}

fn string(node: &Node, text: &str, path: &PathBuf, errors: &mut Vec<FieldError>) {
    let checks = &node.checks;
    let length = text.chars().count() as u64;
    if let Some(max) = checks.max_length.filter(|max| length > *max) {
        errors.push(FieldError::too_long(path.as_str(), max));
    }
    if let Some(min) = checks.min_length.filter(|min| length < *min) {
        errors.push(FieldError::invalid(
            path.as_str(),
            text,
            format!("{path} in body should be at least {min} chars long"),
        ));
    }
    if let Some(pattern) = checks.pattern.as_ref().filter(|p| !p.is_match(text)) {
        errors.push(FieldError::invalid(
            path.as_str(),
            text,
            format!("{path} in body should match '{}'", pattern.source),
        ));
    }
    if let Some(format) = checks.format.filter(|f| !f.accepts(text)) {
        errors.push(FieldError::type_invalid(
            path.as_str(),
            text,
            format!("{path} in body must be of type {}: {}", format.name(), Value::from(text)),
        ));
    }
}

fn numeric(node: &Node, number: &Number, path: &PathBuf, errors: &mut Vec<FieldError>) {
    let checks = &node.checks;
    let integer = node.kind == NodeType::Integer;
    match checks.format.filter(|f| !in_range(*f, number)) {
        Some(format) => errors.push(nameless(format!(
            "Checked value must be of type {} with format {} in {path}",
            node.kind.name(),
            format.name()
        ))),
        None if integer && !is_whole(number) => {
            errors.push(nameless(format!("Checked value must be of type integer (default format) in {path}")))
        }
        None => {}
    }
    let mut fail = |detail: String| {
        errors.push(FieldError::invalid(path.as_str(), Value::Number(number.clone()), detail));
    };
    if let Some(factor) = &checks.multiple_of
        && !is_multiple(number, factor)
    {
        fail(format!("{path} in body should be a multiple of {}", shown(factor, number)));
    }
    if let Some(Bound { value, exclusive }) = &checks.maximum {
        let order = compare(number, value);
        if order == std::cmp::Ordering::Greater || (*exclusive && order.is_eq()) {
            let words = if *exclusive { "less than" } else { "less than or equal to" };
            fail(format!("{path} in body should be {words} {}", shown(value, number)));
        }
    }
    if let Some(Bound { value, exclusive }) = &checks.minimum {
        let order = compare(number, value);
        if order == std::cmp::Ordering::Less || (*exclusive && order.is_eq()) {
            let words = if *exclusive { "greater than" } else { "greater than or equal to" };
            fail(format!("{path} in body should be {words} {}", shown(value, number)));
        }
    }
}

fn in_range(format: Format, number: &Number) -> bool {
    match format {
        Format::Int32 => number
            .as_f64()
            .is_some_and(|f| f.fract() != 0.0 || (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&f)),
        Format::Int64 => number.is_i64() || number.is_f64(),
        Format::Float => number.as_f64().is_some_and(|f| f.abs() <= f64::from(f32::MAX)),
        Format::Double | Format::Text(_) => true,
    }
}

fn compare(a: &Number, b: &Number) -> std::cmp::Ordering {
    if let (Some(a), Some(b)) = (a.as_i64(), b.as_i64()) {
        return a.cmp(&b);
    }
    let (a, b) = (a.as_f64().unwrap_or(f64::NAN), b.as_f64().unwrap_or(f64::NAN));
    a.partial_cmp(&b).unwrap_or(std::cmp::Ordering::Equal)
}

fn is_multiple(number: &Number, factor: &Number) -> bool {
    if let (Some(number), Some(factor)) = (number.as_i64(), factor.as_i64()) {
        return factor == 0 || number % factor == 0;
    }
    match (number.as_f64(), factor.as_f64()) {
        (Some(number), Some(factor)) if factor != 0.0 => {
            let quotient = number / factor;
            (quotient - quotient.round()).abs() < 1e-9
        }
        _ => true,
    }
}

/// A limit as the server prints it: as a whole number when the value is one, else as Go prints a float64.
fn shown(limit: &Number, value: &Number) -> String {
    match (value.is_f64(), limit.as_f64()) {
        (false, Some(limit)) if limit.fract() == 0.0 => format!("{limit:.0}"),
        (_, Some(limit)) => go_float(limit),
        _ => limit.to_string(),
    }
}

fn array(node: &Node, items: &[Value], old: Option<&Value>, path: &mut PathBuf, errors: &mut Vec<FieldError>) {
    let checks = &node.checks;
    let length = items.len() as u64;
    if let Some(schema) = &node.items {
        let old_items = OldItems::new(node, old);
        for (index, item) in items.iter().enumerate() {
            path.index(index, |path| check(schema, item, old_items.of(item), path, errors));
        }
    }
    if let Some(min) = checks.min_items.filter(|min| length < *min) {
        errors.push(FieldError::invalid(
            path.as_str(),
            length,
            format!("{path} in body should have at least {min} items"),
        ));
    }
    if let Some(max) = checks.max_items.filter(|max| length > *max) {
        errors.push(FieldError::too_many(path.as_str(), length, max));
    }
    if checks.unique_items && items.iter().enumerate().any(|(i, item)| items[..i].contains(item)) {
        errors.push(FieldError::invalid(path.as_str(), "", format!("{path} in body shouldn't contain duplicates")));
    }
}

fn object(
    node: &Node,
    map: &Map<String, Value>,
    old: Option<&Value>,
    path: &mut PathBuf,
    errors: &mut Vec<FieldError>,
) {
    let checks = &node.checks;
    let length = map.len() as u64;
    if let Some(min) = checks.min_properties.filter(|min| length < *min) {
        errors.push(FieldError::invalid(
            path.as_str(),
            length,
            format!("{path} in body should have at least {min} properties"),
        ));
    }
    if let Some(max) = checks.max_properties.filter(|max| length > *max) {
        errors.push(FieldError::too_many(path.as_str(), length, max));
    }
    // The children of an atomic map have no identity over time.
    let old = old.filter(|_| node.map_type == MapType::Granular);
    for (name, value) in map {
        if let Some(schema) = node.field(name) {
            let old = old.and_then(|o| o.get(name));
            path.field(name, |path| check(schema, value, old, path, errors));
        }
    }
    for name in &checks.required {
        if !map.contains_key(name) {
            errors.push(FieldError::required(path.child(name), ""));
        }
    }
}

/// The items of an old list by identity: only lists of type map have one.
pub(super) struct OldItems<'a> {
    node: &'a Node,
    items: &'a [Value],
}

impl<'a> OldItems<'a> {
    pub(super) fn new(node: &'a Node, old: Option<&'a Value>) -> Self {
        let items = match old {
            Some(Value::Array(items)) if node.list_type == ListType::Map => items.as_slice(),
            _ => &[],
        };
        Self { node, items }
    }

    pub(super) fn of(&self, item: &Value) -> Option<&'a Value> {
        self.items.iter().find(|old| self.node.map_keys.iter().all(|key| old.get(key) == item.get(key)))
    }
}

/// Lists of type set and map hold each item once. `base` is a path to start from.
pub(super) fn list_types(node: &Node, value: &Value, path: &mut PathBuf, errors: &mut Vec<FieldError>) {
    match value {
        Value::Array(items) => {
            duplicates(node, items, path, errors);
            if let Some(schema) = &node.items {
                for (index, item) in items.iter().enumerate() {
                    path.index(index, |path| list_types(schema, item, path, errors));
                }
            }
        }
        Value::Object(map) => {
            for (name, child) in map {
                if let Some(schema) = node.properties.get(name) {
                    path.field(name, |path| list_types(schema, child, path, errors));
                } else if let Some(schema) = &node.additional {
                    path.key(name, |path| list_types(schema, child, path, errors));
                }
            }
        }
        _ => {}
    }
}

fn duplicates(node: &Node, items: &[Value], path: &mut PathBuf, errors: &mut Vec<FieldError>) {
    let identities: Vec<Value> = match node.list_type {
        ListType::Atomic => return,
        ListType::Set => items.to_vec(),
        ListType::Map => items
            .iter()
            .map(|item| {
                let keys = node.map_keys.iter().filter_map(|key| {
                    let value = item.get(key).cloned();
                    let default = || {
                        let child = node.items.as_ref()?.properties.get(key)?;
                        child.default.clone()
                    };
                    Some((key.clone(), value.or_else(default)?))
                });
                Value::Object(keys.collect())
            })
            .collect(),
    };
    let mut seen = std::collections::HashMap::new();
    for (index, identity) in identities.into_iter().enumerate() {
        let times = seen.entry(identity.to_string()).or_insert(0_u32);
        *times += 1;
        // As the server does: reported once, at the second occurrence.
        if *times == 2 {
            path.index(index, |path| {
                errors.push(FieldError::new(FieldErrorKind::Duplicate, path.as_str(), Some(identity), ""));
            });
        }
    }
}
