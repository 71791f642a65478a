//! What can go wrong with a request, sorted by what a controller does about it. In: HTTP answers and transport errors.
//! Out: [`ApiError`] with a [`Class`], naming the side, the verb and the object.

use std::time::Duration;

use serde_json::Value;

/// What kind of failure it is, by what mends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// 404: the object, its namespace or the whole API is not there.
    NotFound,
    /// 409 `AlreadyExists`.
    AlreadyExists,
    /// 409: a precondition (resourceVersion, uid, field ownership) does not hold.
    Conflict,
    /// 422 or 400: the API server refuses the content; retrying the same is pointless.
    Invalid,
    /// 401: the credential is not (or no longer) known.
    Unauthorized,
    /// 403: the credential has no right to this.
    Forbidden,
    /// 410: the revision or continue token is too old; list again.
    Gone,
    /// 429, or 503/504 with an answer of the API server, or its admission policies are not ready: come back later.
    Throttled,
    /// Other 5xx.
    Server,
    /// No answer: connection refused, TLS failure, timeout.
    Unreachable,
    /// The answer could not be read.
    Decode,
}

impl Class {
    /// True when the same request may succeed later without anybody changing anything.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Throttled | Self::Server | Self::Unreachable | Self::Conflict | Self::Gone)
    }
}

/// A failed request, with the side and object it was for.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{side}: {verb} {target}: {message}")]
pub struct ApiError {
    /// Which API server, in words that the reader knows ("consumer", "provider acmedb").
    pub side: String,
    /// What was tried: `get`, `list`, `apply`...
    pub verb: &'static str,
    /// Resource and object name.
    pub target: String,
    /// What to do about it.
    pub class: Class,
    /// HTTP status, 0 without an answer.
    pub code: u16,
    /// `reason` of the Status object, if there was one.
    pub reason: String,
    /// Message of the API server or of the transport.
    pub message: String,
    /// The server's `Retry-After`.
    pub retry_after: Option<Duration>,
}

impl ApiError {
    /// True when an admission policy refuses because the API server has not found the CRD of its `paramKind` yet: it looks
    /// for new ones every half minute.
    pub fn awaits_policy(&self) -> bool {
        self.message.contains(POLICY_NOT_READY)
    }

    /// True for [`Class::NotFound`].
    pub fn is_not_found(&self) -> bool {
        self.class == Class::NotFound
    }

    /// True for [`Class::Conflict`] and [`Class::AlreadyExists`].
    pub fn is_conflict(&self) -> bool {
        matches!(self.class, Class::Conflict | Class::AlreadyExists)
    }

    /// True when the other side's certificate is not one that the kubeconfig's CA has given.
    pub fn is_untrusted(&self) -> bool {
        let message = self.message.to_lowercase();
        self.class == Class::Unreachable
            && ["invalid peer certificate", "unknownissuer", "certificate verify failed"]
                .iter()
                .any(|w| message.contains(w))
    }

    /// What mends it, as far as the failure itself tells; to be said after the error.
    pub fn mend(&self) -> &'static str {
        match self.class {
            Class::Unauthorized => {
                "the credential is not known there (any more): it has expired or was revoked, give this program a new one"
            }
            Class::Forbidden => "the credential lacks the right to this: grant it",
            Class::NotFound => "that API or object is not served there: install what is missing",
            Class::Unreachable if self.is_untrusted() => {
                "the certificate is not from the CA in the kubeconfig: put the cluster's present CA there"
            }
            Class::Unreachable => "tried again by itself: see that the API server runs and can be reached from here",
            Class::Throttled | Class::Server => "tried again by itself: see the API server's log if this lasts",
            Class::Conflict | Class::AlreadyExists | Class::Gone => "tried again by itself",
            Class::Invalid | Class::Decode => {
                "the API server and this version do not understand each other: update the older one"
            }
        }
    }

    /// True for [`Class::Forbidden`].
    pub fn is_forbidden(&self) -> bool {
        self.class == Class::Forbidden
    }
}

/// Sorts an HTTP status and Status `reason` into a class.
pub fn classify(code: u16, reason: &str) -> Class {
    match (code, reason) {
        (404, _) => Class::NotFound,
        (409, "AlreadyExists") => Class::AlreadyExists,
        (409, _) => Class::Conflict,
        (401, _) => Class::Unauthorized,
        (403, _) => Class::Forbidden,
        (410, _) | (_, "Expired" | "Gone") => Class::Gone,
        (429 | 503 | 504, _) => Class::Throttled,
        (400..=499, _) => Class::Invalid,
        _ => Class::Server,
    }
}

/// Sorts an answer with its message: a policy that is not ready refuses content that it will take.
pub(crate) fn classify_answer(code: u16, reason: &str, message: &str) -> Class {
    if message.contains(POLICY_NOT_READY) { Class::Throttled } else { classify(code, reason) }
}

/// In kube-apiserver's refusal (422, with 1.36) of everything that an admission policy guards until it has found the CRD of the
/// policy's `paramKind`, for which it looks twice a minute.
const POLICY_NOT_READY: &str = "failed to find resource referenced by paramKind";

/// Longest time that a server is believed to need when it says when to come back.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(120);

/// The server's wish for time, as far as it is granted: one that asks for a year must not switch us off.
pub(crate) fn patience(wanted: Duration) -> Duration {
    wanted.min(LONGEST_RETRY_AFTER)
}

/// Reads `reason`, `message` and retry seconds out of a Status body; plain text becomes the message.
pub(crate) fn read_status(body: &[u8], code: u16) -> (String, String, Option<Duration>) {
    match serde_json::from_slice::<Value>(body) {
        Ok(status) if status["kind"] == "Status" => (
            status["reason"].as_str().unwrap_or_default().to_owned(),
            status["message"].as_str().unwrap_or_default().to_owned(),
            status["details"]["retryAfterSeconds"].as_u64().filter(|s| *s > 0).map(Duration::from_secs).map(patience),
        ),
        _ => {
            let text = String::from_utf8_lossy(body);
            let text: String = text.trim().chars().take(300).collect();
            (String::new(), if text.is_empty() { format!("HTTP {code}") } else { text }, None)
        }
    }
}

/// An error and what it comes from in one line, each cause once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case(404, "NotFound", Class::NotFound)]
    #[case(409, "AlreadyExists", Class::AlreadyExists)]
    #[case(409, "Conflict", Class::Conflict)]
    #[case(410, "Expired", Class::Gone)]
    #[case(429, "TooManyRequests", Class::Throttled)]
    #[case(504, "Timeout", Class::Throttled)]
    #[case(500, "Expired", Class::Gone)]
    #[case(500, "InternalError", Class::Server)]
    #[case(422, "Invalid", Class::Invalid)]
    fn classes(#[case] code: u16, #[case] reason: &str, #[case] class: Class) {
        assert_eq!(classify(code, reason), class);
    }

    #[test]
    fn a_policy_that_is_not_ready_refuses_no_content() {
        let message = "secrets \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p' denied request: failed to configure \
                       policy: failed to find resource referenced by paramKind: 'kube-bind.io/v1alpha2, Kind=APIServiceBinding'";
        assert_eq!(classify_answer(422, "Invalid", message), Class::Throttled);
        assert_eq!(classify_answer(422, "Invalid", "spec.size: must not grow"), Class::Invalid);
    }
}
