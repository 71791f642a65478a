//! Creating an object.

use std::sync::Arc;

use apimachinery::apply::{ResetFields, UpdateOptions, track_update};
use apimachinery::field_path::{FieldError, FieldErrorKind};
use apimachinery::status::{Cause, Reason, StatusDetails, StatusError};
use serde_json::Value;

use super::{
    Body, Context, FieldValidation, Outcome, Part, Target, admission, convert, metadata, store_error, timestamp,
};
use crate::core::Core;
use crate::registry::{Resource, crd};
use crate::request::Attributes;
use crate::store::{Draft, Expect, ObjectKey, StoredObject, TableId, Write, WriteError};

/// Characters of generated names: no vowels, nothing that looks like something else.
const NAME_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

impl Core {
    /// Creates an object (POST).
    pub async fn create(&self, ctx: &Context, target: &Target, body: Body) -> Result<Outcome, StatusError> {
        let mut object = body.value;
        let warnings = decode(ctx, target, &mut object, &body.duplicates)?;
        if !metadata::text(&object, "resourceVersion").is_empty() {
            let text = "resourceVersion should not be set on objects to be created";
            return Err(StatusError::new(500, Reason::Unknown, text));
        }
        let mut outcome = self.create_decoded(ctx, target, object, true).await?;
        outcome.warnings.splice(0..0, warnings);
        Ok(outcome)
    }

    /// An update or patch that turns out to create needs the right to create that name as well; unlike with POST, the
    /// name is known, so rules with `resourceNames` allow it.
    pub(super) fn require_create(&self, ctx: &Context, target: &Target) -> Result<(), StatusError> {
        let attributes = Attributes {
            cluster: target.cluster.to_string(),
            verb: "create".into(),
            group: target.resource.group.clone(),
            version: target.resource.version.clone(),
            resource: target.resource.plural.clone(),
            namespace: target.namespace.to_string(),
            name: target.name.to_string(),
            ..Attributes::default()
        };
        self.auth.require(self, &ctx.user, &attributes)
    }

    /// Creates from a decoded object; `track` says whether the writer gets to own the fields (an apply has seen to it).
    pub(super) async fn create_decoded(
        &self,
        ctx: &Context,
        target: &Target,
        mut object: Value,
        track: bool,
    ) -> Result<Outcome, StatusError> {
        let resource = &target.resource;
        check_namespace(target, &mut object)?;
        let generate = metadata::text(&object, "generateName").to_owned();
        let named = !metadata::text(&object, "name").is_empty();
        if !named && generate.is_empty() {
            let error = FieldError::required("metadata.name", "name or generateName is required");
            return Err(target.invalid(vec![error]));
        }
        if resource.custom {
            self.refuse_terminating_definition(target)?;
        }
        for _ in 0..8 {
            let mut object = object.clone();
            if !named {
                let name = format!("{}{}", truncate(&generate, 58), random_suffix());
                metadata::of(&mut object).insert("name".into(), name.into());
            }
            let named_target = Target { name: metadata::text(&object, "name").into(), ..target.clone() };
            match self.create_named(ctx, &named_target, object, track, &target.name).await {
                Err(error) if !named && error.reason == Reason::AlreadyExists => {}
                other => return other,
            }
        }
        Err(StatusError::generate_name_conflict(&resource.group, &resource.plural, &generate))
    }

    /// `addressed` is the name in the URL (none for a POST).
    async fn create_named(
        &self,
        ctx: &Context,
        target: &Target,
        mut object: Value,
        track: bool,
        addressed: &str,
    ) -> Result<Outcome, StatusError> {
        let resource = &target.resource;
        let meta = metadata::of(&mut object);
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion", "generation"] {
            meta.remove(field);
        }
        meta.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
        meta.insert("creationTimestamp".into(), timestamp(ctx.now).into());
        if resource.generation {
            meta.insert("generation".into(), 1.into());
        }
        if resource.status
            && let Some(map) = object.as_object_mut()
        {
            map.remove("status");
        }
        set_defaults(resource, &mut object, track);
        let mut admission =
            admission::Admission { core: self, ctx, target, addressed, old: None, warnings: Vec::new() };
        admission.default(&mut object);
        if track {
            let options = UpdateOptions {
                manager: ctx.manager.clone(),
                subresource: String::new(),
                now: ctx.now,
                reset: reset_fields(resource, Part::Main),
            };
            track_update(None, &mut object, &options, &resource.schema);
        }
        admission.mutate(&mut object)?;
        let mut errors = metadata::validate(target, &object);
        errors.extend(schema_errors(resource, &object, None));
        errors.extend(admission.validate(&object)?);
        let mut warnings = admission.warnings;
        warnings.extend(metadata::finalizer_warnings(resource, None, &object));
        if !errors.is_empty() {
            return Err(target.invalid(errors));
        }
        resource.schema.drop_nulls(&mut object);

