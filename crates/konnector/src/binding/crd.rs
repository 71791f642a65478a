//! The bound CRD at the consumer. In: the provider's published schema. Out: a CRD that carries our label and no owner
//! reference, created only where nothing is, updated only where it is ours and differs, and nothing foreign ever touched.

use contract::schema::{CrdOwner, SchemaError};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube_bind_api::{
    APIServiceBinding, BoundSchemaSpec,
    constants::{FIELD_MANAGER, reason},
};
use kube_client::{Api, ApiError, Class, ObjectKey, Subresource};
use serde_json::{Value, json};

use super::{Problem, uid_of};
use crate::{
    resources::{self, MANAGER},
    sync::{body::owned_digest, digest::Digest, fields},
};

/// Our last write of a CRD: what we meant and what the API server made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    uid: String,
    meant: Digest,
    result: Option<Digest>,
}

/// How it went.
pub enum Ensured {
    /// There, ours and as published (perhaps not served yet).
    Ready {
        /// As the API server has it.
        crd: Value,
        /// To be remembered.
        written: Written,
        /// Somebody had changed it since we wrote the same; it was put back.
        reverted: bool,
    },
    /// Cannot be, for this reason.
    Refused(Problem),
    /// It is being deleted in the consumer cluster.
    Terminating,
}

/// Makes the CRD what the provider publishes.
pub async fn ensure(
    api: &Api,
    binding: &APIServiceBinding,
    schema: &BoundSchemaSpec,
    known: Option<Written>,
) -> Result<Ensured, ApiError> {
    let name = binding.metadata.name.as_deref().unwrap_or_default();
    let uid = uid_of(binding);
    let wanted = match contract::schema::consumer_crd(schema, name, Some(uid)) {
        Ok(crd) => crd,
        Err(error) => return Ok(Ensured::Refused(refused(&error))),
    };
    let mut body = serde_json::to_value(&wanted).unwrap_or_default();
    body["apiVersion"] = json!("apiextensions.k8s.io/v1");
    body["kind"] = json!("CustomResourceDefinition");
    let key = ObjectKey::cluster(&format!("{}.{}", schema.names.plural, schema.group));
    let meant = owned_digest(&body);
    let Some(live) = api.get_opt(&resources::crds(), &key).await? else {
        return match api.apply_create_only(&resources::crds(), &key, &body, MANAGER).await {
            Ok(made) => {
                tracing::info!(crd = %key, binding = name, "CRD created");
                Ok(ready(made, meant, false))
            }
            Err(error) => refuse_or_fail(error, reason::CRD_CREATE_FAILED),
        };
    };
    let existing: CustomResourceDefinition = match serde_json::from_value(live.clone()) {
        Ok(existing) => existing,
        Err(error) => {
            return Ok(Ensured::Refused(Problem::error(
                reason::CRD_UPDATE_FAILED,
                &format!("CustomResourceDefinition {key} in this cluster cannot be read: {error}"),
            )));
        }
    };
    let owner = contract::schema::crd_owner(&existing, name, Some(uid));
    if let Some(problem) = foreign(&owner, &key.name) {
        return Ok(Ensured::Refused(problem));
    }
    if existing.metadata.deletion_timestamp.is_some() {
        return Ok(Ensured::Terminating);
    }
    let live_uid = existing.metadata.uid.clone().unwrap_or_default();
    let strip = owner == CrdOwner::OursByReference;
    let owned = fields::owned(&live, FIELD_MANAGER, None).map(|o| owned_digest(&o));
    let same = owned == Some(meant)
        || known.as_ref().is_some_and(|w| w.uid == live_uid && w.meant == meant && w.result == owned);
    if same && !strip {
        return Ok(ready(live, meant, false));
    }
    let reverted = !strip && known.is_some_and(|w| w.uid == live_uid && w.meant == meant);
    if strip {
        // An owner reference would let the garbage collector delete every object of the kind with the binding.
        let patch = json!({"metadata": {"uid": live_uid, "ownerReferences": null}});
        api.merge_patch(&resources::crds(), &key, Subresource::Main, &patch, MANAGER).await?;
    }
    match api.apply_update_only(&resources::crds(), &key, &body, &live_uid, MANAGER).await {
        Ok(made) => {
            tracing::info!(crd = %key, binding = name, reverted, "CRD brought up to date");
            Ok(ready(made, meant, reverted))
        }
        Err(error) => refuse_or_fail(error, reason::CRD_UPDATE_FAILED),
    }
}

fn ready(crd: Value, meant: Digest, reverted: bool) -> Ensured {
    let uid = crd["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let result = fields::owned(&crd, FIELD_MANAGER, None).map(|o| owned_digest(&o));
    Ensured::Ready { crd, written: Written { uid, meant, result }, reverted }
}

/// Why the kind is not served yet, from the CRD's own conditions.
pub fn why_not_served(name: &str, crd: &Value) -> String {
    let conditions = crd["status"]["conditions"].as_array();
    let refused = conditions.into_iter().flatten().find(|c| c["type"] == "NamesAccepted" && c["status"] == "False");
    match refused.and_then(|c| c["message"].as_str()) {
        Some(message) => format!("the API server does not accept the names of {name}: {message}"),
        None => format!("the API server does not serve {name} yet"),
    }
}

/// Whether the CRD belongs to somebody else, and what to say then.
pub fn foreign(owner: &CrdOwner, crd: &str) -> Option<Problem> {
    let message = match owner {
        CrdOwner::Ours | CrdOwner::OursByReference => return None,
        CrdOwner::OtherBinding(other) => format!(
            "{crd} is already bound in this cluster by the APIServiceBinding {other:?}: unbind that one first \
             (kubectl bind unbind {other})"
        ),
        CrdOwner::Foreign => format!(
            "this cluster already has a CustomResourceDefinition {crd} that was not made by a binding; it is left \
             alone: remove it if it is not needed, then the binding goes on by itself"
        ),
    };
    Some(Problem::error(reason::FOREIGN_CRD, &message))
}

fn refused(error: &SchemaError) -> Problem {
    Problem::error(reason::CRD_CREATE_FAILED, &format!("the provider's schema cannot be installed: {error}"))
}

fn refuse_or_fail(error: ApiError, reason: &str) -> Result<Ensured, ApiError> {
    match error.class {
        Class::Invalid | Class::Forbidden => Ok(Ensured::Refused(Problem::error(
            reason,
            &format!("the consumer's API server refuses the CustomResourceDefinition: {error}"),
        ))),
        _ => Err(error),
    }
}
