//! Admission policies at the consumer (Kubernetes 1.30 and later) that narrow what RBAC cannot say (`contract.md` §2).
//!
//! A person's credential creates them beside [`super::consumer`]'s objects, where the API server serves them:
//!
//! - [`where_used`], one per binding: a RoleBinding named `kube-bind:<binding>:claims` only in a namespace where an object
//!   of the bound kind exists, so that `bind` does not open `kube-system`. Objects of the kind are the policy's parameters;
//!   without one it denies. That denial comes before match conditions are looked at (tried on 1.36), so the policy has to
//!   be narrowed by the RoleBinding's name: it must not stop anybody else's;
//! - [`own_role_bindings`], once: the agent's RoleBindings have the name of what they bind, and bind it to the agent;
//! - [`only_ours`], once: of claimed kinds the agent creates only what carries the label of a binding, changes and deletes
//!   only what already carries it, and never moves an object from one binding to another; nor does it write what never
//!   crosses. (Policies add up, so one per binding would make two bindings exclude each other.)
//!
//! Admission never sees reads: reading claimed kinds where the kind is used stays open.

use std::collections::BTreeMap;

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MatchResources, NamedRuleWithOperations, ParamKind, ParamRef, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec, ValidatingAdmissionPolicySpec, Validation,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube_bind_api::constants::{ANNOTATION_BINDING_UID, CONSUMER_NAMESPACE, KONNECTOR, LABEL_BINDING};

use super::consumer::claims_role_name;
use crate::claims::CLAIMABLE;

/// A bound kind as a policy's parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundKind {
    /// API group.
    pub group: String,
    /// A served version.
    pub version: String,
    /// Kind.
    pub kind: String,
}

/// A policy and what puts it in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The rules.
    pub policy: ValidatingAdmissionPolicy,
    /// Puts them in force.
    pub binding: ValidatingAdmissionPolicyBinding,
}

/// RoleBindings to a binding's claims role only where an object of the kind exists. Of an export with several kinds give
/// the one that the claims refer to.
pub fn where_used(binding: &str, binding_uid: Option<&str>, bound: &BoundKind) -> Policy {
    // Policies, unlike RBAC objects, are named like DNS names.
    let name = format!("kube-bind.{binding}.where-used");
    let api_version = format!("{}/{}", bound.group, bound.version);
    let mut matches = rules("rbac.authorization.k8s.io", &["rolebindings"], &["CREATE", "UPDATE"]);
    for rule in matches.resource_rules.iter_mut().flatten() {
        rule.resource_names = Some(vec![claims_role_name(binding)]);
    }
    let spec = ValidatingAdmissionPolicySpec {
        failure_policy: Some("Fail".into()),
        param_kind: Some(ParamKind { api_version: Some(api_version), kind: Some(bound.kind.clone()) }),
        match_constraints: Some(matches),
        validations: Some(vec![validation(
            "params != null".to_owned(),
            format!("the claims of binding {binding} may be used only in namespaces with a {}", bound.kind),
        )]),
        ..Default::default()
    };
    let param_ref = ParamRef {
        selector: Some(LabelSelector::default()),
        parameter_not_found_action: Some("Deny".into()),
        ..Default::default()
    };
    let labels = BTreeMap::from([(LABEL_BINDING.to_owned(), binding.to_owned())]);
    let annotations = binding_uid.map(|uid| BTreeMap::from([(ANNOTATION_BINDING_UID.to_owned(), uid.to_owned())]));
    policy(&name, Some(labels), annotations, spec, Some(param_ref))
}

/// What does not depend on bindings: [`own_role_bindings`] and [`only_ours`].
pub fn agent() -> Vec<Policy> {
    vec![own_role_bindings(), only_ours()]
}

/// RoleBindings that the agent creates.
pub fn own_role_bindings() -> Policy {
    let spec = ValidatingAdmissionPolicySpec {
        failure_policy: Some("Fail".into()),
        match_constraints: Some(rules("rbac.authorization.k8s.io", &["rolebindings"], &["CREATE", "UPDATE"])),
        match_conditions: Some(vec![by_agent()]),
        validations: Some(vec![
            validation(
                "object.roleRef.kind == 'ClusterRole' && has(object.metadata.name) && \
                 object.metadata.name == object.roleRef.name"
                    .to_owned(),
                "the agent's RoleBindings have the name of the ClusterRole they bind".to_owned(),
            ),
            validation(
                format!(
                    "object.subjects.all(s, s.kind == 'ServiceAccount' && s.name == '{KONNECTOR}' && \
                     s.namespace == '{CONSUMER_NAMESPACE}')"
                ),
                "the agent gives rights only to itself".to_owned(),
            ),
        ]),
        ..Default::default()
    };
    policy("kube-bind.own-role-bindings", None, None, spec, None)
}

