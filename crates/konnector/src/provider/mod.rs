//! One provider: a kubeconfig Secret, a connection, the caches of its contract namespace, and the bindings that use it.
//! Each provider is a failure domain of its own: a dead one never slows another. In: the credential and the consumer's
//! caches. Out: reconciled bindings ([`crate::binding`]) and a heartbeat.

mod heartbeat;
pub mod pin;
mod rotation;

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use contract::NamespaceMap;
use kube_bind_api::{
    ClusterSecretKeyRef,
    constants::{LABEL_OWNER, OWNER_PROVIDER},
};
use kube_client::{
    Api, ApiError, Class, Delta, Informer, InformerOptions, Keep, ListQuery, ObjectKey, Outcome, Resource, WorkQueue,
    connect::Connection,
};
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::DropGuard;

use crate::{
    binding::BindingState,
    consumer::{Consumer, Signal, Subscription},
    health::{Cluster, Gauges, Observed},
    resources,
};

/// Bindings of one provider that are reconciled at once.
const CONCURRENCY: usize = 4;

/// Whether the provider answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Not asked yet.
    Connecting,
    /// It answered the last time.
    Up,
    /// It did not, or refused us.
    Down {
        /// How.
        class: Class,
        /// In words.
        message: String,
    },
}

/// A running provider; everything of it stops when dropped.
pub struct Provider {
    /// The Secret that the credential came from.
    pub secret: ClusterSecretKeyRef,
    /// Requests.
    pub api: Api,
    /// The contract namespace: that of the kubeconfig's context.
    pub contract_namespace: String,
    /// URL of the API server, for messages.
    pub server: String,
    /// The consumer cluster.
    pub consumer: Arc<Consumer>,
    /// Exports of the contract.
    pub exports: Informer<Arc<Value>>,
    /// Published schemas of the contract.
    pub schemas: Informer<Arc<Value>>,
    /// Mapped namespaces of the contract.
    pub namespaces: Informer<Arc<Value>>,
    /// Running bindings by name.
    pub(crate) bindings: Mutex<HashMap<String, BindingState>>,
    /// Their claims, which share what is at the provider.
    pub(crate) claims: crate::claims::Running,
    pub(crate) queue: Arc<WorkQueue<String>>,
    map: RwLock<NamespaceMap>,
    gone: Arc<WorkQueue<String>>,
    link: RwLock<Link>,
    cluster_binding: RwLock<Option<Arc<Value>>>,
    heartbeat_error: RwLock<Option<String>>,
    rotation_looked: Mutex<Option<Instant>>,
    /// How often a watch of a bound kind was doubted.
    doubts: AtomicU64,
    subscription: Mutex<Option<Subscription>>,
    _guard: DropGuard,
}

impl Provider {
    /// Starts caches, heartbeat and workers.
    pub fn start(secret: ClusterSecretKeyRef, connection: Connection, consumer: Arc<Consumer>) -> Arc<Self> {
        let restarts = consumer.metrics.restarts(Cluster::Provider);
        let api = connection.api(&format!("provider {}", secret.name)).counting_restarts(restarts);
        let Connection { server, namespace, .. } = connection;
        let queue: Arc<WorkQueue<String>> = WorkQueue::new(Duration::from_millis(250), Duration::from_secs(30));
        let gone: Arc<WorkQueue<String>> = WorkQueue::new(Duration::from_secs(2), Duration::from_secs(60));
        let stop = consumer.stop.child_token();
        let this = Arc::new_cyclic(|weak: &std::sync::Weak<Self>| {
            let watch = |resource: Resource, on: fn(&Self, &ObjectKey)| {
                let weak = weak.clone();
                Informer::start(
                    &api,
                    &resource,
                    ListQuery::namespace(&namespace),
                    InformerOptions::keeping(Keep::UNMANAGED),
                    Arc::new(|object: &Arc<Value>| Ok(object.clone())),
                    Arc::new(move |delta: &Delta<Arc<Value>>| {
                        let Some(this) = weak.upgrade() else { return };
                        match delta {
                            Delta::Applied { key, .. } | Delta::Removed { key, .. } => on(&this, key),
                            Delta::Synced => this.requeue_all(),
                        }
                    }),
                )
            };
            Self {
                exports: watch(resources::exports(), |this, key| this.queue.add(key.name.clone())),
                schemas: watch(resources::bound_schemas(), |this, _| this.requeue_all()),
                namespaces: watch(resources::service_namespaces(), |this, key| this.namespace_changed(&key.name)),
                bindings: Mutex::new(HashMap::new()),
                claims: Mutex::default(),
                queue: queue.clone(),
                map: RwLock::new(NamespaceMap::new()),
                gone: gone.clone(),
                link: RwLock::new(Link::Connecting),
                cluster_binding: RwLock::new(None),
                heartbeat_error: RwLock::new(None),
                rotation_looked: Mutex::new(None),
                doubts: AtomicU64::new(0),
                subscription: Mutex::new(None),
                _guard: stop.clone().drop_guard(),
                secret,
                api: api.clone(),
                contract_namespace: namespace.clone(),
                server,
                consumer: consumer.clone(),
            }
        });
        let part: Weak<Self> = Arc::downgrade(&this);
        consumer.metrics.ask(part);
        let weak = Arc::downgrade(&this);
        let subscription = consumer.listeners.subscribe(move |signal| {
            if let Some(this) = weak.upgrade() {
                this.consumer_changed(signal);
            }
        });
        *this.subscription.lock() = Some(subscription);
        let weak = Arc::downgrade(&this);
        tokio::spawn(queue.run(CONCURRENCY, stop.clone(), move |name| {
            let weak = weak.clone();
            async move {
                match weak.upgrade() {
                    Some(this) => crate::binding::reconcile(&this, &name).await,
                    None => Outcome::Done,
                }
            }
        }));
        let weak = Arc::downgrade(&this);
        tokio::spawn(gone.run(1, stop.clone(), move |namespace| {
            let weak = weak.clone();
            async move {
                let Some(this) = weak.upgrade() else { return Outcome::Done };
                match this.give_back(&namespace).await {
                    Ok(true) => Outcome::Done,
                    Ok(false) => Outcome::After(Duration::from_secs(5)),
                    Err(_) => Outcome::Retry,
                }
            }
        }));
        tokio::spawn(heartbeat::run(Arc::downgrade(&this), stop));
        this.requeue_all();
        this
    }

