//! Cells of access control, admission, networking, coordination and scheduling kinds.

use apimachinery::table::Column;
use serde_json::Value;

use super::{NONE, UNSET, at, flag, items, joined, number, selector, size, string, text, text_or, wide};

/// Role and cluster role bindings.
pub(in super::super) fn bindings() -> Vec<Column> {
    vec![
        string("Role", |o, _| format!("{}/{}", text(o, "/roleRef/kind"), text(o, "/roleRef/name")).into()),
        Column::age(),
        wide("Users", |o, _| subjects(o, "User")),
        wide("Groups", |o, _| subjects(o, "Group")),
        wide("ServiceAccounts", |o, _| subjects(o, "ServiceAccount")),
    ]
}

fn subjects(binding: &Value, kind: &str) -> Value {
    let names: Vec<String> = items(binding, "/subjects")
        .iter()
        .filter(|s| text(s, "/kind") == kind)
        .map(|s| match text(s, "/namespace") {
            "" => text(s, "/name").to_owned(),
            namespace => format!("{namespace}/{}", text(s, "/name")),
        })
        .collect();
    names.join(", ").into()
}

pub(in super::super) fn leases() -> Vec<Column> {
    vec![string("Holder", |o, _| text(o, "/spec/holderIdentity").into()), Column::age()]
}

/// Validating and mutating webhook configurations.
pub(in super::super) fn webhooks() -> Vec<Column> {
    vec![Column::computed("Webhooks", "integer", 0, |o, _| size(o, "/webhooks").into()), Column::age()]
}

pub(in super::super) fn validating_policies() -> Vec<Column> {
    vec![
        Column::computed("Validations", "integer", 0, |o, _| size(o, "/spec/validations").into()),
        string("ParamKind", |o, _| param_kind(o)),
        Column::age(),
    ]
}

pub(in super::super) fn mutating_policies() -> Vec<Column> {
    vec![
        Column::computed("Mutations", "integer", 0, |o, _| size(o, "/spec/mutations").into()),
        string("ParamKind", |o, _| param_kind(o)),
        Column::age(),
    ]
}

fn param_kind(policy: &Value) -> Value {
    match at(policy, "/spec/paramKind") {
        Some(kind) => format!("{}/{}", text(kind, "/apiVersion"), text(kind, "/kind")).into(),
        None => UNSET.into(),
    }
}

/// Bindings of admission policies.
pub(in super::super) fn admission_bindings() -> Vec<Column> {
    vec![
        string("PolicyName", |o, _| text(o, "/spec/policyName").into()),
        string("ParamRef", |o, _| match at(o, "/spec/paramRef") {
            Some(reference) if !text(reference, "/namespace").is_empty() => {
                format!("{}/{}", text(reference, "/namespace"), text(reference, "/name")).into()
            }
            Some(reference) => text_or(reference, "/name", UNSET),
            None => UNSET.into(),
        }),
        Column::age(),
    ]
}

pub(in super::super) fn ingresses() -> Vec<Column> {
    vec![
        string("Class", |o, _| text_or(o, "/spec/ingressClassName", NONE)),
        string("Hosts", |o, _| {
            let hosts: Vec<&str> =
                items(o, "/spec/rules").iter().map(|r| text(r, "/host")).filter(|h| !h.is_empty()).collect();
            if hosts.is_empty() { "*".into() } else { joined(&hosts) }
        }),
        string("Address", |o, _| {
            let ingress = items(o, "/status/loadBalancer/ingress").iter();
            let addresses: Vec<&str> = ingress
                .map(|i| if text(i, "/ip").is_empty() { text(i, "/hostname") } else { text(i, "/ip") })
                .collect();
            addresses.join(",").into()
        }),
        string("Ports", |o, _| if size(o, "/spec/tls") > 0 { "80, 443" } else { "80" }.into()),
        Column::age(),
    ]
}

pub(in super::super) fn ingress_classes() -> Vec<Column> {
    vec![
        string("Controller", |o, _| text(o, "/spec/controller").into()),
        string("Parameters", |o, _| match at(o, "/spec/parameters") {
            Some(p) if !text(p, "/apiGroup").is_empty() => {
                format!("{}.{}/{}", text(p, "/kind"), text(p, "/apiGroup"), text(p, "/name")).into()
            }
            Some(p) => format!("{}/{}", text(p, "/kind"), text(p, "/name")).into(),
            None => NONE.into(),
        }),
        Column::age(),
    ]
}

pub(in super::super) fn network_policies() -> Vec<Column> {
    vec![string("Pod-Selector", |o, _| selector(o, "/spec/podSelector")), Column::age()]
}

pub(in super::super) fn disruption_budgets() -> Vec<Column> {
    vec![
        string("Min Available", |o, _| bound_of(o, "/spec/minAvailable")),
        string("Max Unavailable", |o, _| bound_of(o, "/spec/maxUnavailable")),
        Column::computed("Allowed Disruptions", "integer", 0, |o, _| number(o, "/status/disruptionsAllowed").into()),
        Column::age(),
    ]
}

fn bound_of(budget: &Value, pointer: &str) -> Value {
    match at(budget, pointer) {
        Some(Value::String(percent)) => percent.clone().into(),
        Some(count) => count.to_string().into(),
        None => "N/A".into(),
    }
}

pub(in super::super) fn priority_classes() -> Vec<Column> {
    vec![
        Column::computed("Value", "integer", 0, |o, _| number(o, "/value").into()),
        Column::computed("Global-Default", "boolean", 0, |o, _| flag(o, "/globalDefault").into()),
        Column::age(),
        string("PreemptionPolicy", |o, _| text(o, "/preemptionPolicy").into()),
    ]
}
