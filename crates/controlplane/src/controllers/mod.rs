//! What Kubernetes' own controllers do, for all logical clusters together.
//!
//! ```text
//!  store ── commits (Feed) ──► Watchful::observe ──► Work ──► Queue ──► at most 64 at a time ──► Access (the pipeline)
//!                               what does this            each name once,
//!                               change make due?          failures wait
//! ```
//!
//! In: every committed change, in order. Out: writes through the same pipeline as everyone's. One task for everything:
//! no logical cluster, namespace or object has a task or a watch of its own. Started by the server ([`start`]).
//!
//! - [`namespaces`]: empties a namespace that is being deleted.
//! - [`gc`]: owner references.
//! - [`service_accounts`]: ServiceAccount `default`, the CA, tokens in Secrets.
//! - [`aggregation`]: aggregated ClusterRoles.
//! - [`definitions`]: removes the objects of a CustomResourceDefinition that is being deleted.
//! - [`events`]: Events go after an hour.

pub mod access;
pub mod aggregation;
pub mod definitions;
pub mod events;
pub mod gc;
pub mod namespaces;
pub mod queue;
pub mod service_accounts;
pub mod summary;
#[cfg(test)]
mod tests;
mod watchful;

use std::fmt;
use std::sync::Arc;

use apimachinery::status::StatusError;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::core::Core;
use crate::store::{Event, EventKind, ObjectKey, Observer, Scope, TableId};
use access::Access;
use gc::graph::{Graph, Step};
use queue::{Finished, Queue};
use watchful::Watchful;

/// How much work is under way at a time.
const CONCURRENT: usize = 64;

/// An object in any table.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId {
    /// Its table.
    pub table: TableId,
    /// Its key.
    pub key: ObjectKey,
}

impl fmt::Display for ObjectId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TableId { group, resource } = &self.table;
        out.write_str(resource)?;
        if !group.is_empty() {
            write!(out, ".{group}")?;
        }
        if !self.key.namespace.is_empty() {
            write!(out, " {}", self.key.namespace)?;
        }
        write!(out, "/{}", self.key.name)
    }
}

/// Something that is due.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Work {
    /// The garbage collector.
    Collect(Step),
    /// A namespace that is being deleted.
    EndNamespace(ObjectId),
    /// A namespace that has to have its ServiceAccount and CA.
    Furnish(ObjectId),
    /// A Secret that may be for a token.
    TokenSecret(ObjectId),
    /// The aggregated ClusterRoles of a logical cluster.
    Aggregate(Arc<str>),
    /// A CustomResourceDefinition that is being deleted.
    EndDefinition(ObjectId),
    /// An Event that may be old enough to go.
    ExpireEvent(ObjectId, u64),
}

/// Hands commits over to the loop.
struct Feed(mpsc::UnboundedSender<(TableId, Arc<Event>)>);

impl Observer for Feed {
    fn committed(&self, table: &TableId, event: &Arc<Event>) {
        // The loop is gone only when the server stops.
        let _ = self.0.send((table.clone(), event.clone()));
    }
}

/// Starts the controllers. They run until the token is cancelled; `ca_pem` is what goes into `kube-root-ca.crt` and
/// token Secrets.
pub fn start(core: Arc<Core>, ca_pem: &str, shutdown: CancellationToken) -> tokio::task::JoinHandle<()> {
    let (sender, receiver) = mpsc::unbounded_channel();
    core.store.observe(Arc::new(Feed(sender)));
    let access = Access { core, ca_pem: ca_pem.into() };
    tokio::spawn(run(access, receiver, shutdown))
}

async fn run(access: Access, mut commits: mpsc::UnboundedReceiver<(TableId, Arc<Event>)>, shutdown: CancellationToken) {
    let graph = Arc::new(Mutex::new(Graph::default()));
    let mut watchful = Watchful::new(graph.clone());
    let mut queue: Queue<Work> = Queue::default();
    // What was there before. Commits since then wait in the channel, in order; seeing one twice does no harm.
    for (table, _) in access.core.store.counts() {
        for object in access.core.store.list(&table, &Scope::All).objects {
            let due = watchful.observe(&table, &Event::new(EventKind::Added, object, None), &access);
            plan(&mut queue, due);
        }
    }
    let mut running: JoinSet<(Work, Result<Finished, StatusError>)> = JoinSet::new();
    loop {
        while running.len() < CONCURRENT
            && let Some(work) = queue.next(Instant::now())
        {
            let (access, graph) = (access.clone(), graph.clone());
            running.spawn(async move {
                let result = perform(&access, &graph, &work).await;
                (work, result)
            });
        }
        let wake = queue.wake_at().filter(|_| running.len() < CONCURRENT);
        tokio::select! {
            () = shutdown.cancelled() => break,
            commit = commits.recv() => match commit {
                Some((table, event)) => plan(&mut queue, watchful.observe(&table, &event, &access)),
                None => break,
            },
            Some(ended) = running.join_next(), if !running.is_empty() => match ended {
                Ok((work, result)) => {
                    let how = result.unwrap_or_else(|error| {
                        report(&work, &error);
                        Finished::Failed
                    });
                    queue.finish(work, how, Instant::now());
                }
                Err(error) => tracing::error!(%error, "a controller's work broke off"),
            },
            () = sleep_until(wake) => {}
        }
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn plan(queue: &mut Queue<Work>, due: Vec<watchful::Due>) {
    for due in due {
        match due.after {
            None => queue.add(due.work),
            Some(wait) => queue.add_at(due.work, Instant::now() + wait),
        }
    }
}

fn report(work: &Work, error: &StatusError) {
    use apimachinery::status::Reason;
    if matches!(error.reason, Reason::Conflict | Reason::NotFound) {
        tracing::debug!(?work, %error, "will be tried again");
    } else {
        tracing::warn!(?work, %error, "will be tried again");
    }
}

async fn perform(access: &Access, graph: &Arc<Mutex<Graph>>, work: &Work) -> Result<Finished, StatusError> {
    match work {
        Work::Collect(step) => gc::collector::work(access, graph, step).await,
        Work::EndNamespace(id) => namespaces::work(access, id).await,
        Work::Furnish(id) => service_accounts::furnish(access, id).await,
        Work::TokenSecret(id) => service_accounts::token_secret(access, id).await,
        Work::Aggregate(cluster) => aggregation::work(access, cluster).await,
        Work::EndDefinition(id) => definitions::work(access, id).await,
        Work::ExpireEvent(id, revision) => events::expire(access, id, *revision).await,
    }
}
