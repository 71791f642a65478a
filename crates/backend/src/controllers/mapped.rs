//! Mapped namespaces: what stands at the provider for one namespace of a consumer.
//!
//! In: an APIServiceNamespace, the contract's exports and what was accepted, the objects in the namespace. Out: the
//! namespace (never somebody else's), our rights there, the consumer's Roles, and only then `status.namespace` and
//! `status.claimedObjects`. Claims are evaluated by `contract::claimed` over the provider's copies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use contract::claimed::{self, Existing, Input, Referring};
use contract::consent::{AcceptedClaim, Consent, taken_over};
use contract::names::{Strategy, mapped_namespace};
use contract::rbac::{backend, provider};
use kube_bind_api::conditions::{self, Severity};
use kube_bind_api::constants::{ANNOTATION_API_SERVICE_NAMESPACE, CLUSTER_BINDING, MAX_CLAIMED_OBJECTS, condition};
use kube_bind_api::{APIServiceExport, APIServiceNamespace, APIServiceNamespaceStatus, BoundSchemaSpec, GroupResource};
use kube_client::{ListQuery, ObjectKey, Outcome, Resource, Subresource};
use serde_json::{Value, json};

use super::claimed::{Snapshot, WideKind};
use super::{FINALIZER, Key, Trouble, World, decode, export, rights, status, unbind};
use crate::catalogue::{CLAIMABLE, Catalogue};
use crate::contracts::MANAGER;
use crate::resources;

/// Condition: the namespace is there and ours.
const NAMESPACE_READY: &str = "NamespaceReady";
/// Condition: every name that objects give leads to an object that the consumer may have.
const CLAIMS_RESOLVED: &str = "ClaimsResolved";
/// How often a namespace that belongs to somebody else is looked at again.
const FOREIGN_AGAIN: Duration = Duration::from_secs(30);

/// How long to wait for the first complete lists before looking why they do not come.
const UNSEEN_AGAIN: Duration = Duration::from_secs(5);

/// See the module.
///
/// # Errors
/// [`Trouble`]; tried again.
pub async fn reconcile(world: &World, key: &ObjectKey) -> Result<Outcome, Trouble> {
    let kind = resources::of::<APIServiceNamespace>();
    let Some(live) = world.api.get_opt(&kind, key).await? else { return Ok(Outcome::Done) };
    let object: APIServiceNamespace = decode(&live)?;
    if object.metadata.deletion_timestamp.is_some() {
        return unbind::mapped(world, key, &live).await;
    }
    if !export::has_finalizer(&live) {
        world.api.add_finalizer(&kind, &live, FINALIZER, &[], MANAGER).await?;
        return Ok(Outcome::Done);
    }
    let exports = world.exports_in(&key.namespace);
    let mut wanted = object.status.clone().unwrap_or_default();
    let isolation = exports.first().map_or(world.issuing.isolation, |export| export.spec.isolation);
    let name = wanted.namespace.clone().unwrap_or_else(|| mapped_namespace(&key.namespace, isolation, &key.name));
    let terms = Terms::of(world, key, &exports, &world.catalogue().await?);
    if let Err(message) = ensure_namespace(world, key, &name, &terms).await? {
        let list = &mut wanted.conditions;
        conditions::mark_false(list, NAMESPACE_READY, Severity::Error, "ForeignNamespace", &message, world.now());
        status::write(&world.api, &kind, &live, &wanted).await?;
        return Ok(Outcome::After(FOREIGN_AGAIN));
    }
    rights::ours_in_mapped(&world.api, &world.issuing.user, &name).await?;
    world.claimed.set(&name, key, &terms.watched());
    world.claimed.set_wide(&name, &terms.watched_wide());
    let snapshot = world.claimed.snapshot(&name, &key.namespace);
    if !snapshot.complete && wanted.namespace.is_some() {
        // What is granted stays as it is until everything has been seen; that wakes us again.
        if snapshot.refused.is_empty() {
            return Ok(Outcome::After(UNSEEN_AGAIN));
        }
        let mut kinds: Vec<GroupResource> =
            snapshot.refused.iter().map(|kind| GroupResource::new(kind.group.clone(), kind.plural.clone())).collect();
        kinds.sort();
        let names: Vec<&str> = kinds.iter().map(|kind| kind.resource.as_str()).collect();
        let message = lack(&format!("list {}", names.join(" and ")), &name, &kinds);
        return lacking(world, &live, wanted, &message).await;
    }
    let outcome = evaluate(world, key, &name, &terms, &wanted, snapshot).await?;
    let mut refused = None;
    for export in &exports {
        let kinds = terms.kinds_of(export);
        let input = provider::Mapped {
            contract_namespace: &key.namespace,
            namespace: &name,
            export: export.metadata.name.as_deref().unwrap_or_default(),
            exported: &kinds,
            claimed: &outcome.grants,
            open: &terms.open,
        };
        match rights::grant(&world.api, &provider::mapped(&input)).await {
            // The others are granted all the same.
            Err(err) if err.is_forbidden() && !super::is_ending(world, &Key::Mapped(key.clone())).await => {
                let (_, all) = refused.get_or_insert_with(|| (err, Vec::new()));
                all.extend(kinds);
            }
            answer => answer?,
        }
    }
    if let Some((err, kinds)) = refused {
        let message = format!("{} ({err})", lack("give the consumer its rights", &name, &kinds));
        return lacking(world, &live, wanted, &message).await;
    }
    settle(&mut wanted, &name, &outcome, world);
    status::write(&world.api, &kind, &live, &wanted).await?;
    let needed: BTreeSet<String> = outcome.entries.iter().filter_map(|entry| entry.uid.clone()).collect();
    world.claimed.keep_deleted(&name, &needed);
    Ok(Outcome::Done)
}

