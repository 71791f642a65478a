//! A contract's ClusterBinding: is its agent alive, which cluster does it belong to, has it been revoked?
//!
//! In: the ClusterBinding with the agent's heartbeat. Out: condition `Healthy` (and `Ready`), the pin when the provider
//! approved a hand-over or nobody had it yet, and the end of the credential when the provider revoked it. `Revoked` is said
//! when no API server believes the token any more, so that whoever waits for it may delete objects without their coming
//! back; until then it is `Revoking`. The provider's URL is noted on it for consumers that have a credential and nothing else.

use std::time::Duration;

use jiff::Timestamp;
use kube_bind_api::conditions::{self, Severity};
use kube_bind_api::constants::{
    ANNOTATION_IDENTITY, ANNOTATION_PROVIDER_URL, ANNOTATION_REVOKED, CLUSTER_BINDING, condition, reason,
};
use kube_bind_api::{ClusterBinding, ClusterBindingStatus};
use kube_client::{ObjectKey, Outcome, Subresource};
use serde_json::json;

use super::{Trouble, World, decode, status};
use crate::contracts::{self, MANAGER};
use crate::resources;

/// A heartbeat this far in the future means that a clock is wrong.
const DRIFT: i64 = 10;
/// For how many seconds an API server may go on believing a token whose Secret and account are gone: it remembers for ten
/// what it has found valid.
const REMEMBERED: i64 = 15;

/// See the module.
///
/// # Errors
/// [`Trouble`]; tried again.
pub async fn reconcile(world: &World, namespace: &str) -> Result<Outcome, Trouble> {
    let kind = resources::of::<ClusterBinding>();
    let key = ObjectKey::new(namespace, CLUSTER_BINDING);
    let Some(live) = world.api.get_opt(&kind, &key).await? else { return Ok(Outcome::Done) };
    let binding: ClusterBinding = decode(&live)?;
    if binding.metadata.deletion_timestamp.is_some() {
        return Ok(Outcome::Done);
    }
    let revoked = binding.metadata.annotations.as_ref().and_then(|map| map.get(ANNOTATION_REVOKED)).cloned();
    if revoked.is_some() {
        contracts::revoke(&world.api, namespace).await?;
    } else if let Some(uid) = heartbeat_from(&binding).and_then(|from| contract::identity::repin(&binding.spec, from)) {
        let identity = json!({"metadata": {"annotations": {ANNOTATION_IDENTITY: uid}}});
        let (namespaces, there) = (resources::namespaces(), ObjectKey::cluster(namespace));
        world.api.merge_patch(&namespaces, &there, Subresource::Main, &identity, MANAGER).await?;
        // Last: with the pin there is no more to be done, whatever else failed before.
        let patch = json!({
            "metadata": {"resourceVersion": live["metadata"]["resourceVersion"], "annotations": {ANNOTATION_IDENTITY: uid}},
            "spec": {"consumerClusterUID": uid, "approvedClusterUID": null},
        });
        world.api.merge_patch(&kind, &key, Subresource::Main, &patch, MANAGER).await?;
        tracing::info!(namespace, cluster = %uid, "contract pinned");
        // The write brings us back here.
        return Ok(Outcome::Done);
    }
    if let Some(url) = world.settings.url.as_deref()
        && live["metadata"]["annotations"][ANNOTATION_PROVIDER_URL] != url
    {
        let patch = json!({"metadata": {
            "resourceVersion": live["metadata"]["resourceVersion"], "annotations": {ANNOTATION_PROVIDER_URL: url},
        }});
        world.api.merge_patch(&kind, &key, Subresource::Main, &patch, MANAGER).await?;
        return Ok(Outcome::Done);
    }
    let mut wanted: ClusterBindingStatus = binding.status.clone().unwrap_or_default();
    let again = judge(&mut wanted, revoked.as_deref(), world.now());
    status::write(&world.api, &kind, &live, &wanted).await?;
    Ok(again.map_or(Outcome::Done, Outcome::After))
}

fn heartbeat_from(binding: &ClusterBinding) -> Option<&str> {
    let status = binding.status.as_ref()?;
    status.last_heartbeat_time.as_ref()?;
    status.consumer_cluster_uid.as_deref()
}

