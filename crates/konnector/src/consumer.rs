//! The consumer cluster as the agent sees it: one connection, and the few caches that everything shares. In: list and
//! watch of bindings, CRDs, namespaces and the Secrets of namespace `kube-bind` (nowhere else). Out: stores, and signals
//! to whoever has to look again.

use std::{collections::HashMap, sync::Arc};

use kube_bind_api::constants::{ANNOTATION_BINDING_UID, CONSUMER_NAMESPACE, LABEL_BINDING};
use kube_client::{
    Api, Delta, Informer, InformerOptions, Keep, ListQuery, ManagedFields, ObjectKey, informer::Project,
};
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{events::Recorder, health::Metrics, resources};

/// What the agent keeps of a CRD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrdSummary {
    /// `metadata.uid`.
    pub uid: String,
    /// Has a deletion timestamp.
    pub deleting: bool,
    /// Its kind is served.
    pub established: bool,
    /// Label: the binding that it belongs to.
    pub binding: Option<String>,
    /// Annotation: the uid of that binding.
    pub binding_uid: Option<String>,
}

impl CrdSummary {
    /// Of a CRD.
    pub fn of(crd: &Value) -> Self {
        let metadata = &crd["metadata"];
        let established = crd["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|c| c["type"] == "Established" && c["status"] == "True");
        Self {
            uid: metadata["uid"].as_str().unwrap_or_default().to_owned(),
            deleting: metadata["deletionTimestamp"].is_string(),
            established,
            binding: metadata["labels"][LABEL_BINDING].as_str().map(Into::into),
            binding_uid: metadata["annotations"][ANNOTATION_BINDING_UID].as_str().map(Into::into),
        }
    }
}

/// What the agent keeps of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceSummary {
    /// `metadata.uid`.
    pub uid: String,
    /// Has a deletion timestamp.
    pub deleting: bool,
}

/// Something in the consumer cluster changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// A binding.
    Binding(String),
    /// A CRD, by name.
    Crd(String),
    /// A Secret in namespace `kube-bind`.
    Secret(String),
    /// A namespace.
    Namespace(String),
    /// The DELETED event of a namespace was seen.
    NamespaceGone(String),
}

type Listener = Arc<dyn Fn(&Signal) + Send + Sync>;

/// Who wants to hear of changes. A listener stays until its guard is dropped.
#[derive(Clone, Default)]
pub struct Listeners {
    inner: Arc<RwLock<Vec<(u64, Listener)>>>,
    next: Arc<std::sync::atomic::AtomicU64>,
}

/// Ends a subscription when dropped.
pub struct Subscription {
    listeners: Listeners,
    id: u64,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.listeners.inner.write().retain(|(id, _)| *id != self.id);
    }
}

impl Listeners {
    /// Calls `listener` for every signal from now on; it must only note and return.
    pub fn subscribe(&self, listener: impl Fn(&Signal) + Send + Sync + 'static) -> Subscription {
        let id = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.inner.write().push((id, Arc::new(listener)));
        Subscription { listeners: self.clone(), id }
    }

    /// Without the lock: a listener waits for others, who may be ending a subscription.
    fn tell(&self, signal: &Signal) {
        let listeners: Vec<Listener> = self.inner.read().iter().map(|(_, listener)| listener.clone()).collect();
        for listener in listeners {
            listener(signal);
        }
    }
}

/// The consumer cluster.
pub struct Consumer {
    /// Requests.
    pub api: Api,
    /// Events in it.
    pub events: Recorder,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Its identity: the uid of namespace `kube-system`.
    pub uid: String,
    /// All bindings, whole.
    pub bindings: Informer<Arc<Value>>,
    /// All CRDs.
    pub crds: Informer<CrdSummary>,
    /// All namespaces.
    pub namespaces: Informer<NamespaceSummary>,
    /// The Secrets of namespace `kube-bind`, whole.
    pub secrets: Informer<Arc<Value>>,
    /// Who wants to hear of changes.
    pub listeners: Listeners,
    /// Bindings, by uid, that are being let go of, and since when.
    pub letting_go: Mutex<HashMap<String, Instant>>,
    /// Bindings, by uid, whose unbinding fails, and how many times in a row.
    pub failing: Mutex<HashMap<String, u32>>,
    /// Cancelled when the Lease is lost: every writer's token is a child of it.
    pub stop: CancellationToken,
}

