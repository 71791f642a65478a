//! Claimed objects of one binding: who refers to what ([`index`]), what the provider says there is
//! (`APIServiceNamespace.status.claimedObjects`), what the consumer has, and the copies in between ([`execute`]). Before a copy
//! goes, [`referrers`] looks anew and [`others`] asks the other bindings of the contract.
//!
//! ```text
//!   bound objects ──references──► index ─┐
//!   binding: accepted? ──────────────────┼─► queue ─► decide(item) ─► execute ─► consumer / provider
//!   provider's list of claimed objects ──┤
//!   consumer's objects of claimed kinds ─┘   (watched only in namespaces where the API is used, by a RoleBinding there)
//! ```
//!
//! The API is used in a namespace where an object of a bound kind is, or which a cluster-scoped object of one names. Such
//! an object brings no mapped namespace along as a namespaced one does, so the claims ask for it. Where claimed objects
//! live on each side: `contract::claims`.

mod bodies;
mod execute;
mod index;
mod namespaces;
mod others;
mod referrers;

pub use self::others::Running;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Weak},
    time::Duration,
};

use contract::{Claim, Consent, Direction};
use kube_bind_api::{ClaimOwner, ClaimState, ClaimedObject, GroupResource, PermissionClaim, StatedClaim};
use kube_client::{Api, Informer, ObjectKey, Outcome, WorkQueue};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::{
    index::{Index, ItemKey},
    namespaces::LEFTOVERS,
};
use crate::{
    consumer::{Consumer, Signal, Subscription},
    health::{Gauges, Observed},
    kind::{KindSync, Late, ReferenceListener, Referral},
    provider::Provider,
    sync::{
        ConsumerKey, Side,
        claims::{Item, ItemSummary, Mirrored, Selection, Way, decide},
        summary::ConsumerSummary,
    },
};

/// Items of one binding that are worked on at once.
const CONCURRENCY: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Work {
    Namespace(String),
    Item(ItemKey),
    /// What an earlier agent left open and nobody uses any more.
    Leftovers,
}

/// A consumer namespace whose claimed kinds are watched.
struct Attached {
    informers: BTreeMap<String, Informer<ItemSummary>>,
    /// The namespace's own deletion was seen: nothing is in it any more.
    gone: bool,
    since: Instant,
}

impl Attached {
    fn now() -> Self {
        Self { informers: BTreeMap::new(), gone: false, since: Instant::now() }
    }
}

#[derive(Default)]
struct State {
    claims: Arc<Vec<Claim>>,
    states: Vec<ClaimState>,
    frozen: bool,
    draining: bool,
    draining_since: Option<Instant>,
    index: Index,
    kinds: Vec<Weak<KindSync>>,
    attached: BTreeMap<String, Attached>,
    /// Namespaces that an earlier agent left open were looked for.
    swept: bool,
    /// Why namespaces cannot be looked after, by namespace.
    troubles: BTreeMap<String, String>,
    /// Since when an admission policy that is not ready keeps namespaces closed.
    guarded: HashMap<String, Instant>,
    lists: HashMap<String, HashMap<(String, String), ClaimedObject>>,
    mirrored: HashMap<ItemKey, Mirrored>,
    /// What is not copied because no object that is known at the provider vouches for it, so far.
    waiting: HashSet<ItemKey>,
    deleted: HashMap<ItemKey, String>,
}

/// The claims of one binding; it stops when dropped.
pub struct ClaimSync {
    binding: String,
    binding_uid: String,
    contract_namespace: String,
    consumer: Arc<Consumer>,
    api: Api,
    provider: Weak<Provider>,
    state: Mutex<State>,
    queue: Arc<WorkQueue<Work>>,
    late: Late,
    stop: CancellationToken,
    _subscription: Subscription,
    _guard: DropGuard,
}

impl Observed for ClaimSync {
    fn observe(&self, gauges: &mut Gauges) {
        gauges.queue("claims", &self.binding, self.queue.depth());
    }
}

