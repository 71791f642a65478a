//! Lease election: one writer among several agents. In: what the Lease says and when *we* saw it change. Out: whether we
//! may write. Clocks of other machines are not believed: a holder is dead when its record has not changed for the lease
//! duration on our own monotonic clock. Who loses the Lease has its token cancelled before anyone else can take it,
//! because we stop at the renew deadline, which is shorter than the duration.

use std::{future::Future, time::Duration};

use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{Api, FieldManager, Subresource},
    error::ApiError,
    resource::Resource,
    store::ObjectKey,
};

/// Who ends does not wait longer for a request about the Lease.
const RELEASE: Duration = Duration::from_secs(5);

/// Which Lease, who we are, and the three times.
#[derive(Clone, Debug)]
pub struct ElectionConfig {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Our name, unique among the candidates.
    pub identity: String,
    /// How long a silent holder is respected.
    pub duration: Duration,
    /// How long we go on without a successful renewal.
    pub renew_deadline: Duration,
    /// Time between renewals and between looks at another's Lease.
    pub retry: Duration,
}

impl ElectionConfig {
    /// Kubernetes' usual times: 15 s, 10 s, 2 s.
    pub fn new(namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            identity: identity.into(),
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// A Lease as we saw it, and when we first saw it in this form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// `spec.holderIdentity`, empty when released.
    pub holder: String,
    /// `resourceVersion`: any change of it is a sign of life.
    pub revision: String,
    /// `spec.leaseDurationSeconds` of the holder.
    pub duration: Duration,
    /// First time (our clock) that we saw this revision.
    pub since: Instant,
}

/// What to do about the Lease now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody has it, or its holder is silent for too long: take it.
    Take,
    /// It is ours: renew.
    Renew,
    /// It belongs to someone alive; its record expires in this time.
    Wait(Duration),
}

/// Decides from what we have seen, at our time `now`. `None`: there is no Lease yet.
pub fn evaluate(me: &str, seen: Option<&Sighting>, now: Instant) -> Verdict {
    let Some(seen) = seen else { return Verdict::Take };
    if seen.holder == me {
        return Verdict::Renew;
    }
    if seen.holder.is_empty() {
        return Verdict::Take;
    }
    match (seen.since + seen.duration).checked_duration_since(now) {
        Some(left) if !left.is_zero() => Verdict::Wait(left),
        _ => Verdict::Take,
    }
}

/// Merges a fresh reading into what we have seen: the time stays while the revision does.
pub fn observe(seen: Option<Sighting>, lease: &Value, now: Instant) -> Sighting {
    let revision = lease["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    match seen {
        Some(seen) if seen.revision == revision => seen,
        _ => Sighting {
            holder: lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned(),
            duration: Duration::from_secs(lease["spec"]["leaseDurationSeconds"].as_u64().unwrap_or(15)),
            revision,
            since: now,
        },
    }
}

/// The Lease resource.
pub fn lease_resource() -> Resource {
    Resource::new("coordination.k8s.io", "v1", "leases", "Lease")
}

/// What a candidate knows of the Lease, for its probes.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// It is ours.
    pub leading: bool,
    /// Who has it, as last seen.
    pub holder: String,
    /// When the API server last answered.
    pub answered: Option<Instant>,
    /// Why the last look failed.
    pub trouble: Option<String>,
}

