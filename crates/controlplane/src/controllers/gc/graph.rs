//! Who names whom as owner.
//!
//! In: every committed change ([`Graph::observe`]). Out: the [`Step`]s it makes due. Pure; fed by the controllers' one
//! loop in the order of the commits. Only objects that have owners, or wait for their dependents, take memory.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::controllers::ObjectId;
use crate::controllers::summary::{OwnerReference, Summary};

/// Something to look at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// An object that has owners: is there still one?
    Judge(ObjectId),
    /// An object in foreground deletion: has the last blocking dependent gone?
    Unblock(ObjectId),
    /// An object whose dependents are to be released.
    Orphan(ObjectId),
}

/// A UID, with the logical cluster it is from.
type Uid = (Arc<str>, Arc<str>);

/// The graph of all logical clusters; no edge crosses from one to another.
#[derive(Default)]
pub struct Graph {
    owners: HashMap<ObjectId, Vec<OwnerReference>>,
    dependents: HashMap<Uid, BTreeSet<ObjectId>>,
    waiting: HashMap<Uid, ObjectId>,
}

impl Graph {
    /// Takes in the state of an object after a change.
    pub fn observe(&mut self, id: &ObjectId, object: &Summary) -> Vec<Step> {
        let mut steps = Vec::new();
        let before = self.owners.get(id).map(Vec::as_slice).unwrap_or_default();
        if before != object.owners {
            let lost = self.forget_edges(id);
            steps.extend(self.unblocked(id, &lost));
            if !object.owners.is_empty() {
                for owner in &object.owners {
                    self.dependents.entry(uid(id, &owner.uid)).or_default().insert(id.clone());
                }
                self.owners.insert(id.clone(), object.owners.clone());
                steps.push(Step::Judge(id.clone()));
            }
        }
        let own = uid(id, &object.uid);
        if object.deleting && object.has_finalizer(super::ORPHAN) {
            steps.push(Step::Orphan(id.clone()));
        }
        if object.deleting && object.has_finalizer(super::FOREGROUND) {
            if self.waiting.insert(own.clone(), id.clone()).is_none() {
                steps.extend(self.dependents_of(&own).map(Step::Judge));
            }
            steps.push(Step::Unblock(id.clone()));
        } else {
            self.waiting.remove(&own);
        }
        steps
    }

    /// Takes in that an object is gone.
    pub fn forget(&mut self, id: &ObjectId, object: &Summary) -> Vec<Step> {
        let own = uid(id, &object.uid);
        self.waiting.remove(&own);
        let lost = self.forget_edges(id);
        let mut steps = self.unblocked(id, &lost);
        steps.extend(self.dependents_of(&own).map(Step::Judge));
        steps
    }

    /// The objects that name this UID as an owner.
    pub fn dependents(&self, cluster: &Arc<str>, uid: &str) -> Vec<ObjectId> {
        self.dependents_of(&(cluster.clone(), uid.into())).collect()
    }

    /// The dependents that an object in foreground deletion waits for.
    pub fn blocking(&self, cluster: &Arc<str>, uid: &str) -> Vec<ObjectId> {
        self.dependents(cluster, uid)
            .into_iter()
            .filter(|id| {
                self.owners.get(id).is_some_and(|owners| owners.iter().any(|owner| *owner.uid == *uid && owner.blocks))
            })
            .collect()
    }

    /// Whether an object waits for its dependents.
    pub fn waits(&self, id: &ObjectId) -> bool {
        self.waiting.values().any(|waiting| waiting == id)
    }

    fn dependents_of(&self, owner: &Uid) -> impl Iterator<Item = ObjectId> + use<> {
        self.dependents.get(owner).cloned().unwrap_or_default().into_iter()
    }

    /// Removes the edges of an object to its owners, which are returned.
    fn forget_edges(&mut self, id: &ObjectId) -> Vec<OwnerReference> {
        let lost = self.owners.remove(id).unwrap_or_default();
        for owner in &lost {
            let key = uid(id, &owner.uid);
            if let Some(dependents) = self.dependents.get_mut(&key) {
                dependents.remove(id);
                if dependents.is_empty() {
                    self.dependents.remove(&key);
                }
            }
        }
        lost
    }

    fn unblocked(&self, id: &ObjectId, owners: &[OwnerReference]) -> Vec<Step> {
        owners.iter().filter_map(|owner| self.waiting.get(&uid(id, &owner.uid)).cloned().map(Step::Unblock)).collect()
    }
}

fn uid(id: &ObjectId, uid: &str) -> Uid {
    (id.key.cluster.clone(), uid.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::summary::testing::{id, owned, plain, with_finalizer};

    #[test]
    fn a_gone_owner_makes_its_dependents_due() {
        let mut graph = Graph::default();
        assert!(graph.observe(&id("configmaps", "owner"), &plain("u1")).is_empty());
        let dependent = id("configmaps", "dependent");
        assert_eq!(graph.observe(&dependent, &owned("u2", &["u1"], false)), [Step::Judge(dependent.clone())]);
        assert!(graph.observe(&dependent, &owned("u2", &["u1"], false)).is_empty(), "nothing new, nothing due");
        assert_eq!(graph.forget(&id("configmaps", "owner"), &plain("u1")), [Step::Judge(dependent.clone())]);
        assert!(graph.forget(&dependent, &owned("u2", &["u1"], false)).is_empty());
        assert!(graph.owners.is_empty() && graph.dependents.is_empty());
    }

    #[test]
    fn foreground_deletion_waits_for_what_blocks() {
        let mut graph = Graph::default();
        let (owner, blocking, other) = (id("configmaps", "o"), id("configmaps", "b"), id("configmaps", "x"));
        graph.observe(&blocking, &owned("b", &["o"], true));
        graph.observe(&other, &owned("x", &["o"], false));
        let waiting = with_finalizer("o", super::super::FOREGROUND);
        assert_eq!(
            graph.observe(&owner, &waiting),
            [Step::Judge(blocking.clone()), Step::Judge(other.clone()), Step::Unblock(owner.clone())]
        );
        assert_eq!(graph.blocking(&owner.key.cluster, "o"), std::slice::from_ref(&blocking));
        assert_eq!(graph.forget(&blocking, &owned("b", &["o"], true)), [Step::Unblock(owner.clone())]);
        assert!(graph.blocking(&owner.key.cluster, "o").is_empty());
    }

    #[test]
    fn a_uid_counts_in_its_own_cluster() {
        let mut graph = Graph::default();
        graph.observe(&id("configmaps", "dependent"), &owned("u2", &["u1"], false));
        let mut elsewhere = id("configmaps", "owner");
        elsewhere.key.cluster = "other".into();
        assert!(graph.forget(&elsewhere, &plain("u1")).is_empty());
    }

    #[test]
    fn orphaning_is_a_step_of_the_owner() {
        let mut graph = Graph::default();
        let owner = id("configmaps", "o");
        assert_eq!(graph.observe(&owner, &with_finalizer("o", super::super::ORPHAN)), [Step::Orphan(owner.clone())]);
    }
}
