//! Requests: from what a consumer asks for to what it is granted.
//!
//! In: an APIServiceExportRequest in a contract namespace. Out: BoundSchemas and an APIServiceExport of the same name, or
//! a refusal that says why; phase and conditions tell the truth and change when the reason goes away. What passes by
//! itself (an earlier export that is still going) is no refusal: the request stays `Pending` and says what it waits for.
//! Claims come from the template, whatever the request says. Requests of people and of `kubectl apply` are the same.

use std::collections::BTreeSet;
use std::time::Duration;

use contract::names::Strategy;
use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube_bind_api::conditions::{self, Severity};
use kube_bind_api::constants::{
    ANNOTATION_AUTHOR, ANNOTATION_IDENTITY, ANNOTATION_ISSUER, ANNOTATION_SOURCE_SPEC_HASH, ANNOTATION_TEMPLATE,
    LABEL_OWNER, OWNER_PROVIDER, condition, reason,
};
use kube_bind_api::{
    APIServiceExport, APIServiceExportRequest, APIServiceExportRequestStatus, APIServiceExportSpec,
    APIServiceNamespace, BoundSchema, BoundSchemaSpec, GroupResource, Isolation, RequestPhase, Scope,
};
use kube_client::{Class, ListQuery, ObjectKey, Outcome, Subresource};
use serde_json::{Value, json};

use super::schemas::{self, Made, Place};
use super::{FINALIZER, Trouble, World, decode, status};
use crate::catalogue::{Catalogue, Offering};
use crate::contracts::MANAGER;
use crate::resources;

/// How soon to look again at what is on its way out.
pub(super) const SOON: Duration = Duration::from_secs(1);

const LATER: Duration = Duration::from_secs(30);
/// Reason of a request for a kind that another consumer has for itself.
const SHARED: &str = "SharedClusterScope";

/// Why a request is not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    /// The condition that says so.
    condition: &'static str,
    reason: &'static str,
    message: String,
    /// Nobody has to do anything about it: the request waits, and is looked at again after so long.
    again: Option<Duration>,
}

fn refuse(reason: &'static str, message: impl Into<String>) -> Refusal {
    Refusal { condition: condition::EXPORTS_READY, reason, message: message.into(), again: None }
}

/// Not yet: `what` is on its way out.
fn waits(reason: &'static str, what: &str) -> Refusal {
    Refusal { again: Some(SOON), ..refuse(reason, format!("waiting for {what}")) }
}

/// See the module.
///
/// # Errors
/// [`Trouble`]; tried again.
pub async fn reconcile(world: &World, key: &ObjectKey) -> Result<Outcome, Trouble> {
    let kind = resources::of::<APIServiceExportRequest>();
    let Some(live) = world.api.get_opt(&kind, key).await? else { return Ok(Outcome::Done) };
    let request: APIServiceExportRequest = decode(&live)?;
    if request.metadata.deletion_timestamp.is_some() {
        return Ok(Outcome::Done);
    }
    let granted = world.api.get_opt(&resources::of::<APIServiceExport>(), key).await?;
    let verdict = match granted {
        // It goes with the export that answers it.
        Some(export) if is_ending(&export) && phase(&request) == RequestPhase::Succeeded => return Ok(Outcome::Done),
        Some(export) => same_resources(&request, &decode(&export)?),
        None => grant(world, key, &request).await?,
    };
    if verdict.is_ok() {
        provide_namespaces(world, key, &request).await?;
    }
    let mut wanted = request.status.clone().unwrap_or_default();
    judge(&mut wanted, verdict.as_ref().err(), world.now());
    if status::write(&world.api, &kind, &live, &wanted).await? {
        match &verdict {
            Ok(()) => tracing::info!(request = %key, "request granted"),
            Err(Refusal { again: Some(_), reason, message, .. }) => {
                tracing::info!(request = %key, reason, %message, "request waits")
            }
            Err(Refusal { reason, message, .. }) => tracing::info!(request = %key, reason, %message, "request refused"),
        }
    }
    Ok(match verdict {
        Err(Refusal { again: Some(again), .. }) => Outcome::After(again),
        _ => Outcome::Done,
    })
}