/// Says what the backend lacks in a mapped namespace. `status.namespace` stays as it is.
async fn lacking(
    world: &World,
    live: &Value,
    mut wanted: APIServiceNamespaceStatus,
    message: &str,
) -> Result<Outcome, Trouble> {
    let list = &mut wanted.conditions;
    conditions::mark_false(list, NAMESPACE_READY, Severity::Error, "RightsMissing", message, world.now());
    status::write(&world.api, &resources::of::<APIServiceNamespace>(), live, &wanted).await?;
    Ok(Outcome::After(export::RIGHTS_AGAIN))
}

/// What the backend may not do, and what gives it the right. Kinds of the core group are claimed, not offered.
fn lack(what: &str, namespace: &str, kinds: &[GroupResource]) -> String {
    let mut offers: Vec<String> =
        kinds.iter().filter(|kind| !kind.group.is_empty()).map(backend::offer_command).collect();
    offers.sort();
    offers.dedup();
    let claimed: Vec<&str> =
        kinds.iter().filter(|kind| kind.group.is_empty()).map(|kind| kind.resource.as_str()).collect();
    let mut steps = Vec::new();
    if !offers.is_empty() {
        steps.push(format!("run: {}", offers.join(" and ")));
    }
    if !claimed.is_empty() || offers.is_empty() {
        let what = if claimed.is_empty() { "claimed kinds".to_owned() } else { claimed.join(" and ") };
        steps.push(format!("give ClusterRole {} its rights on {what} back", backend::OFFERS));
    }
    let steps = steps.join(", and to ");
    format!("the provider's backend may not {what} in namespace {namespace}; the provider has to {steps}")
}

fn settle(wanted: &mut APIServiceNamespaceStatus, name: &str, outcome: &claimed::Outcome, world: &World) {
    let now = world.now();
    wanted.namespace = Some(name.to_owned());
    wanted.claimed_objects.clone_from(&outcome.entries);
    let list = &mut wanted.conditions;
    conditions::mark_true(list, NAMESPACE_READY, now);
    if outcome.left_out > 0 {
        let message = format!(
            "{} claimed objects beyond {MAX_CLAIMED_OBJECTS} are left out; use more namespaces at the consumer",
            outcome.left_out
        );
        conditions::mark_false(list, condition::TOO_MANY_CLAIMED_OBJECTS, Severity::Warning, "TooMany", &message, now);
    } else {
        conditions::remove(list, condition::TOO_MANY_CLAIMED_OBJECTS);
    }
    if outcome.problems.is_empty() {
        conditions::remove(list, CLAIMS_RESOLVED);
    } else {
        let message: Vec<String> = outcome
            .problems
            .iter()
            .take(10)
            .map(|problem| match (&problem.referring, &problem.name) {
                (Some(kind), Some(name)) => format!("{kind} {name}: {}", problem.message),
                _ => problem.message.clone(),
            })
            .collect();
        conditions::mark_false(list, CLAIMS_RESOLVED, Severity::Warning, "NotMeant", &message.join("; "), now);
    }
}

