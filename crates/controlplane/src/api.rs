//! The API without HTTP: for controllers and tests inside the process.
//!
//! Flows in: the same operations as over HTTP, in the name of a system user with all rights. Flows out: the same objects
//! and errors, and [`Subscription`]s to all changes of a resource across logical clusters.

use std::sync::Arc;

use apimachinery::status::StatusError;
use serde_json::Value;

use crate::core::Core;
use crate::pipeline::{
    Body, Context, DeleteOptions, Deleted, FieldValidation, Outcome, Part, Patch, PatchKind, Target,
};
use crate::registry::Resource;
use crate::request::UserInfo;
use crate::store::{Listed, Receiver, Scope, TableId};

/// Operations in the name of the control plane itself.
#[derive(Clone)]
pub struct Api {
    core: Arc<Core>,
    manager: String,
}

/// An object to operate on.
#[derive(Clone, Copy, Debug)]
pub struct ObjectRef<'a> {
    /// Logical cluster.
    pub cluster: &'a str,
    /// API group; empty for core.
    pub group: &'a str,
    /// Plural name.
    pub resource: &'a str,
    /// Namespace; empty for cluster scope.
    pub namespace: &'a str,
    /// Name; may be empty for a create.
    pub name: &'a str,
}

/// The objects of a resource in all logical clusters, and what happens to them from then on.
pub struct Subscription {
    /// The objects at the start.
    pub listed: Listed,
    /// Every change after that. It never lags: the queue is not bounded, so keep reading.
    pub changes: Receiver,
}

impl Api {
    /// Operations on a control plane.
    pub fn new(core: Arc<Core>) -> Self {
        Self { core, manager: "kube-controller-manager".to_owned() }
    }

    /// The same under another field manager.
    pub fn with_manager(&self, manager: &str) -> Self {
        Self { core: self.core.clone(), manager: manager.to_owned() }
    }

    /// The control plane.
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    fn context(&self) -> Context {
        Context {
            user: UserInfo {
                username: "system:apiserver".to_owned(),
                groups: vec![crate::auth::rbac::MASTERS.to_owned(), crate::auth::AUTHENTICATED.to_owned()],
                ..UserInfo::default()
            },
            manager: self.manager.clone(),
            dry_run: false,
            validation: FieldValidation::Ignore,
            now: self.core.now(),
        }
    }

    fn target(&self, object: ObjectRef<'_>) -> Result<Target, StatusError> {
        let catalog = self.core.clusters.catalog(object.cluster).ok_or_else(StatusError::no_such_resource)?;
        let resource: &Arc<Resource> =
            catalog.by_group_resource(object.group, object.resource).ok_or_else(StatusError::no_such_resource)?;
        Ok(Target::new(object.cluster, resource, object.namespace, object.name))
    }

    /// One object.
    ///
    /// # Errors
    /// As over HTTP.
    pub fn get(&self, object: ObjectRef<'_>) -> Result<Value, StatusError> {
        self.core.get(&self.target(object)?)
    }

    /// The objects of a namespace, or of the logical cluster with an empty one.
    ///
    /// # Errors
    /// 404 for a resource that is not served.
    pub fn list(&self, collection: ObjectRef<'_>) -> Result<Vec<Value>, StatusError> {
        let target = self.target(collection)?;
        let listed = self.core.store.list(&target.table(), &target.scope());
        Ok(listed.objects.iter().map(|o| crate::pipeline::convert::to_request(&target.resource, o)).collect())
    }

    /// Creates an object.
    ///
    /// # Errors
    /// As over HTTP.
    pub async fn create(&self, object: ObjectRef<'_>, body: Value) -> Result<Value, StatusError> {
        let outcome: Outcome = self.core.create(&self.context(), &self.target(object)?, Body::from(body)).await?;
        Ok(outcome.object)
    }

    /// Replaces an object, or with [`Part::Status`] its status.
    ///
    /// # Errors
    /// As over HTTP.
    pub async fn update(&self, object: ObjectRef<'_>, part: Part, body: Value) -> Result<Value, StatusError> {
        let target = Target { part, ..self.target(object)? };
        Ok(self.core.update(&self.context(), &target, Body::from(body)).await?.object)
    }

    /// Patches an object or a part of it.
    ///
    /// # Errors
    /// As over HTTP.
    pub async fn patch(
        &self,
        object: ObjectRef<'_>,
        part: Part,
        kind: PatchKind,
        body: Value,
    ) -> Result<Value, StatusError> {
        let target = Target { part, ..self.target(object)? };
        let patch = Patch { kind, body: Body::from(body) };
        Ok(self.core.patch(&self.context(), &target, patch).await?.object)
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// As over HTTP.
    pub async fn delete(&self, object: ObjectRef<'_>, options: &DeleteOptions) -> Result<Deleted, StatusError> {
        self.core.delete(&self.context(), &self.target(object)?, options).await
    }

    /// Follows a resource in all logical clusters.
    pub fn subscribe(&self, group: &str, resource: &str) -> Subscription {
        let (listed, changes) = self.core.store.list_and_watch(&TableId::new(group, resource), &Scope::All, usize::MAX);
        Subscription { listed, changes }
    }
}
