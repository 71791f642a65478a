//! The kinds that this service reads and writes, as requests name them.
//!
//! In: nothing. Out: [`kube_client::Resource`] values. Called wherever an API server is spoken to.

use kube_client::Resource;

/// The resource of one of our own kinds.
#[must_use]
pub fn of<K: kube::Resource<DynamicType = ()>>() -> Resource {
    Resource::new(&K::group(&()), &K::version(&()), &K::plural(&()), &K::kind(&()))
}

macro_rules! resources {
    ($($(#[$doc:meta])* $name:ident = $group:literal, $version:literal, $plural:literal, $kind:literal;)*) => {
        $($(#[$doc])* #[must_use] pub fn $name() -> Resource { Resource::new($group, $version, $plural, $kind) })*
    };
}

resources! {
    /// Namespaces.
    namespaces = "", "v1", "namespaces", "Namespace";
    /// Secrets.
    secrets = "", "v1", "secrets", "Secret";
    /// Service accounts.
    service_accounts = "", "v1", "serviceaccounts", "ServiceAccount";
    /// Roles.
    roles = "rbac.authorization.k8s.io", "v1", "roles", "Role";
    /// Role bindings.
    role_bindings = "rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding";
    /// Cluster roles.
    cluster_roles = "rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole";
    /// Cluster role bindings.
    cluster_role_bindings = "rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding";
    /// CRDs.
    crds = "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition";
    /// Access reviews of others.
    subject_access_reviews = "authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview";
}
