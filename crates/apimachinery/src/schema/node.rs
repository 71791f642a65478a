//! One node of a compiled schema.
//!
//! In: built by the compiler (`compile`). Out: read by pruning, defaulting, validation, server-side apply and strategic
//! merge patch.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Number, Value};

use super::{formats::Format, pattern::Pattern, rules::Rule};

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

impl NodeType {
    /// The type as validation messages name it (`integer,string` for int-or-string); empty for any.
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::IntOrString => "integer,string",
        }
    }
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
    /// What a value must satisfy beside its type.
    pub(crate) checks: Checks,
    /// `x-kubernetes-validations`.
    pub(crate) rules: Vec<Arc<Rule>>,
    /// Whether this node or a child has rules: subtrees without are not walked.
    pub(crate) has_rules: bool,
}

impl Node {
    /// The node of a field by name: declared, or by `additionalProperties`; None when the field is unknown (or kept
    /// without a schema because of `x-kubernetes-preserve-unknown-fields`).
    pub fn field(&self, name: &str) -> Option<&Arc<Node>> {
        self.properties.get(name).or(self.additional.as_ref())
    }

    /// A node that accepts and keeps everything.
    pub(crate) fn open() -> Self {
        Self { preserve_unknown: true, nullable: true, ..Self::default() }
    }

    /// Whether the node says nothing about what is below: all of it is kept, nothing is typed.
    pub(crate) fn is_open(&self) -> bool {
        self.kind == NodeType::Any && self.properties.is_empty() && self.additional.is_none() && self.items.is_none()
    }
}

/// A bound of a number.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    pub(crate) value: Number,
    pub(crate) exclusive: bool,
}

/// The value validations of a node, beside its type.
#[derive(Debug, Clone, Default)]
pub(crate) struct Checks {
    pub(crate) values: Option<Vec<Value>>,
    pub(crate) format: Option<Format>,
    pub(crate) pattern: Option<Pattern>,
    pub(crate) minimum: Option<Bound>,
    pub(crate) maximum: Option<Bound>,
    pub(crate) multiple_of: Option<Number>,
    pub(crate) min_length: Option<u64>,
    pub(crate) max_length: Option<u64>,
    pub(crate) min_items: Option<u64>,
    pub(crate) max_items: Option<u64>,
    pub(crate) unique_items: bool,
    pub(crate) required: Vec<String>,
    pub(crate) min_properties: Option<u64>,
    pub(crate) max_properties: Option<u64>,
    pub(crate) all_of: Vec<Arc<Node>>,
    pub(crate) any_of: Vec<Arc<Node>>,
    pub(crate) one_of: Vec<Arc<Node>>,
    pub(crate) not: Option<Arc<Node>>,
}
