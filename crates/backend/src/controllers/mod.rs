//! The controllers: what makes the provider's objects true.
//!
//! ```text
//!  requests ──► request  ──► BoundSchemas, export
//!  exports  ──► export   ──► schemas, claims, conditions ──► unbind when it goes
//!  APIServiceNamespaces ──► mapped ──► namespace, Roles, claimedObjects ──► status.namespace
//!  ClusterBindings ──► contract ──► Healthy, re-pin, revoke
//! ```
//!
//! In: changes of our kinds, templates and CRDs, seen by informers. Out: writes through the provider's API server. Each
//! key is worked on by one worker at a time; decisions are taken on fresh reads where something is written, so a second
//! replica does the same or loses a conflict. Called by [`crate::run`].

pub mod bindable;
pub mod claimed;
pub mod contract;
pub mod export;
pub mod mapped;
pub mod provider;
pub mod request;
pub mod rights;
mod schemas;
pub mod status;
pub mod unbind;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube_bind_api::constants::LABEL_EXPORTED;
use kube_bind_api::{
    APIServiceExport, APIServiceExportRequest, APIServiceExportTemplate, APIServiceNamespace, BindableResourcesRequest,
    BoundSchema, ClusterBinding,
};
use kube_client::{
    Api, ApiError, Delta, Informer, InformerOptions, ListQuery, ObjectKey, Outcome, Resource, Store, WorkQueue,
};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::catalogue::Catalogue;
use crate::contracts::{ContractError, Issuing};
use crate::metrics::Metrics;
use crate::resources;

/// Finalizer on exports and APIServiceNamespaces: so that their deletion is never missed.
pub const FINALIZER: &str = "backend.kube-bind.io/cleanup";
/// How soon to look again at what is in a namespace that is being deleted: it may be wanted anew.
const ENDING_AGAIN: Duration = Duration::from_secs(5);
/// Workers.
const WORKERS: usize = 8;

/// What controllers have to know beside [`Issuing`].
#[derive(Clone, Debug)]
pub struct Settings {
    /// Groups that may bind.
    pub allowed_groups: Vec<String>,
    /// Subjects that may bind.
    pub allowed_users: Vec<String>,
    /// How often everything is looked at without a change.
    pub resync: Duration,
    /// The URL that people use, if it is known.
    pub url: Option<String>,
}

/// What is worked on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// What there is once per provider.
    Provider,
    /// An APIServiceExportRequest.
    Request(ObjectKey),
    /// An APIServiceExport.
    Export(ObjectKey),
    /// An APIServiceNamespace.
    Mapped(ObjectKey),
    /// The contract in a namespace (its ClusterBinding).
    Contract(String),
    /// A BindableResourcesRequest.
    Bindable(ObjectKey),
}

/// Why a reconcile did not get through; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The API server.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// A contract.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// An object that cannot be read.
    #[error("{0} cannot be read: {1}")]
    Decode(String, serde_json::Error),
}

/// What informers know of one kind: whole objects.
pub type Objects = Arc<Store<Arc<Value>>>;

/// What every reconcile works with.
pub struct World {
    /// The provider's API server.
    pub api: Api,
    /// How contracts are made.
    pub issuing: Issuing,
    /// Settings.
    pub settings: Settings,
    /// What is due.
    pub queue: Arc<WorkQueue<Key>>,
    /// Exports of all contracts.
    pub exports: Objects,
    /// Mapped namespaces of all contracts.
    pub mapped: Objects,
    /// Bound schemas of all contracts.
    pub schemas: Objects,
    /// ClusterBindings of all contracts.
    pub bindings: Objects,
    /// Templates.
    pub templates: Objects,
    /// Exported CRDs.
    pub crds: Objects,
    /// Watches on objects in mapped namespaces.
    pub claimed: claimed::Watches,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Held while a request is granted: whether a kind is taken is decided by one request at a time.
    pub granting: tokio::sync::Mutex<()>,
    /// The current time.
    pub clock: fn() -> Timestamp,
}

impl World {
    /// The current time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// The catalogue as informers know it.
    ///
    /// # Errors
    /// Those of reading the backend's grants.
    pub async fn catalogue(&self) -> Result<Catalogue, Trouble> {
        let key = ObjectKey::cluster(::contract::rbac::backend::OFFERS);
        let grants = self.api.get_opt(&resources::cluster_roles(), &key).await?;
        let all = |store: &Objects| store.all().into_iter().map(|(_, entry)| (*entry.summary).clone()).collect();
        Ok(Catalogue::assemble(all(&self.templates), Vec::new(), all(&self.crds), grants.as_ref()))
    }

    /// Puts all mapped namespaces of a contract in the queue.
    pub fn wake_mapped(&self, namespace: &str) {
        for key in self.mapped.keys_in(namespace) {
            self.queue.add(Key::Mapped(key));
        }
    }

