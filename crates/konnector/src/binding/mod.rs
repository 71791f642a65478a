//! One binding: from the object to a running sync, and back to what its status says. In: the binding, the export, the
//! published schemas, the contract's pin, whether the provider answers. Out: the CRD, running [`KindSync`]s and claims,
//! and the statuses of binding, export and schemas.
//!
//! Order of one pass: is it going ([`unbind`])? → finalizer → provider there? → contract ours? → export → schemas → CRD →
//! sync → claims → statuses. Each step that cannot be done says so in [`Facts`] and ends the pass.

mod crd;
mod facts;
mod remote;
mod standing;
mod state;
mod unbind;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use apimachinery::schema::Structural;
use contract::{Claim, Consent, Mapping, Strategy};
use kube_bind_api::{
    APIServiceBinding, APIServiceExport, BindingPhase, BoundResource, BoundSchema, ExportedResource, GroupResource,
    constants::{ANNOTATION_SCHEMA_REVISION, FINALIZER, reason},
};
use kube_client::{ApiError, Class, ObjectKey, Outcome, Resource};
use serde_json::Value;

pub use self::{
    facts::{Facts, Problem, write_status},
    state::BindingState,
    unbind::let_go_with_crds,
};
use self::{
    standing::{WITH_ITS_CRD, freeze, heed, let_go, unfreeze},
    state::{RunningClaims, RunningKind},
};
use crate::{
    claims::ClaimSync,
    kind::{KindConfig, KindSync, Standing},
    provider::{Link, Provider, pin},
    reasons,
    resources::{self, MANAGER},
    sync::{digest::Digest, intent::Teardown},
};

/// How soon to look again at what should come by itself (an export, an established CRD).
const SOON: Duration = Duration::from_secs(5);

/// How often a binding that is well is looked at for trouble that brings no event (watches that fail).
const RECHECK: Duration = Duration::from_secs(30);

/// How soon to look again while objects go with their CRD.
pub const GOING: Duration = Duration::from_secs(2);

/// A step that fails this many times in a row is told in the status; before, it may be an accident of the moment.
const TELL_AFTER: u32 = 3;

/// The uid of a binding.
fn uid_of(binding: &APIServiceBinding) -> &str {
    binding.metadata.uid.as_deref().unwrap_or_default()
}

/// Brings one binding up to date.
pub async fn reconcile(provider: &Arc<Provider>, name: &str) -> Outcome {
    let consumer = &provider.consumer;
    let Some(entry) = consumer.bindings.store().get(&ObjectKey::cluster(name)) else {
        provider.forget(name);
        return Outcome::Done;
    };
    if !provider.is_mine(&entry.summary) {
        provider.forget(name);
        return Outcome::Done;
    }
    let binding: APIServiceBinding = match serde_json::from_value((*entry.summary).clone()) {
        Ok(binding) => binding,
        Err(error) => {
            tracing::warn!(binding = name, %error, "the binding cannot be read");
            return Outcome::Done;
        }
    };
    if binding.metadata.deletion_timestamp.is_some() {
        return match unbind::unbind(Some(provider), consumer, &binding, &entry.summary).await {
            Ok(outcome) => outcome,
            Err(error) => again(name, &error),
        };
    }
    if !binding.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER) {
        let held = consumer.api.add_finalizer(&resources::bindings(), &entry.summary, FINALIZER, &[], MANAGER).await;
        // The write comes back as an event.
        return match held {
            Ok(_) => Outcome::Done,
            Err(error) => again(name, &error),
        };
    }
    let runs = |crd: &str| provider.bindings.lock().get(name).is_some_and(|state| state.kinds.contains_key(crd));
    let going = let_go_with_crds(consumer, name, runs).await;
    let mut facts = Facts::from_previous(&binding);
    let passed = match (going, pass(provider, name, &binding, &mut facts).await) {
        (Err(error), Ok(_)) => Err(error),
        // Nothing tells that they are gone.
        (Ok(true), Ok(Outcome::Done)) => Ok(Outcome::After(GOING)),
        (_, passed) => passed,
    };
    let failed = {
        let mut bindings = provider.bindings.lock();
        let state = bindings.entry(name.to_owned()).or_default();
        state.failed = match &passed {
            Err(error) if !error.is_conflict() => state.failed.saturating_add(1),
            _ => 0,
        };
        state.failed
    };
    if let Err(error) = &passed
        && failed >= TELL_AFTER
    {
        let message = format!("{error}; {}", error.mend());
        facts.stop(facts.waiting_phase(), Problem::warning(reasons::RECONCILE_FAILED, &message));
        facts.silent = false;
    }
    let written = if facts.silent { Ok(()) } else { write_status(&consumer.api, &binding, &facts).await };
    match (passed, written) {
        (Ok(outcome), Ok(())) => outcome,
        (Err(error), _) | (_, Err(error)) => again(name, &error),
    }
}

