//! One side as a watch sees it, and an operator that answers what it sees. In: an API server and a kind without objects.
//! Out: for each object when it was seen first, when with a status, and whether it is gone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use futures::StreamExt as _;
use kube_client::api::{Api, FieldManager, ListQuery, Subresource};
use kube_client::resource::Resource;
use kube_client::store::ObjectKey;
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// Field manager of the operator.
pub const OPERATOR: FieldManager = FieldManager("operator");

/// What the operator says of each object.
pub fn status() -> Value {
    json!({
        "phase": "Running", "observedGeneration": 1,
        "conditions": [{"type": "Ready", "status": "True", "reason": "Works", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1}],
    })
}

/// What is known of an object.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its key.
    pub key: ObjectKey,
    /// Its uid.
    pub uid: String,
    /// When the watch showed it first.
    pub first: Instant,
    /// When the watch showed it first with a status.
    pub status: Option<Instant>,
}

/// One side; names are unique across namespaces here.
#[derive(Default)]
pub struct Side {
    objects: Mutex<HashMap<String, Seen>>,
    waiting: Mutex<HashMap<String, oneshot::Sender<()>>>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    uid: String,
    #[serde(rename = "resourceVersion", default)]
    revision: String,
}

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
    #[serde(default)]
    status: Option<IgnoredAny>,
}

impl Side {
    /// Follows a kind that has no objects yet, as long as `tasks` live; what has no status is told to `news`, if there
    /// is one.
    pub async fn follow(
        tasks: &mut JoinSet<()>,
        api: &Api,
        resource: &Resource,
        news: Option<UnboundedSender<Seen>>,
    ) -> Result<Arc<Self>> {
        let page = api.list_page(resource, &ListQuery::default(), 1, None).await?;
        if !page.items.is_empty() {
            bail!("{resource} has objects already");
        }
        let side = Arc::new(Self::default());
        let (api, resource, this) = (api.clone(), resource.clone(), side.clone());
        tasks.spawn(async move {
            let mut revision = page.revision;
            loop {
                if let Err(error) = this.watch(&api, &resource, &mut revision, news.as_ref()).await {
                    eprintln!("watch of {resource}: {error:#}");
                }
                sleep(Duration::from_millis(50)).await;
            }
        });
        Ok(side)
    }

    async fn watch(
        &self,
        api: &Api,
        resource: &Resource,
        revision: &mut String,
        news: Option<&UnboundedSender<Seen>>,
    ) -> Result<()> {
        let mut stream = api.watch(resource, &ListQuery::default(), revision, Duration::from_secs(200)).await?;
        while let Some(frame) = stream.next().await {
            let frame = frame?;
            if frame.event == "ERROR" {
                bail!("{}", frame.object);
            }
            let object: Object = serde_json::from_str(frame.object.get())?;
            *revision = object.metadata.revision.clone();
            self.note(&frame.event, object, news);
        }
        Ok(())
    }

    fn note(&self, event: &str, object: Object, news: Option<&UnboundedSender<Seen>>) {
        let now = Instant::now();
        let Object { metadata, status } = object;
        let mut objects = self.objects.lock();
        match event {
            "ADDED" | "MODIFIED" => {
                let seen = objects.entry(metadata.name.clone()).or_insert_with(|| Seen {
                    key: ObjectKey::new(&metadata.namespace, &metadata.name),
                    uid: metadata.uid,
                    first: now,
                    status: None,
                });
                if status.is_some() {
                    seen.status.get_or_insert(now);
                    if let Some(waiting) = self.waiting.lock().remove(&metadata.name) {
                        // Nobody waits any more at the end of a run.
                        let _ = waiting.send(());
                    }
                } else if event == "ADDED"
                    && let Some(news) = news
                {
                    // The receiver ends with the program.
                    let _ = news.send(seen.clone());
                }
            }
            "DELETED" => {
                objects.remove(&metadata.name);
            }
            _ => {}
        }
    }

    /// Tells when an object that is not there yet has a status.
    pub fn when_answered(&self, name: &str) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().insert(name.to_owned(), sender);
        receiver
    }

    /// Objects that are there now.
    pub fn count(&self) -> usize {
        self.objects.lock().len()
    }

    /// Objects that have a status.
    pub fn answered(&self) -> usize {
        self.objects.lock().values().filter(|seen| seen.status.is_some()).count()
    }

    /// One object.
    pub fn get(&self, name: &str) -> Option<Seen> {
        self.objects.lock().get(name).cloned()
    }

    /// All objects.
    pub fn all(&self) -> Vec<Seen> {
        self.objects.lock().values().cloned().collect()
    }
}

/// An operator: writes a status as soon as it hears of an object.
#[derive(Default)]
pub struct Operator {
    sent: Mutex<HashMap<String, Instant>>,
}

impl Operator {
    /// Starts it; what it hears comes from [`Side::follow`] with the sender given here.
    pub fn channel() -> (UnboundedSender<Seen>, UnboundedReceiver<Seen>) {
        unbounded_channel()
    }

    /// Works on what it hears, 64 at once.
    pub fn start(api: &Api, resource: &Resource, mut news: UnboundedReceiver<Seen>) -> Arc<Self> {
        let operator = Arc::new(Self::default());
        let (api, resource, this) = (api.clone(), resource.clone(), operator.clone());
        tokio::spawn(async move {
            let slots = Arc::new(Semaphore::new(64));
            while let Some(seen) = news.recv().await {
                let Ok(slot) = slots.clone().acquire_owned().await else { return };
                let (api, resource, this) = (api.clone(), resource.clone(), this.clone());
                tokio::spawn(async move {
                    this.answer(&api, &resource, &seen).await;
                    drop(slot);
                });
            }
        });
        operator
    }

    async fn answer(&self, api: &Api, resource: &Resource, seen: &Seen) {
        let status = status();
        self.sent.lock().insert(seen.key.name.clone(), Instant::now());
        for _ in 0..5 {
            match api.put_status(resource, &seen.key, &seen.uid, Some(&status), Subresource::Status, OPERATOR).await {
                Ok(_) => return,
                // Deleted meanwhile.
                Err(error) if error.is_not_found() => return,
                Err(error) => eprintln!("the operator: {error}"),
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// When it sent the status of an object.
    pub fn sent(&self, name: &str) -> Option<Instant> {
        self.sent.lock().get(name).copied()
    }
}

/// Waits until something is so, looking every 5 ms.
pub async fn until(what: &str, limit: Duration, check: impl Fn() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !check() {
        if begun.elapsed() > limit {
            bail!("not within {} s: {what}", limit.as_secs());
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
