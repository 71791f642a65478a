//! The CustomResourceDefinitions, generated from the Rust types.
//!
//! `deploy/crds` holds the same as YAML (a golden test compares). What the derive cannot say is added here: `v1alpha1`
//! for the kinds that the Go release serves in it, list kinds, root rules, defaults of `status`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinition, CustomResourceDefinitionVersion, JSONSchemaProps,
};
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use crate::{
    APIServiceBinding, APIServiceBindingBundle, APIServiceExport, APIServiceExportRequest, APIServiceExportTemplate,
    APIServiceNamespace, BindableResourcesRequest, BoundSchema, Cluster, ClusterBinding, Collection,
};

/// All kinds: what `deploy/crds` contains.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut all = consumer_crds();
    all.extend(provider_only());
    all
}

/// What a consumer cluster needs: bindings and bundles.
pub fn consumer_crds() -> Vec<CustomResourceDefinition> {
    vec![
        Kind::of::<APIServiceBinding>().optional_spec().old_version().finish(),
        Kind::of::<APIServiceBindingBundle>().optional_spec().finish(),
    ]
}

/// What a provider cluster needs. The Go chart installs the consumer's kinds there too; a provider that is nobody's
/// consumer does not miss them.
pub fn provider_crds() -> Vec<CustomResourceDefinition> {
    provider_only()
}

fn provider_only() -> Vec<CustomResourceDefinition> {
    vec![
        Kind::of::<APIServiceExportRequest>().default_status().old_version().finish(),
        Kind::of::<APIServiceExport>().old_version_with_schema(old_export_schema()).finish(),
        Kind::of::<APIServiceExportTemplate>().optional_spec().finish(),
        Kind::of::<APIServiceNamespace>().optional_spec().old_version().finish(),
        Kind::of::<BindableResourcesRequest>().default_status().finish(),
        Kind::of::<BoundSchema>().optional_spec().conversion_none().finish(),
        Kind::of::<ClusterBinding>()
            .root_rule("self.metadata.name == \"cluster\"", "cluster binding name should be cluster")
            .old_version()
            .finish(),
        Kind::of::<Cluster>().finish(),
        Kind::of::<Collection>().optional_spec().finish(),
    ]
}

/// A CRD on its way from the derive to the wire.
struct Kind {
    crd: CustomResourceDefinition,
    schema: Value,
    old: Option<Value>,
    conversion: bool,
}

impl Kind {
    fn of<T: CustomResourceExt>() -> Self {
        let mut crd = T::crd();
        crd.spec.names.list_kind = Some(format!("{}List", crd.spec.names.kind));
        let schema = crd.spec.versions.first_mut().and_then(|version| version.schema.take());
        let schema = schema.and_then(|schema| schema.open_api_v3_schema);
        let mut schema = serde_json::to_value(schema).unwrap_or_default();
        tidy(&mut schema);
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            properties.insert(
                "apiVersion".into(),
                json!({"type": "string", "description": "Group and version of this representation."}),
            );
            properties
                .insert("kind".into(), json!({"type": "string", "description": "Name of the kind in CamelCase."}));
            properties.insert("metadata".into(), json!({"type": "object"}));
        }
        Self { crd, schema, old: None, conversion: false }
    }

    /// The Go CRD does not require `spec` at the root.
    fn optional_spec(mut self) -> Self {
        if let Some(root) = self.schema.as_object_mut() {
            root.remove("required");
        }
        self
    }

    fn default_status(mut self) -> Self {
        if let Some(status) = self.schema.pointer_mut("/properties/status").and_then(Value::as_object_mut) {
            status.insert("default".into(), json!({}));
        }
        self
    }

    fn root_rule(mut self, rule: &str, message: &str) -> Self {
        if let Some(root) = self.schema.as_object_mut() {
            root.insert("x-kubernetes-validations".into(), json!([{"rule": rule, "message": message}]));
        }
        self
    }

    fn conversion_none(mut self) -> Self {
        self.conversion = true;
        self
    }

    /// Serves `v1alpha1` with the same schema, which is wider than what it once was.
    fn old_version(self) -> Self {
        let schema = self.schema.clone();
        self.old_version_with_schema(schema)
    }

    fn old_version_with_schema(mut self, schema: Value) -> Self {
        self.old = Some(schema);
        self.conversion_none()
    }

    fn finish(mut self) -> CustomResourceDefinition {
        if let Some(version) = self.crd.spec.versions.first_mut() {
            set_schema(version, self.schema);
            if let Some(old) = self.old {
                let mut version = version.clone();
                version.name = "v1alpha1".into();
                version.storage = false;
                set_schema(&mut version, old);
                self.crd.spec.versions.insert(0, version);
            }
        }
        if self.conversion {
            self.crd.spec.conversion = Some(CustomResourceConversion { strategy: "None".into(), ..Default::default() });
        }
        self.crd
    }
}

fn set_schema(version: &mut CustomResourceDefinitionVersion, schema: Value) {
    let schema: Option<JSONSchemaProps> = serde_json::from_value(schema).ok();
    version.schema =
        Some(k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceValidation {
            open_api_v3_schema: schema,
        });
}

/// Drops what the generator says and the Go CRDs do not: `nullable`, titles, null defaults.
fn tidy(schema: &mut Value) {
    if let Some(object) = schema.as_object_mut() {
        object.remove("nullable");
        object.remove("title");
        if object.get("default").is_some_and(Value::is_null) {
            object.remove("default");
        }
        for key in ["properties", "definitions"] {
            if let Some(Value::Object(children)) = object.get_mut(key) {
                children.values_mut().for_each(tidy);
            }
        }
        for key in ["items", "additionalProperties", "not"] {
            if let Some(child) = object.get_mut(key) {
                tidy(child);
            }
        }
        for key in ["allOf", "anyOf", "oneOf"] {
            if let Some(Value::Array(children)) = object.get_mut(key) {
                children.iter_mut().for_each(tidy);
            }
        }
        // A map of anything is what `x-kubernetes-preserve-unknown-fields` already says.
        if object.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true)) {
            object.remove("additionalProperties");
        }
    }
}

/// `v1alpha1` of the export was a CRD in itself. Nothing of ours writes it; what others wrote stays readable.
fn old_export_schema() -> Value {
    let mut bound = Kind::of::<BoundSchema>().schema;
    let old_schema = json!({
        "type": "object",
        "required": ["openAPIV3Schema"],
        "properties": {"openAPIV3Schema": {
            "type": "object", "x-kubernetes-map-type": "atomic", "x-kubernetes-preserve-unknown-fields": true}}
    });
    if let Some(spec) = bound.pointer_mut("/properties/spec/properties").and_then(Value::as_object_mut) {
        spec.remove("conversion");
        spec.insert(
            "clusterScopedIsolation".into(),
            json!({"type": "string", "enum": ["Prefixed", "Namespaced", "None"]}),
        );
    }
    if let Some(version) =
        bound.pointer_mut("/properties/spec/properties/versions/items/properties").and_then(Value::as_object_mut)
    {
        version.insert("schema".into(), old_schema);
    }
    if let Some(root) = bound.as_object_mut() {
        root.insert("description".into(), json!("The first form of an export: a CRD in itself."));
        root.entry("properties").or_insert_with(|| Value::Object(Map::new()));
    }
    bound
}