/// Objects of claimed kinds: the agent touches only what carries a binding's label.
pub fn only_ours() -> Policy {
    let labelled =
        |object: &str| format!("has({object}.metadata.labels) && '{LABEL_BINDING}' in {object}.metadata.labels");
    let spec = ValidatingAdmissionPolicySpec {
        failure_policy: Some("Fail".into()),
        match_constraints: Some(rules("", &CLAIMABLE, &["CREATE", "UPDATE", "DELETE"])),
        match_conditions: Some(vec![
            by_agent(),
            // The providers' credentials in its own namespace, which it renews, are not claimed objects.
            condition(
                "not-its-own",
                format!("request.namespace != '{CONSUMER_NAMESPACE}' || request.operation != 'UPDATE'"),
            ),
        ]),
        validations: Some(vec![
            validation(
                format!("request.operation == 'DELETE' || ({})", labelled("object")),
                format!("the agent writes claimed objects only with the label {LABEL_BINDING}"),
            ),
            validation(
                format!("request.operation == 'CREATE' || ({})", labelled("oldObject")),
                format!("the agent changes and deletes only objects with the label {LABEL_BINDING}"),
            ),
            validation(
                format!(
                    "request.operation != 'UPDATE' || \
                     object.metadata.labels['{LABEL_BINDING}'] == oldObject.metadata.labels['{LABEL_BINDING}']"
                ),
                format!("the agent does not change the label {LABEL_BINDING}"),
            ),
            // What never crosses, whoever holds the agent's credential: the token controller would fill in a live token,
            // and a Service could draw traffic to it. `dyn`, because not every kind has these fields, and the type checker
            // would warn about those that have not.
            validation(
                "request.operation == 'DELETE' || !has(dyn(object).type) || \
                 dyn(object).type != 'kubernetes.io/service-account-token'"
                    .to_owned(),
                "the agent writes no Secrets with tokens of ServiceAccounts".to_owned(),
            ),
            validation(
                "request.operation == 'DELETE' || !has(dyn(object).spec) || !has(dyn(object).spec.externalIPs) || \
                 size(dyn(object).spec.externalIPs) == 0"
                    .to_owned(),
                "the agent writes no Services with externalIPs".to_owned(),
            ),
        ]),
        ..Default::default()
    };
    policy("kube-bind.only-ours", None, None, spec, None)
}

fn policy(
    name: &str,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    spec: ValidatingAdmissionPolicySpec,
    param_ref: Option<ParamRef>,
) -> Policy {
    let metadata = ObjectMeta { name: Some(name.to_owned()), labels, annotations, ..Default::default() };
    Policy {
        policy: ValidatingAdmissionPolicy { metadata: metadata.clone(), spec: Some(spec), status: None },
        binding: ValidatingAdmissionPolicyBinding {
            metadata,
            spec: ValidatingAdmissionPolicyBindingSpec {
                policy_name: name.to_owned(),
                param_ref,
                validation_actions: vec!["Deny".into()],
                ..Default::default()
            },
        },
    }
}

fn rules(group: &str, resources: &[&str], operations: &[&str]) -> MatchResources {
    let rule = NamedRuleWithOperations {
        api_groups: Some(vec![group.to_owned()]),
        api_versions: Some(vec!["*".into()]),
        operations: Some(super::strings(operations)),
        resources: Some(super::strings(resources)),
        ..Default::default()
    };
    MatchResources { resource_rules: Some(vec![rule]), ..Default::default() }
}

fn by_agent() -> MatchCondition {
    let agent = format!("system:serviceaccount:{CONSUMER_NAMESPACE}:{KONNECTOR}");
    condition("by-the-agent", format!("request.userInfo.username == '{agent}'"))
}

fn condition(name: &str, expression: String) -> MatchCondition {
    MatchCondition { name: name.to_owned(), expression }
}

fn validation(expression: String, message: String) -> Validation {
    Validation { expression, message: Some(message), ..Default::default() }
}
