//! JSON schemas of the built-in types.
//!
//! Flows in: the types of `k8s-openapi` (which describe themselves), plus tables of facts: how lists merge
//! (`merge_facts.txt`), what is filled in (`defaults.txt`) and what values there are (`enums.txt`). Flows out: named definitions for OpenAPI, and compiled
//! structural schemas for the write path. Nothing here is computed before somebody asks.

use std::collections::HashMap;
use std::sync::LazyLock;

use apimachinery::schema::Structural;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// A type that can describe itself.
#[derive(Clone, Copy)]
pub struct TypeRef {
    name: fn() -> String,
    register: fn(&mut SchemaGenerator),
}

impl TypeRef {
    /// The reference of a type of `k8s-openapi`.
    pub const fn of<T: JsonSchema>() -> Self {
        Self {
            name: || T::schema_name().into_owned(),
            register: |generator| {
                generator.subschema_for::<T>();
            },
        }
    }

    /// Name of the definition, such as `io.k8s.api.core.v1.ConfigMap`.
    pub fn name(&self) -> String {
        (self.name)()
    }
}

/// Definitions of these types and of everything they refer to, by name. References read
/// `#<prefix>/<name>`; `prefix` is such as `/definitions`.
pub fn definitions(types: impl IntoIterator<Item = TypeRef>, prefix: &'static str) -> Map<String, Value> {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = prefix.into();
    let mut generator = settings.into_generator();
    for kind in types {
        (kind.register)(&mut generator);
    }
    let mut definitions = generator.take_definitions(false);
    for (name, definition) in &mut definitions {
        add_merge_facts(name, definition);
        add_enums(name, definition);
        free_metadata(definition);
    }
    definitions
}

/// Compiles the schema of one kind.
pub fn compile(kind: TypeRef) -> Structural {
    let mut definitions = definitions([kind], "/definitions");
    for (name, definition) in &mut definitions {
        add_defaults(name, definition);
        drop_descriptions(definition);
        relax(name, definition);
        allow_empty(name, definition);
    }
    let root = json!({"$ref": format!("#/definitions/{}", kind.name())});
    Structural::compile_builtin(&root, &Value::Object(definitions)).unwrap_or_else(|errors| {
        tracing::error!(
            kind = kind.name(),
            ?errors,
            "the schema of a built-in kind does not compile; it is not enforced"
        );
        Structural::untyped()
    })
}

/// What the API calls required and its server nevertheless does without.
fn relax(name: &str, definition: &mut Value) {
    let optional: &[&str] = match short(name) {
        // kubectl and client libraries leave these out, or send them as null
        "core.v1.Event" => &["involvedObject"],
        "apps.v1.StatefulSetSpec" => &["serviceName"],
        // the status parts are filled in by the server
        "authentication.v1.TokenRequestSpec" => &["audiences"],
        "authentication.v1.TokenRequestStatus" => &["expirationTimestamp", "token"],
        "rbac.v1.RoleRef" => &["apiGroup"],
        "rbac.v1.Role" | "rbac.v1.ClusterRole" => &["rules"],
        "discovery.v1.EndpointSlice" => &["endpoints"],
        _ => return,
    };
    if let Some(required) = definition.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|field| !field.as_str().is_some_and(|f| optional.contains(&f)));
    }
}

/// An empty string is as good as none in these enumerations.
fn allow_empty(name: &str, definition: &mut Value) {
    if short(name) == "core.v1.Toleration" {
        for field in ["effect", "operator"] {
            if let Some(Value::Array(values)) = definition.pointer_mut(&format!("/properties/{field}/enum")) {
                values.insert(0, "".into());
            }
        }
    }
}

fn drop_descriptions(definition: &mut Value) {
    // only descriptions of schemas: a property may itself be called description
    if let Some(schema) = definition.as_object_mut() {
        schema.remove("description");
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            properties.values_mut().for_each(drop_descriptions);
        }
        for nested in ["items", "additionalProperties"] {
            if let Some(nested) = schema.get_mut(nested) {
                drop_descriptions(nested);
            }
        }
    }
}

/// A definition's name without the package prefix, as the tables of facts use it: `core.v1.ConfigMap`.
fn short(name: &str) -> &str {
    const PREFIXES: [&str; 3] =
        ["io.k8s.api.", "io.k8s.apiextensions-apiserver.pkg.apis.", "io.k8s.apimachinery.pkg.apis."];
    PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
}

type Facts = HashMap<&'static str, Vec<(&'static str, &'static str)>>;

/// `<type> <field> <rest>` lines, by type.
fn parse_facts(text: &'static str) -> Facts {
    let mut facts = Facts::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut parts = line.splitn(3, ' ');
        if let (Some(kind), Some(field), Some(rest)) = (parts.next(), parts.next(), parts.next()) {
            facts.entry(kind).or_default().push((field, rest));
        }
    }
    facts
}

static MERGE_FACTS: LazyLock<Facts> = LazyLock::new(|| parse_facts(include_str!("merge_facts.txt")));
static DEFAULTS: LazyLock<Facts> = LazyLock::new(|| parse_facts(include_str!("defaults.txt")));
static ENUMS: LazyLock<Facts> = LazyLock::new(|| parse_facts(include_str!("enums.txt")));

