//! Which claims a consumer has agreed to.
//!
//! In: the claims of an export and what the consumer states about claims. Out: every claim with its state, and
//! [`AcceptedClaim`]s, which only this module can make: whatever copies an object or grants a right takes one, so a claim
//! that was not accepted cannot be handed to it.
//!
//! The agent compares the export with the binding's spec and reports the result in the export's status; the backend
//! compares the export with that status. A claim counts as the same only as a whole ([`Claim::canonical`]): a wider one is
//! a new one.

use kube_bind_api::{ClaimState, PermissionClaim, StatedClaim};

use crate::claims::{Claim, ClaimError};

/// A claim that the consumer has accepted, word for word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedClaim(Claim);

impl std::ops::Deref for AcceptedClaim {
    type Target = Claim;

    fn deref(&self) -> &Claim {
        &self.0
    }
}

/// A claim and what the consumer says to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The claim, as the export has it.
    pub claim: Claim,
    /// The consumer's word; none given is pending.
    pub state: ClaimState,
}

/// The consumer's word on every claim of an export.
#[derive(Clone, Debug, Default)]
pub struct Consent {
    /// Claims that can be read, in the export's order.
    pub decisions: Vec<Decision>,
    /// Claims that cannot: nothing crosses under them.
    pub invalid: Vec<(PermissionClaim, ClaimError)>,
    /// What the consumer decided about claims that the export does not (or no longer) make.
    pub unasked: Vec<StatedClaim>,
}

impl Consent {
    /// Compares an export's claims with what the consumer states. If the consumer states one claim twice, the most
    /// cautious word counts: rejected before pending before accepted.
    pub fn decide(asked: &[PermissionClaim], stated: &[StatedClaim]) -> Self {
        let stated: Vec<(&StatedClaim, Option<Claim>)> =
            stated.iter().map(|entry| (entry, Claim::parse(&entry.claim).ok())).collect();
        let mut consent = Consent::default();
        for wire in asked {
            match Claim::parse(wire) {
                Err(error) => consent.invalid.push((wire.clone(), error)),
                Ok(claim) => {
                    let state = stated
                        .iter()
                        .filter(|(_, known)| known.as_ref() == Some(&claim))
                        .map(|(entry, _)| entry.state())
                        .min_by_key(|state| caution(*state))
                        .unwrap_or(ClaimState::Pending);
                    consent.decisions.push(Decision { claim, state });
                }
            }
        }
        consent.unasked = stated
            .iter()
            .filter(|(_, known)| {
                known.as_ref().is_none_or(|known| !consent.decisions.iter().any(|decision| decision.claim == *known))
            })
            .map(|(entry, _)| (*entry).clone())
            .collect();
        consent
    }

    /// What the agent reports in the export's status: each claim of the export, whole, with its state.
    pub fn report(&self) -> Vec<StatedClaim> {
        let readable =
            self.decisions.iter().map(|decision| StatedClaim::new(decision.claim.wire().clone(), decision.state));
        let unreadable = self.invalid.iter().map(|(wire, _)| StatedClaim::new(wire.clone(), ClaimState::Pending));
        readable.chain(unreadable).collect()
    }

    /// Claims under which objects may cross.
    pub fn accepted(&self) -> Vec<AcceptedClaim> {
        self.with(ClaimState::Accepted).cloned().map(AcceptedClaim).collect()
    }

    /// Claims whose copies have to go.
    pub fn rejected(&self) -> Vec<Claim> {
        self.with(ClaimState::Rejected).cloned().collect()
    }

    /// Claims that wait for a word: nothing crosses, nothing goes.
    pub fn pending(&self) -> Vec<Claim> {
        self.with(ClaimState::Pending).cloned().collect()
    }

    fn with(&self, state: ClaimState) -> impl Iterator<Item = &Claim> {
        self.decisions.iter().filter(move |decision| decision.state == state).map(|decision| &decision.claim)
    }

    /// What [`Decision::state`] is for one claim.
    pub fn state_of(&self, claim: &Claim) -> Option<ClaimState> {
        self.decisions.iter().find(|decision| decision.claim == *claim).map(|decision| decision.state)
    }
}

/// Takes over a binding of the Go release, which knows no consent: claims that were being synced go on, as accepted, and
/// the caller lists them for confirmation. Never use it for a binding of ours.
pub fn taken_over(synced: &[PermissionClaim]) -> Vec<StatedClaim> {
    synced.iter().map(|wire| StatedClaim::new(wire.clone(), ClaimState::Accepted)).collect()
}

fn caution(state: ClaimState) -> u8 {
    match state {
        ClaimState::Rejected => 0,
        ClaimState::Pending => 1,
        ClaimState::Accepted => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn wire(path: &str) -> PermissionClaim {
        let value = json!({"resource": "secrets", "owner": "Provider", "selector": {"references": [
            {"group": "m", "resource": "mm", "jsonPath": {"name": path}}]}});
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_the_very_claim_counts() {
        let asked = [wire("spec.a"), wire("spec.b"), wire("spec.c"), wire("spec.*")];
        let mut wider = wire("spec.c");
        wider.selector.label_selector = Some(Default::default());
        let stated = [
            StatedClaim::new(wire(".spec.a"), ClaimState::Accepted),
            StatedClaim::new(wire("spec.b"), ClaimState::Rejected),
            StatedClaim::new(wider, ClaimState::Accepted),
            StatedClaim::new(wire("spec.*"), ClaimState::Accepted),
        ];
        let consent = Consent::decide(&asked, &stated);
        assert_eq!(consent.accepted().len(), 1);
        assert_eq!(consent.accepted()[0].wire(), &wire("spec.a"));
        assert_eq!(consent.rejected()[0].wire(), &wire("spec.b"));
        assert_eq!(consent.pending()[0].wire(), &wire("spec.c"));
        assert_eq!(consent.invalid.len(), 1, "an unreadable claim cannot be accepted");
        assert_eq!(consent.unasked.len(), 2);
        let report: Value = serde_json::to_value(consent.report()).unwrap();
        let states: Vec<_> = report.as_array().unwrap().iter().map(|entry| entry["state"].clone()).collect();
        assert_eq!(states, ["Accepted", "Rejected", "Pending", "Pending"]);
        let again = Consent::decide(&asked, &consent.report());
        assert_eq!(again.accepted(), consent.accepted(), "the report says the same");
    }

    #[test]
    fn the_most_cautious_word_counts() {
        let both = |a, b| {
            let stated = [StatedClaim::new(wire("spec.a"), a), StatedClaim::new(wire("spec.a"), b)];
            Consent::decide(&[wire("spec.a")], &stated).decisions[0].state
        };
        assert_eq!(both(ClaimState::Accepted, ClaimState::Rejected), ClaimState::Rejected);
        assert_eq!(both(ClaimState::Pending, ClaimState::Accepted), ClaimState::Pending);
        let silent = StatedClaim { claim: wire("spec.a"), state: None };
        assert!(Consent::decide(&[wire("spec.a")], &[silent]).accepted().is_empty());
        assert!(Consent::decide(&[wire("spec.a")], &[]).accepted().is_empty());
    }
}
