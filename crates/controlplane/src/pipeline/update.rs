//! Changing an object: PUT, and what every patch ends in.

use apimachinery::apply::{UpdateOptions, track_update};
use apimachinery::status::{Reason, StatusError};
use serde_json::{Map, Value};

use super::create::{check_namespace, decode, draft, reset_fields, schema_errors, set_defaults};
use super::{ATTEMPTS, Body, Context, Outcome, Part, Target, admission, convert, metadata, store_error};
use crate::core::Core;
use crate::registry::Resource;
use crate::store::{Expect, StoredObject, Write, WriteError};

/// Who keeps account of the fields of a change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ownership {
    /// The pipeline: what changed belongs to the writer.
    Track,
    /// Already done by an apply.
    Done,
}

/// A change computed against the current object.
pub(super) struct Change {
    /// The object as it should be.
    pub object: Value,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
    pub ownership: Ownership,
}

impl Core {
    /// Replaces an object (PUT).
    pub async fn update(&self, ctx: &Context, target: &Target, body: Body) -> Result<Outcome, StatusError> {
        let mut object = body.value;
        let warnings = decode(ctx, target, &mut object, &body.duplicates)?;
        check_namespace(target, &mut object)?;
        let name = metadata::text(&object, "name").to_owned();
        if name.is_empty() {
            return Err(StatusError::bad_request(format!(
                "the name of the object ({} based on URL) was undeterminable: name must be provided",
                target.name
            )));
        }
        if name != *target.name {
            return Err(StatusError::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                target.name
            )));
        }
        if self.store.get(&target.table(), &target.key()).is_none()
            && target.part == Part::Main
            && create_on_update(&target.resource)
        {
            self.require_create(ctx, target)?;
            let mut outcome = self.create_decoded(ctx, target, object, true).await?;
            outcome.warnings.splice(0..0, warnings);
            return Ok(outcome);
        }
        self.change(ctx, target, |current| {
            let uid = metadata::text(&object, "uid");
            if !uid.is_empty() && uid != metadata::text(current, "uid") {
                return Err(target.conflict(format!(
                    "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                    metadata::text(current, "uid")
                )));
            }
            let version = metadata::text(&object, "resourceVersion");
            let unversioned = version.is_empty() || version == "0";
            if unversioned && target.part != Part::Scale && version_required(&target.resource) {
                return Err(target.unversioned());
            }
            Ok(Change { object: object.clone(), warnings: warnings.clone(), ownership: Ownership::Track })
        })
        .await
    }

    /// Computes a change against the current object and writes it; computes it again if the object changed meanwhile.
    /// A `metadata.resourceVersion` in the result is a precondition.
    pub(super) async fn change(
        &self,
        ctx: &Context,
        target: &Target,
        mut compute: impl FnMut(&Value) -> Result<Change, StatusError>,
    ) -> Result<Outcome, StatusError> {
        for _ in 0..ATTEMPTS {
            let stored = self.stored(target)?;
            let current = convert::to_request(&target.resource, &stored);
            let change = compute(&current)?;
            match self.write_change(ctx, target, &stored, &current, change).await? {
                Some(outcome) => return Ok(outcome),
                None => tokio::task::yield_now().await,
            }
        }
        Err(target.modified())
    }

    /// Writes a computed change. `None`: the object changed meanwhile, and nobody asked for a certain revision.
    pub(super) async fn write_change(
        &self,
        ctx: &Context,
        target: &Target,
        stored: &StoredObject,
        current: &Value,
        change: Change,
    ) -> Result<Option<Outcome>, StatusError> {
        let resource = &target.resource;
        let Change { mut object, warnings, ownership } = change;
        let wanted = metadata::text(&object, "resourceVersion").to_owned();
        let pinned = match wanted.as_str() {
            "" | "0" => false,
            version => match version.parse::<u64>() {
                Ok(version) if version == stored.revision => true,
                Ok(_) => return Err(target.modified()),
                Err(_) => {
                    let text = format!("strconv.ParseUint: parsing \"{version}\": invalid syntax");
                    return Err(StatusError::new(500, Reason::Unknown, text));
                }
            },
        };
        let mut errors = metadata::inherit(&mut object, current);
        metadata::of(&mut object).insert("resourceVersion".into(), stored.revision.to_string().into());
        confine(target.part, resource, current, &mut object);
        set_defaults(resource, &mut object, ownership == Ownership::Track);
        let mut admission =
            admission::Admission { core: self, ctx, target, addressed: &target.name, old: Some(current), warnings };
        admission.default(&mut object);
        if ownership == Ownership::Track {
            let options = UpdateOptions {
                manager: ctx.manager.clone(),
                subresource: target.part.as_str().to_owned(),
                now: ctx.now,
                reset: reset_fields(resource, target.part),
            };
            track_update(Some(current), &mut object, &options, &resource.schema);
        }
        admission.mutate(&mut object)?;
        raise_generation(resource, current, &mut object);
        errors.extend(metadata::validate(target, &object));
        if errors.is_empty() {
            errors.extend(schema_errors(resource, &object, Some(current)));
            errors.extend(admission.validate(&object)?);
        }
        let mut warnings = admission.warnings;
        warnings.extend(metadata::finalizer_warnings(resource, Some(current), &object));
        if !errors.is_empty() {
            return Err(target.invalid(errors));
        }
        resource.schema.drop_nulls(&mut object);

        let deleted = may_vanish(resource, current, &object);
        if !deleted && metadata::same_but_times(current, &object) {
            return Ok(Some(Outcome { object: current.clone(), created: false, deleted: false, warnings }));
        }
        if ctx.dry_run {
            return Ok(Some(Outcome { object, created: false, deleted, warnings }));
        }
        let _kept = self.compiled(resource, &object);
        let kept = self.replace(target, stored.revision, object, deleted, pinned).await?;
        Ok(kept.map(|object| Outcome { object, created: false, deleted, warnings }))
    }

    /// Writes what a changed object has become, or removes it (`gone`), if it is still at `revision`. Gives the object with
    /// its new revision; nothing when it was changed meanwhile and whoever asked did not pin a revision.
    pub(super) async fn replace(
        &self,
        target: &Target,
        revision: u64,
        mut object: Value,
        gone: bool,
        pinned: bool,
    ) -> Result<Option<Value>, StatusError> {
        let resource = &*target.resource;
        let form = convert::to_storage(resource, &object);
        let draft = draft(&form, resource)?;
        let write = Write {
            table: target.table(),
            key: target.key(),
            expect: Expect::Revision(revision),
            guard: None,
            draft,
            delete: gone,
        };
        match self.store.write(write).await {
            Ok(stored) => {
                metadata::of(&mut object).insert("resourceVersion".into(), stored.revision.to_string().into());
                Ok(Some(object))
            }
            Err(WriteError::Changed) if pinned => Err(target.modified()),
            Err(WriteError::Changed) => Ok(None),
            Err(other) => Err(store_error(other)),
        }
    }
}

