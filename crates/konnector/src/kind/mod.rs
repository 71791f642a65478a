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
mod execute;

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use apimachinery::schema::Structural;
use contract::{Claim, Mapping, NamespaceMap, Strategy, names::NameError};
use kube_bind_api::GroupResource;
use kube_client::{Api, Delta, Informer, InformerOptions, ListQuery, ObjectKey, Outcome, Resource, WorkQueue};
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::bodies::Bodies;
use crate::{
    consumer::Consumer,
    sync::{
        ConsumerKey, ProviderKey, Side, consumer_key, consumer_object,
        decide::{Memory, Target, Terms, decide},
        intent::Teardown,
        provider_key, provider_object,
        summary::{self, Belongs, ConsumerSummary, ProviderSummary},
    },
};

/// Objects worked on at once, per kind.
const CONCURRENCY: usize = 16;
/// After a write, how long its event may take before we look again.
const ECHO: Duration = Duration::from_secs(5);

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

/// A change in what the consumer's objects refer to, for the claims.
pub type ReferenceListener =
    Arc<dyn Fn(&ConsumerKey, Option<&ConsumerSummary>, Option<&ConsumerSummary>) + Send + Sync>;

struct Pending {
    consumer: Option<String>,
    provider: Option<String>,
    at: Instant,
}

