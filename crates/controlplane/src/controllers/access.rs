//! Reads and writes of the controllers: the calls that HTTP requests make, without HTTP.
//!
//! In: which object, and what to change. Out: writes with preconditions through the same pipeline as everyone's.

use std::sync::Arc;

use apimachinery::status::{Reason, StatusError};
use serde_json::Value;

use super::ObjectId;
use crate::auth::rbac::MASTERS;
use crate::auth::{AUTHENTICATED, SERVICE_ACCOUNT_PREFIX};
use crate::core::Core;
use crate::pipeline::{Body, Context, DeleteOptions, FieldValidation, Part, Propagation, Target};
use crate::request::UserInfo;
use crate::store::StoredObject;

/// What a controller reads and writes with.
#[derive(Clone)]
pub struct Access {
    /// The control plane.
    pub core: Arc<Core>,
    /// PEM of the CA that clients verify this API server with.
    pub ca_pem: Arc<str>,
}

impl Access {
    fn context(&self, controller: &str) -> Context {
        Context {
            user: UserInfo {
                username: format!("{SERVICE_ACCOUNT_PREFIX}kube-system:{controller}"),
                groups: vec![MASTERS.into(), AUTHENTICATED.into()],
                ..UserInfo::default()
            },
            manager: controller.into(),
            dry_run: false,
            validation: FieldValidation::Ignore,
            now: self.core.now(),
        }
    }

    /// The object as a target; `None` if its kind is not served (any more).
    pub fn target(&self, id: &ObjectId) -> Option<Target> {
        let catalog = self.core.clusters.catalog(&id.key.cluster)?;
        let resource = catalog.by_group_resource(&id.table.group, &id.table.resource)?;
        Some(Target::new(&id.key.cluster, resource, &id.key.namespace, &id.key.name))
    }

    /// The object as committed.
    pub fn stored(&self, id: &ObjectId) -> Option<Arc<StoredObject>> {
        self.core.store.get(&id.table, &id.key)
    }

    /// Creates an object; one that is already there is fine.
    ///
    /// # Errors
    /// What the pipeline says; `NotFound` if the kind is not served.
    pub async fn create(&self, controller: &str, id: &ObjectId, object: Value) -> Result<(), StatusError> {
        let target = self.served(id)?;
        match self.core.create(&self.context(controller), &target, Body::from(object)).await {
            Err(error) if error.reason != Reason::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Changes an object if it still has this UID; computes the change again if the object changed meanwhile. The
    /// change says whether there is anything to write. A gone object is left gone.
    ///
    /// # Errors
    /// What the pipeline says.
    pub async fn modify(
        &self,
        controller: &str,
        id: &ObjectId,
        uid: &str,
        part: Part,
        mut change: impl FnMut(&mut Value) -> bool,
    ) -> Result<(), StatusError> {
        let target = Target { part, ..self.served(id)? };
        for _ in 0..8 {
            let Ok(mut object) = self.core.get(&target) else { return Ok(()) };
            if object.pointer("/metadata/uid").and_then(Value::as_str) != Some(uid) || !change(&mut object) {
                return Ok(());
            }
            match self.core.update(&self.context(controller), &target, Body::from(object)).await {
                Err(error) if error.reason == Reason::Conflict => {}
                Err(error) if error.reason == Reason::NotFound => return Ok(()),
                Err(error) => return Err(error),
                Ok(_) => return Ok(()),
            }
        }
        Err(StatusError::modified(&id.table.group, &id.table.resource, &id.key.name))
    }

    /// Deletes an object if it still has this UID (and revision, where one is given). A gone object is fine.
    ///
    /// # Errors
    /// `Conflict` for another UID or revision, and what the pipeline says.
    pub async fn delete(
        &self,
        controller: &str,
        id: &ObjectId,
        uid: &str,
        revision: Option<u64>,
        propagation: Propagation,
    ) -> Result<(), StatusError> {
        let target = self.served(id)?;
        let options = DeleteOptions {
            uid: Some(uid.to_owned()),
            resource_version: revision.map(|revision| revision.to_string()),
            propagation: Some(propagation),
        };
        match self.core.delete(&self.context(controller), &target, &options).await {
            Err(error) if error.reason != Reason::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn served(&self, id: &ObjectId) -> Result<Target, StatusError> {
        self.target(id).ok_or_else(StatusError::no_such_resource)
    }
}