fn again(name: &str, error: &ApiError) -> Outcome {
    if !error.is_conflict() {
        tracing::warn!(binding = name, %error, "reconcile failed");
    }
    match error.retry_after {
        Some(wait) => Outcome::RetryAfter(wait),
        None => Outcome::Retry,
    }
}

async fn pass(
    provider: &Arc<Provider>,
    name: &str,
    binding: &APIServiceBinding,
    facts: &mut Facts,
) -> Result<Outcome, ApiError> {
    facts.secret = None;
    facts.pretty_name = provider.pretty_name().or(facts.pretty_name.take());
    facts.heartbeat = provider.heartbeat_error();
    // These take no provider, so they do not wait for one.
    let_go(provider, name);
    heed(provider, name, binding);
    match provider.link() {
        Link::Up => {}
        Link::Connecting => {
            facts.not_yet(Problem::info("Connecting", "connecting to the provider"));
            return Ok(Outcome::Done);
        }
        Link::Down { class, message } => {
            let (phase, problem) = facts.down(class, &message, &provider.secret.name);
            facts.stop(phase, problem);
            if class == Class::Unauthorized || class == Class::Forbidden || class == Class::NotFound {
                freeze(provider, name);
            }
            return Ok(Outcome::Done);
        }
    }
    let Some(cluster_binding) = provider.cluster_binding() else {
        facts.not_yet(Problem::info("Connecting", "reading the contract at the provider"));
        return Ok(Outcome::After(SOON));
    };
    let pin = pin::check(&cluster_binding, &provider.consumer.uid);
    if let Some(message) = pin.message(&provider.consumer.uid) {
        freeze(provider, name);
        facts.claimed_elsewhere = Some(message.clone());
        facts.stop(BindingPhase::ClaimedElsewhere, Problem::error(reason::CLAIMED_ELSEWHERE, &message));
        return Ok(Outcome::Done);
    }
    facts.claimed_elsewhere = None;
    if !provider.synced() {
        match provider.trouble() {
            None => facts.not_yet(Problem::info("Connecting", "reading the contract at the provider")),
            Some(trouble) => {
                let message = format!("the contract at the provider cannot be read: {trouble}; tried again by itself");
                facts.stop(facts.waiting_phase(), Problem::error(reasons::WATCH_FAILED, &message));
            }
        }
        return Ok(Outcome::After(Duration::from_secs(1)));
    }
    facts.informers_synced = true;
    let Some(export_raw) = provider.cached(&provider.exports, name) else {
        freeze(provider, name);
        facts.stop(BindingPhase::Pending, remote::missing_export(provider, name).await);
        return Ok(Outcome::After(SOON));
    };
    let export: APIServiceExport = match serde_json::from_value((*export_raw).clone()) {
        Ok(export) => export,
        Err(error) => {
            unfreeze(provider, name, &[]);
            facts.stop(
                BindingPhase::Failed,
                Problem::error(
                    reason::EXPORT_FAILED,
                    &format!("the provider's APIServiceExport {name} cannot be read: {error}"),
                ),
            );
            return Ok(Outcome::Done);
        }
    };
    if export.metadata.deletion_timestamp.is_some() {
        freeze(provider, name);
        facts.stop(
            BindingPhase::Pending,
            Problem::error(
                reason::EXPORT_NOT_FOUND,
                &format!("the provider is withdrawing the APIServiceExport {name}"),
            ),
        );
        return Ok(Outcome::After(SOON));
    }
    connected(provider, name, binding, &export, &export_raw, facts).await
}

