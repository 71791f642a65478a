//! Table columns of the built-in kinds, as `kubectl get` shows them.
//!
//! Flows in: an object and the time. Flows out: the cells beside the name. The descriptors of [`super::kinds`] name one
//! of these functions each. What is not declared here shows `Created At`.

mod core;
mod policy;
mod workloads;

use apimachinery::duration;
use apimachinery::selector::LabelSelector;
use apimachinery::table::Column;
use jiff::Timestamp;
use serde_json::Value;

pub(super) use self::core::{
    config_maps, endpoint_slices, endpoints, events, namespaces, nodes, persistent_volume_claims, persistent_volumes,
    pod_templates, resource_quotas, secrets, service_accounts, services, storage_classes,
};
pub(super) use policy::{
    admission_bindings, bindings, disruption_budgets, ingress_classes, ingresses, leases, mutating_policies,
    network_policies, priority_classes, validating_policies, webhooks,
};
pub(super) use workloads::{
    autoscalers, cron_jobs, daemon_sets, deployments, jobs, pods, replica_controllers, stateful_sets,
};

/// What a kind shows that has no columns of its own.
pub(super) fn created_at() -> Vec<Column> {
    vec![Column::created_at()]
}

const NONE: &str = "<none>";
const UNSET: &str = "<unset>";

fn string(name: &str, cell: apimachinery::table::CellFn) -> Column {
    Column::computed(name, "string", 0, cell)
}

fn integer(name: &str, cell: apimachinery::table::CellFn) -> Column {
    Column::computed(name, "integer", 0, cell)
}

fn wide(name: &str, cell: apimachinery::table::CellFn) -> Column {
    Column::computed(name, "string", 1, cell)
}

fn at<'a>(object: &'a Value, pointer: &str) -> Option<&'a Value> {
    object.pointer(pointer).filter(|value| !value.is_null())
}

/// The text at a pointer, empty where there is none.
fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    at(object, pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The text at a pointer, or a placeholder.
fn text_or(object: &Value, pointer: &str, otherwise: &str) -> Value {
    match text(object, pointer) {
        "" => otherwise.into(),
        found => found.into(),
    }
}

/// The whole number at a pointer, 0 where there is none.
fn number(object: &Value, pointer: &str) -> i64 {
    at(object, pointer).and_then(Value::as_i64).unwrap_or(0)
}

fn flag(object: &Value, pointer: &str) -> bool {
    at(object, pointer).and_then(Value::as_bool).unwrap_or(false)
}

fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    at(object, pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Number of entries of a map or list.
fn size(object: &Value, pointer: &str) -> usize {
    match at(object, pointer) {
        Some(Value::Object(fields)) => fields.len(),
        Some(Value::Array(items)) => items.len(),
        _ => 0,
    }
}

fn age_of(object: &Value, pointer: &str, now: Timestamp) -> String {
    duration::age(at(object, pointer).and_then(Value::as_str), now)
}

/// Joined by commas; a placeholder for nothing.
fn joined<T: AsRef<str>>(parts: &[T]) -> Value {
    if parts.is_empty() {
        return NONE.into();
    }
    parts.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(",").into()
}

/// A map of labels as `a=b,c=d`.
fn labels(object: &Value, pointer: &str) -> Value {
    let pairs: Vec<String> = at(object, pointer)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    joined(&pairs)
}

/// A `metav1.LabelSelector` as text.
fn selector(object: &Value, pointer: &str) -> Value {
    match LabelSelector::from_json(object.pointer(pointer).unwrap_or(&Value::Null)) {
        Ok(selector) if selector.requirements().is_empty() => NONE.into(),
        Ok(selector) => selector.to_string().into(),
        Err(_) => "<error>".into(),
    }
}

/// One field of all containers of a pod template.
fn containers(object: &Value, pointer: &str, field: &str) -> Value {
    joined(&items(object, pointer).iter().map(|c| text(c, field)).collect::<Vec<_>>())
}
