//! An informer: keeps a [`Store`] equal to what an API server has. In: list and watch of one resource. Out: the store,
//! [`Delta`]s to a handler, and a [`Health`] that others can wait on. The decisions are in [`Machine`]; here is the IO.

mod machine;

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::BoxStream};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::machine::{Delta, Machine, Project, Step, Trouble};
use crate::{
    api::{Api, Frame, ListQuery, Listed},
    backoff::{Backoff, random},
    decode::Keep,
    error::ApiError,
    resource::Resource,
    store::Store,
};

/// How an informer is doing.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// A complete list was seen at least once.
    pub synced: bool,
    /// The last list or watch failed; nothing newer is known.
    pub trouble: Option<Trouble>,
    /// Objects that did not decode.
    pub skipped: u64,
    /// Lists after the first.
    pub relists: u64,
}

/// Tunables.
#[derive(Clone, Debug)]
pub struct InformerOptions {
    /// Objects a page.
    pub page: u32,
    /// What of an object is decoded for the projection.
    pub keep: Keep,
    /// Longest watch; the real one is drawn from its upper quarter. At most 200 s, below what load balancers cut.
    pub watch_timeout: Duration,
    /// First pause after a failure.
    pub backoff_base: Duration,
    /// Longest pause after failures.
    pub backoff_cap: Duration,
}

impl Default for InformerOptions {
    fn default() -> Self {
        Self {
            page: 500,
            keep: Keep::default(),
            watch_timeout: Duration::from_secs(200),
            backoff_base: Duration::from_millis(200),
            backoff_cap: Duration::from_secs(8),
        }
    }
}

impl InformerOptions {
    /// The usual ones, for what decodes only a part.
    pub fn keeping(keep: Keep) -> Self {
        Self { keep, ..Self::default() }
    }
}

/// A list or a watch under way.
pub type Flow<T> = BoxStream<'static, Result<T, ApiError>>;

/// Where an informer gets its objects from; [`Api`] in programs, a script in tests.
pub trait Source: Send + Sync + 'static {
    /// Name of the cluster, for messages.
    fn side(&self) -> String;
    /// One page, object by object; it ends with [`Listed::End`] or an error.
    fn list(&self, token: Option<String>) -> BoxFuture<'_, Result<Flow<Listed>, ApiError>>;
    /// A watch from a revision, ended by the server after the timeout.
    fn watch(&self, revision: String, timeout: Duration) -> BoxFuture<'_, Result<Flow<Frame>, ApiError>>;
    /// A watch broke and is begun anew (one that the server ends in time is not).
    fn restarting(&self) {}
}

/// One resource of one API server.
pub struct ApiSource {
    /// The API server.
    pub api: Api,
    /// What to watch.
    pub resource: Resource,
    /// Which part of it.
    pub query: ListQuery,
    /// Objects a page.
    pub page: u32,
}

impl Source for ApiSource {
    fn side(&self) -> String {
        self.api.side().to_owned()
    }

    fn list(&self, token: Option<String>) -> BoxFuture<'_, Result<Flow<Listed>, ApiError>> {
        async move { self.api.list_stream(&self.resource, &self.query, self.page, token.as_deref()).await }.boxed()
    }

    fn watch(&self, revision: String, timeout: Duration) -> BoxFuture<'_, Result<Flow<Frame>, ApiError>> {
        async move { self.api.watch(&self.resource, &self.query, &revision, timeout).await }.boxed()
    }

    fn restarting(&self) {
        self.api.note_restart();
    }
}

/// Called for every change, in order, from the informer's task: it must only note and return.
pub type Handler<S> = Arc<dyn Fn(&Delta<S>) + Send + Sync>;

/// A running informer; it stops when dropped.
pub struct Informer<S> {
    store: Arc<Store<S>>,
    health: watch::Receiver<Health>,
    doubt: Arc<Doubt>,
    _stop: DropGuard,
}

/// Somebody thinks that the watch is dead though its connection looks alive.
#[derive(Default)]
struct Doubt {
    wake: Notify,
    last: Mutex<Option<Instant>>,
}

/// A watch is doubted at most this often.
const DOUBT: Duration = Duration::from_secs(10);

