//! Values with their schema: what server-side apply does to objects, field by field.
//!
//! In: nodes and JSON values. Out: the fields a value sets ([`field_set`]), the merge of a configuration into an object
//! ([`merge`]), what changed between two objects ([`compare`]), an object without some fields ([`remove`]). Fields
//! without a schema are typed by what they hold: objects by field, lists as a whole.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use serde_json::{Map, Value};

use super::field_set::{FieldSet, PathElement};
use crate::schema::{ListType, MapType, Node, NodeType, metadata};

static OPEN: LazyLock<Arc<Node>> = LazyLock::new(|| Arc::new(Node::open()));
static NOTHING: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);

/// How a value is taken apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// As a whole: scalars, atomic lists and maps.
    Leaf,
    /// By field.
    Map,
    /// By item.
    List,
}

fn shape(node: &Node, value: &Value) -> Shape {
    let map = match node.map_type {
        MapType::Atomic => Shape::Leaf,
        MapType::Granular => Shape::Map,
    };
    let list = match node.list_type {
        ListType::Atomic => Shape::Leaf,
        ListType::Set | ListType::Map => Shape::List,
    };
    match (node.kind, value) {
        (NodeType::Object | NodeType::Any, Value::Object(_)) => map,
        (NodeType::Array | NodeType::Any, Value::Array(_)) => list,
        // Null takes the form of its type.
        (NodeType::Object | NodeType::Any, Value::Null) => map,
        (NodeType::Array, Value::Null) => list,
        _ => Shape::Leaf,
    }
}

/// The declared field of that name. Embedded resources have apiVersion, kind and metadata like every object.
fn declared<'a>(node: &'a Node, name: &str) -> Option<&'a Arc<Node>> {
    match name {
        "metadata" if node.embedded_resource => Some(&metadata::NODE),
        "apiVersion" | "kind" if node.embedded_resource => Some(&metadata::TEXT),
        _ => node.properties.get(name),
    }
}

/// The node of a field; None if the schema does not declare it.
fn field<'a>(node: &'a Node, name: &str) -> Option<&'a Arc<Node>> {
    declared(node, name).or(node.additional.as_ref()).or_else(|| {
        // An object without any declared field is typed by what it holds.
        let open = node.preserve_unknown
            || node.kind == NodeType::Any
            || (node.properties.is_empty() && node.additional.is_none());
        open.then(|| &*OPEN)
    })
}

fn field_or_open<'a>(node: &'a Node, name: &str) -> &'a Arc<Node> {
    field(node, name).unwrap_or(&OPEN)
}

fn items(node: &Node) -> &Arc<Node> {
    node.items.as_ref().unwrap_or(&OPEN)
}

fn as_map(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

fn as_list(value: Option<&Value>) -> Option<&[Value]> {
    value.and_then(Value::as_array).map(Vec::as_slice)
}

/// The identity of a list item, or why it has none.
fn item_element(node: &Node, item: &Value) -> Result<PathElement, String> {
    if node.list_type == ListType::Set {
        return match item {
            Value::Null => Err("associative list without keys has an element that's an explicit null".into()),
            _ => Ok(PathElement::value(item)),
        };
    }
    let Some(map) = item.as_object() else {
        return Err(match item {
            Value::Null => "associative list with keys may not have a null element".into(),
            _ => "associative list with keys may not have non-map elements".into(),
        });
    };
    let mut keys = Map::new();
    for key in &node.map_keys {
        let default = || items(node).properties.get(key)?.default.clone();
        if let Some(value) = map.get(key).cloned().or_else(default) {
            keys.insert(key.clone(), value);
        }
    }
    if keys.is_empty() {
        return Err(format!(
            "associative list with keys has an element that omits all key fields {:?} (and doesn't have default values for any key fields)",
            node.map_keys
        ));
    }
    Ok(PathElement::key(&keys))
}

/// Items by identity; items without one are left out (they do not pass validation).
fn indexed<'a>(node: &Node, list: &'a [Value]) -> Vec<(PathElement, &'a Value)> {
    list.iter().filter_map(|item| Some((item_element(node, item).ok()?, item))).collect()
}

