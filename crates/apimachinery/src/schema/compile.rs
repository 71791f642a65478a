//! From the JSON of a schema to [`Node`]s.
//!
//! In: the `openAPIV3Schema` of a CRD version, or the schema of a built-in type with its definitions. Out: the root
//! node, or everything that is wrong, in Kubernetes' words (structural schemas: KEP-1693 and the CRD documentation).
//! Called by [`super::Structural`] only.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde_json::{Map, Value};

use super::{
    formats::Format,
    node::{Bound, Checks, ListType, MapType, Node, NodeType},
    pattern::Pattern,
    rules,
};
use crate::field_path::{FieldError, PathBuf};

/// Where a schema stands, which decides what it must and must not say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Root,
    Field,
    Item,
    /// Below allOf, anyOf, oneOf or not: value validation only. The flag: a type is allowed (int-or-string pattern).
    Nested {
        type_allowed: bool,
        /// Rules count here only below allOf.
        rules_allowed: bool,
    },
}

pub(super) struct Compiler<'a> {
    /// Definitions for `$ref`; None for CRDs, where `$ref` is forbidden.
    definitions: Option<&'a Map<String, Value>>,
    /// Definitions compiled so far; None while one is being compiled (recursion).
    known: HashMap<String, Option<Arc<Node>>>,
    errors: Vec<FieldError>,
    /// The list or atomic map whose children have no identity over time, if we are below one.
    uncorrelatable: Option<String>,
}

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

impl<'a> Compiler<'a> {
    /// A compiler for the schema of a custom resource.
    pub(super) fn structural() -> Self {
        Self { definitions: None, known: HashMap::new(), errors: Vec::new(), uncorrelatable: None }
    }

    /// A compiler for schemas of built-in types.
    pub(super) fn builtin(definitions: &'a Map<String, Value>) -> Self {
        Self { definitions: Some(definitions), ..Self::structural() }
    }

    /// Compiles the schema of a whole object.
    pub(super) fn root(mut self, schema: &Value) -> Result<Arc<Node>, Vec<FieldError>> {
        let mut path = PathBuf::default();
        let node = self.node(schema, Level::Root, &mut path);
        if self.errors.is_empty() {
            Ok(node)
        } else {
            self.errors.sort_by_key(ToString::to_string);
            Err(self.errors)
        }
    }

    pub(super) fn is_crd(&self) -> bool {
        self.definitions.is_none()
    }

    pub(super) fn error(&mut self, error: FieldError) {
        // Schemas of built-in types are ours; only what makes them unusable is an error.
        if self.is_crd() {
            self.errors.push(error);
        }
    }

    fn node(&mut self, schema: &Value, level: Level, path: &mut PathBuf) -> Arc<Node> {
        match schema {
            Value::Object(map) => {
                if let Some(node) = self.referenced(map, level, path) {
                    return node;
                }
                Arc::new(self.object(map, level, path))
            }
            Value::Bool(true) if !self.is_crd() => Arc::new(Node::open()),
            other => {
                self.errors.push(FieldError::type_invalid(
                    path.as_str(),
                    other.clone(),
                    "must be a schema, which is a JSON object",
                ));
                Arc::new(Node::open())
            }
        }
    }

    /// Follows `$ref`, also one wrapped in an allOf of its own (the way OpenAPI v3 adds a default or description).
    fn referenced(&mut self, map: &Map<String, Value>, level: Level, path: &mut PathBuf) -> Option<Arc<Node>> {
        let Some(definitions) = self.definitions else {
            if map.contains_key("$ref") {
                let field = path.child("$ref");
                self.error(FieldError::forbidden(field, "$ref is not supported"));
            }
            return None;
        };
        let reference = map.get("$ref").or_else(|| {
            let all = map.get("allOf")?.as_array()?;
            match all.as_slice() {
                [only] if !map.contains_key("type") => only.get("$ref"),
                _ => None,
            }
        })?;
        let name = reference.as_str()?.rsplit('/').next()?.to_owned();
        let target = match self.known.get(&name) {
            Some(Some(node)) => Arc::clone(node),
            // Recursive, or unknown: an open object.
            Some(None) => Arc::new(Node::open()),
            None => {
                self.known.insert(name.clone(), None);
                let node = match definitions.get(&name) {
                    Some(definition) => self.node(definition, level, path),
                    None => Arc::new(Node::open()),
                };
                self.known.insert(name, Some(Arc::clone(&node)));
                node
            }
        };
        Some(overlay(target, map))
    }

