//! The definitions of an OpenAPI document.
//!
//! Flows in: descriptors: built-in ones by their types, custom ones by the schema of their CustomResourceDefinition. Flows
//! out: named schemas in the words of OpenAPI v2 or v3, all references among them resolvable.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::operations::{self, definition, list_definition};
use crate::registry::{Resource, builtin};

/// Which OpenAPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// Swagger 2.0.
    V2,
    /// OpenAPI 3.0.
    V3,
}

impl Flavour {
    /// Where definitions are, as the generator wants it.
    fn path(self) -> &'static str {
        match self {
            Flavour::V2 => "/definitions",
            Flavour::V3 => "/components/schemas",
        }
    }

    fn reference(self, name: &str) -> String {
        format!("#{}/{name}", self.path())
    }
}

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object.";
const KIND: &str = "Kind is a string value representing the REST resource this object represents.";

/// Everything the paths of these resources refer to, by name.
pub(crate) fn definitions(resources: &[Arc<Resource>], flavour: Flavour) -> Map<String, Value> {
    let builtins = resources.iter().filter(|r| !r.custom);
    let mut all = builtin::openapi_definitions(builtins, flavour.path());
    for (name, schema) in &mut all {
        publish_builtin(name, schema, flavour);
    }
    all.insert(
        operations::PATCH.into(),
        json!({"type": "object", "description": "A patch: a list of operations, or a partial object."}),
    );
    for resource in resources {
        if resource.custom {
            all.insert(definition(resource), custom(resource, flavour));
        }
        tag_kind(&mut all, &definition(resource), resource, &resource.kind);
        if resource.allows("list") {
            all.insert(list_definition(resource), list(resource, flavour));
            tag_kind(&mut all, &list_definition(resource), resource, &resource.list_kind);
        }
    }
    tag(&mut all, "io.k8s.api.autoscaling.v1.Scale", "autoscaling", "v1", "Scale");
    tag(&mut all, "io.k8s.api.authentication.v1.TokenRequest", "authentication.k8s.io", "v1", "TokenRequest");
    tag(&mut all, operations::STATUS, "", "v1", "Status");
    tag(&mut all, operations::DELETE_OPTIONS, "", "v1", "DeleteOptions");
    keep_used(&mut all, resources, flavour);
    all
}

fn tag_kind(all: &mut Map<String, Value>, name: &str, resource: &Resource, kind: &str) {
    tag(all, name, &resource.group, &resource.version, kind);
}

fn tag(all: &mut Map<String, Value>, name: &str, group: &str, version: &str, kind: &str) {
    if let Some(Value::Object(schema)) = all.get_mut(name) {
        let gvk = json!([{"group": group, "kind": kind, "version": version}]);
        schema.insert("x-kubernetes-group-version-kind".into(), gvk);
    }
}

/// Drops what nothing refers to.
fn keep_used(all: &mut Map<String, Value>, resources: &[Arc<Resource>], flavour: Flavour) {
    let mut used = BTreeSet::new();
    let mut todo: Vec<String> = Vec::new();
    for operation in resources.iter().flat_map(|r| operations::paths(r)).flat_map(|p| p.operations) {
        todo.push(operation.answer);
        todo.extend(operation.body);
    }
    let prefix = flavour.reference("");
    while let Some(name) = todo.pop() {
        if let Some(schema) = all.get(&name).filter(|_| used.insert(name)) {
            references(schema, &prefix, &mut todo);
        }
    }
    all.retain(|name, _| used.contains(name));
}

fn references(value: &Value, prefix: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(name) = fields.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix(prefix)) {
                out.push(name.to_owned());
            }
            fields.values().for_each(|v| references(v, prefix, out));
        }
        Value::Array(items) => items.iter().for_each(|v| references(v, prefix, out)),
        _ => {}
    }
}

/// Calls `change` for a schema and for every schema in it.
fn each(schema: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    let Value::Object(fields) = schema else {
        return;
    };
    change(fields);
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(|property| each(property, change));
    }
    for nested in ["items", "additionalProperties"] {
        if let Some(nested) = fields.get_mut(nested) {
            each(nested, change);
        }
    }
}

fn publish_builtin(name: &str, schema: &mut Value, flavour: Flavour) {
    let kind = name.rsplit('.').next().unwrap_or_default();
    let description = schema.get("description").cloned();
    match (kind, flavour) {
        ("IntOrString", Flavour::V2) => *schema = json!({"type": "string", "format": "int-or-string"}),
        ("IntOrString", Flavour::V3) => {
            *schema = json!({"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"});
        }
        ("Quantity", Flavour::V2) => *schema = json!({"type": "string"}),
        ("Quantity", Flavour::V3) => *schema = json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        ("JSON" | "JSONSchemaPropsOrArray" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrStringArray", _) => {
            *schema = json!({});
        }
        _ => {}
    }
    if let (Some(description), Some(fields)) = (description, schema.as_object_mut()) {
        fields.insert("description".into(), description);
    }
    each(schema, &mut |fields| {
        fields.remove("$schema");
        fields.remove("title");
        wrap_reference(fields, flavour);
    });
}

/// In OpenAPI v3 nothing may stand beside a reference.
fn wrap_reference(fields: &mut Map<String, Value>, flavour: Flavour) {
    if flavour == Flavour::V3
        && fields.len() > 1
        && let Some(reference) = fields.remove("$ref")
    {
        fields.insert("allOf".into(), json!([{"$ref": reference}]));
    }
}

