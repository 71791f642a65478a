//! The committer: the one thread that writes.
//!
//! Flows in: queued [`Operation`]s. Flows out: batches to the log, then events to the tables, then answers. A write that
//! fails its precondition is answered after the batch is visible, so that whoever retries reads what it lost against.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};

use tokio::sync::oneshot;

use super::log::{Log, Record};
use super::object::{ObjectKey, StoredObject, TableId};
use super::state::{Event, EventKind, Table};
use super::{Expect, Shared, Write};

/// Most writes of one batch.
const BATCH: usize = 512;

/// Told of every committed change, in order, before the writer is answered and after readers can see it.
pub trait Observer: Send + Sync {
    /// A change of a table. Must not block or write.
    fn committed(&self, table: &TableId, event: &Arc<Event>);
}

/// Why a write did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Something is where nothing was expected.
    #[error("the object exists")]
    Exists,
    /// The object changed or went away since it was read.
    #[error("the object changed")]
    Changed,
    /// The guard object is missing or terminating.
    #[error("the containing object is missing or terminating")]
    Guard,
    /// The log refused the batch.
    #[error("{0}")]
    Log(String),
    /// The store was stopped.
    #[error("the store is stopped")]
    Stopped,
}

pub(super) struct Operation {
    pub(super) write: Write,
    pub(super) reply: oneshot::Sender<Result<Arc<StoredObject>, WriteError>>,
}

pub(super) enum Message {
    Write(Box<Operation>),
    Compact,
    Stop,
}

pub(super) fn spawn(
    mut log: Box<dyn Log>,
    queue: mpsc::Receiver<Message>,
    shared: Arc<Shared>,
) -> Result<std::thread::JoinHandle<()>, std::io::Error> {
    std::thread::Builder::new().name("store-committer".to_owned()).spawn(move || {
        let mut next = shared.revision.load(Ordering::Acquire);
        let mut stopping = false;
        while !stopping {
            let Ok(first) = queue.recv() else { return };
            let mut batch = Vec::new();
            let mut compact = false;
            let mut take = |message| match message {
                Message::Write(operation) => batch.push(*operation),
                Message::Compact => compact = true,
                Message::Stop => stopping = true,
            };
            take(first);
            for message in queue.try_iter().take(BATCH) {
                take(message);
            }
            if !batch.is_empty() {
                commit(&mut *log, &shared, &mut next, batch);
            }
            if compact && let Err(error) = log.compact() {
                tracing::warn!(%error, "compacting the store failed");
            }
        }
    })
}

fn commit(log: &mut dyn Log, shared: &Shared, next: &mut u64, batch: Vec<Operation>) {
    let mut pending: HashMap<(TableId, ObjectKey), Option<Arc<StoredObject>>> = HashMap::new();
    let mut refused = Vec::new();
    let mut accepted = Vec::new();
    let mut records = Vec::new();
    {
        let tables = shared.tables.read();
        for Operation { write, reply } in batch {
            let current = |table: &TableId, key: &ObjectKey| match pending.get(&(table.clone(), key.clone())) {
                Some(pending) => pending.clone(),
                None => tables.get(table).and_then(|t| t.get(key)).cloned(),
            };
            let previous = current(&write.table, &write.key);
            if let Err(error) = check(&write, previous.as_ref(), current) {
                refused.push((reply, error));
                continue;
            }
            *next += 1;
            let Write { table, key, draft, delete, .. } = write;
            let object = Arc::new(draft.seal(key.clone(), *next));
            let value = (!delete).then(|| object.bytes.clone());
            records.push(Record { table: table.clone(), key: key.clone(), revision: *next, value });
            pending.insert((table.clone(), key), (!delete).then(|| object.clone()));
            let kind = match (delete, &previous) {
                (true, _) => EventKind::Deleted,
                (false, None) => EventKind::Added,
                (false, Some(_)) => EventKind::Modified,
            };
            accepted.push((table, Arc::new(Event::new(kind, object, previous)), reply));
        }
    }
    if !records.is_empty()
        && let Err(error) = log.append(&records, *next)
    {
        tracing::error!(%error, writes = records.len(), "the store refused a batch");
        let error = WriteError::Log(error.to_string());
        for (_, _, reply) in accepted {
            let _ = reply.send(Err(error.clone()));
        }
        for (reply, _) in refused {
            let _ = reply.send(Err(error.clone()));
        }
        return;
    }
    {
        let mut tables = shared.tables.write();
        for (table, event, _) in &accepted {
            let start = shared.start;
            tables.entry(table.clone()).or_insert_with(|| Table::new(start)).apply(event.clone());
        }
        if !accepted.is_empty() {
            shared.revision.store(*next, Ordering::Release);
        }
    }
    let observers = shared.observers.read().clone();
    for (table, event, reply) in accepted {
        for observer in &observers {
            observer.committed(&table, &event);
        }
        let _ = reply.send(Ok(event.object.clone()));
    }
    for (reply, error) in refused {
        let _ = reply.send(Err(error));
    }
}

