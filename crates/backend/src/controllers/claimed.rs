//! Watches in mapped namespaces: the objects that claims are about, and those that refer to them. Objects of kinds that
//! are cluster-scoped for the consumer refer from elsewhere: from the contract namespace (isolation `Namespaced`), or from
//! among those of all consumers (`Prefixed`, `None`), who share one watch.
//!
//! In: which kinds matter in which mapped namespace. Out: what is there (of claimed kinds the metadata only: no Secret's
//! content is kept), the UIDs whose deletion was seen, and a place in the queue for the mapping on every change. Called
//! by [`super::mapped`].

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kube_bind_api::constants::ANNOTATION_CLUSTER_NAMESPACE;
use kube_client::{Api, Class, Delta, Informer, InformerOptions, ListQuery, ObjectKey, Resource, WorkQueue};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Key, Objects};

/// How long changes in one mapped namespace are collected before they are evaluated.
const BURST: Duration = Duration::from_millis(20);

/// How long a first list may be refused: rights that were given a moment ago may not be believed everywhere yet.
const PATIENCE: Duration = Duration::from_secs(3);

type Seen = Arc<Mutex<BTreeSet<String>>>;

struct Watch {
    informer: Informer<Arc<Value>>,
    whole: bool,
    since: Instant,
}

#[derive(Default)]
struct Namespace {
    watches: HashMap<Resource, Watch>,
    deleted: Seen,
}

/// A watch for several mapped namespaces.
struct Wide {
    informer: Informer<Arc<Value>>,
    users: BTreeSet<String>,
    since: Instant,
}

/// A kind that is cluster-scoped for the consumer, and the namespace of its copies here; empty for cluster-scoped ones.
pub type WideKind = (Resource, String);

/// All watches.
pub struct Watches {
    api: Api,
    queue: Arc<WorkQueue<Key>>,
    mapped: Objects,
    wide: Mutex<HashMap<WideKind, Wide>>,
    namespaces: Mutex<HashMap<String, Namespace>>,
}

/// What is known of one mapped namespace.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Objects by kind.
    pub objects: Vec<(Resource, Arc<Value>)>,
    /// The contract's objects of kinds that are cluster-scoped for the consumer, without a namespace.
    pub wide: Vec<(Resource, Arc<Value>)>,
    /// UIDs whose deletion was seen.
    pub deleted: BTreeSet<String>,
    /// Whether every watch has seen a complete list.
    pub complete: bool,
    /// Kinds that have not been seen because the API server refuses to list them, and not just for a moment.
    pub refused: Vec<Resource>,
}

impl Snapshot {
    fn hear(&mut self, kind: &Resource, informer: &Informer<Arc<Value>>, since: Instant) {
        let health = informer.health();
        let health = health.borrow();
        self.complete &= health.synced;
        let refused = health.trouble.as_ref().is_some_and(|trouble| trouble.class == Class::Forbidden);
        if !health.synced && refused && since.elapsed() > PATIENCE {
            self.refused.push(kind.clone());
        }
    }
}

impl Watches {
    /// None yet.
    #[must_use]
    pub fn new(api: Api, queue: Arc<WorkQueue<Key>>, mapped: Objects) -> Self {
        Self { api, queue, mapped, wide: Mutex::default(), namespaces: Mutex::new(HashMap::new()) }
    }

    /// Watches exactly these for the mapped namespace from now on.
    pub fn set_wide(&self, namespace: &str, wanted: &[WideKind]) {
        let mut all = self.wide.lock();
        all.retain(|kind, watch| {
            if !wanted.contains(kind) {
                watch.users.remove(namespace);
            }
            !watch.users.is_empty()
        });
        for kind in wanted {
            let watch = all.entry(kind.clone()).or_insert_with(|| Wide {
                informer: self.start_wide(kind),
                users: BTreeSet::new(),
                since: Instant::now(),
            });
            watch.users.insert(namespace.to_owned());
        }
    }

    fn start_wide(&self, (resource, place): &WideKind) -> Informer<Arc<Value>> {
        let (queue, mapped) = (self.queue.clone(), self.mapped.clone());
        let (api_version, kind) = (resource.api_version(), resource.kind.clone());
        let query = if place.is_empty() { ListQuery::default() } else { ListQuery::namespace(place) };
        Informer::start(
            &self.api,
            resource,
            query,
            InformerOptions::default(),
            Arc::new(move |object: &Arc<Value>| {
                let mut kept = referring(object, &api_version, &kind);
                if let Some(metadata) = kept["metadata"].as_object_mut() {
                    metadata.remove("namespace");
                }
                Ok(Arc::new(kept))
            }),
            Arc::new(move |delta: &Delta<Arc<Value>>| {
                let contract = match delta {
                    Delta::Applied { old: Some(old), new, .. } if old.summary == new.summary => return,
                    Delta::Applied { new, .. } => owner(&new.summary).to_owned(),
                    Delta::Removed { last, .. } => owner(&last.summary).to_owned(),
                    Delta::Synced => {
                        mapped.keys().into_iter().for_each(|key| queue.add_after(Key::Mapped(key), BURST));
                        return;
                    }
                };
                for key in mapped.keys_in(&contract) {
                    queue.add_after(Key::Mapped(key), BURST);
                }
            }),
        )
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
            entry.watches.insert(resource.clone(), Watch { informer, whole: *whole, since: Instant::now() });
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
                if whole {
                    return Ok(Arc::new(referring(object, &api_version, &kind)));
                }
                let mut kept = json!({"apiVersion": api_version, "kind": kind, "metadata": object["metadata"]});
                if let Some(metadata) = kept["metadata"].as_object_mut() {
                    metadata.remove("managedFields");
                }
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
        self.set_wide(namespace, &[]);
        self.namespaces.lock().remove(namespace);
    }

    /// What is known.
    #[must_use]
    pub fn snapshot(&self, namespace: &str, contract: &str) -> Snapshot {
        let mut snapshot = Snapshot { complete: true, ..Snapshot::default() };
        for ((resource, _), watch) in self.wide.lock().iter().filter(|(_, watch)| watch.users.contains(namespace)) {
            snapshot.hear(resource, &watch.informer, watch.since);
            let own = watch.informer.store().all().into_iter().filter(|(_, object)| owner(&object.summary) == contract);
            snapshot.wide.extend(own.map(|(_, object)| (resource.clone(), object.summary.clone())));
        }
        let all = self.namespaces.lock();
        let Some(entry) = all.get(namespace) else { return snapshot };
        snapshot.deleted.clone_from(&entry.deleted.lock());
        for (resource, watch) in &entry.watches {
            snapshot.hear(resource, &watch.informer, watch.since);
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

/// What of an object that refers to others is kept: what it refers to does not change with its status.
fn referring(object: &Value, api_version: &str, kind: &str) -> Value {
    let mut kept = object.clone();
    if let Some(metadata) = kept["metadata"].as_object_mut() {
        for field in ["managedFields", "resourceVersion", "generation"] {
            metadata.remove(field);
        }
    }
    if let Some(map) = kept.as_object_mut() {
        map.remove("status");
    }
    kept["apiVersion"] = json!(api_version);
    kept["kind"] = json!(kind);
    kept
}

/// The contract of a copy.
pub(super) fn owner(object: &Value) -> &str {
    object["metadata"]["annotations"][ANNOTATION_CLUSTER_NAMESPACE].as_str().unwrap_or_default()
}
