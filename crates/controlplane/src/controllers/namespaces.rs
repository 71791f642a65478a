//! The end of a namespace.
//!
//! In: a namespace under deletion. Out: deletes of all it holds (access rules first, then the rest), conditions that say
//! what still stands in the way, and, when nothing is left, the removal of the finalizer `kubernetes`, with which the
//! namespace goes. The words are those of Kubernetes' namespace controller.

use std::collections::BTreeMap;
use std::time::Duration;

use apimachinery::status::StatusError;
use futures::StreamExt as _;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::ObjectId;
use super::access::Access;
use super::queue::Finished;
use super::summary::Summary;
use crate::auth::rbac;
use crate::pipeline::{Part, Propagation};
use crate::store::{Scope, TableId};

const NAME: &str = "namespace-controller";
/// The finalizer in `spec` that this controller takes off.
const FINALIZER: &str = "kubernetes";
/// How many deletes are on their way at a time.
const CONCURRENT: usize = 64;
/// A terminating namespace is looked at again after this time even if nothing happened.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// What is left of a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remains {
    /// How many objects of each resource (`plural.group`).
    pub objects: BTreeMap<String, usize>,
    /// On how many objects each finalizer is.
    pub finalizers: BTreeMap<String, usize>,
    /// What deletes were refused with.
    pub refusals: Vec<String>,
    /// Resources with objects whose kind is not served.
    pub unserved: Vec<String>,
}

impl Remains {
    fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.refusals.is_empty() && self.unserved.is_empty()
    }
}

/// Works on one namespace.
///
/// # Errors
/// What a write to the namespace itself was refused with.
pub async fn work(access: &Access, id: &ObjectId) -> Result<Finished, StatusError> {
    let Some(stored) = access.stored(id).filter(|namespace| namespace.deleting) else { return Ok(Finished::Done) };
    let has_finalizer = |namespace: &Value| {
        let finalizers = namespace.pointer("/spec/finalizers").and_then(Value::as_array);
        finalizers.is_some_and(|list| list.iter().any(|entry| entry == FINALIZER))
    };
    if !has_finalizer(&stored.to_value()) {
        return Ok(Finished::Done);
    }
    let scope = Scope::Namespace(id.key.cluster.clone(), id.key.name.clone());
    let mut remains = Remains { refusals: empty(access, &scope).await, ..Remains::default() };
    survey(access, &scope, &mut remains);

    let now = access.core.now();
    access.modify(NAME, id, &stored.uid, Part::Status, |namespace| set_conditions(namespace, &remains, now)).await?;
    if !remains.is_empty() {
        return Ok(Finished::Again(LOOK_AGAIN));
    }
    access
        .modify(NAME, id, &stored.uid, Part::Finalize, |namespace| {
            let Some(list) = namespace.pointer_mut("/spec/finalizers").and_then(Value::as_array_mut) else {
                return false;
            };
            let before = list.len();
            list.retain(|entry| entry != FINALIZER);
            before != list.len()
        })
        .await?;
    Ok(Finished::Done)
}

/// Access rules go first: nothing that has to be finished may depend on them.
fn order(table: &TableId) -> (u8, TableId) {
    let rank = match (&*table.group, &*table.resource) {
        (rbac::GROUP, "rolebindings") => 0,
        (rbac::GROUP, _) => 1,
        ("", "pods") => 2,
        _ => 3,
    };
    (rank, table.clone())
}

/// Asks for the deletion of everything in the namespace; returns refusals.
async fn empty(access: &Access, scope: &Scope) -> Vec<String> {
    let mut tables = access.core.store.tables_with(scope);
    tables.sort_by_key(order);
    let mut refusals = Vec::new();
    for table in tables {
        let objects = access.core.store.list(&table, scope).objects;
        let deletes = objects.into_iter().filter(|object| !object.deleting).map(|object| {
            let id = ObjectId { table: table.clone(), key: object.key.clone() };
            async move { access.delete(NAME, &id, &object.uid, None, Propagation::Background).await }
        });
        let mut deletes = futures::stream::iter(deletes).buffer_unordered(CONCURRENT);
        while let Some(result) = deletes.next().await {
            if let Err(error) = result
                && !refusals.contains(&error.message)
            {
                refusals.push(error.message);
            }
        }
    }
    refusals
}

fn survey(access: &Access, scope: &Scope, remains: &mut Remains) {
    for table in access.core.store.tables_with(scope) {
        let objects = access.core.store.list(&table, scope).objects;
        let Some(first) = objects.first() else { continue };
        let name = if table.group.is_empty() {
            table.resource.to_string()
        } else {
            format!("{}.{}", table.resource, table.group)
        };
        if access.target(&ObjectId { table: table.clone(), key: first.key.clone() }).is_none() {
            remains.unserved.push(name.clone());
        }
        for object in &objects {
            for finalizer in Summary::of(&object.bytes).finalizers {
                *remains.finalizers.entry(finalizer.into()).or_default() += 1;
            }
        }
        remains.objects.insert(name, objects.len());
    }
}

