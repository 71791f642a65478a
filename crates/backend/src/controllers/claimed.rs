//! Watches in mapped namespaces: the objects that claims are about, and those that refer to them.
//!
//! In: which kinds matter in which mapped namespace. Out: what is there (of claimed kinds the metadata only: no Secret's
//! content is kept), the UIDs whose deletion was seen, and a place in the queue for the mapping on every change. Called
//! by [`super::mapped`].

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kube_client::{Api, Delta, Informer, InformerOptions, ListQuery, ObjectKey, Resource, WorkQueue};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::Key;

/// How long changes in one mapped namespace are collected before they are evaluated.
const BURST: Duration = Duration::from_millis(20);

type Seen = Arc<Mutex<BTreeSet<String>>>;

struct Watch {
    informer: Informer<Arc<Value>>,
    whole: bool,
}

#[derive(Default)]
struct Namespace {
    watches: HashMap<Resource, Watch>,
    deleted: Seen,
}

/// All watches.
pub struct Watches {
    api: Api,
    queue: Arc<WorkQueue<Key>>,
    namespaces: Mutex<HashMap<String, Namespace>>,
}

/// What is known of one mapped namespace.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Objects by kind.
    pub objects: Vec<(Resource, Arc<Value>)>,
    /// UIDs whose deletion was seen.
    pub deleted: BTreeSet<String>,
    /// Whether every watch has seen a complete list.
    pub complete: bool,
}

impl Watches {
    /// None yet.
    #[must_use]
    pub fn new(api: Api, queue: Arc<WorkQueue<Key>>) -> Self {
        Self { api, queue, namespaces: Mutex::new(HashMap::new()) }
    }

    /// Watches exactly these kinds in the mapped namespace from now on. `true`: keep whole objects.
    pub fn set(&self, namespace: &str, mapping: &ObjectKey, wanted: &[(Resource, bool)]) {
        let mut all = self.namespaces.lock();
        let entry = all.entry(namespace.to_owned()).or_default();
        entry
            .watches
            .retain(|resource, watch| wanted.iter().any(|(kind, whole)| kind == resource && *whole == watch.whole));
        for (resource, whole) in wanted {
            if entry.watches.contains_key(resource) {
                continue;
            }
            let informer = self.start(namespace, mapping, resource, *whole, entry.deleted.clone());
            entry.watches.insert(resource.clone(), Watch { informer, whole: *whole });
        }
    }

    fn start(
        &self,
        namespace: &str,
        mapping: &ObjectKey,
        resource: &Resource,
        whole: bool,
        deleted: Seen,
    ) -> Informer<Arc<Value>> {
        let (queue, mapping) = (self.queue.clone(), mapping.clone());
        let (api_version, kind) = (resource.api_version(), resource.kind.clone());
        Informer::start(
            &self.api,
            resource,
            ListQuery::namespace(namespace),
            InformerOptions::default(),
            Arc::new(move |object: &Arc<Value>| {
                let mut kept = if whole { (**object).clone() } else { json!({"metadata": object["metadata"]}) };
                if let Some(metadata) = kept["metadata"].as_object_mut() {
                    metadata.remove("managedFields");
                    if whole {
                        // What an object refers to does not change with its status.
                        metadata.remove("resourceVersion");
                        metadata.remove("generation");
                    }
                }
                if let (true, Some(map)) = (whole, kept.as_object_mut()) {
                    map.remove("status");
                }
                kept["apiVersion"] = json!(api_version);
                kept["kind"] = json!(kind);
                Ok(Arc::new(kept))
            }),
            Arc::new(move |delta: &Delta<Arc<Value>>| {
                match delta {
                    Delta::Applied { old: Some(old), new, .. } if old.summary == new.summary => return,
                    Delta::Removed { last, observed: true, .. } => {
                        if let Some(uid) = last.summary["metadata"]["uid"].as_str() {
                            deleted.lock().insert(uid.to_owned());
                        }
                    }
                    _ => {}
                }
                // A burst of changes is evaluated once.
                queue.add_after(Key::Mapped(mapping.clone()), BURST);
            }),
        )
    }

    /// Ends all watches in the namespace.
    pub fn forget(&self, namespace: &str) {
        self.namespaces.lock().remove(namespace);
    }

    /// What is known.
    #[must_use]
    pub fn snapshot(&self, namespace: &str) -> Snapshot {
        let all = self.namespaces.lock();
        let Some(entry) = all.get(namespace) else { return Snapshot { complete: true, ..Snapshot::default() } };
        let mut snapshot = Snapshot { objects: Vec::new(), deleted: entry.deleted.lock().clone(), complete: true };
        for (resource, watch) in &entry.watches {
            snapshot.complete &= watch.informer.synced();
            for (_, object) in watch.informer.store().all() {
                snapshot.objects.push((resource.clone(), object.summary.clone()));
            }
        }
        snapshot
    }

    /// Forgets deletions that nothing depends on any more.
    pub fn keep_deleted(&self, namespace: &str, needed: &BTreeSet<String>) {
        if let Some(entry) = self.namespaces.lock().get(namespace) {
            entry.deleted.lock().retain(|uid| needed.contains(uid));
        }
    }
}
