//! `kubectl bind provider …`: the provider's day in fewer words (scenario S14). Works with the provider's own kubeconfig.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kube_bind_api::constants::{
    ANNOTATION_AUTHOR, ANNOTATION_CLUSTER_NAMESPACE, ANNOTATION_CLUSTER_PRETTY_NAME, ANNOTATION_REVOKED, KUBE_BINDER,
    KUBECONFIG_SECRET, reason,
};
use kube_client::api::ListQuery;
use kube_client::resource::Resource;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::args::{Common, ProviderAction};
use crate::binder::{condition, served_resource};
use crate::cluster::{Cluster, kinds, text};
use crate::commands::offer;
use crate::errors::CliError;
use crate::print::{self, age, or_none};

/// How long an API server may believe a token whose Secret is gone: it remembers for 10 s what it has found valid.
const REMEMBERED: Duration = Duration::from_secs(11);
/// How long to wait for a token's end.
const TOKEN_WAIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(200);

pub(crate) async fn run(action: ProviderAction, common: &Common) -> Result<(), CliError> {
    let provider = Cluster::own_provider(common).await?;
    match action {
        ProviderAction::Exports => exports(&provider).await,
        ProviderAction::Consumers => consumers(&provider).await,
        ProviderAction::Revoke { contract, delete_objects } => revoke(&provider, &contract, delete_objects).await,
        ProviderAction::Offer { crd, shared } => offer::run(&provider, &crd, shared).await,
    }
}

async fn exports(provider: &Cluster) -> Result<(), CliError> {
    let exports = provider.list(&kinds::exports(), &ListQuery::default()).await?;
    let people = contracts(provider).await?;
    let now = Timestamp::now();
    let rows: Vec<Vec<String>> = exports
        .iter()
        .map(|export| {
            let resources = export.pointer("/spec/resources").and_then(Value::as_array);
            let resources =
                resources.into_iter().flatten().map(|r| format!("{}.{}", text(r, "/resource"), text(r, "/group")));
            let namespace = text(export, "/metadata/namespace");
            let consumer = people.iter().find(|binding| text(binding, "/metadata/namespace") == namespace);
            vec![
                namespace.to_owned(),
                text(export, "/metadata/name").to_owned(),
                resources.collect::<Vec<_>>().join(","),
                or_none(consumer.map(who).unwrap_or_default()),
                or_none(condition(export, "Connected", "status").to_owned()),
                age(text(export, "/metadata/creationTimestamp"), now),
            ]
        })
        .collect();
    show(&["CONTRACT", "NAME", "RESOURCES", "CONSUMER", "CONNECTED", "AGE"], &rows)
}

async fn consumers(provider: &Cluster) -> Result<(), CliError> {
    let exports = provider.list(&kinds::exports(), &ListQuery::default()).await?;
    let now = Timestamp::now();
    let rows: Vec<Vec<String>> = contracts(provider)
        .await?
        .iter()
        .map(|binding| {
            let namespace = text(binding, "/metadata/namespace");
            let names = exports.iter().filter(|export| text(export, "/metadata/namespace") == namespace);
            let names: Vec<&str> = names.map(|export| text(export, "/metadata/name")).collect();
            let heartbeat = text(binding, "/status/lastHeartbeatTime");
            vec![
                namespace.to_owned(),
                or_none(who(binding)),
                or_none(text(binding, "/spec/consumerClusterUID").to_owned()),
                or_none(names.join(",")),
                if heartbeat.is_empty() { "<never>".to_owned() } else { age(heartbeat, now) },
                or_none(condition(binding, "Healthy", "status").to_owned()),
                age(text(binding, "/metadata/creationTimestamp"), now),
            ]
        })
        .collect();
    show(&["CONTRACT", "CONSUMER", "CLUSTER", "EXPORTS", "LAST HEARTBEAT", "HEALTHY", "AGE"], &rows)
}

fn show(headers: &[&str], rows: &[Vec<String>]) -> Result<(), CliError> {
    if rows.is_empty() {
        eprintln!("No consumers yet.");
        return Ok(());
    }
    print::line(&print::table(headers, rows))
}

async fn contracts(provider: &Cluster) -> Result<Vec<Value>, CliError> {
    provider.list(&kinds::cluster_bindings(), &ListQuery::default()).await
}

/// The name for people, else who logged in.
fn who(binding: &Value) -> String {
    let annotations = binding.pointer("/metadata/annotations");
    let annotation =
        |name: &str| annotations.and_then(|all| all.get(name)).and_then(Value::as_str).filter(|text| !text.is_empty());
    annotation(ANNOTATION_CLUSTER_PRETTY_NAME).or_else(|| annotation(ANNOTATION_AUTHOR)).unwrap_or_default().to_owned()
}

