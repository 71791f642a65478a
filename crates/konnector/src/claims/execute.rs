//! Carries out what was decided about a claimed object, after fresh reads. In: an item and its action. Out: at most one
//! write. What must not cross is refused here with the contract's words, on the object that refers to it.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use contract::{
    Claim, Consent,
    safety::{Refusal, is_consumer_copy, is_provider_copy, meant_for_consumer},
};
use kube_bind_api::{
    APIServiceBinding, ClaimState,
    constants::{
        ANNOTATION_CONSUMER_NAMESPACE, ANNOTATION_CONSUMER_UID, FIELD_MANAGER, LABEL_BINDING, LABEL_OWNER,
        OWNER_PROVIDER,
    },
};
use kube_client::{ApiError, Class, ListQuery, ObjectKey, Outcome, Resource};
use serde_json::Value;

use super::{ClaimSync, Work, bodies, index::ItemKey, others::Wanted, referrers::Meant};
use crate::{
    events::Subject,
    health::Cluster,
    kind::TELL_AFTER,
    reasons,
    resources::{self, MANAGER},
    sync::{
        Side,
        body::owned_digest,
        claims::{ClaimAction, DropThere, Item, Mirrored, Selection, Way},
        consumer_object, fields,
        intent::{Deletion, Reason},
        summary::Belongs,
    },
};

impl ClaimSync {
    pub(super) async fn carry_out(self: &Arc<Self>, key: &ItemKey, item: &Item, action: ClaimAction) -> Outcome {
        let Some(resource) = resources::claimable("", &key.resource) else { return Outcome::Done };
        let done = match action {
            ClaimAction::Nothing => return Outcome::Done,
            ClaimAction::Occupied => {
                let message = format!(
                    "{} {:?} already exists here and was not made by the binding {}; the provider's one is not copied: \
                     rename or delete it, or refer to another name",
                    resource.kind, key.name, self.binding
                );
                self.tell(key, "ForeignObject", &message).await;
                return Outcome::Done;
            }
            ClaimAction::Pull => self.pull(key, item, &resource).await,
            ClaimAction::Push => self.push(key, item, &resource).await,
            ClaimAction::DropHere(deletion) => self.drop_here(key, item, &resource, &deletion).await,
            ClaimAction::DropThere(why) => self.drop_there(key, item, &resource, why).await,
        };
        match done {
            Ok(outcome) => outcome,
            Err(error) => self.failed(key, &error).await,
        }
    }

    async fn failed(&self, key: &ItemKey, error: &ApiError) -> Outcome {
        let resource = self.kind_of(key);
        let side = if error.side == self.api.side() { Cluster::Provider } else { Cluster::Consumer };
        self.consumer.metrics.refused(side, &resource, error);
        match error.class {
            Class::Conflict | Class::AlreadyExists | Class::NotFound => {
                tracing::debug!(item = %key, %error, "the world has moved on");
            }
            Class::Invalid => {
                self.tell(key, "CopyRefused", &error.to_string()).await;
                tracing::warn!(item = %key, binding = %self.binding, %error, "copy refused");
            }
            _ => {
                if error.is_forbidden() {
                    // Rights follow a moment after the list or the RoleBinding.
                    tracing::info!(item = %key, binding = %self.binding, %error, "not allowed (yet)");
                } else {
                    tracing::warn!(item = %key, binding = %self.binding, %error, "claimed object not synced");
                }
                if error.is_forbidden() && side == Cluster::Consumer {
                    // Somebody may have taken them away.
                    self.queue.add(Work::Namespace(key.namespace.clone()));
                }
                if self.queue.failures(&Work::Item(key.clone())) >= TELL_AFTER && self.late.may_tell() {
                    self.tell(key, reasons::SYNC_DELAYED, &format!("{error}; {}", self.mend(error))).await;
                }
            }
        }
        error.retry_after.map_or(Outcome::Retry, Outcome::RetryAfter)
    }