/// What the contract's exports mean for one mapped namespace.
struct Terms {
    /// Accepted claims of all exports.
    claims: Vec<AcceptedClaim>,
    /// Namespaced exported kinds with the schema of the version that the agent uses.
    kinds: BTreeMap<GroupResource, (Resource, Value)>,
    /// The same of exported kinds that are cluster-scoped for the consumer, with the namespace of their copies.
    wide: BTreeMap<GroupResource, (Resource, Value, String)>,
    /// Claimed kinds that are readable as a whole.
    open: Vec<GroupResource>,
}

impl Terms {
    fn of(world: &World, key: &ObjectKey, exports: &[APIServiceExport], catalogue: &Catalogue) -> Self {
        let silent = is_silent_agent(world, &key.namespace);
        let mut terms = Self { claims: Vec::new(), kinds: BTreeMap::new(), wide: BTreeMap::new(), open: Vec::new() };
        for export in exports {
            let open = export::offering_of(export, catalogue)
                .is_some_and(|offering| offering.template.spec.open_namespaces == Some(true));
            let stated = match &export.status {
                // An agent of the Go release knows no consent: having asked for the export is its word.
                _ if silent && open => taken_over(&export.spec.permission_claims),
                Some(status) => status.permission_claims.clone(),
                None => Vec::new(),
            };
            let accepted = Consent::decide(&export.spec.permission_claims, &stated).accepted();
            if open {
                terms.open.extend(accepted.iter().map(|claim| claim.resource().clone()));
            }
            terms.claims.extend(accepted);
            for resource in &export.spec.resources {
                let resource = resource.group_resource();
                let schema = world.schemas.get(&ObjectKey::new(&key.namespace, &resource.crd_name()));
                let spec = schema
                    .and_then(|entry| serde_json::from_value::<BoundSchemaSpec>(entry.summary["spec"].clone()).ok());
                if let Some(spec) = spec
                    && let Some((kind, version)) = rights::synced(&spec)
                {
                    let open_api = contract::schema::open_api_schema(version).cloned().unwrap_or_default();
                    match Strategy::of(spec.scope, export.spec.isolation) {
                        Strategy::ServiceNamespaced => drop(terms.kinds.insert(resource, (kind, open_api))),
                        Strategy::Namespaced => {
                            terms.wide.insert(resource, (kind, open_api, key.namespace.clone()));
                        }
                        Strategy::Prefixed | Strategy::None => {
                            terms.wide.insert(resource, (kind, open_api, String::new()));
                        }
                    }
                }
            }
        }
        terms.open.sort();
        terms.open.dedup();
        terms
    }

    fn kinds_of(&self, export: &APIServiceExport) -> Vec<GroupResource> {
        let own = export.spec.resources.iter().map(kube_bind_api::ExportedResource::group_resource);
        own.filter(|resource| self.kinds.contains_key(resource)).collect()
    }

    /// Kinds to watch: claimed ones, and those that refer to them. Without claims none.
    fn watched(&self) -> Vec<(Resource, bool)> {
        let claimed: BTreeSet<&GroupResource> = self.claims.iter().map(|claim| claim.resource()).collect();
        let mut watched: Vec<(Resource, bool)> = claimed.into_iter().map(|kind| (claimable(kind), false)).collect();
        for (resource, (kind, _)) in &self.kinds {
            if self.refers(resource) {
                watched.push((kind.clone(), true));
            }
        }
        watched
    }

    /// Kinds to watch that refer from elsewhere.
    fn watched_wide(&self) -> Vec<WideKind> {
        let referring = self.wide.iter().filter(|(resource, _)| self.refers(resource));
        referring.map(|(_, (kind, _, place))| (kind.clone(), place.clone())).collect()
    }

