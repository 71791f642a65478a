//! What runs for one binding. In: what a pass over the binding has started. Out: the same, told what changed meanwhile
//! (namespaces, the provider's return), and asked how it is.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Weak},
};

use contract::NamespaceMap;

use super::crd;
use crate::{claims::ClaimSync, kind::KindSync, provider::Provider};

/// What runs for one binding.
#[derive(Default)]
pub struct BindingState {
    pub(super) kinds: HashMap<String, RunningKind>,
    pub(super) claims: Option<RunningClaims>,
    pub(super) crds: HashMap<String, crd::Written>,
    /// Passes in a row that could not be finished.
    pub(super) failed: u32,
    /// A watch was in trouble when it was last asked.
    pub(super) troubled: bool,
    /// CRDs that the export asks for, whether we may write them or not.
    pub(super) wanted: BTreeSet<String>,
}

/// One bound kind.
pub(super) struct RunningKind {
    pub(super) fingerprint: String,
    pub(super) sync: Arc<KindSync>,
}

/// Nothing of it is written any more, whoever still works on an object.
impl Drop for RunningKind {
    fn drop(&mut self) {
        self.sync.halt();
    }
}

/// The claims.
pub(super) struct RunningClaims {
    pub(super) sync: Arc<ClaimSync>,
    provider: Weak<Provider>,
    binding: String,
}

impl RunningClaims {
    pub(super) fn new(provider: &Arc<Provider>, binding: &str, sync: Arc<ClaimSync>) -> Self {
        Self { sync, provider: Arc::downgrade(provider), binding: binding.to_owned() }
    }
}

/// Nothing is written under them any more, and no other binding asks them.
impl Drop for RunningClaims {
    fn drop(&mut self) {
        self.sync.halt();
        let Some(provider) = self.provider.upgrade() else { return };
        let mut running = provider.claims.lock();
        if running.get(&self.binding).is_some_and(|known| known.as_ptr() == Arc::as_ptr(&self.sync)) {
            running.remove(&self.binding);
        }
    }
}

impl BindingState {
    /// Whether a CRD is one of this binding's.
    pub fn concerns_crd(&self, name: &str) -> bool {
        self.wanted.contains(name) || self.kinds.contains_key(name) || self.crds.contains_key(name)
    }

    /// The map of namespaces changed.
    pub fn set_namespaces(&self, map: &NamespaceMap) {
        for kind in self.kinds.values() {
            kind.sync.set_namespaces(map.clone());
        }
    }

    /// The provider is there again: what failed is tried now.
    pub fn hurry(&self) {
        for kind in self.kinds.values() {
            kind.sync.hurry();
        }
        if let Some(claims) = &self.claims {
            claims.sync.hurry();
        }
    }

    /// How often the watches of the bound kinds were doubted.
    pub fn doubts(&self) -> u64 {
        self.kinds.values().map(|kind| kind.sync.doubts()).sum()
    }

    /// Whether the watches have got into trouble, or out of it, since the last call; `contract`: those of the contract.
    pub fn watches_changed(&mut self, contract: bool) -> bool {
        let now = contract
            || self.kinds.values().any(|kind| kind.sync.trouble().is_some())
            || self.claims.as_ref().is_some_and(|claims| claims.sync.trouble().is_some());
        std::mem::replace(&mut self.troubled, now) != now
    }

    /// Whether copies of bound or claimed objects are left at the provider for this consumer namespace.
    pub fn has_copies_in(&self, consumer_namespace: &str) -> bool {
        self.kinds.values().any(|kind| kind.sync.has_copies_in(consumer_namespace))
            || self.claims.as_ref().is_some_and(|claims| claims.sync.is_open(consumer_namespace))
    }

    /// The provider's list of claimed objects for this consumer namespace may have changed.
    pub fn claims_changed(&self, consumer_namespace: &str) {
        if let Some(claims) = &self.claims {
            claims.sync.namespace_changed(consumer_namespace);
        }
    }

    /// The syncs of its kinds.
    pub(super) fn syncs(&self) -> Vec<Arc<KindSync>> {
        self.kinds.values().map(|k| k.sync.clone()).collect()
    }
}