impl ClaimSync {
    /// Starts with no claims.
    pub fn start(provider: &Arc<Provider>, binding: &str, binding_uid: &str) -> Arc<Self> {
        let queue: Arc<WorkQueue<Work>> = WorkQueue::new(Duration::from_millis(200), Duration::from_secs(60));
        let stop = provider.consumer.stop.child_token();
        let this = Arc::new_cyclic(|weak: &Weak<Self>| {
            let weak = weak.clone();
            Self {
                binding: binding.to_owned(),
                binding_uid: binding_uid.to_owned(),
                contract_namespace: provider.contract_namespace.clone(),
                consumer: provider.consumer.clone(),
                api: provider.api.clone(),
                provider: Arc::downgrade(provider),
                state: Mutex::new(State::default()),
                queue: queue.clone(),
                late: Late::default(),
                _subscription: provider.consumer.listeners.subscribe(move |signal| {
                    if let (Some(this), Signal::NamespaceGone(namespace)) = (weak.upgrade(), signal) {
                        this.consumer_namespace_gone(namespace);
                    }
                }),
                _guard: stop.clone().drop_guard(),
                stop: stop.clone(),
            }
        });
        provider.claims.lock().insert(binding.to_owned(), Arc::downgrade(&this));
        let part: Weak<Self> = Arc::downgrade(&this);
        this.consumer.metrics.ask(part);
        let weak = Arc::downgrade(&this);
        tokio::spawn(queue.run(CONCURRENCY, stop, move |work| {
            let weak = weak.clone();
            async move {
                match weak.upgrade() {
                    Some(this) => this.work(work).await,
                    None => Outcome::Done,
                }
            }
        }));
        for (key, _) in provider.namespaces.store().all() {
            this.namespace_changed_at(provider, &key.name);
        }
        this
    }