/// Puts the conditions of a terminating namespace into its status; says whether that changed anything.
pub fn set_conditions(namespace: &mut Value, remains: &Remains, now: Timestamp) -> bool {
    let counted = |what: &BTreeMap<String, usize>, word: &str| {
        what.iter().map(|(name, n)| format!("{name} {word} {n} resource instances")).collect::<Vec<_>>().join(", ")
    };
    let wanted = [
        if remains.unserved.is_empty() {
            (
                "NamespaceDeletionDiscoveryFailure",
                false,
                "ResourcesDiscovered",
                "All resources successfully discovered".to_owned(),
            )
        } else {
            let message = format!(
                "Discovery failed for some groups, {} failing: {}",
                remains.unserved.len(),
                remains.unserved.join(", ")
            );
            ("NamespaceDeletionDiscoveryFailure", true, "DiscoveryFailed", message)
        },
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed".to_owned(),
        ),
        if remains.refusals.is_empty() {
            let message = "All content successfully deleted, may be waiting on finalization";
            ("NamespaceDeletionContentFailure", false, "ContentDeleted", message.to_owned())
        } else {
            let message = format!(
                "Failed to delete all resource types, {} remaining: {}",
                remains.refusals.len(),
                remains.refusals.join(", ")
            );
            ("NamespaceDeletionContentFailure", true, "ContentDeletionFailed", message)
        },
        if remains.objects.is_empty() {
            ("NamespaceContentRemaining", false, "ContentRemoved", "All content successfully removed".to_owned())
        } else {
            let message = format!("Some resources are remaining: {}", counted(&remains.objects, "has"));
            ("NamespaceContentRemaining", true, "SomeResourcesRemain", message)
        },
        if remains.finalizers.is_empty() {
            let message = "All content-preserving finalizers finished";
            ("NamespaceFinalizersRemaining", false, "ContentHasNoFinalizers", message.to_owned())
        } else {
            let message = format!(
                "Some content in the namespace has finalizers remaining: {}",
                counted(&remains.finalizers, "in")
            );
            ("NamespaceFinalizersRemaining", true, "SomeFinalizersRemain", message)
        },
    ];
    // A namespace that goes at once shows none of this.
    if remains.is_empty() && namespace.pointer("/status/conditions").is_none() {
        return false;
    }
    let mut conditions: Vec<Value> =
        namespace.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let before = conditions.clone();
    for (kind, status, reason, message) in wanted {
        let status = if status { "True" } else { "False" };
        let old = conditions.iter_mut().find(|condition| condition["type"] == kind);
        let since = match &old {
            Some(old) if old["status"] == status => old["lastTransitionTime"].clone(),
            _ => json!(crate::pipeline::timestamp(now)),
        };
        let condition = json!({
            "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since,
        });
        match old {
            Some(old) => *old = condition,
            None => conditions.push(condition),
        }
    }
    if conditions == before {
        return false;
    }
    if !namespace["status"].is_object() {
        namespace["status"] = json!({});
    }
    namespace["status"]["conditions"] = Value::Array(conditions);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::testing::now;

    fn condition<'a>(namespace: &'a Value, kind: &str) -> &'a Value {
        namespace["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == kind).unwrap()
    }

    #[test]
    fn access_rules_go_first() {
        let mut tables = [
            TableId::new("", "configmaps"),
            TableId::new(rbac::GROUP, "roles"),
            TableId::new("a.example", "things"),
            TableId::new(rbac::GROUP, "rolebindings"),
        ];
        tables.sort_by_key(order);
        let names: Vec<_> = tables.iter().map(|table| &*table.resource).collect();
        assert_eq!(names, ["rolebindings", "roles", "configmaps", "things"]);
    }

    #[test]
    fn what_holds_a_namespace_is_said_once() {
        let mut namespace = json!({"status":{"phase":"Terminating"}});
        let remains = Remains {
            objects: [("acmedbs.acmedb.com".to_owned(), 2)].into(),
            finalizers: [("kube-bind.io/consumer".to_owned(), 2)].into(),
            ..Remains::default()
        };
        assert!(set_conditions(&mut namespace, &remains, now()));
        assert_eq!(
            condition(&namespace, "NamespaceContentRemaining")["message"],
            "Some resources are remaining: acmedbs.acmedb.com has 2 resource instances"
        );
        assert_eq!(
            condition(&namespace, "NamespaceFinalizersRemaining")["message"],
            "Some content in the namespace has finalizers remaining: kube-bind.io/consumer in 2 resource instances"
        );
        assert!(!set_conditions(&mut namespace, &remains, now()), "no write without news");
        assert!(set_conditions(&mut namespace, &Remains::default(), now()));
        assert_eq!(condition(&namespace, "NamespaceContentRemaining")["status"], "False");
    }

    #[test]
    fn an_empty_namespace_needs_no_conditions() {
        let mut namespace = json!({"status":{"phase":"Terminating"}});
        assert!(!set_conditions(&mut namespace, &Remains::default(), now()));
    }
}