    /// From the provider to the consumer.
    async fn pull(&self, key: &ItemKey, item: &Item, resource: &Resource) -> Result<Outcome, ApiError> {
        let Some(place) = self.provider_namespace(&key.namespace) else { return Ok(Outcome::Done) };
        let source_key = ObjectKey::new(&place, &key.name);
        let Some(source) = self.api.get_opt(resource, &source_key).await? else { return Ok(Outcome::Done) };
        let source = bodies::with_kind(&source, &resource.kind);
        if source["metadata"]["deletionTimestamp"].is_string() {
            return Ok(Outcome::Done);
        }
        if is_provider_copy(&source, &self.contract_namespace) {
            // Our own copy of an object that the consumer once had: it does not come back by itself.
            return Ok(Outcome::Done);
        }
        if !self.covered(key, &source) {
            return Ok(Outcome::Done);
        }
        // Whoever comes to be known from here on wakes it.
        self.state.lock().waiting.insert(key.clone());
        let referring = self.referring_copies(key);
        let referrers: BTreeSet<&str> = referring.uids.iter().map(String::as_str).collect();
        if let Err(refusal) = meant_for_consumer(&source, &referrers, referring.trusted) {
            if !referring.awaited {
                self.refuse(key, &refusal).await;
            }
            // An owner reference may follow.
            return Ok(Outcome::After(Duration::from_secs(60)));
        }
        self.state.lock().waiting.remove(key);
        let body = match bodies::here(&source, &self.binding, &key.namespace) {
            Ok(body) => body,
            Err(refusal) => {
                self.refuse(key, &refusal).await;
                return Ok(Outcome::Done);
            }
        };
        let target = ObjectKey::new(&key.namespace, &key.name);
        let owned = match &item.consumer {
            Side::Present(copy) if copy.owned == Some(owned_digest(&body)) => copy.owned,
            Side::Present(copy) => {
                let made = match self.consumer.api.apply_update_only(resource, &target, &body, &copy.uid, MANAGER).await
                {
                    Ok(made) => made,
                    Err(error) => {
                        let made_from = copy.source_uid.as_deref().unwrap_or_default();
                        let deletion = outlived(&error, &source, made_from, &copy.uid).ok_or(error)?;
                        let live = self.consumer.api.get_opt(resource, &target).await?;
                        if live.is_some_and(|live| is_consumer_copy(&live, &self.binding, None)) {
                            self.consumer.api.delete(resource, &target, deletion.uid()).await?;
                            self.consumer_wrote(key, "copy of an object that was made anew deleted");
                        }
                        return Ok(Outcome::Retry);
                    }
                };
                self.consumer_wrote(key, "copy updated");
                fields::owned(&made, FIELD_MANAGER, None).map(|o| owned_digest(&o))
            }
            _ => {
                let made = self.consumer.api.apply_create_only(resource, &target, &body, MANAGER).await?;
                self.consumer_wrote(key, "copied to the consumer");
                fields::owned(&made, FIELD_MANAGER, None).map(|o| owned_digest(&o))
            }
        };
        self.state.lock().mirrored.insert(key.clone(), Mirrored { provider: version_of(&source), consumer: owned });
        Ok(Outcome::Done)
    }

    /// From the consumer to the provider.
    async fn push(&self, key: &ItemKey, item: &Item, resource: &Resource) -> Result<Outcome, ApiError> {
        let Some(place) = self.provider_namespace(&key.namespace) else { return Ok(Outcome::Done) };
        let source_key = ObjectKey::new(&key.namespace, &key.name);
        let Some(source) = self.consumer.api.get_opt(resource, &source_key).await? else { return Ok(Outcome::Done) };
        let source = bodies::with_kind(&source, &resource.kind);
        if source["metadata"]["deletionTimestamp"].is_string() || is_consumer_copy(&source, &self.binding, None) {
            return Ok(Outcome::Done);
        }
        if !self.covered(key, &source) {
            return Ok(Outcome::Done);
        }
        let body = match bodies::there(&source, &self.contract_namespace, Some(&place)) {
            Ok(body) => body,
            Err(refusal) => {
                self.refuse(key, &refusal).await;
                return Ok(Outcome::Done);
            }
        };
        let target = ObjectKey::new(&place, &key.name);
        let live = self.api.get_opt(resource, &target).await?;
        let made = match live {
            None => {
                let made = self.api.apply_create_only(resource, &target, &body, MANAGER).await?;
                self.provider_wrote(key, "copied to the provider");
                made
            }
            Some(live) if !self.is_our_copy_there(&live, key) => {
                let message = format!(
                    "{} {:?} already exists at the provider and is not a copy of this one; it is left alone: choose \
                     another name",
                    resource.kind, key.name
                );
                self.tell(key, "ForeignObject", &message).await;
                return Ok(Outcome::Done);
            }
            Some(live) => {
                let owned = fields::owned(&live, FIELD_MANAGER, None).map(|o| owned_digest(&o));
                if owned == Some(owned_digest(&body)) {
                    live
                } else {
                    let uid = live["metadata"]["uid"].as_str().unwrap_or_default();
                    let made = match self.api.apply_update_only(resource, &target, &body, uid, MANAGER).await {
                        Ok(made) => made,
                        Err(error) => {
                            // It was read a moment ago, and is ours.
                            let made_from = live["metadata"]["annotations"][ANNOTATION_CONSUMER_UID].as_str();
                            let made_from = made_from.unwrap_or_default();
                            let deletion = outlived(&error, &source, made_from, uid).ok_or(error)?;
                            self.api.delete(resource, &target, deletion.uid()).await?;
                            self.provider_wrote(key, "copy at the provider of an object that was made anew deleted");
                            return Ok(Outcome::Retry);
                        }
                    };
                    self.provider_wrote(key, "copy at the provider updated");
                    made
                }
            }
        };
        let content = item.consumer.present().and_then(|own| own.content);
        self.state.lock().mirrored.insert(key.clone(), Mirrored { provider: version_of(&made), consumer: content });
        Ok(Outcome::Done)
    }

