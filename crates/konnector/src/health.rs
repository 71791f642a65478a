//! What the agent tells of itself: readiness and metrics. In: writes as they happen, and what runs, asked at each scrape.
//! Out: checks and OpenMetrics text for [`program::probes`].
//!
//! Label values come from a closed set, or from what is bound here: kinds, bindings and Secrets. What goes takes its
//! gauges along, because they are read from what runs and kept nowhere.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use std::time::Duration;

use kube_client::{ApiError, Class, Depth, Resource, election::Standing};
use parking_lot::Mutex;
use program::{Check, Probed};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};
use tokio::sync::watch;

use crate::consumer::Consumer;

/// Upper bounds of the sync latency, seconds.
const LATENCY: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// Where a write goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cluster {
    /// The consumer's.
    Consumer,
    /// A provider's.
    Provider,
}

impl Cluster {
    const fn name(self) -> &'static str {
        match self {
            Self::Consumer => "consumer",
            Self::Provider => "provider",
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Write {
    side: &'static str,
    resource: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Towards {
    side: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Objects {
    binding: String,
    resource: String,
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Queue {
    queue: &'static str,
    of: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Secret {
    secret: String,
}

/// Part of the agent that is asked at each scrape.
pub trait Observed: Send + Sync {
    /// Adds what is so now.
    fn observe(&self, gauges: &mut Gauges);
}

/// What is so at a scrape.
#[derive(Debug, Default)]
pub struct Gauges {
    objects: Family<Objects, Gauge>,
    queues: Family<Queue, Gauge>,
    providers: Family<Secret, Gauge>,
}

impl Gauges {
    /// Objects of a bound kind, and the queue that they wait in.
    pub fn objects(&self, binding: &str, resource: &Resource, known: usize, depth: Depth) {
        let settled = known.saturating_sub(depth.unsettled());
        let failing = depth.failing.min(known - settled);
        for (state, count) in
            [("in_sync", settled), ("failing", failing), ("pending", (known - settled).saturating_sub(failing))]
        {
            let labels = Objects { binding: binding.to_owned(), resource: name_of(resource), state };
            self.objects.get_or_create(&labels).inc_by(number(count));
        }
        self.queue("objects", binding, depth);
    }

    /// Keys that wait in a queue.
    pub fn queue(&self, queue: &'static str, of: &str, depth: Depth) {
        self.queues.get_or_create(&Queue { queue, of: of.to_owned() }).inc_by(number(depth.ready));
    }

    /// Whether the provider behind a Secret answers.
    pub fn provider(&self, secret: &str, connected: bool) {
        self.providers.get_or_create(&Secret { secret: secret.to_owned() }).set(connected.into());
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// `boats.harbour.example`, or `secrets`.
fn name_of(resource: &Resource) -> String {
    if resource.group.is_empty() { resource.plural.clone() } else { format!("{}.{}", resource.plural, resource.group) }
}

type Latency = Family<Towards, Histogram, fn() -> Histogram>;

/// What is counted and known of the agent, shared by all its parts.
pub struct Metrics {
    writes: Family<Write, Counter>,
    latency: Latency,
    restarts: [Arc<AtomicU64>; 2],
    observed: Mutex<Vec<Weak<dyn Observed>>>,
    consumer: Mutex<Weak<Consumer>>,
    /// What is known of the Lease.
    pub standing: watch::Sender<Standing>,
    stopping: AtomicBool,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            writes: Family::default(),
            latency: Latency::new_with_constructor(|| Histogram::new(LATENCY)),
            restarts: Default::default(),
            observed: Mutex::default(),
            consumer: Mutex::new(Weak::new()),
            standing: watch::channel(Standing::default()).0,
            stopping: AtomicBool::new(false),
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").field("standing", &*self.standing.borrow()).finish_non_exhaustive()
    }
}

impl Metrics {
    /// A write of the sync was taken; `waited` is the time since the change was seen, if it answers one.
    pub fn wrote(&self, side: Cluster, resource: &Resource, waited: Option<Duration>) {
        self.count(side, resource, "ok");
        if let Some(waited) = waited {
            self.latency.get_or_create(&Towards { side: side.name() }).observe(waited.as_secs_f64());
        }
    }

    /// A write of the sync was not taken.
    pub fn refused(&self, side: Cluster, resource: &Resource, error: &ApiError) {
        let outcome = match error.class {
            Class::Conflict | Class::AlreadyExists | Class::NotFound => "conflict",
            Class::Invalid | Class::Forbidden => "refused",
            _ => "failed",
        };
        self.count(side, resource, outcome);
    }

    /// Tells both sides of a kind from the start, so that rates have a zero to grow from.
    pub fn announce(&self, resource: &Resource) {
        for side in [Cluster::Consumer, Cluster::Provider] {
            let labels = Write { side: side.name(), resource: name_of(resource), outcome: "ok" };
            let _ = self.writes.get_or_create(&labels);
            let _ = self.latency.get_or_create(&Towards { side: side.name() });
        }
    }

    fn count(&self, side: Cluster, resource: &Resource, outcome: &'static str) {
        self.writes.get_or_create(&Write { side: side.name(), resource: name_of(resource), outcome }).inc();
    }

    /// Counts watches of one side that broke.
    pub fn restarts(&self, side: Cluster) -> Arc<AtomicU64> {
        self.restarts[side as usize].clone()
    }

    /// Asks `part` at each scrape, for as long as it is there.
    pub fn ask(&self, part: Weak<dyn Observed>) {
        let mut observed = self.observed.lock();
        observed.retain(|part| part.strong_count() > 0);
        observed.push(part);
    }

    /// The caches that must be filled.
    pub fn caches(&self, consumer: &Arc<Consumer>) {
        *self.consumer.lock() = Arc::downgrade(consumer);
    }

    /// The end has begun.
    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

impl Probed for Metrics {
    fn checks(&self) -> Vec<Check> {
        let standing = self.standing.borrow().clone();
        let answered = standing.answered.map(|answered| answered.elapsed());
        let mut checks = vec![
            Check::answers("consumer cluster", answered, standing.trouble.as_deref()),
            Check::lease(standing.leading, &standing.holder, "this agent", "this agent stands by"),
        ];
        if standing.leading {
            let missing = self.consumer.lock().upgrade().map(|consumer| consumer.unsynced());
            checks.push(match missing {
                None => Check::lacking("caches", "not started yet"),
                Some(missing) if missing.is_empty() => Check::good("caches", "filled"),
                Some(missing) => Check::lacking("caches", format!("not listed yet: {}", missing.join(", "))),
            });
        }
        if self.stopping.load(Ordering::Relaxed) {
            checks.push(Check::lacking("shutdown", "has begun"));
        }
        checks
    }

    fn metrics(&self) -> String {
        let mut gauges = Gauges::default();
        let parts: Vec<Arc<dyn Observed>> = self.observed.lock().iter().filter_map(Weak::upgrade).collect();
        parts.iter().for_each(|part| part.observe(&mut gauges));
        drop(parts);
        let restarts: Family<Towards, Counter> = Family::default();
        for side in [Cluster::Consumer, Cluster::Provider] {
            let count = self.restarts[side as usize].load(Ordering::Relaxed);
            restarts.get_or_create(&Towards { side: side.name() }).inc_by(count);
        }
        let leading: Gauge = Gauge::default();
        leading.set(self.standing.borrow().leading.into());
        let mut registry = Registry::with_prefix("konnector");
        registry.register("build", "Version of this agent", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register("leading", "Whether this agent holds the Lease and works", leading);
        registry.register(
            "objects",
            "Objects of bound kinds at the consumer, by binding, kind and state: in_sync, pending or failing",
            gauges.objects,
        );
        registry.register(
            "writes",
            "Writes of the sync by side, kind and outcome: ok, conflict (decided anew), refused (the API server does not \
             take it) or failed; Lease, heartbeats, Events and statuses of bindings are not in it",
            self.writes.clone(),
        );
        registry.register(
            "sync_seconds",
            "Time from a change being seen to its write on the other side being taken, by the side written to; a write \
             that is tried again counts from its last attempt",
            self.latency.clone(),
        );
        registry.register(
            "queue_depth",
            "Keys that wait for a worker, by queue (objects, claims, bindings) and the binding or Secret it is of",
            gauges.queues,
        );
        registry.register("watch_restarts", "Watches that broke and were begun anew, by side", restarts);
        registry.register(
            "provider_connected",
            "Whether the provider answers, by the Secret that holds its kubeconfig",
            gauges.providers,
        );
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use program::probes::readiness;
    use tokio::time::Instant;

    use super::*;

    fn answered(leading: bool, holder: &str) -> Standing {
        Standing { leading, holder: holder.into(), answered: Some(Instant::now()), trouble: None }
    }

    #[tokio::test(start_paused = true)]
    async fn ready_when_the_cluster_answers_and_a_leader_has_its_caches() {
        let metrics = Metrics::default();
        let (ready, text) = readiness(&metrics.checks());
        assert!(!ready && text.contains("[-] consumer cluster: has not answered yet"), "{text}");
        metrics.standing.send_replace(answered(false, "other"));
        let (ready, text) = readiness(&metrics.checks());
        assert!(ready && text.contains("held by other; this agent stands by"), "{text}");
        metrics.standing.send_replace(answered(true, "me"));
        let (ready, text) = readiness(&metrics.checks());
        assert!(!ready && text.contains("[-] caches: "), "{text}");
        metrics.standing.send_replace(answered(false, "other"));
        metrics.standing.send_modify(|standing| standing.trouble = Some("connection refused".into()));
        tokio::time::advance(Duration::from_secs(31)).await;
        let (ready, text) = readiness(&metrics.checks());
        assert!(!ready && text.contains("has not answered for 31 s: connection refused"), "{text}");
        metrics.standing.send_replace(answered(false, "other"));
        metrics.stopping();
        assert!(!readiness(&metrics.checks()).0, "no new work for one that is going");
    }

    struct Kind(Depth);
    impl Observed for Kind {
        fn observe(&self, gauges: &mut Gauges) {
            let kind = Resource::new("harbour.example", "v1", "boats", "Boat");
            gauges.objects("b", &kind, 10, self.0);
            gauges.provider("kubeconfig-x", true);
        }
    }

    #[test]
    fn metrics_have_help_types_and_labels_and_what_is_gone_is_not_told() {
        let metrics = Metrics::default();
        let kind: Arc<dyn Observed> = Arc::new(Kind(Depth { ready: 2, working: 1, later: 1, failing: 1 }));
        metrics.ask(Arc::downgrade(&kind));
        let resource = Resource::new("", "v1", "secrets", "Secret");
        metrics.wrote(Cluster::Provider, &resource, Some(Duration::from_millis(20)));
        metrics.restarts(Cluster::Provider).fetch_add(3, Ordering::Relaxed);
        let text = metrics.metrics();
        for line in [
            "# TYPE konnector_objects gauge",
            "# HELP konnector_writes Writes of the sync by side",
            "konnector_leading 0",
            "konnector_objects{binding=\"b\",resource=\"boats.harbour.example\",state=\"in_sync\"} 6",
            "konnector_objects{binding=\"b\",resource=\"boats.harbour.example\",state=\"failing\"} 1",
            "konnector_objects{binding=\"b\",resource=\"boats.harbour.example\",state=\"pending\"} 3",
            "konnector_writes_total{side=\"provider\",resource=\"secrets\",outcome=\"ok\"} 1",
            "konnector_sync_seconds_bucket{le=\"0.025\",side=\"provider\"} 1",
            "konnector_queue_depth{queue=\"objects\",of=\"b\"} 2",
            "konnector_watch_restarts_total{side=\"provider\"} 3",
            "konnector_watch_restarts_total{side=\"consumer\"} 0",
            "konnector_provider_connected{secret=\"kubeconfig-x\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        drop(kind);
        let text = metrics.metrics();
        assert!(!text.contains("binding=\"b\"") && !text.contains("kubeconfig-x"), "{text}");
    }
}
