//! A queue of named work: each name is at most once in it and never worked on twice at a time.
//!
//! In: names that are due now or later, and how the work on them went. Out: the next name, and when to ask again. Pure:
//! the time is an argument. The waits of one name double with each failure.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// The first wait after a failure.
const FIRST_WAIT: Duration = Duration::from_millis(20);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// Nothing is left to do.
    Done,
    /// To be looked at again after this time, whatever happens.
    Again(Duration),
    /// It failed, or cannot be decided yet.
    Failed,
}

/// The queue.
pub struct Queue<K> {
    ready: VecDeque<K>,
    queued: HashSet<K>,
    /// Names being worked on; `true` if they came again meanwhile.
    running: HashMap<K, bool>,
    delayed: BTreeMap<(Instant, u64), K>,
    failures: HashMap<K, u32>,
    counter: u64,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self {
            ready: VecDeque::new(),
            queued: HashSet::new(),
            running: HashMap::new(),
            delayed: BTreeMap::new(),
            failures: HashMap::new(),
            counter: 0,
        }
    }
}

impl<K: Clone + Eq + Hash> Queue<K> {
    /// A name is due.
    pub fn add(&mut self, name: K) {
        if let Some(again) = self.running.get_mut(&name) {
            *again = true;
        } else if self.queued.insert(name.clone()) {
            self.ready.push_back(name);
        }
    }

    /// A name is due at a time.
    pub fn add_at(&mut self, name: K, at: Instant) {
        self.counter += 1;
        self.delayed.insert((at, self.counter), name);
    }

    /// The next name to work on; its end must be reported to [`Queue::finish`].
    pub fn next(&mut self, now: Instant) -> Option<K> {
        while let Some(entry) = self.delayed.first_entry()
            && entry.key().0 <= now
        {
            let name = entry.remove();
            self.add(name);
        }
        let name = self.ready.pop_front()?;
        self.queued.remove(&name);
        self.running.insert(name.clone(), false);
        Some(name)
    }

    /// When the next delayed name is due.
    pub fn wake_at(&self) -> Option<Instant> {
        self.delayed.first_key_value().map(|((at, _), _)| *at)
    }

    /// Work on a name ended.
    pub fn finish(&mut self, name: K, how: Finished, now: Instant) {
        let again = self.running.remove(&name).unwrap_or(false);
        match how {
            Finished::Failed => {
                let failures = self.failures.entry(name.clone()).or_default();
                let wait = FIRST_WAIT.saturating_mul(1 << (*failures).min(16)).min(LONGEST_WAIT);
                *failures += 1;
                if !again {
                    self.add_at(name, now + wait);
                    return;
                }
            }
            Finished::Again(wait) => {
                self.failures.remove(&name);
                if !again {
                    self.add_at(name, now + wait);
                    return;
                }
            }
            Finished::Done => {
                self.failures.remove(&name);
            }
        }
        if again {
            self.add(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_queued_once_and_not_worked_on_twice() {
        let mut queue = Queue::default();
        let now = Instant::now();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.next(now), Some("a"));
        assert_eq!(queue.next(now), None);
        queue.add("a");
        assert_eq!(queue.next(now), None, "still being worked on");
        queue.finish("a", Finished::Done, now);
        assert_eq!(queue.next(now), Some("a"), "it came again meanwhile");
        queue.finish("a", Finished::Done, now);
        assert_eq!((queue.next(now), queue.wake_at()), (None, None));
    }

    #[test]
    fn failures_wait_longer_and_longer() {
        let mut queue = Queue::default();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        queue.add("a");
        for _ in 0..14 {
            assert_eq!(queue.next(now), Some("a"));
            queue.finish("a", Finished::Failed, now);
            assert_eq!(queue.next(now), None);
            let wake = queue.wake_at().unwrap();
            waits.push(wake - now);
            now = wake;
        }
        assert_eq!((waits[0], waits[1], waits[13]), (FIRST_WAIT, 2 * FIRST_WAIT, LONGEST_WAIT));
    }
}
