//! `GET /api/konnector-manifests`: what installs the agent in a consumer cluster.
//!
//! In: the configured image. Out: YAML documents (CRDs, namespace, account, the rights that the contract generates,
//! Deployment). Called by people who install by hand or by GitOps.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use contract::install;
use http::header;
use serde_json::Value;

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

/// What a bind installs, with the backend's image and without admission policies, which not every API server takes.
fn documents(image: &str) -> Vec<Value> {
    let mut documents = install::objects(install::VERSION);
    documents.push(install::deployment(install::VERSION, Some(image)));
    documents
}
