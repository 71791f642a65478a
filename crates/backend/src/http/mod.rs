//! The HTTP side: routes, and what every handler shares.
//!
//! ```text
//!  browser ──► provider (pages, BindingProvider) ──► authorize ◄──► issuer
//!     │            │ bind form                          │ callback: cookie or code
//!  kubectl-bind ───┴──► redeem / api (bearer token) ────┴──► catalogue, bind, contracts
//! ```
//!
//! In: requests of browsers and command lines (ours and the Go release's). Out: pages, redirects, and the wire's JSON.
//! Called by [`crate::run`].

pub mod access;
pub mod api;
pub mod authorize;
pub mod certificate;
pub mod exports;
pub mod manifests;
pub mod redeem;
pub mod serve;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use parking_lot::Mutex;
use program::Probed as _;
use program::probes::readiness;
use url::Url;

use crate::contracts::Issuing;
use crate::error::ApiError;
use crate::identity::oidc::RelyingParty;
use crate::metrics::{self, Metrics};
use crate::pages;
use crate::seal::Sealer;

/// Largest request body in bytes.
pub const MAX_BODY: usize = 1 << 20;

/// What every handler works with. All of it is the same in every replica.
pub struct App {
    /// Connection to the provider's API server with the backend's own rights.
    pub api: kube_client::Api,
    /// How contracts are made here.
    pub issuing: Issuing,
    /// The relying party.
    pub relying: RelyingParty,
    /// Seals what travels.
    pub sealer: Sealer,
    /// Our own URL without path, if it is known.
    pub base: Option<Url>,
    /// Whether the listener speaks TLS.
    pub tls: bool,
    /// Believe `X-Forwarded-*`.
    pub trust_forwarded: bool,
    /// The registered callback, if it is not `<base>/api/callback`.
    pub callback: Option<Url>,
    /// Lifetime of sessions and bearer tokens.
    pub token_expiry: Duration,
    /// Image of the agent without tag.
    pub konnector_image: String,
    /// Version as clients compare it.
    pub version: String,
    /// The current time.
    pub clock: fn() -> Timestamp,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Ids that were used; a help within one replica, beside the short lifetime and the verifier.
    pub used: UsedOnce,
}

impl App {
    /// The current time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Our own URL as the client sees it.
    ///
    /// # Errors
    /// 400 if it is neither configured nor to be had from the request.
    pub fn base(&self, headers: &HeaderMap) -> Result<Url, ApiError> {
        if let Some(base) = &self.base {
            return Ok(base.clone());
        }
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let forwarded = |name| if self.trust_forwarded { text(name) } else { None };
        let scheme = match forwarded("x-forwarded-proto") {
            Some("https") => "https",
            Some("http") => "http",
            _ if self.tls => "https",
            _ => "http",
        };
        let host = forwarded("x-forwarded-host").or_else(|| text("host")).unwrap_or_default();
        Url::parse(&format!("{scheme}://{host}/"))
            .ok()
            .filter(|url| url.path() == "/" && url.query().is_none() && url.username().is_empty())
            .ok_or_else(|| ApiError::bad_request("Invalid Host header", "set --external-url on the provider's side"))
    }

    /// The callback registered with the issuer.
    ///
    /// # Errors
    /// As [`App::base`].
    pub fn callback(&self, headers: &HeaderMap) -> Result<Url, ApiError> {
        if let Some(url) = &self.callback {
            return Ok(url.clone());
        }
        let mut url = self.base(headers)?;
        url.set_path("/api/callback");
        Ok(url)
    }
}

/// Remembers ids until they would have expired anyway.
#[derive(Debug, Default)]
pub struct UsedOnce {
    seen: Mutex<HashMap<String, i64>>,
}

impl UsedOnce {
    /// Whether this is the first use of `id`; it is remembered for `lifetime`.
    pub fn first(&self, id: &str, now: Timestamp, lifetime: Duration) -> bool {
        let mut seen = self.seen.lock();
        let second = now.as_second();
        seen.retain(|_, until| *until >= second);
        let until = second.saturating_add(i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX));
        seen.insert(id.to_owned(), until).is_none()
    }
}

/// Query parameters; the first of a name counts, unknown ones are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(HashMap<String, String>);

impl Query {
    /// Reads a raw query string.
    #[must_use]
    pub fn parse(raw: Option<&str>) -> Self {
        let mut map = HashMap::new();
        for (key, value) in url::form_urlencoded::parse(raw.unwrap_or_default().as_bytes()) {
            map.entry(key.into_owned()).or_insert_with(|| value.into_owned());
        }
        Self(map)
    }

    /// A parameter; empty if it is absent.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// Whether a boolean parameter is on.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.get(name), "true" | "1")
    }
}

/// What a client would rather have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// A page.
    Html,
    /// JSON, asked for by name.
    Json,
    /// No preference.
    Any,
}