/// Campaigns until `stop`; each time the Lease is ours, runs `lead` with a token that is cancelled when it is not any
/// more. Releases the Lease when stopped while leading. `wall` gives the wall-clock time for `renewTime` (informational
/// for others); `standing` is kept up to date. Returns when stopped or when `lead` ends by itself.
pub async fn campaign<F, Fut>(
    api: &Api,
    config: &ElectionConfig,
    wall: impl Fn() -> String + Send + Sync,
    standing: &watch::Sender<Standing>,
    stop: CancellationToken,
    lead: F,
) where
    F: Fn(CancellationToken) -> Fut,
    Fut: Future<Output = ()>,
{
    let mut seen: Option<Sighting> = None;
    let mut told = false;
    loop {
        if stop.is_cancelled() {
            return;
        }
        let Some(looked) = finish(&stop, attempt(api, config, &wall, &mut seen)).await else { return };
        note(standing, &looked, seen.as_ref());
        match looked {
            Ok(true) => {
                tracing::info!(lease = %config.name, identity = %config.identity, "leading");
                told = false;
                let leading = stop.child_token();
                let ended = {
                    let work = lead(leading.clone());
                    tokio::pin!(work);
                    let renewing = renew(api, config, &wall, &mut seen, standing, &stop);
                    tokio::pin!(renewing);
                    tokio::select! {
                        () = &mut work => true,
                        () = &mut renewing => {
                            leading.cancel();
                            // Writers see the cancelled token at their next await; give them the moment that is left.
                            let _ = tokio::time::timeout(Duration::from_secs(2), work).await;
                            false
                        }
                    }
                };
                standing.send_modify(|standing| standing.leading = false);
                if stop.is_cancelled() || ended {
                    release(api, config, &wall, seen.as_ref()).await;
                    return;
                }
                tracing::warn!(lease = %config.name, "the Lease is lost, all writers are stopped");
            }
            Ok(false) => {
                if !told {
                    let holder = seen.as_ref().map(|s| s.holder.clone()).unwrap_or_default();
                    tracing::info!(lease = %config.name, holder, "waiting: another agent holds the Lease");
                    told = true;
                }
            }
            Err(error) => tracing::warn!(%error, mend = error.mend(), "cannot read or write the Lease"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(config.retry) => {}
        }
    }
}

/// Renews until it cannot any more (or another took it), or until stopped.
async fn renew(
    api: &Api,
    config: &ElectionConfig,
    wall: &(impl Fn() -> String + Send + Sync),
    seen: &mut Option<Sighting>,
    standing: &watch::Sender<Standing>,
    stop: &CancellationToken,
) {
    let mut last = Instant::now();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(config.retry) => {}
        }
        let deadline = last + config.renew_deadline;
        let started = Instant::now();
        let looked = tokio::time::timeout_at(deadline, attempt(api, config, wall, seen));
        let Some(looked) = finish(stop, looked).await else { return };
        if let Ok(looked) = &looked {
            note(standing, looked, seen.as_ref());
        }
        match looked {
            Ok(Ok(true)) => last = started,
            Ok(Ok(false)) => return,
            Ok(Err(error)) => tracing::warn!(%error, mend = error.mend(), "renewing the Lease failed"),
            Err(_) => return,
        }
        if Instant::now() >= deadline && last != started {
            return;
        }
    }
}

/// Lets a request end, because it may have been taken; but a server that does not answer is not waited for.
async fn finish<T>(stop: &CancellationToken, request: impl Future<Output = T>) -> Option<T> {
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(RELEASE).await;
    };
    tokio::select! {
        () = late => None,
        ended = request => Some(ended),
    }
}

fn note(standing: &watch::Sender<Standing>, looked: &Result<bool, ApiError>, seen: Option<&Sighting>) {
    standing.send_modify(|standing| match looked {
        Ok(ours) => {
            *standing = Standing {
                leading: *ours,
                holder: seen.map(|seen| seen.holder.clone()).unwrap_or_default(),
                answered: Some(Instant::now()),
                trouble: None,
            };
        }
        Err(error) => standing.trouble = Some(error.to_string()),
    });
}