impl Consumer {
    /// Starts the caches. `uid` is that of namespace `kube-system`.
    pub fn start(api: Api, uid: String, identity: &str, metrics: Arc<Metrics>, stop: CancellationToken) -> Arc<Self> {
        let listeners = Listeners::default();
        let options = || InformerOptions::keeping(Keep::UNMANAGED);
        // Schemas are most of a CRD, and CRDs most of a large cluster.
        let heads = || InformerOptions::keeping(Keep { managed_fields: ManagedFields::None, leave_out: &[&["spec"]] });
        let whole = || -> Project<Arc<Value>> { Arc::new(|object: &Arc<Value>| Ok(object.clone())) };
        let tell = |make: fn(String) -> Signal| {
            let listeners = listeners.clone();
            move |key: &ObjectKey| listeners.tell(&make(key.name.clone()))
        };
        let on_binding = tell(Signal::Binding);
        let bindings = Informer::start(
            &api,
            &resources::bindings(),
            ListQuery::default(),
            options(),
            whole(),
            Arc::new(move |delta| each(delta, &on_binding)),
        );
        let on_crd = tell(Signal::Crd);
        let crds = Informer::start(
            &api,
            &resources::crds(),
            ListQuery::default(),
            heads(),
            Arc::new(|crd: &Arc<Value>| Ok(CrdSummary::of(crd))),
            Arc::new(move |delta: &Delta<CrdSummary>| match delta {
                // CRDs change often in ways that do not matter here (status of others).
                Delta::Applied { old: Some(old), new, .. }
                    if old.summary == new.summary && new.summary.binding.is_none() => {}
                delta => each(delta, &on_crd),
            }),
        );
        let on_namespace = tell(Signal::Namespace);
        let on_gone = tell(Signal::NamespaceGone);
        let namespaces = Informer::start(
            &api,
            &resources::namespaces(),
            ListQuery::default(),
            options(),
            Arc::new(|namespace: &Arc<Value>| {
                Ok(NamespaceSummary {
                    uid: namespace["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
                    deleting: namespace["metadata"]["deletionTimestamp"].is_string(),
                })
            }),
            Arc::new(move |delta| match delta {
                Delta::Removed { key, observed: true, .. } => on_gone(key),
                delta => each(delta, &on_namespace),
            }),
        );
        let on_secret = tell(Signal::Secret);
        let secrets = Informer::start(
            &api,
            &resources::secrets(),
            ListQuery::namespace(CONSUMER_NAMESPACE),
            options(),
            whole(),
            Arc::new(move |delta| each(delta, &on_secret)),
        );
        let events = Recorder::new(api.clone(), identity);
        Arc::new(Self {
            api,
            events,
            metrics,
            uid,
            bindings,
            crds,
            namespaces,
            secrets,
            listeners,
            letting_go: Mutex::default(),
            failing: Mutex::default(),
            stop,
        })
    }

    /// Kinds whose caches are not filled yet.
    pub fn unsynced(&self) -> Vec<&'static str> {
        let caches = [
            (self.bindings.synced(), "bindings"),
            (self.crds.synced(), "CRDs"),
            (self.namespaces.synced(), "namespaces"),
            (self.secrets.synced(), "Secrets"),
        ];
        caches.into_iter().filter(|(synced, _)| !synced).map(|(_, name)| name).collect()
    }

    /// Waits until all caches are filled once.
    pub async fn wait_synced(&self) {
        self.bindings.wait_synced().await;
        self.crds.wait_synced().await;
        self.namespaces.wait_synced().await;
        self.secrets.wait_synced().await;
    }
}

fn each<S>(delta: &Delta<S>, tell: &impl Fn(&ObjectKey)) {
    match delta {
        Delta::Applied { key, .. } | Delta::Removed { key, .. } => tell(key),
        Delta::Synced => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_may_wait_for_one_who_ends_a_subscription() {
        let listeners = Listeners::default();
        let ending = Arc::new(Mutex::new(Some(listeners.subscribe(|_| {}))));
        let ends = ending.clone();
        let _first = listeners.subscribe(move |_| drop(ends.lock().take()));
        let (done, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            listeners.tell(&Signal::Crd("a".to_owned()));
            done.send(())
        });
        assert!(told.recv_timeout(std::time::Duration::from_secs(10)).is_ok(), "they wait for each other");
        assert!(ending.lock().is_none());
    }
}