    fn object(&mut self, map: &Map<String, Value>, level: Level, path: &mut PathBuf) -> Node {
        let mut node = Node {
            nullable: flag(map, "nullable"),
            default: map.get("default").filter(|d| !d.is_null()).cloned(),
            preserve_unknown: flag(map, "x-kubernetes-preserve-unknown-fields"),
            embedded_resource: flag(map, "x-kubernetes-embedded-resource"),
            ..Node::default()
        };
        self.extensions(map, &mut node);
        node.kind = self.kind(map, &node, level, path);
        self.children(map, &mut node, level, path);
        node.checks = self.checks(map, &node, level, path);
        if self.is_crd() {
            self.keywords(map, path);
            match level {
                Level::Nested { type_allowed, .. } => self.nested(map, type_allowed, path),
                _ => self.structural_invariants(map, &node, level, path),
            }
            self.lists_and_maps(map, &node, path);
        } else if node.kind == NodeType::Object && node.properties.is_empty() && node.additional.is_none() {
            // Built-in objects without fields (RawExtension and its kin) hold anything.
            node.preserve_unknown = true;
        }
        self.rules(map, &mut node, level, path);
        self.default_fits(&node, level, path);
        node
    }

    fn extensions(&mut self, map: &Map<String, Value>, node: &mut Node) {
        let text = |key: &str| map.get(key).and_then(Value::as_str);
        node.list_type = match text("x-kubernetes-list-type") {
            Some("set") => ListType::Set,
            Some("map") => ListType::Map,
            _ => ListType::Atomic,
        };
        node.map_type = match text("x-kubernetes-map-type") {
            Some("atomic") => MapType::Atomic,
            _ => MapType::Granular,
        };
        node.map_keys = strings(map.get("x-kubernetes-list-map-keys"));
        node.patch_merge_key = text("x-kubernetes-patch-merge-key").map(str::to_owned);
        node.patch_strategy = text("x-kubernetes-patch-strategy")
            .map(|s| s.split(',').map(|p| p.trim().to_owned()).collect())
            .unwrap_or_default();
    }

    fn kind(&mut self, map: &Map<String, Value>, node: &Node, level: Level, path: &PathBuf) -> NodeType {
        if flag(map, "x-kubernetes-int-or-string") || text_is(map, "format", "int-or-string") {
            return NodeType::IntOrString;
        }
        let name = match map.get("type") {
            None => "",
            Some(Value::String(name)) => name.as_str(),
            // Generators write a nullable type as ["string", "null"].
            Some(Value::Array(names)) if !self.is_crd() => {
                let mut names = names.iter().filter_map(Value::as_str).filter(|n| *n != "null");
                match (names.next(), names.next()) {
                    (Some(only), None) => only,
                    (Some("integer" | "string"), Some("integer" | "string")) => {
                        return NodeType::IntOrString;
                    }
                    _ => "",
                }
            }
            Some(other) => {
                self.error(FieldError::type_invalid(path.child("type"), other.clone(), "must be a string"));
                ""
            }
        };
        if !name.is_empty() && !TYPES.contains(&name) {
            if name == "null" {
                self.error(FieldError::forbidden(
                    path.child("type"),
                    "type cannot be set to null, use nullable as an alternative",
                ));
            }
            self.error(FieldError::not_supported(path.child("type"), name, &TYPES));
        }
        if name.is_empty() && !node.preserve_unknown {
            let detail = match level {
                Level::Root => Some("must not be empty at the root"),
                Level::Item => Some("must not be empty for specified array items"),
                Level::Field => Some("must not be empty for specified object fields"),
                Level::Nested { .. } => None,
            };
            if let Some(detail) = detail.filter(|_| !node.embedded_resource) {
                self.error(FieldError::required(path.child("type"), detail));
            }
        }
        match name {
            "object" => NodeType::Object,
            "array" => NodeType::Array,
            "string" => NodeType::String,
            "integer" => NodeType::Integer,
            "number" => NodeType::Number,
            "boolean" => NodeType::Boolean,
            // A built-in schema may leave the type out.
            _ if !self.is_crd() && map.contains_key("properties") => NodeType::Object,
            _ => NodeType::Any,
        }
    }

