//! Kubernetes errors: [`StatusError`], which serialises as the `Status` object an API server answers with.
//!
//! In: what went wrong, with resource, name and causes. Out: code, reason, message and details worded as
//! kube-apiserver words them, because clients (and people) match on those texts. The control plane answers
//! with them; `kube-client` and the konnector read them back.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::field_path::FieldError;

/// Machine readable cause of a failure (`metav1.StatusReason`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Reason {
    /// No reason given (sent as an empty string).
    #[default]
    #[serde(rename = "")]
    Unknown,
    /// 401
    Unauthorized,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 409 on create
    AlreadyExists,
    /// 409 on update, apply or a failed precondition
    Conflict,
    /// 410
    Gone,
    /// 422
    Invalid,
    /// 500, retry is sensible
    ServerTimeout,
    /// 504
    Timeout,
    /// 429
    TooManyRequests,
    /// 400
    BadRequest,
    /// 405
    MethodNotAllowed,
    /// 406
    NotAcceptable,
    /// 413
    RequestEntityTooLarge,
    /// 415
    UnsupportedMediaType,
    /// 500
    InternalError,
    /// 410, a resource version or continue token that is too old
    Expired,
    /// 503
    ServiceUnavailable,
    /// A reason this library has no name for.
    #[serde(other)]
    Other,
}

impl Reason {
    /// The reason as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Unknown | Reason::Other => "",
            Reason::Unauthorized => "Unauthorized",
            Reason::Forbidden => "Forbidden",
            Reason::NotFound => "NotFound",
            Reason::AlreadyExists => "AlreadyExists",
            Reason::Conflict => "Conflict",
            Reason::Gone => "Gone",
            Reason::Invalid => "Invalid",
            Reason::ServerTimeout => "ServerTimeout",
            Reason::Timeout => "Timeout",
            Reason::TooManyRequests => "TooManyRequests",
            Reason::BadRequest => "BadRequest",
            Reason::MethodNotAllowed => "MethodNotAllowed",
            Reason::NotAcceptable => "NotAcceptable",
            Reason::RequestEntityTooLarge => "RequestEntityTooLarge",
            Reason::UnsupportedMediaType => "UnsupportedMediaType",
            Reason::InternalError => "InternalError",
            Reason::Expired => "Expired",
            Reason::ServiceUnavailable => "ServiceUnavailable",
        }
    }

    fn is_unknown(&self) -> bool {
        matches!(self, Reason::Unknown | Reason::Other)
    }
}

/// One cause in the details of a failure (`metav1.StatusCause`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cause {
    /// Kind of cause: `FieldValueInvalid`, `FieldManagerConflict`, `ResourceVersionTooLarge`, ...
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Path of the field concerned, `spec.tier`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

impl Cause {
    /// A cause from its three parts.
    pub fn new(reason: impl Into<String>, field: impl Into<String>, message: impl Into<String>) -> Self {
        Cause { reason: reason.into(), message: message.into(), field: field.into() }
    }

    /// `Invalid value` (`FieldValueInvalid`): the value is shown as Kubernetes shows it (JSON).
    pub fn invalid_value(field: impl Into<String>, value: &serde_json::Value, detail: impl fmt::Display) -> Self {
        Cause::new("FieldValueInvalid", field, format!("Invalid value: {value}: {detail}"))
    }

    /// `Required value` (`FieldValueRequired`).
    pub fn required(field: impl Into<String>, detail: &str) -> Self {
        let message = if detail.is_empty() { "Required value".into() } else { format!("Required value: {detail}") };
        Cause::new("FieldValueRequired", field, message)
    }

    /// `Forbidden` (`FieldValueForbidden`).
    pub fn forbidden(field: impl Into<String>, detail: impl fmt::Display) -> Self {
        Cause::new("FieldValueForbidden", field, format!("Forbidden: {detail}"))
    }

    /// `Unsupported value` (`FieldValueNotSupported`) with the values that would be accepted.
    pub fn not_supported(field: impl Into<String>, value: &serde_json::Value, supported: &[&str]) -> Self {
        let list = supported.iter().map(|v| format!("{v:?}")).collect::<Vec<_>>().join(", ");
        Cause::new("FieldValueNotSupported", field, format!("Unsupported value: {value}: supported values: {list}"))
    }
}

