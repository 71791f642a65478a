//! Patches: JSON, merge, strategic merge, server-side apply.

use apimachinery::apply::{ApplyError, ApplyOptions, apply};
use apimachinery::field_path::FieldError;
use apimachinery::patch::{json_patch, merge_patch, strategic_merge_patch};
use apimachinery::status::{Cause, Reason, StatusError};
use serde_json::Value;

use super::create::{check_namespace, field_warnings, reset_fields};
use super::update::{Change, Ownership};
use super::{ATTEMPTS, Body, Context, Outcome, Part, Target, convert, metadata, scale};
use crate::core::Core;

/// The formats of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// `application/json-patch+json` (RFC 6902, with evanphx' reading of `test`).
    Json,
    /// `application/merge-patch+json` (RFC 7386).
    Merge,
    /// `application/strategic-merge-patch+json`; built-in kinds only.
    Strategic,
    /// `application/apply-patch+yaml`: server-side apply.
    Apply {
        /// Take over fields of other managers.
        force: bool,
    },
}

/// A patch.
#[derive(Clone, Debug)]
pub struct Patch {
    /// Its format.
    pub kind: PatchKind,
    /// Its content.
    pub body: Body,
}

impl Core {
    /// Patches an object.
    pub async fn patch(&self, ctx: &Context, target: &Target, patch: Patch) -> Result<Outcome, StatusError> {
        let Patch { kind, body } = patch;
        match kind {
            PatchKind::Apply { force } => self.apply(ctx, target, body, force).await,
            PatchKind::Strategic if target.resource.custom => Err(StatusError::unsupported_media_type(&[
                "application/json-patch+json",
                "application/merge-patch+json",
                "application/apply-patch+yaml",
            ])),
            _ => {
                self.change(ctx, target, |current| {
                    let mut object = patched(kind, &body.value, current, target)?;
                    let warnings = decode_patched(ctx, target, current, &mut object, &body.duplicates)?;
                    Ok(Change { object, warnings, ownership: Ownership::Track })
                })
                .await
            }
        }
    }