/// The provider answers, the contract is ours and the export is there.
async fn connected(
    provider: &Arc<Provider>,
    name: &str,
    binding: &APIServiceBinding,
    export: &APIServiceExport,
    export_raw: &Value,
    facts: &mut Facts,
) -> Result<Outcome, ApiError> {
    let consent = Consent::decide(&export.spec.permission_claims, &binding.spec.permission_claims);
    facts.permission_claims = export.spec.permission_claims.clone();
    facts.pending_claims = consent.pending().iter().map(ToString::to_string).collect();
    facts.invalid_claims = consent.invalid.iter().map(|(_, error)| error.to_string()).collect();
    let readable: Arc<Vec<Claim>> = Arc::new(consent.decisions.iter().map(|d| d.claim.clone()).collect());

    let mut wait = None;
    let mut terminating = Vec::new();
    let mut crds: Vec<(String, Value)> = Vec::new();
    let mut wanted: BTreeMap<String, KindPlan> = BTreeMap::new();
    let mut bound = Vec::new();
    for resource in &export.spec.resources {
        let schema = provider.cached(&provider.schemas, &resource.group_resource().crd_name());
        let scope = schema.and_then(|schema| serde_json::from_value(schema["spec"]["scope"].clone()).ok());
        let unfit = readable.iter().filter_map(|claim| claim.fits(&resource.group_resource(), scope?).err());
        facts.invalid_claims.extend(unfit.map(|error| error.to_string()));
        match bind_kind(provider, name, binding, export, resource, &readable).await? {
            KindStep::Ready { crd_name, crd, plan, bound: resource } => {
                crds.push((crd_name.clone(), crd));
                bound.push(resource);
                wanted.insert(crd_name, *plan);
            }
            KindStep::Wait(problem) => {
                facts.schema = Some(problem);
                wait = Some(SOON);
            }
            KindStep::Terminating { crd_name, problem } => {
                facts.schema = Some(problem);
                wait = Some(SOON);
                terminating.push(crd_name);
            }
            KindStep::Refused(problem) => {
                facts.schema = Some(problem.clone());
                facts.stop(BindingPhase::Failed, problem);
                // A refused update does not take away what works.
                unfreeze(provider, name, &terminating);
                remote::report(provider, name, export_raw, &consent, facts, &crds).await?;
                return Ok(Outcome::After(RECHECK));
            }
        }
    }
    facts.bound_schemas = export.spec.resources.iter().map(ExportedResource::group_resource).collect();
    if !bound.is_empty() {
        facts.bound_resources = bound;
    }
    if let Some(wait) = wait {
        let problem = facts.schema.clone().unwrap_or_else(|| Problem::info("Pending", "waiting for the API"));
        facts.stop(BindingPhase::Pending, problem);
        unfreeze(provider, name, &terminating);
        remote::report(provider, name, export_raw, &consent, facts, &crds).await?;
        return Ok(Outcome::After(wait));
    }
    facts.schema = None;
    run_syncs(provider, name, binding, wanted, &consent, readable);
    let trouble = watch_trouble(provider, name).or_else(|| provider.trouble());
    facts.watch_trouble = trouble.clone().or_else(|| claims_trouble(provider, name));
    let synced = provider.bindings.lock().get(name).is_some_and(|s| s.kinds.values().all(|k| k.sync.objects_synced()));
    let outcome = if synced {
        facts.connected = None;
        facts.phase = BindingPhase::Connected;
        Outcome::After(RECHECK)
    } else if let Some(trouble) = trouble {
        let message = format!("the bound kind cannot be watched: {trouble}; tried again by itself");
        facts.stop(BindingPhase::Pending, Problem::error(reasons::WATCH_FAILED, &message));
        Outcome::After(SOON)
    } else {
        facts.not_yet(Problem::info("Connecting", "reading the objects of the bound kind"));
        Outcome::After(Duration::from_millis(200))
    };
    remote::report(provider, name, export_raw, &consent, facts, &crds).await?;
    Ok(outcome)
}

