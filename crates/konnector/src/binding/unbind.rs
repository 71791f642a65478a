//! The end of a binding. In: a binding with a deletion timestamp. Out: with `deletionPolicy: Orphan` (the default) our
//! finalizers come off and everything else stays, provider or no provider; with `Delete` the CRD goes and each object
//! with it, properly on both sides, then the claimed copies and the export. It says what it leaves behind, and it is done
//! in steps that can be repeated at any point.

use std::{sync::Arc, time::Duration};

use contract::rbac::birth;
use kube_bind_api::{APIServiceBinding, BindingPhase, DeletionPolicy, constants::FINALIZER};
use kube_client::{ApiError, Class, ListQuery, ObjectKey, Outcome, Resource};
use serde_json::Value;
use tokio::time::Instant;

use super::{Facts, Problem, TELL_AFTER, freeze, standing::is_deleted, uid_of, write_status};
use crate::{
    consumer::Consumer,
    events::Subject,
    kind::Standing,
    provider::{Link, Provider, pin},
    resources::{self, MANAGER},
    sync::intent::Teardown,
};

/// How soon to look again while objects are going.
const POLL: Duration = Duration::from_secs(2);

/// How long API servers may take to hear that a binding is going. A policy that looks at the binding (`contract::rbac::birth`)
/// gives our finalizer to new objects until then, so none is taken off before.
const HEARD: Duration = Duration::from_secs(3);

/// How soon to look again whether the provider answers. Two looks of its heartbeat tell.
const CONNECTING: Duration = Duration::from_secs(1);

/// When a provider that answers is asked once more to take the export back: nobody asks later, the binding is gone then.
const AGAIN: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// One step towards the end of a binding; `provider` is missing when its credential is. What fails again and again stands in
/// the binding.
pub async fn unbind(
    provider: Option<&Arc<Provider>>,
    consumer: &Arc<Consumer>,
    binding: &APIServiceBinding,
    raw: &Arc<Value>,
) -> Result<Outcome, ApiError> {
    let done = step(provider, consumer, binding, raw).await;
    let failed = {
        let mut failing = consumer.failing.lock();
        match &done {
            Err(error) if !error.is_conflict() => {
                let failed = failing.entry(uid_of(binding).to_owned()).or_default();
                *failed = failed.saturating_add(1);
                *failed
            }
            _ => {
                failing.remove(uid_of(binding));
                0
            }
        }
    };
    if let Err(error) = &done
        && failed >= TELL_AFTER
    {
        let message = format!("{error}; {}", error.mend());
        if let Err(error) = tell(consumer, binding, Problem::warning("UnbindingWaits", &message)).await {
            tracing::warn!(%error, "cannot say why the unbinding waits");
        }
    }
    done
}

/// Says in the binding what its end waits for.
async fn tell(consumer: &Consumer, binding: &APIServiceBinding, waiting: Problem) -> Result<(), ApiError> {
    let mut facts = Facts::from_previous(binding);
    facts.stop(BindingPhase::Pending, waiting);
    write_status(&consumer.api, binding, &facts).await
}

async fn step(
    provider: Option<&Arc<Provider>>,
    consumer: &Arc<Consumer>,
    binding: &APIServiceBinding,
    raw: &Arc<Value>,
) -> Result<Outcome, ApiError> {
    let name = binding.metadata.name.clone().unwrap_or_default();
    if !binding.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER) {
        if let Some(provider) = provider {
            provider.forget(&name);
        }
        return Ok(Outcome::Done);
    }
    if provider.is_some_and(|provider| provider.link() == Link::Connecting) {
        // One that answers has to be told, so it is not given up before it was asked.
        return Ok(Outcome::After(CONNECTING));
    }
    match binding.spec.deletion_policy() {
        DeletionPolicy::Orphan => {
            if let Some(wait) = orphan(provider, consumer, binding, &name).await? {
                return Ok(Outcome::After(wait));
            }
        }
        DeletionPolicy::Delete => {
            if let Some(waiting) = delete(provider, consumer, binding, &name).await? {
                tell(consumer, binding, waiting).await?;
                return Ok(Outcome::After(POLL));
            }
        }
    }
    if let Some(provider) = provider {
        provider.forget(&name);
    }
    if !binding.spec.permission_claims.is_empty() {
        remove_role_bindings(consumer, &name).await?;
    }
    match consumer.api.remove_finalizer(&resources::bindings(), raw, FINALIZER, MANAGER).await {
        Ok(_) => {
            tracing::info!(binding = %name, "unbound");
            Ok(Outcome::Done)
        }
        Err(error) if error.is_not_found() => Ok(Outcome::Done),
        Err(error) => Err(error),
    }
}

