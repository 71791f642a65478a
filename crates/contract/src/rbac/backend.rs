//! Rights of the backend. An administrator creates [`base`], [`contracts`] and [`offers`]; the backend binds the last two
//! to itself in the namespaces where it needs them, so it neither holds `escalate` nor reads Secrets of the cluster at
//! large.
//!
//! ```text
//!   kube-bind-backend            cluster-wide: its own kinds, CRDs, namespaces, Roles; may bind only the two below
//!   kube-bind-backend-contracts  bound in each contract namespace: credentials of that consumer
//!   kube-bind-backend-offers     bound in each mapped namespace: what may be offered and claimed. Extend it to offer
//! ```

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, RoleBinding, Subject};
use kube_bind_api::GroupResource;

use super::{allows, meta, named, on, on_all, provider::contract_rules, role_ref};
use crate::claims::CLAIMABLE;

const BIND: &str = "kube-bind.io";
const VERBS: [&str; 6] = ["get", "list", "watch", "create", "patch", "delete"];

/// Base ClusterRole and ClusterRoleBinding.
pub const BASE: &str = "kube-bind-backend";
/// ClusterRole for contract namespaces, and the RoleBinding to it in each.
pub const CONTRACTS: &str = "kube-bind-backend-contracts";
/// ClusterRole of what may be offered and claimed, and the RoleBinding to it in each mapped namespace.
pub const OFFERS: &str = "kube-bind-backend-offers";

/// What the backend may do everywhere.
pub fn base() -> ClusterRole {
    let mut rules = vec![
        on(BIND, &["apiserviceexporttemplates", "collections"], &["get", "list", "watch"]),
        on(BIND, &["clusters"], &["get", "list", "watch", "create", "patch"]),
        on(
            BIND,
            &[
                "clusterbindings",
                "apiserviceexportrequests",
                "apiserviceexports",
                "boundschemas",
                "apiservicenamespaces",
                "bindableresourcesrequests",
            ],
            &VERBS,
        ),
        on(
            BIND,
            &[
                "apiserviceexporttemplates/status",
                "collections/status",
                "clusters/status",
                "clusterbindings/status",
                "apiserviceexportrequests/status",
                "apiserviceexports/status",
                "boundschemas/status",
                "apiservicenamespaces/status",
                "bindableresourcesrequests/status",
            ],
            &["patch"],
        ),
        on("apiextensions.k8s.io", &["customresourcedefinitions"], &["get", "list", "watch"]),
        on("", &["namespaces"], &VERBS),
        on(super::RBAC_GROUP, &["roles", "rolebindings"], &VERBS),
        on(super::RBAC_GROUP, &["clusterroles"], &["get", "list", "watch"]),
        on("authorization.k8s.io", &["subjectaccessreviews"], &["create"]),
        on("", &["events"], &["create", "patch"]),
        on("events.k8s.io", &["events"], &["create", "patch"]),
    ];
    rules.extend(named(super::RBAC_GROUP, &["clusterroles"], [CONTRACTS, OFFERS], &["bind"]));
    ClusterRole { metadata: meta(BASE, None), rules: Some(rules), ..Default::default() }
}

/// Binds [`base`] to the backend.
pub fn base_binding(backend: &Subject) -> ClusterRoleBinding {
    ClusterRoleBinding {
        metadata: meta(BASE, None),
        role_ref: role_ref("ClusterRole", BASE),
        subjects: Some(vec![backend.clone()]),
    }
}

/// What the backend may do in contract namespaces: make the consumer's credential, and everything that it grants the
/// consumer there.
pub fn contracts() -> ClusterRole {
    let mut rules = vec![
        on("", &["secrets"], &VERBS),
        on("", &["serviceaccounts"], &VERBS),
        on("", &["serviceaccounts/token"], &["create"]),
    ];
    rules.extend(contract_rules());
    ClusterRole { metadata: meta(CONTRACTS, None), rules: Some(rules), ..Default::default() }
}

/// Binds [`contracts`] to the backend in a contract namespace. The backend creates it first, then what it allows.
pub fn contracts_in(backend: &Subject, contract_namespace: &str) -> RoleBinding {
    in_namespace(CONTRACTS, backend, contract_namespace)
}

/// What may be offered and claimed. A provider extends it with [`offer_rule`] for each kind.
pub fn offers<'a>(offered: impl IntoIterator<Item = &'a GroupResource>) -> ClusterRole {
    let mut rules = vec![on("", &CLAIMABLE, &VERBS)];
    rules.extend(on_all(offered, &VERBS));
    ClusterRole { metadata: meta(OFFERS, None), rules: Some(rules), ..Default::default() }
}

/// The rule that offers a kind: what the backend grants consumers, it must hold itself.
pub fn offer_rule(kind: &GroupResource) -> PolicyRule {
    on(&kind.group, &[&kind.resource], &VERBS)
}

/// Whether the provider has granted a kind (a label on its CRD alone does not offer it).
pub fn is_granted(offers: &ClusterRole, kind: &GroupResource) -> bool {
    VERBS.iter().all(|verb| allows(offers.rules.as_deref().unwrap_or_default(), kind, verb))
}

/// The command that grants a kind, for people.
pub fn offer_command(kind: &GroupResource) -> String {
    format!("kubectl bind provider offer {kind}")
}

/// Binds [`offers`] to the backend in a mapped namespace. The backend creates it first, then the consumer's Role.
pub fn offers_in(backend: &Subject, mapped_namespace: &str) -> RoleBinding {
    in_namespace(OFFERS, backend, mapped_namespace)
}

fn in_namespace(role: &str, backend: &Subject, namespace: &str) -> RoleBinding {
    RoleBinding {
        metadata: meta(role, Some(namespace)),
        role_ref: role_ref("ClusterRole", role),
        subjects: Some(vec![backend.clone()]),
    }
}
