//! What to do about one claimed object: one name of one claimed kind in one consumer namespace. In: which claims select
//! it and what the consumer said to them, both sides as they are known, and what evidence there is for deletions. Out: at
//! most one action. Pure; `claims` carries it out and checks again against fresh reads.
//!
//! Direction *here* is from provider to consumer, *there* the other way. Nothing is done without an accepted claim but
//! removing copies of an explicitly rejected one, or of one whose last referrer was seen to go.

use kube_bind_api::{ClaimState, ClaimedObject};

use super::{Side, digest::Digest, intent::Deletion};

/// What the claims say about an object, all that select it taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// At least one accepted claim selects it.
    Accepted,
    /// Claims select it, and all of them are rejected.
    Rejected,
    /// Claims select it, none accepted, not all rejected.
    Pending,
    /// None selects it.
    None,
}

impl Selection {
    /// Of the states of all claims that select an object.
    pub fn of(states: impl IntoIterator<Item = ClaimState>) -> Self {
        states.into_iter().fold(Self::None, |so_far, state| match (so_far, state) {
            (Self::Accepted, _) | (_, ClaimState::Accepted) => Self::Accepted,
            (Self::None | Self::Rejected, ClaimState::Rejected) => Self::Rejected,
            _ => Self::Pending,
        })
    }
}

/// Which way an object may travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The provider makes it, the consumer has a copy.
    Here,
    /// The consumer makes it, the provider has a copy.
    There,
    /// Whoever has it first.
    Either,
}

/// An object of a claimed kind at the consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemSummary {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub revision: String,
    /// Has a deletion timestamp.
    pub deleting: bool,
    /// It carries the marks of a copy that this binding made.
    pub copy: bool,
    /// For a copy: uid of the provider's object that it was made from.
    pub source_uid: Option<String>,
    /// For a copy: digest of what our apply owns.
    pub owned: Option<Digest>,
    /// For an object of the consumer's own: digest of what would be written at the provider; `None` when it never
    /// crosses.
    pub content: Option<Digest>,
    /// Claims that select it by label (indices).
    pub by_label: Box<[u16]>,
}

/// What was written last, in memory only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirrored {
    /// Provider's uid and revision at that time.
    pub provider: (String, String),
    /// Digest of the consumer's part: of the copy's owned fields, or of the content that was carried over.
    pub consumer: Option<Digest>,
}

/// Everything that the decision depends on.
#[derive(Clone, Debug)]
pub struct Item {
    /// What the claims say.
    pub selection: Selection,
    /// Which way.
    pub way: Way,
    /// Consumer's side.
    pub consumer: Side<ItemSummary>,
    /// The provider's list entry.
    pub entry: Option<ClaimedObject>,
    /// The last referrer was seen to go (or nothing refers to it on a fresh look).
    pub unreferred: bool,
    /// Uid of the consumer's own object whose deletion was seen.
    pub deleted_uid: Option<String>,
    /// What was written last.
    pub mirrored: Option<Mirrored>,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimAction {
    /// Nothing.
    Nothing,
    /// Fetch the provider's object and make or update the copy here.
    Pull,
    /// Make or update the copy at the provider.
    Push,
    /// Delete the copy here.
    DropHere(Deletion),
    /// Delete the copy there, if a read confirms that it is ours.
    DropThere(DropThere),
    /// The consumer's object of that name is not a copy of ours.
    Occupied,
}

/// Why a copy at the provider goes. The read of the copy makes the [`Deletion`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropThere {
    /// Claim rejected.
    Rejected,
    /// Its last referrer was seen to go.
    ReferrerGone,
    /// The deletion of the consumer's object was seen.
    OwnerDeleted,
}

/// Decides about one claimed object.
pub fn decide(item: &Item) -> ClaimAction {
    if item.consumer == Side::Unknown {
        return ClaimAction::Nothing;
    }
    let copy_here = item.consumer.present().is_some_and(|c| c.copy);
    match (item.selection, item.way) {
        (Selection::Pending, _) => ClaimAction::Nothing,
        (Selection::Rejected, _) => rejected(item),
        (Selection::None, _) => unselected(item),
        (Selection::Accepted, Way::Here) => here(item),
        (Selection::Accepted, Way::There) if copy_here => ClaimAction::Nothing,
        (Selection::Accepted, Way::There) => there(item),
        (Selection::Accepted, Way::Either) if copy_here => here(item),
        (Selection::Accepted, Way::Either) => match &item.consumer {
            Side::Present(_) => there(item),
            _ if item.deleted_uid.is_some() => there(item),
            _ => here(item),
        },
    }
}

