//! The three patch formats of the Kubernetes API.
//!
//! In: the current object and a patch, both JSON. Out: the patched object; neither input is changed. The control
//! plane's write path calls these, then prunes, defaults and validates what comes out.

mod json;
mod merge;
mod strategic;

use crate::schema::Structural;
use crate::status::{Cause, Reason, StatusDetails, StatusError};
use serde_json::Value;

pub use json::json_patch;
pub use merge::merge_patch;

/// More operations than this in one JSON patch are refused with 413, as kube-apiserver does.
pub const MAX_JSON_PATCH_OPERATIONS: usize = 10_000;

/// Why a patch could not be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself makes no sense (400).
    #[error("{0}")]
    Malformed(String),
    /// The patch is well formed, but does not fit the object (422).
    #[error("{0}")]
    DoesNotApply(String),
    /// Too many operations (413).
    #[error("The allowed maximum operations in a JSON patch is {MAX_JSON_PATCH_OPERATIONS}, got {0}")]
    TooLarge(usize),
}

impl From<PatchError> for StatusError {
    fn from(error: PatchError) -> Self {
        match &error {
            PatchError::Malformed(text) => StatusError::bad_request(text.clone()),
            // the message is what every API server says; the cause tells what is wrong
            PatchError::DoesNotApply(why) => {
                let causes = vec![Cause::new("FieldValueInvalid", "patch", why.clone())];
                let message = "the server rejected our request due to an error in our request";
                StatusError::new(422, Reason::Invalid, message)
                    .with_details(StatusDetails { causes, ..StatusDetails::default() })
            }
            PatchError::TooLarge(_) => StatusError::request_entity_too_large(error),
        }
    }
}

/// Applies a strategic merge patch; the schema says which lists merge and by which key.
///
/// Understands `$patch` (`replace`, `delete`, `merge`), `$retainKeys`, `$setElementOrder/…` and
/// `$deleteFromPrimitiveList/…` (Kubernetes: "Strategic Merge Patch").
///
/// # Errors
/// When the patch is no object, a directive is malformed, or an item of a merging list lacks its merge key.
pub fn strategic_merge_patch(original: &Value, patch: &Value, schema: &Structural) -> Result<Value, PatchError> {
    let (Value::Object(original), Value::Object(patch)) = (original, patch) else {
        return Err(PatchError::Malformed("invalid JSON document".into()));
    };
    strategic::merge_maps(original.clone(), patch.clone(), Some(schema.root())).map(Value::Object)
}