/// Checks that a configuration fits the schema. Errors read `.spec.x: field not declared in schema`.
pub(super) fn check(node: &Node, value: &Value, path: &str, errors: &mut Vec<String>) {
    let expected = |what: &str, got: String| format!("{path}: expected {what}, got {got}");
    match (node.kind, value) {
        (_, Value::Null) => {}
        (NodeType::Object | NodeType::Any, Value::Object(map)) => {
            for (name, child) in map {
                let here = format!("{path}.{name}");
                match field(node, name) {
                    Some(schema) => check(schema, child, &here, errors),
                    None => errors.push(format!("{here}: field not declared in schema")),
                }
            }
        }
        (NodeType::Array, Value::Array(list)) => {
            let mut seen = std::collections::HashSet::new();
            for (index, item) in list.iter().enumerate() {
                let element = if node.list_type == ListType::Atomic {
                    PathElement::Index(index as u64)
                } else {
                    match item_element(node, item) {
                        Ok(element) => element,
                        Err(reason) => {
                            errors.push(format!("{path}: element {index}: {reason}"));
                            return;
                        }
                    }
                };
                if !seen.insert(element.clone()) {
                    errors.push(format!("{path}: duplicate entries for key {element}"));
                }
                check(items(node), item, &format!("{path}{element}"), errors);
            }
        }
        (NodeType::Object, other) => errors.push(expected("map", go_pointer(other))),
        (NodeType::Array, other) => errors.push(expected("list", go_pointer(other))),
        (NodeType::Integer | NodeType::Number, other) if !other.is_number() => {
            errors.push(expected("numeric (int or float)", go_type(other).into()));
        }
        (NodeType::String, other) if !other.is_string() => {
            let got = format!("&value.valueUnstructured{{Value:{}}}", go_value(other));
            errors.push(expected("string", got));
        }
        (NodeType::Boolean, other) if !other.is_boolean() => {
            errors.push(expected("boolean", go_pointer(other)));
        }
        _ => {}
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
        Value::Number(_) => "int64",
        Value::Null => "<nil>",
    }
}

/// A value as Go prints one behind a pointer.
fn go_pointer(value: &Value) -> String {
    format!("&{{{}}}", go_value(value))
}

/// A value as Go's `%v` prints it.
fn go_value(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".to_owned(),
        Value::Array(list) => {
            let list: Vec<String> = list.iter().map(go_value).collect();
            format!("[{}]", list.join(" "))
        }
        Value::Object(map) => {
            let map: Vec<String> = map.iter().map(|(name, child)| format!("{name}:{}", go_value(child))).collect();
            format!("map[{}]", map.join(" "))
        }
        scalar => scalar.to_string(),
    }
}

/// The fields a value sets.
pub(super) fn field_set(node: &Node, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    collect(node, value, &mut Vec::new(), &mut set);
    set
}

fn collect(node: &Node, value: &Value, path: &mut Vec<PathElement>, set: &mut FieldSet) {
    match (shape(node, value), value) {
        (Shape::Map, Value::Object(map)) => {
            for (name, child) in map {
                path.push(PathElement::Field(name.clone()));
                let empty = child.is_null() || child.as_object().is_some_and(Map::is_empty);
                if empty || declared(node, name).is_none() {
                    set.insert(path);
                }
                collect(field_or_open(node, name), child, path, set);
                path.pop();
            }
        }
        (Shape::List, Value::Array(list)) => {
            for (element, item) in indexed(node, list) {
                path.push(element);
                set.insert(path);
                collect(items(node), item, path, set);
                path.pop();
            }
        }
        (Shape::Leaf, _) => set.insert(path),
        _ => {}
    }
}

/// `config` merged into `live`; what the configuration says wins, field by field.
pub(super) fn merge(node: &Node, live: Option<&Value>, config: Option<&Value>) -> Option<Value> {
    let decisive = config.or(live)?;
    match shape(node, decisive) {
        Shape::Leaf => Some(decisive.clone()),
        Shape::Map => {
            let ours = as_map(live).unwrap_or(&NOTHING);
            let theirs = as_map(config).unwrap_or(&NOTHING);
            if ours.is_empty() && theirs.is_empty() {
                return Some(decisive.clone());
            }
            let mut out = Map::new();
            for name in ours.keys().chain(theirs.keys()) {
                if out.contains_key(name) {
                    continue;
                }
                let child = field_or_open(node, name);
                if let Some(value) = merge(child, ours.get(name), theirs.get(name)) {
                    out.insert(name.clone(), value);
                }
            }
            Some(Value::Object(out))
        }
        Shape::List => {
            let ours = as_list(live).unwrap_or_default();
            let theirs = as_list(config).unwrap_or_default();
            if ours.is_empty() && theirs.is_empty() {
                return Some(decisive.clone());
            }
            Some(Value::Array(merge_lists(node, ours, theirs)))
        }
    }
}

