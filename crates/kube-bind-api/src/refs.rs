//! Small structures that several kinds share: group/resource pairs, references to Secrets, identities.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A kind of API objects by group and plural name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupResource {
    /// API group; empty for the core group.
    #[serde(default)]
    #[schemars(extend("default" = "", "pattern" = "^(|[a-z0-9]([-a-z0-9]*[a-z0-9](\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?)$"))]
    pub group: String,
    /// Plural name of the resource.
    #[schemars(extend("pattern" = "^[a-z][-a-z0-9]*[a-z0-9]$"))]
    pub resource: String,
}

impl GroupResource {
    /// Builds one; `core` is read as the empty group.
    pub fn new(group: impl Into<String>, resource: impl Into<String>) -> Self {
        let group = group.into();
        let group = if group == "core" { String::new() } else { group };
        Self { group, resource: resource.into() }
    }

    /// `<resource>.<group>`, the core group printed as `core` (what the Go release calls ResourceGroupName).
    pub fn name(&self) -> String {
        let group = if self.group.is_empty() { "core" } else { &self.group };
        format!("{}.{}", self.resource, group)
    }

    /// `<resource>.<group>`, or only the resource for the core group: how kubectl and CRDs name it.
    pub fn crd_name(&self) -> String {
        if self.group.is_empty() { self.resource.clone() } else { format!("{}.{}", self.resource, self.group) }
    }
}

impl std::fmt::Display for GroupResource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.crd_name())
    }
}

/// A resource that is asked for or exported, with the versions meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExportedResource {
    /// API group; empty for the core group.
    #[serde(default)]
    #[schemars(extend("default" = "", "pattern" = "^(|[a-z0-9]([-a-z0-9]*[a-z0-9](\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?)$"))]
    pub group: String,
    /// Plural name of the resource.
    #[schemars(extend("pattern" = "^[a-z][-a-z0-9]*[a-z0-9]$"))]
    pub resource: String,
    /// Versions; empty leaves the choice to the provider.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<String>,
}

impl ExportedResource {
    /// Without the versions.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(self.group.clone(), self.resource.clone())
    }
}

/// A namespace by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NamespaceName {
    /// Name at the consumer.
    pub name: String,
}

/// Who a consumer cluster is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterIdentity {
    /// Opaque identity; the CLI sends the UID of the cluster's `kube-system` namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub identity: String,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretty_name: Option<String>,
}

/// A key of a Secret in the object's own namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LocalSecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Key in its data.
    pub key: String,
}

/// A key of a Secret anywhere in the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct ClusterSecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Key in its data.
    pub key: String,
    /// Its namespace.
    #[schemars(length(min = 1))]
    pub namespace: String,
}

/// A Secret by name and namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LocalSecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Its namespace.
    #[schemars(length(min = 1))]
    pub namespace: String,
}

/// Whether objects of a kind live in namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Scope {
    /// No namespace.
    Cluster,
    /// In a namespace.
    Namespaced,
}

impl Scope {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Cluster => "Cluster",
            Scope::Namespaced => "Namespaced",
        }
    }
}