    async fn drop_here(
        &self,
        key: &ItemKey,
        item: &Item,
        resource: &Resource,
        deletion: &Deletion,
    ) -> Result<Outcome, ApiError> {
        if let Some(outcome) = self.unmeant(key, item, deletion.reason(), resource, Way::Here).await? {
            return Ok(outcome);
        }
        let target = ObjectKey::new(&key.namespace, &key.name);
        let live = self.consumer.api.get_opt(resource, &target).await?;
        if let Some(live) = live
            && live["metadata"]["uid"] == deletion.uid()
            && is_consumer_copy(&live, &self.binding, None)
        {
            self.consumer.api.delete(resource, &target, deletion.uid()).await?;
            self.consumer_wrote(key, "copy at the consumer deleted");
        }
        self.forget(key);
        Ok(Outcome::Done)
    }

    async fn drop_there(
        &self,
        key: &ItemKey,
        item: &Item,
        resource: &Resource,
        why: DropThere,
    ) -> Result<Outcome, ApiError> {
        // An object that its owner has deleted is gone for all of them.
        if why != DropThere::OwnerDeleted {
            match self.wanted_by_others(key, why).await? {
                Wanted::No => {}
                Wanted::Yes => {
                    self.state.lock().index.forget_evidence(key);
                    return Ok(Outcome::Done);
                }
                Wanted::Unknown => return Ok(Outcome::Retry),
            }
        }
        let Some(place) = self.provider_namespace(&key.namespace) else { return Ok(Outcome::Done) };
        let target = ObjectKey::new(&place, &key.name);
        let Some(live) = self.api.get_opt(resource, &target).await? else {
            self.forget(key);
            return Ok(Outcome::Done);
        };
        if !self.is_our_copy_there(&live, key) {
            self.forget(key);
            return Ok(Outcome::Done);
        }
        let uid = live["metadata"]["uid"].as_str().unwrap_or_default();
        let owner = live["metadata"]["annotations"][ANNOTATION_CONSUMER_UID].as_str().unwrap_or_default();
        let deletion = match why {
            DropThere::Rejected => Deletion::claim_rejected(item.selection == Selection::Rejected, uid),
            DropThere::ReferrerGone => Deletion::referrer_gone(item.unreferred, uid),
            DropThere::OwnerDeleted => Deletion::owner_deleted(owner, item.deleted_uid.as_deref(), uid),
        };
        let Some(deletion) = deletion else {
            self.forget(key);
            return Ok(Outcome::Done);
        };
        if let Some(outcome) = self.unmeant(key, item, deletion.reason(), resource, Way::There).await? {
            return Ok(outcome);
        }
        self.api.delete(resource, &target, deletion.uid()).await?;
        self.provider_wrote(key, "copy at the provider deleted");
        self.forget(key);
        Ok(Outcome::Done)
    }

