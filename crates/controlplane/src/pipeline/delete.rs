//! Deleting: mark an object, or remove it where nothing holds it.

use apimachinery::status::StatusError;
use serde_json::{Value, json};

use super::update::is_free;
use super::{ATTEMPTS, Context, Target, admission, convert, metadata, timestamp};
use crate::core::Core;
use crate::registry::crd;

/// What becomes of objects that have the deleted one as their owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They are deleted afterwards.
    Background,
    /// They are deleted before.
    Foreground,
    /// They stay.
    Orphan,
}

/// `metav1.DeleteOptions`, as far as it matters here (there are no pods to be stopped gracefully).
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// The object must have this UID.
    pub uid: Option<String>,
    /// The object must be at this revision.
    pub resource_version: Option<String>,
    /// `None`: the object's own finalizers decide, else background.
    pub propagation: Option<Propagation>,
}

impl DeleteOptions {
    /// Reads the JSON form; both `propagationPolicy` and the old `orphanDependents` are understood.
    pub fn from_json(value: &Value) -> Result<Self, StatusError> {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let orphan = value.get("orphanDependents").and_then(Value::as_bool);
        let propagation = Propagation::choose(text("/propagationPolicy").as_deref(), orphan)?;
        Ok(Self {
            uid: text("/preconditions/uid"),
            resource_version: text("/preconditions/resourceVersion"),
            propagation,
        })
    }
}

impl Propagation {
    /// The policy, by its name or by the old `orphanDependents`; not both.
    pub fn choose(policy: Option<&str>, orphan: Option<bool>) -> Result<Option<Self>, StatusError> {
        match (policy, orphan) {
            (Some(policy), Some(_)) => {
                let detail = "orphanDependents and deletionPropagation cannot be both set";
                let error = apimachinery::field_path::FieldError::invalid("propagationPolicy", policy, detail);
                Err(StatusError::invalid("meta.k8s.io", "DeleteOptions", "", vec![super::cause(&error)]))
            }
            (Some(policy), None) => Self::parse(policy).map(Some),
            (None, Some(true)) => Ok(Some(Self::Orphan)),
            (None, Some(false)) => Ok(Some(Self::Background)),
            (None, None) => Ok(None),
        }
    }

    /// The name of a policy.
    pub fn parse(policy: &str) -> Result<Self, StatusError> {
        match policy {
            "Background" => Ok(Self::Background),
            "Foreground" => Ok(Self::Foreground),
            "Orphan" => Ok(Self::Orphan),
            other => {
                let supported = ["Foreground", "Background", "Orphan", "nil"];
                let error = apimachinery::field_path::FieldError::not_supported("propagationPolicy", other, &supported);
                Err(StatusError::invalid("meta.k8s.io", "DeleteOptions", "", vec![super::cause(&error)]))
            }
        }
    }
}

/// What a delete led to.
#[derive(Clone, Debug)]
pub struct Deleted {
    /// The object, in the version of the request: its last state, or the one now marked.
    pub object: Value,
    /// Whether it is gone; otherwise finalizers hold it.
    pub gone: bool,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
}

impl Core {
    /// Deletes an object.
    pub async fn delete(
        &self,
        ctx: &Context,
        target: &Target,
        options: &DeleteOptions,
    ) -> Result<Deleted, StatusError> {
        for _ in 0..ATTEMPTS {
            if let Some(deleted) = self.try_delete(ctx, target, options).await? {
                return Ok(deleted);
            }
            tokio::task::yield_now().await;
        }
        Err(target.modified())
    }

    async fn try_delete(
        &self,
        ctx: &Context,
        target: &Target,
        options: &DeleteOptions,
    ) -> Result<Option<Deleted>, StatusError> {
        let resource = &target.resource;
        let stored = self.stored(target)?;
        let outdated = |why: String| StatusError::conflict(&resource.group, &resource.kind, &target.name, why);
        if let Some(uid) = options.uid.as_ref().filter(|uid| ***uid != *stored.uid) {
            return Err(outdated(format!(
                "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have \
                 been deleted and then recreated",
                stored.uid
            )));
        }
        if let Some(version) = options.resource_version.as_ref().filter(|v| **v != stored.revision.to_string()) {
            return Err(outdated(format!(
                "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record \
                 ({}). The object might have been modified",
                stored.revision
            )));
        }
        let current = convert::to_request(resource, &stored);
        let mut object = current.clone();
        let mut admission = admission::Admission {
            core: self,
            ctx,
            target,
            addressed: &target.name,
            old: Some(&current),
            warnings: Vec::new(),
        };
        admission.delete(&object)?;
        let warnings = admission.warnings;

        set_finalizers(&mut object, options.propagation, self.cleans_up(target));
        let gone = is_free(resource, &object);
        if !gone && !metadata::is_deleting(&object) {
            let generation = object.pointer("/metadata/generation").and_then(Value::as_i64);
            let special = self.cleans_up(target) || (resource.group.is_empty() && resource.plural == "namespaces");
            let meta = metadata::of(&mut object);
            meta.insert("deletionTimestamp".into(), timestamp(ctx.now).into());
            // Namespaces and definitions have their own way of going.
            if !special {
                meta.insert("deletionGracePeriodSeconds".into(), 0.into());
                if let Some(generation) = generation {
                    meta.insert("generation".into(), (generation + 1).into());
                }
            }
            self.mark(target, ctx, &mut object);
        }
        if ctx.dry_run || (!gone && metadata::same_but_times(&current, &object)) {
            return Ok(Some(Deleted { object, gone, warnings }));
        }
        let pinned = options.resource_version.is_some();
        let kept = self.replace(target, stored.revision, object, gone, pinned).await?;
        Ok(kept.map(|object| Deleted { object, gone, warnings }))
    }

    /// What a kind shows once its deletion has begun.
    fn mark(&self, target: &Target, ctx: &Context, object: &mut Value) {
        match (target.resource.group.as_str(), target.resource.plural.as_str()) {
            ("", "namespaces") => {
                if !object["status"].is_object() {
                    object["status"] = json!({});
                }
                object["status"]["phase"] = "Terminating".into();
            }
            (crd::GROUP, crd::PLURAL) => {
                let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
                crd::set_condition(
                    object,
                    "Terminating",
                    true,
                    "InstanceDeletionPending",
                    message,
                    &timestamp(ctx.now),
                );
            }
            _ => {}
        }
    }

    /// Whether objects of this resource hold back their deletion until what belongs to them is gone, whatever the
    /// propagation policy says.
    fn cleans_up(&self, target: &Target) -> bool {
        target.resource.group == crd::GROUP && target.resource.plural == crd::PLURAL
    }
}

/// The finalizers that stand for a propagation policy.
fn set_finalizers(object: &mut Value, propagation: Option<Propagation>, cleanup: bool) {
    let mut finalizers = metadata::finalizers(object);
    let before = finalizers.clone();
    if let Some(propagation) = propagation {
        finalizers.retain(|f| f != "orphan" && f != "foregroundDeletion");
        match propagation {
            Propagation::Background => {}
            Propagation::Foreground => finalizers.push("foregroundDeletion".to_owned()),
            Propagation::Orphan => finalizers.push("orphan".to_owned()),
        }
    }
    if cleanup && !metadata::is_deleting(object) && !finalizers.iter().any(|f| f == crd::CLEANUP_FINALIZER) {
        finalizers.push(crd::CLEANUP_FINALIZER.to_owned());
    }
    if finalizers != before {
        metadata::of(object).insert("finalizers".into(), json!(finalizers));
    }
}