    /// For the sync of a bound kind: what its objects refer to.
    pub fn reference_listener(self: &Arc<Self>, referring: GroupResource) -> ReferenceListener {
        let weak = Arc::downgrade(self);
        Arc::new(move |referral: Referral<'_>| {
            let Some(this) = weak.upgrade() else { return };
            match referral {
                Referral::Refers { key, old, new } => this.refers(&referring, key, old, new),
                Referral::Copied(key) => this.wake(|index, item| index.refers(item, &referring, key)),
                Referral::CopiesListed => this.wake(|_, _| true),
            }
        })
    }

    fn refers(
        &self,
        referring: &GroupResource,
        key: &ConsumerKey,
        old: Option<&ConsumerSummary>,
        new: Option<&ConsumerSummary>,
    ) {
        let mut state = self.state.lock();
        let concerned = state.index.change(referring, key, old, new);
        let mut namespaces: HashSet<&str> = concerned.iter().map(|item| item.namespace.as_str()).collect();
        namespaces.extend(key.namespace.as_deref());
        namespaces.retain(|namespace| !state.attached.contains_key(*namespace) || !state.index.uses(namespace));
        drop(state);
        for namespace in namespaces {
            self.queue.add(Work::Namespace(namespace.to_owned()));
        }
        for item in concerned {
            self.queue.add(Work::Item(item));
        }
    }

    /// More is known of the copies that vouch for these: what waited for it is looked at again.
    fn wake(&self, vouched: impl Fn(&Index, &ItemKey) -> bool) {
        let state = self.state.lock();
        let again: Vec<ItemKey> = state.waiting.iter().filter(|item| vouched(&state.index, item)).cloned().collect();
        drop(state);
        for item in again {
            self.queue.add(Work::Item(item));
        }
    }

    /// Sets claims and consent before the kinds that refer start.
    pub fn prepare(&self, consent: &Consent, claims: Arc<Vec<Claim>>) {
        let states = states_of(&claims, consent);
        let mut state = self.state.lock();
        if *state.claims != *claims {
            state.index = Index::new(claims.iter().map(|c| c.resource().resource.clone()).collect());
            state.attached.clear();
            state.troubles.clear();
            state.mirrored.clear();
            state.waiting.clear();
            state.swept = false;
            state.claims = claims;
        }
        let closed = state.without_rights();
        let changed = state.states != states || state.frozen;
        state.states = states;
        state.frozen = false;
        drop(state);
        for namespace in closed {
            self.queue.add(Work::Namespace(namespace));
        }
        if changed {
            self.requeue_all();
        }
    }

    /// Takes in what the binding states about the claims that are known, also while nothing else of it can be brought up to
    /// date. What stands still goes on standing still.
    pub fn heed(&self, stated: &[StatedClaim]) {
        let mut state = self.state.lock();
        let asked: Vec<PermissionClaim> = state.claims.iter().map(|claim| claim.wire().clone()).collect();
        let states = states_of(&state.claims, &Consent::decide(&asked, stated));
        let changed = state.states != states;
        state.states = states;
        drop(state);
        if changed {
            self.requeue_all();
        }
    }

    /// Ends all work, what is under way too, and all watches. What runs is not started again.
    pub fn halt(&self) {
        self.stop.cancel();
        let mut state = self.state.lock();
        state.attached.clear();
        state.troubles.clear();
        state.guarded.clear();
    }

    /// The watch of a kind is about to start anew.
    pub fn forget_kind(&self, kind: &GroupResource) {
        self.state.lock().index.forget_kind(kind);
    }

    /// Sets the kinds that may refer.
    pub fn set_kinds(&self, kinds: &[Arc<KindSync>]) {
        let mut state = self.state.lock();
        state.kinds = kinds.iter().map(Arc::downgrade).collect();
        let unswept = !state.swept && !state.decided().is_empty();
        drop(state);
        if unswept {
            self.queue.add_after(Work::Leftovers, LEFTOVERS);
        }
        self.wake(|_, _| true);
    }

    /// The provider is there again: what failed is tried now.
    pub fn hurry(&self) {
        self.queue.hurry();
    }

    /// Stops or resumes all movement.
    pub fn freeze(&self, frozen: bool) {
        let before = std::mem::replace(&mut self.state.lock().frozen, frozen);
        if before && !frozen {
            self.requeue_all();
        }
    }

    /// The provider's list of claimed objects for this consumer namespace may have changed.
    pub fn namespace_changed(&self, consumer_namespace: &str) {
        if let Some(provider) = self.provider.upgrade() {
            self.namespace_changed_at(&provider, consumer_namespace);
        }
    }

    fn namespace_changed_at(&self, provider: &Provider, consumer_namespace: &str) {
        let entry = provider.cached(&provider.namespaces, consumer_namespace);
        let entry_says_why = entry.as_ref().is_some_and(|e| {
            let conditions = e["status"]["conditions"].as_array();
            conditions.is_some_and(|list| list.iter().any(|c| c["type"] == "ClaimsResolved" && c["status"] == "False"))
        });
        let listed: Vec<ClaimedObject> = entry
            .map(|e| serde_json::from_value(e["status"]["claimedObjects"].clone()).unwrap_or_default())
            .unwrap_or_default();
        let new: HashMap<(String, String), ClaimedObject> =
            listed.into_iter().map(|e| ((e.resource.clone(), e.name.clone()), e)).collect();
        let mut state = self.state.lock();
        let old = state.lists.insert(consumer_namespace.to_owned(), new.clone()).unwrap_or_default();
        drop(state);
        if entry_says_why {
            let state = self.state.lock();
            let waiting = state.index.all().into_iter().filter(|i| i.namespace == consumer_namespace);
            for item in waiting.filter(|i| !new.contains_key(&(i.resource.clone(), i.name.clone()))) {
                self.queue.add(Work::Item(item));
            }
        }
        let names: HashSet<&(String, String)> = old.keys().chain(new.keys()).collect();
        for name in names {
            if old.get(name) != new.get(name) {
                let (resource, name) = name.clone();
                self.queue.add(Work::Item(ItemKey { resource, namespace: consumer_namespace.to_owned(), name }));
            }
        }
    }

    /// Everything is looked at again.
    fn requeue_all(&self) {
        let state = self.state.lock();
        let mut work: HashSet<Work> = state.index.all().into_iter().map(Work::Item).collect();
        work.extend(state.index.namespaces().into_iter().map(Work::Namespace));
        for (namespace, attached) in &state.attached {
            work.insert(Work::Namespace(namespace.clone()));
            for (resource, informer) in &attached.informers {
                work.extend(informer.store().keys().into_iter().map(|key| {
                    Work::Item(ItemKey { resource: resource.clone(), namespace: key.namespace, name: key.name })
                }));
            }
        }
        for (namespace, list) in &state.lists {
            work.extend(list.keys().map(|(resource, name)| {
                Work::Item(ItemKey { resource: resource.clone(), namespace: namespace.clone(), name: name.clone() })
            }));
        }
        drop(state);
        for work in work {
            self.queue.add(work);
        }
    }

    async fn work(self: Arc<Self>, work: Work) -> Outcome {
        match work {
            Work::Namespace(namespace) => self.look_after(&namespace).await,
            Work::Leftovers => self.look_for_leftovers().await,
            Work::Item(key) => {
                let Some(item) = self.gather(&key) else { return Outcome::Done };
                let action = decide(&item);
                self.relay_refusal(&key, &item).await;
                self.carry_out(&key, &item, action).await
            }
        }
    }

    /// All that is known of one item; `None` when nothing may move now.
    fn gather(&self, key: &ItemKey) -> Option<Item> {
        let mut state = self.state.lock();
        state.waiting.remove(key);
        if state.frozen || state.draining {
            return None;
        }
        let consumer = state.side(key);
        let entry =
            state.lists.get(&key.namespace).and_then(|l| l.get(&(key.resource.clone(), key.name.clone()))).cloned();
        let selecting = state.selecting(key, consumer.present(), entry.as_ref());
        let selection = Selection::of(selecting.iter().filter_map(|i| state.states.get(*i).copied()));
        let way = state.way(key, &selecting);
        let copy = consumer.present().is_some_and(|c| c.copy);
        let copy_there = entry.as_ref().is_some_and(|e| e.owner == Some(ClaimOwner::Consumer) && e.uid.is_some());
        let unreferred = state.index.seen_unreferred(key) || ((copy || copy_there) && state.suspect(key));
        Some(Item {
            selection,
            way,
            entry,
            unreferred,
            deleted_uid: state.deleted.get(key).cloned(),
            mirrored: state.mirrored.get(key).cloned(),
            consumer,
        })
    }

    /// A name that leads to no entry because the provider's object is not meant for the consumer: the provider says so in
    /// a condition of the mapping, which nobody at the consumer would see.
    async fn relay_refusal(&self, key: &ItemKey, item: &Item) {
        if item.selection != Selection::Accepted || item.entry.is_some() {
            return;
        }
        let Some(provider) = self.provider.upgrade() else { return };
        let Some(mapping) = provider.cached(&provider.namespaces, &key.namespace) else { return };
        if let Some(message) = refusal_in(&mapping, &key.name) {
            self.tell(key, "NotCopied", &message).await;
        }
    }

    fn provider_namespace(&self, consumer_namespace: &str) -> Option<String> {
        self.provider.upgrade()?.mapped(consumer_namespace)
    }

    fn forget(&self, key: &ItemKey) {
        let mut state = self.state.lock();
        state.mirrored.remove(key);
        state.deleted.remove(key);
        state.index.forget_evidence(key);
    }
}

