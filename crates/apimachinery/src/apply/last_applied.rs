//! The bridge from client-side to server-side apply.
//!
//! In: an object that `kubectl apply` once wrote, with its last-applied annotation, and an apply of the field manager
//! `kubectl`. Out: whether its conflicts are only with what kubectl itself applied, and the annotation kept up to date so
//! that the client can go back.

use serde_json::Value;

use super::{Conflict, field_set::display, typed};
use crate::schema::Node;

/// The field manager of `kubectl apply --server-side`.
pub(super) const MANAGER: &str = "kubectl";

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Objects above this many bytes get no annotation.
const MAX_ANNOTATION: usize = 256 * 1024;

fn annotation(object: &Value) -> Option<&str> {
    object.get("metadata")?.get("annotations")?.get(ANNOTATION)?.as_str()
}

/// The conflicts that are not about fields as the last client-side apply left them. A field that somebody changed since
/// is no longer kubectl's to take.
pub(super) fn refused(live: &Value, conflicts: &[Conflict], root: &Node) -> Vec<Conflict> {
    let last = annotation(live).and_then(|text| serde_json::from_str::<Value>(text).ok());
    let last = last.filter(|last| last.get("apiVersion") == live.get("apiVersion"));
    let Some(last) = last else {
        return conflicts.to_vec();
    };
    let changed = typed::compare(root, &last, live).set();
    let mut allowed = typed::field_set(root, &last).difference(&changed).paths();
    // The annotation itself is kubectl's.
    allowed
        .push(["metadata", "annotations", ANNOTATION].map(|name| super::PathElement::Field(name.to_owned())).to_vec());
    let allowed: Vec<String> = allowed.iter().map(|path| display(path)).collect();
    conflicts.iter().filter(|c| !allowed.contains(&c.path)).cloned().collect()
}

/// Rewrites the annotation of an object that has one.
pub(super) fn refresh(object: &mut Value, config: &Value) {
    if annotation(object).is_none() {
        return;
    }
    let mut text = config.to_string();
    text.push('\n');
    if text.len() > MAX_ANNOTATION {
        return;
    }
    if let Some(Value::Object(annotations)) = object.pointer_mut("/metadata/annotations") {
        annotations.insert(ANNOTATION.to_owned(), Value::from(text));
    }
}