/// Merges lists whose items have an identity. The configuration's items keep their order; items that only the object
/// has stay where they are relative to the items both have.
fn merge_lists(node: &Node, live: &[Value], config: &[Value]) -> Vec<Value> {
    let ours = indexed(node, live);
    let theirs = indexed(node, config);
    let of_ours: BTreeMap<&PathElement, &Value> = ours.iter().rev().map(|(e, item)| (e, *item)).collect();
    let of_theirs: BTreeMap<&PathElement, &Value> = theirs.iter().map(|(e, item)| (e, *item)).collect();
    let mut shared = theirs.iter().map(|(e, _)| e).filter(|e| of_ours.contains_key(e));
    let mut next_shared = shared.next();
    let mut left = ours.iter().peekable();
    let mut right = theirs.iter().peekable();
    let mut done = std::collections::BTreeSet::new();
    let mut out = Vec::with_capacity(live.len().max(config.len()));
    let merged =
        |element: &PathElement| merge(items(node), of_ours.get(element).copied(), of_theirs.get(element).copied());
    loop {
        match (left.peek().copied(), right.peek().copied()) {
            (None, None) => return out,
            (Some((a, _)), Some((b, _))) if a == b => {
                done.insert(a);
                out.extend(merged(a));
                left.next();
                right.next();
                next_shared = shared.next();
            }
            // Both have it, but its turn comes later in the configuration.
            (Some((a, _)), Some(_)) if of_theirs.contains_key(a) && next_shared.is_some_and(|n| n != a) => {
                left.next();
            }
            // Only the object has it.
            (Some((a, item)), _) if !of_theirs.contains_key(a) => {
                out.extend(merge(items(node), Some(item), None));
                left.next();
            }
            (_, Some((b, _))) => {
                // What was placed by the configuration already is not placed again.
                if left.peek().is_some_and(|(a, _)| done.contains(a)) {
                    left.next();
                }
                done.insert(b);
                out.extend(merged(b));
                right.next();
                if next_shared == Some(b) {
                    next_shared = shared.next();
                }
            }
            (Some(_), None) => {
                left.next();
            }
        }
    }
}

/// What differs between two objects.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Comparison {
    pub(super) added: FieldSet,
    pub(super) modified: FieldSet,
    pub(super) removed: FieldSet,
}

