//! `GET /api/konnector-manifests`: what installs the agent in a consumer cluster.
//!
//! In: the configured image. Out: YAML documents (namespace, account, the rights that the contract generates, Lease
//! rights, Deployment). Called by people who install by hand or by GitOps.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use kube_bind_api::constants::{CONSUMER_NAMESPACE, KONNECTOR};
use serde_json::{Value, json};

use super::App;
use crate::error::ApiError;

/// See the module.
pub async fn konnector(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let image = format!("{}:{}", app.konnector_image, app.version);
    let mut text = String::new();
    for document in documents(&image) {
        text.push_str("---\n");
        text.push_str(&yaml(&document)?);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    let headers =
        [(header::CONTENT_TYPE, "text/yaml"), (header::CONTENT_DISPOSITION, "attachment; filename=konnector.yaml")];
    Ok((headers, text).into_response())
}

fn yaml(document: &Value) -> Result<String, ApiError> {
    serde_saphyr::to_string(document)
        .map_err(|err| ApiError::internal("Failed to serialize konnector manifests", err.to_string()))
}

fn documents(image: &str) -> Vec<Value> {
    let base = contract::rbac::consumer::base();
    let mut out = Vec::new();
    let mut add = |api_version: &str, kind: &str, object: serde_json::Result<Value>| {
        let mut value = object.unwrap_or_default();
        value["apiVersion"] = json!(api_version);
        value["kind"] = json!(kind);
        out.push(value);
    };
    let rbac = "rbac.authorization.k8s.io/v1";
    add("v1", "Namespace", serde_json::to_value(&base.namespace));
    add("v1", "ServiceAccount", serde_json::to_value(&base.service_account));
    add(rbac, "ClusterRole", serde_json::to_value(&base.cluster_role));
    add(rbac, "ClusterRoleBinding", serde_json::to_value(&base.cluster_role_binding));
    add(rbac, "Role", serde_json::to_value(&base.role));
    add(rbac, "RoleBinding", serde_json::to_value(&base.role_binding));
    out.push(deployment(image));
    out
}

fn deployment(image: &str) -> Value {
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": KONNECTOR, "namespace": CONSUMER_NAMESPACE, "labels": {"app": KONNECTOR}},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": KONNECTOR}},
            "template": {
                "metadata": {"labels": {"app": KONNECTOR}},
                "spec": {
                    "serviceAccountName": KONNECTOR,
                    "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [{
                        "name": KONNECTOR,
                        "image": image,
                        "env": [
                            {"name": "POD_NAME", "valueFrom": field("metadata.name")},
                            {"name": "POD_NAMESPACE", "valueFrom": field("metadata.namespace")},
                        ],
                        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8090}},
                        "securityContext": {
                            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
                        },
                    }],
                },
            },
        },
    })
}
