//! Exports: keep what was granted as the provider has it now.
//!
//! In: an APIServiceExport, its template, the CRDs. Out: its BoundSchemas (present; refreshed under policy `Always`),
//! its claims as the template has them now (a wider one is pending until the consumer accepts it), rights outside of
//! mapped namespaces, and the conditions `ProviderInSync` and `OpenNamespaces`. When it goes, [`super::unbind`] follows.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube_bind_api::conditions::{self, Severity};
use kube_bind_api::constants::{ANNOTATION_SOURCE_SPEC_HASH, ANNOTATION_TEMPLATE, condition, reason};
use kube_bind_api::{APIServiceExport, BoundSchema, BoundSchemaSpec, SchemaUpdatePolicy};
use kube_client::{ObjectKey, Outcome, Subresource};
use serde_json::{Value, json};

use super::request::SOON;
use super::schemas::{self, Made, Place};
use super::{FINALIZER, Trouble, World, decode, rights, status, unbind};
use crate::catalogue::{Catalogue, Offering};
use crate::contracts::MANAGER;
use crate::resources;

/// Condition, and printer column, of exports: the consumer's API server serves the kinds.
const ESTABLISHED: &str = "Established";

/// How soon missing rights are looked for again.
pub(super) const RIGHTS_AGAIN: Duration = Duration::from_secs(5);

/// See the module.
///
/// # Errors
/// [`Trouble`]; tried again.
pub async fn reconcile(world: &World, key: &ObjectKey) -> Result<Outcome, Trouble> {
    let kind = resources::of::<APIServiceExport>();
    let Some(live) = world.api.get_opt(&kind, key).await? else { return Ok(Outcome::Done) };
    let export: APIServiceExport = decode(&live)?;
    if export.metadata.deletion_timestamp.is_some() {
        return unbind::export(world, key, &live, &export).await;
    }
    if !has_finalizer(&live) {
        world.api.add_finalizer(&kind, &live, FINALIZER, &[], MANAGER).await?;
        return Ok(Outcome::Done);
    }
    let catalogue = world.catalogue().await?;
    let offering = offering_of(&export, &catalogue);
    if let Some(offering) = offering
        && claims_differ(&export, offering)
    {
        let patch = json!({
            "metadata": {"resourceVersion": live["metadata"]["resourceVersion"]},
            "spec": {"permissionClaims": offering.template.spec.permission_claims},
        });
        world.api.merge_patch(&kind, key, Subresource::Main, &patch, MANAGER).await?;
        tracing::info!(export = %key, "claims follow the template");
        return Ok(Outcome::Done);
    }
    let follow = offering
        .is_some_and(|offering| offering.template.spec.schema_update_policy == Some(SchemaUpdatePolicy::Always));
    let mut schemas = Vec::new();
    let mut missing = Vec::new();
    for resource in &export.spec.resources {
        let name = resource.group_resource().crd_name();
        let current = match catalogue.crds.get(&resource.group_resource()) {
            Some(crd) => projected(crd, &export),
            None => Err(format!("its CRD {name} is not exported any more")),
        };
        match schema(world, key, &live, &name, current, follow).await? {
            Ok(spec) => schemas.push(spec),
            Err(lack) => missing.push(lack),
        }
    }
    if missing.is_empty() {
        let hash = contract::schema::export_hash(&schemas);
        if live["metadata"]["annotations"][ANNOTATION_SOURCE_SPEC_HASH] != hash.as_str() {
            let patch = json!({"metadata": {"annotations": {ANNOTATION_SOURCE_SPEC_HASH: hash}}});
            world.api.merge_patch(&kind, key, Subresource::Main, &patch, MANAGER).await?;
            return Ok(Outcome::Done);
        }
    }
    let rights = rights::outside_mapped(world, &export, &schemas).await;
    let mut wanted = export.status.clone().unwrap_or_default();
    let now = world.now();
    let mut again = follow.then_some(world.settings.resync);
    if let Err(Trouble::Api(err)) = &rights
        && err.is_forbidden()
    {
        let kinds: Vec<String> = export
            .spec
            .resources
            .iter()
            .map(|resource| contract::rbac::backend::offer_command(&resource.group_resource()))
            .collect();
        let message = format!(
            "the provider's backend may not give the consumer its rights; the provider has to run: {} ({err})",
            kinds.join(" and ")
        );
        conditions::mark_false(
            &mut wanted.conditions,
            condition::PROVIDER_IN_SYNC,
            Severity::Error,
            "RightsMissing",
            &message,
            now,
        );
        again = Some(RIGHTS_AGAIN);
    } else if missing.is_empty() {
        rights?;
        conditions::mark_true(&mut wanted.conditions, condition::PROVIDER_IN_SYNC, now);
    } else {
        let message = missing.iter().map(|lack| lack.message.as_str()).collect::<Vec<_>>().join("; ");
        let severity = if missing.iter().all(|lack| lack.passes) { Severity::Info } else { Severity::Error };
        let list = &mut wanted.conditions;
        let problem = reason::BOUND_SCHEMA_MISSING;
        conditions::mark_false(list, condition::PROVIDER_IN_SYNC, severity, problem, &message, now);
    }
    if missing.iter().any(|lack| lack.passes) {
        again = Some(SOON);
    }
    let list = &mut wanted.conditions;
    if let Some(message) = not_established(world, &export) {
        conditions::mark_false(list, ESTABLISHED, Severity::Info, "NotServed", &message, now);
    } else {
        conditions::mark_true(list, ESTABLISHED, now);
    }
    if offering.is_some_and(|offering| offering.template.spec.open_namespaces == Some(true)) {
        conditions::mark_true(&mut wanted.conditions, condition::OPEN_NAMESPACES, now);
    } else {
        conditions::remove(&mut wanted.conditions, condition::OPEN_NAMESPACES);
    }
    status::write(&world.api, &kind, &live, &wanted).await?;
    Ok(again.map_or(Outcome::Done, Outcome::After))
}