/// Takes the credential away: the token dies with its ServiceAccount and Secret. Objects stay unless told otherwise.
async fn revoke(provider: &Cluster, contract: &str, delete_objects: bool) -> Result<(), CliError> {
    let known = contracts(provider).await?;
    let Some(binding) = known.iter().find(|binding| text(binding, "/metadata/namespace") == contract) else {
        let names: Vec<&str> = known.iter().map(|binding| text(binding, "/metadata/namespace")).collect();
        return Err(CliError::Provider(format!(
            "there is no contract {contract}; there are: {}",
            or_none(names.join(", "))
        )));
    };
    // Looked up before anything goes: the backend takes what belongs to the contract along.
    let places = if delete_objects { places(provider, contract).await? } else { Vec::new() };
    let token = token(provider, contract).await?;
    let closed = binding.pointer("/metadata/annotations").and_then(|all| all.get(ANNOTATION_REVOKED)).is_some();
    // Whatever lasts is tied to the ClusterBinding; without it the backend does not bring the credential back. Nor does it
    // where it is closed for good, which only stands there.
    if !closed {
        provider.delete(&kinds::cluster_bindings(), binding).await?;
    }
    for (resource, name) in [
        (kinds::service_accounts(), KUBE_BINDER),
        (kinds::secrets(), KUBE_BINDER),
        (kinds::secrets(), KUBECONFIG_SECRET),
        (kinds::role_bindings(), KUBE_BINDER),
    ] {
        if let Some(object) = provider.get(&resource, contract, name).await? {
            provider.delete(&resource, &object).await?;
        }
    }
    match token {
        Some(token) => token_dead(provider, contract, &token).await?,
        // The backend has taken it away, maybe a moment ago.
        None if closed && condition(binding, "Healthy", "reason") != reason::REVOKED => {
            tokio::time::sleep(REMEMBERED).await;
        }
        None => {}
    }
    // Only now: an agent with a working credential would bring them back.
    let deleted = delete_all(provider, contract, &places).await?;
    let objects = if delete_objects {
        format!(" {deleted} of its objects are being deleted.")
    } else {
        " Its objects stay.".to_owned()
    };
    let stays = if closed {
        format!(" It stays closed until you take the annotation {ANNOTATION_REVOKED} off its ClusterBinding.")
    } else {
        String::new()
    };
    print::line(&format!("Revoked {contract}: its credential no longer works.{objects}{stays}\n"))
}

/// The token that the contract's consumer has.
async fn token(provider: &Cluster, contract: &str) -> Result<Option<String>, CliError> {
    let secret = provider.get(&kinds::secrets(), contract, KUBE_BINDER).await?.unwrap_or_default();
    let token = STANDARD.decode(text(&secret, "/data/token")).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    Ok(token.filter(|token| !token.is_empty()))
}

/// Waits until the API server believes a token no more whose Secret and ServiceAccount are gone.
async fn token_dead(provider: &Cluster, contract: &str, token: &str) -> Result<(), CliError> {
    let kind = kinds::token_reviews();
    let body = json!({
        "apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {}, "spec": {"token": token},
    });
    let (began, mut believed) = (Instant::now(), false);
    loop {
        match provider.review(&kind, &body).await {
            Ok(review) if review.pointer("/status/authenticated") != Some(&json!(true)) => {
                // One of several API servers answers here, and each remembers for itself.
                if believed {
                    tokio::time::sleep_until(began + REMEMBERED).await;
                }
                return Ok(());
            }
            Ok(_) => believed = true,
            // Whoever may revoke need not be one who may ask.
            Err(CliError::Forbidden { .. }) => {
                tokio::time::sleep_until(began + REMEMBERED).await;
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        if began.elapsed() > TOKEN_WAIT {
            return Err(CliError::Provider(format!(
                "the credential of {contract} is deleted, but the API server still accepts its token after {} s; its objects were left alone",
                TOKEN_WAIT.as_secs()
            )));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Where objects of a contract lie.
struct Place {
    kind: Resource,
    /// A mapped namespace, or the contract namespace; empty for objects that are cluster-scoped here.
    namespace: String,
}

/// The kinds of a contract and where its objects lie.
async fn places(provider: &Cluster, contract: &str) -> Result<Vec<Place>, CliError> {
    let exports = provider.list(&kinds::exports(), &ListQuery::namespace(contract)).await?;
    let mapped = provider.list(&kinds::mapped_namespaces(), &ListQuery::namespace(contract)).await?;
    let mapped: Vec<&str> =
        mapped.iter().map(|mapped| text(mapped, "/status/namespace")).filter(|name| !name.is_empty()).collect();
    let mut places = Vec::new();
    for export in &exports {
        let resources = export.pointer("/spec/resources").and_then(Value::as_array);
        for resource in resources.into_iter().flatten() {
            let name = format!("{}.{}", text(resource, "/resource"), text(resource, "/group"));
            let Some(crd) = provider.get(&kinds::crds(), "", &name).await? else { continue };
            let Some(kind) = served_resource(&crd) else { continue };
            let namespaces = match text(&crd, "/spec/scope") {
                "Cluster" => vec![""],
                _ if text(export, "/spec/isolation") == "Namespaced" => vec![contract],
                _ => mapped.clone(),
            };
            places.extend(namespaces.iter().map(|name| Place { kind: kind.clone(), namespace: (*name).to_owned() }));
        }
    }
    Ok(places)
}

/// Deletes the contract's objects in all places; says how many.
async fn delete_all(provider: &Cluster, contract: &str, places: &[Place]) -> Result<usize, CliError> {
    let mut deleted = 0;
    for place in places {
        let query = match place.namespace.as_str() {
            "" => ListQuery::default(),
            namespace => ListQuery::namespace(namespace),
        };
        for object in provider.list(&place.kind, &query).await? {
            let owner = object.pointer("/metadata/annotations").and_then(|all| all.get(ANNOTATION_CLUSTER_NAMESPACE));
            // What is cluster-scoped lies beside the objects of others.
            if place.namespace.is_empty() && owner.and_then(Value::as_str) != Some(contract) {
                continue;
            }
            provider.delete(&place.kind, &object).await?;
            deleted += 1;
        }
    }
    Ok(deleted)
}
