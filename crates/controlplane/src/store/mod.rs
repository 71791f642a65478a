//! The store: a durable revisioned log with the whole state in memory.
//!
//! Flows in: single-key writes with preconditions ([`Store::write`]). Flows out: reads, lists at a revision, watches.
//! One thread, the committer, takes what is queued as a batch, checks preconditions against the state _and_ the batch
//! so far, gives out revisions, makes the batch durable, and only then changes the state, tells watchers and answers.
//! If the log refuses a batch, all its writes fail. Called by the pipeline and the watch handlers.

mod commit;
pub mod log;
pub mod memory;
pub mod object;
pub mod sqlite;
pub mod state;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

use commit::{Message, Operation};
pub use commit::{Observer, WriteError};
use log::{Log, LogError};
pub use object::{Draft, ObjectKey, StoredObject, TableId};
use state::Table;
pub use state::{Event, EventKind, Receiver, Scope, TooOld};

/// What must be true of a key for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing is there.
    Absent,
    /// The object is there at exactly this revision.
    Revision(u64),
}

/// A change of one key.
pub struct Write {
    /// Which table.
    pub table: TableId,
    /// Which object.
    pub key: ObjectKey,
    /// Precondition on the object itself.
    pub expect: Expect,
    /// Another object that must be there and not be terminating (the namespace of a new object).
    pub guard: Option<(TableId, ObjectKey)>,
    /// The new object; for a deletion its last state.
    pub draft: Draft,
    /// Whether the object goes away.
    pub delete: bool,
}

/// State and committer. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Message>,
    committer: Arc<Mutex<Option<std::thread::JoinHandle<()>>>>,
}

/// What readers and the committer share.
pub(crate) struct Shared {
    tables: RwLock<HashMap<TableId, Table>>,
    /// The last committed revision; changes up to it are visible and were handed to watchers.
    revision: AtomicU64,
    /// The revision at which this process started: history begins here.
    start: u64,
    observers: RwLock<Vec<Arc<dyn Observer>>>,
}

/// A list at a revision.
pub struct Listed {
    /// The objects in order of their keys.
    pub objects: Vec<Arc<StoredObject>>,
    /// The revision the list is true for.
    pub revision: u64,
}

impl Store {
    /// Loads a log and starts the committer.
    pub fn open(mut log: Box<dyn Log>) -> Result<Self, LogError> {
        let loaded = log.load()?;
        let mut tables: HashMap<TableId, Table> = HashMap::new();
        for record in loaded.records {
            let Some(value) = record.value else { continue };
            let what = format!("{}/{} {:?}", record.table.group, record.table.resource, record.key);
            let object = StoredObject::load(record.key, record.revision, value)
                .map_err(|e| LogError::Damaged(format!("{what}: {e}")))?;
            tables.entry(record.table).or_insert_with(|| Table::new(loaded.revision)).load(Arc::new(object));
        }
        let shared = Arc::new(Shared {
            tables: RwLock::new(tables),
            revision: AtomicU64::new(loaded.revision),
            start: loaded.revision,
            observers: RwLock::default(),
        });
        let (queue, receiver) = mpsc::channel();
        let committer = commit::spawn(log, receiver, shared.clone())?;
        Ok(Self { shared, queue, committer: Arc::new(Mutex::new(Some(committer))) })
    }

