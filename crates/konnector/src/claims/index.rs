//! Who refers to what. In: for each object of a bound kind, the names it refers to by claim, before and after a change.
//! Out: which claims select a name, who its referrers are, and the evidence that the last of them was seen to go.

use std::collections::{HashMap, HashSet};

use kube_bind_api::GroupResource;

use crate::sync::{ConsumerKey, summary::ConsumerSummary};

/// One claimed object: plural of the claimed kind (core group), consumer namespace, name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ItemKey {
    /// Plural name of its kind.
    pub resource: String,
    /// Consumer namespace.
    pub namespace: String,
    /// Name, the same on both sides.
    pub name: String,
}

impl std::fmt::Display for ItemKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.resource, self.namespace, self.name)
    }
}

/// An object that refers to others.
pub type Referrer = (GroupResource, ConsumerKey);

/// See the module.
#[derive(Debug, Default)]
pub struct Index {
    /// Claimed kind of each claim, by index.
    resources: Vec<String>,
    referrers: HashMap<ItemKey, HashMap<Referrer, HashSet<u16>>>,
    unreferred: HashSet<ItemKey>,
    /// Names of the objects of bound kinds, by namespace and kind: one for each object there is, so no more than that.
    users: HashMap<String, HashMap<GroupResource, HashSet<Box<str>>>>,
    /// Bound kinds that are cluster-scoped.
    from_afar: HashSet<GroupResource>,
}

impl Index {
    /// An empty index for claims of these kinds, in the claims' order.
    pub fn new(resources: Vec<String>) -> Self {
        Self { resources, ..Self::default() }
    }

    fn items(&self, key: &ConsumerKey, summary: &ConsumerSummary) -> HashSet<(ItemKey, u16)> {
        summary
            .references
            .iter()
            .filter_map(|(claim, name)| {
                let resource = self.resources.get(usize::from(*claim))?.clone();
                // A cluster-scoped object says where: `namespace/name`.
                let (namespace, name) = match &key.namespace {
                    Some(namespace) => (namespace.as_str(), &**name),
                    None => name.split_once('/')?,
                };
                let item = ItemKey { resource, namespace: namespace.to_owned(), name: name.to_owned() };
                Some((item, *claim))
            })
            .collect()
    }

    /// Takes in a change; returns the items that it concerns.
    pub fn change(
        &mut self,
        referring: &GroupResource,
        key: &ConsumerKey,
        old: Option<&ConsumerSummary>,
        new: Option<&ConsumerSummary>,
    ) -> Vec<ItemKey> {
        let before = old.map(|s| self.items(key, s)).unwrap_or_default();
        let after = new.map(|s| self.items(key, s)).unwrap_or_default();
        let referrer = (referring.clone(), key.clone());
        match &key.namespace {
            Some(namespace) => self.note_user(namespace, &referrer, new.is_some()),
            None => {
                self.from_afar.insert(referring.clone());
                let namespaces = |items: &HashSet<(ItemKey, u16)>| -> HashSet<String> {
                    items.iter().map(|(item, _)| item.namespace.clone()).collect()
                };
                let (left, named) = (namespaces(&before), namespaces(&after));
                left.difference(&named).for_each(|namespace| self.note_user(namespace, &referrer, false));
                named.iter().for_each(|namespace| self.note_user(namespace, &referrer, true));
            }
        }
        let mut concerned = Vec::new();
        for (item, claim) in before.difference(&after) {
            if let Some(referrers) = self.referrers.get_mut(item) {
                if let Some(claims) = referrers.get_mut(&referrer) {
                    claims.remove(claim);
                    if claims.is_empty() {
                        referrers.remove(&referrer);
                    }
                }
                if referrers.is_empty() {
                    self.referrers.remove(item);
                    self.unreferred.insert(item.clone());
                }
            }
            concerned.push(item.clone());
        }
        for (item, claim) in after {
            self.unreferred.remove(&item);
            self.referrers.entry(item.clone()).or_default().entry(referrer.clone()).or_default().insert(claim);
            concerned.push(item);
        }
        concerned
    }

    fn note_user(&mut self, namespace: &str, referrer: &Referrer, there: bool) {
        let name = referrer.1.name.as_str();
        if there {
            let users = self.users.entry(namespace.to_owned()).or_default().entry(referrer.0.clone()).or_default();
            if !users.contains(name) {
                users.insert(name.into());
            }
        } else if let Some(kinds) = self.users.get_mut(namespace) {
            if let Some(users) = kinds.get_mut(&referrer.0) {
                users.remove(name);
                if users.is_empty() {
                    kinds.remove(&referrer.0);
                }
            }
            if kinds.is_empty() {
                self.users.remove(namespace);
            }
        }
    }

    /// Whether a cluster-scoped object refers to something in a namespace.
    pub fn named_from_afar(&self, namespace: &str) -> bool {
        self.users.get(namespace).is_some_and(|users| users.keys().any(|kind| self.from_afar.contains(kind)))
    }

