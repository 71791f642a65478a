//! The JSON API for logged-in clients (reference §2.1): templates, collections, bind, ping, consumer status.
//!
//! In: requests with a bearer token or session cookie. Out: the wire's JSON. Every handler asks [`access::caller`] first.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use kube_bind_api::BindableResourcesRequestSpec;
use kube_bind_api::wire::{BindingResourceResponse, ClaimableApi, ErrorCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{App, MAX_BODY, Query, access};
use crate::bind::{self, Ask};
use crate::catalogue::Catalogue;
use crate::contracts;
use crate::error::ApiError;
use crate::release::{self, Released};

/// The identity that the Go release's web pages send for "whoever is logged in".
const UI_IDENTITY: &str = "ui-identity";

/// `GET /api/ping`.
pub async fn ping(
    State(app): State<Arc<App>>,
    method: Method,
    headers: HeaderMap,
    RawQuery(raw): RawQuery,
) -> Result<&'static str, ApiError> {
    access::caller(&app, &method, &headers, &Query::parse(raw.as_deref())).await?;
    Ok("pong")
}

/// `GET /api/templates`: templates, and an equivalent of one for each exported CRD without.
pub async fn templates(
    State(app): State<Arc<App>>,
    method: Method,
    headers: HeaderMap,
    RawQuery(raw): RawQuery,
) -> Result<Json<Value>, ApiError> {
    access::caller(&app, &method, &headers, &Query::parse(raw.as_deref())).await?;
    let catalogue = load(&app).await?;
    let items: Vec<Value> = catalogue.offerings.iter().map(crate::catalogue::Offering::listed).collect();
    Ok(Json(json!({"metadata": {}, "items": items})))
}

/// `GET /api/collections`.
pub async fn collections(
    State(app): State<Arc<App>>,
    method: Method,
    headers: HeaderMap,
    RawQuery(raw): RawQuery,
) -> Result<Json<Value>, ApiError> {
    access::caller(&app, &method, &headers, &Query::parse(raw.as_deref())).await?;
    let catalogue = load(&app).await?;
    Ok(Json(json!({"metadata": {}, "items": catalogue.collections})))
}

async fn load(app: &App) -> Result<Catalogue, ApiError> {
    Catalogue::load(&app.api).await.map_err(|err| ApiError::from_kube("Failed to read the provider's catalogue", &err))
}

/// `GET /api/bindable-resources`: the kinds that claims may be about.
pub async fn bindable_resources() -> Json<Vec<ClaimableApi>> {
    Json(
        crate::catalogue::CLAIMABLE
            .iter()
            .map(|(plural, singular, kind)| ClaimableApi::namespaced("", plural, singular, kind))
            .collect(),
    )
}

/// `GET /api/consumer-status`: what the logged-in person has bound from the cluster in `consumer_id`.
pub async fn consumer_status(
    State(app): State<Arc<App>>,
    method: Method,
    headers: HeaderMap,
    RawQuery(raw): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let query = Query::parse(raw.as_deref());
    let session = access::caller(&app, &method, &headers, &query).await?;
    let consumer =
        if query.get("consumer_id").is_empty() { session.identity() } else { query.get("consumer_id").to_owned() };
    let failed = |err: kube_client::ApiError| ApiError::from_kube("Failed to look up the contract", &err);
    let Some(found) = contracts::find(&app.api, &app.issuing, &session.person, &consumer).await.map_err(failed)? else {
        return Ok(Json(json!({"connected": false})));
    };
    let exports = contracts::exports(&app.api, &found.namespace).await.map_err(failed)?;
    Ok(Json(json!({"connected": true, "namespace": found.namespace, "exports": exports})))
}

/// Body of `POST /api/release`.
#[derive(Deserialize)]
struct ReleaseBody {
    #[serde(default)]
    namespace: String,
}

/// `POST /api/release`: gives a contract back that came to nothing. The bearer token is the contract's own credential; see
/// [`crate::release`].
pub async fn release(State(app): State<Arc<App>>, headers: HeaderMap, body: Bytes) -> Result<Json<Value>, ApiError> {
    let body: ReleaseBody = serde_json::from_slice(&body)
        .map_err(|err| ApiError::bad_request("Invalid JSON request body", err.to_string()))?;
    let header = headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|text| text.strip_prefix("Bearer ")).unwrap_or_default();
    let unknown = || ApiError::forbidden("This contract cannot be given back", "the credential is not the contract's");
    if body.namespace.is_empty() || body.namespace.contains(['/', '?', '#', '%']) || token.is_empty() {
        return Err(unknown());
    }
    let released = release::release(&app.api, &body.namespace, token).await;
    match released.map_err(|err| ApiError::from_kube("The contract could not be given back", &err))? {
        Released::Gone => Ok(Json(json!({"released": true}))),
        Released::Kept => Ok(Json(json!({"released": false}))),
        Released::Unknown => Err(unknown()),
    }
}

/// Body of `POST /api/bind`: a BindableResourcesRequest, of which only these parts count (reference §2.5).
#[derive(Deserialize)]
struct BindBody {
    #[serde(default)]
    metadata: BindMeta,
    #[serde(default)]
    spec: BindableResourcesRequestSpec,
}

#[derive(Default, Deserialize)]
struct BindMeta {
    #[serde(default)]
    name: String,
}

/// `POST /api/bind`: contract, credential and requests. `?dry_run=true` computes the requests only; `?contract=<namespace>`
/// names an existing contract of the caller that is to move here.
pub async fn bind(
    State(app): State<Arc<App>>,
    method: Method,
    headers: HeaderMap,
    RawQuery(raw): RawQuery,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<Response, ApiError> {
    let query = Query::parse(raw.as_deref());
    let session = access::caller(&app, &method, &headers, &query).await?;
    let body = body.map_err(|_| {
        let details = format!("the body must not be larger than {MAX_BODY} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::BadRequest, "Request body too large", details)
    })?;
    let body: BindBody = serde_json::from_slice(&body)
        .map_err(|err| ApiError::bad_request("Invalid JSON request body", err.to_string()))?;
    let identity = &body.spec.cluster_identity.identity;
    if identity.is_empty() {
        return Err(ApiError::bad_request("Cluster identity is required", "spec.clusterIdentity.identity is empty"));
    }
    let through_ui = identity == UI_IDENTITY;
    let consumer = match query.get("consumer_id") {
        "" if through_ui => session.identity(),
        "" => identity.clone(),
        named => named.to_owned(),
    };
    let template = body.spec.template_ref.as_ref().map(|template| template.name.clone()).unwrap_or_default();
    if template.is_empty() {
        return Err(ApiError::bad_request("Template is required", "spec.templateRef.name is empty"));
    }
    let ask = Ask {
        name: if body.metadata.name.is_empty() { template.clone() } else { body.metadata.name },
        offering: template,
        consumer,
        pretty_name: body.spec.cluster_identity.pretty_name.unwrap_or_default(),
        dry_run: query.flag("dry_run"),
        moved_contract: query.get("contract").to_owned(),
    };
    let mut response: BindingResourceResponse = bind::bind(&app.api, &app.issuing, &session, &ask).await?;
    if through_ui && !ask.dry_run {
        response.binding_name = Some(bind::submit(&app.api, &response).await?);
    }
    Ok(Json(response).into_response())
}