        // The compiled schemas must live until the commit has put them into the catalogue.
        let _kept = self.compiled(resource, &object);
        let guard = self.guard(target);
        if ctx.dry_run {
            self.dry_create(target, guard)?;
            return Ok(Outcome { object, created: true, deleted: false, warnings });
        }
        let stored = convert::to_storage(resource, &object);
        let draft = draft(&stored, resource)?;
        let write = Write {
            table: target.table(),
            key: target.key(),
            expect: Expect::Absent,
            guard: guard.clone(),
            draft,
            delete: false,
        };
        match self.store.write(write).await {
            Ok(stored) => {
                metadata::of(&mut object).insert("resourceVersion".into(), stored.revision.to_string().into());
                Ok(Outcome { object, created: true, deleted: false, warnings })
            }
            Err(WriteError::Exists) => {
                Err(StatusError::already_exists(&resource.group, &resource.plural, &target.name))
            }
            Err(WriteError::Guard) => Err(self.guard_error(target)),
            Err(other) => Err(store_error(other)),
        }
    }

    /// The descriptors of a definition that is about to be written; nothing for other objects.
    pub(super) fn compiled(&self, resource: &Resource, object: &Value) -> Vec<Arc<Resource>> {
        match resource.group == crd::GROUP && resource.plural == crd::PLURAL {
            true => self.clusters.interner.resources(object),
            false => Vec::new(),
        }
    }

    /// The namespace that must exist for an object to be created in it.
    fn guard(&self, target: &Target) -> Option<(TableId, ObjectKey)> {
        let namespace = &*target.namespace;
        (!namespace.is_empty()).then(|| namespace_key(&target.cluster, namespace))
    }

    fn dry_create(&self, target: &Target, guard: Option<(TableId, ObjectKey)>) -> Result<(), StatusError> {
        if self.store.get(&target.table(), &target.key()).is_some() {
            let resource = &target.resource;
            return Err(StatusError::already_exists(&resource.group, &resource.plural, &target.name));
        }
        match guard.map(|(table, key)| self.store.get(&table, &key)) {
            None => Ok(()),
            Some(Some(namespace)) if !namespace.deleting => Ok(()),
            Some(_) => Err(self.guard_error(target)),
        }
    }

    fn guard_error(&self, target: &Target) -> StatusError {
        let (table, key) = namespace_key(&target.cluster, &target.namespace);
        match self.store.get(&table, &key) {
            None => StatusError::not_found("", "namespaces", &target.namespace),
            Some(namespace) => namespace_terminating(target, &namespace),
        }
    }

    /// Objects of a CustomResourceDefinition that is being deleted cannot be created.
    fn refuse_terminating_definition(&self, target: &Target) -> Result<(), StatusError> {
        let name = target.resource.qualified();
        let definition =
            self.store.get(&TableId::new(crd::GROUP, crd::PLURAL), &ObjectKey::new(&target.cluster, "", &name));
        match definition.is_some_and(|d| d.deleting) {
            true => Err(StatusError::new(
                405,
                Reason::MethodNotAllowed,
                "create not allowed while custom resource definition is terminating",
            )),
            false => Ok(()),
        }
    }
}

/// The most an object may be, as JSON: what a request to etcd may hold.
const SIZE_LIMIT: usize = 1536 * 1024;

/// The stored form of an object, unless it is too large for one.
pub(super) fn draft(form: &Value, resource: &Resource) -> Result<Draft, StatusError> {
    let draft = Draft::new(form, convert::schema_mark(resource)).map_err(StatusError::internal)?;
    match draft.size() > SIZE_LIMIT {
        true => Err(StatusError::new(500, Reason::Unknown, "etcdserver: request is too large")),
        false => Ok(draft),
    }
}

pub(crate) fn namespace_key(cluster: &str, namespace: &str) -> (TableId, ObjectKey) {
    (TableId::new("", "namespaces"), ObjectKey::new(cluster, "", namespace))
}

fn namespace_terminating(target: &Target, namespace: &StoredObject) -> StatusError {
    let namespace = &namespace.key.name;
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let resource = &target.resource;
    let mut error = StatusError::forbidden(&resource.group, &resource.plural, &target.name, why);
    error.details.get_or_insert_with(|| Box::new(StatusDetails::default())).causes.push(Cause::new(
        "NamespaceTerminating",
        "metadata.namespace",
        format!("namespace {namespace} is being terminated"),
    ));
    error
}

/// Checks type and shape of a decoded body; drops what the schema does not know. Returns warnings.
pub(super) fn decode(
    ctx: &Context,
    target: &Target,
    object: &mut Value,
    duplicates: &[String],
) -> Result<Vec<String>, StatusError> {
    check_type(target, object)?;
    crate::registry::builtin::prepare::drop_nulls(&target.resource, object);
    let mut unknown = metadata::coerce(object)?;
    unknown.extend(target.resource.schema.prune(object));
    field_warnings(ctx, target, object, &unknown, duplicates)
}