    /// Fresh reads before a deletion of the copy on one side: `None` when they confirm it, otherwise what follows.
    async fn unmeant(
        &self,
        key: &ItemKey,
        item: &Item,
        reason: Reason,
        resource: &Resource,
        copy: Way,
    ) -> Result<Option<Outcome>, ApiError> {
        Ok(match self.still_meant(key, item, reason, resource, copy).await? {
            Meant::Yes => None,
            Meant::No => {
                tracing::info!(item = %key, ?reason, "not deleting: a fresh read does not confirm it");
                self.state.lock().index.forget_evidence(key);
                Some(Outcome::Done)
            }
            Meant::NotYet => {
                tracing::debug!(item = %key, ?reason, "not deleting yet: what the provider has still refers to it");
                Some(Outcome::Retry)
            }
        })
    }

    /// The binding, if it is this very one and stays.
    async fn still_bound(&self) -> Result<Option<APIServiceBinding>, ApiError> {
        let live = self.consumer.api.get_opt(&resources::bindings(), &ObjectKey::cluster(&self.binding)).await?;
        let binding = live.and_then(|live| serde_json::from_value::<APIServiceBinding>(live).ok());
        Ok(binding.filter(|b| {
            b.metadata.uid.as_deref() == Some(&self.binding_uid) && b.metadata.deletion_timestamp.is_none()
        }))
    }

    /// Each intent is checked against what the API servers say now.
    async fn still_meant(
        &self,
        key: &ItemKey,
        item: &Item,
        reason: Reason,
        resource: &Resource,
        copy: Way,
    ) -> Result<Meant, ApiError> {
        let Some(binding) = self.still_bound().await? else { return Ok(Meant::No) };
        let meant = match reason {
            Reason::ClaimRejected => self.all_rejected(key, item, &binding),
            Reason::ReferrerGone => return self.nothing_refers(key).await,
            Reason::OwnerDeleted if copy == Way::There => {
                let live = self.consumer.api.get_opt(resource, &ObjectKey::new(&key.namespace, &key.name)).await;
                match live {
                    Ok(live) => live.is_none_or(|l| {
                        Some(l["metadata"]["uid"].as_str().unwrap_or_default()) != item.deleted_uid.as_deref()
                    }),
                    // With the namespace its rights went too; that it went was seen.
                    Err(error) if error.is_forbidden() && matches!(item.consumer, Side::Absent) => true,
                    Err(error) => return Err(error),
                }
            }
            Reason::OwnerDeleted => {
                let Some(place) = self.provider_namespace(&key.namespace) else { return Ok(Meant::No) };
                let source = match self.api.get_opt(resource, &ObjectKey::new(&place, &key.name)).await {
                    // Something else has the name now, and it is not for us: the one that was is gone, as the list says.
                    Err(error) if error.is_forbidden() => None,
                    answer => answer?,
                };
                let deleted = item.entry.as_ref().and_then(|e| e.uid.as_deref());
                source.is_none_or(|s| s["metadata"]["uid"].as_str() != deleted)
            }
            Reason::ConsumerTerminating => false,
        };
        Ok(if meant { Meant::Yes } else { Meant::No })
    }

    /// With the binding's present word, every claim that selects the item is rejected.
    fn all_rejected(&self, key: &ItemKey, item: &Item, binding: &APIServiceBinding) -> bool {
        let state = self.state.lock();
        let asked: Vec<_> = state.claims.iter().map(|c| c.wire().clone()).collect();
        let consent = Consent::decide(&asked, &binding.spec.permission_claims);
        let selecting = state.selecting(key, item.consumer.present(), item.entry.as_ref());
        let states = selecting.iter().filter_map(|i| state.claims.get(*i)).filter_map(|claim| consent.state_of(claim));
        Selection::of(states) == Selection::Rejected
    }

    /// Whether an accepted claim covers this very object, labels included.
    fn covered(&self, key: &ItemKey, object: &Value) -> bool {
        let state = self.state.lock();
        let by_reference = state.index.claims_of(key);
        let labels = &object["metadata"]["labels"];
        state.claims.iter().zip(&state.states).enumerate().any(|(index, (claim, decided))| {
            *decided == ClaimState::Accepted
                && claim.resource().resource == key.resource
                && claim.matches(
                    Some(&key.namespace),
                    &key.name,
                    labels,
                    u16::try_from(index).is_ok_and(|i| by_reference.contains(&i)),
                )
        })
    }

