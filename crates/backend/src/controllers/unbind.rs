//! The end of an export, and of the contract with its last one.
//!
//! In: an export or APIServiceNamespace with a deletion timestamp (its finalizer is ours). Out: the request of that name
//! and the rights are gone; mapped namespaces without exported objects are gone; with the last export credential and
//! contract are gone. A namespace in which exported objects are left, mapped or the contract's own, stays: an unbind never
//! destroys by default, nor what cannot be looked at.

use std::time::Duration;

use kube_bind_api::constants::ANNOTATION_API_SERVICE_NAMESPACE;
use kube_bind_api::{
    APIServiceExport, APIServiceExportRequest, APIServiceNamespace, ExportedResource, GroupResource, Isolation, Scope,
};
use kube_client::{Class, ListQuery, ObjectKey, Outcome, Resource};
use serde_json::Value;

use super::{FINALIZER, Trouble, World, claimed, rights};
use crate::catalogue::OfferedKind;
use crate::contracts::{self, MANAGER};
use crate::resources;

/// How often a namespace that should go is looked at while objects are left in it.
const AGAIN: Duration = Duration::from_secs(5);

/// Ends an export.
///
/// # Errors
/// [`Trouble`]; tried again.
pub async fn export(
    world: &World,
    key: &ObjectKey,
    live: &Value,
    export: &APIServiceExport,
) -> Result<Outcome, Trouble> {
    if !super::export::has_finalizer(live) {
        return Ok(Outcome::Done);
    }
    // Otherwise it would be granted again. One that was made since then waits for this export to go.
    let answered = resources::of::<APIServiceExportRequest>();
    let request = world.api.get_opt(&answered, key).await?;
    if request.is_some_and(|request| !super::request::is_anew(&request, live)) {
        remove(world, &answered, key).await?;
    }
    rights::withdraw(world, export).await?;
    let query = ListQuery::namespace(&key.namespace);
    let others = world.api.list(&resources::of::<APIServiceExport>(), &query).await?;
    let others = others.iter().any(|other| {
        other["metadata"]["name"] != key.name.as_str() && other["metadata"]["deletionTimestamp"].is_null()
    });
    let requests = world.api.list(&resources::of::<APIServiceExportRequest>(), &query).await?;
    let waiting = requests
        .iter()
        .any(|request| request["metadata"]["deletionTimestamp"].is_null() && request["status"]["phase"] != "Failed");
    if others || waiting {
        world.wake_mapped(&key.namespace);
    } else {
        end_contract(world, &key.namespace, export).await?;
    }
    world.api.remove_finalizer(&resources::of::<APIServiceExport>(), live, FINALIZER, MANAGER).await?;
    tracing::info!(export = %key, last = !(others || waiting), "export ended");
    Ok(Outcome::Done)
}

/// Credential and contract go with the contract namespace; mapped namespaces that are empty go before it.
async fn end_contract(world: &World, contract: &str, last: &APIServiceExport) -> Result<(), Trouble> {
    let mapped = world.api.list(&resources::of::<APIServiceNamespace>(), &ListQuery::namespace(contract)).await?;
    for live in mapped {
        if let Some(key) = ObjectKey::of(&live)
            && release(world, &key, &live).await? != Left::Nothing
        {
            tracing::info!(
                contract,
                namespace = live["status"]["namespace"].as_str().unwrap_or_default(),
                "objects are left in a mapped namespace; it stays"
            );
        }
    }
    if lodges(world, contract, last).await? {
        tracing::info!(contract, "objects are left in the contract namespace; it stays, without its credential");
        return Ok(contracts::revoke(&world.api, contract).await?);
    }
    remove(world, &resources::namespaces(), &ObjectKey::cluster(contract)).await
}

