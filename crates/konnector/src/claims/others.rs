//! What several bindings of one contract share. Copies at the provider carry the contract's mark, not a binding's, and the
//! provider's list is one for all of them; so before one binding removes a copy there, the others are asked. In: the item
//! and why it should go. Out: whether another binding still wants it there.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use contract::Claim;
use kube_bind_api::{APIServiceBinding, ClaimOwner, ClaimState};
use kube_client::ApiError;
use parking_lot::Mutex;

use super::{ClaimSync, State, index::ItemKey, referrers::Meant};
use crate::sync::claims::DropThere;

/// How long an unbinding waits for another binding to know what its objects refer to.
const PATIENCE: Duration = Duration::from_secs(60);

/// The claims of the bindings of one provider, by binding.
pub type Running = Mutex<HashMap<String, Weak<ClaimSync>>>;

/// Whether a copy at the provider is wanted by another binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// By none.
    No,
    /// By one at least, which looks after it from now on.
    Yes,
    /// One of them does not know yet.
    Unknown,
}

impl ClaimSync {
    /// Asks the other bindings of the contract, each by what it knows and then by a fresh look.
    pub(super) async fn wanted_by_others(&self, key: &ItemKey, why: DropThere) -> Result<Wanted, ApiError> {
        let Some(others) = self.others(key) else { return Ok(Wanted::Unknown) };
        let mut wanted = Wanted::No;
        let mut to_ask = Vec::new();
        for other in others {
            match other {
                None => wanted = Wanted::Unknown,
                Some(other) => match other.wants(key, why) {
                    None => {}
                    Some(Wanted::Yes) => return Ok(Wanted::Yes),
                    Some(Wanted::Unknown) => wanted = Wanted::Unknown,
                    Some(Wanted::No) => to_ask.push(other),
                },
            }
        }
        for other in to_ask {
            match other.nothing_refers(key).await? {
                Meant::Yes => {}
                Meant::No => return Ok(Wanted::Yes),
                Meant::NotYet => wanted = Wanted::Unknown,
            }
        }
        Ok(wanted)
    }

    /// The other bindings that may have copies of an item's kind at the provider; `None` in the list: one whose claims do
    /// not run (yet).
    pub(super) fn others(&self, key: &ItemKey) -> Option<Vec<Option<Arc<ClaimSync>>>> {
        let provider = self.provider.upgrade()?;
        let bindings = provider.consumer.bindings.store().all();
        let running: HashMap<String, Arc<ClaimSync>> = {
            let running = provider.claims.lock();
            running
                .iter()
                .filter_map(|(name, claims)| Some((name.clone(), claims.upgrade().filter(|c| !c.stop.is_cancelled())?)))
                .collect()
        };
        let others = bindings
            .into_iter()
            .filter(|(other, entry)| other.name != self.binding && provider.is_mine(&entry.summary));
        let others = others.filter_map(|(other, entry)| match running.get(&other.name) {
            Some(claims) => Some(Some(claims.clone())),
            // What the consumer has decided for it is in its spec.
            None => {
                let binding: APIServiceBinding = serde_json::from_value((*entry.summary).clone()).ok()?;
                let claims = &binding.spec.permission_claims;
                let may_have = claims.iter().any(|accepted| {
                    accepted.claim.resource == key.resource && accepted.claim.owner != Some(ClaimOwner::Provider)
                });
                may_have.then_some(None)
            }
        });
        Some(others.collect())
    }

    /// Whether this binding wants a copy at the provider, as far as it knows; `None`: none of its claims could.
    pub(super) fn wants(&self, key: &ItemKey, why: DropThere) -> Option<Wanted> {
        let state = self.state.lock();
        let entry = state.lists.get(&key.namespace).and_then(|l| l.get(&(key.resource.clone(), key.name.clone())));
        let selecting = state.selecting(key, state.side(key).present(), entry);
        let counting = state.sending(&key.resource, why);
        if state.draining || counting.is_empty() {
            return None;
        }
        if counting.iter().any(|claim| selecting.contains(claim)) {
            return Some(Wanted::Yes);
        }
        Some(if state.kinds_known() { Wanted::No } else { Wanted::Unknown })
    }

    /// For an unbinding: whether a copy at the provider is left to the others. One that is broken holds nobody up for
    /// long; what it does not want it removes itself when it is well again.
    pub(super) async fn left_to_others(&self, key: &ItemKey) -> Result<Wanted, ApiError> {
        match self.wanted_by_others(key, DropThere::ReferrerGone).await? {
            Wanted::Unknown if self.state.lock().draining_since.is_some_and(|since| since.elapsed() > PATIENCE) => {
                tracing::warn!(
                    item = %key, binding = %self.binding,
                    "another binding may want this copy at the provider and does not work at present: left to it"
                );
                Ok(Wanted::Yes)
            }
            known => Ok(known),
        }
    }
}

impl State {
    /// Claims (by index) under which objects of a kind go to the provider or stay there. A claim without a decision deletes
    /// nothing, but it does not stand against a rejection either.
    fn sending(&self, resource: &str, why: DropThere) -> Vec<usize> {
        let claims = self.claims.iter().zip(&self.states).enumerate();
        let counts = |claim: &Claim, decided: ClaimState| {
            claim.resource().resource == resource
                && claim.direction().to_provider()
                && match decided {
                    ClaimState::Accepted => true,
                    ClaimState::Pending => why != DropThere::Rejected,
                    ClaimState::Rejected => false,
                }
        };
        claims.filter(|(_, (claim, decided))| counts(claim, **decided)).map(|(index, _)| index).collect()
    }
}