    fn refers(&self, resource: &GroupResource) -> bool {
        self.claims.iter().flat_map(|claim| claim.references()).any(|reference| reference.resource == *resource)
    }

    fn is_claimed(&self, resource: &GroupResource) -> bool {
        self.claims.iter().any(|claim| claim.resource() == resource)
    }
}

fn claimable(kind: &GroupResource) -> Resource {
    let name = CLAIMABLE.iter().find(|(plural, ..)| *plural == kind.resource).map_or("", |(.., name)| *name);
    Resource::new(&kind.group, "v1", &kind.resource, name)
}

/// Our agents state their cluster's UID with each heartbeat; those of the Go release do not.
fn is_silent_agent(world: &World, contract: &str) -> bool {
    world.bindings.get(&ObjectKey::new(contract, CLUSTER_BINDING)).is_some_and(|entry| {
        let status = &entry.summary["status"];
        status["lastHeartbeatTime"].is_string() && status["consumerClusterUID"].as_str().unwrap_or_default().is_empty()
    })
}

/// The namespace, created or found to be this mapping's; the message if it is somebody else's.
async fn ensure_namespace(
    world: &World,
    key: &ObjectKey,
    name: &str,
    terms: &Terms,
) -> Result<Result<(), String>, Trouble> {
    let kind = resources::namespaces();
    let there = ObjectKey::cluster(name);
    let ours = format!("{}/{}", key.namespace, key.name);
    let kinds: Vec<Resource> = terms.kinds.values().map(|(kind, _)| kind.clone()).collect();
    let wide: Vec<Resource> = terms.wide.values().map(|(kind, ..)| kind.clone()).collect();
    let foreign = || {
        format!(
            "namespace {name} at the provider is not this mapping's (annotation {ANNOTATION_API_SERVICE_NAMESPACE} is not {ours}); \
             the provider has to remove it or set the annotation"
        )
    };
    let Some(live) = world.api.get_opt(&kind, &there).await? else {
        let mut body = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "annotations": {
                ANNOTATION_API_SERVICE_NAMESPACE: ours, rights::ANNOTATION_KINDS: rights::kinds_text(&kinds),
            }},
        });
        if !wide.is_empty() {
            body["metadata"]["annotations"][rights::ANNOTATION_WIDE_KINDS] = json!(rights::kinds_text(&wide));
        }
        return match world.api.create(&kind, None, &body).await {
            Ok(_) => {
                tracing::info!(mapping = %key, namespace = name, "mapped namespace made");
                Ok(Ok(()))
            }
            // If it exists now, look again whose it is.
            Err(err) => Err(err.into()),
        };
    };
    let annotations = &live["metadata"]["annotations"];
    if annotations[ANNOTATION_API_SERVICE_NAMESPACE] != ours.as_str() {
        return Ok(Err(foreign()));
    }
    if !live["metadata"]["deletionTimestamp"].is_null() {
        return Ok(Err(format!("namespace {name} at the provider is being deleted; it is made again after that")));
    }
    let mut changed = json!({});
    for (name, present) in [(rights::ANNOTATION_KINDS, kinds), (rights::ANNOTATION_WIDE_KINDS, wide)] {
        let text = rights::kinds_with(&live, name, &present);
        if annotations[name] != text.as_str() && !text.is_empty() {
            changed[name] = json!(text);
        }
    }
    if changed != json!({}) {
        let patch = json!({"metadata": {"annotations": changed}});
        world.api.merge_patch(&kind, &there, Subresource::Main, &patch, MANAGER).await?;
    }
    Ok(Ok(()))
}

async fn evaluate(
    world: &World,
    key: &ObjectKey,
    name: &str,
    terms: &Terms,
    current: &APIServiceNamespaceStatus,
    mut snapshot: Snapshot,
) -> Result<claimed::Outcome, Trouble> {
    let known: BTreeSet<&str> =
        snapshot.objects.iter().filter_map(|(_, object)| object["metadata"]["uid"].as_str()).collect();
    let vanished = current.claimed_objects.iter().any(|entry| {
        entry.deleted != Some(true)
            && entry.uid.as_ref().is_some_and(|uid| !known.contains(uid.as_str()) && !snapshot.deleted.contains(uid))
    });
    // An object that was deleted while nobody watched: the list was read before, so a list of now says what is gone.
    if vanished {
        relist(world, name, terms, current, &mut snapshot).await?;
    }
    Ok(judge(key, terms, current, &snapshot, vanished))
}

