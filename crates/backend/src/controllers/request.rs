//! Requests: from what a consumer asks for to what it is granted.
//!
//! In: an APIServiceExportRequest in a contract namespace. Out: BoundSchemas and an APIServiceExport of the same name, or
//! a refusal that says why; phase and conditions tell the truth and change when the reason goes away. Claims come from
//! the template, whatever the request says. Requests of people and of `kubectl apply` are the same.

use std::collections::BTreeSet;

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
    APIServiceNamespace, BoundSchema, BoundSchemaSpec, Isolation, RequestPhase, Scope,
};
use kube_client::{Class, ObjectKey, Outcome};
use serde_json::{Value, json};

use super::{FINALIZER, Trouble, World, decode, status};
use crate::catalogue::{Catalogue, Offering};
use crate::resources;

/// Why a request is not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    /// The condition that says so.
    condition: &'static str,
    reason: &'static str,
    message: String,
}

fn refuse(reason: &'static str, message: impl Into<String>) -> Refusal {
    Refusal { condition: condition::EXPORTS_READY, reason, message: message.into() }
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
            Err(refusal) => {
                tracing::info!(request = %key, reason = refusal.reason, message = %refusal.message, "request refused")
            }
        }
    }
    Ok(Outcome::Done)
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
            conditions::mark_false(list, refusal.condition, Severity::Error, refusal.reason, &refusal.message, now);
            status.phase = RequestPhase::Failed;
            status.terminal_message = Some(refusal.message.clone());
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
        return Err(refuse(
            "ExportTerminating",
            "the export of this name is being removed; the request is looked at again after that",
        ));
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
    alone(world, key, &schemas, offering)?;
    Ok(Plan { offering, schemas })
}

/// RBAC cannot fence unmapped namespaces and prefixed names, so these kinds are for one consumer, unless the provider
/// shares them on purpose (`design/architecture.md` §6, Isolation).
fn alone(world: &World, key: &ObjectKey, schemas: &[BoundSchemaSpec], offering: &Offering) -> Result<(), Refusal> {
    if offering.template.spec.shared_cluster_scope == Some(true) {
        return Ok(());
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
        return Ok(());
    }
    let other =
        world.exports.all().into_iter().filter(|(other, _)| other.namespace != key.namespace).find(|(_, entry)| {
            let resources = entry.summary["spec"]["resources"].as_array().cloned().unwrap_or_default();
            isolation == Isolation::None
                || resources.iter().any(|resource| {
                    unfenced.iter().any(|own| {
                        resource["group"] == own.group.as_str() && resource["resource"] == own.resource.as_str()
                    })
                })
        });
    match other {
        None => Ok(()),
        Some(_) => {
            let names: Vec<String> = unfenced.iter().map(kube_bind_api::GroupResource::crd_name).collect();
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
                "SharedClusterScope",
                format!(
                    "{names} is {what} and used by another consumer; RBAC cannot keep the two apart, so consumers would \
                     reach each other's objects: to share it on purpose the provider has to {mend}"
                ),
            ))
        }
    }
}

/// Publishes the schema in the contract, unless it is there. What another export of the contract publishes is refused.
async fn publish(world: &World, key: &ObjectKey, spec: &BoundSchemaSpec) -> Result<Result<(), Refusal>, Trouble> {
    let kind = resources::of::<BoundSchema>();
    let name = spec.group_resource().crd_name();
    let there = ObjectKey::new(&key.namespace, &name);
    if let Some(live) = world.api.get_opt(&kind, &there).await? {
        let owner = controller(&live);
        if let Some(owner) = owner.filter(|owner| *owner != key.name) {
            return Ok(Err(refuse(
                "AlreadyExported",
                format!("{name} is exported to this consumer already, as {owner}; bind it once"),
            )));
        }
        return Ok(Ok(()));
    }
    let schema = contract::schema::bound_schema(&key.namespace, spec.clone());
    let body = serde_json::to_value(&schema).unwrap_or_default();
    match world.api.create(&kind, Some(&key.namespace), &body).await {
        Err(err) if err.class == Class::Invalid => Ok(Err(refuse(reason::BOUND_SCHEMA_NOT_FOUND, err.to_string()))),
        Err(err) if err.class != Class::AlreadyExists => Err(err.into()),
        _ => Ok(Ok(())),
    }
}

/// Name of the export that controls a BoundSchema.
pub(super) fn controller(object: &Value) -> Option<&str> {
    object["metadata"]["ownerReferences"]
        .as_array()?
        .iter()
        .find(|owner| owner["controller"] == json!(true) && owner["kind"] == "APIServiceExport")
        .and_then(|owner| owner["name"].as_str())
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
        judge(&mut status, None, now);
        assert_eq!((status.phase, status.terminal_message), (RequestPhase::Succeeded, None));
        assert!(conditions::is_true(&status.conditions, condition::READY));
    }
}
