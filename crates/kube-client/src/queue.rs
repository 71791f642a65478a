//! A keyed work queue. In: keys from informers (and "later" from reconcilers). Out: keys to workers, each key at most
//! once at a time. A key that is added again while it is worked on is handed out once more afterwards. Failed keys come
//! back after an exponential backoff of their own. What is looked at because it is there (a first list, everything anew)
//! waits behind what happens now, so that ten thousand old objects do not delay a new one.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    future::Future,
    hash::Hash,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::backoff::{delay_for, random};

/// What a reconcile wants next for its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing until the next event; forget earlier failures.
    Done,
    /// Again after this delay; forget earlier failures.
    After(Duration),
    /// It failed: again after the key's backoff.
    Retry,
    /// It failed and the server said when to come back: the backoff, but not earlier than this.
    RetryAfter(Duration),
}

/// What is in a queue. A key that has failed also waits, is worked on or comes later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Waiting for a worker.
    pub ready: usize,
    /// Being worked on.
    pub working: usize,
    /// Due later.
    pub later: usize,
    /// Failed at least once and not yet succeeded.
    pub failing: usize,
}

impl Depth {
    /// Keys that are not at rest.
    pub fn unsettled(&self) -> usize {
        self.ready + self.working + self.later
    }
}

/// Of this many keys one comes from those behind, whatever happens meanwhile: they are late, and must not starve.
const FAIR: u32 = 8;

/// A key that waits for a worker.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    behind: bool,
    since: Instant,
}

#[derive(Debug)]
struct State<K> {
    ready: VecDeque<K>,
    /// Handed out when `ready` is empty. Keys that have been overtaken since are left in it, and skipped.
    behind: VecDeque<K>,
    queued: HashMap<K, Waiting>,
    /// Keys handed out in a row that were not from behind.
    ahead: u32,
    /// With the time since which each was due.
    working: HashMap<K, Instant>,
    again: HashSet<K>,
    failures: HashMap<K, u32>,
    later: BTreeMap<(Instant, u64), K>,
    due: HashMap<K, (Instant, u64)>,
    sequence: u64,
    /// A server asked for time: nothing is handed out before.
    quiet_until: Option<Instant>,
}

/// See the module.
#[derive(Debug)]
pub struct WorkQueue<K> {
    state: Mutex<State<K>>,
    wake: Notify,
    base: Duration,
    cap: Duration,
}