/// Sets `Healthy` and `Ready`; says when to look again.
fn judge(status: &mut ClusterBindingStatus, revoked: Option<&str>, now: Timestamp) -> Option<Duration> {
    let interval = status
        .heartbeat_interval
        .as_deref()
        .and_then(|text| kube_bind_api::duration::parse(text).ok())
        .filter(|interval| !interval.is_zero());
    let heard = status.last_heartbeat_time.as_ref().map(|time| time.0);
    let mut again = None;
    let list = &mut status.conditions;
    let healthy = condition::HEALTHY;
    if let Some(why) = revoked {
        let why = contracts::in_brackets(why);
        let left = believed_for(list, now);
        let (cause, message) = match left {
            0 => (reason::REVOKED, format!("the provider has revoked this contract{why}")),
            _ => (
                reason::REVOKING,
                format!("the provider has revoked this contract{why}; its token works for up to {REMEMBERED} s more"),
            ),
        };
        conditions::mark_false(list, healthy, Severity::Error, cause, &message, now);
        again = (left > 0).then(|| Duration::from_secs(left));
    } else {
        match (heard, interval) {
            (None, _) => {
                let message = "Waiting for first heartbeat";
                conditions::mark_false(list, healthy, Severity::Info, reason::FIRST_HEARTBEAT_PENDING, message, now);
            }
            (Some(_), None) => {
                let message = "The agent does not say how often it reports";
                conditions::mark_false(list, healthy, Severity::Info, reason::HEARTBEAT_INTERVAL_MISSING, message, now);
            }
            (Some(heard), Some(interval)) => {
                let silent = now.as_second().saturating_sub(heard.as_second());
                let limit = i64::try_from(interval.as_secs().saturating_mul(2)).unwrap_or(i64::MAX);
                if silent > limit {
                    let message = format!("No heartbeat from the agent since {heard}");
                    conditions::mark_false(list, healthy, Severity::Error, reason::HEARTBEAT_TIMEOUT, &message, now);
                } else if silent < -DRIFT {
                    let message = format!("The agent's clock is {}s ahead of the provider's", -silent);
                    conditions::mark_false(
                        list,
                        healthy,
                        Severity::Warning,
                        reason::HEARTBEAT_TIME_DRIFT,
                        &message,
                        now,
                    );
                } else {
                    conditions::mark_true(list, healthy, now);
                }
                if silent <= limit {
                    again = Some(Duration::from_secs(u64::try_from(limit - silent + 1).unwrap_or(1)));
                }
            }
        }
    }
    conditions::set_summary(list, now);
    again
}

/// For how many seconds the token of a revoked contract, which is deleted, may still be believed.
fn believed_for(list: &[conditions::Condition], now: Timestamp) -> u64 {
    let said = conditions::get(list, condition::HEALTHY);
    let since = match said.and_then(|said| said.reason.as_deref()) {
        Some(reason::REVOKED) => return 0,
        Some(reason::REVOKING) => said.map_or(now, |said| said.last_transition_time.0),
        _ => now,
    };
    let left = REMEMBERED.saturating_sub(now.as_second().saturating_sub(since.as_second()));
    u64::try_from(left).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn healthy(heard: Option<i64>, interval: Option<&str>, now: i64) -> (bool, String, Option<Duration>) {
        let mut status = ClusterBindingStatus {
            last_heartbeat_time: heard.map(|at| Time(Timestamp::from_second(at).unwrap())),
            heartbeat_interval: interval.map(str::to_owned),
            ..ClusterBindingStatus::default()
        };
        let again = judge(&mut status, None, Timestamp::from_second(now).unwrap());
        let found = conditions::get(&status.conditions, condition::HEALTHY).unwrap();
        (found.is_true(), found.reason.clone().unwrap_or_default(), again)
    }

    #[test]
    fn an_agent_is_healthy_for_twice_its_interval() {
        assert_eq!(healthy(None, None, 100).1, reason::FIRST_HEARTBEAT_PENDING);
        assert_eq!(healthy(Some(100), None, 100).1, reason::HEARTBEAT_INTERVAL_MISSING);
        assert_eq!(healthy(Some(100), Some("0s"), 100).1, reason::HEARTBEAT_INTERVAL_MISSING);
        assert_eq!(healthy(Some(1000), Some("5m0s"), 1003), (true, String::new(), Some(Duration::from_secs(598))));
        assert!(healthy(Some(1000), Some("5m0s"), 1600).0);
        assert_eq!(healthy(Some(1000), Some("5m0s"), 1601).1, reason::HEARTBEAT_TIMEOUT);
        assert_eq!(healthy(Some(1020), Some("5m0s"), 1000).1, reason::HEARTBEAT_TIME_DRIFT);
    }

    #[test]
    fn revoked_is_not_healthy_and_said_when_the_token_is_worth_nothing() {
        let mut status = ClusterBindingStatus::default();
        let mut at = |second: i64| {
            let again = judge(&mut status, Some("2026-01-01"), Timestamp::from_second(second).unwrap());
            assert!(!conditions::is_true(&status.conditions, condition::READY));
            let healthy = conditions::get(&status.conditions, condition::HEALTHY).unwrap();
            (healthy.reason.clone().unwrap(), again)
        };
        assert_eq!(at(100), (reason::REVOKING.to_owned(), Some(Duration::from_secs(15))));
        assert_eq!(at(110), (reason::REVOKING.to_owned(), Some(Duration::from_secs(5))));
        assert_eq!(at(115), (reason::REVOKED.to_owned(), None));
        assert_eq!(at(116), (reason::REVOKED.to_owned(), None));
    }
}
