//! Answers: JSON or YAML, `Status` errors, `Warning` headers.

use apimachinery::status::StatusError;
use axum::body::Body as HttpBody;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use serde_json::Value;

use super::negotiate::Output;
use crate::pipeline::body::Format;

const WARNING: HeaderName = HeaderName::from_static("warning");

/// Bytes of a media type.
pub(super) fn bytes(code: u16, media_type: &str, body: impl Into<HttpBody>) -> Response<HttpBody> {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(media_type) {
        headers.insert(CONTENT_TYPE, value);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// A JSON value.
pub(super) fn json(code: u16, value: &Value) -> Response<HttpBody> {
    bytes(code, "application/json", serde_json::to_vec(value).unwrap_or_default())
}

/// A JSON value in the format the client asked for.
pub(super) fn value(code: u16, output: &Output, value: &Value) -> Response<HttpBody> {
    match output.format {
        Format::Json | Format::Protobuf => json(code, value),
        Format::Yaml => bytes(code, "application/yaml", apimachinery::yaml::write(value)),
    }
}

/// JSON text in the format the client asked for.
pub(super) fn text(code: u16, output: &Output, text: Bytes) -> Response<HttpBody> {
    match output.format {
        Format::Json | Format::Protobuf => bytes(code, "application/json", text),
        Format::Yaml => value(code, output, &serde_json::from_slice(&text).unwrap_or_default()),
    }
}

/// An error.
pub(super) fn error(error: &StatusError) -> Response<HttpBody> {
    let mut response = bytes(error.code, "application/json", error.to_bytes());
    let wait = error.details.as_ref().map_or(0, |d| d.retry_after_seconds);
    if wait > 0 {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait));
    }
    response
}

/// Adds `Warning` headers (RFC 7234, code 299).
pub(super) fn warn(response: &mut Response<HttpBody>, texts: &[String]) {
    for text in texts {
        let quoted: String = text
            .chars()
            .flat_map(|c| match c {
                '"' | '\\' => vec!['\\', c],
                c if c.is_control() => vec![' '],
                c => vec![c],
            })
            .collect();
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            response.headers_mut().append(WARNING, value);
        }
    }
}