/// Entry of an object that is there now.
fn existing(entry: &Option<ClaimedObject>) -> Option<&ClaimedObject> {
    entry.as_ref().filter(|e| e.uid.is_some() && e.deleted != Some(true))
}

fn here(item: &Item) -> ClaimAction {
    let Some(entry) = &item.entry else { return ClaimAction::Nothing };
    let Some(uid) = &entry.uid else { return ClaimAction::Nothing };
    if entry.deleted == Some(true) {
        let Side::Present(copy) = &item.consumer else { return ClaimAction::Nothing };
        if !copy.copy || copy.deleting {
            return ClaimAction::Nothing;
        }
        let owner = copy.source_uid.as_deref().unwrap_or_default();
        return match Deletion::owner_deleted(owner, Some(uid), &copy.uid) {
            Some(deletion) => ClaimAction::DropHere(deletion),
            None => ClaimAction::Nothing,
        };
    }
    match &item.consumer {
        Side::Unknown => ClaimAction::Nothing,
        Side::Present(copy) if !copy.copy => ClaimAction::Occupied,
        Side::Present(copy) if copy.deleting => ClaimAction::Nothing,
        Side::Present(copy) => {
            let now = (uid.clone(), entry.resource_version.clone().unwrap_or_default());
            let same = item.mirrored.as_ref().is_some_and(|m| m.provider == now && m.consumer == copy.owned);
            if same { ClaimAction::Nothing } else { ClaimAction::Pull }
        }
        Side::Absent => ClaimAction::Pull,
    }
}

fn there(item: &Item) -> ClaimAction {
    // Without an entry there is no right to touch anything of that name.
    if item.entry.is_none() {
        return ClaimAction::Nothing;
    }
    match &item.consumer {
        Side::Present(own) if !own.deleting => {
            if own.content.is_none() {
                return ClaimAction::Push;
            }
            let now = existing(&item.entry)
                .map(|e| (e.uid.clone().unwrap_or_default(), e.resource_version.clone().unwrap_or_default()));
            let same = match (&item.mirrored, &now) {
                (Some(m), Some(now)) => m.provider == *now && m.consumer == own.content,
                _ => false,
            };
            if same { ClaimAction::Nothing } else { ClaimAction::Push }
        }
        Side::Absent if item.deleted_uid.is_some() && existing(&item.entry).is_some() => {
            ClaimAction::DropThere(DropThere::OwnerDeleted)
        }
        _ => ClaimAction::Nothing,
    }
}

fn rejected(item: &Item) -> ClaimAction {
    if let Side::Present(copy) = &item.consumer
        && copy.copy
    {
        return match Deletion::claim_rejected(!copy.deleting, &copy.uid) {
            Some(deletion) => ClaimAction::DropHere(deletion),
            None => ClaimAction::Nothing,
        };
    }
    if item.way != Way::Here && existing(&item.entry).is_some() {
        return ClaimAction::DropThere(DropThere::Rejected);
    }
    ClaimAction::Nothing
}