    /// The exports of a contract that are not going away, as informers know them.
    #[must_use]
    pub fn exports_in(&self, namespace: &str) -> Vec<APIServiceExport> {
        let mut exports: Vec<APIServiceExport> = self
            .exports
            .keys_in(namespace)
            .iter()
            .filter_map(|key| self.exports.get(key))
            .filter_map(|entry| serde_json::from_value::<APIServiceExport>((*entry.summary).clone()).ok())
            .filter(|export| export.metadata.deletion_timestamp.is_none())
            .collect();
        exports.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        exports
    }
}

/// Reads an object into its type.
///
/// # Errors
/// [`Trouble::Decode`] with its name.
pub fn decode<T: serde::de::DeserializeOwned>(value: &Value) -> Result<T, Trouble> {
    serde_json::from_value(value.clone()).map_err(|err| {
        let meta = &value["metadata"];
        let name = format!(
            "{} {}/{}",
            value["kind"].as_str().unwrap_or("object"),
            meta["namespace"].as_str().unwrap_or_default(),
            meta["name"].as_str().unwrap_or_default()
        );
        Trouble::Decode(name, err)
    })
}

fn watch(
    api: &Api,
    kind: &Resource,
    query: ListQuery,
    seen: impl Fn(&ObjectKey, bool) + Send + Sync + 'static,
) -> Informer<Arc<Value>> {
    Informer::start(
        api,
        kind,
        query,
        InformerOptions::default(),
        Arc::new(|object: &Arc<Value>| Ok(object.clone())),
        Arc::new(move |delta: &Delta<Arc<Value>>| match delta {
            Delta::Applied { key, .. } => seen(key, false),
            Delta::Removed { key, .. } => seen(key, true),
            Delta::Synced => {}
        }),
    )
}

/// Runs until cancelled.
pub async fn run(api: Api, issuing: Issuing, settings: Settings, metrics: Arc<Metrics>, stop: CancellationToken) {
    let queue = WorkQueue::new(Duration::from_millis(200), Duration::from_secs(30));
    let everywhere = ListQuery::default;
    let put = |make: fn(ObjectKey) -> Key| {
        let queue = queue.clone();
        move |key: &ObjectKey, _: bool| queue.add(make(key.clone()))
    };
    let requests = watch(&api, &resources::of::<APIServiceExportRequest>(), everywhere(), put(Key::Request));
    let bindables = watch(&api, &resources::of::<BindableResourcesRequest>(), everywhere(), put(Key::Bindable));
    let bindings = {
        let queue = queue.clone();
        watch(&api, &resources::of::<ClusterBinding>(), everywhere(), move |key, gone| {
            if !gone {
                queue.add(Key::Contract(key.namespace.clone()));
            }
        })
    };
    let mapped = watch(&api, &resources::of::<APIServiceNamespace>(), everywhere(), put(Key::Mapped));
    let exports = {
        let (queue, mapped, requests) = (queue.clone(), mapped.store().clone(), requests.store().clone());
        watch(&api, &resources::of::<APIServiceExport>(), everywhere(), move |key, gone| {
            queue.add(Key::Export(key.clone()));
            if gone {
                // What waited for its end, or was refused because of it: other consumers' requests too.
                for (other, request) in requests.all() {
                    match other.namespace == key.namespace {
                        true => queue.add(Key::Request(other)),
                        false if request.summary["status"]["phase"] != "Succeeded" => {
                            queue.add_behind(Key::Request(other));
                        }
                        false => {}
                    }
                }
            }
            // Rights in mapped namespaces follow the exports and what was accepted there.
            for key in mapped.keys_in(&key.namespace) {
                queue.add(Key::Mapped(key));
            }
        })
    };
    let schemas = {
        let (queue, exports) = (queue.clone(), exports.store().clone());
        watch(&api, &resources::of::<BoundSchema>(), everywhere(), move |key, _| {
            for key in exports.keys_in(&key.namespace) {
                queue.add(Key::Export(key));
            }
        })
    };
    // The catalogue: whatever changes there may mend a request and change an export.
    let catalogue = |queue: &Arc<WorkQueue<Key>>| {
        let (queue, requests, exports) = (queue.clone(), requests.store().clone(), exports.store().clone());
        move |_: &ObjectKey, _: bool| {
            requests.keys().into_iter().for_each(|key| queue.add(Key::Request(key)));
            exports.keys().into_iter().for_each(|key| queue.add(Key::Export(key)));
        }
    };
    let exported = ListQuery { labels: Some(format!("{LABEL_EXPORTED}=true")), ..ListQuery::default() };
    let templates = watch(&api, &resources::of::<APIServiceExportTemplate>(), everywhere(), catalogue(&queue));
    let crds = watch(&api, &resources::crds(), exported, catalogue(&queue));
    let world = Arc::new(World {
        api: api.clone(),
        issuing,
        settings,
        queue: queue.clone(),
        exports: exports.store().clone(),
        mapped: mapped.store().clone(),
        schemas: schemas.store().clone(),
        bindings: bindings.store().clone(),
        templates: templates.store().clone(),
        crds: crds.store().clone(),
        claimed: claimed::Watches::new(api, queue.clone(), mapped.store().clone()),
        metrics: metrics.clone(),
        granting: tokio::sync::Mutex::default(),
        clock: Timestamp::now,
    });
    let caches = [
        (exports.health(), "exports"),
        (mapped.health(), "mapped namespaces"),
        (schemas.health(), "bound schemas"),
        (bindings.health(), "cluster bindings"),
        (templates.health(), "templates"),
        (crds.health(), "CRDs"),
    ];
    metrics.leads(&world, move || {
        caches.iter().filter(|(health, _)| !health.borrow().synced).map(|(_, name)| *name).collect()
    });
    queue.add(Key::Provider);
    // A decision about what is left must not be taken before everything was seen once.
    let synced = async {
        exports.wait_synced().await;
        mapped.wait_synced().await;
        schemas.wait_synced().await;
        bindings.wait_synced().await;
        templates.wait_synced().await;
        crds.wait_synced().await;
    };
    tokio::select! {
        () = stop.cancelled() => return metrics.led(),
        () = synced => {}
    }
    queue.run(WORKERS, stop, |key| reconcile(world.clone(), key)).await;
    metrics.led();
    drop((requests, bindables, bindings, mapped, exports, schemas, templates, crds));
}