fn phase(request: &APIServiceExportRequest) -> RequestPhase {
    request.status.as_ref().map(|status| status.phase).unwrap_or_default()
}

fn is_ending(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// Whether a request was made for the time after an export that goes: it is not answered yet, and is no older than that
/// export's end. Whatever else is there of that name was answered by the export and goes with it.
pub(super) fn is_anew(request: &Value, ending: &Value) -> bool {
    let time = |value: &Value| value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let made = time(&request["metadata"]["creationTimestamp"]);
    let ends = time(&ending["metadata"]["deletionTimestamp"]);
    let answered = matches!(request["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    !answered && made.zip(ends).is_some_and(|(made, ends)| made >= ends)
}

fn judge(status: &mut APIServiceExportRequestStatus, refusal: Option<&Refusal>, now: Timestamp) {
    let list = &mut status.conditions;
    match refusal {
        None => {
            conditions::mark_true(list, condition::EXPORTS_READY, now);
            conditions::mark_true(list, condition::PERMISSION_CLAIM, now);
            status.phase = RequestPhase::Succeeded;
            status.terminal_message = None;
        }
        Some(refusal) => {
            let (severity, phase, terminal) = match refusal.again.is_some() {
                true => (Severity::Info, RequestPhase::Pending, None),
                false => (Severity::Error, RequestPhase::Failed, Some(refusal.message.clone())),
            };
            conditions::mark_false(list, refusal.condition, severity, refusal.reason, &refusal.message, now);
            status.phase = phase;
            status.terminal_message = terminal;
        }
    }
    conditions::set_summary(list, now);
}

/// An export of that name is there: it must be what the request asks for.
fn same_resources(request: &APIServiceExportRequest, export: &APIServiceExport) -> Result<(), Refusal> {
    let names = |list: &[kube_bind_api::ExportedResource]| -> BTreeSet<_> {
        list.iter().map(kube_bind_api::ExportedResource::group_resource).collect()
    };
    if export.metadata.deletion_timestamp.is_some() {
        return Err(waits("ExportTerminating", "the export that has this name now to be removed"));
    }
    if names(&request.spec.resources) == names(&export.spec.resources) {
        return Ok(());
    }
    let name = export.metadata.name.as_deref().unwrap_or_default();
    Err(refuse("ExportExists", format!("this contract has an export {name} of other resources; choose another name")))
}

async fn grant(
    world: &World,
    key: &ObjectKey,
    request: &APIServiceExportRequest,
) -> Result<Result<(), Refusal>, Trouble> {
    let catalogue = world.catalogue().await?;
    let schemas = match plan(world, key, request, &catalogue) {
        Ok(plan) => plan,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let Some(contract) = world.api.get_opt(&resources::namespaces(), &ObjectKey::cluster(&key.namespace)).await? else {
        return Ok(Ok(()));
    };
    if !contract["metadata"]["deletionTimestamp"].is_null() {
        return Ok(Err(refuse("ContractTerminating", "this contract is being removed")));
    }
    let Plan { offering, schemas } = schemas;
    // From the look at who has a kind until it is taken nobody else looks, and what is looked at is the API server's.
    let _granting = world.granting.lock().await;
    let taken = match neighbours(world, key, &schemas).await? {
        Ok(()) => alone(world, key, &schemas, offering).await?,
        Err(refusal) => Err(refusal),
    };
    if let Err(refusal) = taken {
        return Ok(Err(refusal));
    }
    for spec in &schemas {
        if let Err(refusal) = publish(world, key, spec).await? {
            return Ok(Err(refusal));
        }
    }
    let copied = |name: &str| contract["metadata"]["annotations"][name].clone();
    let spec = APIServiceExportSpec {
        resources: request.spec.resources.clone(),
        permission_claims: offering.template.spec.permission_claims.clone(),
        informer_scope: world.issuing.informer_scope,
        isolation: world.issuing.isolation,
        cluster_scoped_isolation: None,
    };
    let kind = resources::of::<APIServiceExport>();
    let mut annotations = json!({
        ANNOTATION_SOURCE_SPEC_HASH: contract::schema::export_hash(&schemas),
        ANNOTATION_TEMPLATE: offering.name,
    });
    for name in [ANNOTATION_AUTHOR, ANNOTATION_ISSUER, ANNOTATION_IDENTITY] {
        if copied(name).is_string() {
            annotations[name] = copied(name);
        }
    }
    let body = json!({
        "apiVersion": kind.api_version(), "kind": kind.kind,
        "metadata": {"name": key.name, "namespace": key.namespace, "annotations": annotations, "finalizers": [FINALIZER]},
        "spec": spec,
    });
    match world.api.create(&kind, Some(&key.namespace), &body).await {
        Err(err) if err.class != Class::AlreadyExists => Err(err.into()),
        _ => Ok(Ok(())),
    }
}

/// What a request will be granted.
struct Plan<'a> {
    offering: &'a Offering,
    schemas: Vec<BoundSchemaSpec>,
}

fn plan<'a>(
    world: &World,
    key: &ObjectKey,
    request: &APIServiceExportRequest,
    catalogue: &'a Catalogue,
) -> Result<Plan<'a>, Refusal> {
    let wanted = &request.spec.resources;
    let offering = catalogue.covering(&key.name, wanted).ok_or_else(|| {
        let names: Vec<String> = wanted.iter().map(|resource| resource.group_resource().crd_name()).collect();
        refuse(reason::SCHEMA_NOT_FOUND, format!("this provider does not offer {} (together)", names.join(", ")))
    })?;
    if let Some(problem) = &offering.problem {
        return Err(refuse("NotAvailable", format!("{} is not available yet: {problem}", offering.name)));
    }
    for claim in &request.spec.permission_claims {
        // Only the template's claims are granted; one that cannot be read is a mistake that its writer should see.
        if let Err(err) = contract::Claim::parse(&claim.claim) {
            let message = format!("{err}; the offering's own claims are used, leave this one out");
            return Err(Refusal {
                condition: condition::PERMISSION_CLAIM,
                reason: reason::INVALID_PERMISSION_CLAIM,
                message,
                again: None,
            });
        }
    }
    let mut schemas = Vec::new();
    for resource in wanted {
        let name = resource.group_resource().crd_name();
        let unusable = |message: String| refuse(reason::SCHEMA_NOT_FOUND, message);
        let crd = catalogue
            .crds
            .get(&resource.group_resource())
            .ok_or_else(|| unusable(format!("this provider has no exported CRD {name}")))?;
        let crd: CustomResourceDefinition =
            serde_json::from_value(crd.clone()).map_err(|err| unusable(format!("CRD {name} cannot be read: {err}")))?;
        let spec = contract::schema::project(&crd, world.issuing.informer_scope, world.issuing.isolation)
            .map_err(|err| unusable(err.to_string()))?;
        if crd.spec.scope == "Cluster" && world.issuing.isolation == Isolation::Namespaced {
            return Err(refuse(
                "IsolationNamespaced",
                format!(
                    "{name} is cluster-scoped at the provider, and its backend runs with --isolation=Namespaced, which \
                     keeps consumers apart by namespaces: the provider has to offer a namespaced kind, or to run the \
                     backend with --isolation=Prefixed"
                ),
            ));
        }
        schemas.push(spec);
    }
    for spec in &schemas {
        for claim in offering.template.spec.permission_claims.iter().filter_map(|c| contract::Claim::parse(c).ok()) {
            if let Err(err) = claim.fits(&spec.group_resource(), spec.scope) {
                return Err(Refusal {
                    condition: condition::PERMISSION_CLAIM,
                    reason: reason::INVALID_PERMISSION_CLAIM,
                    message: format!("{} cannot be bound: {err} {}", offering.name, offering.name),
                    again: None,
                });
            }
        }
    }
    let scopes: BTreeSet<&str> = schemas.iter().map(|spec| spec.scope.as_str()).collect();
    if scopes.len() > 1 {
        return Err(refuse(
            reason::DIFFERENT_SCOPES,
            "the requested resources are partly cluster-scoped and partly namespaced; request them separately",
        ));
    }
    Ok(Plan { offering, schemas })
}

/// Whether an export lists a kind.
fn lists(export: &Value, kind: &GroupResource) -> bool {
    let resources = export["spec"]["resources"].as_array();
    resources
        .into_iter()
        .flatten()
        .any(|resource| resource["group"] == kind.group.as_str() && resource["resource"] == kind.resource.as_str())
}

/// A contract has a kind once. Exports that go are waited for where their schemas are.
async fn neighbours(
    world: &World,
    key: &ObjectKey,
    schemas: &[BoundSchemaSpec],
) -> Result<Result<(), Refusal>, Trouble> {
    let here = ListQuery::namespace(&key.namespace);
    for export in world.api.list(&resources::of::<APIServiceExport>(), &here).await? {
        let name = export["metadata"]["name"].as_str().unwrap_or_default();
        if name == key.name || is_ending(&export) {
            continue;
        }
        if let Some(spec) = schemas.iter().find(|spec| lists(&export, &spec.group_resource())) {
            return Ok(Err(already(&spec.group_resource().crd_name(), name)));
        }
    }
    Ok(Ok(()))
}

fn already(kind: &str, export: &str) -> Refusal {
    refuse("AlreadyExported", format!("{kind} is exported to this consumer already, as {export}; bind it once"))
}

/// RBAC cannot fence unmapped namespaces and prefixed names, so these kinds are for one consumer, unless the provider
/// shares them on purpose (`design/architecture.md` §6, Isolation).
async fn alone(
    world: &World,
    key: &ObjectKey,
    schemas: &[BoundSchemaSpec],
    offering: &Offering,
) -> Result<Result<(), Refusal>, Trouble> {
    if offering.template.spec.shared_cluster_scope == Some(true) {
        return Ok(Ok(()));
    }
    let isolation = world.issuing.isolation;
    let unfenced: Vec<_> = schemas
        .iter()
        .filter(|spec| {
            isolation == Isolation::None || Strategy::of(spec.scope, isolation).provider_scope() == Scope::Cluster
        })
        .map(BoundSchemaSpec::group_resource)
        .collect();
    if unfenced.is_empty() {
        return Ok(Ok(()));
    }
    let everywhere = world.api.list(&resources::of::<APIServiceExport>(), &ListQuery::default()).await?;
    let others: Vec<&Value> = everywhere
        .iter()
        .filter(|export| export["metadata"]["namespace"] != key.namespace.as_str())
        .filter(|export| isolation == Isolation::None || unfenced.iter().any(|kind| lists(export, kind)))
        .collect();
    Ok(match others.iter().all(|export| is_ending(export)) {
        true if others.is_empty() => Ok(()),
        // Its end is an event, and may take its time.
        true => Err(Refusal { again: Some(LATER), ..waits(SHARED, "what another consumer had of it to be removed") }),
        false => {
            let names: Vec<String> = unfenced.iter().map(GroupResource::crd_name).collect();
            let names = names.join(", ");
            let cluster_scoped = schemas.iter().any(|spec| spec.scope == Scope::Cluster);
            let (what, mend) = match unfenced.first() {
                Some(kind) if cluster_scoped => {
                    ("cluster-scoped at the provider", format!("run: {}", contract::rbac::backend::share_command(kind)))
                }
                _ => (
                    "in namespaces that consumers share (isolation None)",
                    format!("set sharedClusterScope: true in its template {}", offering.name),
                ),
            };
            Err(refuse(
                SHARED,
                format!(
                    "{names} is {what} and used by another consumer; RBAC cannot keep the two apart, so consumers would \
                     reach each other's objects: to share it on purpose the provider has to {mend}"
                ),
            ))
        }
    })
}

/// Publishes the schema in the contract as the provider has it now. What another export of the contract publishes is
/// refused; what is left of one that is gone is replaced.
async fn publish(world: &World, key: &ObjectKey, spec: &BoundSchemaSpec) -> Result<Result<(), Refusal>, Trouble> {
    let name = spec.group_resource().crd_name();
    let there = ObjectKey::new(&key.namespace, &name);
    match schemas::place(world, &there).await? {
        Place::Free => {}
        Place::Stale(live) => schemas::clear(world, &there, &live).await?,
        // Made for a request like this one, maybe long ago: it must be what the provider offers now.
        Place::Nobodys(live) => {
            let published: BoundSchema = decode(&live)?;
            if let Some(patch) = schemas::renewal(&live, &published.spec, spec) {
                world
                    .api
                    .merge_patch(&resources::of::<BoundSchema>(), &there, Subresource::Main, &patch, MANAGER)
                    .await?;
            }
            return Ok(Ok(()));
        }
        Place::Held { export, .. } if export == key.name => return Ok(Ok(())),
        Place::Held { export, .. } => {
            return Ok(Err(already(&name, &export)));
        }
        Place::Ending(what) => return Ok(Err(waits("SchemaTerminating", &what))),
    }
    Ok(match schemas::make(world, &key.namespace, spec, None).await? {
        Made::Yes => Ok(()),
        Made::Taken => {
            Err(waits("SchemaTerminating", &format!("the schema {name} of an earlier export to be removed")))
        }
        Made::Invalid(message) => Err(refuse(reason::BOUND_SCHEMA_NOT_FOUND, message)),
    })
}

/// Namespaces that the provider wants to exist at the consumer.
async fn provide_namespaces(world: &World, key: &ObjectKey, request: &APIServiceExportRequest) -> Result<(), Trouble> {
    let kind = resources::of::<APIServiceNamespace>();
    for namespace in &request.spec.namespaces {
        let there = ObjectKey::new(&key.namespace, &namespace.name);
        if world.mapped.get(&there).is_some() {
            continue;
        }
        let body = json!({
            "apiVersion": kind.api_version(), "kind": kind.kind,
            "metadata": {"name": namespace.name, "namespace": key.namespace,
                "labels": {LABEL_OWNER: OWNER_PROVIDER}, "finalizers": [FINALIZER]},
            "spec": {},
        });
        match world.api.create(&kind, Some(&key.namespace), &body).await {
            Err(err) if err.class != Class::AlreadyExists => return Err(err.into()),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_tells_the_truth_and_recovers() {
        let now = Timestamp::from_second(1).unwrap();
        let mut status = APIServiceExportRequestStatus::default();
        judge(&mut status, Some(&refuse(reason::SCHEMA_NOT_FOUND, "nothing of that name")), now);
        assert_eq!(status.phase, RequestPhase::Failed);
        assert_eq!(status.terminal_message.as_deref(), Some("nothing of that name"));
        assert!(!conditions::is_true(&status.conditions, condition::READY));
        judge(&mut status, Some(&waits("ExportTerminating", "it to go")), now);
        assert_eq!((status.phase, status.terminal_message.as_deref()), (RequestPhase::Pending, None));
        let ready = conditions::get(&status.conditions, condition::READY).unwrap();
        assert_eq!((ready.status.as_str(), ready.message.as_deref()), ("False", Some("waiting for it to go")));
        judge(&mut status, None, now);
        assert_eq!((status.phase, status.terminal_message), (RequestPhase::Succeeded, None));
        assert!(conditions::is_true(&status.conditions, condition::READY));
    }

    #[test]
    fn a_request_for_the_time_after_an_export_is_not_the_one_that_it_answers() {
        let export = json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-02T00:00:00Z"}});
        let anew = |made: &str, phase: Value| {
            is_anew(&json!({"metadata": {"creationTimestamp": made}, "status": {"phase": phase}}), &export)
        };
        assert!(anew("2026-01-02T00:00:00Z", Value::Null));
        assert!(anew("2026-01-02T00:00:09Z", json!("Pending")));
        // Its answer was not written when the backend ended; the consumer has taken the export back meanwhile.
        assert!(!anew("2026-01-01T00:00:00Z", json!("Pending")));
        // Applied a second time while the export was there.
        assert!(!anew("2026-01-02T00:00:00Z", json!("Succeeded")));
        assert!(!anew("2026-01-02T00:00:00Z", json!("Failed")));
    }
}
