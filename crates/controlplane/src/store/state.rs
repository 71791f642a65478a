//! The state in memory: per resource one table for all logical clusters, with its recent history and its watchers.
//!
//! Flows in: committed changes, from the committer only. Flows out: reads at the current or a recent revision, and
//! events to watchers. Delivery is by scope (all, cluster, namespace, object), so a change wakes only those it concerns.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::object::{ObjectKey, StoredObject};

/// How many changes of one table are kept for watchers that come late.
const HISTORY: usize = 10_000;

/// Which objects of a table are meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Those of all logical clusters.
    All,
    /// Those of one logical cluster.
    Cluster(Arc<str>),
    /// Those of one namespace of one logical cluster.
    Namespace(Arc<str>, Arc<str>),
    /// One object.
    Object(ObjectKey),
}

impl Scope {
    /// Whether the key lies in the scope.
    pub fn contains(&self, key: &ObjectKey) -> bool {
        match self {
            Self::All => true,
            Self::Cluster(cluster) => *cluster == key.cluster,
            Self::Namespace(cluster, namespace) => *cluster == key.cluster && *namespace == key.namespace,
            Self::Object(object) => object == key,
        }
    }

    fn first(&self) -> Option<ObjectKey> {
        let empty: Arc<str> = Arc::from("");
        let key = |cluster: &Arc<str>, namespace: &Arc<str>| ObjectKey {
            cluster: cluster.clone(),
            namespace: namespace.clone(),
            name: empty.clone(),
        };
        match self {
            Self::All => None,
            Self::Cluster(cluster) => Some(key(cluster, &empty)),
            Self::Namespace(cluster, namespace) => Some(key(cluster, namespace)),
            Self::Object(object) => Some(object.clone()),
        }
    }
}

/// What a change was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The object came into being.
    Added,
    /// It changed.
    Modified,
    /// It is gone.
    Deleted,
}

/// A committed change. Shared by all who watch; its JSON frame is made once.
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The revision of the change.
    pub revision: u64,
    /// The object after the change; for a deletion its last state, under the deletion's revision.
    pub object: Arc<StoredObject>,
    /// The object before the change.
    pub previous: Option<Arc<StoredObject>>,
    frame: OnceLock<Bytes>,
}

impl Event {
    /// A change.
    pub fn new(kind: EventKind, object: Arc<StoredObject>, previous: Option<Arc<StoredObject>>) -> Self {
        Self { kind, revision: object.revision, object, previous, frame: OnceLock::new() }
    }

    /// The event as a line of a watch stream, in the stored version.
    pub fn frame(&self) -> Bytes {
        self.frame.get_or_init(|| frame(self.kind, &self.object.bytes)).clone()
    }
}

/// A line of a watch stream.
pub fn frame(kind: EventKind, object: &[u8]) -> Bytes {
    let name = match kind {
        EventKind::Added => "ADDED",
        EventKind::Modified => "MODIFIED",
        EventKind::Deleted => "DELETED",
    };
    raw_frame(name, object)
}

