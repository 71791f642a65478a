//! What moves under a binding whose kinds and claims run. In: the contract, the binding's word on claims, the consumer's
//! CRDs. Out: the standing of what runs; its watches go on in any case.

use std::sync::Arc;

use kube_bind_api::APIServiceBinding;
use kube_client::ObjectKey;

use crate::{consumer::Consumer, kind::Standing, provider::Provider, sync::intent::Teardown};

/// Of a kind whose CRD is being deleted: its objects go, their copies stay.
pub(super) const WITH_ITS_CRD: Standing = Standing { frozen: false, teardown: Teardown::Kind };

/// Stops all movement under a binding without stopping its watches.
pub(super) fn freeze(provider: &Arc<Provider>, name: &str) {
    stand(provider, name, true, &[]);
}

/// What ran before goes on, though nothing new can be begun. `terminating`: CRDs that were just read and are being deleted.
pub(super) fn unfreeze(provider: &Arc<Provider>, name: &str, terminating: &[String]) {
    stand(provider, name, false, terminating);
}

fn stand(provider: &Arc<Provider>, name: &str, frozen: bool, terminating: &[String]) {
    if let Some(state) = provider.bindings.lock().get(name) {
        for (crd, running) in &state.kinds {
            let standing = match terminating.contains(crd) || is_deleted(&provider.consumer, crd) {
                true => WITH_ITS_CRD,
                false => Standing { frozen, teardown: Teardown::None },
            };
            running.sync.set_standing(standing);
        }
        if let Some(claims) = &state.claims {
            claims.sync.freeze(frozen);
        }
    }
}

/// Lets objects go with their CRD where somebody deletes that. Their copies stay at the provider.
pub(super) fn let_go(provider: &Arc<Provider>, name: &str) {
    if let Some(state) = provider.bindings.lock().get(name) {
        for (_, running) in state.kinds.iter().filter(|(crd, _)| is_deleted(&provider.consumer, crd)) {
            running.sync.set_standing(WITH_ITS_CRD);
        }
    }
}

/// Takes in what the binding says about the claims that run, whatever else of it has to wait.
pub(super) fn heed(provider: &Arc<Provider>, name: &str, binding: &APIServiceBinding) {
    if let Some(claims) = provider.bindings.lock().get(name).and_then(|state| state.claims.as_ref()) {
        claims.sync.heed(&binding.spec.permission_claims);
    }
}

/// Whether a CRD is being deleted in the consumer cluster.
pub(super) fn is_deleted(consumer: &Consumer, crd: &str) -> bool {
    consumer.crds.store().get(&ObjectKey::cluster(crd)).is_some_and(|known| known.summary.deleting)
}
