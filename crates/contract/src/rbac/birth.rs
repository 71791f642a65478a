//! The finalizer at birth: a MutatingAdmissionPolicy, one per binding, by which the API server gives every object of a bound
//! kind our finalizer and place in the very write that creates it. In: the binding's name, its kinds, and where their copies
//! go. Out: a [`Birth`]. Without it the agent writes both right after: one write more for each object, and a moment in which
//! a deletion would not wait for anything.
//!
//! **Only when asked for** (`kubectl bind --finalizer-at-birth`). Kubernetes 1.36 answers 503 to a create that such a policy
//! applies to until the API server has read the kind's schema, whatever `failurePolicy` says: for some five seconds after
//! a CustomResourceDefinition has come, and after each start of an API server (tried; the plugin looks for schemas every five
//! seconds). The first is waited out before the policy is written; the second nobody can close from outside, and a failed
//! create now and then is too much for a saved write that nobody has asked for.
//!
//! **Who writes it.** `kubectl bind` with a person's credential, as it does the roles of the binding, and `kubectl bind unbind`
//! removes it with them. The agent has no right on such policies: whoever holds one can change what anybody creates, and
//! what it would save the agent it can do itself.
//!
//! **When it does nothing.** A finalizer without an agent to take it off makes a deletion hang, so the policy does not rely on
//! anybody removing it: it looks at the binding (its parameter) and at the agent's rights each time, and gives nothing
//!
//! - where the binding is gone or being deleted, has lost its [`ANNOTATION`], is not `Connected` (revoked, another cluster's,
//!   never was), or does not list the kind;
//! - where the agent could not take the finalizer off any more: its base rights or those of this binding are gone, as they
//!   are when it was uninstalled;
//! - where an expression goes wrong (`failurePolicy: Ignore`): the agent does what it did before.
//!
//! API servers hear of a change by a watch, so the unbind of a binding with the annotation waits a moment before finalizers
//! are taken off (`konnector::binding::unbind`). An agent that is merely away cannot be told from one that is slow: what is born then
//! carries the finalizer like everything made before, and its deletion waits for the agent.
//!
//! What the place is for: wire readers; and an object without the right one gets it by a write of the agent. So where it
//! cannot be said beforehand (a name that must be shortened with a hash) the policy gives the finalizer alone.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::admissionregistration::v1::{
    JSONPatch, MatchCondition, MatchResources, MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding,
    MutatingAdmissionPolicyBindingSpec, MutatingAdmissionPolicySpec, Mutation, NamedRuleWithOperations, ParamKind,
    ParamRef, Variable,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_bind_api::constants::{
    ANNOTATION_PROVIDER_NAMESPACE, CONSUMER_NAMESPACE, FINALIZER, KONNECTOR, LABEL_BINDING,
};
use kube_bind_api::{GroupResource, Isolation};

use crate::names::MAX_NAMESPACE;

/// On a binding: new objects may be given the finalizer by the API server. Without it the policy does nothing.
pub const ANNOTATION: &str = "kube-bind.io/finalizer-at-birth";

/// The policy and what puts it in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Birth {
    /// What is given to whom.
    pub policy: MutatingAdmissionPolicy,
    /// Puts it in force for the binding.
    pub binding: MutatingAdmissionPolicyBinding,
}

/// Name of both.
pub fn name(binding: &str) -> String {
    format!("kube-bind.{binding}.finalizer")
}

