//! Discovery: what is served, and how to ask for it.
//!
//! Flows in: a [`Catalog`] and the `Accept` header. Flows out: `/api`, `/apis` and the lists below them (for old clients),
//! the aggregated form of both (for clients that ask for it), `/version`, the list of paths, and the OpenAPI documents.
//! Everything is a pure function of the catalogue; OpenAPI documents are kept while they are in use
//! (`documents`).

mod aggregated;
mod documents;
mod legacy;

use apimachinery::status::StatusError;
use axum::body::Body as HttpBody;
use http::header::{CACHE_CONTROL, ETAG, EXPIRES, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, Response};
use serde_json::{Value, json};

use super::negotiate::{MediaRange, accepted};
use super::{Request, openapi_v3, respond};
use crate::registry::Catalog;
use documents::{Document, Format};

pub use aggregated::aggregated;
pub use legacy::{api_versions, group, group_list, resource_list};

/// The version of the Kubernetes API that is served.
pub const KUBERNETES_VERSION: &str = "v1.36.3";

/// Answers every path that is neither a resource nor about the server itself.
pub(super) fn answer(request: &Request<'_>) -> Result<Response<HttpBody>, StatusError> {
    let catalog = &request.catalog;
    let host = request.headers.get("host").and_then(|h| h.to_str().ok()).unwrap_or_default();
    let ranges = accepted(request.headers);
    let path = request.path.trim_matches('/');
    let parts: Vec<&str> = if path.is_empty() { Vec::new() } else { path.split('/').collect() };
    let value = match parts.as_slice() {
        [] => json!({"paths": paths(catalog)}),
        ["version"] => version(),
        ["api"] => return discovery(request, &ranges, true, || api_versions(host)),
        ["apis"] => return discovery(request, &ranges, false, || group_list(catalog)),
        ["api", version] => resource_list(catalog, "", version).ok_or_else(StatusError::no_such_resource)?,
        ["apis", name] => group(catalog, name).ok_or_else(StatusError::no_such_resource)?,
        ["apis", group, version] if !group.is_empty() => {
            resource_list(catalog, group, version).ok_or_else(StatusError::no_such_resource)?
        }
        ["openapi", "v2"] => return openapi_v2(request, &ranges),
        ["openapi", "v3"] => openapi_v3::index(catalog),
        ["openapi", "v3", "api", version] => {
            return openapi_document(request, &ranges, "", version);
        }
        ["openapi", "v3", "apis", group, version] => {
            return openapi_document(request, &ranges, group, version);
        }
        _ => return Err(StatusError::no_such_resource()),
    };
    negotiated_json(request.headers, &ranges, &value)
}

/// JSON with an entity tag, so that clients' caches work.
fn negotiated_json(
    headers: &HeaderMap,
    ranges: &[MediaRange],
    value: &Value,
) -> Result<Response<HttpBody>, StatusError> {
    let readable = |r: &MediaRange| matches!(r.media_type.as_str(), "application/json" | "application/*" | "*/*");
    if !ranges.iter().any(readable) {
        if ranges.iter().any(|r| r.media_type == "application/yaml") {
            return Ok(respond::bytes(200, "application/yaml", apimachinery::yaml::write(value)));
        }
        return Err(StatusError::not_acceptable(&["application/json", "application/yaml"]));
    }
    let body = serde_json::to_vec(value).unwrap_or_default();
    Ok(tagged(headers, "application/json", &documents::tag(&body), body))
}