/// Trouble of the watches of a binding's kinds, in words.
fn watch_trouble(provider: &Arc<Provider>, name: &str) -> Option<String> {
    let bindings = provider.bindings.lock();
    bindings.get(name)?.kinds.values().find_map(|running| running.sync.trouble())
}

/// Trouble of the watches of a binding's claims, in words.
fn claims_trouble(provider: &Arc<Provider>, name: &str) -> Option<String> {
    provider.bindings.lock().get(name)?.claims.as_ref()?.sync.trouble()
}

/// What is needed to start a sync.
struct KindPlan {
    fingerprint: String,
    resource: Resource,
    mapping: Mapping,
    openapi: Option<Value>,
    status_subresource: bool,
    teardown: Teardown,
}

enum KindStep {
    Ready { crd_name: String, crd: Value, plan: Box<KindPlan>, bound: BoundResource },
    Wait(Problem),
    Terminating { crd_name: String, problem: Problem },
    Refused(Problem),
}

async fn bind_kind(
    provider: &Arc<Provider>,
    name: &str,
    binding: &APIServiceBinding,
    export: &APIServiceExport,
    exported: &ExportedResource,
    claims: &Arc<Vec<Claim>>,
) -> Result<KindStep, ApiError> {
    let group_resource = exported.group_resource();
    let schema_name = group_resource.crd_name();
    let Some(raw) = provider.cached(&provider.schemas, &schema_name) else {
        return Ok(KindStep::Wait(Problem::error(
            reason::BOUND_SCHEMA_FETCH_FAILED,
            &format!("the provider has not published the BoundSchema {schema_name} yet"),
        )));
    };
    let schema: BoundSchema = match serde_json::from_value((*raw).clone()) {
        Ok(schema) => schema,
        Err(error) => {
            return Ok(KindStep::Refused(Problem::error(
                reason::BOUND_SCHEMA_FETCH_FAILED,
                &format!("the provider's BoundSchema {schema_name} cannot be read: {error}"),
            )));
        }
    };
    if schema.spec.group_resource() != group_resource {
        return Ok(KindStep::Refused(Problem::error(
            reason::BOUND_SCHEMA_FETCH_FAILED,
            &format!(
                "the provider's BoundSchema {schema_name} describes {}, not {group_resource}",
                schema.spec.group_resource()
            ),
        )));
    }
    let known = {
        let mut bindings = provider.bindings.lock();
        let state = bindings.entry(name.to_owned()).or_default();
        state.wanted.insert(schema_name.clone());
        state.crds.get(&schema_name).cloned()
    };
    let (crd, written) = match crd::ensure(&provider.consumer.api, binding, &schema.spec, known).await? {
        crd::Ensured::Ready { crd, written, reverted } => {
            if reverted {
                let message = format!(
                    "somebody changed CustomResourceDefinition {schema_name}, which belongs to this binding; it was put \
                     back to what the provider publishes"
                );
                let subject = unbind::subject(binding);
                provider.consumer.events.warn(&subject, "CustomResourceDefinitionReverted", &message).await;
            }
            (crd, written)
        }
        crd::Ensured::Refused(problem) => {
            return Ok(KindStep::Refused(left_over(provider, binding, &schema_name).unwrap_or(problem)));
        }
        crd::Ensured::Terminating => {
            if let Some(running) = provider.bindings.lock().get(name).and_then(|s| s.kinds.get(&schema_name)) {
                running.sync.set_standing(WITH_ITS_CRD);
            }
            let problem = Problem::warning(
                "CustomResourceDefinitionTerminating",
                &format!(
                    "the CustomResourceDefinition {schema_name} is being deleted in this cluster; its objects stay at \
                     the provider, and the API comes back when it is gone"
                ),
            );
            return Ok(KindStep::Terminating { crd_name: schema_name, problem });
        }
    };
    provider.bindings.lock().entry(name.to_owned()).or_default().crds.insert(schema_name.clone(), written);
    let summary = crate::consumer::CrdSummary::of(&crd);
    if !summary.established {
        return Ok(KindStep::Wait(Problem::info("NotEstablished", &crd::why_not_served(&schema_name, &crd))));
    }
    let Some((plan, bound)) = plan_kind(provider, export, &raw, &schema, claims) else {
        return Ok(KindStep::Refused(Problem::error(
            reason::BOUND_SCHEMA_FETCH_FAILED,
            &format!("the provider's BoundSchema {schema_name} serves no version"),
        )));
    };
    Ok(KindStep::Ready { crd_name: schema_name, crd, plan: Box::new(plan), bound })
}

