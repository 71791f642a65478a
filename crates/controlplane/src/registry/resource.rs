//! What one API resource is: a compiled descriptor.
//!
//! Flows in: the built-in kinds ([`crate::registry::builtin`]) and every served version of a CustomResourceDefinition
//! ([`crate::registry::crd`]). Flows out: everything the generic pipeline, discovery, OpenAPI and the Table printer need
//! to know. No other module may know a kind by its name unless Kubernetes itself gives that kind special treatment.

use std::sync::Arc;

use apimachinery::schema::Structural;
use apimachinery::table::Column;
use serde_json::Value;

use super::lazy::Lazy;

/// One version of one API resource, ready to be served.
///
/// Immutable and shared: ten thousand logical clusters with the same CRD hold the same `Arc<Resource>`.
#[derive(Clone)]
pub struct Resource {
    /// API group; empty for the legacy core group.
    pub group: String,
    /// API version, such as `v1`.
    pub version: String,
    /// Plural name as in the URL, such as `configmaps`.
    pub plural: String,
    /// Singular name, such as `configmap`.
    pub singular: String,
    /// Kind, such as `ConfigMap`.
    pub kind: String,
    /// Kind of a list, such as `ConfigMapList`.
    pub list_kind: String,
    /// Short names, such as `cm`.
    pub short_names: Vec<String>,
    /// Categories, such as `all`.
    pub categories: Vec<String>,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Verbs as discovery shows them, sorted: `create`, `delete`, `deletecollection`, `get`, `list`, `patch`, `update`,
    /// `watch`. A resource with only `create` is a virtual one (a review): it is answered, never stored.
    pub verbs: Vec<&'static str>,
    /// Whether there is a `/status` subresource (then plain writes leave `.status` alone and the other way round).
    pub status: bool,
    /// The `/scale` subresource, if any.
    pub scale: Option<ScalePaths>,
    /// Further subresources, shown by discovery (such as `namespaces/finalize`, `serviceaccounts/token`).
    pub subresources: Vec<Subresource>,
    /// Compiled structural schema of the whole object (`apiVersion`, `kind` and `metadata` included as plain members).
    /// Built-ins compile it when it is first used.
    pub schema: Lazy<Structural>,
    /// The OpenAPI v3 schema that is published for the kind (after `$ref`s were resolved or not, as built).
    pub openapi: Arc<Value>,
    /// Printer columns beside the name (unless one of them has format `name`); empty means name and age.
    pub columns: Arc<Vec<Column>>,
    /// True for kinds that come from a CustomResourceDefinition.
    pub custom: bool,
    /// The version objects are stored as; equal to `version` unless a CRD has several versions.
    pub storage_version: String,
    /// JSON paths usable as field selectors beside `metadata.name` and `metadata.namespace` (`spec.nodeName`, …).
    pub selectable_fields: Vec<String>,
    /// How objects of this resource are kept when another group's resource is the one that is stored.
    pub stored_as: Option<StoredAs>,
    /// Digest of the CRD's schema (what "schema identity" means in storage keys and wildcard requests); empty for
    /// built-ins.
    pub identity: String,
    /// Whether `spec` changes raise `metadata.generation`. (Built-in kinds without a spec-like part do not have one.)
    pub generation: bool,
    /// A deprecation text that is sent as a `Warning` header with every answer.
    pub deprecation: Option<String>,
    /// How two resources that have the same short name or kind are told apart: lower group priority wins in discovery.
    pub group_priority: i32,
}

/// Paths of a scale subresource inside the object (JSON paths such as `.spec.replicas`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    /// Path of the desired count.
    pub spec_replicas: String,
    /// Path of the observed count.
    pub status_replicas: String,
    /// Path of the serialised label selector, if there is one.
    pub label_selector: Option<String>,
}

/// A subresource other than `status` and `scale`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// Name behind the slash, such as `finalize`.
    pub name: &'static str,
    /// Kind it takes and returns.
    pub kind: &'static str,
    /// Group of that kind if it differs from the parent's.
    pub group: Option<&'static str>,
    /// Version of that kind if it differs from the parent's.
    pub version: Option<&'static str>,
    /// Verbs, sorted.
    pub verbs: &'static [&'static str],
}

/// The stored form of a resource that is only another view of one (`events.k8s.io/v1` of core `v1` events).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAs {
    /// Group of the stored resource.
    pub group: &'static str,
    /// Version of the stored resource.
    pub version: &'static str,
    /// Pairs of top-level field paths (dotted): here, and in the stored form.
    pub renames: &'static [(&'static str, &'static str)],
}

/// A group and a resource's plural name: what RBAC and storage call a resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupResource {
    /// API group; empty for core.
    pub group: String,
    /// Plural name.
    pub resource: String,
}

impl GroupResource {
    /// Names a resource.
    pub fn new(group: impl Into<String>, resource: impl Into<String>) -> Self {
        Self { group: group.into(), resource: resource.into() }
    }
}

impl std::fmt::Display for GroupResource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.group.is_empty() { f.write_str(&self.resource) } else { write!(f, "{}.{}", self.resource, self.group) }
    }
}

impl Resource {
    /// The verbs of everything that is stored.
    pub const ALL_VERBS: &'static [&'static str] =
        &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

    /// `group/version`, or only the version for the core group: the `apiVersion` of its objects.
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    /// `apiVersion` of the stored form.
    pub fn storage_api_version(&self) -> String {
        match &self.stored_as {
            Some(other) => api_version(other.group, other.version),
            None => api_version(&self.group, &self.storage_version),
        }
    }

    /// Group under which objects are stored.
    pub fn storage_group(&self) -> &str {
        self.stored_as.as_ref().map_or(self.group.as_str(), |other| other.group)
    }

    /// `plural.group` as error texts say it (only the plural for core).
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// Its group and plural name.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(self.group.clone(), self.plural.clone())
    }

    /// Whether discovery lists the verb.
    pub fn allows(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }

    /// True for reviews and the like: created, answered, never stored.
    pub fn is_virtual(&self) -> bool {
        !self.allows("get") && !self.allows("list")
    }

    /// The named subresource beside `status` and `scale`.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resource").field("api_version", &self.api_version()).field("plural", &self.plural).finish()
    }
}

fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}
