//! The bind itself: from an offering and a consumer to a contract, a credential and the requests to make with it.
//!
//! In: an [`Ask`] of a logged-in person. Out: the wire's BindingResourceResponse. A dry run computes the requests and
//! touches nothing. Called by `http::api`, `http::exports`, `http::redeem` and the BindableResourcesRequest controller.

use std::time::Duration;

use http::StatusCode;
use kube_bind_api::wire::{BindingResourceResponse, BindingResponseAuthentication, BindingResponseLogin};
use kube_bind_api::{APIServiceExport, APIServiceExportRequest, APIServiceExportRequestSpec, ClaimState, StatedClaim};
use kube_client::{Api, Class, ObjectKey};
use serde_json::{Value, json};

use crate::catalogue::{Catalogue, Offering};
use crate::contracts::{self, ContractError, Issuing};
use crate::error::{ApiError, ErrorCode};
use crate::identity::session::Session;
use crate::resources;

/// How long a request made for the web flow may stay pending.
const REQUEST_PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(200);

/// What somebody wants to bind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The offering.
    pub offering: String,
    /// Name of request, export and binding.
    pub name: String,
    /// The consumer cluster's identity.
    pub consumer: String,
    /// A name of the cluster for people.
    pub pretty_name: String,
    /// Compute only.
    pub dry_run: bool,
    /// Namespace of an existing contract that is to move here; empty for none.
    pub moved_contract: String,
}

/// The refusal that a contract error means.
#[must_use]
pub fn refusal(err: ContractError) -> ApiError {
    match err {
        ContractError::Api(err) => ApiError::from_kube("The contract could not be made at the provider", &err),
        ContractError::Revoked(_) => ApiError::forbidden("This contract has been revoked", err.to_string()),
        ContractError::NoToken(_) => {
            ApiError::internal("The contract could not be made at the provider", err.to_string())
        }
        ContractError::Foreign(_) | ContractError::Elsewhere(_) => {
            ApiError::conflict("This contract cannot be used from here", err.to_string())
        }
    }
}

/// Binds.
///
/// # Errors
/// 404 for an unknown offering, 409 for one that is not available yet or a contract that is elsewhere, 400 for names that
/// cannot be used, and what the provider's API server says.
pub async fn bind(
    api: &Api,
    issuing: &Issuing,
    session: &Session,
    ask: &Ask,
) -> Result<BindingResourceResponse, ApiError> {
    check(ask)?;
    let catalogue = Catalogue::load(api)
        .await
        .map_err(|err| ApiError::from_kube("Failed to read the provider's catalogue", &err))?;
    let offering = catalogue.offering(&ask.offering).ok_or_else(|| {
        ApiError::not_found(
            "Failed to retrieve template",
            format!("APIServiceExportTemplate.kube-bind.io \"{}\" not found", ask.offering),
        )
    })?;
    if let Some(problem) = &offering.problem {
        return Err(ApiError::conflict(format!("{} is not available yet", ask.offering), problem.clone()));
    }
    let requests = vec![request(offering, &ask.name, ask.dry_run)];
    let login = BindingResponseLogin { sid: session.sid.clone(), id: session.identity() };
    let authentication = BindingResponseAuthentication { oauth2_code_grant: Some(login) };
    if ask.dry_run {
        return Ok(BindingResourceResponse::new(Vec::new(), requests, authentication));
    }
    if !ask.moved_contract.is_empty() {
        contracts::move_here(api, issuing, &session.person, &ask.moved_contract, &ask.consumer)
            .await
            .map_err(refusal)?;
    }
    let made =
        contracts::ensure(api, issuing, &session.person, &ask.consumer, &ask.pretty_name).await.map_err(refusal)?;
    let mut response = BindingResourceResponse::new(made.kubeconfig, requests, authentication);
    response.provider_namespace = Some(made.namespace);
    Ok(response)
}

fn check(ask: &Ask) -> Result<(), ApiError> {
    if !is_subdomain(&ask.name) {
        return Err(ApiError::bad_request(
            "The name cannot be used",
            format!("{:?} must consist of lower case letters, digits, '-' and '.', at most 253", ask.name),
        ));
    }
    if ask.consumer.is_empty() || ask.consumer.len() > 512 || ask.consumer.chars().any(char::is_control) {
        return Err(ApiError::bad_request(
            "The consumer identity cannot be used",
            "it must be 1 to 512 printable characters",
        ));
    }
    Ok(())
}

