//! Reasons to delete. A [`Deletion`] can only be built from one of the intents below, each from its evidence, and carries
//! the uid that it is about; nothing else in the agent deletes objects. That something is *missing* is no intent.

/// Why an object may be deleted (architecture §5.2; there are exactly these).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The consumer's object has a deletion timestamp, while neither its CRD nor the binding is terminating (or the
    /// binding says `deletionPolicy: Delete`).
    ConsumerTerminating,
    /// The claim was explicitly rejected.
    ClaimRejected,
    /// The object that referred to it is going, or does not refer to it any more.
    ReferrerGone,
    /// The DELETE event of that very owner was seen.
    OwnerDeleted,
}

/// What is going on around an object that could make its deletion a side effect of something bigger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Teardown {
    /// Nothing.
    #[default]
    None,
    /// The bound CRD is being removed though the binding is not: its objects go with it, the provider's copies stay.
    Kind,
    /// The binding is going and leaves objects where they are.
    Orphan,
    /// The binding is going and was told to delete its objects.
    Delete,
}

/// A deletion that is due: why, and of which uid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    reason: Reason,
    uid: String,
}

impl Deletion {
    /// Of the provider's copy `uid`, because the consumer's object is terminating; `None` when that is only a side
    /// effect of the CRD or the binding going away.
    pub fn consumer_terminating(consumer_deleting: bool, teardown: Teardown, uid: &str) -> Option<Self> {
        (consumer_deleting && matches!(teardown, Teardown::None | Teardown::Delete))
            .then(|| Self { reason: Reason::ConsumerTerminating, uid: uid.to_owned() })
    }

    /// Of a copy, because every claim that selects it is explicitly rejected.
    pub fn claim_rejected(rejected: bool, uid: &str) -> Option<Self> {
        rejected.then(|| Self { reason: Reason::ClaimRejected, uid: uid.to_owned() })
    }

    /// Of a copy, because we saw its last referrer go or stop referring.
    pub fn referrer_gone(seen: bool, uid: &str) -> Option<Self> {
        seen.then(|| Self { reason: Reason::ReferrerGone, uid: uid.to_owned() })
    }

    /// Of a copy made from `owner_uid`, because the deletion of exactly that uid was seen.
    pub fn owner_deleted(owner_uid: &str, deleted_uid: Option<&str>, uid: &str) -> Option<Self> {
        (!owner_uid.is_empty() && deleted_uid == Some(owner_uid))
            .then(|| Self { reason: Reason::OwnerDeleted, uid: uid.to_owned() })
    }

    /// Why.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Of which uid: the precondition of the delete.
    pub fn uid(&self) -> &str {
        &self.uid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn side_effects_of_bigger_removals_are_no_intent() {
        assert!(Deletion::consumer_terminating(true, Teardown::None, "u").is_some());
        assert!(Deletion::consumer_terminating(true, Teardown::Delete, "u").is_some());
        assert!(Deletion::consumer_terminating(true, Teardown::Kind, "u").is_none());
        assert!(Deletion::consumer_terminating(true, Teardown::Orphan, "u").is_none());
        assert!(Deletion::consumer_terminating(false, Teardown::Delete, "u").is_none());
    }

    #[test]
    fn only_the_very_owner_counts() {
        assert!(Deletion::owner_deleted("a", Some("a"), "u").is_some());
        assert!(Deletion::owner_deleted("a", Some("b"), "u").is_none());
        assert!(Deletion::owner_deleted("a", None, "u").is_none());
        assert!(Deletion::owner_deleted("", Some(""), "u").is_none());
    }
}
