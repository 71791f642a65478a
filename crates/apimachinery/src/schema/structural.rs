//! What Kubernetes demands of the schema of a custom resource: that it is structural, and some more.
//!
//! In: the JSON of one schema and its node, while it is compiled. Out: errors in Kubernetes' words. Schemas of built-in
//! types are not checked. The rules are those of the CRD documentation and KEP-1693.

use serde_json::{Map, Value};

use super::{
    compile::{Compiler, Level, flag},
    defaults,
    node::{ListType, MapType, Node, NodeType},
    prune, validate,
};
use crate::field_path::{FieldError, FieldErrorKind, PathBuf};

/// Keywords of JSON Schema that Kubernetes does not support.
const UNSUPPORTED: [&str; 6] = ["definitions", "dependencies", "additionalItems", "patternProperties", "$schema", "id"];

impl Compiler<'_> {
    /// Keywords that no schema of a custom resource may use.
    pub(super) fn keywords(&mut self, map: &Map<String, Value>, path: &PathBuf) {
        for key in UNSUPPORTED {
            if map.get(key).is_some_and(|v| !v.is_null()) {
                self.error(FieldError::forbidden(path.child(key), format!("{key} is not supported")));
            }
        }
        if flag(map, "uniqueItems") {
            self.error(FieldError::forbidden(
                path.child("uniqueItems"),
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            ));
        }
        let key = "x-kubernetes-preserve-unknown-fields";
        if map.get(key) == Some(&Value::Bool(false)) {
            self.error(FieldError::invalid(path.child(key), false, "must be true or undefined"));
        }
        let both = map.get("properties").and_then(Value::as_object).is_some_and(|p| !p.is_empty());
        if both && map.get("additionalProperties").is_some_and(|a| *a != Value::Bool(true)) {
            self.error(FieldError::forbidden(
                path.child("additionalProperties"),
                "additionalProperties and properties are mutual exclusive",
            ));
        }
    }

    /// What a schema below allOf, anyOf, oneOf and not must not say.
    pub(super) fn nested(&mut self, map: &Map<String, Value>, type_allowed: bool, path: &PathBuf) {
        let forbidden = [
            ("type", "must be empty to be structural", !type_allowed),
            ("additionalProperties", "must be undefined to be structural", true),
            ("default", "must be undefined to be structural", true),
            ("title", "must be empty to be structural", true),
            ("description", "must be empty to be structural", true),
            ("nullable", "must be false to be structural", true),
            ("x-kubernetes-preserve-unknown-fields", "must be false to be structural", true),
            ("x-kubernetes-embedded-resource", "must be false to be structural", true),
            ("x-kubernetes-int-or-string", "must be false to be structural", true),
            ("x-kubernetes-list-map-keys", "must be empty to be structural", true),
            ("x-kubernetes-list-type", "must be undefined to be structural", true),
        ];
        for (key, detail, applies) in forbidden {
            let said = match map.get(key) {
                None | Some(Value::Null | Value::Bool(false)) => false,
                Some(Value::String(text)) => !text.is_empty(),
                Some(_) => true,
            };
            if applies && said {
                self.error(FieldError::forbidden(path.child(key), detail));
            }
        }
        let names_metadata =
            map.get("properties").and_then(Value::as_object).is_some_and(|p| p.contains_key("metadata"));
        if names_metadata {
            self.error(FieldError::forbidden(
                path.child("properties[metadata]"),
                "must not be specified in a nested context",
            ));
        }
    }

    pub(super) fn structural_invariants(
        &mut self,
        map: &Map<String, Value>,
        node: &Node,
        level: Level,
        path: &PathBuf,
    ) {
        let root = level == Level::Root;
        let type_name = map.get("type").and_then(Value::as_str).unwrap_or_default();
        if root && !type_name.is_empty() && type_name != "object" {
            self.error(FieldError::invalid(path.child("type"), type_name, "must be object at the root"));
        }
        if root && map.get("additionalProperties").is_some() {
            self.error(FieldError::forbidden(path.child("additionalProperties"), "must not be used at the root"));
        }
        if node.kind == NodeType::IntOrString {
            for (key, used) in [
                ("x-kubernetes-preserve-unknown-fields", node.preserve_unknown),
                ("x-kubernetes-embedded-resource", node.embedded_resource),
            ] {
                if used {
                    self.error(FieldError::invalid(
                        path.child(key),
                        true,
                        "must be false if x-kubernetes-int-or-string is true",
                    ));
                }
            }
        }
        if node.embedded_resource {
            self.embedded(map, node, type_name, path);
        }
        if root || node.embedded_resource {
            for (name, wanted) in [("kind", "string"), ("apiVersion", "string"), ("metadata", "object")] {
                if let Some(child) = node.properties.get(name)
                    && child.kind.name() != wanted
                {
                    self.error(FieldError::invalid(
                        path.child(&format!("properties[{name}].type")),
                        child.kind.name(),
                        format!("must be {wanted}"),
                    ));
                }
            }
        }
        if root && !metadata_is_plain(map) {
            self.error(FieldError::forbidden(
                path.child("properties[metadata]"),
                "must not specify anything other than name and generateName, but metadata is implicitly specified",
            ));
        }
    }

    fn embedded(&mut self, map: &Map<String, Value>, node: &Node, type_name: &str, path: &PathBuf) {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        if type_name.is_empty() {
            self.error(FieldError::required(path.child("type"), detail));
        } else if type_name != "object" {
            self.error(FieldError::invalid(path.child("type"), type_name, detail));
        }
        if map.get("additionalProperties").is_some() {
            self.error(FieldError::forbidden(
                path.child("additionalProperties"),
                "must not be used if x-kubernetes-embedded-resource is set",
            ));
        }
        if !node.preserve_unknown && node.properties.is_empty() {
            self.error(FieldError::required(
                path.child("properties"),
                "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
            ));
        }
    }

    pub(super) fn lists_and_maps(&mut self, map: &Map<String, Value>, node: &Node, path: &PathBuf) {
        let type_name = map.get("type").and_then(Value::as_str).unwrap_or_default();
        for (key, wanted, known) in [
            ("x-kubernetes-map-type", "object", ["atomic", "granular"].as_slice()),
            ("x-kubernetes-list-type", "array", ["atomic", "set", "map"].as_slice()),
        ] {
            let Some(value) = map.get(key).and_then(Value::as_str) else {
                continue;
            };
            let detail = format!("must be {wanted} if {key} is specified");
            if type_name.is_empty() {
                self.error(FieldError::required(path.child("type"), detail));
            } else if type_name != wanted {
                self.error(FieldError::invalid(path.child("type"), type_name, detail));
            }
            if !known.contains(&value) {
                self.error(FieldError::not_supported(path.child(key), value, known));
            }
        }
        let list_type = map.get("x-kubernetes-list-type").and_then(Value::as_str);
        if !node.map_keys.is_empty() && list_type != Some("map") {
            let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
            let field = path.child("x-kubernetes-list-type");
            self.error(match list_type {
                None => FieldError::required(field, detail),
                Some(other) => FieldError::invalid(field, other, detail),
            });
        }
        match (node.list_type, &node.items) {
            (ListType::Set, Some(items)) => self.set_items(items, path),
            (ListType::Map, Some(items)) => self.map_items(node, items, path),
            _ => {}
        }
    }

    fn set_items(&mut self, items: &Node, path: &PathBuf) {
        let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
        if items.kind == NodeType::Array && items.list_type != ListType::Atomic {
            let field = path.child("items.x-kubernetes-list-type");
            self.error(FieldError::invalid(field, Value::Null, detail));
        }
        if items.kind == NodeType::Object && items.map_type != MapType::Atomic {
            let field = path.child("items.x-kubernetes-map-type");
            self.error(FieldError::invalid(field, Value::Null, detail));
        }
    }

    fn map_items(&mut self, node: &Node, items: &Node, path: &PathBuf) {
        let keys_field = path.child("x-kubernetes-list-map-keys");
        if node.map_keys.is_empty() {
            self.error(FieldError::required(keys_field, "must not be empty if x-kubernetes-list-type is map"));
            return;
        }
        if items.kind != NodeType::Object {
            self.error(FieldError::invalid(
                path.child("items.type"),
                items.kind.name(),
                "must be object if parent array's x-kubernetes-list-type is map",
            ));
            return;
        }
        let all = Value::from(node.map_keys.clone());
        for (index, key) in node.map_keys.iter().enumerate() {
            match items.properties.get(key) {
                None => self.error(FieldError::invalid(
                    keys_field.clone(),
                    all.clone(),
                    "entries must all be names of item properties",
                )),
                Some(child) if matches!(child.kind, NodeType::Array | NodeType::Object) => {
                    self.error(FieldError::invalid(
                        path.child(&format!("items.properties[{key}].type")),
                        child.kind.name(),
                        "must be a scalar type if parent array's x-kubernetes-list-type is map",
                    ));
                }
                Some(child) => {
                    if child.default.is_none() && !items.checks.required.contains(key) {
                        self.error(FieldError::required(
                            path.child(&format!("items.properties[{key}].default")),
                            "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
                        ));
                    }
                }
            }
            if node.map_keys[..index].contains(key) {
                self.error(FieldError::invalid(keys_field.clone(), all.clone(), "must not contain duplicate entries"));
            }
        }
    }

    /// A default must itself be a valid value without unknown fields.
    pub(super) fn default_fits(&mut self, node: &Node, level: Level, path: &PathBuf) {
        let Some(default) = &node.default else { return };
        if !self.is_crd() || matches!(level, Level::Nested { .. }) {
            return;
        }
        let field = path.child("default");
        let mut pruned = default.clone();
        let unknown = prune::prune_value(node, &mut pruned);
        if !unknown.is_empty() {
            self.error(FieldError::invalid(field, default.clone(), "must not have unknown fields"));
            return;
        }
        defaults::apply(node, &mut pruned);
        for mut error in validate::validate_value(node, &pruned) {
            error.field = match error.field.as_str() {
                "" => field.clone(),
                inner if inner.starts_with('[') => format!("{field}{inner}"),
                inner => format!("{field}.{inner}"),
            };
            if error.kind != FieldErrorKind::Internal {
                self.error(error);
            }
        }
    }
}

/// Whether the root's `metadata` schema says nothing but constraints on name and generateName.
fn metadata_is_plain(map: &Map<String, Value>) -> bool {
    let Some(metadata) = map.get("properties").and_then(|p| p.get("metadata")) else {
        return true;
    };
    let Some(metadata) = metadata.as_object() else {
        return false;
    };
    metadata.iter().all(|(key, value)| match key.as_str() {
        "type" | "title" | "description" | "required" => true,
        "properties" => value.as_object().is_some_and(|p| p.keys().all(|k| k == "name" || k == "generateName")),
        "nullable" => value == &Value::Bool(false),
        _ => false,
    })
}
