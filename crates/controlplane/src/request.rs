//! Who asks for what: the boundary between the HTTP front, authentication and authorisation.
//!
//! Flows in: a parsed request. Flows out: [`Attributes`] for [`crate::auth`]. Also [`ObjectReader`], through which
//! `auth` and the controllers see the current state without knowing the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

/// An authenticated user. `cluster` is the logical cluster the credential belongs to; a request to any other one is
/// refused. `None` is only for callers inside the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    /// Name, such as `system:serviceaccount:ns:name`.
    pub username: String,
    /// UID; empty where the credential has none.
    pub uid: String,
    /// Groups, `system:authenticated` or `system:unauthenticated` included.
    pub groups: Vec<String>,
    /// Further facts (`authentication.kubernetes.io/pod-name`, …).
    pub extra: BTreeMap<String, Vec<String>>,
    /// Logical cluster of the credential.
    pub cluster: Option<String>,
}

/// The logical cluster name that stands for all of them (`/clusters/*/…`).
pub const ALL_CLUSTERS: &str = "*";

/// What a request wants, as RBAC sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Logical cluster in the URL; [`ALL_CLUSTERS`] for wildcard requests.
    pub cluster: String,
    /// RBAC verb: get, list, watch, create, update, patch, delete, deletecollection, or a special one (bind, escalate…);
    /// for other paths the lower-case HTTP method.
    pub verb: String,
    /// API group; empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural resource name; empty for paths that are no resource.
    pub resource: String,
    /// Subresource; empty if none.
    pub subresource: String,
    /// Namespace; empty for cluster scope or all namespaces.
    pub namespace: String,
    /// Object name; empty for collections.
    pub name: String,
    /// The path, for what is no resource (`/version`); relative to the logical cluster.
    pub path: String,
}

impl Attributes {
    /// True if this is about an API resource, false for paths such as `/version`. A review may ask about a whole group
    /// and name no resource; it has no path either.
    pub fn is_resource(&self) -> bool {
        !self.resource.is_empty() || self.path.is_empty()
    }
}

/// The current state, read only. Everything is as committed; namespaces are empty for cluster scope.
pub trait ObjectReader: Send + Sync {
    /// One object, in its stored version.
    fn get(&self, cluster: &str, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>>;
    /// All objects of a resource in one namespace, or (with `None`) everywhere in the logical cluster.
    fn list(&self, cluster: &str, group: &str, resource: &str, namespace: Option<&str>) -> Vec<Arc<Value>>;
}