    fn children(&mut self, map: &Map<String, Value>, node: &mut Node, level: Level, path: &mut PathBuf) {
        let outside = self.uncorrelatable.clone();
        let vague = match node.kind {
            NodeType::Array => node.list_type != ListType::Map,
            _ => node.map_type == MapType::Atomic,
        };
        if vague && outside.is_none() {
            self.uncorrelatable = Some(path.as_str().to_owned());
        }
        self.fields_and_items(map, node, level, path);
        self.uncorrelatable = outside;
    }

    fn fields_and_items(&mut self, map: &Map<String, Value>, node: &mut Node, level: Level, path: &mut PathBuf) {
        let below = |level: Level, structural: Level| match level {
            Level::Nested { rules_allowed, .. } => Level::Nested { type_allowed: false, rules_allowed },
            _ => structural,
        };
        if let Some(Value::Object(properties)) = map.get("properties") {
            let mut compiled = BTreeMap::new();
            for (name, schema) in properties {
                let child = path.field("properties", |path| {
                    path.key(name, |path| self.node(schema, below(level, Level::Field), path))
                });
                compiled.insert(name.clone(), child);
            }
            node.properties = compiled;
        }
        match map.get("additionalProperties") {
            None => {}
            Some(Value::Bool(true)) => node.additional = Some(Arc::new(Node::open())),
            // No further fields: what a schema without additionalProperties says, too.
            Some(Value::Bool(false)) => {}
            Some(schema) => {
                let child =
                    path.field("additionalProperties", |path| self.node(schema, below(level, Level::Field), path));
                node.additional = Some(child);
            }
        }
        match map.get("items") {
            None => {
                if node.kind == NodeType::Array && !matches!(level, Level::Nested { .. }) {
                    self.error(FieldError::required(path.child("items"), "must be specified"));
                }
            }
            Some(Value::Array(_)) => {
                self.error(FieldError::forbidden(
                    path.child("items"),
                    "items must be a schema object and not an array",
                ));
            }
            Some(schema) => {
                node.items = Some(path.field("items", |path| self.node(schema, below(level, Level::Item), path)));
            }
        }
    }

    fn checks(&mut self, map: &Map<String, Value>, node: &Node, level: Level, path: &mut PathBuf) -> Checks {
        let count = |key: &str| map.get(key).and_then(as_count);
        let bound = |limit: &str, exclusive: &str| match map.get(limit) {
            Some(Value::Number(value)) => Some(Bound { value: value.clone(), exclusive: flag(map, exclusive) }),
            _ => None,
        };
        let pattern = match map.get("pattern").and_then(Value::as_str) {
            Some(source) if !source.is_empty() => match Pattern::compile(source) {
                Ok(pattern) => Some(pattern),
                Err(reason) => {
                    self.error(FieldError::invalid(
                        path.child("pattern"),
                        source,
                        format!("must be a valid regular expression, but isn't: {reason}"),
                    ));
                    None
                }
            },
            _ => None,
        };
        let mut checks = Checks {
            values: map.get("enum").and_then(Value::as_array).cloned(),
            format: map.get("format").and_then(Value::as_str).and_then(Format::parse),
            pattern,
            minimum: bound("minimum", "exclusiveMinimum"),
            maximum: bound("maximum", "exclusiveMaximum"),
            multiple_of: match map.get("multipleOf") {
                Some(Value::Number(n)) => Some(n.clone()),
                _ => None,
            },
            min_length: count("minLength"),
            max_length: count("maxLength"),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            unique_items: flag(map, "uniqueItems"),
            required: strings(map.get("required")),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
            ..Checks::default()
        };
        let int_or_string = node.kind == NodeType::IntOrString;
        let in_all_of = match level {
            Level::Nested { rules_allowed, .. } => rules_allowed,
            _ => true,
        };
        checks.all_of = self.junctor(map, "allOf", in_all_of, path, |index, schema| {
            int_or_string && index == 0 && is_int_or_string_any_of(schema.get("anyOf"))
        });
        let any_of_is_the_type =
            (int_or_string || nested_type_allowed(level)) && is_int_or_string_any_of(map.get("anyOf"));
        checks.any_of = self.junctor(map, "anyOf", false, path, |_, _| any_of_is_the_type);
        checks.one_of = self.junctor(map, "oneOf", false, path, |_, _| false);
        if let Some(schema) = map.get("not") {
            let level = Level::Nested { type_allowed: false, rules_allowed: false };
            checks.not = Some(path.field("not", |path| self.node(schema, level, path)));
        }
        checks
    }

