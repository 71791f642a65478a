//! The roles and bindings that every logical cluster has from the start.
//!
//! Out: [`objects`], in the order in which they may be written. Called when a logical cluster is made, and by
//! tests. They are few: what people expect to bind (`cluster-admin`, `admin`, `edit`, `view`) and what lets
//! clients discover the API. `admin`, `edit` and `view` are aggregated, so that further ClusterRoles with the
//! label `rbac.authorization.k8s.io/aggregate-to-<role>: "true"` extend them.

use serde_json::{Value, json};

use super::GROUP;

/// An object to be made: the resource's plural name and the object (no namespace: all are cluster scoped).
pub type BootstrapObject = (&'static str, Value);

const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 5] = ["create", "delete", "deletecollection", "patch", "update"];

fn metadata(name: &str, labels: &[(&str, &str)]) -> Value {
    let mut all = serde_json::Map::new();
    all.insert("kubernetes.io/bootstrapping".into(), json!("rbac-defaults"));
    for (label, value) in labels {
        all.insert((*label).into(), json!(value));
    }
    json!({
        "name": name,
        "labels": all,
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
    })
}

fn cluster_role(name: &str, labels: &[(&str, &str)], rules: Value) -> BootstrapObject {
    let role = json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": "ClusterRole",
        "metadata": metadata(name, labels),
        "rules": rules,
    });
    ("clusterroles", role)
}

fn aggregated(name: &str, labels: &[(&str, &str)], parts: &[Value]) -> BootstrapObject {
    // The rules are written together already, so that the role holds before the controller has run.
    let rules: Vec<Value> = parts.iter().flat_map(|rules| rules.as_array().cloned().unwrap_or_default()).collect();
    let mut role = cluster_role(name, labels, Value::Array(rules));
    role.1["aggregationRule"] = json!({"clusterRoleSelectors": [
        {"matchLabels": {format!("{GROUP}/aggregate-to-{name}"): "true"}}
    ]});
    role
}

fn cluster_role_binding(name: &str, groups: &[&str]) -> BootstrapObject {
    let subjects: Vec<Value> =
        groups.iter().map(|group| json!({"apiGroup": GROUP, "kind": "Group", "name": group})).collect();
    let binding = json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": "ClusterRoleBinding",
        "metadata": metadata(name, &[]),
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": name},
        "subjects": subjects,
    });
    ("clusterrolebindings", binding)
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}

/// Plain data of a namespace that readers may see: everything but Secrets and access rules.
const CORE: &[&str] = &[
    "configmaps",
    "endpoints",
    "events",
    "persistentvolumeclaims",
    "pods",
    "pods/log",
    "pods/status",
    "replicationcontrollers",
    "replicationcontrollers/scale",
    "serviceaccounts",
    "services",
    "services/status",
];
const CORE_EDIT: &[&str] = &[
    "configmaps",
    "events",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "replicationcontrollers/scale",
    "secrets",
    "serviceaccounts",
    "services",
];
const APPS: &[&str] = &[
    "controllerrevisions",
    "daemonsets",
    "daemonsets/status",
    "deployments",
    "deployments/scale",
    "deployments/status",
    "replicasets",
    "replicasets/scale",
    "replicasets/status",
    "statefulsets",
    "statefulsets/scale",
    "statefulsets/status",
];
const APPS_EDIT: &[&str] = &[
    "daemonsets",
    "deployments",
    "deployments/rollback",
    "deployments/scale",
    "replicasets",
    "replicasets/scale",
    "statefulsets",
    "statefulsets/scale",
];

fn view_rules() -> Value {
    json!([
        rule("", CORE, &READ),
        rule("", &["namespaces", "namespaces/status", "limitranges", "resourcequotas"], &READ),
        rule("apps", APPS, &READ),
        rule("batch", &["cronjobs", "cronjobs/status", "jobs", "jobs/status"], &READ),
        rule("coordination.k8s.io", &["leases"], &READ),
        rule("discovery.k8s.io", &["endpointslices"], &READ),
        rule("networking.k8s.io", &["ingresses", "ingresses/status", "networkpolicies"], &READ),
        rule("policy", &["poddisruptionbudgets", "poddisruptionbudgets/status"], &READ),
    ])
}

fn edit_rules() -> Value {
    json!([
        rule("", &["secrets"], &READ),
        rule("", &["serviceaccounts"], &["impersonate"]),
        rule("", &["serviceaccounts/token"], &["create"]),
        rule("", CORE_EDIT, &WRITE),
        rule("apps", APPS_EDIT, &WRITE),
        rule("batch", &["cronjobs", "jobs"], &WRITE),
        rule("coordination.k8s.io", &["leases"], &WRITE),
        rule("networking.k8s.io", &["ingresses", "networkpolicies"], &WRITE),
        rule("policy", &["poddisruptionbudgets"], &WRITE),
    ])
}

