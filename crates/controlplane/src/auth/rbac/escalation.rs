//! Nobody grants what he does not hold.
//!
//! In: a write of a Role, ClusterRole, RoleBinding or ClusterRoleBinding, after defaulting and merging. Out:
//! nothing, or the error that kube-apiserver would give. Called by the write pipeline before it commits
//! ([`admit`]); writes of anything else pass.
//!
//! The rules are those of "Privilege escalation prevention and bootstrapping" in the Kubernetes documents: a
//! role may be written by who holds all its rules in that scope or the verb `escalate` on it; a binding by who
//! holds the rules of the role it refers to, or the verb `bind` on that role.

use apimachinery::status::{Cause, StatusError};
use serde_json::{Value, json};

use super::rules::{Rule, describe, quoted_list, uncovered};
use super::{GROUP, MASTERS, Rbac, RoleRef};
use crate::request::{Attributes, ObjectReader, UserInfo};

/// A write that is about to happen.
#[derive(Clone, Copy)]
pub struct RbacWrite<'a> {
    /// Who writes.
    pub user: &'a UserInfo,
    /// Logical cluster.
    pub cluster: &'a str,
    /// API group of the object.
    pub group: &'a str,
    /// Plural name of the resource.
    pub resource: &'a str,
    /// Namespace, empty for cluster scope.
    pub namespace: &'a str,
    /// The stored object; `None` for a create.
    pub old: Option<&'a Value>,
    /// The object as it would be stored.
    pub new: &'a Value,
    /// The name in the URL; empty for a POST, whose object may have one nevertheless. `escalate` for certain names
    /// counts for this name.
    pub addressed: &'a str,
}

/// Checks a write: field rules first, then what the user may grant.
///
/// # Errors
/// `Invalid` for malformed rules, subjects or a changed `roleRef`; `NotFound` where a binding refers to a role that
/// does not exist; `Forbidden` for rights that the user does not hold.
pub fn admit(rbac: &Rbac, reader: &dyn ObjectReader, write: &RbacWrite<'_>) -> Result<(), StatusError> {
    if write.group != GROUP {
        return Ok(());
    }
    let kind = match write.resource {
        "roles" => "Role",
        "clusterroles" => "ClusterRole",
        "rolebindings" => "RoleBinding",
        "clusterrolebindings" => "ClusterRoleBinding",
        _ => return Ok(()),
    };
    let is_role = matches!(write.resource, "roles" | "clusterroles");
    let free = write.user.groups.iter().any(|group| group == MASTERS) || only_bookkeeping_changed(write);
    // A role is judged before it is validated, as in Kubernetes; a binding has to make sense first.
    if is_role && !free {
        admit_role(rbac, reader, write)?;
    }
    let causes = if is_role { role_faults(write) } else { binding_faults(write) };
    if !causes.is_empty() {
        return Err(StatusError::invalid(GROUP, kind, name_of(write.new), causes));
    }
    if is_role || free { Ok(()) } else { admit_binding(rbac, reader, write) }
}

/// Fills in what clients may leave out: `apiGroup` of `roleRef` and of subjects, and drops `null` rules.
pub fn default(group: &str, resource: &str, object: &mut Value) {
    if group != GROUP || !matches!(resource, "rolebindings" | "clusterrolebindings") {
        return;
    }
    if let Some(role) = object.get_mut("roleRef").and_then(Value::as_object_mut)
        && role.get("apiGroup").and_then(Value::as_str).unwrap_or("").is_empty()
    {
        role.insert("apiGroup".into(), json!(GROUP));
    }
    for subject in object.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
        let is_account = subject.get("kind").and_then(Value::as_str) == Some("ServiceAccount");
        if let Some(subject) = subject.as_object_mut()
            && !is_account
            && subject.get("apiGroup").and_then(Value::as_str).unwrap_or("").is_empty()
        {
            subject.insert("apiGroup".into(), json!(GROUP));
        }
    }
}

fn name_of(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("")
}

/// True if only owner references, finalizers and the server's own fields differ: what a garbage collector changes.
fn only_bookkeeping_changed(write: &RbacWrite<'_>) -> bool {
    let Some(old) = write.old else { return false };
    let strip = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            for field in
                ["ownerReferences", "finalizers", "managedFields", "resourceVersion", "generation", "deletionTimestamp"]
            {
                metadata.remove(field);
            }
        }
        object
    };
    strip(old) == strip(write.new)
}