/// A line of a watch stream with any type.
pub fn raw_frame(name: &str, object: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(object.len() + 32);
    out.extend_from_slice(br#"{"type":""#);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(br#"","object":"#);
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
    out.into()
}

/// The sending end of a watcher.
struct Slot {
    sender: mpsc::UnboundedSender<Arc<Event>>,
    queued: Arc<AtomicUsize>,
    limit: usize,
    ended: Arc<AtomicBool>,
}

/// The receiving end of a watcher. Ends when the resource goes away ([`Receiver::ended`]) or when the reader was too
/// slow; in that case it may subscribe again from the last revision it saw.
pub struct Receiver {
    receiver: mpsc::UnboundedReceiver<Arc<Event>>,
    queued: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
}

impl Receiver {
    /// The next event; `None` when no more will come.
    pub async fn recv(&mut self) -> Option<Arc<Event>> {
        let event = self.receiver.recv().await;
        if event.is_some() {
            self.queued.fetch_sub(1, Ordering::Relaxed);
        }
        event
    }

    /// An event that is already there.
    pub fn try_recv(&mut self) -> Option<Arc<Event>> {
        let event = self.receiver.try_recv().ok();
        if event.is_some() {
            self.queued.fetch_sub(1, Ordering::Relaxed);
        }
        event
    }

    /// Whether the resource itself went away.
    pub fn ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

/// The revision asked for is no longer in memory.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("revision {asked} is older than the oldest known one, {oldest}")]
pub struct TooOld {
    /// The revision asked for.
    pub asked: u64,
    /// The oldest one that could be served.
    pub oldest: u64,
}

/// The objects of one resource in all logical clusters.
pub struct Table {
    objects: BTreeMap<ObjectKey, Arc<StoredObject>>,
    history: VecDeque<Arc<Event>>,
    /// Every change after this revision is in `history`.
    floor: u64,
    watchers: HashMap<Scope, Vec<Slot>>,
}

impl Table {
    /// An empty table that came into being at a revision.
    pub fn new(floor: u64) -> Self {
        Self { objects: BTreeMap::new(), history: VecDeque::new(), floor, watchers: HashMap::new() }
    }

    /// Puts an object in at start, without an event.
    pub fn load(&mut self, object: Arc<StoredObject>) {
        self.objects.insert(object.key.clone(), object);
    }

    /// One object.
    pub fn get(&self, key: &ObjectKey) -> Option<&Arc<StoredObject>> {
        self.objects.get(key)
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The objects of a scope in order of their keys, beginning after `after`.
    pub fn iter<'a>(
        &'a self,
        scope: &'a Scope,
        after: Option<&ObjectKey>,
    ) -> impl Iterator<Item = &'a Arc<StoredObject>> + 'a {
        let start = match (after, scope.first()) {
            (Some(after), Some(first)) if *after < first => Bound::Included(first),
            (Some(after), _) => Bound::Excluded(after.clone()),
            (None, Some(first)) => Bound::Included(first),
            (None, None) => Bound::Unbounded,
        };
        self.objects.range((start, Bound::Unbounded)).map(|(_, o)| o).take_while(move |o| scope.contains(&o.key))
    }

    /// The objects of a scope as they were at a revision.
    pub fn at(
        &self,
        scope: &Scope,
        after: Option<&ObjectKey>,
        revision: u64,
    ) -> Result<Vec<Arc<StoredObject>>, TooOld> {
        if self.history.back().is_none_or(|e| e.revision <= revision) && revision >= self.floor {
            return Ok(self.iter(scope, after).cloned().collect());
        }
        if revision < self.floor {
            return Err(TooOld { asked: revision, oldest: self.floor });
        }
        let mut objects: BTreeMap<ObjectKey, Arc<StoredObject>> =
            self.iter(scope, after).map(|o| (o.key.clone(), o.clone())).collect();
        for event in self.history.iter().rev().take_while(|e| e.revision > revision) {
            let key = &event.object.key;
            if !scope.contains(key) || after.is_some_and(|after| key <= after) {
                continue;
            }
            match &event.previous {
                Some(previous) => objects.insert(key.clone(), previous.clone()),
                None => objects.remove(key),
            };
        }
        Ok(objects.into_values().collect())
    }

    /// Applies a committed change and tells watchers.
    pub fn apply(&mut self, event: Arc<Event>) {
        let key = &event.object.key;
        match event.kind {
            EventKind::Deleted => self.objects.remove(key),
            _ => self.objects.insert(key.clone(), event.object.clone()),
        };
        let scopes = [
            Scope::All,
            Scope::Cluster(key.cluster.clone()),
            Scope::Namespace(key.cluster.clone(), key.namespace.clone()),
            Scope::Object(key.clone()),
        ];
        if !self.watchers.is_empty() {
            for scope in &scopes {
                deliver(&mut self.watchers, scope, &event);
            }
        }
        self.history.push_back(event);
        if self.history.len() > HISTORY
            && let Some(dropped) = self.history.pop_front()
        {
            self.floor = dropped.revision;
        }
    }

    /// Forgets history up to a revision. Gives memory back after bursts.
    pub fn forget(&mut self, up_to: u64) {
        while self.history.front().is_some_and(|e| e.revision <= up_to) {
            if let Some(dropped) = self.history.pop_front() {
                self.floor = dropped.revision;
            }
        }
        if self.history.capacity() > 2 * self.history.len() + 64 {
            self.history.shrink_to_fit();
        }
        for slots in self.watchers.values_mut() {
            slots.retain(|slot| !slot.sender.is_closed());
        }
        self.watchers.retain(|_, slots| !slots.is_empty());
    }

    /// Registers a watcher; first come the changes after a revision.
    pub fn watch_since(&mut self, scope: &Scope, since: u64, limit: usize) -> Result<Receiver, TooOld> {
        if since < self.floor {
            return Err(TooOld { asked: since, oldest: self.floor });
        }
        Ok(self.watch(scope, since, limit))
    }

    /// Registers a watcher for changes after a revision, as far as they are known.
    pub fn watch(&mut self, scope: &Scope, since: u64, limit: usize) -> Receiver {
        let (sender, receiver) = mpsc::unbounded_channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let from = self.history.partition_point(|e| e.revision <= since);
        for event in self.history.range(from..).filter(|e| scope.contains(&e.object.key)) {
            queued.fetch_add(1, Ordering::Relaxed);
            // The receiver is alive: it is returned below.
            let _ = sender.send(event.clone());
        }
        let ended = Arc::new(AtomicBool::new(false));
        let slot = Slot { sender, queued: queued.clone(), limit, ended: ended.clone() };
        self.watchers.entry(scope.clone()).or_default().push(slot);
        Receiver { receiver, queued, ended }
    }

    /// Ends all watches of one logical cluster on this table (its CRD went away).
    pub fn end_watches(&mut self, cluster: &str) {
        self.watchers.retain(|scope, slots| {
            let concerned = match scope {
                Scope::All => false,
                Scope::Cluster(c) | Scope::Namespace(c, _) => **c == *cluster,
                Scope::Object(key) => *key.cluster == *cluster,
            };
            if concerned {
                for slot in slots {
                    slot.ended.store(true, Ordering::Release);
                }
            }
            !concerned
        });
    }
}

fn deliver(watchers: &mut HashMap<Scope, Vec<Slot>>, scope: &Scope, event: &Arc<Event>) {
    let Some(slots) = watchers.get_mut(scope) else {
        return;
    };
    slots.retain(|slot| {
        if slot.queued.fetch_add(1, Ordering::Relaxed) >= slot.limit {
            return false; // too slow: the channel closes, the reader may come back
        }
        slot.sender.send(event.clone()).is_ok()
    });
    if slots.is_empty() {
        watchers.remove(scope);
    }
}
