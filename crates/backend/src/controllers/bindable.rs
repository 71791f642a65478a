//! BindableResourcesRequests: a contract without the HTTP API, for administrators and automation.
//!
//! In: a BindableResourcesRequest that somebody with rights in its namespace made. Out: the contract, and a Secret with
//! the BindingResourceResponse beside the request. The author is taken from the request: whoever may create one here is
//! trusted by the provider, as the Go release has it. After `ttlAfterFinished` the request goes.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube_bind_api::conditions;
use kube_bind_api::constants::BINDING_RESPONSE_KEY;
use kube_bind_api::{BindableResourcesRequest, BindableResourcesRequestStatus, LocalSecretKeyRef, RequestPhase};
use kube_client::{ObjectKey, Outcome, Subresource};
use serde_json::json;

use super::{Trouble, World, decode, status};
use crate::bind::{self, Ask};
use crate::contracts::MANAGER;
use crate::error::ApiError;
use crate::identity::oidc::Person;
use crate::identity::session::Session;
use crate::resources;

/// See the module.
///
/// # Errors
/// [`Trouble`]; tried again.
pub async fn reconcile(world: &World, key: &ObjectKey) -> Result<Outcome, Trouble> {
    let kind = resources::of::<BindableResourcesRequest>();
    let Some(live) = world.api.get_opt(&kind, key).await? else { return Ok(Outcome::Done) };
    let request: BindableResourcesRequest = decode(&live)?;
    if request.metadata.deletion_timestamp.is_some() {
        return Ok(Outcome::Done);
    }
    let mut wanted = request.status.clone().unwrap_or_default();
    if wanted.phase != RequestPhase::Pending {
        return expire(world, key, &live, &request, &wanted).await;
    }
    let now = world.now();
    match answer(world, key, &request).await {
        Ok((namespace, secret)) => {
            wanted.phase = RequestPhase::Succeeded;
            wanted.namespace = Some(namespace);
            wanted.kubeconfig_secret_ref = Some(secret);
            ready(&mut wanted, "True", "SecretReady", "the answer is in the Secret", now);
        }
        Err(err) => {
            tracing::info!(request = %key, error = %err, "bindable resources request failed");
            let reason =
                if err.status == http::StatusCode::NOT_FOUND { "TemplateNotFound" } else { "HandleResourcesFailed" };
            wanted.phase = RequestPhase::Failed;
            ready(&mut wanted, "False", reason, &err.to_string(), now);
        }
    }
    wanted.completion_time = Some(conditions::to_seconds(now));
    status::write(&world.api, &kind, &live, &wanted).await?;
    Ok(Outcome::Done)
}

fn ready(status: &mut BindableResourcesRequestStatus, word: &str, reason: &str, message: &str, now: jiff::Timestamp) {
    conditions::meta_set(&mut status.conditions, "Ready", word, reason, message, None, now);
}

async fn expire(
    world: &World,
    key: &ObjectKey,
    live: &serde_json::Value,
    request: &BindableResourcesRequest,
    status: &BindableResourcesRequestStatus,
) -> Result<Outcome, Trouble> {
    let ttl = request.spec.ttl_after_finished.as_deref().and_then(|text| kube_bind_api::duration::parse(text).ok());
    let (Some(ttl), Some(done)) = (ttl, status.completion_time.as_ref()) else { return Ok(Outcome::Done) };
    let age = world.now().as_second().saturating_sub(done.0.as_second());
    let left = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX).saturating_sub(age);
    if left > 0 {
        return Ok(Outcome::After(Duration::from_secs(u64::try_from(left).unwrap_or(1))));
    }
    if let Some(uid) = live["metadata"]["uid"].as_str() {
        world.api.delete(&resources::of::<BindableResourcesRequest>(), key, uid).await?;
    }
    Ok(Outcome::Done)
}

async fn answer(
    world: &World,
    key: &ObjectKey,
    request: &BindableResourcesRequest,
) -> Result<(String, LocalSecretKeyRef), ApiError> {
    let spec = &request.spec;
    let person = Person {
        issuer: String::new(),
        subject: spec.author.clone(),
        groups: Vec::new(),
        display: spec.author.clone(),
    };
    let session = Session::new(person, String::new(), String::new(), world.now());
    let template = spec.template_ref.as_ref().map(|template| template.name.clone()).unwrap_or_default();
    let ask = Ask {
        name: key.name.clone(),
        offering: template,
        consumer: spec.cluster_identity.identity.clone(),
        pretty_name: spec.cluster_identity.pretty_name.clone().unwrap_or_default(),
        dry_run: false,
        moved_contract: String::new(),
    };
    let mut response = bind::bind(&world.api, &world.issuing, &session, &ask).await?;
    response.kind = "BindingResourceResponse".to_owned();
    response.authentication = Default::default();
    let secret = spec.kubeconfig_secret_ref.clone().unwrap_or_else(|| LocalSecretKeyRef {
        name: format!("{}-binding-response", key.name),
        key: BINDING_RESPONSE_KEY.to_owned(),
    });
    let json = serde_json::to_vec(&response)
        .map_err(|err| ApiError::internal("The answer could not be made", err.to_string()))?;
    store(world, key, request, &secret, &json)
        .await
        .map_err(|err| ApiError::from_kube("The answer could not be stored", &err))?;
    Ok((response.provider_namespace.unwrap_or_default(), secret))
}

async fn store(
    world: &World,
    key: &ObjectKey,
    request: &BindableResourcesRequest,
    secret: &LocalSecretKeyRef,
    json: &[u8],
) -> Result<(), kube_client::ApiError> {
    let kind = resources::secrets();
    let there = ObjectKey::new(&key.namespace, &secret.name);
    let data = json!({secret.key.as_str(): STANDARD.encode(json)});
    if let Some(live) = world.api.get_opt(&kind, &there).await? {
        // Whoever may make requests must not overwrite other Secrets through us.
        let ours = live["metadata"]["ownerReferences"]
            .as_array()
            .is_some_and(|owners| owners.iter().any(|owner| owner["uid"].as_str() == request.metadata.uid.as_deref()));
        if !ours {
            return Err(kube_client::ApiError {
                side: world.api.side().to_owned(),
                verb: "update",
                target: format!("secret {there}"),
                class: kube_client::Class::Conflict,
                code: 409,
                reason: "Conflict".to_owned(),
                message: "exists and does not belong to this request; name another Secret".to_owned(),
                retry_after: None,
            });
        }
        return world
            .api
            .merge_patch(&kind, &there, Subresource::Main, &json!({"data": data}), MANAGER)
            .await
            .map(|_| ());
    }
    let own = resources::of::<BindableResourcesRequest>();
    let body = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": data,
        "metadata": {"name": secret.name, "namespace": key.namespace, "ownerReferences": [{
            "apiVersion": own.api_version(), "kind": own.kind, "name": key.name, "uid": request.metadata.uid,
        }]},
    });
    world.api.create(&kind, Some(&key.namespace), &body).await.map(|_| ())
}
