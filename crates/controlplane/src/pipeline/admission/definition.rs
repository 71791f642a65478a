//! CustomResourceDefinitions: names and status are settled before they are stored, so the API is served as soon as the
//! answer is out.

use apimachinery::field_path::FieldError;
use serde_json::{Value, json};

use super::Admission;
use crate::pipeline::{Part, metadata, timestamp};
use crate::registry::crd;

pub(super) fn mutate(admission: &Admission<'_>, object: &mut Value) {
    let now = timestamp(admission.ctx.now);
    if admission.target.part == Part::Main {
        if let Some(old) = admission.old {
            object["status"] = old.get("status").cloned().unwrap_or_else(|| json!({}));
        }
        if metadata::is_deleting(object) {
            return;
        }
        // Without names there is nothing to accept; validation will say so.
        if object.pointer("/spec/names").is_none_or(|names| !names.is_object()) {
            return;
        }
        if let Some(catalog) = admission.core.clusters.catalog(&admission.target.cluster) {
            crd::establish(object, &catalog, &now);
        }
        let finalizers = metadata::of(object).entry("finalizers").or_insert_with(|| json!([]));
        if let Some(list) = finalizers.as_array_mut()
            && !list.iter().any(|f| f == crd::CLEANUP_FINALIZER)
        {
            list.push(crd::CLEANUP_FINALIZER.into());
        }
    }
}

pub(super) fn validate(admission: &Admission<'_>, object: &Value) -> Vec<FieldError> {
    if metadata::is_deleting(object) {
        return Vec::new(); // only finalizers go now; a definition that is no longer accepted must not be stuck
    }
    crd::validate(object, admission.old, &admission.core.clusters.interner)
}