impl From<&FieldError> for Cause {
    fn from(error: &FieldError) -> Self {
        Cause::new(error.kind.reason(), error.field.clone(), error.body())
    }
}

impl From<FieldError> for Cause {
    fn from(error: FieldError) -> Self {
        Cause::from(&error)
    }
}

/// `metav1.StatusDetails`: what the failure is about.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StatusDetails {
    /// Name of the object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// API group, empty for core.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Resource (plural), or the kind for `Invalid`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// UID of the object, where known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// All causes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// Seconds after which a client should try again.
    #[serde(default, rename = "retryAfterSeconds", skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(default)]
    kind: String,
    #[serde(default, rename = "apiVersion")]
    api_version: String,
    #[serde(default)]
    metadata: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    status: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(default, skip_serializing_if = "Reason::is_unknown")]
    reason: Reason,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    details: Option<StatusDetails>,
    #[serde(default)]
    code: u16,
}

/// A failure, as kube-apiserver reports it. Serialises as `{"kind":"Status","apiVersion":"v1",...}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Wire", from = "Wire")]
pub struct StatusError {
    /// HTTP status code.
    pub code: u16,
    /// Machine readable reason.
    pub reason: Reason,
    /// For people; texts are Kubernetes'.
    pub message: String,
    /// What it is about.
    pub details: Option<Box<StatusDetails>>,
}

impl From<StatusError> for Wire {
    fn from(error: StatusError) -> Self {
        Wire {
            kind: "Status".into(),
            api_version: "v1".into(),
            metadata: serde_json::Map::new(),
            status: "Failure".into(),
            message: error.message,
            reason: error.reason,
            details: error.details.map(|d| *d),
            code: error.code,
        }
    }
}

impl From<Wire> for StatusError {
    fn from(wire: Wire) -> Self {
        StatusError { code: wire.code, reason: wire.reason, message: wire.message, details: wire.details.map(Box::new) }
    }
}

impl fmt::Display for StatusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StatusError {}

/// `resource.group`, or only the resource for the core group. The same for kinds.
pub fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

/// What a stale update says after `Operation cannot be fulfilled on ...: `.
pub const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

impl StatusError {
    /// A failure without details.
    pub fn new(code: u16, reason: Reason, message: impl Into<String>) -> Self {
        StatusError { code, reason, message: message.into(), details: None }
    }