    /// Whether there are objects of bound kinds in a namespace, or cluster-scoped ones that name it.
    pub fn uses(&self, namespace: &str) -> bool {
        self.users.contains_key(namespace)
    }

    /// Namespaces in which there are objects of bound kinds.
    pub fn namespaces(&self) -> Vec<String> {
        self.users.keys().cloned().collect()
    }

    /// A kind's watch starts anew and will tell everything again: what it said is forgotten, which is no evidence.
    pub fn forget_kind(&mut self, kind: &GroupResource) {
        self.referrers.retain(|_, referrers| {
            referrers.retain(|(k, _), _| k != kind);
            !referrers.is_empty()
        });
        self.users.retain(|_, users| {
            users.remove(kind);
            !users.is_empty()
        });
    }

    /// Claims that select an item by reference.
    pub fn claims_of(&self, item: &ItemKey) -> HashSet<u16> {
        self.referrers.get(item).map(|r| r.values().flatten().copied().collect()).unwrap_or_default()
    }

    /// Who refers to an item, and under which claims.
    pub fn referrers_of(&self, item: &ItemKey) -> Vec<(Referrer, HashSet<u16>)> {
        self.referrers.get(item).map(|r| r.iter().map(|(k, v)| (k.clone(), v.clone())).collect()).unwrap_or_default()
    }

    /// Whether this object refers to an item.
    pub fn refers(&self, item: &ItemKey, referring: &GroupResource, key: &ConsumerKey) -> bool {
        let mut referrers = self.referrers.get(item).into_iter().flat_map(HashMap::keys);
        referrers.any(|(kind, referrer)| kind == referring && referrer == key)
    }

    /// Whether the last referrer of an item was seen to go.
    pub fn seen_unreferred(&self, item: &ItemKey) -> bool {
        self.unreferred.contains(item)
    }

    /// The evidence is used up, or was not confirmed.
    pub fn forget_evidence(&mut self, item: &ItemKey) {
        self.unreferred.remove(item);
    }

    /// All items.
    pub fn all(&self) -> Vec<ItemKey> {
        self.referrers.keys().chain(self.unreferred.iter()).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::{digest::Digest, status::StatusKey};

    fn refers(names: &[&str]) -> ConsumerSummary {
        ConsumerSummary {
            uid: "u".into(),
            revision: "1".into(),
            generation: 1,
            deleting: false,
            finalizer: true,
            other_finalizers: false,
            provider_namespace: None,
            desired: Digest::of_bytes(b""),
            status: StatusKey { digest: None, generations: Box::new([]) },
            references: names.iter().map(|n| (0, Box::from(*n))).collect(),
        }
    }

    fn item(name: &str) -> ItemKey {
        ItemKey { resource: "secrets".into(), namespace: "n".into(), name: name.into() }
    }

    #[test]
    fn an_item_goes_with_the_last_of_its_referrers() {
        let mut index = Index::new(vec!["secrets".into()]);
        let kind = GroupResource::new("x", "things");
        let (a, b) = (ConsumerKey::new(Some("n"), "a"), ConsumerKey::new(Some("n"), "b"));
        index.change(&kind, &a, None, Some(&refers(&["s"])));
        index.change(&kind, &b, None, Some(&refers(&["s", "t"])));
        index.change(&kind, &a, Some(&refers(&["s"])), None);
        assert!(!index.seen_unreferred(&item("s")));
        assert_eq!(index.referrers_of(&item("s")).len(), 1);
        let concerned = index.change(&kind, &b, Some(&refers(&["s", "t"])), Some(&refers(&["t"])));
        assert!(concerned.contains(&item("s")));
        assert!(index.seen_unreferred(&item("s")) && !index.seen_unreferred(&item("t")));
        index.change(&kind, &a, None, Some(&refers(&["s"])));
        assert!(!index.seen_unreferred(&item("s")), "referred to again");
    }

    #[test]
    fn a_cluster_scoped_object_uses_the_namespaces_it_names() {
        let mut index = Index::new(vec!["secrets".into()]);
        let (kind, wide) = (GroupResource::new("x", "things"), ConsumerKey::new(None, "a"));
        assert_eq!(index.change(&kind, &wide, None, Some(&refers(&["n/s"]))), [item("s")]);
        assert!(index.uses("n") && index.named_from_afar("n") && !index.uses("m"));
        index.change(&kind, &wide, Some(&refers(&["n/s"])), Some(&refers(&["m/s"])));
        assert!(!index.uses("n") && index.uses("m") && index.seen_unreferred(&item("s")));
        index.change(&kind, &wide, Some(&refers(&["m/s"])), None);
        assert!(!index.uses("m") && !index.named_from_afar("m"));
        assert!(index.change(&kind, &wide, None, Some(&refers(&["nowhere"]))).is_empty(), "it does not say where");
    }

    #[test]
    fn what_was_never_referred_to_is_no_evidence() {
        let index = Index::new(vec!["secrets".into()]);
        assert!(!index.seen_unreferred(&item("s")));
    }
}
