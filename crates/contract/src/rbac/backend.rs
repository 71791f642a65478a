//! Rights of the backend. An administrator creates [`base`], [`contracts`] and [`offers`]; the backend binds the last two
//! to itself in the namespaces where it needs them, so it neither holds `escalate` nor reads Secrets of the cluster at
//! large.
//!
//! ```text
//!   kube-bind-backend            cluster-wide: its own kinds, CRDs, namespaces; may bind only the two below
//!                                (and who may log in: kube-bind-oidc-user)
//!                                and, in its own namespace, its Lease
//!   kube-bind-backend-contracts  bound in each contract namespace: credentials of that consumer
//!   kube-bind-backend-offers     bound in each mapped namespace: what may be offered and claimed. Extend it to offer
//!   kube-bind-shared:<kind>      cluster-scoped kinds: bound to their consumers by the backend, which may do that by
//!                                kube-bind-backend-shared:<kind>
//! ```

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, Subject};
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

/// Name of the Lease whose holder runs the controllers.
pub const LEASE: &str = "kube-bind-backend";

/// ClusterRole of those who may bind, and its ClusterRoleBinding, whose subjects the backend keeps.
pub const OIDC_USER: &str = "kube-bind-oidc-user";

/// What those who may bind hold; the backend asks for it in a SubjectAccessReview (reference §2.4, §5.1).
pub fn oidc_user() -> ClusterRole {
    let paths = ["/", "/api", "/api/*", "/apis", "/apis/*"].map(str::to_owned).to_vec();
    let access = PolicyRule { non_resource_urls: Some(paths), verbs: vec!["access".into()], ..Default::default() };
    ClusterRole {
        metadata: meta(OIDC_USER, None),
        rules: Some(vec![on(BIND, &["*"], &["bind"]), access]),
        ..Default::default()
    }
}

/// Name of ClusterRole and ClusterRoleBinding of the consumers of a kind that is cluster-scoped at the provider.
pub fn shared_name(kind: &GroupResource) -> String {
    format!("kube-bind-shared:{kind}")
}

/// What an administrator creates to offer a kind that is cluster-scoped at the provider (isolation `Prefixed` or `None`):
/// RBAC knows no prefixes, so every consumer of it may touch every object of the kind. That there may be more than one
/// consumer is the template's word (`sharedClusterScope`), not this role's.
pub fn shared(kind: &GroupResource) -> ClusterRole {
    ClusterRole { metadata: meta(&shared_name(kind), None), rules: Some(vec![offer_rule(kind)]), ..Default::default() }
}

/// Name of what lets the backend keep the subjects of [`shared_binding`].
pub fn keeper_name(kind: &GroupResource) -> String {
    format!("kube-bind-backend-shared:{kind}")
}

/// What lets the backend keep the subjects of [`shared_binding`], bound to whom [`base_binding`] is bound to. A role of its
/// own, so that an installation which writes [`base`] anew takes nothing away.
pub fn keeper(kind: &GroupResource, backend: Vec<Subject>) -> (ClusterRole, ClusterRoleBinding) {
    let name = keeper_name(kind);
    let mut rules = shared_rules(kind);
    // Their objects may refer to what is claimed.
    rules.push(on(&kind.group, &[&kind.resource], &["list", "watch"]));
    let role = ClusterRole { metadata: meta(&name, None), rules: Some(rules), ..Default::default() };
    let binding = ClusterRoleBinding {
        metadata: meta(&name, None),
        role_ref: role_ref("ClusterRole", &name),
        subjects: Some(backend),
    };
    (role, binding)
}

/// The rules of [`keeper`] about rights.
pub fn shared_rules(kind: &GroupResource) -> Vec<PolicyRule> {
    let name = shared_name(kind);
    let bind = named(super::RBAC_GROUP, &["clusterroles"], [&name], &["bind"]);
    let keep = named(super::RBAC_GROUP, &["clusterrolebindings"], [&name], &["get", "create", "patch"]);
    bind.into_iter().chain(keep).collect()
}

/// Binds [`shared`] to the consumers that have bound the kind.
pub fn shared_binding(kind: &GroupResource, consumers: Vec<Subject>) -> ClusterRoleBinding {
    let name = shared_name(kind);
    ClusterRoleBinding {
        metadata: meta(&name, None),
        role_ref: role_ref("ClusterRole", &name),
        subjects: Some(consumers),
    }
}

