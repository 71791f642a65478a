//! The time between a write and its event. In: what the caches showed when we wrote, and what the API server answered.
//! Out: whether there is anything to decide yet, and on what: of an object whose event has not come the answer is known,
//! and deciding on what is older would write twice.

use std::{collections::HashSet, sync::atomic::Ordering, time::Duration};

use kube_client::ObjectKey;
use tokio::time::Instant;

use super::KindSync;
use crate::sync::{
    Side,
    packed::Packed,
    summary::{ConsumerSummary, ProviderSummary},
};

/// After a write, how long its event may take before we look again.
pub(super) const ECHO: Duration = Duration::from_secs(5);

/// How often a watch is doubted for the same event before the answer is no longer believed: an API server that was put
/// back to an earlier state shows the older object for good.
const DOUBTS: u8 = 6;

/// What the caches showed when we wrote.
pub(super) struct Pending {
    /// Revisions of the consumer's object that tell nothing new: the one we decided on, and the one that we made.
    consumer: [Option<String>; 2],
    copy: Option<String>,
    /// The consumer's object as the API server answered, where the cache may still have the older one.
    ahead: Option<Packed<ConsumerSummary>>,
    /// Whether nothing is to be decided before an event. What the answer says all about (the finalizer) needs none.
    waits: bool,
    at: Instant,
    doubts: u8,
}

impl Pending {
    /// Whether the cache still has the object as it was before the answer.
    fn is_ahead(&self, cached: Option<&String>) -> bool {
        self.ahead.is_some() && self.consumer[0].as_ref() == cached
    }

    /// After a long time: whether an event is still missing, and whether it is waited for any longer.
    fn late(&mut self, consumer: &Side<ConsumerSummary>, copy: &Side<ProviderSummary>) -> (bool, bool) {
        if *consumer == Side::Absent {
            // Its DELETED event has overtaken the answer to our last write.
            return (false, false);
        }
        let now = consumer.present().map(|c| &c.revision);
        if self.waits {
            // Whoever waits in the queue has got its event.
            return (self.copy == known(copy) && self.knows(now), true);
        }
        let missing = self.is_ahead(now);
        self.at = Instant::now();
        self.doubts += 1;
        (missing, missing && self.doubts < DOUBTS)
    }

    /// Whether the cache shows nothing of the consumer's object that was not known when we wrote.
    fn knows(&self, cached: Option<&String>) -> bool {
        self.consumer.iter().any(|known| known.as_ref() == cached)
    }
}

impl KindSync {
    /// Writes whose event has not come: perhaps they changed nothing, perhaps a watch is dead though its connection looks
    /// alive. Watches on both sides start anew from where they were, and the objects are looked at.
    pub(super) fn look_for_echoes(&self) {
        if !self.objects_synced() {
            // No event comes before the first list is whole.
            return;
        }
        let late: Vec<ObjectKey> = {
            let pending = self.pending.lock();
            pending.iter().filter(|(_, wait)| wait.at.elapsed() >= ECHO).map(|(key, _)| key).collect()
        };
        let overdue: Vec<ObjectKey> = late.into_iter().filter(|key| self.is_overdue(key)).collect();
        if overdue.is_empty() {
            return;
        }
        self.doubt_watches(&overdue);
        for key in overdue {
            self.queue.add(key);
        }
    }

    /// Whether an event is still missing, of what is waited for since long.
    fn is_overdue(&self, key: &ObjectKey) -> bool {
        let (consumer, copy, _) = self.sides(key);
        let mut pending = self.pending.lock();
        let Some(wait) = pending.get_mut(key).filter(|wait| wait.at.elapsed() >= ECHO) else { return false };
        let (missing, stays) = wait.late(&consumer, &copy);
        if !stays {
            pending.remove(key);
        }
        missing
    }

    fn doubt_watches(&self, overdue: &[ObjectKey]) {
        self.doubts.fetch_add(1, Ordering::Relaxed);
        if let Some(objects) = self.objects.read().as_ref() {
            objects.doubt();
        }
        let namespaces: HashSet<String> = overdue.iter().filter_map(|key| self.copies_namespace(key)).collect();
        for (namespace, copies) in self.copies.read().iter() {
            if namespaces.contains(namespace) {
                copies.doubt();
            }
        }
    }

