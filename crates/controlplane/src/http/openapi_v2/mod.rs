//! OpenAPI v2 (Swagger): one document for everything, as JSON or protobuf.
//!
//! Flows in: descriptors. Flows out: [`document`] as JSON, or its protobuf form ([`to_protobuf`]). Old kubectl cannot apply
//! without the latter: it reads from it that dry runs are possible and how fields merge.

mod proto;

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::openapi_v3::operations::{self, Operation, Path};
use super::openapi_v3::schemas::{self, Flavour};
use crate::registry::Resource;

pub use proto::to_protobuf;

const PREFIX: &str = "#/definitions/";

/// The document of these resources.
pub fn document(resources: &[Arc<Resource>]) -> Value {
    let mut paths = Map::new();
    for resource in resources {
        for path in operations::paths(resource) {
            paths.insert(path.path.clone(), path_item(&path));
        }
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": super::discovery::KUBERNETES_VERSION},
        "paths": paths,
        "definitions": schemas::definitions(resources, Flavour::V2),
        "securityDefinitions": {"BearerToken": {
            "description": "Bearer Token authentication", "type": "apiKey", "name": "authorization", "in": "header"}},
        "security": [{"BearerToken": []}],
    })
}

fn path_item(path: &Path) -> Value {
    let mut item = Map::new();
    for operation in &path.operations {
        item.insert(operation.method.to_owned(), describe(operation));
    }
    let in_path = |name: &str, text: &str| json!({"name": name, "in": "path", "required": true, "type": "string", "uniqueItems": true, "description": text});
    let mut parameters = Vec::new();
    if path.named {
        parameters.push(in_path("name", "name of the object"));
    }
    if path.namespaced {
        parameters.push(in_path("namespace", "object name and auth scope, such as for teams and projects"));
    }
    parameters.push(json!({"name": "pretty", "in": "query", "type": "string", "uniqueItems": true,
        "description": "Whether to indent the answer."}));
    item.insert("parameters".into(), parameters.into());
    Value::Object(item)
}

fn describe(operation: &Operation) -> Value {
    let mut parameters: Vec<Value> = operations::parameters(operation.action)
        .into_iter()
        .map(|p| json!({"name": p.0, "in": "query", "type": p.1, "uniqueItems": true, "description": p.2}))
        .collect();
    if let Some(body) = &operation.body {
        let required = matches!(operation.action, "post" | "put" | "patch");
        let mut parameter = json!({"name": "body", "in": "body", "schema": {"$ref": format!("{PREFIX}{body}")}});
        if required {
            parameter["required"] = true.into();
        }
        parameters.push(parameter);
    }
    let answer = json!({"$ref": format!("{PREFIX}{}", operation.answer)});
    let mut responses = Map::new();
    responses.insert("200".into(), json!({"description": "OK", "schema": answer}));
    match operation.action {
        "post" => {
            responses.insert("201".into(), json!({"description": "Created", "schema": answer}));
            responses.insert("202".into(), json!({"description": "Accepted", "schema": answer}));
        }
        "put" | "patch" => {
            responses.insert("201".into(), json!({"description": "Created", "schema": answer}));
        }
        "delete" => {
            responses.insert("202".into(), json!({"description": "Accepted", "schema": answer}));
        }
        _ => {}
    }
    responses.insert("401".into(), json!({"description": "Unauthorized"}));
    let consumes: &[&str] =
        if operation.action == "patch" { operations::patch_types(operation.strategic) } else { &["*/*"] };
    json!({
        "description": operation.description,
        "operationId": operation.id,
        "tags": [operation.tag],
        "consumes": consumes,
        "produces": ["application/json", "application/yaml"],
        "schemes": ["https"],
        "parameters": parameters,
        "responses": responses,
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": operation.gvk.to_value(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{Catalog, builtin};

    #[test]
    fn the_document_is_complete_in_itself() {
        let all: Vec<_> = Catalog::new(builtin::resources()).iter().cloned().collect();
        let document = document(&all);
        schemas::tests::every_reference_resolves(&document, PREFIX);
        let deployment = &document["definitions"]["io.k8s.api.apps.v1.Deployment"];
        assert_eq!(deployment["x-kubernetes-group-version-kind"][0]["kind"], "Deployment");
        let containers = &document["definitions"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    }
}
