//! The sync of one bound kind of one binding: watchers in, queue in the middle, writers out. In: consumer and provider
//! watches of the kind. Out: the actions of [`crate::sync::decide`], carried out by [`execute`].
//!
//! ```text
//!   consumer watch (cluster-wide) ──► summaries ┐                          ┌─► execute ─► consumer API
//!                                               ├─► queue ─► decide(pair) ─┤
//!   provider watch (per mapped ns) ─► summaries ┘                          └─► execute ─► provider API
//! ```
//!
//! A [`KindSync`] never changes what it syncs: a new schema or new claims make a new one. What may change while it runs
//! is its [`Standing`] and the map of namespaces.

mod bodies;
mod echo;
mod execute;
mod late;

pub use self::{
    execute::ensure_service_namespace,
    late::{Late, TELL_AFTER},
};

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use apimachinery::schema::Structural;
use contract::{Claim, Mapping, NamespaceMap, Strategy, names::NameError};
use kube_bind_api::GroupResource;
use kube_bind_api::constants::FIELD_MANAGER;
use kube_client::{
    Api, Delta, Informer, InformerOptions, Keep, KeyMap, ListQuery, ManagedFields, ObjectKey, Outcome, Resource,
    WorkQueue,
};
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::{
    bodies::Bodies,
    echo::{ECHO, Pending},
};
use crate::{
    consumer::Consumer,
    health::{Gauges, Observed},
    sync::{
        ConsumerKey, ProviderKey, Side, consumer_key, consumer_object,
        decide::{Action, Memory, Target, Terms, decide},
        intent::Teardown,
        packed::Packed,
        provider_key, provider_object,
        summary::{self, Belongs, ConsumerSummary, ProviderSummary},
    },
};

/// Objects worked on at once, per kind.
const CONCURRENCY: usize = 16;

/// What is synced, and how.
pub struct KindConfig {
    /// Name of the binding.
    pub binding: String,
    /// Uid of the binding.
    pub binding_uid: String,
    /// The kind in the version that is synced (the same on both sides).
    pub resource: Resource,
    /// How keys translate.
    pub mapping: Mapping,
    /// The kind's schema.
    pub schema: Option<Arc<Structural>>,
    /// The same as OpenAPI, for what claims may follow.
    pub openapi: Option<Arc<Value>>,
    /// The kind has a `status` subresource.
    pub status_subresource: bool,
    /// The export's claims, for the names that objects refer to.
    pub claims: Arc<Vec<Claim>>,
}

/// What the contract says about the whole kind now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Nothing may move.
    pub frozen: bool,
    /// The kind or the binding is going.
    pub teardown: Teardown,
}

/// What the claims hear of a kind.
pub enum Referral<'a> {
    /// An object of the consumer came, changed or went, and with it what it refers to.
    Refers {
        /// The object.
        key: &'a ConsumerKey,
        /// What it was.
        old: Option<&'a ConsumerSummary>,
        /// What it is.
        new: Option<&'a ConsumerSummary>,
    },
    /// The provider's copy of this object is there now.
    Copied(&'a ConsumerKey),
    /// All copies that were there before are known now.
    CopiesListed,
}

