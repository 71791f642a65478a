//! Refusals as clients read them.
//!
//! In: what went wrong. Out: the wire's JSON `Error` (reference §1.4) for programs, a page for people. Called by every
//! HTTP handler; the texts name the object, the side and the mend.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use kube_bind_api::wire;
pub use kube_bind_api::wire::ErrorCode;
use kube_client::Class;

/// A refusal: status, wire code, a sentence, and what is behind it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {details}")]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// Wire code.
    pub code: ErrorCode,
    /// A sentence for people.
    pub message: String,
    /// The cause, as precisely as may be said.
    pub details: String,
}

impl ApiError {
    /// Any refusal.
    pub fn new(status: StatusCode, code: ErrorCode, message: impl Into<String>, details: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), details: details.into() }
    }

    /// 401.
    pub fn unauthenticated(details: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, ErrorCode::AuthenticationFailed, "Authentication required", details)
    }

    /// 403.
    pub fn forbidden(message: impl Into<String>, details: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, ErrorCode::AuthorizationFailed, message, details)
    }

    /// 404.
    pub fn not_found(message: impl Into<String>, details: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, ErrorCode::ResourceNotFound, message, details)
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>, details: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorCode::BadRequest, message, details)
    }

    /// 409.
    pub fn conflict(message: impl Into<String>, details: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, ErrorCode::BadRequest, message, details)
    }

    /// 500.
    pub fn internal(message: impl Into<String>, details: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::InternalError, message, details)
    }

    /// What an error of the provider's API server means to the client (reference §2.1).
    pub fn from_kube(message: impl Into<String>, err: &kube_client::ApiError) -> Self {
        let (status, code) = match err.class {
            Class::NotFound => (StatusCode::NOT_FOUND, ErrorCode::ResourceNotFound),
            Class::Unauthorized => (StatusCode::UNAUTHORIZED, ErrorCode::AuthenticationFailed),
            Class::Forbidden => (StatusCode::FORBIDDEN, ErrorCode::AuthorizationFailed),
            Class::Invalid if err.code == 400 => (StatusCode::BAD_REQUEST, ErrorCode::BadRequest),
            Class::Unreachable => (StatusCode::BAD_GATEWAY, ErrorCode::ClusterConnectionFailed),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::InternalError),
        };
        Self::new(status, code, message, err.to_string())
    }

    /// The JSON body.
    #[must_use]
    pub fn body(&self) -> wire::Error {
        wire::Error::new(self.code, self.message.clone(), Some(self.details.clone()))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            tracing::error!(status = self.status.as_u16(), message = %self.message, details = %self.details, "request failed");
        }
        (self.status, Json(self.body())).into_response()
    }
}
