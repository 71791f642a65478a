//! One node of a compiled schema.
//!
//! In: built by the compiler of this module's parent. Out: read by pruning, defaulting, validation, server-side apply
//! and strategic merge patch.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

/// The JSON type a node asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NodeType {
    /// No type given: anything goes.
    #[default]
    Any,
    /// A JSON object.
    Object,
    /// A JSON array.
    Array,
    /// A JSON string.
    String,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// true or false.
    Boolean,
    /// `x-kubernetes-int-or-string`.
    IntOrString,
}

/// `x-kubernetes-list-type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListType {
    /// Replaced as a whole, one owner (also the default).
    #[default]
    Atomic,
    /// Scalars, each at most once.
    Set,
    /// Objects identified by [`Node::map_keys`].
    Map,
}

/// `x-kubernetes-map-type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MapType {
    /// Each entry has its own owners (also the default).
    #[default]
    Granular,
    /// Replaced as a whole, one owner.
    Atomic,
}

/// One node of a compiled schema. Children are shared: definitions that occur often exist once.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// The JSON type asked for.
    pub kind: NodeType,
    /// Whether null is a value of its own.
    pub nullable: bool,
    /// `default`.
    pub default: Option<Value>,
    /// Named fields.
    pub properties: BTreeMap<String, Arc<Node>>,
    /// Schema of all other fields (`additionalProperties`).
    pub additional: Option<Arc<Node>>,
    /// Schema of list items.
    pub items: Option<Arc<Node>>,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub preserve_unknown: bool,
    /// `x-kubernetes-embedded-resource`: has apiVersion, kind and metadata.
    pub embedded_resource: bool,
    /// How a list is merged.
    pub list_type: ListType,
    /// The fields that identify an item of a list of type map, in schema order.
    pub map_keys: Vec<String>,
    /// How an object is merged.
    pub map_type: MapType,
    /// Built-in types: `x-kubernetes-patch-merge-key`.
    pub patch_merge_key: Option<String>,
    /// Built-in types: `x-kubernetes-patch-strategy`, split at commas (`merge`, `retainKeys`, `replace`).
    pub patch_strategy: Vec<String>,
}

impl Node {
    /// The node of a field by name: declared, or by `additionalProperties`; None when the field is unknown (or kept
    /// without a schema because of `x-kubernetes-preserve-unknown-fields`).
    pub fn field(&self, name: &str) -> Option<&Arc<Node>> {
        self.properties.get(name).or(self.additional.as_ref())
    }
}
