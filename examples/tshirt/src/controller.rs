//! The operator: `TShirtClaim` objects in, a booth and a code in their status out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, ResourceExt};
use rand::distr::{Alphanumeric, SampleString};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::api::{Outcome, TShirtClaim, TShirtClaimStatus};

/// Answers claims until `shutdown`.
pub async fn run(client: Client, shutdown: CancellationToken) -> anyhow::Result<()> {
    Controller::new(Api::<TShirtClaim>::all(client.clone()), watcher::Config::default())
        .graceful_shutdown_on(shutdown.cancelled_owned())
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_secs(2)), Arc::new(client))
        .for_each(|result| async {
            if let Err(error) = result {
                tracing::warn!(error = %error, "a T-shirt was not put aside");
            }
        })
        .await;
    Ok(())
}

async fn reconcile(claim: Arc<TShirtClaim>, client: Arc<Client>) -> Result<Action, kube::Error> {
    if claim.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let before = claim.status.clone().unwrap_or_default();
    let status = answer(&claim.spec.size, &before, || Alphanumeric.sample_string(&mut rand::rng(), 8).to_uppercase());
    if status != before {
        let claims: Api<TShirtClaim> = Api::namespaced(client.as_ref().clone(), &claim.namespace().unwrap_or_default());
        let patch = Patch::Merge(json!({ "status": status }));
        claims.patch_status(&claim.name_any(), &PatchParams::default(), &patch).await?;
    }
    Ok(Action::await_change())
}

/// The status for a claim of `size`; the code is made once and stays.
fn answer(size: &str, before: &TShirtClaimStatus, new_code: impl FnOnce() -> String) -> TShirtClaimStatus {
    let outcome = Outcome {
        message: format!("A T-shirt of size {size} waits for you"),
        reason: "TShirtAvailable".to_owned(),
        status: "True".to_owned(),
    };
    TShirtClaimStatus {
        booth: "S42".to_owned(),
        code: if before.code.is_empty() { new_code() } else { before.code.clone() },
        ordered: true,
        conditions: BTreeMap::from([("TShirtOrderedSuccessfully".to_owned(), outcome)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_stays_when_the_size_changes() {
        let first = answer("XL", &TShirtClaimStatus::default(), || "CODE1".to_owned());
        let second = answer("S", &first, || "CODE2".to_owned());
        assert_eq!(second.code, "CODE1");
        assert!(second.conditions["TShirtOrderedSuccessfully"].message.contains("size S"));
    }
}