impl<S: Send + Sync + 'static> Informer<S> {
    /// Starts an informer on one resource.
    pub fn start(
        api: &Api,
        resource: &Resource,
        query: ListQuery,
        options: InformerOptions,
        project: Project<S>,
        handler: Handler<S>,
    ) -> Self {
        let source = ApiSource { api: api.clone(), resource: resource.clone(), query, page: options.page };
        Self::start_with(source, options, project, handler)
    }

    /// Starts an informer on any source.
    pub fn start_with(source: impl Source, options: InformerOptions, project: Project<S>, handler: Handler<S>) -> Self {
        let store = Arc::new(Store::default());
        let (sender, health) = watch::channel(Health::default());
        let stop = CancellationToken::new();
        let doubt = Arc::<Doubt>::default();
        let task = run(source, options, store.clone(), project, handler, sender, doubt.clone());
        let token = stop.clone();
        tokio::spawn(async move {
            tokio::select! { () = token.cancelled() => {}, () = task => {} }
        });
        Self { store, health, doubt, _stop: stop.drop_guard() }
    }

    /// What is known.
    pub fn store(&self) -> &Arc<Store<S>> {
        &self.store
    }

    /// How it is doing; `changed()` wakes on every change.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// Something that must have come has not: leaves the present watch and starts one from where it was.
    pub fn doubt(&self) {
        let now = Instant::now();
        let mut last = self.doubt.last.lock();
        if last.is_none_or(|last| now.duration_since(last) >= DOUBT) {
            *last = Some(now);
            self.doubt.wake.notify_waiters();
        }
    }

    /// True once a complete list was seen.
    pub fn synced(&self) -> bool {
        self.health.borrow().synced
    }

    /// Waits for the first complete list.
    pub async fn wait_synced(&self) {
        let mut health = self.health.clone();
        let _ = health.wait_for(|h| h.synced).await;
    }
}

async fn run<S: Send + Sync + 'static>(
    source: impl Source,
    options: InformerOptions,
    store: Arc<Store<S>>,
    project: Project<S>,
    handler: Handler<S>,
    health: watch::Sender<Health>,
    doubt: Arc<Doubt>,
) {
    let side = source.side();
    let mut machine =
        Machine::new(store, project, options.keep, Backoff::new(options.backoff_base, options.backoff_cap));
    let mut broken = false;
    loop {
        match machine.step() {
            Step::Pause(delay) => tokio::time::sleep(delay).await,
            Step::List(token) => match source.list(token).await {
                Ok(page) => take_in(&mut machine, page, &handler).await,
                Err(error) => machine.list_failed(&error, random()),
            },
            Step::Watch(revision) => {
                if std::mem::take(&mut broken) {
                    source.restarting();
                }
                let relists = machine.relists();
                let timeout = options.watch_timeout.mul_f64(0.75 + 0.25 * random());
                match source.watch(revision, timeout).await {
                    Ok(stream) => {
                        machine.watch_started();
                        publish(&machine, &health);
                        follow(&mut machine, stream, timeout, &side, &handler, &doubt).await;
                    }
                    Err(error) => machine.watch_failed(&error, random()),
                }
                broken = machine.trouble().is_some() || machine.relists() != relists;
            }
        }
        publish(&machine, &health);
    }
}

/// One page. Objects are taken in as they come: a page that breaks off is asked for again, which changes nothing.
async fn take_in<S>(machine: &mut Machine<S>, mut page: Flow<Listed>, handler: &Handler<S>) {
    while let Some(listed) = page.next().await {
        match listed {
            Ok(Listed::Item(body)) => machine.item(body).iter().for_each(|delta| handler(delta)),
            Ok(Listed::End { continue_token, revision }) => {
                machine.listed(continue_token, revision).iter().for_each(|delta| handler(delta));
            }
            Err(error) => return machine.list_failed(&error, random()),
        }
    }
}

async fn follow<S>(
    machine: &mut Machine<S>,
    mut stream: Flow<Frame>,
    timeout: Duration,
    side: &str,
    handler: &Handler<S>,
    doubt: &Doubt,
) {
    let started = Instant::now();
    // A server that forgets to end the watch, or a dead connection.
    let deadline = started + timeout + Duration::from_secs(20);
    loop {
        let next = tokio::select! {
            next = tokio::time::timeout_at(deadline, stream.next()) => next,
            () = doubt.wake.notified() => Ok(None),
        };
        match next {
            Err(_) | Ok(None) => return machine.watch_ended(started.elapsed(), random()),
            Ok(Some(Err(error))) => return machine.watch_failed(&error, random()),
            Ok(Some(Ok(frame))) => match machine.frame(frame, side, random()) {
                ControlFlow::Continue(Some(delta)) => handler(&delta),
                ControlFlow::Continue(None) => {}
                ControlFlow::Break(()) => return,
            },
        }
    }
}

fn publish<S>(machine: &Machine<S>, health: &watch::Sender<Health>) {
    let (before, now) = (health.borrow().trouble.as_ref().map(|t| t.class), machine.trouble());
    match now {
        Some(now) if before != Some(now.class) => {
            tracing::warn!(trouble = %now.message, "cannot list or watch; tried again by itself");
        }
        None if before.is_some() => tracing::info!("lists and watches again"),
        _ => {}
    }
    health.send_if_modified(|old| {
        let changed = old.synced != machine.synced()
            || old.trouble.is_some() != machine.trouble().is_some()
            || old.skipped != machine.skipped()
            || old.relists != machine.relists();
        *old = Health {
            synced: machine.synced(),
            trouble: machine.trouble().cloned(),
            skipped: machine.skipped(),
            relists: machine.relists(),
        };
        changed
    });
}