/// With isolation `Namespaced` the consumer's objects are in the contract namespace: whether any is, or may be, left there.
async fn lodges(world: &World, contract: &str, last: &APIServiceExport) -> Result<bool, Trouble> {
    // One that is being deleted takes everything along, our rights to look there first.
    let Some(namespace) = living(world, contract).await? else { return Ok(false) };
    let mut kinds = rights::kinds_in(&namespace, rights::ANNOTATION_KINDS);
    let namespaced = last.spec.isolation == Isolation::Namespaced;
    if kinds.is_empty() && namespaced {
        // Made by a release that did not note them.
        for resource in &last.spec.resources {
            let crd = crd(world, &resource.group_resource()).await?;
            kinds.extend(crd.as_ref().and_then(of_namespaced));
        }
    }
    for kind in &kinds {
        if occupies(world, kind, contract).await? {
            return Ok(true);
        }
    }
    if !namespaced {
        return Ok(false);
    }
    // What exports have left that ended under such a release.
    for (_, entry) in world.crds.all() {
        let Some(resource) = of_namespaced(&entry.summary).filter(|kind| !kinds.contains(kind)) else { continue };
        match world.api.list_page(&resource, &ListQuery::namespace(contract), 1, None).await {
            Ok(page) if page.items.is_empty() => {}
            Ok(_) => return Ok(true),
            // Not offered (any more), or gone with its objects, and of no export that is known.
            Err(err) if err.class == Class::NotFound || err.is_forbidden() => {}
            Err(err) => return Err(err.into()),
        }
    }
    Ok(false)
}

/// The kind of a CRD in its stored version, if it is namespaced.
fn of_namespaced(crd: &Value) -> Option<Resource> {
    let kind = OfferedKind::of_crd(crd).filter(|kind| kind.scope == Scope::Namespaced)?;
    Some(Resource::new(&kind.group, &kind.version, &kind.plural, &kind.kind))
}

/// The CRD of a kind, labelled or not.
async fn crd(world: &World, kind: &GroupResource) -> Result<Option<Value>, Trouble> {
    let crds = world.api.list(&resources::crds(), &ListQuery::named(None, &kind.crd_name())).await?;
    Ok(crds.into_iter().next())
}

/// Ends a mapping: waits until no object is left of what is exported, unless the whole contract goes.
///
/// # Errors
/// [`Trouble`]; tried again.
pub async fn mapped(world: &World, key: &ObjectKey, live: &Value) -> Result<Outcome, Trouble> {
    if !super::export::has_finalizer(live) {
        return Ok(Outcome::Done);
    }
    match release(world, key, live).await? {
        Left::Nothing => {}
        Left::Orphans => {
            // Whoever unbound these left them to the provider: neither they nor the namespace end with the consumer's. A
            // namespace of that name at the consumer is mapped to this one again.
            let namespace = live["status"]["namespace"].as_str().unwrap_or_default();
            for export in world.exports_in(&key.namespace) {
                rights::withdraw_from(world, namespace, export.metadata.name.as_deref().unwrap_or_default()).await?;
            }
            tracing::info!(mapping = %key, namespace, "objects of an export that has ended are left; the namespace stays");
        }
        Left::Bound => {
            if living(world, &key.namespace).await?.is_some() {
                return Ok(Outcome::After(AGAIN));
            }
        }
    }
    world.api.remove_finalizer(&resources::of::<APIServiceNamespace>(), live, FINALIZER, MANAGER).await?;
    Ok(Outcome::Done)
}

/// A contract namespace that is there and not going.
async fn living(world: &World, contract: &str) -> Result<Option<Value>, Trouble> {
    let live = world.api.get_opt(&resources::namespaces(), &ObjectKey::cluster(contract)).await?;
    Ok(live.filter(|live| live["metadata"]["deletionTimestamp"].is_null()))
}

/// What keeps a mapped namespace.
#[derive(PartialEq)]
enum Left {
    /// Nothing: it goes.
    Nothing,
    /// Objects of kinds that are exported: the consumer is about to delete them.
    Bound,
    /// Objects of kinds that are not exported any more, and no others.
    Orphans,
}