    /// Whether the provider answers.
    pub fn link(&self) -> Link {
        self.link.read().clone()
    }

    /// The provider's `ClusterBinding`, as last read.
    pub fn cluster_binding(&self) -> Option<Arc<Value>> {
        self.cluster_binding.read().clone()
    }

    /// Why the last heartbeat could not be written.
    pub fn heartbeat_error(&self) -> Option<String> {
        self.heartbeat_error.read().clone()
    }

    /// True when the contract namespace's caches are filled.
    pub fn synced(&self) -> bool {
        self.exports.synced() && self.schemas.synced() && self.namespaces.synced()
    }

    /// Why the contract's caches cannot be filled or kept, in words.
    pub fn trouble(&self) -> Option<String> {
        [&self.exports, &self.schemas, &self.namespaces]
            .into_iter()
            .find_map(|informer| informer.health().borrow().trouble.as_ref().map(|trouble| trouble.message.clone()))
    }

    /// Watches bring no event when they fail: bindings whose watches have got into trouble or out of it are looked at. And
    /// where the watch of a bound kind was doubted, those of the contract may be dead too.
    fn look_after_watches(&self) {
        let contract = self.trouble().is_some();
        let mut doubts = 0;
        for (name, state) in self.bindings.lock().iter_mut() {
            doubts += state.doubts();
            if state.watches_changed(contract) {
                self.queue.add(name.clone());
            }
        }
        if self.doubts.swap(doubts, Ordering::Relaxed) < doubts {
            self.exports.doubt();
            self.schemas.doubt();
            self.namespaces.doubt();
        }
    }

    /// The provider's name for people, once known.
    pub fn pretty_name(&self) -> Option<String> {
        let cluster_binding = self.cluster_binding()?;
        cluster_binding["spec"]["providerPrettyName"].as_str().map(Into::into)
    }

    /// One object of the contract namespace from a cache.
    pub fn cached(&self, informer: &Informer<Arc<Value>>, name: &str) -> Option<Arc<Value>> {
        informer.store().get(&ObjectKey::new(&self.contract_namespace, name)).map(|e| e.summary.clone())
    }

    /// Which consumer namespaces are mapped, and to what.
    pub fn namespace_map(&self) -> NamespaceMap {
        self.map.read().clone()
    }

    /// The provider's namespace for a consumer's.
    pub fn mapped(&self, consumer_namespace: &str) -> Option<String> {
        self.map.read().provider(consumer_namespace).map(str::to_owned)
    }

    /// Looks at every binding of this provider again.
    pub fn requeue_all(&self) {
        for (key, entry) in self.consumer.bindings.store().all() {
            if self.is_mine(&entry.summary) {
                self.queue.add(key.name);
            }
        }
    }

    /// Whether a binding uses this provider's credential.
    pub fn is_mine(&self, binding: &Value) -> bool {
        let secret = &binding["spec"]["kubeconfigSecretRef"];
        secret["name"] == self.secret.name.as_str()
            && secret["namespace"] == self.secret.namespace.as_str()
            && secret["key"] == self.secret.key.as_str()
    }