/// The policy of a binding; none if nothing of it may be matched. `contract` is the contract namespace at the provider.
pub fn policy(binding: &str, kinds: &[GroupResource], contract: &str, isolation: Isolation) -> Option<Birth> {
    let mut groups: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    // What a provider calls a kind must not become a pattern, nor name a kind of Kubernetes itself.
    for kind in kinds.iter().filter(|kind| is_name(&kind.group, 253) && kind.group.contains('.')) {
        if is_name(&kind.resource, MAX_NAMESPACE) {
            groups.entry(&kind.group).or_default().insert(&kind.resource);
        }
    }
    if groups.is_empty() {
        return None;
    }
    let rule = |(group, resources): (&str, BTreeSet<&str>)| NamedRuleWithOperations {
        api_groups: Some(vec![group.to_owned()]),
        api_versions: Some(vec!["*".into()]),
        operations: Some(vec!["CREATE".into()]),
        resources: Some(resources.into_iter().map(str::to_owned).collect()),
        ..Default::default()
    };
    let mut mutations = vec![patch(format!(
        "!has(object.metadata.finalizers) \
         ? [JSONPatch{{op: 'add', path: '/metadata/finalizers', value: ['{FINALIZER}']}}] \
         : '{FINALIZER}' in object.metadata.finalizers ? [] \
         : [JSONPatch{{op: 'add', path: '/metadata/finalizers/-', value: '{FINALIZER}'}}]"
    ))];
    let place = place(contract, isolation);
    if place.is_some() {
        mutations.push(patch(format!(
            "variables.place == '' ? [] : !has(object.metadata.annotations) \
             ? [JSONPatch{{op: 'add', path: '/metadata/annotations', value: {{'{ANNOTATION_PROVIDER_NAMESPACE}': variables.place}}}}] \
             : [JSONPatch{{op: 'add', path: '/metadata/annotations/{}', value: variables.place}}]",
            ANNOTATION_PROVIDER_NAMESPACE.replace('/', "~1")
        )));
    }
    let name = name(binding);
    let labels = BTreeMap::from([(LABEL_BINDING.to_owned(), binding.to_owned())]);
    let metadata = ObjectMeta { name: Some(name.clone()), labels: Some(labels), ..Default::default() };
    Some(Birth {
        policy: MutatingAdmissionPolicy {
            metadata: metadata.clone(),
            spec: Some(MutatingAdmissionPolicySpec {
                failure_policy: Some("Ignore".into()),
                reinvocation_policy: Some("Never".into()),
                param_kind: Some(ParamKind {
                    api_version: Some(kube_bind_api::API_VERSION.into()),
                    kind: Some("APIServiceBinding".into()),
                }),
                match_constraints: Some(MatchResources {
                    resource_rules: Some(groups.into_iter().map(rule).collect()),
                    ..Default::default()
                }),
                match_conditions: Some(conditions()),
                variables: place.map(|expression| vec![Variable { name: "place".into(), expression }]),
                mutations: Some(mutations),
            }),
        },
        binding: MutatingAdmissionPolicyBinding {
            metadata,
            spec: Some(MutatingAdmissionPolicyBindingSpec {
                policy_name: Some(name),
                param_ref: Some(ParamRef {
                    name: Some(binding.to_owned()),
                    // Without the binding there is nothing to do, which is no error.
                    parameter_not_found_action: Some("Allow".into()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
        },
    })
}

/// When the agent would hold the object itself, and could let go of it.
fn conditions() -> Vec<MatchCondition> {
    let condition = |name: &str, expression: String| MatchCondition { name: name.to_owned(), expression };
    let may = |group: &str, resource: &str, verb: &str| {
        format!(
            "authorizer.serviceAccount('{CONSUMER_NAMESPACE}', '{KONNECTOR}').group({group}).resource({resource})\
             .check('{verb}').allowed()"
        )
    };
    vec![
        condition(
            "binding-is-connected",
            "!has(params.metadata.deletionTimestamp) && has(params.status) && has(params.status.phase) && \
             params.status.phase == 'Connected'"
                .into(),
        ),
        condition(
            "binding-says-so",
            format!("has(params.metadata.annotations) && '{ANNOTATION}' in params.metadata.annotations"),
        ),
        condition(
            "kind-is-bound",
            "has(params.status.boundSchemas) && params.status.boundSchemas.exists(bound, \
             bound.group == request.resource.group && bound.resource == request.resource.resource)"
                .into(),
        ),
        condition("agent-is-installed", may("'kube-bind.io'", "'apiservicebindings'", "watch")),
        condition("agent-can-let-go", may("request.resource.group", "request.resource.resource", "patch")),
    ]
}

/// Where the copy of an object will be, as CEL: the provider's namespace, or nothing where it has none or it cannot be said.
fn place(contract: &str, isolation: Isolation) -> Option<String> {
    // It comes from the provider and goes into an expression.
    if !is_name(contract, MAX_NAMESPACE) {
        return None;
    }
    let cluster_scoped = if isolation == Isolation::Namespaced { contract } else { "" };
    let namespaced = match isolation {
        Isolation::None => "request.namespace".to_owned(),
        Isolation::Prefixed | Isolation::Namespaced => {
            let room = MAX_NAMESPACE.saturating_sub(contract.len() + 1);
            format!("size(request.namespace) > {room} ? '' : '{contract}-' + request.namespace")
        }
    };
    Some(format!("!has(request.namespace) || request.namespace == '' ? '{cluster_scoped}' : {namespaced}"))
}

/// Whether a text is made of what Kubernetes names are made of, so that it may stand in an expression.
fn is_name(text: &str, longest: usize) -> bool {
    !text.is_empty()
        && text.len() <= longest
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
}

fn patch(expression: String) -> Mutation {
    Mutation {
        patch_type: "JSONPatch".into(),
        json_patch: Some(JSONPatch { expression: Some(expression) }),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acmedbs() -> GroupResource {
        GroupResource::new("acmedb.com", "acmedbs")
    }

    #[test]
    fn the_policy_is_golden() {
        let birth = policy("acmedb", &[acmedbs()], "cluster-x", Isolation::Prefixed).unwrap();
        let policy = serde_saphyr::to_string(&birth.policy).unwrap();
        let binding = serde_saphyr::to_string(&birth.binding).unwrap();
        insta::assert_snapshot!(format!("{policy}---\n{binding}"));
    }

    #[test]
    fn what_a_provider_says_is_never_a_pattern_or_an_expression() {
        for (group, resource) in
            [("*", "*"), ("", "secrets"), ("apps", "deployments"), ("a.b", "*"), ("a.b", "c/status")]
        {
            assert_eq!(policy("b", &[GroupResource::new(group, resource)], "c", Isolation::Prefixed), None, "{group}");
        }
        let birth = policy("b", &[acmedbs()], "c' + object.spec.password + '", Isolation::Namespaced).unwrap();
        let text = serde_json::to_string(&birth.policy).unwrap();
        assert!(!text.contains("password") && !text.contains("place"), "{text}");
        assert!(text.contains(FINALIZER));
    }

    #[test]
    fn places_are_those_of_the_mapping() {
        use crate::names::mapped_namespace;
        for isolation in [Isolation::None, Isolation::Prefixed, Isolation::Namespaced] {
            let expression = place("cluster-x", isolation).unwrap();
            assert_eq!(
                expression.contains("'cluster-x-' +"),
                mapped_namespace("cluster-x", isolation, "a") == "cluster-x-a"
            );
            assert_eq!(expression.contains("? 'cluster-x' :"), isolation == Isolation::Namespaced);
        }
        // Exactly what is not shortened.
        let room = "a".repeat(53);
        assert!(place("cluster-x", Isolation::Prefixed).unwrap().contains("> 53 ?"));
        assert_eq!(mapped_namespace("cluster-x", Isolation::Prefixed, &room), format!("cluster-x-{room}"));
        assert_ne!(
            mapped_namespace("cluster-x", Isolation::Prefixed, &format!("{room}a")),
            format!("cluster-x-{room}a")
        );
    }
}