/// When the CRD carries the mark of a binding that is not there any more: what to say instead.
fn left_over(provider: &Arc<Provider>, binding: &APIServiceBinding, crd: &str) -> Option<Problem> {
    let known = provider.consumer.crds.store().get(&ObjectKey::cluster(crd))?;
    let other = known.summary.binding.clone().filter(|other| Some(other) != binding.metadata.name.as_ref())?;
    if provider.consumer.bindings.store().get(&ObjectKey::cluster(&other)).is_some() {
        return None;
    }
    Some(Problem::error(
        reason::FOREIGN_CRD,
        &format!(
            "CustomResourceDefinition {crd} and its objects were left here by the binding {other:?}, which is gone: \
             bind {other:?} again, or delete the CRD with its objects; then this binding goes on by itself"
        ),
    ))
}

/// What a sync of a published kind takes; `None` when no version is served.
fn plan_kind(
    provider: &Arc<Provider>,
    export: &APIServiceExport,
    raw: &Value,
    schema: &BoundSchema,
    claims: &Arc<Vec<Claim>>,
) -> Option<(KindPlan, BoundResource)> {
    let version = contract::schema::sync_version(&schema.spec)?;
    let revision = raw["metadata"]["annotations"][ANNOTATION_SCHEMA_REVISION]
        .as_str()
        .map_or_else(|| contract::schema::revision(&schema.spec), Into::into);
    let strategy = Strategy::of(schema.spec.scope, export.spec.isolation);
    let canonical: String = claims.iter().map(|c| c.canonical().to_owned() + "\n").collect();
    let plan = KindPlan {
        fingerprint: format!(
            "{}|{revision}|{strategy:?}|{}|{}",
            version.name,
            contract::schema::source_spec_hash(&schema.spec),
            Digest::of_bytes(canonical.as_bytes()).hex()
        ),
        resource: Resource::new(&schema.spec.group, &version.name, &schema.spec.names.plural, &schema.spec.names.kind),
        mapping: Mapping::new(strategy, provider.contract_namespace.clone()),
        openapi: contract::schema::open_api_schema(version).cloned(),
        status_subresource: contract::schema::has_status(version),
        teardown: Teardown::None,
    };
    let bound = BoundResource {
        group: schema.spec.group.clone(),
        resource: schema.spec.names.plural.clone(),
        schema_revision: Some(revision),
    };
    Some((plan, bound))
}

