//! The informer's state machine, without IO, clock or randomness of its own. In: pages, watch frames, failures. Out:
//! the next step to take (list, watch, pause) and the changes of the store as [`Delta`]s. Driven by
//! [`super::Informer`]; scripted in tests.
//!
//! Rules: a list is consistent (no resourceVersion); any 410, at watch start or in the stream, lists again; an object
//! that does not decode is skipped and counted; what vanished between two lists is reported as removed *by absence*,
//! which is never a reason to delete anything.

use std::{collections::HashSet, ops::ControlFlow, sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::Value;

use crate::{
    api::Frame,
    backoff::Backoff,
    decode::Keep,
    error::{ApiError, Class},
    store::{Entry, ObjectKey, Revision, Store},
};

/// Turns an object (as far as it was decoded) into what the store keeps; an error skips the object (and counts it, unless it is empty: then the
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
        /// The whole object as the server wrote it, for those who need it right now.
        body: Bytes,
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
    Listing {
        token: Option<String>,
        /// Known before this list, and not seen in it so far.
        unseen: HashSet<ObjectKey>,
    },
    Watching {
        revision: String,
        frames: u64,
    },
}

/// State of one informer.
pub struct Machine<S> {
    store: Arc<Store<S>>,
    project: Project<S>,
    keep: Keep,
    phase: Phase,
    backoff: Backoff,
    pause: Option<Duration>,
    synced: bool,
    trouble: Option<Trouble>,
    skipped: u64,
    relists: u64,
    /// Something could not be read: what is known has a hole until the next list.
    hole: bool,
}

impl<S> Machine<S> {
    /// A machine that starts with a list.
    pub fn new(store: Arc<Store<S>>, project: Project<S>, keep: Keep, backoff: Backoff) -> Self {
        Self {
            store,
            project,
            keep,
            phase: Phase::Listing { token: None, unseen: HashSet::new() },
            backoff,
            pause: None,
            synced: false,
            trouble: None,
            skipped: 0,
            relists: 0,
            hole: false,
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

    /// An object of a list arrived.
    pub fn item(&mut self, body: Bytes) -> Option<Delta<S>> {
        let Phase::Listing { unseen, .. } = &mut self.phase else { return None };
        match self.keep.decode(&body) {
            Ok(object) => {
                if !unseen.is_empty()
                    && let Some(key) = ObjectKey::of(&object)
                {
                    unseen.remove(&key);
                }
                self.upsert(object, body)
            }
            Err(error) => {
                self.unreadable(&error.to_string());
                None
            }
        }
    }

    /// A page of a list is complete.
    pub fn listed(&mut self, continue_token: Option<String>, next: String) -> Vec<Delta<S>> {
        let mut deltas = Vec::new();
        let Phase::Listing { token, unseen } = &mut self.phase else { return deltas };
        self.trouble = None;
        if continue_token.is_some() {
            *token = continue_token;
            return deltas;
        }
        let mut unseen: Vec<ObjectKey> = std::mem::take(unseen).into_iter().collect();
        unseen.sort();
        for key in unseen {
            if let Some(last) = self.store.take(&key) {
                deltas.push(Delta::Removed { key, last, observed: false });
            }
        }
        self.phase = Phase::Watching { revision: next, frames: 0 };
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
            self.phase = self.listing_anew();
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
            if self.hole {
                self.relist();
            }
        }
    }

    /// A line of the watch arrived. `Break` when the stream must be left (the next step says what to do).
    pub fn frame(&mut self, frame: Frame, side: &str, random: f64) -> ControlFlow<(), Option<Delta<S>>> {
        let Phase::Watching { revision, frames } = &mut self.phase else { return ControlFlow::Break(()) };
        let body = Bytes::from(Box::<str>::from(frame.object).into_boxed_bytes());
        let object = match self.keep.decode(&body) {
            Ok(object) => object,
            Err(error) => {
                self.unreadable(&error.to_string());
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
            "ADDED" | "MODIFIED" => ControlFlow::Continue(self.upsert(object, body)),
            "DELETED" => ControlFlow::Continue(self.delete(object)),
            _ => ControlFlow::Continue(None),
        }
    }

    fn unreadable(&mut self, reason: &str) {
        self.skipped += 1;
        self.hole = true;
        tracing::warn!(
            reason,
            "an object that the API server sent is not JSON; it is looked at again with the next list"
        );
    }

    fn relist(&mut self) {
        if matches!(self.phase, Phase::Watching { .. }) {
            self.relists += 1;
            self.phase = self.listing_anew();
        }
    }

    fn listing_anew(&mut self) -> Phase {
        self.hole = false;
        Phase::Listing { token: None, unseen: self.store.keys().into_iter().collect() }
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

    fn upsert(&mut self, object: Value, body: Bytes) -> Option<Delta<S>> {
        let key = ObjectKey::of(&object)?;
        let revision = revision_of(&object);
        if self.store.get(&key).is_some_and(|known| Some(&known.revision) == revision.as_ref()) {
            return None;
        }
        match (self.project)(&Arc::new(object)) {
            Ok(summary) => {
                let revision = revision.unwrap_or_else(|| "".into());
                let (old, new) = self.store.put(&key, Entry { revision, summary });
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
        let revision = revision_of(&object).unwrap_or_else(|| "".into());
        let last = match (self.project)(&Arc::new(object)) {
            Ok(summary) => Some(Arc::new(Entry { revision, summary })),
            Err(_) => known,
        }?;
        Some(Delta::Removed { key, last, observed: true })
    }
}

fn revision_of(object: &Value) -> Option<Revision> {
    object["metadata"]["resourceVersion"].as_str().filter(|text| !text.is_empty()).map(Revision::from)
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