    /// Someone who is told of every commit before the writer is answered.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        self.shared.observers.write().push(observer);
    }

    /// The last committed revision.
    pub fn revision(&self) -> u64 {
        self.shared.revision.load(Ordering::Acquire)
    }

    /// Writes one object. The answer comes when it is durable and visible.
    pub async fn write(&self, write: Write) -> Result<Arc<StoredObject>, WriteError> {
        self.begin(write).await.map_err(|_| WriteError::Stopped)?
    }

    /// Queues a write; the answer arrives at the receiver. Several of one caller make one batch.
    pub fn begin(&self, write: Write) -> oneshot::Receiver<Result<Arc<StoredObject>, WriteError>> {
        let (reply, answer) = oneshot::channel();
        // If the committer is gone the reply is dropped, which the receiver sees.
        let _ = self.queue.send(Message::Write(Box::new(Operation { write, reply })));
        answer
    }

    /// One object.
    pub fn get(&self, table: &TableId, key: &ObjectKey) -> Option<Arc<StoredObject>> {
        self.shared.tables.read().get(table)?.get(key).cloned()
    }

    /// The current objects of a scope.
    pub fn list(&self, table: &TableId, scope: &Scope) -> Listed {
        let tables = self.shared.tables.read();
        let objects = tables.get(table).map(|t| t.iter(scope, None).cloned().collect()).unwrap_or_default();
        Listed { objects, revision: self.revision() }
    }

    /// The objects of a scope at a revision (the current one if `None`), after a key.
    pub fn list_at(
        &self,
        table: &TableId,
        scope: &Scope,
        after: Option<&ObjectKey>,
        revision: Option<u64>,
    ) -> Result<Listed, TooOld> {
        let tables = self.shared.tables.read();
        let current = self.revision();
        let revision = revision.unwrap_or(current).min(current);
        let objects = match tables.get(table) {
            Some(table) => table.at(scope, after, revision)?,
            None if revision < self.shared.start => {
                return Err(TooOld { asked: revision, oldest: self.shared.start });
            }
            None => Vec::new(),
        };
        Ok(Listed { objects, revision })
    }

    /// Whether a scope has any object.
    pub fn any(&self, table: &TableId, scope: &Scope) -> bool {
        self.shared.tables.read().get(table).is_some_and(|t| t.iter(scope, None).next().is_some())
    }

    /// The tables that have an object in a logical cluster (or a namespace of it).
    pub fn tables_with(&self, scope: &Scope) -> Vec<TableId> {
        let tables = self.shared.tables.read();
        tables.iter().filter(|(_, t)| t.iter(scope, None).next().is_some()).map(|(id, _)| id.clone()).collect()
    }

    /// How many objects each table holds.
    pub fn counts(&self) -> Vec<(TableId, usize)> {
        self.shared.tables.read().iter().map(|(id, t)| (id.clone(), t.len())).collect()
    }

    /// Changes of a scope after a revision.
    pub fn watch(&self, table: &TableId, scope: &Scope, since: u64, limit: usize) -> Result<Receiver, TooOld> {
        let mut tables = self.shared.tables.write();
        let start = self.shared.start;
        tables.entry(table.clone()).or_insert_with(|| Table::new(start)).watch_since(scope, since, limit)
    }

    /// The current objects of a scope and every change after them.
    pub fn list_and_watch(&self, table: &TableId, scope: &Scope, limit: usize) -> (Listed, Receiver) {
        let mut tables = self.shared.tables.write();
        let start = self.shared.start;
        let table = tables.entry(table.clone()).or_insert_with(|| Table::new(start));
        let objects = table.iter(scope, None).cloned().collect();
        let revision = self.revision();
        let receiver = table.watch(scope, revision, limit);
        (Listed { objects, revision }, receiver)
    }

    /// Ends the watches of one logical cluster on a table.
    pub fn end_watches(&self, table: &TableId, cluster: &str) {
        if let Some(table) = self.shared.tables.write().get_mut(table) {
            table.end_watches(cluster);
        }
    }

    /// Forgets history up to a revision and compacts the log. Called from time to time.
    pub fn compact(&self, up_to: u64) {
        for table in self.shared.tables.write().values_mut() {
            table.forget(up_to);
        }
        let _ = self.queue.send(Message::Compact);
    }

    /// Commits what is queued and ends the committer. Writes after that fail.
    pub fn stop(&self) {
        let _ = self.queue.send(Message::Stop);
        if let Some(committer) = self.committer.lock().take() {
            let _ = committer.join();
        }
    }
}
