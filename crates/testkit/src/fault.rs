//! A proxy before an API server that can be told to misbehave. In: HTTPS requests of a client whose kubeconfig names the
//! proxy ([`FaultProxy::kubeconfig`]), and orders of a scenario. Out: what the API server answers, or what was ordered;
//! and a list of everything that was asked for, so that a scenario can count.
//!
//! ```text
//!  agent, backend, kubectl-bind ──TLS (CA of its own)──► FaultProxy ──TLS──► API server
//!                                                          ▲
//!                 scenario: rules, cut, half-dead, refuse ─┘
//! ```
//!
//! Credentials pass through as they are (bearer tokens; a client certificate would end here). Each watch is cut into
//! lines, so that a fault never splits an event unless it was told to.

mod answer;
mod proxy;

use std::time::Duration;

pub use self::proxy::{Certificate, FaultProxy, with_ca};

/// A request as the proxy saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When.
    pub at: tokio::time::Instant,
    /// `GET`, `PATCH`...
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Whether it asks for a watch.
    pub watch: bool,
    /// The status that the client got; 0 while it is under way or when the connection was dropped.
    pub status: u16,
}

impl Seen {
    /// Whether it may change something.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.method != "GET" && !self.path.contains("reviews")
    }

    /// Path without the query.
    #[must_use]
    pub fn place(&self) -> &str {
        self.path.split('?').next().unwrap_or_default()
    }

    /// Whether it lists.
    #[must_use]
    pub fn lists(&self) -> bool {
        self.method == "GET" && !self.watch && self.path.contains("limit=")
    }
}

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is not done; this is the answer.
    Answer {
        /// HTTP status.
        code: u16,
        /// `reason` of the Status object.
        reason: String,
        /// Its message.
        message: String,
        /// The header, in seconds.
        retry_after: Option<u64>,
    },
    /// It is done at the API server, and then this is the answer.
    DoneBut(u16),
    /// It is done after this time.
    Delay(Duration),
    /// It is not done, and there is never an answer.
    Silence,
    /// The connection ends without an answer.
    Drop,
    /// In lists and watches the object of this name is not JSON.
    Garble(String),
    /// The answer ends in the middle.
    Truncate,
    /// The watch starts, and its first event is the error 410.
    GoneInStream,
}

impl Fault {
    /// 429 with the header.
    #[must_use]
    pub fn too_many(retry_after: u64) -> Self {
        Self::Answer {
            code: 429,
            reason: "TooManyRequests".to_owned(),
            message: "too many requests, please try again later".to_owned(),
            retry_after: Some(retry_after),
        }
    }

    /// A status with the reason and words that API servers use with it.
    #[must_use]
    pub fn status(code: u16) -> Self {
        let (reason, message) = match code {
            401 => ("Unauthorized", "Unauthorized"),
            404 => ("NotFound", "the server could not find the requested resource"),
            410 => ("Expired", "too old resource version: 1 (2)"),
            429 => ("TooManyRequests", "too many requests, please try again later"),
            500 => ("InternalError", "an error on the server has prevented the request from succeeding"),
            503 => ("ServiceUnavailable", "the server is currently unable to handle the request"),
            504 => ("Timeout", "request did not complete within the allotted timeout"),
            _ => ("Unknown", "a fault on purpose"),
        };
        Self::Answer { code, reason: reason.to_owned(), message: message.to_owned(), retry_after: None }
    }

    /// A refusal of the content, in these words.
    #[must_use]
    pub fn invalid(message: &str) -> Self {
        Self::Answer { code: 422, reason: "Invalid".to_owned(), message: message.to_owned(), retry_after: None }
    }
}

/// Says which requests a fault concerns.
pub type Matches = Box<dyn Fn(&Seen) -> bool + Send + Sync>;

/// Every request.
#[must_use]
pub fn all() -> Matches {
    Box::new(|_| true)
}

/// Requests of a method (`*`: any) whose path and query contain all of `words`.
#[must_use]
pub fn on(method: &str, words: &[&str]) -> Matches {
    let method = method.to_owned();
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    Box::new(move |seen| {
        (method == "*" || seen.method == method) && words.iter().all(|word| seen.path.contains(word.as_str()))
    })
}

/// The first try of each request that [`on`] means: another one to the same place passes.
#[must_use]
pub fn first_try(method: &str, words: &[&str]) -> Matches {
    let meant = on(method, words);
    let places = parking_lot::Mutex::new(std::collections::HashSet::new());
    Box::new(move |seen| meant(seen) && places.lock().insert(seen.place().to_owned()))
}

/// Requests of an API group, its discovery included.
#[must_use]
pub fn group(group: &str) -> Matches {
    let path = format!("/apis/{group}");
    Box::new(move |seen| {
        seen.place().strip_prefix(path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}