/// The consumer's word on each of these claims.
fn states_of(claims: &[Claim], consent: &Consent) -> Vec<ClaimState> {
    claims.iter().map(|claim| consent.state_of(claim).unwrap_or(ClaimState::Pending)).collect()
}

/// What a mapping's condition `ClaimsResolved` says about an object of this name.
fn refusal_in(mapping: &serde_json::Value, name: &str) -> Option<String> {
    let conditions = mapping["status"]["conditions"].as_array()?;
    let unresolved = conditions.iter().find(|c| c["type"] == "ClaimsResolved" && c["status"] == "False")?;
    let quoted = format!("{name:?}");
    unresolved["message"].as_str()?.split("; ").find(|part| part.contains(&quoted)).map(Into::into)
}

impl State {
    fn side(&self, key: &ItemKey) -> Side<ItemSummary> {
        let Some(attached) = self.attached.get(&key.namespace) else { return Side::Unknown };
        if attached.gone {
            return Side::Absent;
        }
        let Some(informer) = attached.informers.get(&key.resource) else { return Side::Unknown };
        let found = informer.store().get(&ObjectKey::new(&key.namespace, &key.name)).map(|e| e.summary.clone());
        Side::from_lookup(informer.synced(), found)
    }

    /// Claims (by index) that select an item: by reference, by name, by label.
    fn selecting(&self, key: &ItemKey, here: Option<&ItemSummary>, entry: Option<&ClaimedObject>) -> Vec<usize> {
        let by_reference = self.index.claims_of(key);
        let mut selecting: Vec<usize> = Vec::new();
        for (index, claim) in self.claims.iter().enumerate() {
            if claim.resource().resource != key.resource {
                continue;
            }
            let number = u16::try_from(index).unwrap_or(u16::MAX);
            let by_label = match here {
                Some(here) => here.by_label.contains(&number),
                // Its labels are known only at the provider; they are looked at before anything is written.
                None => claim.labels().is_some() && entry.is_some_and(|e| e.uid.is_some()),
            };
            if by_reference.contains(&number) || by_label || claim.names_directly(Some(&key.namespace), &key.name) {
                selecting.push(index);
            }
        }
        selecting
    }

