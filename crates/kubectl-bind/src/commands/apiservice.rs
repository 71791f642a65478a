//! `kubectl bind apiservice`: binding without a browser, from a reviewed manifest or with the token of a login (S4, S5).

use std::path::Path;

use kube_bind_api::constants::{ANNOTATION_PROVIDER_URL, CLUSTER_BINDING, CONSUMER_NAMESPACE, KUBECONFIG_KEY};

use crate::args::{ApiserviceArgs, Common};
use crate::binder::{Bind, Credential};
use crate::cluster::{Cluster, kinds, text};
use crate::commands::{bind, catalogue};
use crate::consent::{self, Source};
use crate::errors::CliError;
use crate::kubeconfig::{kubeconfig_of, take_export_url};
use crate::manifest::{self, Request};
use crate::print;
use crate::server::{parse_url, recorded_url};

pub(crate) async fn run(args: ApiserviceArgs, common: &Common) -> Result<(), CliError> {
    let (from_url, positional) = match args.url_or_name.clone() {
        Some(text) if text.contains("://") => (Some(text), None),
        other => (None, other),
    };
    let name = args.name.clone().or(positional);
    if let Some(offering) = args.template_name.clone() {
        return by_template(args, &offering, name.as_deref(), common).await;
    }
    let from = args.file.clone().or_else(|| from_url.clone()).ok_or(CliError::NoManifest)?;
    let mut requests = manifest::read(&from, common).await?;
    if let Some(name) = &name {
        bind::rename(&mut requests, name)?;
    }
    if args.dry_run.dry_run {
        return print::documents(&bind::documents(&requests, None), args.dry_run.output);
    }
    let consumer = Cluster::consumer(common).await?;
    let (credential, noted) = credential(&args, &consumer).await?;
    let url = from_url.map(|text| parse_url(&text).map(|url| recorded_url(&url))).transpose()?.or(noted);
    let url = match url {
        // What a binding shows already stays.
        None if shown(&consumer, &requests).await? => None,
        None => provider_url(&credential.provider).await,
        known => known,
    };
    consent::decide(&mut requests, "The provider", args.consent.accept_claims, Source::File)?;
    let bind = Bind { consumer, credential, requests, url, agent: args.agent };
    bind.check().await?;
    bind::report(&bind.perform().await?)
}

/// The kubeconfig for the provider from a file or from a Secret in the consumer cluster, and the URL noted in it.
async fn credential(args: &ApiserviceArgs, consumer: &Cluster) -> Result<(Credential, Option<String>), CliError> {
    let (kubeconfig, origin, secret) = if let Some(path) = &args.remote_kubeconfig {
        (read_file(path)?, path.display().to_string(), None)
    } else if let (Some(namespace), Some(name)) = (&args.remote_kubeconfig_namespace, &args.remote_kubeconfig_name) {
        let origin = format!("Secret {namespace}/{name} in the consumer cluster");
        let unusable = |reason: &str| CliError::RemoteKubeconfig { origin: origin.clone(), reason: reason.to_owned() };
        let secret = consumer
            .get(&kinds::secrets(), namespace, name)
            .await?
            .ok_or_else(|| unusable("there is no such Secret"))?;
        let bytes = kubeconfig_of(&secret, KUBECONFIG_KEY).ok_or_else(|| unusable("it has no key kubeconfig"))?;
        // The agent reads Secrets of its own namespace only; another's content is copied there.
        let kept = (namespace == CONSUMER_NAMESPACE).then(|| name.clone());
        (bytes, origin, kept)
    } else {
        return Err(CliError::NoRemoteKubeconfig);
    };
    let (noted, kubeconfig) = take_export_url(&kubeconfig);
    let kubeconfig = match &args.remote_namespace {
        Some(namespace) => with_namespace(&kubeconfig, namespace, &origin)?,
        None => kubeconfig,
    };
    let secret = secret.filter(|_| args.remote_namespace.is_none());
    Ok((Credential { provider: Cluster::contract(&kubeconfig, &origin).await?, kubeconfig, secret }, noted))
}

/// Whether there is a binding for one of the requests that says where it came from.
async fn shown(consumer: &Cluster, requests: &[Request]) -> Result<bool, CliError> {
    for request in requests {
        let binding = consumer.get(&kinds::bindings(), "", &request.name).await?;
        if binding.is_some_and(|binding| !text(&binding, "/spec/reference/export/url").is_empty()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Where the provider's offerings are, as it notes in the contract; nothing depends on it but what people see.
async fn provider_url(provider: &Cluster) -> Option<String> {
    let contract = provider.get(&kinds::cluster_bindings(), &provider.namespace, CLUSTER_BINDING).await.ok()??;
    let url = contract.pointer("/metadata/annotations")?.get(ANNOTATION_PROVIDER_URL)?.as_str()?;
    let url = parse_url(&format!("{}/exports", url.trim_end_matches('/'))).ok()?;
    Some(recorded_url(&url))
}

fn read_file(path: &Path) -> Result<Vec<u8>, CliError> {
    std::fs::read(path)
        .map_err(|error| CliError::RemoteKubeconfig { origin: path.display().to_string(), reason: error.to_string() })
}

/// The kubeconfig with another namespace in its current context.
fn with_namespace(kubeconfig: &[u8], namespace: &str, origin: &str) -> Result<Vec<u8>, CliError> {
    let failed = |reason: String| CliError::RemoteKubeconfig { origin: origin.to_owned(), reason };
    let text = std::str::from_utf8(kubeconfig).map_err(|error| failed(error.to_string()))?;
    let mut config = apimachinery::yaml::document(text).map_err(|error| failed(error.to_string()))?;
    let current = config.get("current-context").cloned().unwrap_or_default();
    let contexts = config.get_mut("contexts").and_then(serde_json::Value::as_array_mut);
    let context = contexts.into_iter().flatten().find(|context| context.get("name") == Some(&current));
    let context = context
        .and_then(|context| context.get_mut("context"))
        .ok_or_else(|| failed("it has no current context".to_owned()))?;
    context["namespace"] = serde_json::json!(namespace);
    Ok(apimachinery::yaml::write(&config).into_bytes())
}

/// With the token of a login: the provider computes the request, the flags decide about its claims.
async fn by_template(
    args: ApiserviceArgs,
    offering: &str,
    name: Option<&str>,
    common: &Common,
) -> Result<(), CliError> {
    let (server, login, _) = catalogue::logged_in(None, common)?;
    let consumer = Cluster::consumer(common).await?;
    let identity = match &args.cluster_identity {
        Some(identity) => identity.clone(),
        None => consumer.identity().await?,
    };
    let response =
        server.bind(&login.token, offering, name.unwrap_or(offering), &identity, args.dry_run.dry_run).await?;
    let requests = bind::requests(&response, &login.server)?;
    if args.dry_run.dry_run {
        return print::documents(&bind::documents(&requests, Some("Pending")), args.dry_run.output);
    }
    let origin = format!("from {}", recorded_url(&login.server));
    let credential = Credential {
        provider: Cluster::contract(&response.kubeconfig.0, &origin).await?,
        kubeconfig: response.kubeconfig.0,
        secret: None,
    };
    let bind = Bind { consumer, credential, requests, url: Some(recorded_url(&login.server)), agent: args.agent };
    bind::carry_out(bind, &server, "The provider", args.consent.accept_claims).await
}
