//! `kubectl bind unbind`: takes a binding back, with its objects or without (scenario S6).
//!
//! The agent does the work in both ways; this command states the intent, waits, and then removes what only a person's
//! credential may remove: the agent's rights for this binding, and the credential when the last binding goes.

use std::time::Duration;

use kube_bind_api::constants::{CONSUMER_NAMESPACE, FINALIZER, KUBECONFIG_KEY, LABEL_PROVIDER_KUBECONFIG};
use kube_client::api::ListQuery;
use kube_client::resource::Resource;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::agent;
use crate::args::Common;
use crate::binder::{crd_owner, ready_message, served_resource};
use crate::cluster::{Cluster, kinds, text};
use crate::commands::status;
use crate::errors::CliError;
use crate::print;
use crate::rights;

const POLL: Duration = Duration::from_millis(300);

pub(crate) async fn run(
    name: &str,
    delete_objects: bool,
    orphan: bool,
    timeout: u64,
    common: &Common,
) -> Result<(), CliError> {
    let consumer = Cluster::consumer(common).await?;
    let bindings = consumer.list(&kinds::bindings(), &ListQuery::default()).await?;
    let Some(binding) = bindings.iter().find(|binding| text(binding, "/metadata/name") == name) else {
        return tidy(&consumer, name, delete_objects, &bindings).await;
    };
    let kinds_bound = bound_kinds(&consumer, name).await?;
    let objects = all_objects(&consumer, &kinds_bound).await?;
    if !objects.is_empty() && !delete_objects && !orphan {
        return Err(CliError::ObjectsLeft { name: name.to_owned(), counts: counts(&objects) });
    }
    let wait =
        Wait { consumer: &consumer, name, deadline: Instant::now() + Duration::from_secs(timeout), seconds: timeout };
    // With nothing to lose everything goes; a provider that is away need not be waited for then.
    let empty = !orphan && !delete_objects;
    let connected = text(binding, "/status/phase") == "Connected";
    let policy = if delete_objects || (empty && connected) { "Delete" } else { "Orphan" };
    let patch = |policy: &str| json!({"spec": {"deletionPolicy": policy}});
    consumer.merge_patch(&kinds::bindings(), "", name, &patch(policy)).await?;
    if empty {
        let objects = all_objects(&consumer, &kinds_bound).await?;
        if !objects.is_empty() {
            consumer.merge_patch(&kinds::bindings(), "", name, &patch("Orphan")).await?;
            return Err(CliError::ObjectsLeft { name: name.to_owned(), counts: counts(&objects) });
        }
    }
    if delete_objects {
        for (resource, object) in &objects {
            consumer.delete(resource, object).await?;
        }
        wait.objects_gone(&kinds_bound).await?;
    }
    // Before the agent takes finalizers off: it looks at the binding too, but what is not there cannot go wrong.
    agent::remove_finalizer_policy(&consumer, name).await?;
    consumer.delete(&kinds::bindings(), binding).await?;
    wait.binding_gone(binding).await?;
    if empty {
        remove_empty(&consumer, name, &kinds_bound).await?;
    }
    if empty || delete_objects {
        wait.crds_gone(&kinds_bound).await?;
    }
    let last = clean_up(&consumer, binding, &bindings).await?;
    let mut words = format!("Unbound {name}.");
    if orphan && !objects.is_empty() {
        words.push_str(&format!(" Left behind on both sides, no longer synced: {}.", counts(&objects)));
    }
    if delete_objects && !objects.is_empty() {
        words.push_str(&format!(" Deleted on both sides: {}.", counts(&objects)));
    }
    if last {
        words.push_str(" It was the last binding of this contract; its credential was removed.");
    }
    print::line(&format!("{words}\n"))
}

/// Clears up after a binding that is gone already (`kubectl delete apibinding`, which leaves objects behind): what only a
/// person's credential may remove goes. Objects are left alone, for without the binding they can no longer be deleted on
/// both sides.
async fn tidy(consumer: &Cluster, name: &str, delete_objects: bool, bindings: &[Value]) -> Result<(), CliError> {
    let kinds_bound = bound_kinds(consumer, name).await?;
    let objects = all_objects(consumer, &kinds_bound).await?;
    if delete_objects && !objects.is_empty() {
        return Err(CliError::ObjectsUnbound { name: name.to_owned(), counts: counts(&objects) });
    }
    // The Secret of a binding is named after it, unless another one of the same contract was there first.
    let reference = json!({"namespace": CONSUMER_NAMESPACE, "name": name, "key": KUBECONFIG_KEY});
    let gone = json!({"metadata": {"name": name}, "spec": {"kubeconfigSecretRef": reference}});
    let used = bindings.iter().any(|other| text(other, "/spec/kubeconfigSecretRef/name") == name);
    let secret = if used { None } else { consumer.get(&kinds::secrets(), CONSUMER_NAMESPACE, name).await? };
    let secret = secret.is_some_and(|secret| is_credential(&secret));
    let mut rights = agent::remove_finalizer_policy(consumer, name).await?;
    // The binding is gone, so nobody else takes our finalizer off any more.
    for (resource, object) in &objects {
        rights |= consumer.remove_finalizer(resource, object, FINALIZER).await?;
    }
    for (resource, object) in rights::names_of_binding(name) {
        rights |= consumer.get(&resource, "", &object).await?.is_some();
    }
    let crds = remove_empty(consumer, name, &kinds_bound).await?;
    if !secret && !rights && kinds_bound.len() == crds.len() {
        return Err(CliError::NoBinding { name: name.to_owned(), others: status::others(bindings) });
    }
    clean_up(consumer, &gone, bindings).await?;
    let mut words = format!("Binding {name} was gone already; what it had left in this cluster was removed.");
    if !objects.is_empty() {
        words.push_str(&format!(" Left behind, no longer synced: {}.", counts(&objects)));
    }
    print::line(&format!("{words}\n"))
}

