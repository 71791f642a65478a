//! The garbage collector's reads and writes.
//!
//! In: a [`Step`] that became due. Out: a write with UID and revision preconditions, or nothing. Owners are read from
//! the committed state at that moment; there is no cache that could miss one.

use std::sync::Arc;

use apimachinery::status::StatusError;
use parking_lot::Mutex;
use serde_json::Value;

use super::decide::{Dependents, OwnerState, Verdict, decide};
use super::graph::{Graph, Step};
use super::{FOREGROUND, ORPHAN};
use crate::controllers::ObjectId;
use crate::controllers::access::Access;
use crate::controllers::queue::Finished;
use crate::controllers::summary::{OwnerReference, Summary};
use crate::pipeline::{Part, Propagation, Target};

const NAME: &str = "generic-garbage-collector";

/// Does what a step asks for.
///
/// # Errors
/// What a write was refused with; the step is due again later.
pub async fn work(access: &Access, graph: &Arc<Mutex<Graph>>, step: &Step) -> Result<Finished, StatusError> {
    match step {
        Step::Judge(id) => judge(access, graph, id).await,
        Step::Unblock(id) => unblock(access, graph, id).await,
        Step::Orphan(id) => orphan(access, graph, id).await,
    }
}

async fn judge(access: &Access, graph: &Arc<Mutex<Graph>>, id: &ObjectId) -> Result<Finished, StatusError> {
    let Some(stored) = access.stored(id) else { return Ok(Finished::Done) };
    let object = Summary::of(&stored.bytes);
    let owners: Vec<_> = object.owners.iter().map(|owner| (owner, owner_state(access, id, owner))).collect();
    let dependents = {
        let graph = graph.lock();
        let ids = graph.dependents(&id.key.cluster, &object.uid);
        Dependents { any: !ids.is_empty(), waiting: ids.iter().any(|dependent| graph.waits(dependent)) }
    };
    match decide(&object, &owners, dependents) {
        Verdict::Keep => {}
        Verdict::Retry => return Ok(Finished::Failed),
        Verdict::Release(uids) => release(access, id, &object.uid, &uids).await?,
        Verdict::Delete(propagation) => {
            tracing::info!(cluster = %id.key.cluster, object = %id, ?propagation, "collecting an object whose owners are gone");
            access.delete(NAME, id, &object.uid, Some(stored.revision), propagation).await?;
        }
        Verdict::BreakCycle => {
            access
                .modify(NAME, id, &object.uid, Part::Main, |object| {
                    let owners = object.pointer_mut("/metadata/ownerReferences").and_then(Value::as_array_mut);
                    let mut changed = false;
                    for owner in owners.into_iter().flatten() {
                        if owner.get("blockOwnerDeletion").and_then(Value::as_bool) == Some(true) {
                            owner["blockOwnerDeletion"] = false.into();
                            changed = true;
                        }
                    }
                    changed
                })
                .await?;
            access.delete(NAME, id, &object.uid, None, Propagation::Foreground).await?;
        }
    }
    Ok(Finished::Done)
}

/// Looks for an owner: in the namespace of the dependent, or at cluster scope for cluster-scoped kinds.
fn owner_state(access: &Access, dependent: &ObjectId, owner: &OwnerReference) -> OwnerState {
    let (group, version) = owner.api_version.rsplit_once('/').unwrap_or(("", &owner.api_version));
    let Some(catalog) = access.core.clusters.catalog(&dependent.key.cluster) else { return OwnerState::Unknown };
    let Some(resource) = catalog.by_kind(group, version, &owner.kind) else { return OwnerState::Unknown };
    if resource.namespaced && dependent.key.namespace.is_empty() {
        return OwnerState::Invalid;
    }
    let target = Target::new(&dependent.key.cluster, resource, &dependent.key.namespace, &owner.name);
    match access.core.store.get(&target.table(), &target.key()) {
        Some(found) if *found.uid == *owner.uid => {
            let waits = found.deleting && Summary::of(&found.bytes).has_finalizer(FOREGROUND);
            if waits { OwnerState::WaitsForDependents } else { OwnerState::Present }
        }
        _ => OwnerState::Absent,
    }
}

async fn release(access: &Access, id: &ObjectId, uid: &str, owners: &[String]) -> Result<(), StatusError> {
    access
        .modify(NAME, id, uid, Part::Main, |object| {
            let Some(list) = object.pointer_mut("/metadata/ownerReferences").and_then(Value::as_array_mut) else {
                return false;
            };
            let before = list.len();
            list.retain(|owner| !owner["uid"].as_str().is_some_and(|uid| owners.iter().any(|gone| gone == uid)));
            before != list.len()
        })
        .await
}

async fn unblock(access: &Access, graph: &Arc<Mutex<Graph>>, id: &ObjectId) -> Result<Finished, StatusError> {
    let Some(stored) = access.stored(id) else { return Ok(Finished::Done) };
    let object = Summary::of(&stored.bytes);
    if object.deleting
        && object.has_finalizer(FOREGROUND)
        && graph.lock().blocking(&id.key.cluster, &object.uid).is_empty()
    {
        remove_finalizer(access, id, &object.uid, FOREGROUND).await?;
    }
    Ok(Finished::Done)
}

async fn orphan(access: &Access, graph: &Arc<Mutex<Graph>>, id: &ObjectId) -> Result<Finished, StatusError> {
    let Some(stored) = access.stored(id) else { return Ok(Finished::Done) };
    let object = Summary::of(&stored.bytes);
    if !(object.deleting && object.has_finalizer(ORPHAN)) {
        return Ok(Finished::Done);
    }
    let dependents = graph.lock().dependents(&id.key.cluster, &object.uid);
    for dependent in &dependents {
        if let Some(stored) = access.stored(dependent) {
            release(access, dependent, &stored.uid, &[object.uid.to_string()]).await?;
        }
    }
    remove_finalizer(access, id, &object.uid, ORPHAN).await?;
    Ok(Finished::Done)
}

async fn remove_finalizer(access: &Access, id: &ObjectId, uid: &str, finalizer: &str) -> Result<(), StatusError> {
    access
        .modify(NAME, id, uid, Part::Main, |object| {
            let Some(list) = object.pointer_mut("/metadata/finalizers").and_then(Value::as_array_mut) else {
                return false;
            };
            let before = list.len();
            list.retain(|entry| entry.as_str() != Some(finalizer));
            before != list.len()
        })
        .await
}