impl<K: Clone + Eq + Hash> WorkQueue<K> {
    /// A queue whose failed keys wait from `base` to `cap`.
    pub fn new(base: Duration, cap: Duration) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                ready: VecDeque::new(),
                behind: VecDeque::new(),
                queued: HashMap::new(),
                ahead: 0,
                working: HashMap::new(),
                again: HashSet::new(),
                failures: HashMap::new(),
                later: BTreeMap::new(),
                due: HashMap::new(),
                sequence: 0,
                quiet_until: None,
            }),
            wake: Notify::new(),
            base,
            cap,
        })
    }

    /// Adds a key: it will be worked on as soon as a worker is free. Adding it twice is adding it once.
    pub fn add(&self, key: K) {
        let mut state = self.state.lock();
        state.put(key);
        drop(state);
        self.wake.notify_one();
    }

    /// Adds a key behind those that something happens to; [`WorkQueue::add`] lets it overtake.
    pub fn add_behind(&self, key: K) {
        self.state.lock().put_behind(key);
        self.wake.notify_one();
    }

    /// Adds a key after a delay; an earlier due time of the same key wins.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        self.state.lock().put_later(key, Instant::now() + delay);
        self.wake.notify_one();
    }

    /// What made keys fail is over: those that wait for their backoff are handed out now, behind what happens meanwhile.
    pub fn hurry(&self) {
        let mut state = self.state.lock();
        let failed: Vec<K> = state.failures.keys().filter(|key| state.due.contains_key(*key)).cloned().collect();
        for key in failed {
            state.put_behind(key);
        }
        state.quiet_until = None;
        drop(state);
        self.wake.notify_one();
    }

    /// How many times in a row a key has failed so far.
    pub fn failures(&self, key: &K) -> u32 {
        self.state.lock().failures.get(key).copied().unwrap_or(0)
    }

    /// How long a key that is being worked on has been due, the wait for a worker included.
    pub fn due_for(&self, key: &K) -> Option<Duration> {
        self.state.lock().working.get(key).map(Instant::elapsed)
    }

    /// How many keys wait, are worked on, come later, and have failed.
    pub fn depth(&self) -> Depth {
        let state = self.state.lock();
        Depth {
            ready: state.queued.len(),
            working: state.working.len(),
            later: state.later.len(),
            failing: state.failures.len(),
        }
    }

    /// Keys waiting (not those delayed or being worked on).
    pub fn len(&self) -> usize {
        self.state.lock().queued.len()
    }

    /// True when nothing waits, is delayed, or is being worked on.
    pub fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.queued.is_empty() && state.later.is_empty() && state.working.is_empty()
    }

    /// True when nothing waits to be handed out now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for the next key. The caller must hand it back with [`WorkQueue::finish`].
    pub async fn next(&self) -> K {
        loop {
            let wait_until = {
                let mut state = self.state.lock();
                let now = Instant::now();
                state.promote(now);
                let quiet = state.quiet_until.filter(|until| *until > now);
                if quiet.is_none()
                    && let Some((key, since)) = state.take()
                {
                    state.working.insert(key.clone(), since);
                    if !state.queued.is_empty() {
                        self.wake.notify_one();
                    }
                    return key;
                }
                quiet.or_else(|| state.later.keys().next().map(|(at, _)| *at))
            };
            match wait_until {
                Some(at) => tokio::select! {
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => self.wake.notified().await,
            }
        }
    }

    /// Hands a key back; returns how many times in a row it has failed.
    pub fn finish(&self, key: K, outcome: Outcome) -> u32 {
        let mut state = self.state.lock();
        state.working.remove(&key);
        let failures = match outcome {
            Outcome::Done | Outcome::After(_) => {
                state.failures.remove(&key);
                0
            }
            Outcome::Retry | Outcome::RetryAfter(_) => {
                let failures = state.failures.entry(key.clone()).or_insert(0);
                *failures += 1;
                *failures
            }
        };
        if state.again.remove(&key) {
            // A failing key does not jump its backoff because of an event of its own making: it still waits a little.
            if failures == 0 {
                state.put(key);
                drop(state);
                self.wake.notify_one();
                return 0;
            }
        }
        if let Outcome::RetryAfter(floor) = outcome {
            // Every other key would be told the same: a queue of thousands must not ask thousands of times.
            let until = Instant::now() + floor.min(self.cap);
            state.quiet_until = Some(state.quiet_until.map_or(until, |known| known.max(until)));
        }
        let delay = match outcome {
            Outcome::Done => None,
            Outcome::After(delay) => Some(delay),
            Outcome::Retry => Some(delay_for(self.base, self.cap, failures - 1, random())),
            Outcome::RetryAfter(floor) => Some(delay_for(self.base, self.cap, failures - 1, random()).max(floor)),
        };
        if let Some(delay) = delay {
            state.put_later(key, Instant::now() + delay);
        }
        drop(state);
        self.wake.notify_one();
        failures
    }

    /// Runs `work` on keys, at most `concurrency` at once, until cancelled. Work under way is then dropped.
    pub async fn run<F, Fut>(self: Arc<Self>, concurrency: usize, stop: CancellationToken, work: F)
    where
        K: Send + 'static,
        F: Fn(K) -> Fut,
        Fut: Future<Output = Outcome>,
    {
        let work = &work;
        let workers = (0..concurrency.max(1)).map(|_| {
            let queue = self.clone();
            let stop = stop.clone();
            async move {
                loop {
                    let key = tokio::select! {
                        biased;
                        () = stop.cancelled() => return,
                        key = queue.next() => key,
                    };
                    let outcome = tokio::select! {
                        biased;
                        () = stop.cancelled() => return,
                        outcome = work(key.clone()) => outcome,
                    };
                    queue.finish(key, outcome);
                }
            }
        });
        futures::future::join_all(workers).await;
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    fn put(&mut self, key: K) {
        self.forget_due(&key);
        if self.working.contains_key(&key) {
            self.again.insert(key);
            return;
        }
        let waiting = self.queued.entry(key.clone()).or_insert(Waiting { behind: true, since: Instant::now() });
        if std::mem::take(&mut waiting.behind) {
            self.ready.push_back(key);
        }
    }

    fn put_behind(&mut self, key: K) {
        self.forget_due(&key);
        if self.working.contains_key(&key) {
            self.again.insert(key);
        } else if !self.queued.contains_key(&key) {
            self.queued.insert(key.clone(), Waiting { behind: true, since: Instant::now() });
            self.behind.push_back(key);
        }
    }

    fn forget_due(&mut self, key: &K) {
        if let Some(at) = self.due.remove(key) {
            self.later.remove(&at);
        }
    }

    /// The next key and since when it is due.
    fn take(&mut self) -> Option<(K, Instant)> {
        let turn = self.ahead >= FAIR - 1 || self.ready.is_empty();
        let key = if turn { self.take_behind() } else { None };
        self.ahead = if key.is_some() { 0 } else { self.ahead.saturating_add(1) };
        let key = key.or_else(|| self.ready.pop_front())?;
        let since = self.queued.remove(&key)?.since;
        Some((key, since))
    }

    fn take_behind(&mut self) -> Option<K> {
        while let Some(key) = self.behind.pop_front() {
            if self.queued.get(&key).is_some_and(|waiting| waiting.behind) {
                return Some(key);
            }
        }
        None
    }

    fn put_later(&mut self, key: K, at: Instant) {
        if self.queued.contains_key(&key) {
            return;
        }
        match self.due.get(&key) {
            Some(known) if known.0 <= at => return,
            Some(known) => {
                self.later.remove(known);
            }
            None => {}
        }
        self.sequence += 1;
        let slot = (at, self.sequence);
        self.due.insert(key.clone(), slot);
        self.later.insert(slot, key);
    }

    fn promote(&mut self, now: Instant) {
        while let Some((slot, _)) = self.later.first_key_value() {
            if slot.0 > now {
                break;
            }
            if let Some((_, key)) = self.later.pop_first() {
                self.due.remove(&key);
                self.put(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> Arc<WorkQueue<&'static str>> {
        WorkQueue::new(Duration::from_millis(100), Duration::from_secs(10))
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_handed_out_once_however_often_it_is_added() {
        let q = queue();
        q.add("a");
        q.add("a");
        assert_eq!(q.next().await, "a");
        assert!(q.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_never_worked_on_twice_at_once_and_not_forgotten() {
        let q = queue();
        q.add("a");
        let key = q.next().await;
        q.add("a");
        assert!(tokio::time::timeout(Duration::from_secs(1), q.next()).await.is_err(), "still being worked on");
        q.finish(key, Outcome::Done);
        assert_eq!(q.next().await, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_back_off_each_for_itself() {
        let q = queue();
        q.add("a");
        let start = Instant::now();
        for failures in 1..=4 {
            let key = q.next().await;
            assert_eq!(q.finish(key, Outcome::Retry), failures);
        }
        q.next().await;
        let waited = start.elapsed();
        assert!(waited >= Duration::from_millis(750) && waited <= Duration::from_millis(1600), "{waited:?}");
        q.finish("a", Outcome::Done);
        q.add("b");
        assert_eq!(q.next().await, "b");
        assert_eq!(q.finish("b", Outcome::Retry), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_due_time_wins_and_an_add_overtakes() {
        let q = queue();
        q.add_after("a", Duration::from_secs(60));
        q.add_after("a", Duration::from_secs(5));
        let start = Instant::now();
        assert_eq!(q.next().await, "a");
        assert_eq!(start.elapsed(), Duration::from_secs(5));
        q.finish("a", Outcome::After(Duration::from_secs(60)));
        q.add("a");
        assert_eq!(q.next().await, "a");
        assert_eq!(start.elapsed(), Duration::from_secs(5));
        q.finish("a", Outcome::Done);
        assert!(q.is_idle(), "the delayed duplicate went with it");
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_can_ask_for_more_time() {
        let q = queue();
        q.add("a");
        let start = Instant::now();
        let key = q.next().await;
        q.finish(key, Outcome::RetryAfter(Duration::from_secs(9)));
        q.next().await;
        assert_eq!(start.elapsed(), Duration::from_secs(9));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_asks_for_time_gets_it_from_all_keys() {
        let q = queue();
        let start = Instant::now();
        q.add("a");
        q.add("b");
        let key = q.next().await;
        q.finish(key, Outcome::RetryAfter(Duration::from_secs(4)));
        assert_eq!(q.next().await, "b");
        assert_eq!(start.elapsed(), Duration::from_secs(4));
        q.finish("b", Outcome::Done);
        assert_eq!(q.next().await, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_is_hurried_and_what_is_only_late_is_not() {
        let q = queue();
        for _ in 0..8 {
            q.add("a");
            let key = q.next().await;
            q.finish(key, Outcome::Retry);
        }
        q.add_after("b", Duration::from_secs(3600));
        let start = Instant::now();
        assert_eq!(q.failures(&"a"), 8);
        q.hurry();
        assert_eq!(q.next().await, "a");
        assert_eq!(start.elapsed(), Duration::ZERO);
        q.finish("a", Outcome::Done);
        assert_eq!((q.failures(&"a"), q.next().await), (0, "b"));
        assert_eq!(start.elapsed(), Duration::from_secs(3600));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_in_it_and_for_how_long() {
        let q = queue();
        q.add("a");
        q.add("b");
        q.add_after("c", Duration::from_secs(60));
        tokio::time::sleep(Duration::from_secs(3)).await;
        let key = q.next().await;
        assert_eq!(q.due_for(&key), Some(Duration::from_secs(3)));
        assert_eq!(q.due_for(&"b"), None, "nobody works on it");
        assert_eq!(q.depth(), Depth { ready: 1, working: 1, later: 1, failing: 0 });
        q.finish(key, Outcome::Retry);
        assert_eq!(q.depth(), Depth { ready: 1, working: 0, later: 2, failing: 1 });
        assert_eq!(q.depth().unsettled(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_happens_now_overtakes_what_is_only_there() {
        let q = queue();
        q.add_behind("a");
        q.add_behind("b");
        q.add_behind("c");
        q.add("new");
        q.add("b");
        assert_eq!(q.depth().ready, 4);
        for expected in ["new", "b", "a", "c"] {
            let key = q.next().await;
            assert_eq!(key, expected);
            q.finish(key, Outcome::Done);
        }
        assert!(q.is_idle(), "what was overtaken is not handed out a second time");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_behind_does_not_starve() {
        let q: Arc<WorkQueue<u32>> = WorkQueue::new(Duration::from_millis(100), Duration::from_secs(10));
        for key in 0..100 {
            q.add_behind(key);
            q.add(1000 + key);
        }
        let mut behind = 0;
        for _ in 0..80 {
            let key = q.next().await;
            behind += usize::from(key < 1000);
            q.finish(key, Outcome::Done);
        }
        assert_eq!(behind, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn concurrency_is_bounded() {
        let q: Arc<WorkQueue<u32>> = WorkQueue::new(Duration::from_millis(1), Duration::from_secs(1));
        for n in 0..20 {
            q.add(n);
        }
        let running = Arc::new(Mutex::new((0u32, 0u32, 0u32)));
        let stop = CancellationToken::new();
        let stopper = stop.clone();
        let counters = running.clone();
        q.run(3, stop, move |_| {
            let counters = counters.clone();
            let stopper = stopper.clone();
            async move {
                {
                    let mut c = counters.lock();
                    c.0 += 1;
                    c.1 = c.1.max(c.0);
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
                let mut c = counters.lock();
                c.0 -= 1;
                c.2 += 1;
                if c.2 == 20 {
                    stopper.cancel();
                }
                Outcome::Done
            }
        })
        .await;
        assert_eq!(running.lock().1, 3);
    }
}