/// Starts what is not running yet, restarts what has changed, stops what is not wanted any more.
fn run_syncs(
    provider: &Arc<Provider>,
    name: &str,
    binding: &APIServiceBinding,
    wanted: BTreeMap<String, KindPlan>,
    consent: &Consent,
    claims: Arc<Vec<Claim>>,
) {
    let map = provider.namespace_map();
    let mut bindings = provider.bindings.lock();
    let state = bindings.entry(name.to_owned()).or_default();
    state.kinds.retain(|crd, running| wanted.get(crd).is_some_and(|plan| plan.fingerprint == running.fingerprint));
    let start = || RunningClaims::new(provider, name, ClaimSync::start(provider, name, uid_of(binding)));
    let claim_sync = state.claims.get_or_insert_with(start).sync.clone();
    claim_sync.prepare(consent, claims.clone());
    for (crd, plan) in wanted {
        let standing = Standing { frozen: false, teardown: plan.teardown };
        if let Some(running) = state.kinds.get(&crd) {
            running.sync.set_standing(standing);
            running.sync.set_namespaces(map.clone());
            continue;
        }
        let referring = GroupResource::new(plan.resource.group.clone(), plan.resource.plural.clone());
        claim_sync.forget_kind(&referring);
        let config = KindConfig {
            binding: name.to_owned(),
            binding_uid: uid_of(binding).to_owned(),
            schema: plan.openapi.as_ref().and_then(|s| Structural::compile(s).ok()).map(Arc::new),
            openapi: plan.openapi.map(Arc::new),
            resource: plan.resource,
            mapping: plan.mapping,
            status_subresource: plan.status_subresource,
            claims: claims.clone(),
        };
        let sync = KindSync::start(
            config,
            provider.consumer.clone(),
            provider.api.clone(),
            standing,
            map.clone(),
            claim_sync.reference_listener(referring),
        );
        state.kinds.insert(crd, RunningKind { fingerprint: plan.fingerprint, sync });
    }
    claim_sync.set_kinds(&state.syncs());
}

/// For a binding that is going and deletes its objects: makes sure that the syncs run which carry the deletions over, also
/// after a restart of the agent. `false` while the contract is not read yet.
async fn resume_for_deletion(
    provider: &Arc<Provider>,
    name: &str,
    binding: &APIServiceBinding,
) -> Result<bool, ApiError> {
    let ours = provider.cluster_binding().is_some_and(|known| pin::holds(&known, &provider.consumer.uid));
    if !provider.synced() || !ours {
        return Ok(false);
    }
    if provider.bindings.lock().get(name).is_some_and(|state| state.claims.is_some()) {
        return Ok(true);
    }
    let Some(export_raw) = provider.cached(&provider.exports, name) else { return Ok(true) };
    let Ok(export) = serde_json::from_value::<APIServiceExport>((*export_raw).clone()) else { return Ok(true) };
    let consent = Consent::decide(&export.spec.permission_claims, &binding.spec.permission_claims);
    let claims: Arc<Vec<Claim>> = Arc::new(consent.decisions.iter().map(|d| d.claim.clone()).collect());
    let mut wanted = BTreeMap::new();
    for exported in &export.spec.resources {
        let schema_name = exported.group_resource().crd_name();
        let Some(raw) = provider.cached(&provider.schemas, &schema_name) else { continue };
        let Ok(schema) = serde_json::from_value::<BoundSchema>((*raw).clone()) else { continue };
        if let Some((plan, _)) = plan_kind(provider, &export, &raw, &schema, &claims) {
            wanted.insert(schema_name, KindPlan { teardown: Teardown::Delete, ..plan });
        }
    }
    run_syncs(provider, name, binding, wanted, &consent, claims);
    Ok(true)
}

/// Unbinds without a provider: the credential is gone or unusable.
pub async fn unbind_alone(consumer: &Arc<crate::consumer::Consumer>, raw: &Arc<Value>) -> Result<Outcome, ApiError> {
    match serde_json::from_value::<APIServiceBinding>((**raw).clone()) {
        Ok(binding) => unbind::unbind(None, consumer, &binding, raw).await,
        Err(error) => {
            tracing::warn!(%error, "the binding cannot be read");
            Ok(Outcome::Done)
        }
    }
}
