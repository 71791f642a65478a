//! The agent in the consumer cluster: whether one lives (its Lease tells), and installing one where there is none.

use std::time::Duration;

use jiff::Timestamp;
use kube_bind_api::constants::{CONSUMER_NAMESPACE, KONNECTOR, KONNECTOR_LEASE};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::args::AgentArgs;
use crate::changes::Changes;
use crate::cluster::{Cluster, kinds, text};
use crate::errors::CliError;

/// The state of the agent's Lease.
pub(crate) struct Heartbeat {
    /// Who holds it, as the Lease says.
    pub(crate) holder: String,
    /// When it was renewed last.
    pub(crate) renewed: String,
    /// Whether that is recent enough.
    pub(crate) fresh: bool,
}

/// Reads the Lease; none if there never was an agent.
pub(crate) async fn heartbeat(consumer: &Cluster) -> Result<Option<Heartbeat>, CliError> {
    let lease = consumer.get(&kinds::leases(), CONSUMER_NAMESPACE, KONNECTOR_LEASE).await?;
    Ok(lease.map(|lease| {
        let renewed = text(&lease, "/spec/renewTime").to_owned();
        let holder = text(&lease, "/spec/holderIdentity").to_owned();
        let lasts = lease.pointer("/spec/leaseDurationSeconds").and_then(Value::as_i64).unwrap_or(15);
        let age = renewed.parse::<Timestamp>().map(|renewed| Timestamp::now().duration_since(renewed).as_secs().abs());
        Heartbeat { fresh: !holder.is_empty() && age.is_ok_and(|age| age <= lasts), holder, renewed }
    }))
}

/// Makes sure that an agent lives, or says what to run. A Lease that is renewed while we look counts too, whatever the
/// clocks say.
pub(crate) async fn ensure(changes: &mut Changes, consumer: &Cluster, args: &AgentArgs) -> Result<(), CliError> {
    let before = heartbeat(consumer).await?;
    if before.as_ref().is_some_and(|lease| lease.fresh) {
        return Ok(());
    }
    let none = |waited: String| CliError::NoAgent { server: consumer.server.clone(), waited };
    if !args.skip_konnector && consumer.get(&kinds::deployments(), CONSUMER_NAMESPACE, KONNECTOR).await?.is_none() {
        if !consumer.serves(&kinds::deployments()).await? {
            return Err(none(", and the cluster runs no pods, so none can be installed".to_owned()));
        }
        changes.ensure(consumer, &deployment(args.konnector_image.as_deref())).await?;
        eprintln!("Installed the agent (Deployment {CONSUMER_NAMESPACE}/{KONNECTOR}).");
    }
    let deadline = Instant::now() + Duration::from_secs(args.wait);
    let first = before.map(|lease| lease.renewed).unwrap_or_default();
    while Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = heartbeat(consumer).await?;
        if now.is_some_and(|lease| lease.fresh || (!lease.renewed.is_empty() && lease.renewed != first)) {
            return Ok(());
        }
    }
    Err(none(format!(" after {} s", args.wait)))
}

/// The Deployment of the agent.
pub(crate) fn deployment(image: Option<&str>) -> Value {
    let image = image.map_or_else(|| format!("kube-bind/konnector:v{}", env!("CARGO_PKG_VERSION")), str::to_owned);
    let labels = json!({"app.kubernetes.io/name": KONNECTOR});
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": KONNECTOR, "namespace": CONSUMER_NAMESPACE, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "serviceAccountName": KONNECTOR,
                    "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [{
                        "name": KONNECTOR, "image": image, "args": ["--lease-namespace", CONSUMER_NAMESPACE],
                        "env": [
                            {"name": "POD_NAME", "valueFrom": field("metadata.name")},
                            {"name": "POD_NAMESPACE", "valueFrom": field("metadata.namespace")},
                        ],
                        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
                        "securityContext": {
                            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
                        },
                    }],
                },
            },
        },
    })
}
