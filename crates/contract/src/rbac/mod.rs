//! Who may do what, on both sides, as Kubernetes RBAC objects (`contract.md` §2).
//!
//! ```text
//!   consumer: person's credential creates ─► consumer::base, consumer::binding ─► agent creates ─► consumer::claims_in
//!   provider: administrator creates ─► backend::base, backend::offers ─► backend creates ─► provider::contract, ::mapped
//! ```
//!
//! Nobody holds a wildcard or `escalate`. An empty `resourceNames` would grant everything, so no names means no rule:
//! every rule is built by [`named`] or [`on`], which make that impossible to get wrong.

pub mod admission;
pub mod backend;
pub mod birth;
pub mod consumer;
pub mod provider;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_bind_api::GroupResource;

/// API group of RBAC objects.
pub const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

/// A rule for whole kinds of one group.
pub fn on(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(strings(resources)),
        verbs: strings(verbs),
        ..Default::default()
    }
}

/// A rule for objects by name; none without names.
pub fn named<N: AsRef<str>>(
    group: &str,
    resources: &[&str],
    names: impl IntoIterator<Item = N>,
    verbs: &[&str],
) -> Option<PolicyRule> {
    let names: BTreeSet<String> =
        names.into_iter().map(|name| name.as_ref().to_owned()).filter(|name| !name.is_empty()).collect();
    (!names.is_empty())
        .then(|| PolicyRule { resource_names: Some(names.into_iter().collect()), ..on(group, resources, verbs) })
}

/// One rule a group for several kinds, sorted.
fn on_all<'a>(kinds: impl IntoIterator<Item = &'a GroupResource>, verbs: &[&str]) -> Vec<PolicyRule> {
    let mut groups: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for kind in kinds {
        groups.entry(&kind.group).or_default().insert(&kind.resource);
    }
    groups.into_iter().map(|(group, resources)| on(group, &resources.into_iter().collect::<Vec<_>>(), verbs)).collect()
}

/// The same for a subresource of each.
fn on_subresource<'a>(
    kinds: impl IntoIterator<Item = &'a GroupResource>,
    subresource: &str,
    verbs: &[&str],
) -> Vec<PolicyRule> {
    let kinds: Vec<GroupResource> = kinds
        .into_iter()
        .map(|kind| GroupResource::new(kind.group.clone(), format!("{}/{subresource}", kind.resource)))
        .collect();
    on_all(&kinds, verbs)
}

/// Whether a set of rules allows a verb on a kind as a whole (a rule with `resourceNames` does not).
pub fn allows(rules: &[PolicyRule], kind: &GroupResource, verb: &str) -> bool {
    let has =
        |list: &Option<Vec<String>>, wanted: &str| list.iter().flatten().any(|entry| entry == wanted || entry == "*");
    rules.iter().any(|rule| {
        rule.resource_names.as_ref().is_none_or(Vec::is_empty)
            && has(&rule.api_groups, &kind.group)
            && has(&rule.resources, &kind.resource)
            && rule.verbs.iter().any(|entry| entry == verb || entry == "*")
    })
}

/// A ServiceAccount as a subject.
pub fn service_account(namespace: &str, name: &str) -> Subject {
    Subject {
        kind: "ServiceAccount".into(),
        name: name.to_owned(),
        namespace: Some(namespace.to_owned()),
        ..Default::default()
    }
}

fn role_ref(kind: &str, name: &str) -> RoleRef {
    RoleRef { api_group: Some(RBAC_GROUP.into()), kind: kind.to_owned(), name: name.to_owned() }
}

fn meta(name: &str, namespace: Option<&str>) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), namespace: namespace.map(str::to_owned), ..Default::default() }
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|entry| (*entry).to_owned()).collect()
}

#[cfg(test)]
mod tests;