impl Key {
    /// Who works on it.
    fn controller(&self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Request(_) => "request",
            Self::Export(_) => "export",
            Self::Mapped(_) => "mapped",
            Self::Contract(_) => "contract",
            Self::Bindable(_) => "bindable",
        }
    }
}

async fn reconcile(world: Arc<World>, key: Key) -> Outcome {
    let (controller, started) = (key.controller(), Instant::now());
    let outcome = look(&world, key).await;
    world.metrics.reconciled(controller, outcome, started.elapsed());
    outcome
}

async fn look(world: &Arc<World>, key: Key) -> Outcome {
    let result = match &key {
        Key::Provider => provider::reconcile(world).await,
        Key::Request(object) => request::reconcile(world, object).await,
        Key::Export(object) => export::reconcile(world, object).await,
        Key::Mapped(object) => mapped::reconcile(world, object).await,
        Key::Contract(namespace) => contract::reconcile(world, namespace).await,
        Key::Bindable(object) => bindable::reconcile(world, object).await,
    };
    match result {
        Ok(outcome) => outcome,
        // Somebody was faster: look again.
        Err(Trouble::Api(err)) if err.is_conflict() => {
            tracing::debug!(?key, error = %err, "changed meanwhile");
            Outcome::Retry
        }
        Err(Trouble::Decode(name, err)) => {
            tracing::warn!(?key, name, error = %err, "an object cannot be read and is left alone");
            Outcome::Done
        }
        // Rights in a namespace go first when it is deleted: what is refused there is as good as done.
        Err(Trouble::Api(err)) if err.is_forbidden() && is_ending(world, &key).await => {
            tracing::debug!(?key, error = %err, "its namespace is being deleted");
            Outcome::After(ENDING_AGAIN)
        }
        Err(err) => {
            let mend = match &err {
                Trouble::Api(err) => err.mend(),
                _ => "",
            };
            tracing::warn!(?key, error = %err, mend, "will try again");
            match err {
                Trouble::Api(ApiError { retry_after: Some(delay), .. }) => Outcome::RetryAfter(delay),
                _ => Outcome::Retry,
            }
        }
    }
}

/// Whether the contract namespace of what is worked on, or its mapped namespace, is being deleted or gone.
async fn is_ending(world: &World, key: &Key) -> bool {
    let mut namespaces = Vec::new();
    match key {
        Key::Provider | Key::Bindable(_) => {}
        Key::Contract(namespace) => namespaces.push(namespace.clone()),
        Key::Request(key) | Key::Export(key) => namespaces.push(key.namespace.clone()),
        Key::Mapped(key) => {
            namespaces.push(key.namespace.clone());
            let mapped = world.mapped.get(key);
            namespaces
                .extend(mapped.and_then(|entry| entry.summary["status"]["namespace"].as_str().map(str::to_owned)));
        }
    }
    for namespace in namespaces {
        let live = world.api.get_opt(&resources::namespaces(), &ObjectKey::cluster(&namespace)).await;
        if live.is_ok_and(|live| live.is_none_or(|live| live["metadata"]["deletionTimestamp"].is_string())) {
            return true;
        }
    }
    false
}