    /// The provider's copies of the objects that refer to the item under accepted claims.
    fn referring_copies(&self, key: &ItemKey) -> Referring {
        let (referrers, kinds, accepted) = {
            let state = self.state.lock();
            let accepted: Vec<Option<Claim>> = state
                .claims
                .iter()
                .zip(&state.states)
                .map(|(claim, decided)| (*decided == ClaimState::Accepted).then(|| claim.clone()))
                .collect();
            (state.index.referrers_of(key), state.kinds.clone(), accepted)
        };
        let kinds: Vec<_> = kinds.iter().filter_map(std::sync::Weak::upgrade).collect();
        let mut referring = Referring::default();
        for ((kind, referrer), claims) in referrers {
            let claims: Vec<&Claim> =
                claims.iter().filter_map(|i| accepted.get(usize::from(*i)).and_then(Option::as_ref)).collect();
            if claims.is_empty() {
                continue;
            }
            referring.trusted |= claims.iter().any(|claim| claim.trusts_name(&kind));
            let sync = kinds
                .iter()
                .find(|k| k.config().resource.plural == kind.resource && k.config().resource.group == kind.group);
            match sync.map(|k| k.copy_of(&referrer)) {
                Some(Side::Present(copy)) if matches!(copy.belongs, Belongs::Ours { .. }) => {
                    referring.uids.push(copy.uid);
                }
                Some(Side::Present(_)) => {}
                Some(Side::Absent | Side::Unknown) | None => referring.awaited = true,
            }
        }
        referring
    }

    fn is_our_copy_there(&self, live: &Value, key: &ItemKey) -> bool {
        is_provider_copy(live, &self.contract_namespace)
            && live["metadata"]["annotations"][ANNOTATION_CONSUMER_NAMESPACE] == key.namespace.as_str()
    }

    async fn refuse(&self, key: &ItemKey, refusal: &Refusal) {
        self.tell(key, "NotCopied", &refusal.to_string()).await;
    }

    /// Says it on the objects that refer to the item, or on the binding.
    pub(super) async fn tell(&self, key: &ItemKey, reason: &str, message: &str) {
        let (referrers, kinds) = {
            let state = self.state.lock();
            (state.index.referrers_of(key), state.kinds.clone())
        };
        let kinds: Vec<_> = kinds.iter().filter_map(std::sync::Weak::upgrade).collect();
        let mut told = false;
        for ((kind, referrer), _) in referrers.iter().take(5) {
            let sync = kinds.iter().find(|k| k.config().resource.plural == kind.resource);
            let Some(sync) = sync else { continue };
            let Some(uid) = sync.uid_of(referrer) else { continue };
            let subject = Subject { resource: sync.config().resource.clone(), key: consumer_object(referrer), uid };
            self.consumer.events.warn(&subject, reason, message).await;
            told = true;
        }
        if !told {
            let subject = Subject {
                resource: resources::bindings(),
                key: ObjectKey::cluster(&self.binding),
                uid: self.binding_uid.clone(),
            };
            self.consumer.events.warn(&subject, reason, &format!("namespace {}: {message}", key.namespace)).await;
        }
    }