/// An answer with an entity tag; 304 where the client has it already.
fn tagged(headers: &HeaderMap, media_type: &str, tag: &str, body: impl Into<HttpBody>) -> Response<HttpBody> {
    let quoted = format!("\"{tag}\"");
    let known = headers.get(IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    let unchanged = known.is_some_and(|known| known.split(',').any(|t| t.trim().trim_start_matches("W/") == quoted));
    let mut response = if unchanged {
        respond::bytes(304, media_type, HttpBody::empty())
    } else {
        respond::bytes(200, media_type, body)
    };
    if let Ok(value) = HeaderValue::from_str(&quoted) {
        response.headers_mut().insert(ETAG, value);
    }
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public"));
    response
}

/// `/api` and `/apis`: the aggregated form in the first version the client names, else the old one.
fn discovery(
    request: &Request<'_>,
    ranges: &[MediaRange],
    core: bool,
    legacy: impl FnOnce() -> Value,
) -> Result<Response<HttpBody>, StatusError> {
    for range in ranges {
        match (range.media_type.as_str(), range.param("as")) {
            ("application/json", Some("APIGroupDiscoveryList")) if range.param("g") == Some("apidiscovery.k8s.io") => {
                let Some(version @ ("v2" | "v2beta1")) = range.param("v") else {
                    continue;
                };
                let body = serde_json::to_vec(&aggregated(&request.catalog, core, version)).unwrap_or_default();
                let media_type = format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
                return Ok(tagged(request.headers, &media_type, &documents::tag(&body), body));
            }
            ("application/json" | "application/*" | "*/*" | "application/yaml", None) => break,
            _ => {}
        }
    }
    negotiated_json(request.headers, ranges, &legacy())
}

fn openapi_v2(request: &Request<'_>, ranges: &[MediaRange]) -> Result<Response<HttpBody>, StatusError> {
    let format = ranges.iter().find_map(|range| match range.media_type.as_str() {
        // kubectl asks with an `@`, which is no legal media type to answer with
        "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
        | "application/com.github.proto-openapi.spec.v2.v1.0+protobuf" => Some(Format::Protobuf),
        "application/json" | "application/*" | "*/*" => Some(Format::Json),
        _ => None,
    });
    let format = format.ok_or_else(|| {
        StatusError::not_acceptable(&["application/json", "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"])
    })?;
    let Document { body, tag } = documents::openapi_v2(&request.catalog, format);
    let media_type = match format {
        Format::Json => "application/json",
        Format::Protobuf => "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
    };
    Ok(tagged(request.headers, media_type, &tag, body))
}

fn openapi_document(
    request: &Request<'_>,
    ranges: &[MediaRange],
    group: &str,
    version: &str,
) -> Result<Response<HttpBody>, StatusError> {
    let json = |r: &MediaRange| matches!(r.media_type.as_str(), "application/json" | "application/*" | "*/*");
    let document = documents::openapi_v3(&request.catalog, group, version).ok_or_else(StatusError::no_such_resource)?;
    if !ranges.iter().any(json) {
        return Err(StatusError::not_acceptable(&["application/json"]));
    }
    let Document { body, tag } = document;
    let mut response = tagged(request.headers, "application/json", &tag, body);
    if request.query.get("hash").is_some_and(|hash| hash == tag) {
        // the address changes with the content, so clients may keep it for ever
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
        response.headers_mut().insert(EXPIRES, HeaderValue::from_static("Thu, 31 Dec 2037 23:55:55 GMT"));
    }
    Ok(response)
}

/// `/version`.
pub fn version() -> Value {
    let mut numbers = KUBERNETES_VERSION.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let platform = format!("{}/{}", std::env::consts::OS, platform_arch());
    json!({
        "major": major,
        "minor": minor,
        "gitVersion": format!("{KUBERNETES_VERSION}+kube-bind.{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": platform,
    })
}

/// The architecture as Go calls it, which is what clients compare.
fn platform_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The paths that `/` lists.
fn paths(catalog: &Catalog) -> Vec<String> {
    let fixed = [
        "/api",
        "/api/v1",
        "/apis",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/readyz",
        "/version",
    ];
    let mut paths: Vec<String> = fixed.iter().map(|p| (*p).to_owned()).collect();
    for (name, versions) in catalog.groups() {
        paths.push(format!("/apis/{name}"));
        paths.extend(versions.iter().map(|version| format!("/apis/{name}/{version}")));
    }
    paths.sort_unstable();
    paths
}