fn admin_rules() -> Value {
    let all: Vec<&str> = WRITE.iter().chain(&READ).copied().collect();
    json!([
        rule("authorization.k8s.io", &["localsubjectaccessreviews"], &["create"]),
        rule(GROUP, &["rolebindings", "roles"], &all),
    ])
}

/// Every bootstrap object, roles before the bindings that refer to them.
#[must_use]
pub fn objects() -> Vec<BootstrapObject> {
    let label = |name: &str| format!("{GROUP}/aggregate-to-{name}");
    let (to_admin, to_edit, to_view) = (label("admin"), label("edit"), label("view"));
    let (view, edit, admin) = (view_rules(), edit_rules(), admin_rules());
    let everything = json!([
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
        {"nonResourceURLs": ["*"], "verbs": ["*"]},
    ]);
    let get = |paths: &[&str]| json!([{"nonResourceURLs": paths, "verbs": ["get"]}]);
    vec![
        cluster_role("cluster-admin", &[], everything),
        cluster_role("system:aggregate-to-view", &[(&to_view, "true")], view.clone()),
        cluster_role("system:aggregate-to-edit", &[(&to_edit, "true")], edit.clone()),
        cluster_role("system:aggregate-to-admin", &[(&to_admin, "true")], admin.clone()),
        aggregated("view", &[(&to_edit, "true")], std::slice::from_ref(&view)),
        aggregated("edit", &[(&to_admin, "true")], &[edit.clone(), view.clone()]),
        aggregated("admin", &[], &[edit, view, admin]),
        cluster_role(
            "system:basic-user",
            &[],
            json!([
                rule("authorization.k8s.io", &["selfsubjectaccessreviews", "selfsubjectrulesreviews"], &["create"]),
                rule("authentication.k8s.io", &["selfsubjectreviews"], &["create"]),
            ]),
        ),
        cluster_role(
            "system:discovery",
            &[],
            get(&[
                "/api",
                "/api/*",
                "/apis",
                "/apis/*",
                "/healthz",
                "/livez",
                "/openapi",
                "/openapi/*",
                "/readyz",
                "/version",
                "/version/",
            ]),
        ),
        cluster_role(
            "system:public-info-viewer",
            &[],
            get(&["/healthz", "/livez", "/readyz", "/version", "/version/"]),
        ),
        cluster_role(
            "system:service-account-issuer-discovery",
            &[],
            get(&[
                "/.well-known/openid-configuration",
                "/.well-known/openid-configuration/",
                "/openid/v1/jwks",
                "/openid/v1/jwks/",
            ]),
        ),
        cluster_role(
            "system:auth-delegator",
            &[],
            json!([
                rule("authentication.k8s.io", &["tokenreviews"], &["create"]),
                rule("authorization.k8s.io", &["subjectaccessreviews"], &["create"]),
            ]),
        ),
        cluster_role_binding("cluster-admin", &["system:masters"]),
        cluster_role_binding("system:basic-user", &["system:authenticated"]),
        cluster_role_binding("system:discovery", &["system:authenticated"]),
        cluster_role_binding("system:public-info-viewer", &["system:authenticated", "system:unauthenticated"]),
        cluster_role_binding("system:service-account-issuer-discovery", &["system:serviceaccounts"]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::rbac::{Rbac, RoleRef};
    use crate::auth::testing::{Objects, service_account};
    use crate::request::{Attributes, UserInfo};

    fn seeded() -> Objects {
        let seeded = Objects::default();
        for (resource, object) in objects() {
            seeded.put("c", GROUP, resource, object);
        }
        seeded
    }

    #[test]
    fn bindings_refer_to_roles_that_exist() {
        let all = objects();
        for (resource, object) in &all {
            if *resource == "clusterrolebindings" {
                let wanted = RoleRef::of(object).name;
                assert!(all.iter().any(|(r, o)| *r == "clusterroles" && o["metadata"]["name"] == wanted.as_str()));
            }
        }
    }

    #[test]
    fn everyone_may_discover_and_nobody_more() {
        let (objects, rbac) = (seeded(), Rbac::default());
        let get = |path: &str| Attributes {
            cluster: "c".into(),
            verb: "get".into(),
            path: path.into(),
            ..Attributes::default()
        };
        let agent = service_account("a", "b");
        let nobody = UserInfo {
            username: "system:anonymous".into(),
            groups: vec!["system:unauthenticated".into()],
            ..UserInfo::default()
        };
        assert!(rbac.authorize(&objects, &agent, &get("/apis/apps/v1")).allowed);
        assert!(!rbac.authorize(&objects, &nobody, &get("/apis/apps/v1")).allowed);
        assert!(rbac.authorize(&objects, &nobody, &get("/readyz")).allowed);
        assert!(!rbac.authorize(&objects, &agent, &get("/metrics")).allowed);
    }

    #[test]
    fn small() {
        let bytes: usize = objects().iter().map(|(_, object)| object.to_string().len()).sum();
        assert!(bytes < 24 * 1024, "{bytes} bytes");
    }
}
