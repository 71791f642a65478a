//! What the service tells of itself: readiness and metrics. In: requests, logins and reconciles as they happen, and the
//! controllers' stores, asked at each scrape. Out: checks and OpenMetrics text for [`program::probes`] and `/readyz`.
//!
//! Label values come from closed sets: routes, methods, status codes, controllers, outcomes. What consumers name is not
//! among them.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use kube_client::{Outcome, election::Standing};
use parking_lot::Mutex;
use program::{Check, Probed};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::controllers::World;

/// Upper bounds of durations, seconds.
const SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Asked {
    route: String,
    method: &'static str,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Route {
    route: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Login {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reconcile {
    controller: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Controller {
    controller: &'static str,
}

type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

/// How a login ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginOutcome {
    /// The person is known now.
    Ok,
    /// The issuer or the person said no.
    Denied,
    /// What came back was not acceptable: state, code or id_token.
    Refused,
    /// The issuer or we could not.
    Failed,
}

impl LoginOutcome {
    const ALL: [Self; 4] = [Self::Ok, Self::Denied, Self::Refused, Self::Failed];

    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Denied => "denied",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// The controllers of a leader.
struct Leading {
    world: Weak<World>,
    unsynced: Box<dyn Fn() -> Vec<&'static str> + Send + Sync>,
}

/// What is counted and known of the service.
pub struct Metrics {
    requests: Family<Asked, Counter>,
    durations: Durations<Route>,
    logins: Family<Login, Counter>,
    reconciles: Family<Reconcile, Counter>,
    reconcile_durations: Durations<Controller>,
    restarts: Arc<AtomicU64>,
    leading: Mutex<Option<Leading>>,
    /// What is known of the Lease; `None` where there is only one replica.
    pub standing: watch::Sender<Standing>,
    elected: bool,
    stopping: AtomicBool,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").field("standing", &*self.standing.borrow()).finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(false)
    }
}

impl Metrics {
    /// `elected`: there is a Lease.
    #[must_use]
    pub fn new(elected: bool) -> Self {
        let logins = Family::default();
        for outcome in LoginOutcome::ALL {
            let _ = logins.get_or_create(&Login { outcome: outcome.name() });
        }
        Self {
            requests: Family::default(),
            durations: Durations::new_with_constructor(|| Histogram::new(SECONDS)),
            logins,
            reconciles: Family::default(),
            reconcile_durations: Durations::new_with_constructor(|| Histogram::new(SECONDS)),
            restarts: Arc::default(),
            leading: Mutex::new(None),
            standing: watch::channel(Standing::default()).0,
            elected,
            stopping: AtomicBool::new(false),
        }
    }

    /// A login ended.
    pub fn login(&self, outcome: LoginOutcome) {
        self.logins.get_or_create(&Login { outcome: outcome.name() }).inc();
    }

    /// A reconcile ended.
    pub fn reconciled(&self, controller: &'static str, outcome: Outcome, took: Duration) {
        let result = match outcome {
            Outcome::Done => "done",
            Outcome::After(_) => "later",
            Outcome::Retry | Outcome::RetryAfter(_) => "retry",
        };
        self.reconciles.get_or_create(&Reconcile { controller, result }).inc();
        self.reconcile_durations.get_or_create(&Controller { controller }).observe(took.as_secs_f64());
    }

    /// Counts watches that broke.
    #[must_use]
    pub fn restarts(&self) -> Arc<AtomicU64> {
        self.restarts.clone()
    }

    /// The controllers run; `unsynced` names the kinds that are not listed yet.
    pub fn leads(&self, world: &Arc<World>, unsynced: impl Fn() -> Vec<&'static str> + Send + Sync + 'static) {
        *self.leading.lock() = Some(Leading { world: Arc::downgrade(world), unsynced: Box::new(unsynced) });
    }

    /// The controllers do not run any more.
    pub fn led(&self) {
        *self.leading.lock() = None;
    }

    /// The end has begun.
    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn leading(&self) -> bool {
        !self.elected || self.standing.borrow().leading
    }
}

/// Counts a request by the route that it matched: what clients make up is one route.
pub async fn observe(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let method = match request.method().as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        _ => "other",
    };
    let started = Instant::now();
    let response = next.run(request).await;
    metrics.durations.get_or_create(&Route { route: route.clone() }).observe(started.elapsed().as_secs_f64());
    metrics.requests.get_or_create(&Asked { route, method, status: response.status().as_u16() }).inc();
    response
}

impl Probed for Metrics {
    fn checks(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        if self.elected {
            let standing = self.standing.borrow().clone();
            let answered = standing.answered.map(|answered| answered.elapsed());
            checks.push(Check::answers("provider cluster", answered, standing.trouble.as_deref()));
            checks.push(Check::lease(standing.leading, &standing.holder, "this replica", "the controllers run there"));
        }
        if self.leading() {
            let missing = self.leading.lock().as_ref().map(|leading| (leading.unsynced)());
            checks.push(match missing {
                None => Check::lacking("controllers", "not started yet"),
                Some(missing) if missing.is_empty() => Check::good("controllers", "run"),
                Some(missing) => Check::lacking("controllers", format!("not listed yet: {}", missing.join(", "))),
            });
        }
        if self.stopping.load(Ordering::Relaxed) {
            checks.push(Check::lacking("shutdown", "has begun"));
        }
        checks
    }

    fn metrics(&self) -> String {
        let mut registry = Registry::with_prefix("kube_bind_backend");
        registry.register("build", "Version of this service", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let leading: Gauge = Gauge::default();
        leading.set(self.leading().into());
        registry.register("leading", "Whether this replica runs the controllers", leading);
        registry.register(
            "http_requests",
            "Requests by route, method and status; what matches no route is other",
            self.requests.clone(),
        );
        registry.register("http_request_seconds", "Time to answer a request, by route", self.durations.clone());
        registry.register(
            "logins",
            "Logins by outcome: ok, denied (by the issuer or the person), refused (state, code or id_token not \
             acceptable) or failed (the issuer or this service could not)",
            self.logins.clone(),
        );
        registry.register(
            "reconciles",
            "Reconciles by controller and result: done, later (looked at again in time) or retry (did not get through)",
            self.reconciles.clone(),
        );
        registry.register(
            "reconcile_seconds",
            "Time that a reconcile takes, by controller",
            self.reconcile_durations.clone(),
        );
        let restarts: Counter = Counter::default();
        restarts.inc_by(self.restarts.load(Ordering::Relaxed));
        registry.register("watch_restarts", "Watches that broke and were begun anew", restarts);
        // Only the leader knows these; from a standby they would be zeros that look like a disaster.
        let world = self.leading.lock().as_ref().and_then(|leading| leading.world.upgrade());
        if let Some(world) = world {
            let mut gauge = |name: &str, help: &str, count: usize| {
                let gauge: Gauge = Gauge::default();
                gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
                registry.register(name, help, gauge);
            };
            gauge("contracts", "Contracts with consumers (told by the leader)", world.bindings.len());
            gauge("exports", "Exports of all contracts (told by the leader)", world.exports.len());
            gauge("mapped_namespaces", "Namespaces of consumers (told by the leader)", world.mapped.len());
            gauge("templates", "Export templates (told by the leader)", world.templates.len());
            let depth = world.queue.depth();
            gauge("queue_depth", "Keys that wait for a worker (told by the leader)", depth.ready);
            gauge("failing", "Keys whose last reconcile did not get through (told by the leader)", depth.failing);
        }
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use program::probes::readiness;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn requests_are_counted_by_route_and_not_by_what_clients_make_up() {
        let metrics = Arc::new(Metrics::default());
        let router: Router = Router::new()
            .route("/exports/{name}", get(|| async { "ok" }))
            .fallback(|| async { http::StatusCode::NOT_FOUND })
            .layer(axum::middleware::from_fn_with_state(metrics.clone(), observe));
        for path in ["/exports/a", "/exports/b", "/made-up-1", "/made-up-2"] {
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            router.clone().oneshot(request).await.unwrap();
        }
        let text = metrics.metrics();
        for line in [
            "kube_bind_backend_http_requests_total{route=\"/exports/{name}\",method=\"GET\",status=\"200\"} 2",
            "kube_bind_backend_http_requests_total{route=\"other\",method=\"GET\",status=\"404\"} 2",
            "kube_bind_backend_logins_total{outcome=\"denied\"} 0",
            "# HELP kube_bind_backend_http_request_seconds Time to answer a request, by route",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("made-up") && !text.contains("kube_bind_backend_contracts"), "{text}");
    }

    #[test]
    fn a_standby_is_ready_and_a_leader_needs_its_controllers() {
        let metrics = Metrics::new(true);
        assert!(!readiness(&metrics.checks()).0, "the API server has not answered");
        let answered = Standing { holder: "other".into(), answered: Some(Instant::now()), ..Standing::default() };
        metrics.standing.send_replace(answered);
        let (ready, text) = readiness(&metrics.checks());
        assert!(ready && text.contains("held by other"), "{text}");
        metrics.standing.send_modify(|standing| standing.leading = true);
        let (ready, text) = readiness(&metrics.checks());
        assert!(!ready && text.contains("[-] controllers: not started yet"), "{text}");
    }
}
