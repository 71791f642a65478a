//! Is the provider there, and does it know that we are? In: one small GET every few seconds. Out: the provider's
//! [`Link`], its `ClusterBinding` (with the pin), and at half of the heartbeat interval one status write.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use contract::identity::Pin;
use jiff::Timestamp;
use kube_bind_api::constants::{CLUSTER_BINDING, HEARTBEAT_INTERVAL_SECONDS};
use kube_client::{ApiError, Class, ObjectKey, Subresource, backoff::random};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Link, Provider, pin};
use crate::resources::{self, MANAGER};

/// Time between looks at the provider.
const LOOK: Duration = Duration::from_secs(3);
/// A provider that takes longer is down.
const PATIENCE: Duration = Duration::from_secs(5);
/// After a look that failed the next one is sooner.
const AGAIN: Duration = Duration::from_secs(1);
/// Longest time that a provider may ask for between two looks.
const LONGEST: Duration = Duration::from_secs(30);
/// One failure may be an accident of the moment (a restart, a full queue): this many in a row are the truth.
const FAILURES: u32 = 2;
/// A provider that is only busy gets more time.
const BUSY: u32 = 3;

pub(super) async fn run(provider: Weak<Provider>, stop: CancellationToken) {
    let mut failures = 0;
    loop {
        let Some(this) = provider.upgrade() else { return };
        let looked = tokio::select! {
            () = stop.cancelled() => return,
            looked = look(&this) => looked,
        };
        let pause = match looked {
            Ok(()) => {
                failures = 0;
                LOOK
            }
            Err(error) => {
                failures += 1;
                if let Some(class) = verdict(failures, &error) {
                    this.set_link(Link::Down { class, message: error.to_string() });
                }
                pause_after(failures, error.retry_after)
            }
        };
        this.look_after_watches();
        drop(this);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause.mul_f64(1.0 + 0.2 * random())) => {}
        }
    }
}

/// What a provider is that has failed so many times in a row: `None` as long as it may have been an accident.
fn verdict(failures: u32, error: &ApiError) -> Option<Class> {
    let patience = if error.class == Class::Throttled { BUSY } else { FAILURES };
    (failures >= patience).then_some(error.class)
}

/// The provider's wish is respected; without one the first looks are soon.
fn pause_after(failures: u32, wanted: Option<Duration>) -> Duration {
    let usual = if failures < BUSY { AGAIN } else { LOOK };
    wanted.map_or(usual, |wanted| wanted.clamp(usual, LONGEST))
}

async fn look(this: &Provider) -> Result<(), ApiError> {
    let key = ObjectKey::new(&this.contract_namespace, CLUSTER_BINDING);
    let read = tokio::time::timeout(PATIENCE, this.api.get(&resources::cluster_bindings(), &key)).await;
    let live = Arc::new(read.unwrap_or_else(|_| Err(silent(this, &key)))?);
    this.set_cluster_binding(Some(live.clone()));
    this.set_link(Link::Up);
    beat(this, &key, &live).await;
    if pin::holds(&live, &this.consumer.uid) {
        super::rotation::look(this, &live).await;
    }
    Ok(())
}

fn silent(this: &Provider, key: &ObjectKey) -> ApiError {
    ApiError {
        side: this.api.side().to_owned(),
        verb: "get",
        target: format!("{} {key}", resources::cluster_bindings()),
        class: Class::Unreachable,
        code: 0,
        reason: String::new(),
        message: format!("{} does not answer within {} s", this.server, PATIENCE.as_secs()),
        retry_after: None,
    }
}

async fn beat(this: &Provider, key: &ObjectKey, live: &Value) {
    // The cluster that holds the contract is the one whose life is reported.
    if matches!(pin::check(live, &this.consumer.uid), Pin::ClaimedElsewhere { .. }) {
        return;
    }
    let now = Timestamp::now();
    if !due(&live["status"], &this.consumer.uid, now) {
        return;
    }
    let status = json!({"status": {
        "lastHeartbeatTime": Timestamp::from_second(now.as_second()).unwrap_or(now).to_string(),
        "heartbeatInterval": kube_bind_api::duration::format(Duration::from_secs(HEARTBEAT_INTERVAL_SECONDS)),
        "konnectorVersion": concat!("v", env!("CARGO_PKG_VERSION")),
        "consumerSecretRef": {"name": this.secret.name, "namespace": this.secret.namespace},
        "consumerClusterUID": this.consumer.uid,
    }});
    let written =
        this.api.merge_patch(&resources::cluster_bindings(), key, Subresource::Status, &status, MANAGER).await;
    match written {
        Ok(live) => {
            this.set_cluster_binding(Some(Arc::new(live)));
            this.set_heartbeat_error(None);
        }
        Err(error) => {
            tracing::warn!(%error, "heartbeat not written");
            this.set_heartbeat_error(Some(error.to_string()));
        }
    }
}

/// Whether a heartbeat is due: none yet, half of the interval is over, or it speaks of another cluster or version.
fn due(status: &Value, uid: &str, now: Timestamp) -> bool {
    let last = status["lastHeartbeatTime"].as_str().and_then(|t| t.parse::<Timestamp>().ok());
    let fresh = last.is_some_and(|last| {
        let age = now.as_second() - last.as_second();
        (0..(HEARTBEAT_INTERVAL_SECONDS / 2).cast_signed()).contains(&age)
    });
    !fresh
        || status["consumerClusterUID"].as_str().is_some_and(|known| known != uid)
        || status["konnectorVersion"] != concat!("v", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_is_an_accident_and_a_busy_provider_gets_more_time() {
        let error = |class: Class| ApiError {
            side: "provider".into(),
            verb: "get",
            target: "x".into(),
            class,
            code: 0,
            reason: String::new(),
            message: String::new(),
            retry_after: None,
        };
        assert_eq!(verdict(1, &error(Class::Unreachable)), None);
        assert_eq!(verdict(2, &error(Class::Unreachable)), Some(Class::Unreachable));
        assert_eq!(verdict(2, &error(Class::Throttled)), None);
        assert_eq!(verdict(3, &error(Class::Throttled)), Some(Class::Throttled));
        assert_eq!(pause_after(1, None), AGAIN);
        assert_eq!(pause_after(9, None), LOOK);
        assert_eq!(pause_after(1, Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(pause_after(1, Some(Duration::from_secs(7000))), LONGEST);
    }

    #[test]
    fn a_heartbeat_at_half_of_the_interval() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let status = |time: &str, uid: &str| {
            json!({"lastHeartbeatTime": time, "consumerClusterUID": uid,
                "konnectorVersion": concat!("v", env!("CARGO_PKG_VERSION"))})
        };
        assert!(due(&json!({}), "u", now));
        assert!(!due(&status("2026-01-01T00:09:00Z", "u"), "u", now));
        assert!(due(&status("2026-01-01T00:07:00Z", "u"), "u", now));
        assert!(due(&status("2026-01-01T00:09:00Z", "other"), "u", now));
        assert!(due(&status("2026-01-01T00:20:00Z", "u"), "u", now), "a clock that was ahead");
    }
}
