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

pub(super) async fn run(provider: Weak<Provider>, stop: CancellationToken) {
    loop {
        let Some(this) = provider.upgrade() else { return };
        tokio::select! {
            () = stop.cancelled() => return,
            () = look(&this) => {}
        }
        drop(this);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK.mul_f64(0.8 + 0.4 * random())) => {}
        }
    }
}

async fn look(this: &Provider) {
    let key = ObjectKey::new(&this.contract_namespace, CLUSTER_BINDING);
    let read = tokio::time::timeout(PATIENCE, this.api.get(&resources::cluster_bindings(), &key)).await;
    match read {
        Ok(Ok(live)) => {
            let live = Arc::new(live);
            this.set_cluster_binding(Some(live.clone()));
            this.set_link(Link::Up);
            beat(this, &key, &live).await;
            if pin::holds(&live, &this.consumer.uid) {
                super::rotation::look(this, &live).await;
            }
        }
        // It answers, it is only busy.
        Ok(Err(ApiError { class: Class::Throttled, .. })) => {}
        Ok(Err(error)) => this.set_link(Link::Down { class: error.class, message: error.to_string() }),
        Err(_) => this.set_link(Link::Down {
            class: Class::Unreachable,
            message: format!("{} does not answer within {} s", this.server, PATIENCE.as_secs()),
        }),
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