    /// After a write of ours the caches are behind until its event arrives: deciding then would write twice. How long to
    /// wait for it.
    pub(super) fn awaiting_echo(
        &self,
        key: &ObjectKey,
        consumer: &Side<ConsumerSummary>,
        copy: &Side<ProviderSummary>,
    ) -> Option<Duration> {
        let listed = self.objects_synced();
        let mut pending = self.pending.lock();
        let wait = pending.get_mut(key)?;
        let now = consumer.present().map(|c| &c.revision);
        let ahead = wait.is_ahead(now);
        if !wait.knows(now) || (!wait.waits && !ahead) {
            pending.remove(key);
            return None;
        }
        if !wait.waits {
            return None;
        }
        let came = wait.copy != known(copy);
        if !came {
            let left = ECHO.saturating_sub(wait.at.elapsed());
            if !left.is_zero() {
                return Some(left);
            }
            if !listed {
                // No event comes before the first list is whole.
                return Some(ECHO);
            }
        }
        // The copy's event is here, or overdue. What we know of the consumer's object stays known until its own comes.
        wait.waits = false;
        wait.at = Instant::now();
        if !ahead {
            pending.remove(key);
        }
        drop(pending);
        if !came {
            self.doubt_watches(std::slice::from_ref(key));
        }
        None
    }

    /// The consumer's object as our last write left it, if the cache has it as it was before.
    pub(super) fn ahead_of(&self, key: &ObjectKey, consumer: &Side<ConsumerSummary>) -> Option<ConsumerSummary> {
        let pending = self.pending.lock();
        let wait = pending.get(key)?;
        let cached = consumer.present()?;
        let newer = wait.ahead.as_ref().filter(|_| wait.is_ahead(Some(&cached.revision)))?.unpack();
        (newer.uid == cached.uid).then_some(newer)
    }

    /// The consumer's object was written, and the answer says all that there is to know.
    pub(super) fn answered(
        &self,
        key: &ObjectKey,
        before: &ConsumerSummary,
        answer: &ConsumerSummary,
        copy: &Side<ProviderSummary>,
    ) {
        if before.revision == answer.revision {
            // Nothing was changed, and no event comes.
            self.pending.lock().remove(key);
            return;
        }
        let consumer = [Some(before.revision.clone()), Some(answer.revision.clone())];
        let ahead = Some(Packed::new(answer));
        let wait = Pending { consumer, copy: known(copy), ahead, waits: false, at: Instant::now(), doubts: 0 };
        self.pending.lock().insert(key, wait);
    }

    /// A write was made that was decided on these; its event is to come.
    pub(super) fn expect_echo(&self, key: &ObjectKey, consumer: &ConsumerSummary, copy: &Side<ProviderSummary>) {
        let mut pending = self.pending.lock();
        // After a write at the consumer and one at the provider: the event of the first is no news.
        let before = pending.get(key).and_then(|wait| wait.consumer[0].clone());
        let revision = Some(consumer.revision.clone());
        let ahead = before.is_some() && before != revision;
        pending.insert(
            key,
            Pending {
                consumer: [before.or_else(|| revision.clone()), revision],
                copy: known(copy),
                ahead: ahead.then(|| Packed::new(consumer)),
                waits: true,
                at: Instant::now(),
                doubts: 0,
            },
        );
    }
}

/// What is known of a copy: nothing, that it is not there (empty), or its revision.
fn known(copy: &Side<ProviderSummary>) -> Option<String> {
    match copy {
        Side::Unknown => None,
        Side::Absent => Some(String::new()),
        Side::Present(copy) => Some(copy.revision.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_an_object_that_is_gone() {
        let revision = Some("7".to_owned());
        let mut wait = Pending {
            consumer: [revision.clone(), revision],
            copy: Some(String::new()),
            ahead: None,
            waits: true,
            at: Instant::now(),
            doubts: 0,
        };
        assert_eq!(wait.late(&Side::Absent, &Side::Absent), (false, false));
        assert_eq!(wait.late(&Side::Unknown, &Side::Absent), (false, true), "a list that is not whole says nothing");
    }
}
