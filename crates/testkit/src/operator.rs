//! A stock operator's stand-in: knows a [`Service`] and nothing of kube-bind. For every object it makes the Secret that
//! the object names and a Service of its name, and writes a status; both go with the object by owner references.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube_client::api::{Api, FieldManager, ListQuery, Subresource};
use kube_client::store::ObjectKey;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::service::Service;
use crate::site::core;

const OPERATOR: FieldManager = FieldManager("operator");
const LOOK: Duration = Duration::from_millis(50);

/// Runs until cancelled. API servers that are away are waited for.
#[must_use]
pub fn start(api: Api, service: Service, shutdown: CancellationToken) -> JoinHandle<()> {
    tokio::spawn(async move {
        while !shutdown.is_cancelled() {
            let objects = api.list(&service.resource(), &ListQuery::default()).await.unwrap_or_default();
            for object in &objects {
                // What fails now is tried again at the next look.
                let _ = work(&api, &service, object).await;
            }
            tokio::time::sleep(LOOK).await;
        }
    })
}

async fn work(api: &Api, service: &Service, object: &Value) -> Result<(), kube_client::error::ApiError> {
    let metadata = &object["metadata"];
    let text = |field: &str| metadata[field].as_str().unwrap_or_default();
    if metadata["deletionTimestamp"].is_string() {
        return Ok(());
    }
    let status = json!({
        "phase": "Running", "observedGeneration": metadata["generation"], "saw": object["spec"]["size"],
        "conditions": [{"type": "Ready", "status": "True", "reason": "Works", "message": "", "lastTransitionTime": text("creationTimestamp")}],
    });
    if object["status"] == status {
        return Ok(());
    }
    let owner =
        json!([{"apiVersion": object["apiVersion"], "kind": service.kind, "name": text("name"), "uid": text("uid")}]);
    if let Some(name) = service.secret_of(object)
        && !text("namespace").is_empty()
    {
        let key = ObjectKey::new(text("namespace"), name);
        if api.get_opt(&core("secrets"), &key).await?.is_none() {
            let token = STANDARD.encode(format!("token of {}", text("name")));
            let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "ownerReferences": owner}, "data": {"token": token}});
            api.create(&core("secrets"), Some(text("namespace")), &body).await?;
        }
        let key = ObjectKey::new(text("namespace"), text("name"));
        if api.get_opt(&core("services"), &key).await?.is_none() {
            let body = json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": text("name"), "ownerReferences": owner},
                "spec": {"type": "ExternalName", "externalName": format!("{}.service.localhost", text("name")), "ports": [{"port": 4711}]},
            });
            api.create(&core("services"), Some(text("namespace")), &body).await?;
        }
    }
    let key = ObjectKey::new(text("namespace"), text("name"));
    api.merge_patch(&service.resource(), &key, Subresource::Status, &json!({"status": status}), OPERATOR).await?;
    Ok(())
}
