//! The whole agent: Lease, consumer caches, and one [`Provider`] a credential. In: a [`Config`]. Out: nothing returns
//! before it is stopped. A changed credential makes a new provider; the old one and all its watchers stop.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures::future::BoxFuture;
use jiff::Timestamp;
use kube_bind_api::{
    APIServiceBinding, BindingPhase, ClusterSecretKeyRef,
    constants::{CONSUMER_NAMESPACE, FINALIZER, KUBECONFIG_KEY, LABEL_PROVIDER_KUBECONFIG, reason},
};
use kube_client::{
    Api, ApiError, Class, ObjectKey, Outcome, WorkQueue,
    connect::{self, Connection},
    election::{ElectionConfig, campaign},
};
use parking_lot::Mutex;
use program::probes;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{
    binding::{self, Facts, Problem},
    config::Config,
    consumer::{Consumer, Signal},
    health::{Cluster, Metrics},
    provider::Provider,
    resources,
    sync::digest::Digest,
};

/// Why an agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The address for probes cannot be used.
    #[error("cannot answer probes on {address}: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
}

/// Runs an agent until `stop`; takes the Lease, and gives it back at the end.
///
/// # Errors
/// Only for what cannot get better by waiting; an unreachable cluster is waited for.
#[inline(never)]
pub fn run(config: Config, stop: CancellationToken) -> BoxFuture<'static, Result<(), RunError>> {
    // Boxed here: what is not is compiled anew in every crate that awaits it.
    Box::pin(work(config, stop))
}

async fn work(config: Config, stop: CancellationToken) -> Result<(), RunError> {
    let Config { consumer, lease_name, lease_namespace, identity, server_address } = config;
    let metrics = Arc::new(Metrics::default());
    let probes = match server_address {
        Some(address) => {
            Some(probes::serve(address, metrics.clone()).await.map_err(|source| RunError::Listen { address, source })?)
        }
        None => None,
    };
    let ending = metrics.clone();
    let begun = stop.clone();
    tokio::spawn(async move {
        begun.cancelled().await;
        ending.stopping();
    });
    let api = consumer.api("consumer").counting_restarts(metrics.restarts(Cluster::Consumer));
    let Connection { server, .. } = consumer;
    tracing::info!(server, identity, version = env!("CARGO_PKG_VERSION"), "agent started");
    let election = ElectionConfig::new(&lease_namespace, &lease_name, &identity);
    let wall = || format!("{:.6}", Timestamp::now());
    campaign(&api, &election, wall, &metrics.standing, stop, |leading| {
        lead(api.clone(), identity.clone(), metrics.clone(), leading)
    })
    .await;
    if let Some(probes) = probes {
        probes.stop().await;
    }
    tracing::info!("agent stopped");
    Ok(())
}

/// Everything that writes, for as long as the Lease is ours.
async fn lead(api: Api, identity: String, metrics: Arc<Metrics>, leading: CancellationToken) {
    let work = async {
        let uid = cluster_uid(&api).await;
        tracing::info!(cluster = %uid, "consumer cluster");
        let consumer = Consumer::start(api, uid, &identity, metrics.clone(), leading.clone());
        metrics.caches(&consumer);
        consumer.wait_synced().await;
        tracing::info!("caches filled");
        Registry::new(consumer).run(leading.clone()).await;
    };
    tokio::select! {
        () = leading.cancelled() => {}
        () = work => {}
    }
}