fn add_enums(name: &str, definition: &mut Value) {
    for (field, values) in ENUMS.get(short(name)).into_iter().flatten() {
        let property = definition.get_mut("properties").and_then(|p| p.get_mut(*field));
        let (target, values) = match values.strip_prefix("[]") {
            Some(values) => (property.and_then(|p| p.get_mut("items")), values),
            None => (property, *values),
        };
        if let Some(Value::Object(schema)) = target {
            let values: Vec<&str> = values.split(',').collect();
            schema.insert("enum".into(), values.into());
        }
    }
}

/// Clients write metadata if they have any; for the server it always is there.
fn free_metadata(definition: &mut Value) {
    if let Some(fields) = definition.as_object_mut()
        && let Some(Value::Array(required)) = fields.get_mut("required")
    {
        required.retain(|field| field != "metadata");
        if required.is_empty() {
            fields.remove("required");
        }
    }
}

fn add_merge_facts(name: &str, definition: &mut Value) {
    for (field, facts) in MERGE_FACTS.get(short(name)).into_iter().flatten() {
        let target = match *field {
            "." => Some(&mut *definition),
            field => definition.get_mut("properties").and_then(|p| p.get_mut(field)),
        };
        let Some(Value::Object(schema)) = target else {
            continue;
        };
        for fact in facts.split(' ') {
            match fact.split_once(':') {
                Some(("list", kind)) => {
                    let (kind, keys) = kind.split_once(':').map_or((kind, None), |(kind, keys)| (kind, Some(keys)));
                    schema.insert("x-kubernetes-list-type".into(), kind.into());
                    if let Some(keys) = keys {
                        let keys: Vec<&str> = keys.split(',').collect();
                        schema.insert("x-kubernetes-list-map-keys".into(), keys.into());
                    }
                }
                Some(("map", kind)) => {
                    schema.insert("x-kubernetes-map-type".into(), kind.into());
                }
                Some(("patch", strategy)) => {
                    let (strategy, key) = strategy.split_once(':').map_or((strategy, None), |(s, key)| (s, Some(key)));
                    schema.insert("x-kubernetes-patch-strategy".into(), strategy.into());
                    if let Some(key) = key {
                        schema.insert("x-kubernetes-patch-merge-key".into(), key.into());
                    }
                }
                _ => {}
            }
        }
    }
}

fn add_defaults(name: &str, definition: &mut Value) {
    for (field, default) in DEFAULTS.get(short(name)).into_iter().flatten() {
        let property = definition.get_mut("properties").and_then(|p| p.get_mut(*field));
        if let (Some(Value::Object(schema)), Ok(default)) = (property, serde_json::from_str::<Value>(default)) {
            schema.insert("default".into(), default);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{Pod, Secret, Service};

    #[test]
    fn every_fact_is_about_a_field_that_exists() {
        let all = definitions(super::super::kinds::all_types(), "/definitions");
        for facts in [&*MERGE_FACTS, &*DEFAULTS, &*ENUMS] {
            for (kind, fields) in facts {
                let Some((_, definition)) = all.iter().find(|(name, _)| short(name) == *kind) else {
                    continue;
                };
                for (field, rest) in fields {
                    let known = *field == "." || definition["properties"].get(*field).is_some();
                    assert!(known, "{kind} has no field {field}");
                    assert!(!rest.is_empty());
                }
            }
        }
        for (kind, fields) in &*DEFAULTS {
            assert!(all.keys().any(|name| short(name) == *kind), "{kind} is not served");
            for (field, value) in fields {
                assert!(serde_json::from_str::<Value>(value).is_ok(), "{kind}.{field}");
            }
        }
    }

    #[test]
    fn compiled_schemas_know_how_lists_merge() {
        let pod = compile(TypeRef::of::<Pod>());
        let spec = pod.root().field("spec").unwrap();
        let containers = spec.field("containers").unwrap();
        assert_eq!(containers.patch_merge_key.as_deref(), Some("name"));
        assert_eq!(containers.map_keys, ["name"]);
        let ports = containers.items.as_ref().unwrap().field("ports").unwrap();
        assert_eq!(ports.map_keys, ["containerPort", "protocol"]);
        assert_eq!(ports.patch_merge_key.as_deref(), Some("containerPort"));
    }

    #[test]
    fn compiled_schemas_fill_in_and_prune() {
        let service = compile(TypeRef::of::<Service>());
        let mut object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
            "spec": {"ports": [{"port": 80}], "bogus": 1}});
        assert_eq!(service.prune(&mut object), ["spec.bogus"]);
        service.apply_defaults(&mut object);
        assert_eq!(object["spec"]["type"], "ClusterIP");
        assert_eq!(object["spec"]["ports"][0]["protocol"], "TCP");
        assert_eq!(service.validate(&object, None), []);
        let mut secret =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "Yg=="}});
        let schema = compile(TypeRef::of::<Secret>());
        schema.apply_defaults(&mut secret);
        assert_eq!(secret["type"], "Opaque");
        assert_eq!(schema.validate(&secret, None), []);
    }
}