/// Which kinds the consumer's API server does not serve (yet), as its agent reports in their schemas.
fn not_established(world: &World, export: &APIServiceExport) -> Option<String> {
    let contract = export.metadata.namespace.as_deref().unwrap_or_default();
    let served = |name: &String| {
        let entry = world.schemas.get(&ObjectKey::new(contract, name));
        let conditions = entry.as_ref().and_then(|entry| entry.summary["status"]["conditions"].as_array());
        conditions.is_some_and(|list| list.iter().any(|c| c["type"] == ESTABLISHED && c["status"] == "True"))
    };
    let names = export.spec.resources.iter().map(|resource| resource.group_resource().crd_name());
    let missing: Vec<String> = names.filter(|name| !served(name)).collect();
    (!missing.is_empty()).then(|| format!("the consumer's API server does not serve {} (yet)", missing.join(", ")))
}

/// Whether our finalizer is on the object.
pub(super) fn has_finalizer(live: &Value) -> bool {
    live["metadata"]["finalizers"].as_array().is_some_and(|list| list.iter().any(|item| item == FINALIZER))
}

/// The template behind an export; an export of the Go release does not name it.
pub(super) fn offering_of<'a>(export: &APIServiceExport, catalogue: &'a Catalogue) -> Option<&'a Offering> {
    let named = export.metadata.annotations.as_ref().and_then(|map| map.get(ANNOTATION_TEMPLATE));
    match named {
        Some(name) => catalogue.offering(name),
        None => catalogue.covering(export.metadata.name.as_deref().unwrap_or_default(), &export.spec.resources),
    }
}

fn claims_differ(export: &APIServiceExport, offering: &Offering) -> bool {
    export.spec.permission_claims != offering.template.spec.permission_claims
}

fn projected(crd: &Value, export: &APIServiceExport) -> Result<BoundSchemaSpec, String> {
    let crd: CustomResourceDefinition = serde_json::from_value(crd.clone()).map_err(|err| err.to_string())?;
    contract::schema::project(&crd, export.spec.informer_scope, export.spec.isolation).map_err(|err| err.to_string())
}

/// Why a schema is not there.
struct Lack {
    message: String,
    /// By itself: something that was there before is on its way out.
    passes: bool,
}

impl Lack {
    fn lasting(message: String) -> Self {
        Self { message, passes: false }
    }

    fn passing(what: &str) -> Self {
        Self { message: format!("waiting for {what}"), passes: true }
    }
}

/// Makes one BoundSchema what it should be; says what is missing otherwise. Without policy `Always` the published form
/// stays as it was when it was bound.
async fn schema(
    world: &World,
    export: &ObjectKey,
    owner: &Value,
    name: &str,
    current: Result<BoundSchemaSpec, String>,
    follow: bool,
) -> Result<Result<BoundSchemaSpec, Lack>, Trouble> {
    let kind = resources::of::<BoundSchema>();
    let key = ObjectKey::new(&export.namespace, name);
    let reference = json!({
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
    });
    let (live, adopted) = match schemas::place(world, &key).await? {
        Place::Held { export: holder, live } if holder == export.name => (live, false),
        Place::Held { export: holder, .. } => {
            return Ok(Err(Lack::lasting(format!("the schema {name} belongs to export {holder} of this contract"))));
        }
        Place::Nobodys(live) => (live, true),
        Place::Ending(what) => return Ok(Err(Lack::passing(&what))),
        place @ (Place::Free | Place::Stale(_)) => {
            let spec = match current {
                Ok(spec) => spec,
                Err(message) => {
                    let message = format!("the schema {name} is missing and cannot be made again: {message}");
                    return Ok(Err(Lack::lasting(message)));
                }
            };
            // Of an earlier export, maybe one of this name: the API server would collect it under this one's hands.
            if let Place::Stale(live) = place {
                schemas::clear(world, &key, &live).await?;
            }
            return Ok(match schemas::make(world, &export.namespace, &spec, Some(reference)).await? {
                Made::Yes => Ok(spec),
                Made::Taken => Err(Lack::passing(&format!("the schema {name} of an earlier export to be removed"))),
                Made::Invalid(message) => Err(Lack::lasting(message)),
            });
        }
    };
    let known: BoundSchema = decode(&live)?;
    let newer = current.ok().filter(|_| follow);
    let renewal = newer.and_then(|newer| Some((schemas::renewal(&live, &known.spec, &newer)?, newer)));
    let (mut patch, spec) = match renewal {
        Some((patch, newer)) => {
            tracing::info!(export = %export, schema = name, "published schema follows the CRD");
            (patch, newer)
        }
        None if !adopted => return Ok(Ok(known.spec)),
        None => (json!({"metadata": {"resourceVersion": live["metadata"]["resourceVersion"]}}), known.spec),
    };
    if adopted {
        let mut owners = live["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
        owners.push(reference);
        patch["metadata"]["ownerReferences"] = json!(owners);
    }
    world.api.merge_patch(&kind, &key, Subresource::Main, &patch, MANAGER).await?;
    Ok(Ok(spec))
}
