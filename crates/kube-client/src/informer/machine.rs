//! The informer's state machine, without IO, clock or randomness of its own. In: pages, watch frames, failures. Out:
//! the next step to take (list, watch, pause) and the changes of the store as [`Delta`]s. Driven by
//! [`super::Informer`]; scripted in tests.
//!
//! Rules: a list is consistent (no resourceVersion); any 410, at watch start or in the stream, lists again; an object
//! that does not decode is skipped and counted; what vanished between two lists is reported as removed *by absence*,
//! which is never a reason to delete anything.

use std::{collections::HashSet, ops::ControlFlow, sync::Arc, time::Duration};

use serde_json::Value;

use crate::{
    api::{Frame, Page},
    backoff::Backoff,
    error::{ApiError, Class},
    store::{Entry, ObjectKey, Store},
};

/// Turns an object into what the store keeps; an error skips the object (and counts it, unless it is empty: then the
/// object is simply none of ours).
pub type Project<S> = Arc<dyn Fn(&Arc<Value>) -> Result<S, String> + Send + Sync>;

/// A change of what is known.
#[derive(Debug)]
pub enum Delta<S> {
    /// New or changed.
    Applied {
        /// Which object.
        key: ObjectKey,
        /// What was known before.
        old: Option<Arc<Entry<S>>>,
        /// What is known now.
        new: Arc<Entry<S>>,
        /// The whole object, for those who need it right now.
        body: Arc<Value>,
    },
    /// Gone.
    Removed {
        /// Which object.
        key: ObjectKey,
        /// The last thing known (for an observed deletion: the final state).
        last: Arc<Entry<S>>,
        /// True when the server sent a DELETED event; false when it was merely missing from a later list.
        observed: bool,
    },
    /// The first complete list is in.
    Synced,
}

/// What the driver has to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// List, from the start or with a continue token.
    List(Option<String>),
    /// Watch from a revision.
    Watch(String),
    /// Wait, then ask again.
    Pause(Duration),
}

/// Trouble that the informer is in.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// What kind.
    pub class: Class,
    /// In words, with side and resource.
    pub message: String,
}

#[derive(Debug)]
enum Phase {
    Listing { token: Option<String>, seen: HashSet<ObjectKey> },
    Watching { revision: String, frames: u64 },
}

/// State of one informer.
pub struct Machine<S> {
    store: Arc<Store<S>>,
    project: Project<S>,
    phase: Phase,
    backoff: Backoff,
    pause: Option<Duration>,
    synced: bool,
    trouble: Option<Trouble>,
    skipped: u64,
    relists: u64,
}

impl<S> Machine<S> {
    /// A machine that starts with a list.
    pub fn new(store: Arc<Store<S>>, project: Project<S>, backoff: Backoff) -> Self {
        Self {
            store,
            project,
            phase: Phase::Listing { token: None, seen: HashSet::new() },
            backoff,
            pause: None,
            synced: false,
            trouble: None,
            skipped: 0,
            relists: 0,
        }
    }

    /// The next thing to do.
    pub fn step(&mut self) -> Step {
        if let Some(pause) = self.pause.take() {
            return Step::Pause(pause);
        }
        match &self.phase {
            Phase::Listing { token, .. } => Step::List(token.clone()),
            Phase::Watching { revision, .. } => Step::Watch(revision.clone()),
        }
    }

    /// True once a complete list was seen.
    pub fn synced(&self) -> bool {
        self.synced
    }

    /// Present trouble, if the last step failed.
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// Objects that did not decode, since the start.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Lists after the first one.
    pub fn relists(&self) -> u64 {
        self.relists
    }

    /// A page arrived.
    pub fn page(&mut self, page: Page) -> Vec<Delta<S>> {
        let mut deltas = Vec::new();
        let mut seen = match &mut self.phase {
            Phase::Listing { seen, .. } => std::mem::take(seen),
            Phase::Watching { .. } => return deltas,
        };
        for raw in page.items {
            match serde_json::from_str::<Value>(raw.get()) {
                Ok(object) => {
                    if let Some(key) = ObjectKey::of(&object) {
                        seen.insert(key);
                    }
                    deltas.extend(self.upsert(object));
                }
                Err(_) => self.skipped += 1,
            }
        }
        self.trouble = None;
        if page.continue_token.is_some() {
            self.phase = Phase::Listing { token: page.continue_token, seen };
            return deltas;
        }
        let mut known = self.store.keys();
        known.sort();
        for key in known {
            if !seen.contains(&key)
                && let Some(last) = self.store.take(&key)
            {
                deltas.push(Delta::Removed { key, last, observed: false });
            }
        }
        self.phase = Phase::Watching { revision: page.revision, frames: 0 };
        if !self.synced {
            self.synced = true;
            deltas.push(Delta::Synced);
        }
        deltas
    }