/// The cluster's identity, asked for until there is an answer.
async fn cluster_uid(api: &Api) -> String {
    loop {
        match api.get(&resources::namespaces(), &ObjectKey::cluster("kube-system")).await {
            Ok(namespace) => {
                if let Some(uid) = namespace["metadata"]["uid"].as_str().filter(|u| !u.is_empty()) {
                    return uid.to_owned();
                }
            }
            Err(error) => tracing::warn!(%error, "cannot read the identity of the consumer cluster"),
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct SecretKey {
    namespace: String,
    name: String,
    key: String,
}

struct Running {
    credential: Digest,
    /// Runs as long as it is here.
    _provider: Arc<Provider>,
}

/// Which providers run.
struct Registry {
    consumer: Arc<Consumer>,
    running: Mutex<HashMap<SecretKey, Running>>,
    queue: Arc<WorkQueue<SecretKey>>,
}

impl Registry {
    fn new(consumer: Arc<Consumer>) -> Arc<Self> {
        Arc::new(Self {
            consumer,
            running: Mutex::new(HashMap::new()),
            queue: WorkQueue::new(Duration::from_millis(250), Duration::from_secs(30)),
        })
    }

    async fn run(self: Arc<Self>, stop: CancellationToken) {
        let weak = Arc::downgrade(&self);
        let subscription = self.consumer.listeners.subscribe(move |signal| {
            if let Some(this) = weak.upgrade()
                && matches!(signal, Signal::Binding(_) | Signal::Secret(_) | Signal::Crd(_))
            {
                this.enqueue();
            }
        });
        self.enqueue();
        let work = self.clone();
        self.queue
            .clone()
            .run(4, stop, move |key| {
                let this = work.clone();
                async move { this.reconcile(key).await }
            })
            .await;
        drop(subscription);
        self.running.lock().clear();
    }

    /// Every credential that is used, was used, or waits for its first binding.
    fn enqueue(&self) {
        let mut keys: BTreeSet<SecretKey> = self.running.lock().keys().cloned().collect();
        for (_, entry) in self.consumer.bindings.store().all() {
            keys.extend(secret_of(&entry.summary));
        }
        for (key, entry) in self.consumer.secrets.store().all() {
            if entry.summary["metadata"]["labels"][LABEL_PROVIDER_KUBECONFIG] == "true" {
                keys.insert(SecretKey { namespace: key.namespace, name: key.name, key: KUBECONFIG_KEY.into() });
            }
        }
        for key in keys {
            self.queue.add(key);
        }
    }

    async fn reconcile(&self, key: SecretKey) -> Outcome {
        match self.credential(&key) {
            Ok(bytes) => {
                let credential = Digest::of_bytes(&bytes);
                if self.running.lock().get(&key).is_some_and(|r| r.credential == credential) {
                    return Outcome::Done;
                }
                match connect::from_untrusted_kubeconfig(&bytes).await {
                    Ok(connection) => {
                        tracing::info!(secret = %key.name, server = %connection.server, "provider connected");
                        // The old one stops before the new one starts.
                        self.running.lock().remove(&key);
                        let secret = ClusterSecretKeyRef {
                            name: key.name.clone(),
                            key: key.key.clone(),
                            namespace: key.namespace.clone(),
                        };
                        let provider = Provider::start(secret, connection, self.consumer.clone());
                        self.running.lock().insert(key, Running { credential, _provider: provider });
                        Outcome::Done
                    }
                    Err(error) => {
                        self.running.lock().remove(&key);
                        let message = format!(
                            "Secret {}/{} key {:?}: {error}; run `kubectl bind` with the provider's URL again to get a \
                             new one",
                            key.namespace, key.name, key.key
                        );
                        self.without_provider(&key, Problem::error(reason::KUBECONFIG_SECRET_INVALID, &message)).await
                    }
                }
            }
            Err(problem) => {
                self.running.lock().remove(&key);
                self.without_provider(&key, problem).await
            }
        }
    }

    fn credential(&self, key: &SecretKey) -> Result<Vec<u8>, Problem> {
        if key.namespace != CONSUMER_NAMESPACE {
            return Err(Problem::error(
                reason::KUBECONFIG_SECRET_INVALID,
                &format!(
                    "spec.kubeconfigSecretRef names namespace {}, but the agent reads credentials only in namespace \
                     {CONSUMER_NAMESPACE}: put the Secret there and make the binding anew",
                    key.namespace
                ),
            ));
        }
        let secret = self.consumer.secrets.store().get(&ObjectKey::new(&key.namespace, &key.name));
        let Some(secret) = secret else {
            return Err(Problem::error(
                reason::KUBECONFIG_SECRET_NOT_FOUND,
                &format!(
                    "Secret {}/{} with the provider's kubeconfig is missing: run `kubectl bind` with the provider's \
                     URL again, or put it back",
                    key.namespace, key.name
                ),
            ));
        };
        secret.summary["data"][&key.key].as_str().and_then(|text| STANDARD.decode(text).ok()).ok_or_else(|| {
            Problem::error(
                reason::KUBECONFIG_SECRET_INVALID,
                &format!("Secret {}/{} has no key {:?}", key.namespace, key.name, key.key),
            )
        })
    }

    /// Bindings whose credential is missing or unusable: say so, and let those go that are going.
    async fn without_provider(&self, key: &SecretKey, problem: Problem) -> Outcome {
        let mut worst = Outcome::Done;
        for (name, entry) in self.consumer.bindings.store().all() {
            if secret_of(&entry.summary).as_ref() != Some(key) {
                continue;
            }
            match self.say(&entry.summary, &problem).await {
                Ok(Outcome::Done) => {}
                Ok(later) => worst = if worst == Outcome::Done { later } else { worst },
                Err(error) => {
                    if error.class != Class::Conflict {
                        tracing::warn!(binding = %name, %error, "binding without a provider");
                    }
                    worst = Outcome::Retry;
                }
            }
        }
        worst
    }

    async fn say(&self, raw: &Arc<Value>, problem: &Problem) -> Result<Outcome, ApiError> {
        let Ok(binding) = serde_json::from_value::<APIServiceBinding>((**raw).clone()) else {
            return Ok(Outcome::Done);
        };
        let held = binding.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER);
        if binding.metadata.deletion_timestamp.is_some() {
            return if held { binding::unbind_alone(&self.consumer, raw).await } else { Ok(Outcome::Done) };
        }
        let name = binding.metadata.name.as_deref().unwrap_or_default();
        let going = binding::let_go_with_crds(&self.consumer, name, |_| false).await;
        let mut facts = Facts::from_previous(&binding);
        facts.secret = Some(problem.clone());
        let phase = match binding.status.as_ref().and_then(|s| s.phase) {
            Some(BindingPhase::Connected | BindingPhase::Disconnected) => BindingPhase::Disconnected,
            _ => BindingPhase::Pending,
        };
        facts.stop(phase, problem.clone());
        binding::write_status(&self.consumer.api, &binding, &facts).await?;
        // Their objects are let go of in steps, and nothing tells when they are gone.
        Ok(if going? { Outcome::After(binding::GOING) } else { Outcome::Done })
    }
}

fn secret_of(binding: &Value) -> Option<SecretKey> {
    let reference = &binding["spec"]["kubeconfigSecretRef"];
    Some(SecretKey {
        namespace: reference["namespace"].as_str()?.to_owned(),
        name: reference["name"].as_str()?.to_owned(),
        key: reference["key"].as_str()?.to_owned(),
    })
}
