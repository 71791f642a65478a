//! The floor: a bare client that makes the writes that nobody can avoid, in the order in which they must come, and no
//! others. In: a kind that no agent syncs, on two API servers. Out: what each object took.
//!
//! One object: create on the consumer, finalizer (and place) on the consumer, apply on the provider; then the status, one
//! write on each side. Each write waits for the answer to the one before, as it must: nothing goes to the provider before
//! the finalizer is on. The client decodes no more than it needs, keeps nothing, watches nothing.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::future::try_join_all;
use kube::api::{Api as Kind, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube_client::api::{Api, FieldManager, Subresource};
use kube_client::resource::Resource;
use kube_client::store::ObjectKey;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::side::{OPERATOR, status};

/// The agent's own finalizer, annotations and field manager: the same bytes go over the wire.
const FINALIZER: &str = "kubebind.io/syncer";
const AGENT: FieldManager = FieldManager("kube-bind.io");

/// See the module.
#[derive(Clone)]
pub struct Floor {
    /// The consumer's API server.
    pub consumer: Api,
    /// The provider's.
    pub provider: Api,
    /// A kind that no agent syncs.
    pub resource: Resource,
    /// Prefix of the provider's namespaces.
    pub prefix: String,
    /// Objects have the finalizer when they are born: one write less.
    pub at_birth: bool,
    /// To take objects away.
    pub hands: Hands,
}

/// An object on its way.
pub struct Made {
    key: ObjectKey,
    uid: String,
    live: Value,
}

impl Floor {
    fn there(&self, key: &ObjectKey) -> ObjectKey {
        ObjectKey::new(&format!("{}{}", self.prefix, key.namespace), &key.name)
    }

    /// The consumer creates it.
    pub async fn create(&self, object: &Value) -> Result<Made> {
        let namespace = object["metadata"]["namespace"].as_str();
        let mut object = object.clone();
        if self.at_birth {
            object["metadata"]["finalizers"] = json!([FINALIZER]);
            object["metadata"]["annotations"] = json!({"kube-bind.io/provider-namespace": self.prefix});
        }
        let live = self.consumer.create(&self.resource, namespace, &object).await?;
        let key = ObjectKey::of(&live).context("no name")?;
        Ok(Made { key, uid: live["metadata"]["uid"].as_str().unwrap_or_default().to_owned(), live })
    }

    /// Finalizer on the consumer, then the copy; returns the copy's uid.
    pub async fn up(&self, made: &Made) -> Result<String> {
        let there = self.there(&made.key);
        if !self.at_birth {
            let place = [("kube-bind.io/provider-namespace", there.namespace.as_str())];
            self.consumer.add_finalizer(&self.resource, &made.live, FINALIZER, &place, AGENT).await?;
        }
        let mut copy = made.live.clone();
        if let Some(copy) = copy.as_object_mut() {
            copy.remove("status");
        }
        copy["metadata"] = json!({"name": there.name, "namespace": there.namespace, "annotations": {
            "kube-bind.io/cluster-namespace": self.prefix, "kube-bind.io/consumer-namespace": made.key.namespace,
            "kube-bind.io/consumer-uid": made.uid,
        }});
        let applied = self.provider.apply_create_only(&self.resource, &there, &copy, AGENT).await?;
        Ok(applied["metadata"]["uid"].as_str().unwrap_or_default().to_owned())
    }

    /// The operator's status, then the same on the consumer.
    pub async fn down(&self, made: &Made, copy: &str) -> Result<()> {
        let (there, status) = (self.there(&made.key), status());
        let part = Subresource::Status;
        self.provider.put_status(&self.resource, &there, copy, Some(&status), part, OPERATOR).await?;
        self.consumer.put_status(&self.resource, &made.key, &made.uid, Some(&status), part, AGENT).await?;
        Ok(())
    }

    /// All of it.
    pub async fn whole(&self, object: &Value) -> Result<()> {
        let made = self.create(object).await?;
        let copy = self.up(&made).await?;
        self.down(&made, &copy).await
    }

    /// Objects that are there already: everything but the create, so many at once.
    pub async fn bind(&self, existing: Vec<Made>, writers: usize) -> Result<Duration> {
        let begun = Instant::now();
        let queue = std::sync::Arc::new(parking_lot::Mutex::new(existing));
        let mut tasks = JoinSet::new();
        for _ in 0..writers {
            let (floor, queue) = (self.clone(), queue.clone());
            tasks.spawn(async move {
                loop {
                    let Some(made) = queue.lock().pop() else { return anyhow::Ok(()) };
                    let copy = floor.up(&made).await?;
                    floor.down(&made, &copy).await?;
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(begun.elapsed())
    }

    /// Takes everything away again.
    pub async fn clean(&self) -> Result<()> {
        self.hands.clear(&self.resource).await
    }
}

/// An administrator's hands on both sides, for what is no part of any figure.
#[derive(Clone)]
pub struct Hands {
    consumer: kube::Client,
    provider: kube::Client,
}

impl Hands {
    /// From kubeconfigs of administrators.
    pub async fn new(consumer: &Path, provider: &Path) -> Result<Self> {
        let client = async |file: &Path| {
            anyhow::Ok(kube_client::connect::from_kubeconfig(&std::fs::read_to_string(file)?, None).await?.client)
        };
        Ok(Self { consumer: client(consumer).await?, provider: client(provider).await? })
    }

    /// Takes all objects of a kind away, whoever holds them. No agent may run.
    pub async fn clear(&self, resource: &Resource) -> Result<()> {
        let kind = ApiResource {
            group: resource.group.clone(),
            version: resource.version.clone(),
            api_version: resource.api_version(),
            kind: resource.kind.clone(),
            plural: resource.plural.clone(),
        };
        let nothing = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        for client in [&self.provider, &self.consumer] {
            let all = Kind::<DynamicObject>::all_with(client.clone(), &kind);
            let of = |namespace: &str| Kind::<DynamicObject>::namespaced_with(client.clone(), namespace, &kind);
            let there = all.list_metadata(&ListParams::default()).await?;
            let namespaces: BTreeSet<String> = there.items.into_iter().filter_map(|o| o.metadata.namespace).collect();
            for namespace in namespaces {
                of(&namespace).delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
            }
            let held = all.list_metadata(&ListParams::default()).await?;
            for part in held.items.chunks(32) {
                let patches = part.iter().map(|object| async {
                    let (namespace, name) = (object.metadata.namespace.as_deref(), object.metadata.name.as_deref());
                    let api = of(namespace.unwrap_or_default());
                    match api.patch_metadata(name.unwrap_or_default(), &PatchParams::default(), &nothing).await {
                        // It went meanwhile.
                        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                        other => other.map(drop),
                    }
                });
                try_join_all(patches).await?;
            }
        }
        Ok(())
    }
}
