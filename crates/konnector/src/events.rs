//! Events in the consumer cluster: what stops an object from syncing is said on the object. In: an object, a reason, a
//! sentence. Out: one Event an object, reason and sentence (an object may refer to several that cannot be copied), counted up
//! instead of multiplied, and that only after a while: an Event must not become a hot loop of its own.

use std::{collections::HashMap, time::Duration};

use kube_client::{Api, ObjectKey, Resource, Subresource};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    resources::{self, MANAGER},
    sync::digest::Digest,
};

/// The same Event is not written again within this time.
const QUIET: Duration = Duration::from_secs(600);
/// Remembered Events; beyond it the oldest are forgotten.
const REMEMBERED: usize = 5000;

/// What an Event is about.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Its API.
    pub resource: Resource,
    /// Its key.
    pub key: ObjectKey,
    /// Its uid.
    pub uid: String,
}

/// Writes Events.
#[derive(Debug)]
pub struct Recorder {
    api: Api,
    identity: String,
    told: Mutex<HashMap<String, (Instant, u64)>>,
}

impl Recorder {
    /// Events go to this cluster, reported by `identity`.
    pub fn new(api: Api, identity: &str) -> Self {
        Self { api, identity: identity.into(), told: Mutex::new(HashMap::new()) }
    }

    /// A `Warning` Event.
    pub async fn warn(&self, subject: &Subject, reason: &str, message: &str) {
        self.record(subject, "Warning", reason, message).await;
    }

    /// A `Normal` Event.
    pub async fn note(&self, subject: &Subject, reason: &str, message: &str) {
        self.record(subject, "Normal", reason, message).await;
    }

    async fn record(&self, subject: &Subject, kind: &str, reason: &str, message: &str) {
        let about = format!("{}/{}/{}/{reason}/{message}", subject.resource, subject.key, subject.uid);
        let hash = Digest::of_bytes(about.as_bytes());
        let base: String = subject.key.name.chars().take(200).collect();
        let name = format!("{base}.{}", &hash.hex()[..16]);
        let now = Instant::now();
        let count = {
            let mut told = self.told.lock();
            let entry = told.get(&name);
            if entry.is_some_and(|(at, _)| now.duration_since(*at) < QUIET) {
                return;
            }
            let count = entry.map_or(1, |(_, count)| count + 1);
            if told.len() >= REMEMBERED {
                told.retain(|_, (at, _)| now.duration_since(*at) < QUIET);
            }
            told.insert(name.clone(), (now, count));
            count
        };
        tracing::info!(object = %subject.key, kind = %subject.resource, reason, message, "event");
        // Events of cluster-scoped objects live in `default`, as everywhere.
        let namespace = if subject.key.namespace.is_empty() { "default" } else { &subject.key.namespace };
        let time = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap_or_default().to_string();
        let message: String = message.chars().take(1000).collect();
        let key = ObjectKey::new(namespace, &name);
        let patch = json!({"message": message, "lastTimestamp": time, "count": count, "type": kind});
        let patched = self.api.merge_patch(&resources::events(), &key, Subresource::Main, &patch, MANAGER).await;
        let Err(error) = patched else { return };
        if !error.is_not_found() {
            tracing::debug!(%error, "event not written");
            return;
        }
        let body: Value = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {
                "apiVersion": subject.resource.api_version(), "kind": subject.resource.kind,
                "name": subject.key.name, "namespace": subject.key.namespace, "uid": subject.uid,
            },
            "type": kind, "reason": reason, "message": message, "count": 1,
            "firstTimestamp": time, "lastTimestamp": time,
            "source": {"component": "kube-bind-konnector", "host": self.identity},
            "reportingComponent": "kube-bind.io/konnector", "reportingInstance": self.identity,
        });
        if let Err(error) = self.api.create(&resources::events(), Some(namespace), &body).await {
            tracing::debug!(%error, "event not written");
        }
    }
}