    fn junctor(
        &mut self,
        map: &Map<String, Value>,
        name: &str,
        rules_allowed: bool,
        path: &mut PathBuf,
        type_allowed: impl Fn(usize, &Value) -> bool,
    ) -> Vec<Arc<Node>> {
        let Some(Value::Array(schemas)) = map.get(name) else {
            return Vec::new();
        };
        let mut nodes = Vec::with_capacity(schemas.len());
        for (index, schema) in schemas.iter().enumerate() {
            let level = Level::Nested { type_allowed: type_allowed(index, schema), rules_allowed };
            nodes.push(path.field(name, |path| path.index(index, |path| self.node(schema, level, path))));
        }
        nodes
    }

    fn rules(&mut self, map: &Map<String, Value>, node: &mut Node, level: Level, path: &PathBuf) {
        if let Some(Value::Array(list)) = map.get("x-kubernetes-validations") {
            let field = path.child("x-kubernetes-validations");
            if matches!(level, Level::Nested { rules_allowed: false, .. }) {
                self.error(FieldError::forbidden(field, "must be empty to be structural"));
            } else {
                let root = level == Level::Root;
                let mut errors = Vec::new();
                node.rules = rules::compile(list, node, root, &field, &mut errors);
                if let Some(outside) = &self.uncorrelatable {
                    for (index, rule) in node.rules.iter().enumerate() {
                        if rule.is_transition() {
                            errors.push(FieldError::invalid(
                                format!("{field}[{index}].rule"),
                                rule.source(),
                                format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {outside}"),
                            ));
                        }
                    }
                }
                for error in errors {
                    self.error(error);
                }
            }
        }
        node.has_rules = !node.rules.is_empty()
            || node.properties.values().any(|n| n.has_rules)
            || node.additional.as_ref().is_some_and(|n| n.has_rules)
            || node.items.as_ref().is_some_and(|n| n.has_rules)
            || node.checks.all_of.iter().any(|n| n.has_rules);
    }
}

/// A property beside a `$ref` may add a default or patch hints; the definition itself is shared.
fn overlay(target: Arc<Node>, map: &Map<String, Value>) -> Arc<Node> {
    let says = |key: &str| map.contains_key(key);
    if !says("default") && !says("nullable") && !says("x-kubernetes-map-type") {
        return target;
    }
    let mut node = (*target).clone();
    if let Some(default) = map.get("default").filter(|d| !d.is_null()) {
        node.default = Some(default.clone());
    }
    node.nullable |= flag(map, "nullable");
    if text_is(map, "x-kubernetes-map-type", "atomic") {
        node.map_type = MapType::Atomic;
    }
    Arc::new(node)
}

fn nested_type_allowed(level: Level) -> bool {
    matches!(level, Level::Nested { type_allowed: true, .. })
}

/// The one pattern in which types are allowed in a nested schema: `anyOf: [{type: integer}, {type: string}]`.
fn is_int_or_string_any_of(any_of: Option<&Value>) -> bool {
    let Some([first, second]) = any_of.and_then(Value::as_array).map(Vec::as_slice) else {
        return false;
    };
    let is = |schema: &Value, name: &str| {
        schema.as_object().is_some_and(|o| o.len() == 1 && o.get("type").and_then(Value::as_str) == Some(name))
    };
    is(first, "integer") && is(second, "string")
}

pub(super) fn flag(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key) == Some(&Value::Bool(true))
}

fn text_is(map: &Map<String, Value>, key: &str, text: &str) -> bool {
    map.get(key).and_then(Value::as_str) == Some(text)
}

fn strings(value: Option<&Value>) -> Vec<String> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

fn as_count(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_f64().filter(|f| *f >= 0.0 && f.fract() == 0.0).map(|f| f as u64))
}
