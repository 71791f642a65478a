//! What happens to an object between the request and the store.
//!
//! ```text
//!  create  decode ► metadata ► defaults ► admission ► ownership ► validation ─┐
//!  update  ... the same against the current object, generation, finalizers ────┤► Store::write
//!  patch   current ► JSON / merge / strategic / apply ► as update (or create) ─┤   (retry when it changed)
//!  delete  preconditions ► finalizers ► mark or remove ────────────────────────┘
//! ```
//!
//! Flows in: a [`Target`], a [`Context`] and a decoded body. Flows out: an [`Outcome`] or a Kubernetes error. Called by
//! the HTTP front and by [`crate::api::Api`].

pub mod admission;
pub mod body;
pub mod convert;
mod create;
mod delete;
mod metadata;
mod patch;
pub mod scale;
mod update;

use std::sync::Arc;

use apimachinery::field_path::FieldErrorKind;
use apimachinery::status::StatusError;
use jiff::Timestamp;
use serde_json::Value;

use crate::registry::Resource;
use crate::request::UserInfo;
use crate::store::{ObjectKey, Scope, StoredObject, TableId, WriteError};

pub use body::Body;
pub use delete::{DeleteOptions, Deleted, Propagation};
pub use patch::{Patch, PatchKind};

/// Which part of an object a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Part {
    /// The object itself.
    #[default]
    Main,
    /// `/status`
    Status,
    /// `/scale`
    Scale,
    /// `/finalize` of namespaces
    Finalize,
}

impl Part {
    /// As managedFields and RBAC name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Main => "",
            Self::Status => "status",
            Self::Scale => "scale",
            Self::Finalize => "finalize",
        }
    }
}

/// What a request is about: a resource of a logical cluster, and an object of it (or, with an empty name, all).
#[derive(Clone, Debug)]
pub struct Target {
    /// Logical cluster.
    pub cluster: Arc<str>,
    /// The resource in the version of the request.
    pub resource: Arc<Resource>,
    /// Namespace; empty for cluster scope.
    pub namespace: Arc<str>,
    /// Name; empty for collections and where the server makes one up.
    pub name: Arc<str>,
    /// Which part.
    pub part: Part,
}

impl Target {
    /// The object itself.
    pub fn new(cluster: &str, resource: &Arc<Resource>, namespace: &str, name: &str) -> Self {
        Self {
            cluster: cluster.into(),
            resource: resource.clone(),
            namespace: if resource.namespaced { namespace.into() } else { "".into() },
            name: name.into(),
            part: Part::Main,
        }
    }

    /// The table its objects are in.
    pub fn table(&self) -> TableId {
        TableId::new(self.resource.storage_group(), &self.resource.plural)
    }

    /// Its key.
    pub fn key(&self) -> ObjectKey {
        ObjectKey { cluster: self.cluster.clone(), namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// All objects of the namespace, or of the logical cluster where none is named.
    pub fn scope(&self) -> Scope {
        match &*self.namespace {
            "" => Scope::Cluster(self.cluster.clone()),
            _ => Scope::Namespace(self.cluster.clone(), self.namespace.clone()),
        }
    }

    pub(crate) fn not_found(&self) -> StatusError {
        StatusError::not_found(&self.resource.group, &self.resource.plural, &self.name)
    }

    pub(crate) fn modified(&self) -> StatusError {
        StatusError::modified(&self.resource.group, &self.resource.plural, &self.name)
    }

    /// An update without the revision it replaces.
    pub(crate) fn unversioned(&self) -> StatusError {
        let detail = "must be specified for an update";
        let error = apimachinery::field_path::FieldError::invalid("metadata.resourceVersion", 0, detail);
        StatusError::invalid(&self.resource.group, &self.resource.plural, &self.name, vec![cause(&error)])
    }

    pub(crate) fn conflict(&self, why: impl std::fmt::Display) -> StatusError {
        StatusError::conflict(&self.resource.group, &self.resource.plural, &self.name, why)
    }

    pub(crate) fn invalid(&self, errors: Vec<apimachinery::field_path::FieldError>) -> StatusError {
        // What does not fit a built-in type cannot even be decoded.
        let unfit = |e: &&apimachinery::field_path::FieldError| e.kind == FieldErrorKind::TypeInvalid;
        if let Some(error) = errors.iter().find(unfit).filter(|_| !self.resource.custom) {
            let Resource { kind, version, .. } = &*self.resource;
            let what = error.to_string();
            return StatusError::bad_request(format!(
                "{kind} in version \"{version}\" cannot be handled as a {kind}: {what}"
            ));
        }
        let causes = errors.iter().map(cause).collect();
        StatusError::invalid(&self.resource.group, &self.resource.kind, &self.name, causes)
    }
}

pub(crate) fn cause(error: &apimachinery::field_path::FieldError) -> apimachinery::status::Cause {
    apimachinery::status::Cause::new(error.kind.reason(), error.field.clone(), error.body())
}

/// What to do with fields that the schema does not know, and with duplicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum FieldValidation {
    /// Drop them.
    Ignore,
    /// Drop them and say so (the default).
    #[default]
    Warn,
    /// Refuse.
    Strict,
}

/// Who writes, and how.
#[derive(Clone, Debug)]
pub struct Context {
    /// The user.
    pub user: UserInfo,
    /// The field manager (empty is allowed for everything but apply).
    pub manager: String,
    /// Whether nothing shall be stored.
    pub dry_run: bool,
    /// Unknown and duplicate fields.
    pub validation: FieldValidation,
    /// The time of the request.
    pub now: Timestamp,
}

/// What a write led to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The object after the write, in the version of the request.
    pub object: Value,
    /// Whether it came into being.
    pub created: bool,
    /// Whether it went away (an update that removed the last finalizer).
    pub deleted: bool,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
}

/// How often a write is tried again because the object changed in between.
pub(crate) const ATTEMPTS: usize = 32;

/// The time as Kubernetes writes it: UTC, whole seconds.
pub fn timestamp(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub(crate) fn store_error(error: WriteError) -> StatusError {
    match error {
        WriteError::Stopped => StatusError::service_unavailable("the control plane is shutting down"),
        other => StatusError::internal(other),
    }
}

impl crate::core::Core {
    /// One object in the version of the request.
    pub fn get(&self, target: &Target) -> Result<Value, StatusError> {
        let object = self.stored(target)?;
        Ok(convert::to_request(&target.resource, &object))
    }

    /// One object as stored.
    pub fn stored(&self, target: &Target) -> Result<Arc<StoredObject>, StatusError> {
        self.store.get(&target.table(), &target.key()).ok_or_else(|| target.not_found())
    }
}