/// Reads `Accept`.
#[must_use]
pub fn wants(headers: &HeaderMap) -> Wants {
    let (mut html, mut json) = (0.0_f32, 0.0_f32);
    for value in headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()) {
        for part in value.split(',') {
            let mut pieces = part.split(';').map(str::trim);
            let kind = pieces.next().unwrap_or_default().to_ascii_lowercase();
            let q = pieces.find_map(|p| p.strip_prefix("q=")).and_then(|q| q.parse().ok()).unwrap_or(1.0_f32);
            match kind.as_str() {
                "text/html" | "application/xhtml+xml" => html = html.max(q),
                "application/json" => json = json.max(q),
                _ => {}
            }
        }
    }
    if html > 0.0 && html >= json {
        Wants::Html
    } else if json > 0.0 {
        Wants::Json
    } else {
        Wants::Any
    }
}

/// The refusal in the form the client reads: a page for browsers, the wire's JSON otherwise.
#[must_use]
pub fn refuse(headers: &HeaderMap, error: ApiError) -> Response {
    if wants(headers) == Wants::Html { pages::refusal(&error).into_response() } else { error.into_response() }
}

async fn no_cache(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate, max-age=0"));
    headers.insert(header::EXPIRES, HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 UTC"));
    headers.insert("x-accel-expires", HeaderValue::from_static("0"));
    response
}

/// Nothing of ours may be framed, sniffed, or leak its URL.
async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert("x-frame-options", HeaderValue::from_static("DENY"));
    headers.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ));
    response
}

async fn lost(State(_): State<Arc<App>>, request: Request) -> Response {
    let error = ApiError::not_found(
        "There is nothing under this URL",
        format!("{} is not a URL of this provider; its offerings are under /exports", request.uri().path()),
    );
    refuse(request.headers(), error)
}

/// All routes.
pub fn router(app: Arc<App>) -> Router {
    let metrics = app.metrics.clone();
    let uncached = Router::new()
        .route("/api/healthz", get(|| async { StatusCode::OK }))
        .route("/api/konnector-manifests", get(manifests::konnector))
        .route("/api/logout", post(authorize::logout))
        .route("/api/templates", get(api::templates))
        .route("/api/collections", get(api::collections))
        .route("/api/bind", post(api::bind))
        .route("/api/ping", get(api::ping))
        .route("/api/consumer-status", get(api::consumer_status))
        .route("/api/redeem", post(redeem::redeem))
        .route("/api/release", post(api::release))
        .route("/api/authorize", get(authorize::authorize_get).post(authorize::authorize_post))
        .route("/api/callback", get(authorize::callback))
        .route("/", get(exports::root))
        .route("/exports", get(exports::root))
        .route("/export", get(exports::root))
        .route("/kubernetes", get(exports::root))
        // What was bound is shown without the trailing slash, but people type it.
        .route("/exports/", get(exports::root))
        .route("/export/", get(exports::root))
        .route("/kubernetes/", get(exports::root))
        .route("/exports/{name}", get(exports::named).post(exports::agree))
        .layer(middleware::from_fn(no_cache));
    Router::new()
        .merge(probes(metrics.clone()))
        .route("/api/exports", get(exports::api_exports))
        .route("/api/bindable-resources", get(api::bindable_resources))
        .route("/assets/style.css", get(pages::stylesheet))
        .merge(uncached)
        .fallback(lost)
        .layer(axum::extract::DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn(harden))
        .layer(middleware::from_fn_with_state(metrics, metrics::observe))
        .with_state(app)
}

/// The routes that remain with `--frontend-disabled`.
pub fn health_only(metrics: Arc<Metrics>) -> Router {
    probes(metrics.clone()).layer(middleware::from_fn_with_state(metrics, metrics::observe))
}

/// What load balancers ask; metrics are not for everybody who reaches this listener.
fn probes<S: Clone + Send + Sync + 'static>(metrics: Arc<Metrics>) -> Router<S> {
    let ready = move || async move {
        let (ready, text) = readiness(&metrics.checks());
        (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text)
    };
    Router::new().route("/healthz", get(|| async { "ok" })).route("/readyz", get(ready))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(text: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(text));
        headers
    }

    #[test]
    fn browsers_get_pages_and_programs_get_json() {
        assert_eq!(wants(&accept("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")), Wants::Html);
        assert_eq!(wants(&accept("application/json")), Wants::Json);
        assert_eq!(wants(&accept("application/json, text/html;q=0.5")), Wants::Json);
        assert_eq!(wants(&accept("*/*")), Wants::Any);
        assert_eq!(wants(&HeaderMap::new()), Wants::Any);
    }

    #[test]
    fn the_first_parameter_of_a_name_counts() {
        let query = Query::parse(Some("a=1&a=2&dry_run=true"));
        assert_eq!(query.get("a"), "1");
        assert_eq!(query.get("b"), "");
        assert!(query.flag("dry_run"));
    }

    #[test]
    fn an_id_is_used_once() {
        let used = UsedOnce::default();
        let now = Timestamp::from_second(1000).unwrap();
        assert!(used.first("a", now, Duration::from_secs(10)));
        assert!(!used.first("a", now, Duration::from_secs(10)));
        assert!(used.first("a", Timestamp::from_second(1011).unwrap(), Duration::from_secs(10)));
    }
}