fn object_meta(flavour: Flavour) -> Value {
    let mut schema = json!({"$ref": flavour.reference(OBJECT_META), "description": "Standard object's metadata."});
    each(&mut schema, &mut |fields| wrap_reference(fields, flavour));
    schema
}

fn add_type(properties: &mut Map<String, Value>) {
    properties.insert("apiVersion".into(), json!({"type": "string", "description": API_VERSION}));
    properties.insert("kind".into(), json!({"type": "string", "description": KIND}));
}

/// The published schema of a custom resource.
fn custom(resource: &Resource, flavour: Flavour) -> Value {
    let mut schema = (*resource.openapi).clone();
    let open = schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    if !schema.is_object() || (flavour == Flavour::V2 && open) {
        // kubectl takes any declared field for a promise that there are no others
        return json!({"type": "object"});
    }
    if flavour == Flavour::V2 {
        each(&mut schema, &mut lower);
    }
    each(&mut schema, &mut |fields| add_embedded(fields, flavour));
    if let Some(fields) = schema.as_object_mut() {
        let properties = fields.entry("properties").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(properties) = properties {
            add_type(properties);
            properties.insert("metadata".into(), object_meta(flavour));
        }
        fields.insert("type".into(), "object".into());
        if !resource.selectable_fields.is_empty() {
            let paths: Vec<Value> = resource.selectable_fields.iter().map(|f| json!({"fieldPath": f})).collect();
            fields.insert("x-kubernetes-selectable-fields".into(), paths.into());
        }
    }
    schema
}

/// What OpenAPI v2 cannot say, and what old clients choke on, goes.
fn lower(fields: &mut Map<String, Value>) {
    for word in ["oneOf", "anyOf", "allOf", "not"] {
        fields.remove(word);
    }
    let is = |fields: &Map<String, Value>, word: &str| fields.get(word) == Some(&Value::Bool(true));
    let nullable = is(fields, "nullable");
    let open = is(fields, "x-kubernetes-preserve-unknown-fields");
    fields.remove("nullable");
    if nullable || open {
        fields.remove("items");
        fields.remove("properties");
    }
    let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let array_of_anything = kind == "array" && !fields.contains_key("items");
    if nullable || array_of_anything || (open && kind == "object") {
        fields.remove("type");
    }
    let nullable_fields: Vec<String> = fields
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(_, schema)| schema.get("nullable") == Some(&Value::Bool(true)))
        .map(|(name, _)| name.clone())
        .collect();
    if let Some(Value::Array(required)) = fields.get_mut("required") {
        required.retain(|name| !nullable_fields.iter().any(|n| name == n));
        if required.is_empty() {
            fields.remove("required");
        }
    }
}

/// Objects in objects have a type and metadata too.
fn add_embedded(fields: &mut Map<String, Value>, flavour: Flavour) {
    let is = |word: &str| fields.get(word) == Some(&Value::Bool(true));
    if !is("x-kubernetes-embedded-resource") || (flavour == Flavour::V2 && is("x-kubernetes-preserve-unknown-fields")) {
        return;
    }
    let properties = fields.entry("properties").or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(properties) = properties {
        add_type(properties);
        properties.insert("metadata".into(), object_meta(flavour));
    }
    let required = fields.entry("required").or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(required) = required {
        for name in ["kind", "apiVersion"] {
            if !required.iter().any(|known| known == name) {
                required.push(name.into());
            }
        }
    }
}

fn list(resource: &Resource, flavour: Flavour) -> Value {
    let mut schema = json!({
        "type": "object",
        "description": format!("{} is a list of {}", resource.list_kind, resource.kind),
        "required": ["items"],
        "properties": {
            "items": {
                "type": "array",
                "description": format!("List of {}.", resource.plural),
                "items": {"$ref": flavour.reference(&definition(resource))},
            },
            "metadata": {"$ref": flavour.reference(LIST_META), "description": "Standard list metadata."},
        },
    });
    each(&mut schema, &mut |fields| wrap_reference(fields, flavour));
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        add_type(properties);
    }
    schema
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Every reference in the document leads to one of its definitions.
    pub(crate) fn every_reference_resolves(document: &Value, prefix: &str) {
        let mut names = Vec::new();
        references(document, prefix, &mut names);
        assert!(!names.is_empty());
        let place = document.pointer(prefix.trim_start_matches('#').trim_end_matches('/')).unwrap();
        for name in names {
            assert!(place.get(&name).is_some(), "{name} is missing");
        }
    }

    #[test]
    fn old_clients_get_nothing_they_choke_on() {
        let mut schema = json!({"type": "object", "required": ["a", "b"], "properties": {
            "a": {"type": "string", "nullable": true},
            "b": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"c": {"type": "string"}}},
            "d": {"type": "array", "x-kubernetes-preserve-unknown-fields": true, "items": {"type": "object"}},
            "e": {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": true}
        }});
        each(&mut schema, &mut lower);
        assert_eq!(
            schema,
            json!({"type": "object", "required": ["b"], "properties": {
                "a": {},
                "b": {"x-kubernetes-preserve-unknown-fields": true},
                "d": {"x-kubernetes-preserve-unknown-fields": true},
                "e": {"x-kubernetes-int-or-string": true}
            }})
        );
    }
}
