//! OpenAPI v3: an index with one address a group and version, and the documents behind it.
//!
//! Flows in: descriptors. Flows out: [`index`] (`/openapi/v3`) and [`document`]s. kubectl reads them to explain kinds, to
//! decide whether the server validates fields, and to compute strategic merge patches.

pub(crate) mod operations;
pub(crate) mod schemas;

use std::sync::Arc;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::registry::{Catalog, Resource};
use operations::{Operation, Path};
use schemas::Flavour;

const PREFIX: &str = "#/components/schemas/";

/// `/openapi/v3`: the addresses of all documents, each with a hash of its content.
pub fn index(catalog: &Catalog) -> Value {
    let mut paths = Map::new();
    let groups = std::iter::once((String::new(), vec!["v1".to_owned()])).chain(catalog.groups());
    for (group, versions) in groups {
        for version in versions {
            let path = if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
            let resources: Vec<Arc<Resource>> = catalog.group_version(&group, &version).into_iter().cloned().collect();
            let url = format!("/openapi/v3/{path}?hash={}", hash(&resources));
            paths.insert(path, json!({"serverRelativeURL": url}));
        }
    }
    json!({"paths": paths})
}

/// Differs whenever the document of these resources differs.
pub fn hash(resources: &[Arc<Resource>]) -> String {
    let mut digest = Sha256::new();
    digest.update(env!("CARGO_PKG_VERSION"));
    for resource in resources {
        for part in [&resource.group, &resource.version, &resource.plural, &resource.kind, &resource.identity] {
            digest.update(part.as_bytes());
            digest.update([0]);
        }
    }
    digest.finalize().iter().map(|byte| format!("{byte:02X}")).collect()
}

/// The document of the resources of one group and version.
pub fn document(resources: &[Arc<Resource>]) -> Value {
    let mut paths = Map::new();
    for resource in resources {
        for path in operations::paths(resource) {
            paths.insert(path.path.clone(), path_item(&path));
        }
    }
    let mut components = Map::new();
    components.insert("schemas".into(), Value::Object(schemas::definitions(resources, Flavour::V3)));
    components.insert(
        "securitySchemes".into(),
        json!({"BearerToken": {"description": "Bearer Token authentication", "in": "header", "name": "authorization", "type": "apiKey"}}),
    );
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": super::discovery::KUBERNETES_VERSION},
        "paths": paths,
        "components": components,
    })
}

fn path_item(path: &Path) -> Value {
    let mut item = Map::new();
    for operation in &path.operations {
        item.insert(operation.method.to_owned(), describe(operation));
    }
    let in_path = |name: &str, text: &str| {
        json!({"name": name, "in": "path", "required": true, "description": text,
            "schema": {"type": "string", "uniqueItems": true}})
    };
    let mut parameters = Vec::new();
    if path.named {
        parameters.push(in_path("name", "name of the object"));
    }
    if path.namespaced {
        parameters.push(in_path("namespace", "object name and auth scope, such as for teams and projects"));
    }
    parameters.push(json!({"name": "pretty", "in": "query", "description": "Whether to indent the answer.",
        "schema": {"type": "string", "uniqueItems": true}}));
    item.insert("parameters".into(), parameters.into());
    Value::Object(item)
}

fn describe(operation: &Operation) -> Value {
    let parameters: Vec<Value> = operations::parameters(operation.action)
        .into_iter()
        .map(|p| json!({"name": p.0, "in": "query", "description": p.2, "schema": {"type": p.1, "uniqueItems": true}}))
        .collect();
    let answer = json!({"schema": {"$ref": format!("{PREFIX}{}", operation.answer)}});
    let content = json!({"application/json": answer, "application/yaml": answer});
    let mut responses = Map::new();
    responses.insert("200".into(), json!({"description": "OK", "content": content}));
    match operation.action {
        "post" => {
            responses.insert("201".into(), json!({"description": "Created", "content": content}));
            responses.insert("202".into(), json!({"description": "Accepted", "content": content}));
        }
        "put" | "patch" => {
            responses.insert("201".into(), json!({"description": "Created", "content": content}));
        }
        "delete" => {
            responses.insert("202".into(), json!({"description": "Accepted", "content": content}));
        }
        _ => {}
    }
    responses.insert("401".into(), json!({"description": "Unauthorized"}));
    let mut out = json!({
        "description": operation.description,
        "operationId": operation.id,
        "tags": [operation.tag],
        "responses": responses,
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": operation.gvk.to_value(),
    });
    if !parameters.is_empty() {
        out["parameters"] = parameters.into();
    }
    if let Some(body) = &operation.body {
        let schema = json!({"schema": {"$ref": format!("{PREFIX}{body}")}});
        let types: &[&str] =
            if operation.action == "patch" { operations::patch_types(operation.strategic) } else { &["*/*"] };
        let content: Map<String, Value> = types.iter().map(|t| ((*t).to_owned(), schema.clone())).collect();
        out["requestBody"] = json!({"content": content});
        if matches!(operation.action, "post" | "put" | "patch") {
            out["requestBody"]["required"] = true.into();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::builtin;

    #[test]
    fn the_index_names_every_group_and_version() {
        let catalog = Catalog::new(builtin::resources());
        let index = index(&catalog);
        let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
        assert!(url.starts_with("/openapi/v3/apis/apps/v1?hash="), "{url}");
        assert!(index["paths"]["api/v1"].is_object());
    }

    #[test]
    fn patches_are_advertised_with_dry_run_and_field_validation() {
        let catalog = Catalog::new(builtin::resources());
        let resources: Vec<_> = catalog.group_version("", "v1").into_iter().cloned().collect();
        let document = document(&resources);
        let patch = &document["paths"]["/api/v1/namespaces/{namespace}/configmaps/{name}"]["patch"];
        let names: Vec<&str> =
            patch["parameters"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
        assert!(names.contains(&"dryRun") && names.contains(&"fieldValidation"), "{names:?}");
        assert!(patch["requestBody"]["content"]["application/strategic-merge-patch+json"].is_object());
        assert_eq!(
            patch["x-kubernetes-group-version-kind"],
            json!({"group": "", "version": "v1", "kind": "ConfigMap"})
        );
        let kind = &document["components"]["schemas"]["io.k8s.api.core.v1.ConfigMap"];
        assert_eq!(
            kind["x-kubernetes-group-version-kind"],
            json!([{"group": "", "version": "v1", "kind": "ConfigMap"}])
        );
        schemas::tests::every_reference_resolves(&document, PREFIX);
    }
}