    /// The same failure with these details.
    #[must_use]
    pub fn with_details(mut self, details: StatusDetails) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// The same failure, asking clients to wait this many seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_with(Box::default).retry_after_seconds = seconds;
        self
    }

    fn about(self, group: &str, kind: &str, name: &str) -> Self {
        self.with_details(StatusDetails {
            name: name.into(),
            group: group.into(),
            kind: kind.into(),
            ..StatusDetails::default()
        })
    }

    /// 404 `configmaps "x" not found`.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", qualified(group, resource));
        StatusError::new(404, Reason::NotFound, message).about(group, resource, name)
    }

    /// 404 for a path that is no resource: `the server could not find the requested resource`.
    pub fn no_such_resource() -> Self {
        StatusError::new(404, Reason::NotFound, "the server could not find the requested resource")
            .with_details(StatusDetails::default())
    }

    /// 409 `configmaps "x" already exists`.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", qualified(group, resource));
        StatusError::new(409, Reason::AlreadyExists, message).about(group, resource, name)
    }

    /// 409 after repeated attempts to make up a name from `generateName`.
    pub fn generate_name_conflict(group: &str, resource: &str, name: &str) -> Self {
        let message = format!(
            "{} \"{name}\" already exists, the server was not able to generate a unique name for the object",
            qualified(group, resource)
        );
        StatusError::new(409, Reason::AlreadyExists, message).about(group, resource, name).retry_after(1)
    }

    /// 409 `Operation cannot be fulfilled on configmaps "x": {why}`.
    pub fn conflict(group: &str, resource: &str, name: &str, why: impl fmt::Display) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", qualified(group, resource));
        StatusError::new(409, Reason::Conflict, message).about(group, resource, name)
    }

    /// 409 for a write with a resourceVersion that is no longer current.
    pub fn modified(group: &str, resource: &str, name: &str) -> Self {
        StatusError::conflict(group, resource, name, MODIFIED)
    }

    /// 409 for server-side apply; each cause is a `FieldManagerConflict`.
    pub fn apply_conflict(causes: Vec<Cause>, message: impl Into<String>) -> Self {
        StatusError::new(409, Reason::Conflict, message)
            .with_details(StatusDetails { causes, ..StatusDetails::default() })
    }

    /// 422 `MongoDB.acmedb.com "prod" is invalid: spec.tier: Unsupported value: ...`.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: Vec<Cause>) -> Self {
        let mut texts: Vec<String> = Vec::new();
        let causes = causes.into_iter().fold(Vec::new(), |mut known: Vec<Cause>, cause| {
            // schema and admission may both find the same fault
            if !known.contains(&cause) {
                known.push(cause);
            }
            known
        });
        for cause in &causes {
            let field = if cause.field.is_empty() { "<nil>" } else { &cause.field };
            let text = format!("{field}: {}", cause.message);
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let subject = qualified(group, kind);
        let message = match texts.as_slice() {
            [] => format!("{subject} \"{name}\" is invalid"),
            [one] => format!("{subject} \"{name}\" is invalid: {one}"),
            many => format!("{subject} \"{name}\" is invalid: [{}]", many.join(", ")),
        };
        StatusError::new(422, Reason::Invalid, message).with_details(StatusDetails {
            name: name.into(),
            group: group.into(),
            kind: kind.into(),
            causes,
            ..StatusDetails::default()
        })
    }

    /// 400 with this text.
    pub fn bad_request(message: impl Into<String>) -> Self {
        StatusError::new(400, Reason::BadRequest, message)
    }

    /// 401; `Unauthorized` is what kube-apiserver says to a request without valid credentials.
    pub fn unauthorized() -> Self {
        StatusError::new(401, Reason::Unauthorized, "Unauthorized")
    }

    /// 403 `configmaps "x" is forbidden: {why}`; with an empty resource `forbidden: {why}`.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: impl fmt::Display) -> Self {
        let message = match (resource.is_empty() && group.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{} is forbidden: {why}", qualified(group, resource)),
            (false, false) => format!("{} \"{name}\" is forbidden: {why}", qualified(group, resource)),
        };
        StatusError::new(403, Reason::Forbidden, message).about(group, resource, name)
    }

    /// 410 `Gone`.
    pub fn gone(message: impl Into<String>) -> Self {
        StatusError::new(410, Reason::Gone, message)
    }

    /// 410 `Expired` with this text.
    pub fn expired(message: impl Into<String>) -> Self {
        StatusError::new(410, Reason::Expired, message)
    }

    /// 410 `Expired` for a watch or list that starts at a compacted revision.
    pub fn too_old_resource_version(requested: u64, oldest: u64) -> Self {
        StatusError::expired(format!("too old resource version: {requested} ({oldest})"))
    }

    /// 410 `Expired` for a continue token whose revision was compacted.
    pub fn expired_continue() -> Self {
        StatusError::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.",
        )
    }

    /// 504 `Timeout` with cause `ResourceVersionTooLarge`, retry after 1 s.
    pub fn too_large_resource_version(requested: u64, current: u64) -> Self {
        let mut error = StatusError::timeout(format!("Too large resource version: {requested}, current: {current}"), 1);
        if let Some(details) = error.details.as_mut() {
            details.causes.push(Cause::new("ResourceVersionTooLarge", "", "Too large resource version"));
        }
        error
    }

    /// 504 `Timeout: {message}`.
    pub fn timeout(message: impl fmt::Display, retry_after: u32) -> Self {
        StatusError::new(504, Reason::Timeout, format!("Timeout: {message}"))
            .with_details(StatusDetails::default())
            .retry_after(retry_after)
    }

    /// 500 `ServerTimeout`: the operation may succeed when tried again.
    pub fn server_timeout(group: &str, resource: &str, operation: &str, retry_after: u32) -> Self {
        let message = format!(
            "The {operation} operation against {} could not be completed at this time, please try again.",
            qualified(group, resource)
        );
        StatusError::new(500, Reason::ServerTimeout, message).about(group, resource, operation).retry_after(retry_after)
    }

    /// 429.
    pub fn too_many_requests(message: impl Into<String>, retry_after: u32) -> Self {
        StatusError::new(429, Reason::TooManyRequests, message).retry_after(retry_after)
    }

    /// 503.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        StatusError::new(503, Reason::ServiceUnavailable, message)
    }

    /// 413 `Request entity too large: {message}`.
    pub fn request_entity_too_large(message: impl fmt::Display) -> Self {
        StatusError::new(413, Reason::RequestEntityTooLarge, format!("Request entity too large: {message}"))
    }

    /// 405 `create is not supported on resources of kind "bindings"`.
    pub fn method_not_supported(group: &str, resource: &str, action: &str) -> Self {
        let message = format!("{action} is not supported on resources of kind \"{}\"", qualified(group, resource));
        StatusError::new(405, Reason::MethodNotAllowed, message).about(group, resource, "")
    }

    /// 405 for a path that exists but does not take this HTTP method.
    pub fn method_not_allowed() -> Self {
        StatusError::new(
            405,
            Reason::MethodNotAllowed,
            "the server does not allow this method on the requested resource",
        )
        .with_details(StatusDetails::default())
    }

    /// 406; `accepted` are the media types this path can answer with.
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", accepted.join(", "));
        StatusError::new(406, Reason::NotAcceptable, message)
    }

    /// 415; `accepted` are the media types this path can read.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        StatusError::new(415, Reason::UnsupportedMediaType, message)
    }

    /// 500 `Internal error occurred: {why}`.
    pub fn internal(why: impl fmt::Display) -> Self {
        let why = why.to_string();
        StatusError::new(500, Reason::InternalError, format!("Internal error occurred: {why}")).with_details(
            StatusDetails { causes: vec![Cause { message: why, ..Cause::default() }], ..StatusDetails::default() },
        )
    }

    /// The name, group, kind and causes, where there are any.
    pub fn causes(&self) -> &[Cause] {
        self.details.as_ref().map_or(&[], |d| d.causes.as_slice())
    }

    /// Whether a cause of this kind is among the details.
    pub fn has_cause(&self, reason: &str) -> bool {
        self.causes().iter().any(|c| c.reason == reason)
    }

    /// The `Status` object as JSON.
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// The `Status` object as the bytes of an answer.
    pub fn to_bytes(&self) -> bytes::Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn serialises_as_kubernetes_does() {
        let error = StatusError::not_found("", "configmaps", "x");
        assert_eq!(
            error.to_value(),
            json!({"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",
                "message":"configmaps \"x\" not found","reason":"NotFound",
                "details":{"name":"x","kind":"configmaps"},"code":404})
        );
        let back: StatusError = serde_json::from_value(error.to_value()).unwrap();
        assert_eq!(back, error);
    }

    #[test]
    fn words_invalid_objects() {
        let one = StatusError::invalid(
            "acmedb.com",
            "MongoDB",
            "prod",
            vec![Cause::not_supported("spec.tier", &json!("Mega"), &["Dedicated", "Shared"])],
        );
        assert_eq!(
            one.message,
            "MongoDB.acmedb.com \"prod\" is invalid: spec.tier: Unsupported value: \"Mega\": supported values: \"Dedicated\", \"Shared\""
        );
        let two = StatusError::invalid(
            "",
            "Service",
            "s",
            vec![
                Cause::required("spec.ports", ""),
                Cause::required("metadata.name", "name or generateName is required"),
            ],
        );
        assert_eq!(
            two.message,
            "Service \"s\" is invalid: [spec.ports: Required value, metadata.name: Required value: name or generateName is required]"
        );
    }

    #[test]
    fn tells_clients_to_wait_for_a_future_revision() {
        let error = StatusError::too_large_resource_version(10, 5);
        assert_eq!(error.code, 504);
        assert!(error.has_cause("ResourceVersionTooLarge"));
        assert_eq!(error.details.unwrap().retry_after_seconds, 1);
    }

    #[test]
    fn an_unknown_reason_is_read_without_failing() {
        let back: StatusError =
            serde_json::from_value(json!({"kind":"Status","code":418,"reason":"Teapot","message":"m"})).unwrap();
        assert_eq!((back.code, back.reason), (418, Reason::Other));
    }
}
