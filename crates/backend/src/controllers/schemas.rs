//! BoundSchemas: what stands at a schema's name in a contract, and whose it is.
//!
//! In: the name of a kind's BoundSchema. Out: whether it is free, held by an export, nobody's, or on its way out. An API
//! server collects a BoundSchema some time after its export is gone, so a controller reference says whose it was, not whose
//! it is: only an export of that name *and* uid that is there and stays holds it. Called by [`super::request`] before it
//! publishes, and by [`super::export`] to keep what it has published.

use kube_bind_api::constants::{ANNOTATION_SCHEMA_REVISION, ANNOTATION_SOURCE_SPEC_HASH};
use kube_bind_api::{APIServiceExport, BoundSchema, BoundSchemaSpec};
use kube_client::{Class, ObjectKey};
use serde_json::{Value, json};

use super::{Trouble, World};
use crate::resources;

/// What is at a schema's name.
pub(super) enum Place {
    /// Nothing.
    Free,
    /// A schema without an export: its request was not granted to the end, or somebody took the export away and left it.
    Nobodys(Value),
    /// That of an export which stays.
    Held {
        /// The export's name.
        export: String,
        /// The schema.
        live: Value,
    },
    /// That of an export which is gone: garbage that the API server has not collected yet.
    Stale(Value),
    /// It goes, and its export with it or before it; what is waited for, in words.
    Ending(String),
}

/// Looks.
///
/// # Errors
/// [`Trouble`]; tried again.
pub(super) async fn place(world: &World, key: &ObjectKey) -> Result<Place, Trouble> {
    let Some(live) = world.api.get_opt(&resources::of::<BoundSchema>(), key).await? else { return Ok(Place::Free) };
    if live["metadata"]["deletionTimestamp"].is_string() {
        return Ok(Place::Ending(format!("the schema {} of an earlier export to be removed", key.name)));
    }
    let Some((name, uid)) = controller(&live) else { return Ok(Place::Nobodys(live)) };
    let owner = ObjectKey::new(&key.namespace, name);
    let owner = world.api.get_opt(&resources::of::<APIServiceExport>(), &owner).await?;
    Ok(match owner.filter(|owner| owner["metadata"]["uid"] == uid) {
        None => Place::Stale(live),
        Some(owner) if owner["metadata"]["deletionTimestamp"].is_string() => {
            Place::Ending(format!("the export {name}, which has {} now, to be removed", key.name))
        }
        Some(_) => Place::Held { export: name.to_owned(), live },
    })
}

/// Deletes a schema whose export is gone, as the API server's garbage collector would.
///
/// # Errors
/// [`Trouble`]; tried again.
pub(super) async fn clear(world: &World, key: &ObjectKey, stale: &Value) -> Result<(), Trouble> {
    let uid = stale["metadata"]["uid"].as_str().unwrap_or_default();
    tracing::info!(schema = %key, "schema of an export that is gone removed");
    Ok(world.api.delete(&resources::of::<BoundSchema>(), key, uid).await?)
}

/// What became of a new schema.
pub(super) enum Made {
    /// It is there.
    Yes,
    /// Something is at its name, not seen before: look again.
    Taken,
    /// The API server does not take it.
    Invalid(String),
}

/// Publishes a schema; `owner` is the reference to its export, if that is there already.
///
/// # Errors
/// [`Trouble`]; tried again.
pub(super) async fn make(
    world: &World,
    contract: &str,
    spec: &BoundSchemaSpec,
    owner: Option<Value>,
) -> Result<Made, Trouble> {
    let schema = contract::schema::bound_schema(contract, spec.clone());
    let mut body = serde_json::to_value(&schema).unwrap_or_default();
    if let Some(owner) = owner {
        body["metadata"]["ownerReferences"] = json!([owner]);
    }
    match world.api.create(&resources::of::<BoundSchema>(), Some(contract), &body).await {
        Ok(_) => Ok(Made::Yes),
        Err(err) if err.class == Class::Invalid => Ok(Made::Invalid(err.to_string())),
        Err(err) if err.class == Class::AlreadyExists => Ok(Made::Taken),
        Err(err) => Err(err.into()),
    }
}

/// The patch that turns the published form into `newer`; `None` if it is that.
pub(super) fn renewal(live: &Value, published: &BoundSchemaSpec, newer: &BoundSchemaSpec) -> Option<Value> {
    if contract::schema::source_spec_hash(newer) == contract::schema::source_spec_hash(published) {
        return None;
    }
    // `versions` is replaced whole; fields that are gone from the new form must go too.
    let mut spec = serde_json::to_value(newer).unwrap_or_default();
    for field in live["spec"].as_object().into_iter().flatten().map(|(field, _)| field) {
        if spec.get(field).is_none() {
            spec[field] = Value::Null;
        }
    }
    Some(json!({
        "metadata": {
            "resourceVersion": live["metadata"]["resourceVersion"],
            "annotations": {
                ANNOTATION_SOURCE_SPEC_HASH: contract::schema::source_spec_hash(newer),
                ANNOTATION_SCHEMA_REVISION: contract::schema::revision(newer),
            },
        },
        "spec": spec,
    }))
}

/// Name and uid of the export that controls a BoundSchema.
fn controller(object: &Value) -> Option<(&str, &str)> {
    object["metadata"]["ownerReferences"]
        .as_array()?
        .iter()
        .find(|owner| owner["controller"] == json!(true) && owner["kind"] == "APIServiceExport")
        .and_then(|owner| Some((owner["name"].as_str()?, owner["uid"].as_str()?)))
}