fn unselected(item: &Item) -> ClaimAction {
    if !item.unreferred {
        return ClaimAction::Nothing;
    }
    if let Side::Present(copy) = &item.consumer
        && copy.copy
    {
        return match Deletion::referrer_gone(!copy.deleting, &copy.uid) {
            Some(deletion) => ClaimAction::DropHere(deletion),
            None => ClaimAction::Nothing,
        };
    }
    if item.way != Way::Here && existing(&item.entry).is_some() {
        return ClaimAction::DropThere(DropThere::ReferrerGone);
    }
    ClaimAction::Nothing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(uid: Option<&str>, deleted: bool) -> ClaimedObject {
        ClaimedObject {
            group: String::new(),
            resource: "secrets".into(),
            name: "db".into(),
            owner: None,
            uid: uid.map(Into::into),
            resource_version: uid.map(|_| "7".into()),
            deleted: deleted.then_some(true),
        }
    }

    fn summary(copy: bool) -> ItemSummary {
        ItemSummary {
            uid: "c".into(),
            revision: "1".into(),
            deleting: false,
            copy,
            source_uid: Some("p".into()),
            owned: Some(Digest::of_bytes(b"x")),
            content: Some(Digest::of_bytes(b"x")),
            by_label: Box::new([]),
        }
    }

    fn item(selection: Selection, way: Way) -> Item {
        Item {
            selection,
            way,
            consumer: Side::Absent,
            entry: Some(entry(Some("p"), false)),
            unreferred: false,
            deleted_uid: None,
            mirrored: None,
        }
    }

    #[test]
    fn only_an_accepted_claim_moves_anything() {
        use ClaimState::{Accepted, Pending, Rejected};
        assert_eq!(Selection::of([Pending, Accepted, Rejected]), Selection::Accepted);
        assert_eq!(Selection::of([Rejected, Pending]), Selection::Pending);
        assert_eq!(Selection::of([Rejected, Rejected]), Selection::Rejected);
        assert_eq!(Selection::of([]), Selection::None);
        for way in [Way::Here, Way::There, Way::Either] {
            for selection in [Selection::Pending, Selection::None] {
                for consumer in [Side::Absent, Side::Present(summary(true)), Side::Present(summary(false))] {
                    assert_eq!(decide(&Item { consumer, ..item(selection, way) }), ClaimAction::Nothing);
                }
            }
        }
        assert_eq!(decide(&item(Selection::Accepted, Way::Here)), ClaimAction::Pull);
    }

    #[test]
    fn an_object_that_is_not_ours_is_never_touched() {
        let occupied = Item { consumer: Side::Present(summary(false)), ..item(Selection::Accepted, Way::Here) };
        assert_eq!(decide(&occupied), ClaimAction::Occupied);
        let rejected = Item { consumer: Side::Present(summary(false)), ..item(Selection::Rejected, Way::Here) };
        assert_eq!(decide(&rejected), ClaimAction::Nothing);
    }

    #[test]
    fn a_vanished_entry_proves_nothing_and_a_deleted_one_only_for_its_uid() {
        let here = || Item { consumer: Side::Present(summary(true)), ..item(Selection::Accepted, Way::Here) };
        assert_eq!(decide(&Item { entry: None, ..here() }), ClaimAction::Nothing);
        assert!(matches!(decide(&Item { entry: Some(entry(Some("p"), true)), ..here() }), ClaimAction::DropHere(_)));
        assert_eq!(decide(&Item { entry: Some(entry(Some("other"), true)), ..here() }), ClaimAction::Nothing);
    }

    #[test]
    fn the_consumers_own_object_goes_up_only_where_granted_and_down_only_with_evidence() {
        let own = || Item { consumer: Side::Present(summary(false)), ..item(Selection::Accepted, Way::There) };
        assert_eq!(decide(&Item { entry: None, ..own() }), ClaimAction::Nothing);
        assert_eq!(decide(&Item { entry: Some(entry(None, false)), ..own() }), ClaimAction::Push);
        let gone = || item(Selection::Accepted, Way::There);
        assert_eq!(decide(&gone()), ClaimAction::Nothing, "missing is no evidence");
        assert_eq!(
            decide(&Item { deleted_uid: Some("c".into()), ..gone() }),
            ClaimAction::DropThere(DropThere::OwnerDeleted)
        );
    }

    #[test]
    fn at_rest_nothing_is_done() {
        let mirrored = Mirrored { provider: ("p".into(), "7".into()), consumer: Some(Digest::of_bytes(b"x")) };
        for (way, copy) in [(Way::Here, true), (Way::There, false), (Way::Either, true), (Way::Either, false)] {
            let item = Item {
                consumer: Side::Present(summary(copy)),
                mirrored: Some(mirrored.clone()),
                ..item(Selection::Accepted, way)
            };
            assert_eq!(decide(&item), ClaimAction::Nothing, "{way:?}");
        }
    }

    #[test]
    fn rejected_and_unreferred_copies_go() {
        let copy = |s, w| Item { consumer: Side::Present(summary(true)), ..item(s, w) };
        assert!(matches!(decide(&copy(Selection::Rejected, Way::Here)), ClaimAction::DropHere(_)));
        let unreferred = Item { unreferred: true, ..copy(Selection::None, Way::Here) };
        assert!(matches!(decide(&unreferred), ClaimAction::DropHere(_)));
        let own = Item { consumer: Side::Present(summary(false)), ..item(Selection::Rejected, Way::There) };
        assert_eq!(decide(&own), ClaimAction::DropThere(DropThere::Rejected));
        let own = Item { unreferred: true, selection: Selection::None, ..own };
        assert_eq!(decide(&own), ClaimAction::DropThere(DropThere::ReferrerGone));
    }
}