/// Looks, decides, and writes if it may. `Ok(true)`: the Lease is ours now.
async fn attempt(
    api: &Api,
    config: &ElectionConfig,
    wall: &(impl Fn() -> String + Send + Sync),
    seen: &mut Option<Sighting>,
) -> Result<bool, ApiError> {
    let resource = lease_resource();
    let key = ObjectKey::new(&config.namespace, &config.name);
    let live = api.get_opt(&resource, &key).await?;
    let now = Instant::now();
    *seen = live.as_ref().map(|lease| observe(seen.take(), lease, now));
    let verdict = evaluate(&config.identity, seen.as_ref(), now);
    let written = match (&live, verdict) {
        (_, Verdict::Wait(_)) => return Ok(false),
        (None, _) => {
            let body = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": config.name, "namespace": config.namespace},
                "spec": spec(config, &wall(), 0, true),
            });
            api.create(&resource, Some(&config.namespace), &body).await
        }
        (Some(live), verdict) => {
            let taking = verdict == Verdict::Take;
            let transitions = live["spec"]["leaseTransitions"].as_u64().unwrap_or(0) + u64::from(taking);
            let patch = json!({
                "metadata": {"resourceVersion": live["metadata"]["resourceVersion"], "uid": live["metadata"]["uid"]},
                "spec": spec(config, &wall(), transitions, taking),
            });
            api.merge_patch(&resource, &key, Subresource::Main, &patch, FieldManager("kube-bind.io")).await
        }
    };
    match written {
        Ok(lease) => {
            *seen = Some(observe(None, &lease, Instant::now()));
            Ok(true)
        }
        Err(error) if error.is_conflict() => Ok(false),
        Err(error) => Err(error),
    }
}

fn spec(config: &ElectionConfig, wall: &str, transitions: u64, taking: bool) -> Value {
    let mut spec = json!({
        "holderIdentity": config.identity, "renewTime": wall, "leaseTransitions": transitions,
        "leaseDurationSeconds": config.duration.as_secs(),
    });
    if taking {
        spec["acquireTime"] = json!(wall);
    }
    spec
}

async fn release(
    api: &Api,
    config: &ElectionConfig,
    wall: &(impl Fn() -> String + Send + Sync),
    seen: Option<&Sighting>,
) {
    let Some(seen) = seen.filter(|s| s.holder == config.identity) else { return };
    let patch = json!({
        "metadata": {"resourceVersion": seen.revision},
        "spec": {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": wall()},
    });
    let key = ObjectKey::new(&config.namespace, &config.name);
    let resource = lease_resource();
    let written = api.merge_patch(&resource, &key, Subresource::Main, &patch, FieldManager("kube-bind.io"));
    let why = match tokio::time::timeout(RELEASE, written).await {
        Ok(Ok(_)) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", RELEASE.as_secs()),
    };
    tracing::warn!(error = why, "could not release the Lease; another candidate has to wait for it to expire");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, revision: &str) -> Value {
        json!({"metadata": {"resourceVersion": revision}, "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15}})
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_is_respected_until_it_is_silent_on_our_clock() {
        let first = Instant::now();
        let seen = observe(None, &lease("other", "1"), first);
        assert_eq!(evaluate("me", Some(&seen), first), Verdict::Wait(Duration::from_secs(15)));
        let late = first + Duration::from_secs(14);
        let renewed = observe(Some(seen.clone()), &lease("other", "2"), late);
        assert_eq!(evaluate("me", Some(&renewed), late), Verdict::Wait(Duration::from_secs(15)));
        let same = observe(Some(seen), &lease("other", "1"), late);
        assert_eq!(evaluate("me", Some(&same), late), Verdict::Wait(Duration::from_secs(1)));
        assert_eq!(evaluate("me", Some(&same), late + Duration::from_secs(1)), Verdict::Take);
    }

    #[tokio::test(start_paused = true)]
    async fn free_released_and_own() {
        let now = Instant::now();
        assert_eq!(evaluate("me", None, now), Verdict::Take);
        assert_eq!(evaluate("me", Some(&observe(None, &lease("", "1"), now)), now), Verdict::Take);
        assert_eq!(evaluate("me", Some(&observe(None, &lease("me", "1"), now)), now), Verdict::Renew);
    }

    #[test]
    fn we_stop_before_others_may_start() {
        let config = ElectionConfig::new("n", "l", "me");
        // `campaign` gives the writers two seconds to end.
        assert!(config.renew_deadline + Duration::from_secs(2) < config.duration);
    }
}