/// The kinds of a binding that the consumer's API server serves for it.
async fn bound_kinds(consumer: &Cluster, name: &str) -> Result<Vec<Resource>, CliError> {
    let crds = consumer.list(&kinds::crds(), &ListQuery::default()).await?;
    Ok(crds.iter().filter(|crd| crd_owner(crd) == Some(name)).filter_map(served_resource).collect())
}

/// All objects of the kinds.
async fn all_objects(consumer: &Cluster, kinds: &[Resource]) -> Result<Vec<(Resource, Value)>, CliError> {
    let mut objects = Vec::new();
    for resource in kinds {
        let list = consumer.list(resource, &ListQuery::default()).await?;
        objects.extend(list.into_iter().map(|object| (resource.clone(), object)));
    }
    Ok(objects)
}

/// Removes those of a gone binding's CRDs that have no objects; says which stay.
pub(crate) async fn remove_empty(
    consumer: &Cluster,
    binding: &str,
    kinds_bound: &[Resource],
) -> Result<Vec<String>, CliError> {
    let mut left = Vec::new();
    for resource in kinds_bound {
        let name = resource.to_string();
        let Some(crd) = consumer.get(&kinds::crds(), "", &name).await? else { continue };
        if crd_owner(&crd) != Some(binding) {
            continue;
        }
        if consumer.list(resource, &ListQuery::default()).await?.is_empty() {
            consumer.delete(&kinds::crds(), &crd).await?;
        } else {
            left.push(format!("CustomResourceDefinition {name} and its objects"));
        }
    }
    Ok(left)
}

/// `2 acmedbs.acmedb.com, 1 things.example.com`.
fn counts(objects: &[(Resource, Value)]) -> String {
    let mut counted: Vec<(String, usize)> = Vec::new();
    for (resource, _) in objects {
        let kind = resource.to_string();
        match counted.iter_mut().find(|(name, _)| *name == kind) {
            Some((_, count)) => *count += 1,
            None => counted.push((kind, 1)),
        }
    }
    counted.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
}

struct Wait<'a> {
    consumer: &'a Cluster,
    name: &'a str,
    deadline: Instant,
    seconds: u64,
}

impl Wait<'_> {
    async fn pause(&self, waiting: impl FnOnce() -> String) -> Result<(), CliError> {
        if Instant::now() > self.deadline {
            return Err(CliError::UnbindSlow { name: self.name.to_owned(), seconds: self.seconds, waiting: waiting() });
        }
        tokio::time::sleep(POLL).await;
        Ok(())
    }

    async fn objects_gone(&self, kinds_bound: &[Resource]) -> Result<(), CliError> {
        loop {
            let left = all_objects(self.consumer, kinds_bound).await?;
            if left.is_empty() {
                return Ok(());
            }
            self.pause(|| format!("{} are still being deleted at the provider", counts(&left))).await?;
        }
    }

    async fn binding_gone(&self, binding: &Value) -> Result<(), CliError> {
        loop {
            match self.consumer.get(&kinds::bindings(), "", self.name).await? {
                Some(live) if text(&live, "/metadata/uid") == text(binding, "/metadata/uid") => {
                    self.pause(|| match ready_message(&live) {
                        message if message.is_empty() => "the agent has not let go of it; does it run?".to_owned(),
                        message => message,
                    })
                    .await?;
                }
                _ => return Ok(()),
            }
        }
    }

    async fn crds_gone(&self, kinds_bound: &[Resource]) -> Result<(), CliError> {
        for resource in kinds_bound {
            let name = resource.to_string();
            while let Some(crd) = self.consumer.get(&kinds::crds(), "", &name).await? {
                if crd_owner(&crd) != Some(self.name) {
                    break;
                }
                self.pause(|| format!("CustomResourceDefinition {name} is still there")).await?;
            }
        }
        Ok(())
    }
}

/// Removes the rights of the binding, and the Secret if no other binding uses it. Says whether it did the latter.
async fn clean_up(consumer: &Cluster, binding: &Value, bindings: &[Value]) -> Result<bool, CliError> {
    for (resource, object) in rights::names_of_binding(text(binding, "/metadata/name")) {
        if let Some(live) = consumer.get(&resource, "", &object).await? {
            consumer.delete(&resource, &live).await?;
        }
    }
    let reference = |binding: &Value| binding.pointer("/spec/kubeconfigSecretRef").cloned();
    let name = text(binding, "/metadata/name");
    let shared =
        bindings.iter().any(|other| text(other, "/metadata/name") != name && reference(other) == reference(binding));
    if shared || text(binding, "/spec/kubeconfigSecretRef/namespace") != CONSUMER_NAMESPACE {
        return Ok(false);
    }
    let secret = text(binding, "/spec/kubeconfigSecretRef/name");
    let Some(secret) = consumer.get(&kinds::secrets(), CONSUMER_NAMESPACE, secret).await? else { return Ok(true) };
    let made_by_us = is_credential(&secret);
    if made_by_us {
        consumer.delete(&kinds::secrets(), &secret).await?;
    }
    Ok(made_by_us)
}

/// Whether a Secret was made by a bind.
fn is_credential(secret: &Value) -> bool {
    secret.pointer("/metadata/labels").and_then(|labels| labels.get(LABEL_PROVIDER_KUBECONFIG)).is_some()
}