/// Deletes the mapped namespace if it is this mapping's and no object that was exported is left in it; says what is.
async fn release(world: &World, key: &ObjectKey, live: &Value) -> Result<Left, Trouble> {
    let Some(name) = live["status"]["namespace"].as_str() else { return Ok(Left::Nothing) };
    let kind = resources::namespaces();
    let there = ObjectKey::cluster(name);
    let Some(namespace) = world.api.get_opt(&kind, &there).await? else { return Ok(Left::Nothing) };
    let ours = format!("{}/{}", key.namespace, key.name);
    if namespace["metadata"]["annotations"][ANNOTATION_API_SERVICE_NAMESPACE] != ours.as_str() {
        // Somebody else's: not ours to delete, and nothing of ours is in it.
        return Ok(Left::Nothing);
    }
    world.claimed.forget(name);
    if !namespace["metadata"]["deletionTimestamp"].is_null() {
        return Ok(Left::Nothing);
    }
    let mut kinds = Vec::new();
    for resource in rights::kinds_in(&namespace, rights::ANNOTATION_WIDE_KINDS) {
        if has_copies(world, &resource, &key.namespace).await? {
            kinds.push(resource);
        }
    }
    for resource in rights::kinds_in(&namespace, rights::ANNOTATION_KINDS) {
        if occupies(world, &resource, name).await? {
            kinds.push(resource);
        }
    }
    if kinds.is_empty() {
        remove(world, &kind, &there).await?;
        return Ok(Left::Nothing);
    }
    let exports = world.exports_in(&key.namespace);
    let exported: Vec<_> =
        exports.iter().flat_map(|export| &export.spec.resources).map(ExportedResource::group_resource).collect();
    let bound = kinds.iter().any(|kind| exported.contains(&GroupResource::new(&kind.group, &kind.plural)));
    Ok(if bound { Left::Bound } else { Left::Orphans })
}

/// Whether objects of a kind are, or may be, in a namespace: what cannot be looked at is not destroyed.
async fn occupies(world: &World, resource: &Resource, namespace: &str) -> Result<bool, Trouble> {
    let query = ListQuery::namespace(namespace);
    let refused = match world.api.list_page(resource, &query, 1, None).await {
        Ok(page) => return Ok(!page.items.is_empty()),
        Err(err) if err.class == Class::NotFound || err.is_forbidden() => err,
        Err(err) => return Err(err.into()),
    };
    let kind = GroupResource::new(&resource.group, &resource.plural);
    // The kind itself is gone, and its objects with it.
    let Some(live) = crd(world, &kind).await? else { return Ok(false) };
    if refused.is_forbidden() {
        tracing::warn!(
            kind = kind.crd_name(),
            namespace,
            "objects of a kind that is not granted (any more) may be in a namespace of a consumer, which therefore stays; \
             grant the kind again (kubectl bind provider offer), or see to the namespace yourself"
        );
        return Ok(true);
    }
    // Only that version is gone.
    let versions = live["spec"]["versions"].as_array();
    let served = versions.into_iter().flatten().find(|version| version["served"] == true);
    let Some(version) = served.and_then(|version| version["name"].as_str()) else { return Ok(true) };
    let resource = Resource::new(&resource.group, version, &resource.plural, &resource.kind);
    match world.api.list_page(&resource, &query, 1, None).await {
        Ok(page) => Ok(!page.items.is_empty()),
        Err(err) if err.class == Class::NotFound => Ok(true),
        Err(err) => Err(err.into()),
    }
}

/// Whether a contract has, or may have, objects of a kind that is cluster-scoped for the consumer: in the contract
/// namespace, or among those of all consumers. Where the backend may not look among the latter there are none that refer to
/// anything.
async fn has_copies(world: &World, resource: &Resource, contract: &str) -> Result<bool, Trouble> {
    for query in [ListQuery::namespace(contract), ListQuery::default()] {
        match world.api.list(resource, &query).await {
            Ok(objects) => return Ok(objects.iter().any(|object| claimed::owner(object) == contract)),
            // Of a cluster-scoped kind there is no namespaced path; of a namespaced one we may not see all.
            Err(err) if err.class == Class::NotFound || err.is_forbidden() => {}
            Err(err) => return Err(err.into()),
        }
    }
    // Namespaced here, they are in the contract namespace, and go with it.
    let live = crd(world, &GroupResource::new(&resource.group, &resource.plural)).await?;
    if live.is_some_and(|live| live["spec"]["scope"] == "Namespaced") && living(world, contract).await?.is_some() {
        return occupies(world, resource, contract).await;
    }
    Ok(false)
}

/// Deletes the object that is there now, if there is one.
async fn remove(world: &World, kind: &Resource, key: &ObjectKey) -> Result<(), Trouble> {
    let there = world.api.get_opt(kind, key).await?;
    let Some(live) = there else { return Ok(()) };
    if !live["metadata"]["deletionTimestamp"].is_null() {
        return Ok(());
    }
    if let Some(uid) = live["metadata"]["uid"].as_str() {
        world.api.delete(kind, key, uid).await?;
    }
    Ok(())
}
