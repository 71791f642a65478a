//! Which work does a change make due?
//!
//! In: commits in their order. Out: [`Due`] work. Holds little: the graph of owners, the namespaces and the definitions
//! that are being deleted.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::access::Access;
use super::gc::graph::Graph;
use super::service_accounts::{DEFAULT, ROOT_CA};
use super::summary::Summary;
use super::{ObjectId, Work, definitions, events};
use crate::auth::rbac;
use crate::auth::service_account::SECRET_TYPE;
use crate::registry::crd;
use crate::store::{Event, EventKind, ObjectKey, Scope, StoredObject, TableId};

/// A terminating namespace or definition is looked at again this long after one of its objects changed, so that a
/// thousand changes are one look.
const GATHER: Duration = Duration::from_millis(50);

/// Work, now or after a while.
pub(super) struct Due {
    pub(super) work: Work,
    pub(super) after: Option<Duration>,
}

impl From<Work> for Due {
    fn from(work: Work) -> Self {
        Self { work, after: None }
    }
}

/// The memory of the controllers.
pub(super) struct Watchful {
    graph: Arc<Mutex<Graph>>,
    /// Namespaces (cluster, name) that are being deleted.
    ending: HashSet<(Arc<str>, Arc<str>)>,
    /// Tables (cluster, table) whose definition is being deleted.
    undefined: HashSet<(Arc<str>, TableId)>,
}

impl Watchful {
    pub(super) fn new(graph: Arc<Mutex<Graph>>) -> Self {
        Self { graph, ending: HashSet::new(), undefined: HashSet::new() }
    }

    /// Takes in a change.
    pub(super) fn observe(&mut self, table: &TableId, event: &Event, access: &Access) -> Vec<Due> {
        let object = &event.object;
        let id = ObjectId { table: table.clone(), key: object.key.clone() };
        let gone = event.kind == EventKind::Deleted;
        let summary = Summary::of(&object.bytes);
        let steps = {
            let mut graph = self.graph.lock();
            if gone { graph.forget(&id, &summary) } else { graph.observe(&id, &summary) }
        };
        let mut due: Vec<Due> = steps.into_iter().map(|step| Work::Collect(step).into()).collect();
        self.of_the_container(&id, event.kind, &mut due);
        match (&*table.group, &*table.resource) {
            ("", "namespaces") => self.namespace(&id, object, gone, &mut due),
            (crd::GROUP, crd::PLURAL) => self.definition(&id, object, gone, &mut due),
            ("", "serviceaccounts") => account(&id, event.kind, access, &mut due),
            ("", "configmaps") if &*id.key.name == ROOT_CA => due.push(Work::Furnish(namespace_of(&id)).into()),
            ("", "secrets") if !gone && may_be_for_a_token(object) => due.push(Work::TokenSecret(id).into()),
            (rbac::GROUP, "clusterroles") => due.push(Work::Aggregate(id.key.cluster).into()),
            ("", "events") if !gone => {
                let after = Some(match event.previous {
                    Some(_) => events::TTL,
                    None => events::left(&object.to_value(), access.core.now()),
                });
                due.push(Due { work: Work::ExpireEvent(id, object.revision), after });
            }
            _ => {}
        }
        due
    }

    /// A change inside a namespace or of a kind that is going may have been the last that it waited for.
    fn of_the_container(&self, id: &ObjectId, kind: EventKind, due: &mut Vec<Due>) {
        if kind == EventKind::Added {
            return;
        }
        if !self.ending.is_empty() && self.ending.contains(&(id.key.cluster.clone(), id.key.namespace.clone())) {
            due.push(Due { work: Work::EndNamespace(namespace_of(id)), after: Some(GATHER) });
        }
        if !self.undefined.is_empty() && self.undefined.contains(&(id.key.cluster.clone(), id.table.clone())) {
            let name = format!("{}.{}", id.table.resource, id.table.group);
            let definition = ObjectId {
                table: TableId::new(crd::GROUP, crd::PLURAL),
                key: ObjectKey::new(&id.key.cluster, "", &name),
            };
            due.push(Due { work: Work::EndDefinition(definition), after: Some(GATHER) });
        }
    }

    fn namespace(&mut self, id: &ObjectId, object: &StoredObject, gone: bool, due: &mut Vec<Due>) {
        let key = (id.key.cluster.clone(), id.key.name.clone());
        if gone {
            self.ending.remove(&key);
        } else if object.deleting {
            self.ending.insert(key);
            due.push(Work::EndNamespace(id.clone()).into());
        } else {
            due.push(Work::Furnish(id.clone()).into());
        }
    }

    fn definition(&mut self, id: &ObjectId, object: &StoredObject, gone: bool, due: &mut Vec<Due>) {
        let Some(table) = definitions::table(&id.key.name) else { return };
        let key = (id.key.cluster.clone(), table);
        if !gone && object.deleting {
            self.undefined.insert(key);
            due.push(Work::EndDefinition(id.clone()).into());
        } else {
            self.undefined.remove(&key);
        }
    }
}

fn namespace_of(id: &ObjectId) -> ObjectId {
    ObjectId { table: TableId::new("", "namespaces"), key: ObjectKey::new(&id.key.cluster, "", &id.key.namespace) }
}

/// A ServiceAccount came or went: that matters to its token Secrets and, for `default`, to the namespace.
fn account(id: &ObjectId, kind: EventKind, access: &Access, due: &mut Vec<Due>) {
    if kind == EventKind::Modified {
        return;
    }
    if kind == EventKind::Deleted && &*id.key.name == DEFAULT {
        due.push(Work::Furnish(namespace_of(id)).into());
    }
    let table = TableId::new("", "secrets");
    let scope = Scope::Namespace(id.key.cluster.clone(), id.key.namespace.clone());
    for secret in access.core.store.list(&table, &scope).objects {
        if may_be_for_a_token(&secret) {
            due.push(Work::TokenSecret(ObjectId { table: table.clone(), key: secret.key.clone() }).into());
        }
    }
}

/// Whether the type of token Secrets occurs anywhere in the object; the controller then reads it properly.
fn may_be_for_a_token(secret: &StoredObject) -> bool {
    secret.bytes.windows(SECRET_TYPE.len()).any(|window| window == SECRET_TYPE.as_bytes())
}
