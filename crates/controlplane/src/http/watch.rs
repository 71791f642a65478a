//! Watches: a stream of JSON lines.
//!
//! Flows in: events of a scope from the store. Flows out: frames, selected and put into the client's shape. After the
//! request was authorised every error goes into the stream as an `ERROR` event, a 410 above all: clients relist on it,
//! while an HTTP 410 makes some retry for ever. A client that reads too slowly is cut off from the live events and comes
//! back through the recent history; if that is over, it gets its 410.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::status::StatusError;
use bytes::{Bytes, BytesMut};
use futures::Stream;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::list::Collection;
use super::negotiate::Shape;
use super::query::Query;
use super::select::{Selection, View};
use crate::core::Core;
use crate::store::state::{frame, raw_frame};
use crate::store::{Event, EventKind, Receiver, StoredObject};

/// Events that may wait for one reader before it is cut off.
const QUEUE: usize = 10_000;
/// A quiet stream gets a bookmark this often, if the client wants them.
const BOOKMARK: Duration = Duration::from_secs(30);
/// Frames are put together up to this size, in bytes.
const CHUNK: usize = 64 * 1024;
/// The shortest time a watch lasts if the client does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1800);

/// How a watch begins.
#[derive(Debug, PartialEq, Eq)]
enum Start {
    /// With the current objects as `ADDED` events; `marked`: then a bookmark that says so.
    Current { marked: bool },
    /// After a revision.
    Since(u64),
}

/// What a watch request asks for.
pub struct WatchRequest {
    start: Start,
    bookmarks: bool,
    timeout: Duration,
}

impl WatchRequest {
    /// Reads the parameters. These errors are answered before the stream begins.
    pub fn parse(query: &Query) -> Result<Self, StatusError> {
        let invalid = |error: apimachinery::field_path::FieldError| {
            StatusError::invalid("meta.k8s.io", "ListOptions", "", vec![crate::pipeline::cause(&error)])
        };
        let forbidden = |field: &str, text: &str| invalid(apimachinery::field_path::FieldError::forbidden(field, text));
        let version = query.get("resourceVersion");
        let initial = query.get("sendInitialEvents").map(|v| v != "false" && v != "0");
        let matching = query.get("resourceVersionMatch");
        match (initial, matching) {
            (None, Some(_)) => {
                return Err(forbidden(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                ));
            }
            (Some(_), Some("NotOlderThan")) | (None, None) => {}
            (Some(_), _) => {
                return Err(forbidden(
                    "resourceVersionMatch",
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                ));
            }
        }
        let bookmarks = query.flag("allowWatchBookmarks");
        if query.get("continue").is_some() {
            return Err(forbidden("continue", "continue is forbidden for watch"));
        }
        let since = version.filter(|v| *v != "0").map(super::list::revision).transpose()?;
        let start = match (initial, since) {
            (Some(true), _) => Start::Current { marked: bookmarks },
            (Some(false), Some(since)) | (None, Some(since)) => Start::Since(since),
            (Some(false), None) => Start::Since(u64::MAX),
            (None, None) => Start::Current { marked: false },
        };
        let timeout = match query.integer("timeoutSeconds")?.and_then(|t| u64::try_from(t).ok()).filter(|t| *t > 0) {
            Some(seconds) => Duration::from_secs(seconds),
            None => DEFAULT_TIMEOUT + Duration::from_secs(u64::from(rand::random::<u16>()) * 1800 / 65536),
        };
        Ok(Self { start, bookmarks, timeout })
    }

    /// The revision that must have been reached before the watch may begin with the current objects.
    pub fn not_older_than(&self, query: &Query) -> Option<u64> {
        match self.start {
            Start::Current { .. } => query.get("resourceVersion").and_then(|v| v.parse().ok()),
            Start::Since(_) => None,
        }
    }
}

struct Watch {
    core: Arc<Core>,
    collection: Collection,
    selection: Selection,
    view: View,
    receiver: Option<Receiver>,
    /// Frames that are ready.
    ready: VecDeque<Bytes>,
    /// Objects of the initial list that are not yet frames.
    initial: VecDeque<Arc<StoredObject>>,
    /// A revision whose bookmark ends the initial list.
    initial_end: Option<u64>,
    /// Every event up to here was handled.
    last: u64,
    /// Events up to here are not for this client.
    skip: u64,
    headers_sent: bool,
    bookmarks: bool,
    next_bookmark: Instant,
    deadline: Instant,
    shutdown: CancellationToken,
    finished: bool,
}

/// Starts a watch. The stream's items are chunks of one or more lines.
pub fn watch(
    core: Arc<Core>,
    collection: Collection,
    selection: Selection,
    view: View,
    request: WatchRequest,
    shutdown: CancellationToken,
) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
    let now = Instant::now();
    let mut state = Watch {
        core,
        collection,
        selection,
        view,
        receiver: None,
        ready: VecDeque::new(),
        initial: VecDeque::new(),
        initial_end: None,
        last: 0,
        skip: 0,
        headers_sent: false,
        bookmarks: request.bookmarks,
        next_bookmark: now + BOOKMARK,
        deadline: now + request.timeout,
        shutdown,
        finished: false,
    };
    state.begin(&request.start);
    futures::stream::unfold(state, |mut state| async move {
        let chunk = state.next().await?;
        Some((Ok(chunk), state))
    })
}