fn check(
    write: &Write,
    previous: Option<&Arc<StoredObject>>,
    current: impl Fn(&TableId, &ObjectKey) -> Option<Arc<StoredObject>>,
) -> Result<(), WriteError> {
    match (write.expect, previous) {
        (Expect::Absent, None) => {}
        (Expect::Absent, Some(_)) => return Err(WriteError::Exists),
        (Expect::Revision(wanted), Some(object)) if object.revision == wanted => {}
        (Expect::Revision(_), _) => return Err(WriteError::Changed),
    }
    match &write.guard {
        Some((table, key)) if current(table, key).is_none_or(|o| o.deleting) => Err(WriteError::Guard),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use serde_json::json;

    use super::super::log::{Loaded, LogError};
    use super::super::memory::MemoryLog;
    use super::super::sqlite::SqliteLog;
    use super::super::{Draft, Scope, Store};
    use super::*;

    fn table() -> TableId {
        TableId::new("", "configmaps")
    }

    fn write(name: &str, expect: Expect, data: &str) -> Write {
        let object =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "uid": "u"}, "data": data});
        Write {
            table: table(),
            key: ObjectKey::new("c", "ns", name),
            expect,
            guard: None,
            draft: Draft::new(&object, 0).unwrap(),
            delete: false,
        }
    }

    #[tokio::test]
    async fn preconditions_see_the_pending_batch() {
        let store = Store::open(Box::new(MemoryLog::starting_at(10))).unwrap();
        let first = store.begin(write("a", Expect::Absent, "1"));
        let second = store.begin(write("a", Expect::Absent, "2"));
        assert_eq!(first.await.unwrap().unwrap().revision, 11);
        assert_eq!(second.await.unwrap().err(), Some(WriteError::Exists));
        let one = store.begin(write("a", Expect::Revision(11), "3"));
        let two = store.begin(write("a", Expect::Revision(11), "4"));
        assert_eq!(one.await.unwrap().unwrap().revision, 12);
        assert_eq!(two.await.unwrap().err(), Some(WriteError::Changed));
        assert_eq!(store.revision(), 12);
    }

    #[tokio::test]
    async fn a_guard_must_live_when_the_write_commits() {
        let store = Store::open(Box::new(MemoryLog::starting_at(1))).unwrap();
        let guard = Some((table(), ObjectKey::new("c", "ns", "guard")));
        let denied = store.write(Write { guard: guard.clone(), ..write("a", Expect::Absent, "") }).await;
        assert_eq!(denied.err(), Some(WriteError::Guard));
        let parent = store.begin(write("guard", Expect::Absent, ""));
        let child = store.begin(Write { guard, ..write("a", Expect::Absent, "") });
        assert!(parent.await.unwrap().is_ok());
        assert!(child.await.unwrap().is_ok());
    }

    struct Faulty(Arc<AtomicBool>);
    impl Log for Faulty {
        fn load(&mut self) -> Result<Loaded, LogError> {
            Ok(Loaded { revision: 1, records: Vec::new() })
        }
        fn append(&mut self, _: &[Record], _: u64) -> Result<(), LogError> {
            if self.0.load(Ordering::SeqCst) { Err(LogError::Damaged("full".into())) } else { Ok(()) }
        }
    }

    #[tokio::test]
    async fn a_failed_batch_fails_all_its_writes_and_shows_nothing() {
        let broken = Arc::new(AtomicBool::new(true));
        let store = Store::open(Box::new(Faulty(broken.clone()))).unwrap();
        assert!(matches!(store.write(write("a", Expect::Absent, "")).await, Err(WriteError::Log(_))));
        assert!(store.list(&table(), &Scope::All).objects.is_empty());
        broken.store(false, Ordering::SeqCst);
        let written = store.write(write("a", Expect::Absent, "")).await.unwrap();
        assert!(written.revision > 2, "a revision of a failed batch is not used again");
    }

    #[tokio::test]
    async fn revisions_and_objects_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let last = {
            let store = Store::open(Box::new(SqliteLog::open(&path).unwrap())).unwrap();
            store.write(write("a", Expect::Absent, "1")).await.unwrap();
            let b = store.write(write("b", Expect::Absent, "2")).await.unwrap();
            let gone = Write { delete: true, ..write("b", Expect::Revision(b.revision), "2") };
            let last = store.write(gone).await.unwrap().revision;
            store.stop();
            last
        };
        let store = Store::open(Box::new(SqliteLog::open(&path).unwrap())).unwrap();
        assert_eq!(store.revision(), last);
        assert_eq!(store.list(&table(), &Scope::All).objects.len(), 1);
        assert!(store.write(write("c", Expect::Absent, "")).await.unwrap().revision > last);
        assert!(store.watch(&table(), &Scope::All, last - 1, 10).is_err(), "history before the start is gone");
    }

    #[tokio::test]
    async fn lists_go_back_and_watches_catch_up() {
        let store = Store::open(Box::new(MemoryLog::starting_at(1))).unwrap();
        let a = store.write(write("a", Expect::Absent, "1")).await.unwrap();
        let b = store.write(write("b", Expect::Absent, "1")).await.unwrap();
        store.write(write("a", Expect::Revision(a.revision), "2")).await.unwrap();
        store.write(Write { delete: true, ..write("b", Expect::Revision(b.revision), "1") }).await.unwrap();
        let then = store.list_at(&table(), &Scope::All, None, Some(b.revision)).unwrap();
        let seen: Vec<_> =
            then.objects.iter().map(|o| (o.key.name.to_string(), o.to_value()["data"].clone())).collect();
        assert_eq!(seen, [("a".to_owned(), json!("1")), ("b".to_owned(), json!("1"))]);

        let mut watch = store.watch(&table(), &Scope::Cluster("c".into()), a.revision, 10).unwrap();
        let kinds: Vec<_> = std::iter::from_fn(|| watch.try_recv()).map(|e| e.kind).collect();
        assert_eq!(kinds, [EventKind::Added, EventKind::Modified, EventKind::Deleted]);
        let other = store.watch(&table(), &Scope::Cluster("d".into()), a.revision, 10).unwrap().try_recv();
        assert!(other.is_none());
    }

    #[tokio::test]
    async fn a_slow_watcher_is_cut_off_and_may_come_back() {
        let store = Store::open(Box::new(MemoryLog::starting_at(1))).unwrap();
        let (listed, mut watch) = store.list_and_watch(&table(), &Scope::All, 2);
        for name in ["a", "b", "c", "d"] {
            store.write(write(name, Expect::Absent, "")).await.unwrap();
        }
        let mut last = listed.revision;
        while let Some(event) = watch.recv().await {
            last = event.revision;
        }
        assert!(!watch.ended());
        let mut again = store.watch(&table(), &Scope::All, last, 10).unwrap();
        assert_eq!(std::iter::from_fn(|| again.try_recv()).count(), 2);
    }
}