/// Who hears of it.
pub type ReferenceListener = Arc<dyn Fn(Referral<'_>) + Send + Sync>;

/// A running sync of one kind; it stops when dropped.
pub struct KindSync {
    config: KindConfig,
    consumer: Arc<Consumer>,
    provider: Api,
    standing: RwLock<Standing>,
    namespaces: RwLock<NamespaceMap>,
    objects: RwLock<Option<Informer<Packed<ConsumerSummary>>>>,
    copies: RwLock<HashMap<String, Informer<Packed<ProviderSummary>>>>,
    queue: Arc<WorkQueue<ObjectKey>>,
    memory: Mutex<KeyMap<Packed<Memory>>>,
    pending: Mutex<KeyMap<Pending>>,
    bodies: Bodies,
    mapping_asked: Mutex<HashMap<String, Instant>>,
    contested: Mutex<KeyMap<Instant>>,
    late: Late,
    doubts: AtomicU64,
    references: ReferenceListener,
    stop: CancellationToken,
    _guard: DropGuard,
}

impl KindSync {
    /// Starts the consumer watch and the workers; provider watches follow with [`KindSync::set_namespaces`].
    pub fn start(
        config: KindConfig,
        consumer: Arc<Consumer>,
        provider: Api,
        standing: Standing,
        namespaces: NamespaceMap,
        references: ReferenceListener,
    ) -> Arc<Self> {
        let stop = consumer.stop.child_token();
        let this = Arc::new(Self {
            consumer,
            provider,
            standing: RwLock::new(standing),
            namespaces: RwLock::new(NamespaceMap::new()),
            objects: RwLock::new(None),
            copies: RwLock::new(HashMap::new()),
            queue: WorkQueue::new(Duration::from_millis(100), Duration::from_secs(60)),
            memory: Mutex::default(),
            pending: Mutex::default(),
            bodies: Bodies::default(),
            mapping_asked: Mutex::new(HashMap::new()),
            contested: Mutex::default(),
            late: Late::default(),
            doubts: AtomicU64::new(0),
            references,
            _guard: stop.clone().drop_guard(),
            stop,
            config,
        });
        this.consumer.metrics.announce(&this.config.resource);
        let part: Weak<Self> = Arc::downgrade(&this);
        this.consumer.metrics.ask(part);
        let informer = this.watch_consumer();
        *this.objects.write() = Some(informer);
        this.set_namespaces(namespaces);
        let weak = Arc::downgrade(&this);
        let ended = this.stop.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = ended.cancelled() => return,
                    () = tokio::time::sleep(ECHO) => {}
                }
                let Some(this) = weak.upgrade() else { return };
                this.look_for_echoes();
            }
        });
        let queue = this.queue.clone();
        let weak = Arc::downgrade(&this);
        let stop = this.stop.clone();
        tokio::spawn(queue.run(CONCURRENCY, stop, move |key| {
            let weak = weak.clone();
            async move {
                match weak.upgrade() {
                    Some(this) => this.work(key).await,
                    None => Outcome::Done,
                }
            }
        }));
        this
    }

    /// Ends all work, what is under way too.
    pub fn halt(&self) {
        self.stop.cancel();
    }

    /// What is synced.
    pub fn config(&self) -> &KindConfig {
        &self.config
    }

    /// Sets what the contract says now; everything is looked at again when it changed.
    pub fn set_standing(&self, standing: Standing) {
        if std::mem::replace(&mut *self.standing.write(), standing) != standing {
            self.requeue_all();
        }
    }

    /// Sets which namespaces are mapped; starts and stops provider watches.
    pub fn set_namespaces(self: &Arc<Self>, namespaces: NamespaceMap) {
        let wanted: Vec<String> = match self.config.mapping.strategy() {
            Strategy::ServiceNamespaced => namespaces.iter().map(|(_, provider)| provider.to_owned()).collect(),
            Strategy::Namespaced => vec![self.config.mapping.contract_namespace().to_owned()],
            Strategy::Prefixed | Strategy::None => vec![String::new()],
        };
        let changed = {
            let mut mine = self.namespaces.write();
            let changed = mapped_otherwise(&mine, &namespaces);
            *mine = namespaces;
            changed
        };
        let mut copies = self.copies.write();
        copies.retain(|namespace, _| wanted.contains(namespace));
        for namespace in wanted {
            copies.entry(namespace).or_insert_with_key(|namespace| self.watch_provider(namespace));
        }
        drop(copies);
        for namespace in changed {
            self.requeue_namespace(&namespace);
        }
    }

    /// Objects known at the consumer.
    pub fn object_count(&self) -> usize {
        self.objects.read().as_ref().map_or(0, |o| o.store().len())
    }

    /// True when the consumer's list is complete.
    pub fn objects_synced(&self) -> bool {
        self.objects.read().as_ref().is_some_and(Informer::synced)
    }

    /// Whether copies of ours are left in the provider's namespace for a consumer namespace, or may be.
    pub fn has_copies_in(&self, consumer_namespace: &str) -> bool {
        if self.config.mapping.strategy() != Strategy::ServiceNamespaced {
            return false;
        }
        let Some(mapped) = self.namespaces.read().provider(consumer_namespace).map(str::to_owned) else { return false };
        self.copies.read().get(&mapped).is_none_or(|copies| {
            !copies.synced()
                || copies.store().all().iter().any(|(_, e)| matches!(e.summary.unpack().belongs, Belongs::Ours { .. }))
        })
    }

    /// Uid of a consumer's object, if it is known.
    pub fn uid_of(&self, key: &ConsumerKey) -> Option<String> {
        self.objects.read().as_ref()?.store().get(&consumer_object(key)).map(|e| e.summary.unpack().uid)
    }

    /// The provider's copy of a consumer's object, as last seen.
    pub fn copy_of(&self, key: &ConsumerKey) -> Side<ProviderSummary> {
        self.sides(&consumer_object(key)).1
    }

    /// Trouble of any of the watches, in words.
    pub fn trouble(&self) -> Option<String> {
        let consumer = self.objects.read().as_ref().and_then(|o| o.health().borrow().trouble.clone());
        let provider = self.copies.read().values().find_map(|informer| informer.health().borrow().trouble.clone());
        consumer.or(provider).map(|t| t.message)
    }

    /// The other side is there again: what failed is tried now.
    pub fn hurry(&self) {
        self.queue.hurry();
    }

    /// How often the watches were doubted.
    pub fn doubts(&self) -> u64 {
        self.doubts.load(Ordering::Relaxed)
    }

    /// In which of the provider's namespaces the copy of an object is watched.
    fn copies_namespace(&self, key: &ObjectKey) -> Option<String> {
        let target = self.to_provider(&consumer_key(key)).ok()?;
        Some(target.namespace.unwrap_or_default())
    }

    /// Looks at every object again, behind what happens meanwhile.
    pub fn requeue_all(&self) {
        if let Some(objects) = self.objects.read().as_ref() {
            for key in objects.store().keys() {
                self.queue.add_behind(key);
            }
        }
    }

    fn requeue_namespace(&self, namespace: &str) {
        if let Some(objects) = self.objects.read().as_ref() {
            for key in objects.store().keys_in(namespace) {
                self.queue.add_behind(key);
            }
        }
    }

    fn watch_consumer(self: &Arc<Self>) -> Informer<Packed<ConsumerSummary>> {
        let weak = Arc::downgrade(self);
        let project = {
            let weak = weak.clone();
            move |object: &Arc<Value>| Ok(Packed::new(&weak.upgrade().ok_or("stopped")?.summarise(object)))
        };
        let listed = AtomicBool::new(false);
        let handler = move |delta: &Delta<Packed<ConsumerSummary>>| {
            let Some(this) = weak.upgrade() else { return };
            match delta {
                Delta::Applied { key, old, new, body } => {
                    this.bodies.put_consumer(key, new.revision.to_string(), body);
                    let (old, new) = (old.as_ref().map(|old| old.summary.unpack()), new.summary.unpack());
                    let refers = Referral::Refers { key: &consumer_key(key), old: old.as_ref(), new: Some(&new) };
                    (this.references)(refers);
                    this.enqueue(key.clone(), &listed);
                    this.tell_lost_references(key, &new, body);
                }
                Delta::Removed { key, last, .. } => {
                    this.memory.lock().remove(key);
                    this.pending.lock().remove(key);
                    this.contested.lock().remove(key);
                    this.bodies.forget(key);
                    let old = last.summary.unpack();
                    (this.references)(Referral::Refers { key: &consumer_key(key), old: Some(&old), new: None });
                }
                Delta::Synced => listed.store(true, Ordering::Relaxed),
            }
        };
        Informer::start(
            &self.consumer.api,
            &self.config.resource,
            ListQuery::default(),
            InformerOptions::keeping(Keep::UNMANAGED),
            Arc::new(project),
            Arc::new(handler),
        )
    }

    /// What a first list shows was there before: it waits behind what happens now.
    fn enqueue(&self, key: ObjectKey, listed: &AtomicBool) {
        if listed.load(Ordering::Relaxed) {
            self.queue.add(key);
        } else {
            self.queue.add_behind(key);
        }
    }

    /// What is kept of a consumer's object.
    fn summarise(&self, object: &Value) -> ConsumerSummary {
        let config = &self.config;
        let referring = GroupResource::new(config.resource.group.clone(), config.resource.plural.clone());
        let mut references: Vec<(u16, Box<str>)> = Vec::new();
        for (index, claim) in config.claims.iter().enumerate() {
            for target in claim.targets(&referring, object, config.openapi.as_deref()).found {
                let name = match (config.mapping.strategy(), target.namespace) {
                    (Strategy::ServiceNamespaced, _) => target.name,
                    // A cluster-scoped object says where. No name has a slash.
                    (_, Some(namespace)) => format!("{namespace}/{}", target.name),
                    (_, None) => continue,
                };
                references.push((u16::try_from(index).unwrap_or(u16::MAX), name.into()));
            }
        }
        summary::consumer(object, config.mapping.contract_namespace(), config.schema.as_deref(), references)
    }

    /// What a cluster-scoped object refers to in vain concerns no namespace, so it is said on the object.
    fn tell_lost_references(self: &Arc<Self>, key: &ObjectKey, consumer: &ConsumerSummary, body: &[u8]) {
        let config = &self.config;
        if config.mapping.strategy() == Strategy::ServiceNamespaced || config.claims.is_empty() {
            return;
        }
        let Ok(object) = serde_json::from_slice::<Value>(body) else { return };
        let referring = GroupResource::new(config.resource.group.clone(), config.resource.plural.clone());
        let targets = config.claims.iter().map(|c| c.targets(&referring, &object, config.openapi.as_deref()));
        let mut problems: Vec<String> = targets.flat_map(|targets| targets.problems).collect();
        problems.sort();
        problems.dedup();
        if problems.is_empty() {
            return;
        }
        let (this, key, consumer) = (self.clone(), key.clone(), consumer.clone());
        tokio::spawn(async move {
            for problem in problems {
                this.warn(&key, &consumer, "ReferenceNotFollowed", &problem).await;
            }
        });
    }

    fn watch_provider(self: &Arc<Self>, namespace: &str) -> Informer<Packed<ProviderSummary>> {
        let query = if namespace.is_empty() { ListQuery::default() } else { ListQuery::namespace(namespace) };
        let project = {
            let weak = Arc::downgrade(self);
            move |object: &Arc<Value>| {
                let this = weak.upgrade().ok_or("stopped")?;
                let key = ObjectKey::of(object).ok_or("no name")?;
                // Objects of other contracts are not even counted.
                let consumer = this.to_consumer(&key).ok_or_else(String::new)?;
                let contract = this.config.mapping.contract_namespace();
                Ok(Packed::new(&summary::provider(object, &consumer, contract, this.config.schema.as_deref())))
            }
        };
        let handler = {
            let weak = Arc::downgrade(self);
            let namespace = namespace.to_owned();
            let listed = AtomicBool::new(false);
            move |delta: &Delta<Packed<ProviderSummary>>| {
                let Some(this) = weak.upgrade() else { return };
                match delta {
                    Delta::Applied { key, old, new, body } => {
                        if let Some(consumer) = this.to_consumer(key) {
                            // Of those in the first list its end tells at once.
                            if old.is_none() && listed.load(Ordering::Relaxed) {
                                (this.references)(Referral::Copied(&consumer));
                            }
                            let consumer = consumer_object(&consumer);
                            this.bodies.put_provider(&consumer, new.revision.to_string(), body);
                            this.enqueue(consumer, &listed);
                        }
                    }
                    Delta::Removed { key, .. } => {
                        if let Some(consumer) = this.to_consumer(key) {
                            this.queue.add(consumer_object(&consumer));
                        }
                    }
                    Delta::Synced => {
                        listed.store(true, Ordering::Relaxed);
                        (this.references)(Referral::CopiesListed);
                        let consumer = this.namespaces.read().consumer(&namespace).map(str::to_owned);
                        match consumer {
                            Some(consumer) => this.requeue_namespace(&consumer),
                            None => this.requeue_all(),
                        }
                    }
                }
            }
        };
        Informer::start(
            &self.provider,
            &self.config.resource,
            query,
            InformerOptions::keeping(Keep { managed_fields: ManagedFields::Of(FIELD_MANAGER), leave_out: &[] }),
            Arc::new(project),
            Arc::new(handler),
        )
    }

    fn to_consumer(&self, key: &ObjectKey) -> Option<ConsumerKey> {
        self.config.mapping.to_consumer(&provider_key(key), &self.namespaces.read())
    }

    fn to_provider(&self, key: &ConsumerKey) -> Result<ProviderKey, NameError> {
        self.config.mapping.to_provider(key, &self.namespaces.read())
    }

    fn sides(&self, key: &ObjectKey) -> (Side<ConsumerSummary>, Side<ProviderSummary>, Target) {
        let consumer = match self.objects.read().as_ref() {
            Some(objects) => Side::from_lookup(objects.synced(), objects.store().get(key).map(|e| e.summary.unpack())),
            None => Side::Unknown,
        };
        match self.to_provider(&consumer_key(key)) {
            Ok(target) => {
                let namespace = target.namespace.clone().unwrap_or_default();
                let copy = match self.copies.read().get(&namespace) {
                    Some(copies) => Side::from_lookup(
                        copies.synced(),
                        copies.store().get(&provider_object(&target)).map(|e| e.summary.unpack()),
                    ),
                    None => Side::Unknown,
                };
                (consumer, copy, Target::Known(namespace))
            }
            Err(NameError::NotMapped { .. }) => (consumer, Side::Unknown, Target::Pending),
            Err(error) => (consumer, Side::Unknown, Target::Impossible(error.to_string())),
        }
    }

    async fn work(self: Arc<Self>, key: ObjectKey) -> Outcome {
        let (mut consumer, copy, target) = self.sides(&key);
        if let Some(wait) = self.awaiting_echo(&key, &consumer, &copy) {
            return Outcome::After(wait);
        }
        if let Some(newer) = self.ahead_of(&key, &consumer) {
            consumer = Side::Present(newer);
        }
        let standing = *self.standing.read();
        let terms = Terms { frozen: standing.frozen, teardown: standing.teardown, target };
        let memory = self.remembered(&key);
        let actions = decide(&consumer, &copy, &terms, &memory);
        if actions.is_empty() {
            return Outcome::Done;
        }
        let Side::Present(summary) = consumer else { return Outcome::Done };
        if actions != [Action::Hold] {
            return self.carry_out(&key, &summary, &copy, standing, actions).await;
        }
        // What the API server answers is as good as the event that will say the same: no need to wait for it.
        let held = match self.hold(&key, &summary, &copy).await {
            Ok(held) => held,
            Err(error) => return self.failed(&key, &summary, &Action::Hold, &error).await,
        };
        let actions = decide(&Side::Present(held.clone()), &copy, &terms, &memory);
        if actions == [Action::Hold] {
            return Outcome::Retry;
        }
        self.carry_out(&key, &held, &copy, standing, actions).await
    }

    fn remembered(&self, key: &ObjectKey) -> Memory {
        self.memory.lock().get(key).map(Packed::unpack).unwrap_or_default()
    }

    fn remember(&self, key: &ObjectKey, change: impl FnOnce(&mut Memory)) {
        let mut memory = self.remembered(key);
        change(&mut memory);
        self.memory.lock().insert(key, Packed::new(&memory));
    }
}

/// Consumer namespaces that are mapped otherwise than before, or not any more: who has objects there asks anew.
fn mapped_otherwise(old: &NamespaceMap, new: &NamespaceMap) -> Vec<String> {
    let anew = new.iter().filter(|(consumer, provider)| old.provider(consumer) != Some(provider));
    let gone = old.iter().filter(|(consumer, _)| new.provider(consumer).is_none());
    anew.chain(gone).map(|(consumer, _)| consumer.to_owned()).collect()
}

impl Observed for KindSync {
    fn observe(&self, gauges: &mut Gauges) {
        gauges.objects(&self.config.binding, &self.config.resource, self.object_count(), self.queue.depth());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_that_comes_changes_or_goes_concerns_its_namespace() {
        let old: NamespaceMap = [("stays", "c-stays"), ("moves", "c-old"), ("goes", "c-goes")].into_iter().collect();
        let new: NamespaceMap = [("stays", "c-stays"), ("moves", "c-new"), ("comes", "c-comes")].into_iter().collect();
        let mut changed = mapped_otherwise(&old, &new);
        changed.sort();
        assert_eq!(changed, ["comes", "goes", "moves"]);
    }
}