    /// Ends what runs for a binding, outside of the lock: what ends takes locks of its own.
    pub fn forget(&self, binding: &str) {
        let state = self.bindings.lock().remove(binding);
        drop(state);
    }

    fn consumer_changed(&self, signal: &Signal) {
        match signal {
            Signal::Binding(name) => self.queue.add(name.clone()),
            Signal::Crd(name) => {
                // That of a binding too whose kinds do not run: after a restart, while the provider is away.
                let known = self.consumer.crds.store().get(&ObjectKey::cluster(name));
                if let Some(binding) = known.and_then(|known| known.summary.binding.clone()) {
                    self.queue.add(binding);
                }
                let bindings = self.bindings.lock();
                for (binding, state) in bindings.iter() {
                    if state.concerns_crd(name) {
                        self.queue.add(binding.clone());
                    }
                }
            }
            Signal::NamespaceGone(name) => self.gone.add_after(name.clone(), Duration::from_secs(5)),
            Signal::Namespace(_) | Signal::Secret(_) => {}
        }
    }

    fn namespace_changed(&self, consumer_namespace: &str) {
        let entry = self.cached(&self.namespaces, consumer_namespace);
        let mapped = entry.as_ref().and_then(|e| e["status"]["namespace"].as_str()).filter(|n| !n.is_empty());
        let changed = {
            let mut map = self.map.write();
            match mapped {
                Some(mapped) => map.insert(consumer_namespace, mapped),
                None => map.remove(consumer_namespace).is_some(),
            }
        };
        for state in self.bindings.lock().values() {
            if changed {
                state.set_namespaces(&self.namespace_map());
            }
            state.claims_changed(consumer_namespace);
        }
    }

    /// The consumer's namespace is gone, and with it every object in it: when no copy is left in the mapped one, it is
    /// not needed any more.
    async fn give_back(&self, consumer_namespace: &str) -> Result<bool, ApiError> {
        let Some(entry) = self.cached(&self.namespaces, consumer_namespace) else { return Ok(true) };
        let labels = &entry["metadata"]["labels"];
        if labels[LABEL_OWNER] == OWNER_PROVIDER || !matches!(self.link(), Link::Up) {
            return Ok(labels[LABEL_OWNER] == OWNER_PROVIDER);
        }
        if self.bindings.lock().values().any(|state| state.has_copies_in(consumer_namespace)) {
            return Ok(false);
        }
        let namespace = ObjectKey::cluster(consumer_namespace);
        if self.consumer.api.get_opt(&resources::namespaces(), &namespace).await?.is_some() {
            // Made again meanwhile.
            return Ok(true);
        }
        if !self.cluster_binding().is_some_and(|c| pin::holds(&c, &self.consumer.uid)) {
            return Ok(true);
        }
        let key = ObjectKey::new(&self.contract_namespace, consumer_namespace);
        let uid = entry["metadata"]["uid"].as_str().unwrap_or_default();
        self.api.delete(&resources::service_namespaces(), &key, uid).await?;
        tracing::info!(namespace = consumer_namespace, provider = %self.secret.name, "mapped namespace given back");
        Ok(true)
    }

    fn set_link(&self, link: Link) {
        let old = std::mem::replace(&mut *self.link.write(), link.clone());
        if old == link {
            return;
        }
        match &link {
            Link::Up => {
                tracing::info!(provider = %self.secret.name, server = %self.server, "provider answers");
                self.queue.hurry();
                self.bindings.lock().values().for_each(BindingState::hurry);
            }
            Link::Down { message, .. } => {
                tracing::warn!(provider = %self.secret.name, server = %self.server, message, "provider does not answer");
            }
            Link::Connecting => {}
        }
        self.requeue_all();
    }

    fn set_cluster_binding(&self, value: Option<Arc<Value>>) {
        let old = std::mem::replace(&mut *self.cluster_binding.write(), value.clone());
        let spec = |v: &Option<Arc<Value>>| v.as_ref().map(|v| v["spec"].clone());
        if spec(&old) != spec(&value) {
            self.requeue_all();
        }
    }

    fn set_heartbeat_error(&self, error: Option<String>) {
        let old = std::mem::replace(&mut *self.heartbeat_error.write(), error.clone());
        if old.is_some() != error.is_some() {
            self.requeue_all();
        }
    }
}

impl Observed for Provider {
    fn observe(&self, gauges: &mut Gauges) {
        gauges.provider(&self.secret.name, *self.link.read() == Link::Up);
        gauges.queue("bindings", &self.secret.name, self.queue.depth());
    }
}
