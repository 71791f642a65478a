//! What Kubernetes does for certain built-in kinds between decoding and storing.
//!
//! Flows in: an object that is about to be written, and the stored one. Flows out: the object with what the server
//! fills in ([`Admission::default`], [`Admission::mutate`]), or what is wrong with it ([`Admission::validate`], [`Admission::delete`]). Kinds that
//! Kubernetes treats like any other are not mentioned here. One file per group of rules.

mod configuration;
mod definition;
mod namespace;
mod rbac;
mod service;

use apimachinery::field_path::FieldError;
use apimachinery::status::StatusError;
use serde_json::Value;

use super::{Context, Target};
use crate::core::Core;

/// One write on its way.
pub struct Admission<'a> {
    /// The control plane.
    pub core: &'a Core,
    /// Who writes.
    pub ctx: &'a Context,
    /// What is written.
    pub target: &'a Target,
    /// The name in the URL; empty for a POST.
    pub addressed: &'a str,
    /// The stored object; `None` for a create.
    pub old: Option<&'a Value>,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
}

impl Admission<'_> {
    fn kind(&self) -> (&str, &str) {
        (&self.target.resource.group, &self.target.resource.plural)
    }

    /// Fills in what a client may leave out. The writer gets to own it.
    pub fn default(&self, object: &mut Value) {
        match self.kind() {
            ("", "secrets") => configuration::default_secret(object),
            ("", "configmaps") => configuration::drop_empty(object),
            ("", "services") => service::default(object),
            (crate::registry::crd::GROUP, crate::registry::crd::PLURAL) => crate::registry::crd::default(object),
            (crate::auth::rbac::GROUP, plural) => crate::auth::default(crate::auth::rbac::GROUP, plural, object),
            _ => crate::registry::builtin::prepare::complete(&self.target.resource, object),
        }
    }

    /// Sets what the server decides. Nobody owns it.
    pub fn mutate(&mut self, object: &mut Value) -> Result<(), StatusError> {
        match self.kind() {
            ("", "namespaces") => namespace::mutate(self, object),
            ("", "services") => service::mutate(self, object)?,
            (crate::registry::crd::GROUP, crate::registry::crd::PLURAL) => definition::mutate(self, object),
            _ => {}
        }
        Ok(())
    }

    /// What is wrong with the object as it would be stored.
    pub fn validate(&mut self, object: &Value) -> Result<Vec<FieldError>, StatusError> {
        Ok(match self.kind() {
            ("", "secrets") => configuration::validate_secret(self.old, object),
            ("", "configmaps") => configuration::validate_config_map(self.old, object),
            ("", "services") => service::validate(self, object),
            (crate::registry::crd::GROUP, crate::registry::crd::PLURAL) => definition::validate(self, object),
            (crate::auth::rbac::GROUP, _) => {
                rbac::admit(self, object)?;
                Vec::new()
            }
            _ => Vec::new(),
        })
    }

    /// Whether the object may be deleted.
    pub fn delete(&mut self, object: &Value) -> Result<(), StatusError> {
        match self.kind() {
            ("", "namespaces") => namespace::delete(object),
            _ => Ok(()),
        }
    }
}