/// Keeps a write inside its part: plain writes do not change `status` where it has an endpoint of its own, writes to
/// `status` change nothing else, writes to `finalize` only the namespace's finalizers.
fn confine(part: Part, resource: &Resource, current: &Value, object: &mut Value) {
    match part {
        Part::Main if resource.status => copy(current, object, "status"),
        Part::Main | Part::Scale => {}
        Part::Status => {
            let mut whole = current.clone();
            copy(object, &mut whole, "status");
            let managed = object.pointer("/metadata/managedFields").cloned();
            let metadata = metadata::of(&mut whole);
            match managed {
                Some(managed) => metadata.insert("managedFields".into(), managed),
                None => metadata.remove("managedFields"),
            };
            *object = whole;
        }
        Part::Finalize => {
            let mut whole = current.clone();
            let finalizers = object.pointer("/spec/finalizers").cloned().unwrap_or(Value::Array(Vec::new()));
            if !whole["spec"].is_object() {
                whole["spec"] = Value::Object(Map::new());
            }
            whole["spec"]["finalizers"] = finalizers;
            *object = whole;
        }
    }
}

fn copy(from: &Value, to: &mut Value, field: &str) {
    let Some(map) = to.as_object_mut() else {
        return;
    };
    match from.get(field) {
        Some(value) => map.insert(field.to_owned(), value.clone()),
        None => map.remove(field),
    };
}

/// `metadata.generation` counts the changes of what is desired: everything but metadata, and but status where status
/// has an endpoint of its own.
fn raise_generation(resource: &Resource, current: &Value, object: &mut Value) {
    if !resource.generation {
        return;
    }
    let desired = |object: &Value| {
        let mut map = object.as_object().cloned().unwrap_or_default();
        map.remove("metadata");
        if resource.status {
            map.remove("status");
        }
        map
    };
    if desired(current) != desired(object) {
        let generation = current.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0) + 1;
        metadata::of(object).insert("generation".into(), generation.into());
    }
}

/// Whether a change makes the object go: it is being deleted and its last finalizer was removed.
fn may_vanish(resource: &Resource, current: &Value, object: &Value) -> bool {
    metadata::is_deleting(current) && is_free(resource, object)
}

/// Whether nothing holds an object back from being removed.
pub(super) fn is_free(resource: &Resource, object: &Value) -> bool {
    let namespace = resource.group.is_empty() && resource.plural == "namespaces";
    let held = namespace
        && object
            .pointer("/spec/finalizers")
            .and_then(Value::as_array)
            .is_some_and(|finalizers| !finalizers.is_empty());
    metadata::finalizers(object).is_empty() && !held
}

/// Resources whose updates must say which revision they replace.
fn version_required(resource: &Resource) -> bool {
    resource.custom || matches!(resource.group.as_str(), "coordination.k8s.io" | "apiextensions.k8s.io")
}

/// Resources that a PUT may create.
fn create_on_update(resource: &Resource) -> bool {
    matches!(
        (resource.group.as_str(), resource.plural.as_str()),
        ("coordination.k8s.io", "leases") | ("" | "events.k8s.io", "events") | ("", "endpoints")
    )
}