fn admit_role(rbac: &Rbac, reader: &dyn ObjectReader, write: &RbacWrite<'_>) -> Result<(), StatusError> {
    let same = |field: &str| write.old.is_some_and(|old| semantically_equal(old.get(field), write.new.get(field)));
    if same("rules") && same("aggregationRule") {
        return Ok(());
    }
    let name = name_of(write.new);
    if may(rbac, reader, write, "escalate", write.resource, write.addressed) {
        return Ok(());
    }
    if write.resource == "clusterroles" && write.new.get("aggregationRule").is_some_and(|rule| !rule.is_null()) {
        let everything = [
            Rule {
                verbs: vec!["*".into()],
                api_groups: vec!["*".into()],
                resources: vec!["*".into()],
                ..Rule::default()
            },
            Rule { verbs: vec!["*".into()], non_resource_urls: vec!["*".into()], ..Rule::default() },
        ];
        confirm(rbac, reader, write, &everything).map_err(|_| {
            let why = "must have cluster-admin privileges to use the aggregationRule";
            StatusError::forbidden(GROUP, write.resource, name, why)
        })?;
    }
    confirm(rbac, reader, write, &Rule::list_from(write.new))
        .map_err(|why| StatusError::forbidden(GROUP, write.resource, name, why))
}

fn admit_binding(rbac: &Rbac, reader: &dyn ObjectReader, write: &RbacWrite<'_>) -> Result<(), StatusError> {
    let role = RoleRef::of(write.new);
    if let Some(resource) = role.resource()
        && may(rbac, reader, write, "bind", resource, &role.name)
    {
        return Ok(());
    }
    let granted = rbac.rules_of(reader, write.cluster, &role, write.namespace).map_err(|error| {
        // Kubernetes names the resource of the request here, not the role's.
        if error.code == 404 { StatusError::not_found(GROUP, write.resource, &role.name) } else { error }
    })?;
    confirm(rbac, reader, write, &granted)
        .map_err(|why| StatusError::forbidden(GROUP, write.resource, name_of(write.new), why))
}

fn may(rbac: &Rbac, reader: &dyn ObjectReader, write: &RbacWrite<'_>, verb: &str, resource: &str, name: &str) -> bool {
    let attributes = Attributes {
        cluster: write.cluster.into(),
        verb: verb.into(),
        group: GROUP.into(),
        version: "*".into(),
        resource: resource.into(),
        namespace: write.namespace.into(),
        name: name.into(),
        ..Attributes::default()
    };
    let allowed = rbac.authorize(reader, write.user, &attributes).allowed;
    if allowed {
        rbac.observer.grant(write.user, &attributes);
    }
    allowed
}

/// The user's own rules in the scope of the object must cover `granted`.
fn confirm(rbac: &Rbac, reader: &dyn ObjectReader, write: &RbacWrite<'_>, granted: &[Rule]) -> Result<(), String> {
    let namespace = (!write.namespace.is_empty()).then_some(write.namespace);
    let (held, errors) = rbac.rules_for(reader, write.user, write.cluster, namespace);
    let missing = uncovered(&held, granted);
    if missing.is_empty() {
        rbac.observer.grant_rules(write.user, write.cluster, write.namespace, granted);
        return Ok(());
    }
    let mut message = format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        write.user.username,
        quoted_list(&write.user.groups),
        describe(missing)
    );
    let errors: Vec<String> = errors
        .iter()
        .map(|error| match error.split_once('.') {
            Some(("roles" | "clusterroles", rest)) => format!("{}.{rest}", write.resource),
            _ => error.clone(),
        })
        .collect();
    match errors.as_slice() {
        [] => {}
        [one] => message = format!("{message}; resolution errors: [{one}]"),
        many => message = format!("{message}; resolution errors: [[{}]]", many.join(", ")),
    }
    Err(message)
}

/// Equal, where nothing, `null` and an empty list are the same.
fn semantically_equal(a: Option<&Value>, b: Option<&Value>) -> bool {
    let nothing = |value: Option<&Value>| {
        value.is_none_or(|value| value.is_null() || value.as_array().is_some_and(Vec::is_empty))
    };
    (nothing(a) && nothing(b)) || a == b
}

