//! Rights at the consumer. A person's credential (the CLI, the chart or a printed manifest) creates everything here but
//! [`claims_in`], which the agent creates in namespaces where a bound kind is used.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_bind_api::GroupResource;
use kube_bind_api::constants::{
    ANNOTATION_BINDING_UID, CONSUMER_NAMESPACE, KONNECTOR, KONNECTOR_CLUSTER_ROLE, LABEL_BINDING,
};

use super::{meta, named, on, on_all, on_subresource, role_ref, service_account};

const CRDS: &str = "apiextensions.k8s.io";
const BIND: &str = "kube-bind.io";

/// What every agent has, whatever is bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Base {
    /// `kube-bind`.
    pub namespace: Namespace,
    /// `kube-bind/konnector`.
    pub service_account: ServiceAccount,
    /// `kube-bind-konnector`.
    pub cluster_role: ClusterRole,
    /// `kube-bind-konnector`.
    pub cluster_role_binding: ClusterRoleBinding,
    /// `kube-bind/konnector`: credentials and Lease.
    pub role: Role,
    /// `kube-bind/konnector`.
    pub role_binding: RoleBinding,
}

/// What one binding adds.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// `kube-bind:<binding>`: the bound kinds and their CRDs.
    pub cluster_role: ClusterRole,
    /// `kube-bind:<binding>`.
    pub cluster_role_binding: ClusterRoleBinding,
    /// `kube-bind:<binding>:claims`: the claimed kinds, for the agent to bind where the API is used. None without claims.
    pub claims_role: Option<ClusterRole>,
}

/// Name of a binding's ClusterRole and ClusterRoleBinding.
pub fn role_name(binding: &str) -> String {
    format!("kube-bind:{binding}")
}

/// Name of a binding's ClusterRole for claimed kinds, and of the RoleBindings to it.
pub fn claims_role_name(binding: &str) -> String {
    format!("kube-bind:{binding}:claims")
}

/// Namespace, ServiceAccount and base rights of the agent.
pub fn base() -> Base {
    let agent = service_account(CONSUMER_NAMESPACE, KONNECTOR);
    let cluster_rules = vec![
        // No bundles, and no `create` of bindings for them: that comes with the agent that carries bundles out.
        on(BIND, &["apiservicebindings"], &["get", "list", "watch", "patch"]),
        on(BIND, &["apiservicebindings/status"], &["patch"]),
        on("", &["namespaces"], &["get", "list", "watch"]),
        on(CRDS, &["customresourcedefinitions"], &["get", "list", "watch"]),
        on("", &["events"], &["create", "patch"]),
    ];
    let own_rules = vec![
        on("", &["secrets"], &["get", "list", "watch", "patch"]),
        on("coordination.k8s.io", &["leases"], &["get", "create", "patch"]),
    ];
    Base {
        namespace: Namespace { metadata: meta(CONSUMER_NAMESPACE, None), ..Default::default() },
        service_account: ServiceAccount { metadata: meta(KONNECTOR, Some(CONSUMER_NAMESPACE)), ..Default::default() },
        cluster_role: ClusterRole {
            metadata: meta(KONNECTOR_CLUSTER_ROLE, None),
            rules: Some(cluster_rules),
            ..Default::default()
        },
        cluster_role_binding: ClusterRoleBinding {
            metadata: meta(KONNECTOR_CLUSTER_ROLE, None),
            role_ref: role_ref("ClusterRole", KONNECTOR_CLUSTER_ROLE),
            subjects: Some(vec![agent.clone()]),
        },
        role: Role { metadata: meta(KONNECTOR, Some(CONSUMER_NAMESPACE)), rules: Some(own_rules) },
        role_binding: RoleBinding {
            metadata: meta(KONNECTOR, Some(CONSUMER_NAMESPACE)),
            role_ref: role_ref("Role", KONNECTOR),
            subjects: Some(vec![agent]),
        },
    }
}

/// Rights for one binding. `bound` are the exported kinds; `claimed` the kinds of claims that the consumer has accepted,
/// or rejected after it had (their copies have to go).
pub fn binding(
    binding: &str,
    binding_uid: Option<&str>,
    bound: &[GroupResource],
    claimed: &[GroupResource],
) -> Binding {
    let name = role_name(binding);
    let claims_name = claims_role_name(binding);
    let mut rules = on_all(bound, &["get", "list", "watch", "patch"]);
    rules.extend(on_subresource(bound, "status", &["patch"]));
    rules.extend(named(
        CRDS,
        &["customresourcedefinitions"],
        bound.iter().map(GroupResource::crd_name),
        &["create", "patch", "delete"],
    ));
    let claims_role = (!claimed.is_empty()).then(|| ClusterRole {
        metadata: marked(&claims_name, None, binding, binding_uid),
        rules: Some(on_all(claimed, &["get", "list", "watch", "create", "patch", "delete"])),
        ..Default::default()
    });
    if claims_role.is_some() {
        rules.extend(named(super::RBAC_GROUP, &["clusterroles"], [&claims_name], &["bind"]));
        // Of this name in whatever namespace. Written by apply, which honours the name on create; listed by name.
        let verbs = ["get", "list", "create", "patch", "delete"];
        rules.extend(named(super::RBAC_GROUP, &["rolebindings"], [&claims_name], &verbs));
    }
    Binding {
        cluster_role: ClusterRole {
            metadata: marked(&name, None, binding, binding_uid),
            rules: Some(rules),
            ..Default::default()
        },
        cluster_role_binding: ClusterRoleBinding {
            metadata: marked(&name, None, binding, binding_uid),
            role_ref: role_ref("ClusterRole", &name),
            subjects: Some(vec![service_account(CONSUMER_NAMESPACE, KONNECTOR)]),
        },
        claims_role,
    }
}

/// The RoleBinding that the agent creates in a namespace where the bound kind is used. It always has this name: the
/// agent's rights on RoleBindings are for it alone.
pub fn claims_in(binding: &str, binding_uid: Option<&str>, namespace: &str) -> RoleBinding {
    let name = claims_role_name(binding);
    RoleBinding {
        metadata: marked(&name, Some(namespace), binding, binding_uid),
        role_ref: role_ref("ClusterRole", &name),
        subjects: Some(vec![service_account(CONSUMER_NAMESPACE, KONNECTOR)]),
    }
}

/// Label and UID annotation instead of owner references: nothing of ours is garbage collected.
fn marked(name: &str, namespace: Option<&str>, binding: &str, binding_uid: Option<&str>) -> ObjectMeta {
    ObjectMeta {
        labels: Some(BTreeMap::from([(LABEL_BINDING.to_owned(), binding.to_owned())])),
        annotations: binding_uid.map(|uid| BTreeMap::from([(ANNOTATION_BINDING_UID.to_owned(), uid.to_owned())])),
        ..meta(name, namespace)
    }
}
