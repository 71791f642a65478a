//! Namespaces: the finalizer `kubernetes`, the phase, the name label, and the ones that stay.

use apimachinery::status::StatusError;
use serde_json::{Value, json};

use super::Admission;
use crate::pipeline::metadata;

/// Namespaces that cannot be deleted.
const PROTECTED: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) fn mutate(admission: &Admission<'_>, object: &mut Value) {
    let name = metadata::text(object, "name").to_owned();
    let meta = metadata::of(object);
    let labels = meta.entry("labels").or_insert_with(|| json!({}));
    labels["kubernetes.io/metadata.name"] = name.into();
    if admission.old.is_none() {
        object["spec"] = json!({"finalizers": ["kubernetes"]});
        object["status"] = json!({"phase": "Active"});
    } else if admission.target.part == crate::pipeline::Part::Main
        && let Some(spec) = admission.old.and_then(|old| old.get("spec"))
    {
        // Only the finalize subresource changes them.
        object["spec"] = spec.clone();
    }
}

pub(super) fn delete(object: &Value) -> Result<(), StatusError> {
    let name = metadata::text(object, "name");
    if PROTECTED.contains(&name) {
        return Err(StatusError::forbidden("", "namespaces", name, "this namespace may not be deleted"));
    }
    Ok(())
}