/// Replaces what caches know of claimed kinds by what the API server says now.
async fn relist(
    world: &World,
    name: &str,
    terms: &Terms,
    current: &APIServiceNamespaceStatus,
    snapshot: &mut Snapshot,
) -> Result<(), Trouble> {
    let mut kinds: BTreeSet<GroupResource> = terms.claims.iter().map(|claim| claim.resource().clone()).collect();
    kinds.extend(
        current.claimed_objects.iter().map(|entry| GroupResource::new(entry.group.clone(), entry.resource.clone())),
    );
    for group_resource in kinds {
        let kind = claimable(&group_resource);
        snapshot.objects.retain(|(known, _)| known.plural != kind.plural || known.group != kind.group);
        for mut object in world.api.list(&kind, &ListQuery::namespace(name)).await? {
            object["kind"] = json!(kind.kind);
            if let Some(map) = object.as_object_mut() {
                map.retain(|field, _| ["metadata", "kind"].contains(&field.as_str()));
            }
            snapshot.objects.push((kind.clone(), Arc::new(object)));
        }
    }
    Ok(())
}

fn judge(
    key: &ObjectKey,
    terms: &Terms,
    current: &APIServiceNamespaceStatus,
    snapshot: &Snapshot,
    fresh: bool,
) -> claimed::Outcome {
    let group_resource = |kind: &Resource| GroupResource::new(kind.group.clone(), kind.plural.clone());
    let objects: Vec<(GroupResource, &Value)> =
        snapshot.objects.iter().map(|(kind, object)| (group_resource(kind), object.as_ref())).collect();
    let wide: Vec<(GroupResource, &Value)> =
        snapshot.wide.iter().map(|(kind, object)| (group_resource(kind), object.as_ref())).collect();
    let referring: Vec<Referring<'_>> = objects
        .iter()
        .filter(|(kind, _)| terms.kinds.contains_key(kind))
        .map(|(resource, object)| Referring { resource, object, cluster_scoped: false })
        .chain(wide.iter().map(|(resource, object)| Referring { resource, object, cluster_scoped: true }))
        .collect();
    let existing: Vec<Existing<'_>> = objects
        .iter()
        .filter(|(kind, _)| terms.is_claimed(kind) || !terms.kinds.contains_key(kind))
        .map(|(resource, object)| Existing { resource, object })
        .collect();
    let here = terms.kinds.iter().map(|(resource, (_, schema))| (resource.clone(), schema.clone()));
    let elsewhere = terms.wide.iter().map(|(resource, (_, schema, _))| (resource.clone(), schema.clone()));
    let schemas: BTreeMap<GroupResource, Value> = here.chain(elsewhere).collect();
    claimed::evaluate(&Input {
        claims: &terms.claims,
        contract_namespace: &key.namespace,
        consumer_namespace: &key.name,
        referring: &referring,
        existing: &existing,
        fresh,
        deleted_uids: &snapshot.deleted,
        previous: &current.claimed_objects,
        schemas: &schemas,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_said_with_what_mends_it() {
        let kind = |group: &str, plural: &str| GroupResource::new(group, plural);
        let offered = [kind("b.io", "things"), kind("a.io", "widgets"), kind("b.io", "things")];
        assert_eq!(
            lack("give the consumer its rights", "cluster-x-default", &offered),
            "the provider's backend may not give the consumer its rights in namespace cluster-x-default; the provider has to \
             run: kubectl bind provider offer things.b.io and kubectl bind provider offer widgets.a.io"
        );
        let both = lack("list widgets and secrets", "n", &[kind("a.io", "widgets"), kind("", "secrets")]);
        assert!(
            both.ends_with(
                "has to run: kubectl bind provider offer widgets.a.io, and to give ClusterRole \
                 kube-bind-backend-offers its rights on secrets back"
            ),
            "{both}"
        );
        assert!(lack("", "n", &[]).ends_with("its rights on claimed kinds back"));
    }
}