impl Watch {
    fn begin(&mut self, start: &Start) {
        let store = &self.core.store;
        match *start {
            Start::Current { marked } => {
                let (listed, receiver) = store.list_and_watch(&self.collection.table, &self.collection.scope, QUEUE);
                self.initial = listed.objects.into();
                self.last = listed.revision;
                self.initial_end = marked.then_some(listed.revision);
                self.receiver = Some(receiver);
            }
            Start::Since(since) => {
                // A revision from the future is waited for: nothing up to it is sent.
                let current = store.revision();
                self.skip = if since == u64::MAX { current } else { since };
                self.last = self.skip.min(current);
                self.subscribe();
            }
        }
    }

    fn subscribe(&mut self) {
        match self.core.store.watch(&self.collection.table, &self.collection.scope, self.last, QUEUE) {
            Ok(receiver) => self.receiver = Some(receiver),
            Err(too_old) => {
                self.fail(&StatusError::too_old_resource_version(too_old.asked, too_old.oldest));
            }
        }
    }

    fn fail(&mut self, error: &StatusError) {
        self.ready.push_back(raw_frame("ERROR", &error.to_bytes()));
        self.finished = true;
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(chunk) = self.chunk() {
                return Some(chunk);
            }
            if self.finished {
                return None;
            }
            let Some(receiver) = &mut self.receiver else {
                self.subscribe();
                continue;
            };
            tokio::select! {
                event = receiver.recv() => match event {
                    Some(event) => self.event(&event),
                    None if receiver.ended() => self.finished = true,
                    None => self.receiver = None, // too slow: come back through the history
                },
                () = tokio::time::sleep_until(self.next_bookmark), if self.bookmarks => self.bookmark_due(),
                () = tokio::time::sleep_until(self.deadline) => {
                    if self.bookmarks {
                        self.bookmark_due();
                    }
                    self.finished = true;
                }
                () = self.shutdown.cancelled() => self.finished = true,
            }
        }
    }

    /// What can be sent now.
    fn chunk(&mut self) -> Option<Bytes> {
        let mut size: usize = self.ready.iter().map(Bytes::len).sum();
        while size < CHUNK {
            let Some(object) = self.initial.pop_front() else {
                break;
            };
            if self.selection.matches(&self.view.resource, &object) {
                let frame = self.frame(EventKind::Added, &object);
                size += frame.len();
                self.ready.push_back(frame);
            }
        }
        if self.initial.is_empty()
            && let Some(revision) = self.initial_end.take()
        {
            self.bookmark(revision, true);
        }
        while size < CHUNK && self.initial.is_empty() {
            let Some(event) = self.receiver.as_mut().and_then(Receiver::try_recv) else {
                break;
            };
            self.event(&event);
            size = self.ready.iter().map(Bytes::len).sum();
        }
        match self.ready.len() {
            0 => None,
            1 => self.ready.pop_front(),
            _ => {
                let mut all = BytesMut::with_capacity(self.ready.iter().map(Bytes::len).sum());
                for frame in self.ready.drain(..) {
                    all.extend_from_slice(&frame);
                }
                Some(all.freeze())
            }
        }
    }

    fn event(&mut self, event: &Event) {
        if event.revision <= self.last {
            return;
        }
        self.last = event.revision;
        if event.revision <= self.skip {
            return;
        }
        let matches = |object: &StoredObject| self.selection.matches(&self.view.resource, object);
        if self.selection.is_everything() {
            let shared = event.kind != EventKind::Deleted || event.object.revision == event.revision;
            let frame = match shared && self.view.is_plain(&event.object) {
                true => event.frame(),
                false => self.frame(event.kind, &event.object),
            };
            self.ready.push_back(frame);
            return;
        }
        let before = event.previous.as_deref().is_some_and(matches);
        let after = event.kind != EventKind::Deleted && matches(&event.object);
        let frame = match (before, after) {
            (false, false) => return,
            (false, true) => self.frame(EventKind::Added, &event.object),
            (true, true) => self.frame(EventKind::Modified, &event.object),
            (true, false) if event.kind == EventKind::Deleted => self.frame(EventKind::Deleted, &event.object),
            (true, false) => match &event.previous {
                // It left the selection: as the client knew it, under the revision of the change.
                Some(previous) => self.frame(EventKind::Deleted, &previous.at(event.revision)),
                None => return,
            },
        };
        self.ready.push_back(frame);
    }

    fn frame(&mut self, kind: EventKind, object: &StoredObject) -> Bytes {
        let bytes = self.view.bytes(object, !self.headers_sent, self.core.now());
        self.headers_sent = true;
        frame(kind, &bytes)
    }

    /// A bookmark at the current revision, once everything up to it was handled.
    fn bookmark_due(&mut self) {
        let revision = self.core.store.revision();
        while let Some(event) = self.receiver.as_mut().and_then(Receiver::try_recv) {
            self.event(&event);
        }
        // A receiver that was cut off may lack events.
        if self.receiver.is_some() && self.initial.is_empty() && self.initial_end.is_none() && revision >= self.skip {
            let revision = revision.max(self.last);
            self.bookmark(revision, false);
        }
        self.next_bookmark = Instant::now() + BOOKMARK;
    }

    fn bookmark(&mut self, revision: u64, initial_end: bool) {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let resource = &self.view.resource;
        let object: Value = match &self.view.shape {
            Shape::Object => {
                json!({"kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata})
            }
            Shape::Metadata(version) => json!({"kind": "PartialObjectMetadata",
                "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata}),
            Shape::Table(version) => {
                json!({"kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"),
                "metadata": {"resourceVersion": revision.to_string()}, "columnDefinitions": null,
                "rows": [{"cells": [], "object": {"kind": "PartialObjectMetadata",
                    "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata}}]})
            }
        };
        self.ready.push_back(raw_frame("BOOKMARK", object.to_string().as_bytes()));
    }
}