fn role_faults(write: &RbacWrite<'_>) -> Vec<Cause> {
    let namespaced = write.resource == "roles";
    let mut causes = Vec::new();
    for (at, rule) in Rule::list_from(write.new).iter().enumerate() {
        let path = |field: &str| format!("rules[{at}].{field}");
        if rule.verbs.is_empty() {
            causes.push(Cause::required(path("verbs"), "verbs must contain at least one value"));
        }
        if !rule.non_resource_urls.is_empty() {
            if namespaced {
                causes.push(Cause::invalid_value(
                    path("nonResourceURLs"),
                    &json!(rule.non_resource_urls),
                    "namespaced rules cannot apply to non-resource URLs",
                ));
            }
            if !(rule.api_groups.is_empty() && rule.resources.is_empty() && rule.resource_names.is_empty()) {
                causes.push(Cause::invalid_value(
                    path("nonResourceURLs"),
                    &json!(rule.non_resource_urls),
                    "rules cannot apply to both regular resources and non-resource URLs",
                ));
            }
            continue;
        }
        if rule.api_groups.is_empty() {
            causes.push(Cause::required(path("apiGroups"), "resource rules must supply at least one api group"));
        }
        if rule.resources.is_empty() {
            causes.push(Cause::required(path("resources"), "resource rules must supply at least one resource"));
        }
    }
    causes
}