    /// Server-side apply. With `metadata.resourceVersion` it only creates or changes that very revision; with
    /// `metadata.uid` it only changes that very object.
    async fn apply(&self, ctx: &Context, target: &Target, body: Body, force: bool) -> Result<Outcome, StatusError> {
        if ctx.manager.is_empty() {
            let error = FieldError::required("fieldManager", "is required for apply patch");
            return Err(StatusError::invalid("meta.k8s.io", "PatchOptions", "", vec![super::cause(&error)]));
        }
        let mut config = body.value;
        if target.part == Part::Scale {
            return self.apply_scale(ctx, target, config, force).await;
        }
        check_config(target, &mut config)?;
        let warnings = field_warnings(ctx, target, &config, &[], &body.duplicates)?;
        let version = metadata::text(&config, "resourceVersion").to_owned();
        let uid = metadata::text(&config, "uid").to_owned();
        for _ in 0..ATTEMPTS {
            let Some(stored) = self.store.get(&target.table(), &target.key()) else {
                if target.part != Part::Main {
                    return Err(target.not_found());
                }
                if !uid.is_empty() {
                    return Err(target.conflict(format!(
                        "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                    )));
                }
                let object = self.applied(ctx, target, None, &config, force)?;
                self.require_create(ctx, target)?;
                match self.create_decoded(ctx, target, object, false).await {
                    Ok(mut outcome) => {
                        outcome.warnings.splice(0..0, warnings);
                        return Ok(outcome);
                    }
                    // Somebody was faster: now it is an update, which a resourceVersion forbids.
                    Err(error) if error.reason == Reason::AlreadyExists && version.is_empty() => {
                        continue;
                    }
                    Err(error) if error.reason == Reason::AlreadyExists => {
                        return Err(target.modified());
                    }
                    Err(error) => return Err(error),
                }
            };
            if !version.is_empty() && version != "0" && version != stored.revision.to_string() {
                return Err(target.modified());
            }
            let current = convert::to_request(&target.resource, &stored);
            let mut object = self.applied(ctx, target, Some(&current), &config, force)?;
            let meta = metadata::of(&mut object);
            match version.as_str() {
                "" | "0" => meta.remove("resourceVersion"),
                version => meta.insert("resourceVersion".into(), version.into()),
            };
            if !uid.is_empty() {
                meta.insert("uid".into(), uid.clone().into());
            }
            let change = Change { object, warnings: warnings.clone(), ownership: Ownership::Done };
            match self.write_change(ctx, target, &stored, &current, change).await {
                Ok(Some(outcome)) => return Ok(outcome),
                Ok(None) => tokio::task::yield_now().await,
                Err(error) => return Err(error),
            }
        }
        Err(target.modified())
    }

    fn applied(
        &self,
        ctx: &Context,
        target: &Target,
        live: Option<&Value>,
        config: &Value,
        force: bool,
    ) -> Result<Value, StatusError> {
        let mut config = config.clone();
        let meta = metadata::of(&mut config);
        for field in ["resourceVersion", "uid", "creationTimestamp", "generation"] {
            meta.remove(field);
        }
        let options = ApplyOptions {
            manager: ctx.manager.clone(),
            force,
            subresource: target.part.as_str().to_owned(),
            now: ctx.now,
            reset: reset_fields(&target.resource, target.part),
        };
        apply(live, &config, &options, &target.resource.schema).map_err(apply_error)
    }

    async fn apply_scale(
        &self,
        ctx: &Context,
        target: &Target,
        config: Value,
        force: bool,
    ) -> Result<Outcome, StatusError> {
        let Some(paths) = &target.resource.scale else {
            return Err(StatusError::no_such_resource());
        };
        let stored = self.stored(target)?;
        let current = convert::to_request(&target.resource, &stored);
        let identity = serde_json::json!({"apiVersion": current["apiVersion"], "kind": current["kind"],
            "metadata": {"name": metadata::text(&current, "name"), "namespace": metadata::text(&current, "namespace")}});
        let mut partial = identity;
        if let Some(replicas) = config.pointer("/spec/replicas") {
            scale::set(&mut partial, &paths.spec_replicas, replicas.clone());
        }
        let mut object = self.applied(ctx, target, Some(&current), &partial, force)?;
        metadata::of(&mut object).remove("resourceVersion");
        let change = Change { object, warnings: Vec::new(), ownership: Ownership::Done };
        let written = self.write_change(ctx, target, &stored, &current, change).await?;
        written.ok_or_else(|| target.modified())
    }
}

fn apply_error(error: ApplyError) -> StatusError {
    match &error {
        ApplyError::Conflicts(conflicts) => {
            let causes = conflicts
                .iter()
                .map(|c| Cause::new("FieldManagerConflict", c.path.clone(), format!("conflict with {}", c.manager)))
                .collect();
            StatusError::apply_conflict(causes, error.to_string())
        }
        ApplyError::Typed { .. } => StatusError::new(500, Reason::Unknown, error.to_string()),
        ApplyError::BadRequest(text) => StatusError::bad_request(text.clone()),
    }
}

fn patched(kind: PatchKind, patch: &Value, current: &Value, target: &Target) -> Result<Value, StatusError> {
    // A patch of /scale is a patch of the Scale that a GET shows.
    let scaled = match (target.part, &target.resource.scale) {
        (Part::Scale, Some(paths)) => Some((scale::of(current, paths), paths)),
        (Part::Scale, None) => return Err(StatusError::no_such_resource()),
        _ => None,
    };
    let base = scaled.as_ref().map_or(current, |(scale, _)| scale);
    let object = match kind {
        PatchKind::Json => json_patch(base, patch)?,
        PatchKind::Merge if !patch.is_object() => {
            return Err(StatusError::bad_request("a merge patch must be a JSON object"));
        }
        PatchKind::Merge => merge_patch(base, patch),
        PatchKind::Strategic | PatchKind::Apply { .. } => strategic_merge_patch(base, patch, &target.resource.schema)?,
    };
    match scaled {
        None => Ok(object),
        Some((_, paths)) => {
            let mut whole = current.clone();
            let replicas = object.pointer("/spec/replicas").cloned().unwrap_or(Value::from(0));
            let version = metadata::text(&object, "resourceVersion").to_owned();
            scale::set(&mut whole, &paths.spec_replicas, replicas);
            metadata::of(&mut whole).insert("resourceVersion".into(), version.into());
            Ok(whole)
        }
    }
}

fn decode_patched(
    ctx: &Context,
    target: &Target,
    current: &Value,
    object: &mut Value,
    duplicates: &[String],
) -> Result<Vec<String>, StatusError> {
    if metadata::text(object, "name") != metadata::text(current, "name") {
        return Err(StatusError::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            metadata::text(object, "name"),
            target.name
        )));
    }
    check_namespace(target, object)?;
    // A revision that the patch did not name is no precondition.
    if metadata::text(object, "resourceVersion") == metadata::text(current, "resourceVersion") {
        metadata::of(object).remove("resourceVersion");
    }
    super::create::decode(ctx, target, object, duplicates)
}

/// Type and name of an apply configuration must be those of the URL.
fn check_config(target: &Target, config: &mut Value) -> Result<(), StatusError> {
    if !config.is_object() {
        return Err(StatusError::bad_request("an apply configuration must be an object"));
    }
    let text = |field: &str| config.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let wanted = target.resource.api_version();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if kind.is_empty() || api_version != wanted {
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        return Err(StatusError::bad_request(format!(
            "invalid object type: {group}/{version}, Kind={kind} (expected {wanted}, Kind={})",
            target.resource.kind
        )));
    }
    if kind != target.resource.kind {
        return Err(StatusError::bad_request(format!(
            "the kind in the apply configuration ({kind}) does not match the kind of the resource ({})",
            target.resource.kind
        )));
    }
    metadata::coerce(config)?;
    // On a copy: the namespace of the URL is nothing the client has said.
    check_namespace(target, &mut config.clone())?;
    let name = metadata::text(config, "name").to_owned();
    if name.is_empty() {
        metadata::of(config).insert("name".into(), target.name.as_ref().into());
    } else if name != *target.name {
        return Err(StatusError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            target.name
        )));
    }
    Ok(())
}