impl Comparison {
    pub(super) fn is_same(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    /// Added and modified fields.
    pub(super) fn set(&self) -> FieldSet {
        self.added.union(&self.modified)
    }
}

/// Compares two objects.
pub(super) fn compare(node: &Node, old: &Value, new: &Value) -> Comparison {
    let mut out = Comparison::default();
    differ(node, Some(old), Some(new), &mut Vec::new(), &mut out);
    out
}

fn differ(node: &Node, old: Option<&Value>, new: Option<&Value>, path: &mut Vec<PathElement>, out: &mut Comparison) {
    if old == new {
        return;
    }
    let shapes = match (old, new) {
        (Some(old), Some(new)) => {
            let (a, b) = (shape(node, old), shape(node, new));
            if a == b || old.is_null() {
                vec![b]
            } else if new.is_null() {
                vec![a]
            } else {
                vec![a, b]
            }
        }
        (Some(only), None) | (None, Some(only)) => vec![shape(node, only)],
        (None, None) => return,
    };
    let mut leaf = false;
    for shape in shapes {
        leaf |= match shape {
            Shape::Leaf => true,
            Shape::Map => differ_maps(node, old, new, path, out),
            Shape::List => differ_lists(node, old, new, path, out),
        };
    }
    match (old, new) {
        (None, Some(_)) => out.added.insert(path),
        (Some(_), None) => out.removed.insert(path),
        (Some(old), Some(new)) if leaf && !equal(old, new) => out.modified.insert(path),
        _ => {}
    }
}

/// Compares by field; true if there are no fields on either side, so that the value counts as a leaf.
fn differ_maps(
    node: &Node,
    old: Option<&Value>,
    new: Option<&Value>,
    path: &mut Vec<PathElement>,
    out: &mut Comparison,
) -> bool {
    let before = as_map(old).unwrap_or(&NOTHING);
    let after = as_map(new).unwrap_or(&NOTHING);
    if before.is_empty() && after.is_empty() {
        return true;
    }
    let only_after = after.keys().filter(|name| !before.contains_key(*name));
    for name in before.keys().chain(only_after) {
        path.push(PathElement::Field(name.clone()));
        let child = field_or_open(node, name);
        differ(child, before.get(name), after.get(name), path, out);
        path.pop();
    }
    false
}

fn differ_lists(
    node: &Node,
    old: Option<&Value>,
    new: Option<&Value>,
    path: &mut Vec<PathElement>,
    out: &mut Comparison,
) -> bool {
    let before = as_list(old).unwrap_or_default();
    let after = as_list(new).unwrap_or_default();
    if before.is_empty() && after.is_empty() {
        return true;
    }
    // An identity may occur more than once in objects that were stored before their schema said otherwise.
    type Pair<'a> = (Vec<&'a Value>, Vec<&'a Value>);
    let mut by_identity: BTreeMap<PathElement, Pair<'_>> = BTreeMap::new();
    for (element, item) in indexed(node, before) {
        by_identity.entry(element).or_default().0.push(item);
    }
    for (element, item) in indexed(node, after) {
        by_identity.entry(element).or_default().1.push(item);
    }
    for (element, (before, after)) in by_identity {
        path.push(element);
        match (before.as_slice(), after.as_slice()) {
            ([] | [_], [] | [_]) => differ(items(node), before.first().copied(), after.first().copied(), path, out),
            ([_, _, ..], [_, _, ..]) => {
                if before != after {
                    out.modified.insert(path);
                }
            }
            ([_, _, ..], rest) => {
                if let Some(item) = rest.first() {
                    differ(items(node), None, Some(item), path, out);
                }
                out.removed.insert(path);
            }
            (rest, _) => {
                if let Some(item) = rest.first() {
                    differ(items(node), Some(item), None, path, out);
                }
                out.added.insert(path);
            }
        }
        path.pop();
    }
    false
}

/// JSON equality where 1 and 1.0 are the same.
pub(super) fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

/// `value` without the fields of `set`. What is emptied becomes null, as in Kubernetes, unless it is in the set itself.
pub(super) fn remove(node: &Node, value: &Value, set: &FieldSet) -> Value {
    match (shape(node, value), value) {
        (Shape::Map, Value::Object(map)) => {
            let mut out = Map::new();
            for (name, child) in map {
                let element = PathElement::Field(name.clone());
                if set.has_element(&element) {
                    continue;
                }
                let kept = match set.below(&element) {
                    Some(below) => remove(field_or_open(node, name), child, below),
                    None => child.clone(),
                };
                out.insert(name.clone(), kept);
            }
            if out.is_empty() { Value::Null } else { Value::Object(out) }
        }
        (Shape::List, Value::Array(list)) => {
            let mut out = Vec::new();
            for item in list {
                let Ok(element) = item_element(node, item) else {
                    out.push(item.clone());
                    continue;
                };
                if set.has_element(&element) {
                    continue;
                }
                out.push(match set.below(&element) {
                    Some(below) => remove(items(node), item, below),
                    None => item.clone(),
                });
            }
            if out.is_empty() { Value::Null } else { Value::Array(out) }
        }
        _ => value.clone(),
    }
}

/// `set` with every declared field that has a member below it as a member, too: who owns a field's fields may remove
/// the field with them.
pub(super) fn with_named_parents(node: &Node, set: &FieldSet) -> FieldSet {
    set.map_elements(|element, member, below| {
        let (child, named): (&Node, bool) = match element {
            PathElement::Field(name) => (field_or_open(node, name), declared(node, name).is_some()),
            _ => (items(node), false),
        };
        let named = named && !below.is_empty();
        (member || named, with_named_parents(child, below))
    })
}

/// `set` as the schema of today sees it: what became atomic since is owned as a whole.
pub(super) fn reconciled(node: &Node, set: &FieldSet) -> FieldSet {
    set.map_elements(|element, member, below| {
        let child: &Node = match element {
            PathElement::Field(name) => field_or_open(node, name),
            _ => items(node),
        };
        let atomic = match child.kind {
            NodeType::Object => child.map_type == MapType::Atomic,
            NodeType::Array => child.list_type == ListType::Atomic,
            NodeType::Any => false,
            _ => true,
        };
        if atomic && !below.is_empty() { (true, FieldSet::default()) } else { (member, reconciled(child, below)) }
    })
}