fn binding_faults(write: &RbacWrite<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let cluster_wide = write.resource == "clusterrolebindings";
    let role = RoleRef::of(write.new);
    if let Some(old) = write.old
        && RoleRef::of(old) != role
    {
        // Shown with Go's field names, as Kubernetes does.
        let value = json!({"APIGroup": role.api_group, "Kind": role.kind, "Name": role.name});
        causes.push(Cause::invalid_value("roleRef", &value, "cannot change roleRef"));
    }
    if role.api_group != GROUP {
        causes.push(Cause::not_supported("roleRef.apiGroup", &json!(role.api_group), &[GROUP]));
    }
    let kinds: &[&str] = if cluster_wide { &["ClusterRole"] } else { &["Role", "ClusterRole"] };
    if !kinds.contains(&role.kind.as_str()) {
        causes.push(Cause::not_supported("roleRef.kind", &json!(role.kind), kinds));
    }
    if role.name.is_empty() {
        causes.push(Cause::required("roleRef.name", ""));
    } else {
        let fault = match role.name.as_str() {
            "." => Some("may not be '.'"),
            ".." => Some("may not be '..'"),
            name if name.contains('/') => Some("may not contain '/'"),
            name if name.contains('%') => Some("may not contain '%'"),
            _ => None,
        };
        causes.extend(fault.map(|fault| Cause::invalid_value("roleRef.name", &json!(role.name), fault)));
    }
    let subjects = write.new.get("subjects").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for (at, subject) in subjects.iter().enumerate() {
        let text = |field: &str| subject.get(field).and_then(Value::as_str).unwrap_or("");
        let path = |field: &str| format!("subjects[{at}].{field}");
        if text("name").is_empty() {
            causes.push(Cause::required(path("name"), ""));
        }
        let group = match text("kind") {
            "ServiceAccount" => {
                if cluster_wide && text("namespace").is_empty() {
                    causes.push(Cause::required(path("namespace"), ""));
                }
                ""
            }
            "User" | "Group" => GROUP,
            other => {
                causes.push(Cause::not_supported(path("kind"), &json!(other), &["ServiceAccount", "User", "Group"]));
                continue;
            }
        };
        if text("apiGroup") != group {
            causes.push(Cause::not_supported(path("apiGroup"), &json!(text("apiGroup")), &[group]));
        }
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::testing::{Objects, service_account};

    fn agent_that_may(rules: Value) -> Objects {
        let objects = Objects::default();
        objects.put("c", GROUP, "clusterroles", json!({"metadata":{"name":"mine"},"rules":rules}));
        objects.put(
            "c",
            GROUP,
            "clusterrolebindings",
            json!({"metadata":{"name":"mine"},"roleRef":{"apiGroup":GROUP,"kind":"ClusterRole","name":"mine"},
                "subjects":[{"kind":"ServiceAccount","name":"agent","namespace":"a"}]}),
        );
        objects
    }

    fn write(objects: &Objects, resource: &str, old: Option<&Value>, new: &Value) -> Result<(), StatusError> {
        let user = service_account("a", "agent");
        let addressed = new["metadata"]["name"].as_str().unwrap();
        let namespace = if resource.starts_with("cluster") { "" } else { "n" };
        admit(
            &Rbac::default(),
            objects,
            &RbacWrite { user: &user, cluster: "c", group: GROUP, resource, namespace, old, new, addressed },
        )
    }

    fn role(rules: Value) -> Value {
        json!({"metadata":{"name":"new","namespace":"n"},"rules":rules})
    }

    fn binding(role: &str) -> Value {
        json!({"metadata":{"name":"new","namespace":"n"},"roleRef":{"apiGroup":GROUP,"kind":"ClusterRole","name":role},
            "subjects":[{"kind":"User","name":"u","apiGroup":GROUP}]})
    }

    #[test]
    fn held_rules_may_be_granted_others_not() {
        let objects = agent_that_may(json!([{"verbs":["get","list"],"apiGroups":[""],"resources":["secrets"]}]));
        write(
            &objects,
            "roles",
            None,
            &role(json!([{"verbs":["get"],"apiGroups":[""],"resources":["secrets"],"resourceNames":["x"]}])),
        )
        .unwrap();
        let error = write(
            &objects,
            "roles",
            None,
            &role(json!([{"verbs":["get","delete","watch"],"apiGroups":[""],"resources":["secrets"]}])),
        )
        .unwrap_err();
        assert_eq!(error.code, 403);
        assert_eq!(
            error.message,
            "roles.rbac.authorization.k8s.io \"new\" is forbidden: user \"system:serviceaccount:a:agent\" \
             (groups=[\"system:serviceaccounts\" \"system:serviceaccounts:a\" \"system:authenticated\"]) \
             is attempting to grant RBAC permissions not currently held:\n\
             {APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"delete\" \"watch\"]}"
        );
    }

    #[test]
    fn escalate_and_bind_open_the_door_by_name() {
        let objects = agent_that_may(json!([
            {"verbs":["bind"],"apiGroups":[GROUP],"resources":["clusterroles"],"resourceNames":["granted"]},
            {"verbs":["escalate"],"apiGroups":[GROUP],"resources":["roles"],"resourceNames":["new"]}]));
        let all = json!([{"verbs":["*"],"apiGroups":["*"],"resources":["*"]}]);
        for name in ["granted", "other"] {
            objects.put("c", GROUP, "clusterroles", json!({"metadata":{"name":name},"rules":all}));
        }
        write(&objects, "rolebindings", None, &binding("granted")).unwrap();
        assert_eq!(write(&objects, "rolebindings", None, &binding("other")).unwrap_err().code, 403);
        write(&objects, "roles", None, &role(all.clone())).unwrap();
        assert_eq!(write(&objects, "clusterroles", None, &role(all)).unwrap_err().code, 403);
    }

    #[test]
    fn bind_does_not_need_the_role_but_holding_does() {
        let objects = agent_that_may(json!([{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}]));
        let error = write(&objects, "rolebindings", None, &binding("absent")).unwrap_err();
        assert_eq!(
            (error.code, error.message.as_str()),
            (404, "rolebindings.rbac.authorization.k8s.io \"absent\" not found")
        );
    }

    #[test]
    fn role_ref_cannot_change() {
        let objects = agent_that_may(json!([{"verbs":["*"],"apiGroups":["*"],"resources":["*"]}]));
        let error = write(&objects, "rolebindings", Some(&binding("one")), &binding("two")).unwrap_err();
        assert_eq!(
            error.message,
            "RoleBinding.rbac.authorization.k8s.io \"new\" is invalid: roleRef: Invalid value: \
             {\"APIGroup\":\"rbac.authorization.k8s.io\",\"Kind\":\"ClusterRole\",\"Name\":\"two\"}: cannot change roleRef"
        );
    }

    #[test]
    fn a_garbage_collector_may_take_off_finalizers() {
        let objects = agent_that_may(json!([]));
        let old = role(json!([{"verbs":["*"],"apiGroups":["*"],"resources":["*"]}]));
        let mut new = old.clone();
        new["metadata"]["ownerReferences"] = json!([{"uid":"x"}]);
        write(&objects, "roles", Some(&old), &new).unwrap();
        new["metadata"]["labels"] = json!({"a":"b"});
        write(&objects, "roles", Some(&old), &new).unwrap();
        new["rules"][0]["resourceNames"] = json!(["x"]);
        assert_eq!(write(&objects, "roles", Some(&old), &new).unwrap_err().code, 403);
    }

    #[test]
    fn malformed_rules_are_named() {
        let objects = agent_that_may(json!([]));
        let error = write(&objects, "roles", None, &role(json!([{"verbs":[],"apiGroups":[""],"resources":["pods"]}])))
            .unwrap_err();
        assert_eq!(
            error.message,
            "Role.rbac.authorization.k8s.io \"new\" is invalid: rules[0].verbs: Required value: verbs must contain at least one value"
        );
    }

    #[test]
    fn defaults_fill_api_groups() {
        let mut object = json!({"roleRef":{"kind":"Role","name":"r"},"subjects":[{"kind":"User","name":"u"},{"kind":"ServiceAccount","name":"s"}]});
        default(GROUP, "rolebindings", &mut object);
        assert_eq!(object["roleRef"]["apiGroup"], GROUP);
        assert_eq!(object["subjects"][0]["apiGroup"], GROUP);
        assert_eq!(object["subjects"][1].get("apiGroup"), None);
    }
}
