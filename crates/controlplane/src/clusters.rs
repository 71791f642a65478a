//! The logical clusters and what each of them serves.
//!
//! Flows in: commits of namespaces (a logical cluster exists while its `kube-system` does) and of
//! CustomResourceDefinitions, as an [`Observer`] of the store. Flows out: the [`Catalog`] of a cluster, up to date before
//! the writer of a definition is answered. Watches on a resource end when it is served no longer.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;

use crate::registry::crd::{self, Interner};
use crate::registry::{Catalog, Resource};
use crate::store::{Event, EventKind, Observer, Scope, Store, StoredObject, TableId};

/// All logical clusters.
pub struct Clusters {
    base: Arc<Catalog>,
    /// Compiled schemas, shared by digest.
    pub interner: Interner,
    known: RwLock<HashMap<Arc<str>, Cluster>>,
    store: OnceLock<Store>,
    definitions: TableId,
    namespaces: TableId,
}

#[derive(Default)]
struct Cluster {
    exists: bool,
    served: BTreeMap<Arc<str>, Vec<Arc<Resource>>>,
    /// `None`: only the built-ins.
    catalog: Option<Arc<Catalog>>,
}

/// The namespace whose UID is the cluster's identity.
pub const IDENTITY_NAMESPACE: &str = "kube-system";

impl Clusters {
    /// No clusters yet; all will serve these built-ins.
    pub fn new(builtin: Vec<Arc<Resource>>) -> Self {
        Self {
            base: Arc::new(Catalog::new(builtin)),
            interner: Interner::default(),
            known: RwLock::default(),
            store: OnceLock::new(),
            definitions: TableId::new(crd::GROUP, crd::PLURAL),
            namespaces: TableId::new("", "namespaces"),
        }
    }

    /// Reads what the store holds, and follows it from now on.
    pub fn attach(self: &Arc<Self>, store: &Store) {
        for namespace in store.list(&self.namespaces, &Scope::All).objects {
            self.namespace(&namespace, true);
        }
        for definition in store.list(&self.definitions, &Scope::All).objects {
            self.definition(&definition, true);
        }
        let _ = self.store.set(store.clone());
        store.observe(self.clone());
    }

    /// What only built-ins serve.
    pub fn base(&self) -> &Arc<Catalog> {
        &self.base
    }

    /// What a logical cluster serves; `None` if there is no such cluster.
    pub fn catalog(&self, cluster: &str) -> Option<Arc<Catalog>> {
        let known = self.known.read();
        let cluster = known.get(cluster).filter(|c| c.exists)?;
        Some(cluster.catalog.clone().unwrap_or_else(|| self.base.clone()))
    }

    /// The shared form of a cluster's name, if there is such a cluster.
    pub fn name(&self, cluster: &str) -> Option<Arc<str>> {
        self.known.read().get_key_value(cluster).filter(|(_, c)| c.exists).map(|(name, _)| name.clone())
    }

    /// The names of all logical clusters, sorted.
    pub fn names(&self) -> Vec<Arc<str>> {
        let mut names: Vec<_> =
            self.known.read().iter().filter(|(_, c)| c.exists).map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    fn namespace(&self, object: &StoredObject, exists: bool) {
        if &*object.key.name != IDENTITY_NAMESPACE {
            return;
        }
        let mut known = self.known.write();
        let cluster = known.entry(object.key.cluster.clone()).or_default();
        cluster.exists = exists;
        if !exists && cluster.served.is_empty() {
            known.remove(&object.key.cluster);
        }
    }

    fn definition(&self, object: &StoredObject, exists: bool) {
        let resources = if exists { self.interner.resources(&object.to_value()) } else { Vec::new() };
        let mut gone: Vec<Arc<Resource>> = Vec::new();
        {
            let mut known = self.known.write();
            let cluster = known.entry(object.key.cluster.clone()).or_default();
            let before = cluster.served.remove(&object.key.name).unwrap_or_default();
            let same = before.len() == resources.len() && before.iter().zip(&resources).all(|(a, b)| Arc::ptr_eq(a, b));
            gone.extend(before.into_iter().filter(|b| !resources.iter().any(|r| r.version == b.version)));
            if !resources.is_empty() {
                cluster.served.insert(object.key.name.clone(), resources);
            }
            if !same {
                let all = cluster.served.values().flatten().cloned();
                cluster.catalog =
                    (!cluster.served.is_empty()).then(|| Arc::new(self.base.with_custom(all.collect::<Vec<_>>())));
            }
        }
        if let (Some(store), false) = (self.store.get(), gone.is_empty()) {
            for resource in gone {
                store.end_watches(&TableId::new(&resource.group, &resource.plural), &object.key.cluster);
            }
        }
    }
}

impl Observer for Clusters {
    fn committed(&self, table: &TableId, event: &Arc<Event>) {
        let exists = event.kind != EventKind::Deleted;
        if *table == self.definitions {
            self.definition(&event.object, exists);
        } else if *table == self.namespaces {
            self.namespace(&event.object, exists);
        }
    }
}