/// Fills in defaults. What a body says of nulls has been seen to when it was `decoded`; the nulls that server-side apply
/// leaves are kept for validation, which refuses them, except for built-in kinds.
pub(super) fn set_defaults(resource: &Resource, object: &mut Value, decoded: bool) {
    if decoded {
        resource.schema.apply_defaults(object);
    } else if resource.custom {
        resource.schema.prune(object);
        resource.schema.fill_defaults(object);
    } else {
        crate::registry::builtin::prepare::drop_nulls(resource, object);
        resource.schema.apply_defaults(object);
    }
}

/// What the schema finds wrong. What `metadata` itself must look like has been looked at by `metadata::validate`.
pub(super) fn schema_errors(resource: &Resource, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = resource.schema.validate(object, old);
    errors.retain(|e| e.kind != FieldErrorKind::Required || !e.field.starts_with("metadata.ownerReferences["));
    errors
}

/// What unknown and duplicate fields lead to.
pub(super) fn field_warnings(
    ctx: &Context,
    target: &Target,
    object: &Value,
    unknown: &[String],
    duplicates: &[String],
) -> Result<Vec<String>, StatusError> {
    let mut found: Vec<String> = duplicates.iter().map(|path| format!("duplicate field \"{path}\"")).collect();
    found.extend(unknown.iter().map(|path| format!("unknown field \"{path}\"")));
    match ctx.validation {
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => Ok(found),
        FieldValidation::Strict if found.is_empty() => Ok(found),
        FieldValidation::Strict => {
            let kind = &target.resource.kind;
            let version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
            let version = version.rsplit('/').next().unwrap_or_default();
            Err(StatusError::bad_request(format!(
                "{kind} in version \"{version}\" cannot be handled as a {kind}: strict decoding error: {}",
                found.join(", ")
            )))
        }
    }
}

/// `apiVersion` and `kind` must be those of the URL; built-in kinds may leave them out.
fn check_type(target: &Target, object: &mut Value) -> Result<(), StatusError> {
    let resource = &target.resource;
    if !object.is_object() {
        return Err(StatusError::bad_request("the request body is not a JSON object"));
    }
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let shown = || {
        let shown = object.to_string();
        if shown.len() > 200 { format!("{}...", truncate(&shown, 200)) } else { shown }
    };
    if resource.custom {
        if kind.is_empty() {
            return Err(StatusError::bad_request(format!("Object 'Kind' is missing in '{}'", shown())));
        }
        if api_version.is_empty() {
            return Err(StatusError::bad_request(format!("Object 'apiVersion' is missing in '{}'", shown())));
        }
    }
    let wanted = resource.api_version();
    if !kind.is_empty() && kind != resource.kind {
        if resource.custom {
            let error = FieldError::invalid("kind", kind.as_str(), format!("must be {}", resource.kind));
            let name = metadata::text(object, "name");
            return Err(StatusError::invalid(&resource.group, &kind, name, vec![super::cause(&error)]));
        }
        let version = api_version.rsplit('/').next().unwrap_or_default();
        return Err(StatusError::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {0}: converting ({version}.{kind}) to \
             ({0}): unknown conversion",
            resource.kind
        )));
    }
    if !api_version.is_empty() && api_version != wanted {
        return Err(StatusError::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({wanted})"
        )));
    }
    object["apiVersion"] = wanted.into();
    object["kind"] = resource.kind.clone().into();
    Ok(())
}

/// The namespace of the URL and of the object must agree.
pub(super) fn check_namespace(target: &Target, object: &mut Value) -> Result<(), StatusError> {
    let given = metadata::text(object, "namespace").to_owned();
    let wanted = &*target.namespace;
    if given.is_empty() && !wanted.is_empty() {
        metadata::of(object).insert("namespace".into(), wanted.into());
    } else if wanted.is_empty() && !given.is_empty() && !target.resource.namespaced {
        metadata::of(object).remove("namespace");
    } else if given != wanted {
        let text = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(StatusError::bad_request(text));
    }
    Ok(())
}

/// The fields a write to this part never owns.
pub(super) fn reset_fields(resource: &Resource, part: Part) -> ResetFields {
    match part {
        Part::Main if resource.status => ResetFields::Status,
        Part::Status => ResetFields::AllButStatus,
        _ => ResetFields::None,
    }
}

fn truncate(text: &str, limit: usize) -> &str {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn random_suffix() -> String {
    let bytes: [u8; 5] = rand::random();
    bytes.iter().map(|b| char::from(NAME_ALPHABET[usize::from(*b) % NAME_ALPHABET.len()])).collect()
}
