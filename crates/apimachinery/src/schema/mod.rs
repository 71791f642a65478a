//! Structural schemas: what a kind's objects look like.
//!
//! ```text
//!  openAPIV3Schema (JSON) ──compile──► Structural (Arc<Node> tree, regexes and CEL programs ready)
//!                                        │ prune          unknown fields go, their paths are reported
//!                                        │ apply_defaults defaults come in
//!                                        │ validate       types, formats, bounds, list types, CEL, ratcheting
//!                                        └ root()         nodes for server-side apply and strategic merge patch
//! ```
//!
//! Compile once per schema and share through `Arc`: [`digest`] of the JSON is the key to intern by.

mod cel_check;
mod cel_value;
mod compile;
mod defaults;
mod formats;
pub(crate) mod metadata;
mod node;
mod pattern;
mod prune;
mod rules;
mod structural;
mod validate;

use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::field_path::{FieldError, FieldErrorKind, PathBuf};

pub use node::{ListType, MapType, Node, NodeType};

/// A compiled schema of a whole object (`apiVersion`, `kind`, `metadata` are understood without being declared).
#[derive(Debug, Clone)]
pub struct Structural {
    root: Arc<Node>,
    digest: [u8; 32],
}

impl Structural {
    /// Compiles the `openAPIV3Schema` of a CustomResourceDefinition version. Everything Kubernetes demands of a
    /// structural schema is checked; the errors' fields are relative to the schema (`properties[spec].type`).
    pub fn compile(schema: &Value) -> Result<Self, Vec<FieldError>> {
        let root = compile::Compiler::structural().root(schema)?;
        Ok(Self { root, digest: digest(schema) })
    }

    /// Compiles a schema of a built-in type, which need not be structural. `$ref`s (`#/definitions/x`,
    /// `#/components/schemas/x`, `#/$defs/x`) are looked up by their last segment in `definitions` (a JSON object);
    /// a recursive reference becomes an open object.
    pub fn compile_builtin(schema: &Value, definitions: &Value) -> Result<Self, Vec<FieldError>> {
        let none = serde_json::Map::new();
        let definitions = definitions.as_object().unwrap_or(&none);
        let root = compile::Compiler::builtin(definitions).root(schema)?;
        Ok(Self { root, digest: digest(schema) })
    }

    /// A schema that accepts and keeps everything (`x-kubernetes-preserve-unknown-fields` at the root).
    pub fn untyped() -> Self {
        Self {
            root: Arc::new(Node { kind: NodeType::Object, preserve_unknown: true, ..Node::default() }),
            digest: [0; 32],
        }
    }

    /// The node of the whole object.
    pub fn root(&self) -> &Arc<Node> {
        &self.root
    }

    /// SHA-256 of the canonical JSON this was compiled from; equal digests, equal schemas.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Drops fields the schema does not know. Returns their paths in the order found, as kube-apiserver names them in
    /// `unknown field "spec.foo"` (only the path, without these words).
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        prune::prune_object(&self.root, object)
    }

    /// Fills in defaults: absent fields that have one, and nulls on fields that are not nullable. Such nulls without a
    /// default go away first.
    pub fn apply_defaults(&self, object: &mut Value) {
        self.drop_nulls(object);
        self.fill_defaults(object);
    }

    /// Drops the nulls of fields and map entries that are neither nullable nor have a default.
    pub fn drop_nulls(&self, object: &mut Value) {
        defaults::drop_nulls(&self.root, object);
    }

    /// Fills in defaults; a null without one stays and is for validation. This is for what server-side apply has merged.
    pub fn fill_defaults(&self, object: &mut Value) {
        defaults::apply(&self.root, object);
    }

    /// Checks an object against the schema. With `old` (an update) errors in parts that did not change are left out
    /// (ratcheting) and transition rules run.
    pub fn validate(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let root = &self.root;
        let mut errors = validate::validate_object(root, object, old);
        let duplicates = |object: &Value| {
            let mut errors = Vec::new();
            let mut path = PathBuf::default();
            if let Some(meta) = object.get("metadata") {
                path.field("metadata", |path| {
                    validate::list_types(&metadata::NODE, meta, path, &mut errors);
                });
            }
            validate::list_types(root, object, &mut path, &mut errors);
            errors
        };
        let found = duplicates(object);
        if !found.is_empty() && old.is_none_or(|old| duplicates(old).is_empty()) {
            errors.extend(found);
        }
        if errors.iter().any(blocks_rules) {
            if root.has_rules {
                errors.push(FieldError::invalid("", Value::Null, UNCHECKED));
            }
        } else {
            errors.extend(rules::run(root, object, old));
        }
        errors
    }
}

const UNCHECKED: &str = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";

/// Errors after which rules would see values of the wrong shape.
fn blocks_rules(error: &FieldError) -> bool {
    matches!(
        error.kind,
        FieldErrorKind::Required
            | FieldErrorKind::NotSupported
            | FieldErrorKind::TooLong
            | FieldErrorKind::TooMany
            | FieldErrorKind::TypeInvalid
    )
}

/// SHA-256 of a schema's canonical JSON: the key to intern compiled schemas by.
pub fn digest(schema: &Value) -> [u8; 32] {
    // serde_json maps are sorted, so the text is canonical.
    Sha256::digest(schema.to_string().as_bytes()).into()
}