    /// For an unbinding that deletes: removes all copies on both sides; says how many are left.
    pub async fn drain(&self) -> Result<usize, ApiError> {
        self.start_draining();
        let mut left = 0;
        let kinds: HashSet<String> = self.state.lock().claims.iter().map(|c| c.resource().resource.clone()).collect();
        let labels = format!("{LABEL_BINDING}={},{LABEL_OWNER}={OWNER_PROVIDER}", self.binding);
        // Without claims there is nothing to look for, and no right to look.
        let namespaces = if kinds.is_empty() { HashSet::new() } else { self.open_namespaces().await? };
        for namespace in namespaces {
            for kind in &kinds {
                let Some(resource) = resources::claimable("", kind) else { continue };
                let query = ListQuery { labels: Some(labels.clone()), ..ListQuery::namespace(&namespace) };
                let copies = match self.consumer.api.list(&resource, &query).await {
                    Ok(copies) => copies,
                    // Never accepted, so never copied.
                    Err(error) if error.is_forbidden() => continue,
                    Err(error) => return Err(error),
                };
                for copy in copies {
                    left += 1;
                    let (Some(key), Some(uid)) = (ObjectKey::of(&copy), copy["metadata"]["uid"].as_str()) else {
                        continue;
                    };
                    self.consumer.api.delete(&resource, &key, uid).await?;
                }
            }
        }
        let entries: Vec<ItemKey> = {
            let state = self.state.lock();
            let sent = state.claims.iter().filter(|c| c.direction().to_provider());
            let kinds: HashSet<&str> = sent.map(|c| c.resource().resource.as_str()).collect();
            let lists = state.lists.iter().flat_map(|(namespace, list)| {
                list.values().filter(|e| e.uid.is_some() && e.deleted != Some(true)).map(|e| ItemKey {
                    resource: e.resource.clone(),
                    namespace: namespace.clone(),
                    name: e.name.clone(),
                })
            });
            lists.filter(|item| kinds.contains(item.resource.as_str())).collect()
        };
        for key in entries {
            let Some(resource) = resources::claimable("", &key.resource) else { continue };
            let Some(place) = self.provider_namespace(&key.namespace) else { continue };
            let target = ObjectKey::new(&place, &key.name);
            let live = match self.api.get_opt(&resource, &target).await {
                Ok(Some(live)) => live,
                Ok(None) => continue,
                Err(error) if error.is_forbidden() => continue,
                Err(error) => return Err(error),
            };
            if self.is_our_copy_there(&live, &key) {
                match self.left_to_others(&key).await? {
                    Wanted::No => left += 1,
                    Wanted::Yes => continue,
                    Wanted::Unknown => {
                        left += 1;
                        continue;
                    }
                }
                let uid = live["metadata"]["uid"].as_str().unwrap_or_default();
                self.api.delete(&resource, &target, uid).await?;
            }
        }
        Ok(left)
    }

    /// Namespaces that are open for claimed kinds, by the RoleBindings in them (after a restart too).
    pub(super) async fn open_namespaces(&self) -> Result<HashSet<String>, ApiError> {
        // By name: the right to list is for that name only.
        let query = ListQuery::named(None, &contract::rbac::consumer::claims_role_name(&self.binding));
        let found = match self.consumer.api.list(&resources::role_bindings(), &query).await {
            // No claim was ever decided.
            Err(error) if error.is_forbidden() => Vec::new(),
            found => found?,
        };
        let mut namespaces: HashSet<String> =
            found.iter().filter_map(|r| r["metadata"]["namespace"].as_str().map(Into::into)).collect();
        namespaces.extend(self.attached_namespaces());
        Ok(namespaces)
    }

    fn consumer_wrote(&self, key: &ItemKey, what: &str) {
        self.wrote(Cluster::Consumer, key, what);
    }

    fn provider_wrote(&self, key: &ItemKey, what: &str) {
        self.wrote(Cluster::Provider, key, what);
    }

    fn wrote(&self, side: Cluster, key: &ItemKey, what: &str) {
        tracing::info!(item = %key, binding = %self.binding, "{what}");
        let waited = self.queue.due_for(&Work::Item(key.clone()));
        self.consumer.metrics.wrote(side, &self.kind_of(key), waited);
    }

    fn kind_of(&self, key: &ItemKey) -> Resource {
        resources::claimable("", &key.resource).unwrap_or_else(|| Resource::new("", "v1", &key.resource, ""))
    }
}

/// What is known of the copies of an item's referrers.
#[derive(Default)]
struct Referring {
    /// Uids of those that are there.
    uids: Vec<String>,
    /// The provider vouches for names that come from them.
    trusted: bool,
    /// Some are not there yet, or not known: the agent has just made them, or has just begun to look.
    awaited: bool,
}

/// An update of a copy is refused, and the copy was made from an object that is gone: another one has its name. A type, or
/// what was immutable, changes only with the object, so the copy goes as its owner did, and is made anew.
fn outlived(error: &ApiError, source: &Value, made_from: &str, copy: &str) -> Option<Deletion> {
    let now = source["metadata"]["uid"].as_str().filter(|now| error.class == Class::Invalid && *now != made_from);
    now.and_then(|_| Deletion::owner_deleted(made_from, Some(made_from), copy))
}

fn version_of(object: &Value) -> (String, String) {
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    (text("uid"), text("resourceVersion"))
}
