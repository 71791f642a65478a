//! Paths that are no API resource: health, version, discovery, OpenAPI, metrics.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use apimachinery::status::StatusError;
use axum::body::Body as HttpBody;
use http::{Method, Response};

use super::{Front, Request, discovery, respond};

impl Front {
    pub(super) fn plain(&self, request: &Request<'_>) -> Result<Response<HttpBody>, StatusError> {
        if !matches!(*request.method, Method::GET | Method::HEAD) {
            return Err(StatusError::method_not_allowed());
        }
        let path = request.path.trim_end_matches('/');
        match path {
            "/metrics" => {
                return Ok(respond::bytes(200, "text/plain; version=0.0.4", self.metrics()));
            }
            _ if ["/healthz", "/livez", "/readyz"].iter().any(|p| path == *p || path.starts_with(&format!("{p}/"))) => {
                return Ok(respond::bytes(200, "text/plain; charset=utf-8", "ok"));
            }
            _ => {}
        }
        discovery::answer(request)
    }

    fn metrics(&self) -> String {
        let mut out = String::new();
        let mut metric = |name: &str, kind: &str, help: &str, value: u64| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        };
        let counters = &self.counters;
        let objects: usize = self.core.store.counts().iter().map(|(_, n)| n).sum();
        metric("apiserver_requests_total", "counter", "Requests answered.", counters.requests.load(Ordering::Relaxed));
        metric(
            "apiserver_failures_total",
            "counter",
            "Requests answered with an error.",
            counters.failures.load(Ordering::Relaxed),
        );
        metric("apiserver_watches_total", "counter", "Watches begun.", counters.watches.load(Ordering::Relaxed));
        metric("apiserver_storage_objects", "gauge", "Stored objects.", objects as u64);
        metric("apiserver_logical_clusters", "gauge", "Logical clusters.", self.core.clusters.names().len() as u64);
        metric("apiserver_revision", "counter", "The last committed revision.", self.core.store.revision());
        out
    }
}