/// What the backend may do everywhere.
pub fn base() -> ClusterRole {
    let mut rules = vec![
        on(BIND, &["apiserviceexporttemplates"], &["list", "watch"]),
        on(BIND, &["collections"], &["list"]),
        on(BIND, &["clusters"], &["get", "create"]),
        on(BIND, &["apiserviceexportrequests", "apiserviceexports", "boundschemas", "apiservicenamespaces"], &VERBS),
        on(BIND, &["clusterbindings"], &["get", "list", "watch", "create", "patch"]),
        on(BIND, &["bindableresourcesrequests"], &["get", "list", "watch", "delete"]),
        on(
            BIND,
            &[
                "clusterbindings/status",
                "apiserviceexportrequests/status",
                "apiserviceexports/status",
                "boundschemas/status",
                "apiservicenamespaces/status",
                "bindableresourcesrequests/status",
            ],
            &["patch"],
        ),
        on("apiextensions.k8s.io", &["customresourcedefinitions"], &["list", "watch"]),
        on("", &["namespaces"], &["get", "list", "create", "patch", "delete"]),
        on(super::RBAC_GROUP, &["roles", "clusterroles"], &["get"]),
        // Creating a binding needs `bind` on what it refers to, which is only given by name.
        on(super::RBAC_GROUP, &["rolebindings"], &["get", "create"]),
        on("authorization.k8s.io", &["subjectaccessreviews"], &["create"]),
    ];
    rules.extend(named(super::RBAC_GROUP, &["clusterroles"], [CONTRACTS, OFFERS, OIDC_USER], &["bind"]));
    rules.extend(named(super::RBAC_GROUP, &["rolebindings"], [CONTRACTS, OFFERS], &["patch"]));
    // Who may bind. Written by apply, which honours the name on create.
    rules.extend(named(super::RBAC_GROUP, &["clusterrolebindings"], [OIDC_USER], &["get", "create", "patch"]));
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

/// What the backend may do in the namespace of its Lease. A name cannot restrict what is created.
pub fn lease(namespace: &str) -> Role {
    let mut rules = vec![on("coordination.k8s.io", &["leases"], &["create"])];
    rules.extend(named("coordination.k8s.io", &["leases"], [LEASE], &["get", "patch"]));
    Role { metadata: meta(LEASE, Some(namespace)), rules: Some(rules) }
}

/// Binds [`lease`] to the backend.
pub fn lease_binding(backend: &Subject, namespace: &str) -> RoleBinding {
    RoleBinding {
        metadata: meta(LEASE, Some(namespace)),
        role_ref: role_ref("Role", LEASE),
        subjects: Some(vec![backend.clone()]),
    }
}

/// What the backend may do in contract namespaces: make the consumer's credential, and everything that it grants the
/// consumer there.
pub fn contracts() -> ClusterRole {
    let mut rules = vec![
        on("", &["secrets"], &VERBS),
        on("", &["serviceaccounts"], &["get", "create", "delete"]),
        // What is deleted there are the Roles of exports with isolation `Namespaced`: a namespace with these is a mapped one
        // too.
        on(super::RBAC_GROUP, &["roles"], &["create", "patch"]),
        on(super::RBAC_GROUP, &["rolebindings"], &["patch"]),
    ];
    rules.extend(beyond(&base(), contract_rules()));
    ClusterRole { metadata: meta(CONTRACTS, None), rules: Some(rules), ..Default::default() }
}

/// What of `rules` a role does not give already: the backend must hold what it grants, but need not hold it twice.
fn beyond(role: &ClusterRole, rules: Vec<PolicyRule>) -> Vec<PolicyRule> {
    let held = role.rules.as_deref().unwrap_or_default();
    let mut missing = Vec::new();
    for rule in rules {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                let kind = GroupResource::new(group.clone(), resource.clone());
                let verbs = rule.verbs.iter().map(String::as_str).filter(|verb| !allows(held, &kind, verb));
                let verbs: Vec<&str> = verbs.collect();
                if !verbs.is_empty() {
                    missing.push(on(group, &[resource], &verbs));
                }
            }
        }
    }
    missing
}

/// Binds [`contracts`] to the backend in a contract namespace. The backend creates it first, then what it allows.
pub fn contracts_in(backend: &Subject, contract_namespace: &str) -> RoleBinding {
    in_namespace(CONTRACTS, backend, contract_namespace)
}

/// What may be offered and claimed. A provider extends it with [`offer_rule`] for each kind.
pub fn offers<'a>(offered: impl IntoIterator<Item = &'a GroupResource>) -> ClusterRole {
    let mut rules = vec![
        on("", &CLAIMABLE, &VERBS),
        on(super::RBAC_GROUP, &["roles"], &["create", "patch", "delete"]),
        on(super::RBAC_GROUP, &["rolebindings"], &["patch", "delete"]),
    ];
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

/// The command that lets several consumers have a kind that is cluster-scoped at the provider, for people.
pub fn share_command(kind: &GroupResource) -> String {
    format!("kubectl bind provider offer --shared {kind}")
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