/// A running sync of one kind; it stops when dropped.
pub struct KindSync {
    config: KindConfig,
    consumer: Arc<Consumer>,
    provider: Api,
    standing: RwLock<Standing>,
    namespaces: RwLock<NamespaceMap>,
    objects: RwLock<Option<Informer<ConsumerSummary>>>,
    copies: RwLock<HashMap<String, Informer<ProviderSummary>>>,
    queue: Arc<WorkQueue<ObjectKey>>,
    memory: Mutex<HashMap<ObjectKey, Memory>>,
    pending: Mutex<HashMap<ObjectKey, Pending>>,
    bodies: Bodies,
    mapping_asked: Mutex<HashMap<String, Instant>>,
    contested: Mutex<HashMap<ObjectKey, Instant>>,
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
            memory: Mutex::new(HashMap::new()),
            pending: Mutex::new(HashMap::new()),
            bodies: Bodies::default(),
            mapping_asked: Mutex::new(HashMap::new()),
            contested: Mutex::new(HashMap::new()),
            references,
            _guard: stop.clone().drop_guard(),
            stop,
            config,
        });
        let informer = this.watch_consumer();
        *this.objects.write() = Some(informer);
        this.set_namespaces(namespaces);
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
        let changed: Vec<String> = {
            let mut mine = self.namespaces.write();
            let changed = namespaces
                .iter()
                .filter(|(consumer, provider)| mine.provider(consumer) != Some(provider))
                .map(|(consumer, _)| consumer.to_owned())
                .collect();
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
        let Some(mapped) = self.namespaces.read().provider(consumer_namespace).map(str::to_owned) else { return false };
        self.copies.read().get(&mapped).is_none_or(|copies| {
            !copies.synced()
                || copies.store().all().iter().any(|(_, e)| matches!(e.summary.belongs, Belongs::Ours { .. }))
        })
    }

    /// Uid of a consumer's object, if it is known.
    pub fn uid_of(&self, key: &ConsumerKey) -> Option<String> {
        self.objects.read().as_ref()?.store().get(&consumer_object(key)).map(|e| e.summary.uid.clone())
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

    /// Looks at every object again.
    pub fn requeue_all(&self) {
        if let Some(objects) = self.objects.read().as_ref() {
            for key in objects.store().keys() {
                self.queue.add(key);
            }
        }
    }

    fn requeue_namespace(&self, namespace: &str) {
        if let Some(objects) = self.objects.read().as_ref() {
            for key in objects.store().keys_in(namespace) {
                self.queue.add(key);
            }
        }
    }

    fn watch_consumer(self: &Arc<Self>) -> Informer<ConsumerSummary> {
        let weak = Arc::downgrade(self);
        let referring = GroupResource::new(self.config.resource.group.clone(), self.config.resource.plural.clone());
        let contract = self.config.mapping.contract_namespace().to_owned();
        let schema = self.config.schema.clone();
        let openapi = self.config.openapi.clone();
        let claims = self.config.claims.clone();
        let project = move |object: &Arc<Value>| {
            let mut references: Vec<(u16, Box<str>)> = Vec::new();
            for (index, claim) in claims.iter().enumerate() {
                for target in claim.targets(&referring, object, openapi.as_deref()).found {
                    references.push((u16::try_from(index).unwrap_or(u16::MAX), target.name.into()));
                }
            }
            Ok(summary::consumer(object, &contract, schema.as_deref(), references))
        };
        let handler = move |delta: &Delta<ConsumerSummary>| {
            let Some(this) = weak.upgrade() else { return };
            match delta {
                Delta::Applied { key, old, new, body } => {
                    if old.is_none() {
                        this.consumer.metrics.objects.fetch_add(1, Ordering::Relaxed);
                    }
                    this.bodies.put_consumer(key, &new.revision, body);
                    (this.references)(&consumer_key(key), old.as_ref().map(|o| &o.summary), Some(&new.summary));
                    this.queue.add(key.clone());
                }
                Delta::Removed { key, last, .. } => {
                    this.consumer.metrics.objects.fetch_sub(1, Ordering::Relaxed);
                    this.memory.lock().remove(key);
                    this.pending.lock().remove(key);
                    this.contested.lock().remove(key);
                    this.bodies.forget(key);
                    (this.references)(&consumer_key(key), Some(&last.summary), None);
                }
                Delta::Synced => {}
            }
        };
        Informer::start(
            &self.consumer.api,
            &self.config.resource,
            ListQuery::default(),
            InformerOptions::default(),
            Arc::new(project),
            Arc::new(handler),
        )
    }

    fn watch_provider(self: &Arc<Self>, namespace: &str) -> Informer<ProviderSummary> {
        let query = if namespace.is_empty() { ListQuery::default() } else { ListQuery::namespace(namespace) };
        let project = {
            let weak = Arc::downgrade(self);
            move |object: &Arc<Value>| {
                let this = weak.upgrade().ok_or("stopped")?;
                let key = ObjectKey::of(object).ok_or("no name")?;
                // Objects of other contracts are not even counted.
                let consumer = this.to_consumer(&key).ok_or_else(String::new)?;
                let contract = this.config.mapping.contract_namespace();
                Ok(summary::provider(object, &consumer, contract, this.config.schema.as_deref()))
            }
        };
        let handler = {
            let weak = Arc::downgrade(self);
            let namespace = namespace.to_owned();
            move |delta: &Delta<ProviderSummary>| {
                let Some(this) = weak.upgrade() else { return };
                match delta {
                    Delta::Applied { key, new, body, .. } => {
                        if let Some(consumer) = this.to_consumer(key) {
                            let consumer = consumer_object(&consumer);
                            this.bodies.put_provider(&consumer, &new.revision, body);
                            this.queue.add(consumer);
                        }
                    }
                    Delta::Removed { key, .. } => {
                        if let Some(consumer) = this.to_consumer(key) {
                            this.queue.add(consumer_object(&consumer));
                        }
                    }
                    Delta::Synced => {
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
            InformerOptions::default(),
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
            Some(objects) => Side::from_lookup(objects.synced(), objects.store().get(key).map(|e| e.summary.clone())),
            None => Side::Unknown,
        };
        match self.to_provider(&consumer_key(key)) {
            Ok(target) => {
                let namespace = target.namespace.clone().unwrap_or_default();
                let copy = match self.copies.read().get(&namespace) {
                    Some(copies) => Side::from_lookup(
                        copies.synced(),
                        copies.store().get(&provider_object(&target)).map(|e| e.summary.clone()),
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
        let (consumer, copy, target) = self.sides(&key);
        if let Some(wait) = self.awaiting_echo(&key, &consumer, &copy) {
            return Outcome::After(wait);
        }
        let standing = *self.standing.read();
        let terms = Terms { frozen: standing.frozen, teardown: standing.teardown, target };
        let memory = self.memory.lock().get(&key).cloned().unwrap_or_default();
        let actions = decide(&consumer, &copy, &terms, &memory);
        if actions.is_empty() {
            return Outcome::Done;
        }
        let Side::Present(summary) = &consumer else { return Outcome::Done };
        self.carry_out(&key, summary, &copy, standing, actions).await
    }

    /// After a write of ours the caches are behind until its event arrives: deciding then would write twice.
    fn awaiting_echo(
        &self,
        key: &ObjectKey,
        consumer: &Side<ConsumerSummary>,
        copy: &Side<ProviderSummary>,
    ) -> Option<Duration> {
        let mut pending = self.pending.lock();
        let wait = pending.get(key)?;
        let consumer_same = wait.consumer.as_deref() == consumer.present().map(|c| c.revision.as_str());
        let copy_same = wait.provider.as_deref() == copy.present().map(|c| c.revision.as_str());
        let left = ECHO.checked_sub(wait.at.elapsed()).filter(|left| !left.is_zero());
        match left {
            Some(left) if consumer_same && copy_same => Some(left),
            _ => {
                pending.remove(key);
                None
            }
        }
    }

    fn expect_echo(&self, key: &ObjectKey, consumer: &ConsumerSummary, copy: &Side<ProviderSummary>) {
        self.pending.lock().insert(
            key.clone(),
            Pending {
                consumer: Some(consumer.revision.clone()),
                provider: copy.present().map(|c| c.revision.clone()),
                at: Instant::now(),
            },
        );
    }
}

impl Drop for KindSync {
    fn drop(&mut self) {
        let known = u64::try_from(self.object_count()).unwrap_or(0);
        self.consumer.metrics.objects.fetch_sub(known, Ordering::Relaxed);
    }
}