/// RFC 1123 subdomain, as Kubernetes checks names.
fn is_subdomain(name: &str) -> bool {
    let label = |part: &str| {
        let inner = part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        inner && !part.is_empty() && !part.starts_with('-') && !part.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// The request for an offering. In a dry run its claims say that nobody has decided yet, for the person who reviews it.
fn request(offering: &Offering, name: &str, reviewed: bool) -> Value {
    let spec = &offering.template.spec;
    let state = reviewed.then_some(ClaimState::Pending);
    let mut request = APIServiceExportRequest::new(
        name,
        APIServiceExportRequestSpec {
            parameters: None,
            resources: offering.resources(),
            permission_claims: spec
                .permission_claims
                .iter()
                .map(|claim| StatedClaim { claim: claim.clone(), state })
                .collect(),
            namespaces: spec.namespaces.clone(),
            schema_update_policy: spec.schema_update_policy,
        },
    );
    request.metadata.name = Some(name.to_owned());
    let mut value = serde_json::to_value(&request).unwrap_or_default();
    if !reviewed {
        value["status"] = json!({});
    }
    value
}

/// The web flow of the Go release: makes the request itself and waits until it is answered. Returns its name.
///
/// # Errors
/// 409 with the controller's message if it fails, 504 if it stays pending for a minute, with what it waits for.
pub async fn submit(api: &Api, response: &BindingResourceResponse) -> Result<String, ApiError> {
    let kind = resources::of::<APIServiceExportRequest>();
    let namespace = response.provider_namespace.as_deref().unwrap_or_default();
    let Some(request) = response.requests.first() else { return Ok(String::new()) };
    let name = request["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let mut body = request.clone();
    body["metadata"]["namespace"] = json!(namespace);
    let key = ObjectKey::new(namespace, &name);
    let unread = |err| ApiError::from_kube("The request could not be read at the provider", &err);
    let give_up = tokio::time::Instant::now() + REQUEST_PATIENCE;
    loop {
        let object = api.get_opt(&kind, &key).await.map_err(unread)?;
        match object.as_ref().map(|object| (object["status"]["phase"].as_str().unwrap_or_default(), object)) {
            // One from before goes with the export that it was answered with.
            Some(("Succeeded", _)) if stays(api, &key).await.map_err(unread)? => return Ok(name),
            Some(("Failed", object)) => {
                let message = object["status"]["terminalMessage"].as_str().unwrap_or("no reason given");
                return Err(ApiError::conflict("The provider refused the request", message));
            }
            Some(_) => {}
            None => match api.create(&kind, Some(namespace), &body).await {
                Err(err) if err.class != Class::AlreadyExists => {
                    return Err(ApiError::from_kube("The request could not be made at the provider", &err));
                }
                _ => {}
            },
        }
        if tokio::time::Instant::now() >= give_up {
            let conditions = object.as_ref().and_then(|object| object["status"]["conditions"].as_array());
            let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
            let why = ready.and_then(|ready| ready["message"].as_str()).map(|why| format!(": {why}"));
            let details =
                format!("request {namespace}/{name} is still pending after a minute{}", why.unwrap_or_default());
            return Err(ApiError::new(
                StatusCode::GATEWAY_TIMEOUT,
                ErrorCode::InternalError,
                "The provider did not answer the request",
                details,
            ));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Whether the export of that name is there and not on its way out.
async fn stays(api: &Api, key: &ObjectKey) -> Result<bool, kube_client::ApiError> {
    let export = api.get_opt(&resources::of::<APIServiceExport>(), key).await?;
    Ok(export.is_some_and(|export| export["metadata"]["deletionTimestamp"].is_null()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_subdomains() {
        for good in ["widget", "a.b-c.io", "0"] {
            assert!(is_subdomain(good), "{good}");
        }
        for bad in ["", "A", "a_b", "-a", "a.", "a..b", "a/b", &"x".repeat(254)] {
            assert!(!is_subdomain(bad), "{bad}");
        }
    }
}
