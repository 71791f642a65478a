//! What to do with one object that has owners.
//!
//! In: the object as it was just read and the state of each owner as it was just read. Out: a [`Verdict`]. Pure.

use crate::controllers::summary::{OwnerReference, Summary};
use crate::pipeline::Propagation;

/// What was found of an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerState {
    /// It is there, under the UID of the reference.
    Present,
    /// It is there, in foreground deletion.
    WaitsForDependents,
    /// It was looked for and is not there, or another object has its name.
    Absent,
    /// Its kind is not served, so nothing can be said.
    Unknown,
    /// A namespaced owner of a cluster-scoped object: not a valid reference.
    Invalid,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Keep,
    /// Ask again later.
    Retry,
    /// Take these owners (by UID) off the object.
    Release(Vec<String>),
    /// Delete the object.
    Delete(Propagation),
    /// Its owner waits for it, it waits for a dependent that waits as well: stop blocking the owner, then delete it in
    /// the foreground.
    BreakCycle,
}

/// What the object's own dependents look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dependents {
    /// There are some.
    pub any: bool,
    /// One of them waits for its own dependents.
    pub waiting: bool,
}

/// Decides about one object.
#[must_use]
pub fn decide(object: &Summary, owners: &[(&OwnerReference, OwnerState)], dependents: Dependents) -> Verdict {
    let in_foreground = object.has_finalizer(super::FOREGROUND);
    if owners.is_empty() || object.deleting {
        return Verdict::Keep;
    }
    let is = |wanted: OwnerState| owners.iter().any(|(_, state)| *state == wanted);
    if is(OwnerState::Invalid) {
        return Verdict::Keep;
    }
    if is(OwnerState::Unknown) {
        return Verdict::Retry;
    }
    if is(OwnerState::Present) {
        let gone: Vec<String> = owners
            .iter()
            .filter(|(_, state)| *state != OwnerState::Present)
            .map(|(owner, _)| owner.uid.to_string())
            .collect();
        return if gone.is_empty() { Verdict::Keep } else { Verdict::Release(gone) };
    }
    if is(OwnerState::WaitsForDependents) && dependents.any {
        return if dependents.waiting { Verdict::BreakCycle } else { Verdict::Delete(Propagation::Foreground) };
    }
    Verdict::Delete(if object.has_finalizer(super::ORPHAN) {
        Propagation::Orphan
    } else if in_foreground {
        Propagation::Foreground
    } else {
        Propagation::Background
    })
}

#[cfg(test)]
mod tests {
    use super::OwnerState::{Absent, Invalid, Present, Unknown, WaitsForDependents};
    use super::*;
    use crate::controllers::summary::testing::{owned, with_finalizer};
    use rstest::rstest;

    #[rstest]
    #[case::one_is_enough(&[Present], false, Verdict::Keep)]
    #[case::the_last_one_went(&[Absent], false, Verdict::Delete(Propagation::Background))]
    #[case::all_went(&[Absent, Absent], true, Verdict::Delete(Propagation::Background))]
    #[case::one_of_two_went(&[Present, Absent], false, Verdict::Release(vec!["u1".into()]))]
    #[case::one_of_two_waits(&[WaitsForDependents, Present], false, Verdict::Release(vec!["u0".into()]))]
    #[case::the_owner_waits(&[WaitsForDependents], false, Verdict::Delete(Propagation::Background))]
    #[case::the_owner_waits_for_a_tree(&[WaitsForDependents], true, Verdict::Delete(Propagation::Foreground))]
    #[case::never_on_ignorance(&[Absent, Unknown], false, Verdict::Retry)]
    #[case::present_but_another_unknown(&[Present, Unknown], false, Verdict::Retry)]
    #[case::invalid_reference(&[Invalid], false, Verdict::Keep)]
    #[case::invalid_reference_beside_an_absent_one(&[Absent, Invalid], false, Verdict::Keep)]
    fn verdicts(#[case] states: &[OwnerState], #[case] any: bool, #[case] verdict: Verdict) {
        let uids: Vec<String> = (0..states.len()).map(|n| format!("u{n}")).collect();
        let object = owned("own", &uids.iter().map(String::as_str).collect::<Vec<_>>(), false);
        let owners: Vec<_> = object.owners.iter().zip(states.iter().copied()).collect();
        assert_eq!(decide(&object, &owners, Dependents { any, waiting: false }), verdict);
    }

    #[test]
    fn a_cycle_is_broken() {
        let object = owned("own", &["u"], true);
        let owners = [(&object.owners[0], WaitsForDependents)];
        assert_eq!(decide(&object, &owners, Dependents { any: true, waiting: true }), Verdict::BreakCycle);
    }

    #[test]
    fn what_is_being_deleted_is_left_alone() {
        let mut object = with_finalizer("own", "example.com/mine");
        object.owners = owned("own", &["u"], false).owners;
        let owners = [(&object.owners[0], Absent)];
        assert_eq!(decide(&object, &owners, Dependents::default()), Verdict::Keep);
    }
}
