//! Rights of one consumer's credential at the provider. The backend creates all of it, before it publishes the namespace.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_bind_api::GroupResource;
use kube_bind_api::constants::{KUBE_BINDER, LABEL_BINDING};

use super::{meta, named, on, on_all, role_ref, service_account};
use crate::claimed::Grants;

const BIND: &str = "kube-bind.io";

/// A Role and its RoleBinding, both of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// The Role.
    pub role: Role,
    /// Binds it to the consumer's ServiceAccount.
    pub role_binding: RoleBinding,
}

/// The consumer's ServiceAccount, `kube-binder` in the contract namespace.
pub fn consumer_service_account(contract_namespace: &str) -> ServiceAccount {
    ServiceAccount { metadata: meta(KUBE_BINDER, Some(contract_namespace)), ..Default::default() }
}

/// Rights in the contract namespace: the wire's base table (reference §5.5), and deletion of exports, so that an unbind
/// can end its contract.
pub fn contract(contract_namespace: &str) -> Grant {
    grant(contract_namespace, contract_namespace, KUBE_BINDER, BTreeMap::new(), contract_rules())
}

/// The rules of [`contract`].
pub fn contract_rules() -> Vec<PolicyRule> {
    let all = ["get", "list", "watch", "create", "update", "patch", "delete"];
    vec![
        on(BIND, &["apiserviceexportrequests"], &all),
        on(BIND, &["apiservicenamespaces"], &all),
        on(BIND, &["clusterbindings", "apiserviceexports", "boundschemas"], &["get", "list", "watch"]),
        on(BIND, &["apiserviceexports"], &["delete"]),
        on(BIND, &["clusterbindings/status", "apiserviceexports/status"], &["get", "patch", "update"]),
        on(BIND, &["boundschemas/status"], &["get", "list", "patch", "update"]),
        on("", &["secrets"], &["get", "list", "watch"]),
        on("", &["namespaces"], &["get"]),
    ]
}

/// What an export's consumer may do in one namespace.
#[derive(Clone, Copy, Debug)]
pub struct Mapped<'a> {
    /// The contract namespace.
    pub contract_namespace: &'a str,
    /// The mapped namespace (with isolation `Namespaced`: the contract namespace).
    pub namespace: &'a str,
    /// Name of the export.
    pub export: &'a str,
    /// Exported kinds.
    pub exported: &'a [GroupResource],
    /// Claimed objects by name.
    pub claimed: &'a Grants,
    /// Claimed kinds that are readable as a whole (the template says `openNamespaces`); else empty.
    pub open: &'a [GroupResource],
}

/// Name of an export's Role and RoleBinding in a mapped namespace. Several exports may share the namespace.
pub fn mapped_role_name(export: &str) -> String {
    format!("kube-bind:{export}")
}

/// Rights in a mapped namespace: the exported kinds, and claimed objects by name (what the provider makes is read only).
pub fn mapped(input: &Mapped<'_>) -> Grant {
    let mut rules = on_all(input.exported, &["get", "list", "watch", "create", "patch", "delete"]);
    rules.extend(on_all(input.open, &["get", "list", "watch"]));
    for (kind, names) in &input.claimed.read {
        rules.extend(named(&kind.group, &[&kind.resource], names, &["get"]));
    }
    for (kind, names) in &input.claimed.write {
        rules.extend(named(&kind.group, &[&kind.resource], names, &["get", "create", "patch", "delete"]));
    }
    let labels = BTreeMap::from([(LABEL_BINDING.to_owned(), input.export.to_owned())]);
    grant(input.contract_namespace, input.namespace, &mapped_role_name(input.export), labels, rules)
}

fn grant(
    contract_namespace: &str,
    namespace: &str,
    name: &str,
    labels: BTreeMap<String, String>,
    rules: Vec<PolicyRule>,
) -> Grant {
    let metadata = ObjectMeta { labels: (!labels.is_empty()).then_some(labels), ..meta(name, Some(namespace)) };
    Grant {
        role: Role { metadata: metadata.clone(), rules: Some(rules) },
        role_binding: RoleBinding {
            metadata,
            role_ref: role_ref("Role", name),
            subjects: Some(vec![service_account(contract_namespace, KUBE_BINDER)]),
        },
    }
}