    /// Which way the claims that select an item (or, if none does, all of its kind) let it travel.
    fn way(&self, key: &ItemKey, selecting: &[usize]) -> Way {
        let accepted: Vec<usize> =
            selecting.iter().copied().filter(|i| self.states.get(*i) == Some(&ClaimState::Accepted)).collect();
        let all: Vec<usize> = (0..self.claims.len())
            .filter(|i| self.claims.get(*i).is_some_and(|c| c.resource().resource == key.resource))
            .collect();
        let counting =
            [accepted.as_slice(), selecting, all.as_slice()].into_iter().find(|c| !c.is_empty()).unwrap_or(&[]);
        let ways = counting.iter().filter_map(|i| self.claims.get(*i)).map(Claim::direction);
        ways.fold(None, |so_far, direction| {
            let way = match direction {
                Direction::ToConsumer => Way::Here,
                Direction::ToProvider => Way::There,
                Direction::WhoeverIsFirst => Way::Either,
            };
            match so_far {
                None => Some(way),
                Some(known) if known == way => Some(way),
                Some(_) => Some(Way::Either),
            }
        })
        .unwrap_or(Way::Here)
    }

    /// A copy that nothing refers to, though everything that could is known: after a restart the evidence is gone, and a
    /// fresh look has to give it. Only where a reference is what brings copies of this kind.
    fn suspect(&self, key: &ItemKey) -> bool {
        let of_kind: Vec<(usize, &Claim)> =
            self.claims.iter().enumerate().filter(|(_, c)| c.resource().resource == key.resource).collect();
        let only_references =
            of_kind.iter().all(|(_, c)| c.labels().is_none() && c.wire().selector.named_resources.is_empty());
        let accepted = of_kind.iter().any(|(i, _)| self.states.get(*i) == Some(&ClaimState::Accepted));
        only_references && accepted && self.kinds_known()
    }

    /// Whether everything that may refer is known.
    fn kinds_known(&self) -> bool {
        !self.kinds.is_empty() && self.kinds.iter().all(|kind| kind.upgrade().is_some_and(|kind| kind.objects_synced()))
    }

    /// Claimed kinds about which the consumer has decided, and whether any of their claims is accepted.
    fn decided(&self) -> HashMap<String, bool> {
        let mut kinds = HashMap::new();
        for (claim, state) in self.claims.iter().zip(&self.states) {
            if *state != ClaimState::Pending {
                *kinds.entry(claim.resource().resource.clone()).or_default() |= *state == ClaimState::Accepted;
            }
        }
        kinds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_found_by_the_name_in_it() {
        let mapping = serde_json::json!({"status": {"conditions": [{"type": "ClaimsResolved", "status": "False",
            "message": "things a: Secret \"root\" at the provider is not meant; things b: Secret \"x\" too"}]}});
        assert_eq!(refusal_in(&mapping, "x").unwrap(), "things b: Secret \"x\" too");
        assert!(refusal_in(&mapping, "y").is_none());
    }
}