    /// A list failed.
    pub fn list_failed(&mut self, error: &ApiError, random: f64) {
        if error.class == Class::Gone {
            // The continue token is too old: what was seen so far is of no use.
            self.phase = Phase::Listing { token: None, seen: HashSet::new() };
        }
        self.fail(error, random);
    }

    /// The watch was accepted by the server.
    pub fn watch_started(&mut self) {
        self.trouble = None;
    }

    /// The watch was refused, or broke.
    pub fn watch_failed(&mut self, error: &ApiError, random: f64) {
        match error.class {
            Class::Gone => self.relist(),
            // A line that is no watch event: nothing after it can be trusted.
            Class::Decode => self.relist(),
            _ => {}
        }
        self.fail(error, random);
        if self.backoff.failures() >= 3 && !matches!(error.class, Class::Unreachable | Class::Throttled) {
            self.relist();
        }
    }

    /// The server ended the watch, as it does after the timeout.
    pub fn watch_ended(&mut self, lasted: Duration, random: f64) {
        let quiet = match &mut self.phase {
            Phase::Watching { frames, .. } => std::mem::take(frames) == 0,
            Phase::Listing { .. } => false,
        };
        if quiet && lasted < Duration::from_secs(1) {
            // Accepted and dropped at once: without a pause this would be a hot loop.
            self.pause = Some(self.backoff.fail(random));
        } else {
            self.backoff.reset();
        }
    }

    /// A line of the watch arrived. `Break` when the stream must be left (the next step says what to do).
    pub fn frame(&mut self, frame: Frame, side: &str, random: f64) -> ControlFlow<(), Option<Delta<S>>> {
        let Phase::Watching { revision, frames } = &mut self.phase else { return ControlFlow::Break(()) };
        let object: Value = match serde_json::from_str(frame.object.get()) {
            Ok(object) => object,
            Err(_) => {
                self.skipped += 1;
                return ControlFlow::Continue(None);
            }
        };
        if frame.event == "ERROR" {
            let code = u16::try_from(object["code"].as_u64().unwrap_or(500)).unwrap_or(500);
            let reason = object["reason"].as_str().unwrap_or_default();
            let error = ApiError {
                side: side.to_owned(),
                verb: "watch",
                target: String::new(),
                class: crate::error::classify(code, reason),
                code,
                reason: reason.to_owned(),
                message: object["message"].as_str().unwrap_or_default().to_owned(),
                retry_after: None,
            };
            self.watch_failed(&error, random);
            return ControlFlow::Break(());
        }
        *frames += 1;
        if let Some(next) = object["metadata"]["resourceVersion"].as_str().filter(|r| !r.is_empty()) {
            next.clone_into(revision);
        }
        self.backoff.reset();
        match frame.event.as_str() {
            "ADDED" | "MODIFIED" => ControlFlow::Continue(self.upsert(object)),
            "DELETED" => ControlFlow::Continue(self.delete(object)),
            _ => ControlFlow::Continue(None),
        }
    }

    fn relist(&mut self) {
        if matches!(self.phase, Phase::Watching { .. }) {
            self.relists += 1;
            self.phase = Phase::Listing { token: None, seen: HashSet::new() };
        }
    }

    fn fail(&mut self, error: &ApiError, random: f64) {
        let delay = self.backoff.fail(random);
        // A first 410 is routine: list again at once.
        let routine = error.class == Class::Gone && self.backoff.failures() == 1;
        if !routine {
            self.pause = Some(error.retry_after.map_or(delay, |wanted| wanted.max(delay)));
            self.trouble = Some(Trouble { class: error.class, message: error.to_string() });
        }
    }

    fn upsert(&mut self, object: Value) -> Option<Delta<S>> {
        let key = ObjectKey::of(&object)?;
        let revision = object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
        if self.store.get(&key).is_some_and(|known| known.revision == revision && !revision.is_empty()) {
            return None;
        }
        let body = Arc::new(object);
        match (self.project)(&body) {
            Ok(summary) => {
                let (old, new) = self.store.put(key.clone(), Entry { revision, summary });
                Some(Delta::Applied { key, old, new, body })
            }
            Err(reason) if reason.is_empty() => None,
            Err(reason) => {
                self.skipped += 1;
                tracing::warn!(object = %key, reason, "object skipped");
                None
            }
        }
    }

    fn delete(&mut self, object: Value) -> Option<Delta<S>> {
        let key = ObjectKey::of(&object)?;
        let known = self.store.take(&key);
        let revision = object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
        let last = match (self.project)(&Arc::new(object)) {
            Ok(summary) => Some(Arc::new(Entry { revision, summary })),
            Err(_) => known,
        }?;
        Some(Delta::Removed { key, last, observed: true })
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
