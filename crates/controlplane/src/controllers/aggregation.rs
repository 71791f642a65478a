//! Aggregated ClusterRoles: `rules` is the union of the rules of the ClusterRoles that the selectors match.
//!
//! In: the ClusterRoles of a logical cluster. Out: the rules that each aggregated one should have. Kubernetes' order:
//! by name of the source, without repetition.

use std::sync::Arc;

use apimachinery::selector::LabelSelector;
use apimachinery::status::StatusError;
use serde_json::{Value, json};

use super::ObjectId;
use super::access::Access;
use super::queue::Finished;
use crate::auth::rbac::GROUP;
use crate::pipeline::Part;
use crate::request::ObjectReader as _;
use crate::store::{ObjectKey, TableId};

const NAME: &str = "clusterrole-aggregation-controller";

/// The aggregated roles whose rules are not what they should be: name, UID and the rules.
#[must_use]
pub fn due(roles: &[Arc<Value>]) -> Vec<(String, String, Vec<Value>)> {
    let text = |role: &Value, field: &str| role["metadata"][field].as_str().unwrap_or("").to_owned();
    let mut sorted: Vec<&Arc<Value>> = roles.iter().collect();
    sorted.sort_by_key(|role| text(role, "name"));
    let mut due = Vec::new();
    for role in &sorted {
        let Some(selectors) = role.pointer("/aggregationRule/clusterRoleSelectors").and_then(Value::as_array) else {
            continue;
        };
        let selectors: Vec<LabelSelector> =
            selectors.iter().filter_map(|selector| LabelSelector::from_json(selector).ok()).collect();
        let own_name = text(role, "name");
        let mut rules: Vec<Value> = Vec::new();
        for source in sorted.iter().filter(|source| text(source, "name") != own_name) {
            if !selectors.iter().any(|selector| matches(selector, source)) {
                continue;
            }
            for rule in source.get("rules").and_then(Value::as_array).into_iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
        let current = role.get("rules").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if current != rules {
            due.push((own_name, text(role, "uid"), rules));
        }
    }
    due
}

fn matches(selector: &LabelSelector, role: &Value) -> bool {
    selector.matches(&role.pointer("/metadata/labels"))
}

/// Works on the ClusterRoles of one logical cluster.
///
/// # Errors
/// What a write was refused with.
pub async fn work(access: &Access, cluster: &str) -> Result<Finished, StatusError> {
    let roles = access.core.list(cluster, GROUP, "clusterroles", Some(""));
    for (name, uid, rules) in due(&roles) {
        let id = ObjectId { table: TableId::new(GROUP, "clusterroles"), key: ObjectKey::new(cluster, "", &name) };
        access
            .modify(NAME, &id, &uid, Part::Main, |role| {
                role["rules"] = json!(rules);
                true
            })
            .await?;
    }
    Ok(Finished::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::rbac::bootstrap;

    fn bootstrap_roles() -> Vec<Arc<Value>> {
        let roles = bootstrap::objects().into_iter().filter(|(resource, _)| *resource == "clusterroles");
        roles.map(|(_, role)| Arc::new(role)).collect()
    }

    #[test]
    fn what_is_there_from_the_start_is_complete() {
        let names: Vec<String> = due(&bootstrap_roles()).into_iter().map(|(name, ..)| name).collect();
        assert!(names.is_empty(), "{names:?}");
    }

    #[test]
    fn a_labelled_role_extends_view_and_what_is_made_of_it() {
        let mut roles = bootstrap_roles();
        let rule = json!({"apiGroups":["acmedb.com"],"resources":["acmedbs"],"verbs":["get"]});
        roles.push(Arc::new(json!({"metadata":{"name":"acmedb-view",
            "labels":{"rbac.authorization.k8s.io/aggregate-to-view":"true"}},"rules":[rule]})));
        let due = due(&roles);
        assert_eq!(due.len(), 1, "edit and admin follow when view has changed");
        assert_eq!(due[0].0, "view");
        assert!(due[0].2.contains(&rule));
    }
}
