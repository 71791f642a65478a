//! The end of a CustomResourceDefinition: its objects go before it does.
//!
//! In: a definition under deletion that has the cleanup finalizer. Out: deletes of all its objects, and, when none is
//! left, the removal of the finalizer. What the objects' own finalizers hold back holds back the definition.

use std::time::Duration;

use apimachinery::status::StatusError;
use futures::StreamExt as _;
use serde_json::Value;

use super::ObjectId;
use super::access::Access;
use super::queue::Finished;
use super::summary::Summary;
use crate::pipeline::{Part, Propagation};
use crate::registry::crd::{CLEANUP_FINALIZER, set_condition};
use crate::store::{Scope, TableId};

const NAME: &str = "crd-finalizer";
const CONCURRENT: usize = 64;
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// The table of a definition's objects; definitions are named `<plural>.<group>`.
pub fn table(definition: &str) -> Option<TableId> {
    definition.split_once('.').map(|(plural, group)| TableId::new(group, plural))
}

/// Works on one definition.
///
/// # Errors
/// What a write to the definition was refused with.
pub async fn work(access: &Access, id: &ObjectId) -> Result<Finished, StatusError> {
    let Some(stored) = access.stored(id).filter(|definition| definition.deleting) else { return Ok(Finished::Done) };
    if !Summary::of(&stored.bytes).has_finalizer(CLEANUP_FINALIZER) {
        return Ok(Finished::Done);
    }
    let Some(table) = table(&id.key.name) else { return Ok(Finished::Done) };
    let scope = Scope::Cluster(id.key.cluster.clone());
    let objects = access.core.store.list(&table, &scope).objects;
    let deletes = objects.into_iter().filter(|object| !object.deleting).map(|object| {
        let id = ObjectId { table: table.clone(), key: object.key.clone() };
        async move { access.delete(NAME, &id, &object.uid, None, Propagation::Background).await }
    });
    let results: Vec<_> = futures::stream::iter(deletes).buffer_unordered(CONCURRENT).collect().await;
    let refusal = results.into_iter().find_map(Result::err);
    let remaining = access.core.store.list(&table, &scope).objects.len();
    let (status, reason, message) = match (&refusal, remaining) {
        (Some(error), _) => (true, "InstanceDeletionFailed", format!("could not list instances: {error}")),
        (None, 0) => (false, "InstanceDeletionCompleted", "removed all instances".to_owned()),
        (None, n) => {
            (true, "InstanceDeletionInProgress", format!("CustomResource deletion is in progress: {n} remaining"))
        }
    };
    if remaining > 0 || refusal.is_some() {
        let now = crate::pipeline::timestamp(access.core.now());
        access
            .modify(NAME, id, &stored.uid, Part::Status, |definition| {
                let before = definition.clone();
                set_condition(definition, "Terminating", status, reason, &message, &now);
                *definition != before
            })
            .await?;
        return Ok(Finished::Again(LOOK_AGAIN));
    }
    access
        .modify(NAME, id, &stored.uid, Part::Main, |definition| {
            let Some(list) = definition.pointer_mut("/metadata/finalizers").and_then(Value::as_array_mut) else {
                return false;
            };
            let before = list.len();
            list.retain(|entry| entry != CLEANUP_FINALIZER);
            before != list.len()
        })
        .await?;
    Ok(Finished::Done)
}
