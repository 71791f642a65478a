//! The APIs that the agent talks to, besides the bound and claimed ones. Used by everything that reads or writes.

use kube_client::{FieldManager, Resource};

/// Owner of every field that we write.
pub const MANAGER: FieldManager = FieldManager(kube_bind_api::constants::FIELD_MANAGER);

fn kube_bind(plural: &str, kind: &str) -> Resource {
    Resource::new("kube-bind.io", "v1alpha2", plural, kind)
}

/// `APIServiceBinding` (consumer).
pub fn bindings() -> Resource {
    kube_bind("apiservicebindings", "APIServiceBinding")
}

/// `APIServiceExport` (provider).
pub fn exports() -> Resource {
    kube_bind("apiserviceexports", "APIServiceExport")
}

/// `APIServiceExportRequest` (provider).
pub fn requests() -> Resource {
    kube_bind("apiserviceexportrequests", "APIServiceExportRequest")
}

/// `BoundSchema` (provider).
pub fn bound_schemas() -> Resource {
    kube_bind("boundschemas", "BoundSchema")
}

/// `APIServiceNamespace` (provider).
pub fn service_namespaces() -> Resource {
    kube_bind("apiservicenamespaces", "APIServiceNamespace")
}

/// `ClusterBinding` (provider).
pub fn cluster_bindings() -> Resource {
    kube_bind("clusterbindings", "ClusterBinding")
}

/// Core `Secret`.
pub fn secrets() -> Resource {
    Resource::new("", "v1", "secrets", "Secret")
}

/// Core `Namespace`.
pub fn namespaces() -> Resource {
    Resource::new("", "v1", "namespaces", "Namespace")
}

/// Core `Event`.
pub fn events() -> Resource {
    Resource::new("", "v1", "events", "Event")
}

/// `CustomResourceDefinition`.
pub fn crds() -> Resource {
    Resource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition")
}

/// `RoleBinding`.
pub fn role_bindings() -> Resource {
    Resource::new("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
}

/// The claimable kinds: those of the core group that are mirrored.
pub fn claimable(group: &str, resource: &str) -> Option<Resource> {
    match (group, resource) {
        ("" | "core", "secrets") => Some(secrets()),
        ("" | "core", "configmaps") => Some(Resource::new("", "v1", "configmaps", "ConfigMap")),
        ("" | "core", "services") => Some(Resource::new("", "v1", "services", "Service")),
        ("" | "core", "serviceaccounts") => Some(Resource::new("", "v1", "serviceaccounts", "ServiceAccount")),
        _ => None,
    }
}