/// Lets go of everything and deletes nothing but the export, which is the wish to be served. `Some` while finalizers may
/// still be given at birth.
async fn orphan(
    provider: Option<&Arc<Provider>>,
    consumer: &Arc<Consumer>,
    binding: &APIServiceBinding,
    name: &str,
) -> Result<Option<Duration>, ApiError> {
    if let Some(provider) = provider {
        // Stops the watchers and writers: nothing puts a finalizer back.
        provider.forget(name);
    }
    let crds = our_crds(consumer, name);
    let born = binding.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(birth::ANNOTATION));
    if born && !crds.is_empty() {
        // Counted from when this process first saw it: clocks of others do not matter, and after a restart one waits again.
        let since = *consumer.letting_go.lock().entry(uid_of(binding).to_owned()).or_insert_with(Instant::now);
        if let Some(wait) = HEARD.checked_sub(since.elapsed()).filter(|wait| !wait.is_zero()) {
            return Ok(Some(wait));
        }
    }
    let mut left = Vec::new();
    let mut refused = None;
    for crd in crds {
        let Some(kind) = served(consumer, &crd).await? else { continue };
        match release_all(consumer, &kind, |_| true).await {
            Ok(count) => left.push(format!("{count} {kind}")),
            Err(error) if is_one_objects(&error) => refused = refused.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    if let Some(error) = refused {
        return Err(error);
    }
    let export = withdraw_export(provider, name).await;
    let mut message = match left.is_empty() {
        true => "unbound; there was nothing of its kinds".to_owned(),
        false => format!(
            "unbound; left as they are, here and at the provider, without being synced any more: {} with their \
             CustomResourceDefinitions and claimed copies",
            left.join(", ")
        ),
    };
    if let Err(error) = export {
        message
            .push_str(&format!("; the provider could not be told ({error}), it still has the APIServiceExport {name}"));
    }
    consumer.events.note(&subject(binding), "Unbound", &message).await;
    consumer.letting_go.lock().remove(uid_of(binding));
    Ok(None)
}

/// Deletes what the binding brought; `Some` while something is still on its way.
async fn delete(
    provider: Option<&Arc<Provider>>,
    consumer: &Arc<Consumer>,
    binding: &APIServiceBinding,
    name: &str,
) -> Result<Option<Problem>, ApiError> {
    let Some(provider) = provider.filter(|p| p.link() == Link::Up) else {
        if contract_is_gone(provider) && our_crds(consumer, name).is_empty() {
            // The last step was done before: the export is gone, and the contract went with it.
            return Ok(None);
        }
        let message = "unbinding with deletionPolicy Delete waits for the provider, whose copies have to go; to leave \
                       everything where it is instead, set spec.deletionPolicy to Orphan";
        consumer.events.warn(&subject(binding), "UnbindingWaits", message).await;
        return Ok(Some(Problem::warning("UnbindingWaits", message)));
    };
    if provider.cluster_binding().is_some_and(|known| !pin::holds(&known, &consumer.uid)) {
        return Ok(elsewhere(provider, binding, name).await);
    }
    if !super::resume_for_deletion(provider, name, binding).await? {
        return Ok(Some(Problem::info("Unbinding", "reading the contract at the provider")));
    }
    if let Some(waiting) = withdrawn(provider, name).await? {
        consumer.events.warn(&subject(binding), &waiting.reason, &waiting.message).await;
        return Ok(Some(waiting));
    }
    let syncs = {
        let bindings = provider.bindings.lock();
        bindings.get(name).map(super::BindingState::syncs).unwrap_or_default()
    };
    for sync in &syncs {
        sync.set_standing(Standing { frozen: false, teardown: Teardown::Delete });
    }
    let crds = our_crds(consumer, name);
    if !crds.is_empty() {
        for crd in &crds {
            let known = consumer.crds.store().get(&ObjectKey::cluster(crd)).map(|e| e.summary.clone());
            if let Some(known) = known.filter(|k| !k.deleting) {
                consumer.api.delete(&resources::crds(), &ObjectKey::cluster(crd), &known.uid).await?;
                tracing::info!(crd, binding = name, "CRD deleted, as deletionPolicy Delete says");
            }
        }
        let objects: usize = syncs.iter().map(|s| s.object_count()).sum();
        return Ok(Some(Problem::info("Unbinding", &format!("{objects} objects are being deleted on both sides"))));
    }
    let claims = {
        let bindings = provider.bindings.lock();
        bindings.get(name).and_then(|state| Some(state.claims.as_ref()?.sync.clone()))
    };
    if let Some(claims) = claims {
        let copies = claims.drain().await?;
        if copies > 0 {
            return Ok(Some(Problem::info("Unbinding", &format!("{copies} claimed copies are being deleted"))));
        }
    }
    give_back_namespaces(provider, name).await?;
    if let Err(message) = withdraw_export(Some(provider), name).await {
        return Ok(Some(Problem::warning("UnbindingWaits", &message)));
    }
    consumer
        .events
        .note(&subject(binding), "Unbound", "unbound; its objects and copies are deleted on both sides")
        .await;
    Ok(None)
}

/// The contract is another cluster's, and so is everything at the provider: nothing goes there. `Some` while there is something
/// here.
async fn elsewhere(provider: &Arc<Provider>, binding: &APIServiceBinding, name: &str) -> Option<Problem> {
    freeze(provider, name);
    let events = &provider.consumer.events;
    if our_crds(&provider.consumer, name).is_empty() {
        let message = "unbound; the contract belongs to another cluster, so nothing was deleted at the provider";
        events.note(&subject(binding), "Unbound", message).await;
        return None;
    }
    let message = "unbinding with deletionPolicy Delete waits: the contract belongs to another cluster, whose objects and \
                   copies are not this cluster's to delete; to leave everything where it is instead, set \
                   spec.deletionPolicy to Orphan";
    events.warn(&subject(binding), "UnbindingWaits", message).await;
    Some(Problem::warning("UnbindingWaits", message))
}

/// Without an export there are no rights on the copies, so they cannot be deleted; and a CRD whose deletion has begun does
/// not come back. `Some` when that would happen: there are objects.
async fn withdrawn(provider: &Provider, name: &str) -> Result<Option<Problem>, ApiError> {
    let export = provider.cached(&provider.exports, name);
    if export.is_some_and(|export| export["metadata"]["deletionTimestamp"].is_null()) {
        return Ok(None);
    }
    let consumer = &provider.consumer;
    for crd in our_crds(consumer, name) {
        let Some(kind) = served(consumer, &crd).await? else { continue };
        match consumer.api.list_page(&kind, &ListQuery::default(), 1, None).await {
            Ok(page) if page.items.is_empty() => {}
            Ok(_) => {
                let message = format!(
                    "unbinding with deletionPolicy Delete waits: the provider has withdrawn the APIServiceExport {name}, and \
                     without it the copies of this cluster's {kind} cannot be deleted there; to leave everything where it is \
                     instead, set spec.deletionPolicy to Orphan"
                );
                return Ok(Some(Problem::warning("UnbindingWaits", &message)));
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The provider answers and does not know the contract (any more).
fn contract_is_gone(provider: Option<&Arc<Provider>>) -> bool {
    let classes = [Class::NotFound, Class::Unauthorized, Class::Forbidden];
    provider.is_some_and(|p| matches!(p.link(), Link::Down { class, .. } if classes.contains(&class)))
}

/// Names of the CRDs that carry the binding's label.
fn our_crds(consumer: &Consumer, binding: &str) -> Vec<String> {
    consumer
        .crds
        .store()
        .all()
        .into_iter()
        .filter(|(_, entry)| entry.summary.binding.as_deref() == Some(binding))
        .map(|(key, _)| key.name)
        .collect()
}

/// A served version of a CRD's kind, if it is served at all.
async fn served(consumer: &Consumer, crd: &str) -> Result<Option<Resource>, ApiError> {
    let live = consumer.api.get_opt(&resources::crds(), &ObjectKey::cluster(crd)).await?;
    Ok(live.and_then(|crd| served_kind(&crd)))
}

fn served_kind(crd: &Value) -> Option<Resource> {
    let spec = &crd["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let version = spec["versions"].as_array().into_iter().flatten().find(|v| v["served"] == true)?;
    let (plural, kind) = (text(&spec["names"]["plural"]), text(&spec["names"]["kind"]));
    Some(Resource::new(&text(&spec["group"]), &text(&version["name"]), &plural, &kind))
}

/// Lets objects go with the CRDs of a binding that somebody deletes, where no sync runs (`runs`, by CRD) that does it: after a
/// restart while the provider is away, or without a credential. Their copies stay at the provider. Says whether there are
/// such CRDs.
pub async fn let_go_with_crds(consumer: &Consumer, name: &str, runs: impl Fn(&str) -> bool) -> Result<bool, ApiError> {
    let ours = our_crds(consumer, name).into_iter();
    let crds: Vec<String> = ours.filter(|crd| is_deleted(consumer, crd) && !runs(crd)).collect();
    for crd in &crds {
        let live = consumer.api.get_opt(&resources::crds(), &ObjectKey::cluster(crd)).await?;
        // A new one of that name keeps its objects.
        let live = live.filter(is_going);
        if let Some(kind) = live.as_ref().and_then(served_kind) {
            release_all(consumer, &kind, is_going).await?;
        }
    }
    Ok(!crds.is_empty())
}

fn is_going(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// Whether an error may be that of one object, so that others can be tried.
fn is_one_objects(error: &ApiError) -> bool {
    matches!(error.class, Class::Invalid | Class::Forbidden | Class::Server)
}

/// Takes our finalizer off every object of a kind that is meant; says how many objects of the kind there are. One that cannot
/// be changed does not hold up the others.
async fn release_all(consumer: &Consumer, kind: &Resource, meant: fn(&Value) -> bool) -> Result<usize, ApiError> {
    for _ in 0..5 {
        let objects = match consumer.api.list(kind, &ListQuery::default()).await {
            Ok(objects) => objects,
            Err(error) if error.is_not_found() => return Ok(0),
            Err(error) => return Err(error),
        };
        let mut conflict = None;
        let (mut refused, mut held) = (None, 0);
        for object in objects.iter().filter(|object| meant(object)) {
            match consumer.api.remove_finalizer(kind, object, FINALIZER, MANAGER).await {
                Ok(_) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) if error.is_conflict() => conflict = Some(error),
                Err(error) if is_one_objects(&error) => {
                    held += 1;
                    refused = refused.or(Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        match (conflict, refused) {
            (None, None) => return Ok(objects.len()),
            (None, Some(error)) => {
                let message = format!("{} ({held} of {} objects keep our finalizer)", error.message, objects.len());
                return Err(ApiError { message, ..error });
            }
            (Some(error), _) => tracing::debug!(%error, "read again"),
        }
    }
    Err(ApiError {
        side: consumer.api.side().to_owned(),
        verb: "patch",
        target: kind.to_string(),
        class: Class::Conflict,
        code: 0,
        reason: String::new(),
        message: "objects keep changing while their finalizers are taken off".into(),
        retry_after: None,
    })
}

/// Deletes the export, so that the provider knows.
async fn withdraw_export(provider: Option<&Arc<Provider>>, name: &str) -> Result<(), String> {
    let Some(provider) = provider else { return Err("its credential is gone".into()) };
    if let Link::Down { message, .. } = provider.link() {
        return Err(message);
    }
    let key = ObjectKey::new(&provider.contract_namespace, name);
    let Some(cluster_binding) = provider.cluster_binding() else { return Err("it has not answered yet".into()) };
    if !pin::holds(&cluster_binding, &provider.consumer.uid) {
        return Err("the contract belongs to another cluster".into());
    }
    let mut pauses = AGAIN.into_iter();
    loop {
        let Err(error) = delete_export(provider, &key).await else { return Ok(()) };
        let Some(pause) = pauses.next().filter(|_| error.class.is_transient()) else { return Err(error.to_string()) };
        tokio::time::sleep(pause).await;
    }
}

async fn delete_export(provider: &Provider, key: &ObjectKey) -> Result<(), ApiError> {
    let Some(live) = provider.api.get_opt(&resources::exports(), key).await? else { return Ok(()) };
    let uid = live["metadata"]["uid"].as_str().unwrap_or_default();
    provider.api.delete(&resources::exports(), key, uid).await
}

/// With the last binding the mapped namespaces are not needed any more.
async fn give_back_namespaces(provider: &Arc<Provider>, name: &str) -> Result<(), ApiError> {
    let others = provider
        .consumer
        .bindings
        .store()
        .all()
        .into_iter()
        .any(|(key, entry)| key.name != name && provider.is_mine(&entry.summary));
    if others {
        return Ok(());
    }
    for (key, entry) in provider.namespaces.store().all() {
        let labels = &entry.summary["metadata"]["labels"];
        if labels[kube_bind_api::constants::LABEL_OWNER] == kube_bind_api::constants::OWNER_PROVIDER {
            continue;
        }
        let uid = entry.summary["metadata"]["uid"].as_str().unwrap_or_default();
        provider.api.delete(&resources::service_namespaces(), &key, uid).await?;
    }
    Ok(())
}

/// Deletes the RoleBindings that we made for claims of this binding. They all have one name, and the right to list and
/// delete them is for that name only; without the right there never was one.
async fn remove_role_bindings(consumer: &Consumer, name: &str) -> Result<(), ApiError> {
    let query = ListQuery::named(None, &contract::rbac::consumer::claims_role_name(name));
    let found = match consumer.api.list(&resources::role_bindings(), &query).await {
        Ok(found) => found,
        Err(error) if error.is_forbidden() => {
            tracing::info!(%error, binding = name, "no rights on RoleBindings, so none to remove");
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    for object in found {
        let Some(key) = ObjectKey::of(&object) else { continue };
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
        consumer.api.delete(&resources::role_bindings(), &key, uid).await?;
    }
    Ok(())
}

/// The binding as the subject of an Event.
pub fn subject(binding: &APIServiceBinding) -> Subject {
    Subject {
        resource: resources::bindings(),
        key: ObjectKey::cluster(binding.metadata.name.as_deref().unwrap_or_default()),
        uid: uid_of(binding).to_owned(),
    }
}
