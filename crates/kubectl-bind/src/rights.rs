//! The consumer's objects around a binding, as JSON to be written: what the agent needs to run, and what it may do for
//! one binding. The rules themselves are `contract::rbac`'s.

use contract::install::{self, object};
use contract::rbac::admission::{self, BoundKind};
use contract::rbac::{birth, consumer};
use contract::{Claim, Consent};
use kube_bind_api::{ClaimState, GroupResource, Isolation, StatedClaim};
use kube_client::resource::Resource;
use serde_json::Value;

use crate::cluster::{kinds, text};

const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// The agent's rights for a binding of that name: the bound kinds, and the kinds of decided claims.
pub(crate) fn of_binding(name: &str, bound: &[GroupResource], claims: &[StatedClaim]) -> Vec<Value> {
    let mut claimed: Vec<GroupResource> = Vec::new();
    for stated in claims.iter().filter(|stated| stated.state() != ClaimState::Pending) {
        let kind = stated.claim.group_resource();
        if !claimed.contains(&kind) {
            claimed.push(kind);
        }
    }
    let rights = consumer::binding(name, None, bound, &claimed);
    let mut objects = Vec::new();
    objects.extend(rights.claims_role.as_ref().map(|role| object(RBAC, "ClusterRole", role)));
    objects.push(object(RBAC, "ClusterRole", &rights.cluster_role));
    objects.push(object(RBAC, "ClusterRoleBinding", &rights.cluster_role_binding));
    objects
}

/// The bound kind that the claims refer to: where it is used, the agent may use them.
pub(crate) fn referring(bound: &[GroupResource], claims: &[StatedClaim]) -> Option<GroupResource> {
    let references = claims.iter().flat_map(|stated| &stated.claim.selector.references);
    let referring = references.map(|reference| reference.group_resource()).find(|kind| bound.contains(kind));
    referring.or_else(|| bound.first().cloned())
}

/// The policy that lets the agent use claims only where the bound kind is used.
pub(crate) fn where_used(name: &str, group: &str, version: &str, kind: &str) -> Vec<Value> {
    let bound = BoundKind { group: group.to_owned(), version: version.to_owned(), kind: kind.to_owned() };
    install::policy(&admission::where_used(name, None, &bound)).into()
}

/// The policy that gives objects of the bound kinds their finalizer at birth.
pub(crate) fn finalizer_policy(
    name: &str,
    bound: &[GroupResource],
    contract: &str,
    isolation: Isolation,
) -> Vec<Value> {
    birth::policy(name, bound, contract, isolation).iter().flat_map(install::birth).collect()
}

/// Kind and name of what makes that policy, in the order in which to remove it.
pub(crate) fn names_of_finalizer_policy(name: &str) -> [(Resource, String); 2] {
    [(kinds::birth_policy_bindings(), birth::name(name)), (kinds::birth_policies(), birth::name(name))]
}

/// Kind and name of everything that was made around a binding, what puts things in force first: the order in which to
/// remove it.
pub(crate) fn names_of_binding(name: &str) -> Vec<(Resource, String)> {
    let mut names = vec![
        (kinds::cluster_role_bindings(), consumer::role_name(name)),
        (kinds::cluster_roles(), consumer::role_name(name)),
        (kinds::cluster_roles(), consumer::claims_role_name(name)),
    ];
    for object in where_used(name, "", "", "").into_iter().rev() {
        names.extend(kinds::of(&object).map(|resource| (resource, text(&object, "/metadata/name").to_owned())));
    }
    names
}

/// The decisions of an earlier bind, overruled by the new ones where they are about the same claim.
pub(crate) fn merge_decisions(before: Vec<StatedClaim>, new: Vec<StatedClaim>) -> Vec<StatedClaim> {
    let same = |a: &StatedClaim, b: &StatedClaim| match (Claim::parse(&a.claim), Claim::parse(&b.claim)) {
        (Ok(a), Ok(b)) => a == b,
        _ => a.claim == b.claim,
    };
    let mut merged: Vec<StatedClaim> = before;
    for stated in new {
        match merged.iter_mut().find(|old| same(old, &stated)) {
            Some(old) => old.state = stated.state,
            None => merged.push(stated),
        }
    }
    merged
}

/// What the provider asks for, with what the consumer has decided about it.
pub(crate) fn with_decisions(asked: Vec<StatedClaim>, decided: &[StatedClaim]) -> Vec<StatedClaim> {
    let asked: Vec<_> = asked.into_iter().map(|stated| stated.claim).collect();
    Consent::decide(&asked, decided).report()
}
