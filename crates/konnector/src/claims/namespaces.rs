//! Where claimed kinds are watched at the consumer: in namespaces where the API is used, and only while it is, by a
//! RoleBinding that the agent makes there. In: which namespaces have objects of the bound kinds. Out: RoleBindings and
//! watches, and why there are none.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use kube_bind_api::{ClaimOwner, ClaimedObject, constants::FIELD_MANAGER};
use kube_client::{
    ApiError, Class, Delta, Informer, InformerOptions, Keep, ListQuery, ManagedFields, ObjectKey, Outcome,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Attached, ClaimSync, ItemKey, State, Work, bodies, others::Wanted};
use crate::{
    kind::{TELL_AFTER, ensure_service_namespace},
    resources::{self, MANAGER},
    sync::claims::{DropThere, ItemSummary},
};

/// How soon a namespace that is not used any more is looked at again while copies are left in it.
const LINGER: Duration = Duration::from_secs(5);

/// How soon to look again whether all is known that tells used namespaces from those that were left open.
pub(super) const LEFTOVERS: Duration = Duration::from_secs(1);

/// How long rights may take to reach the watches of a namespace that was just opened.
const SETTLING: Duration = Duration::from_secs(10);

/// How long an API server may take to look up the kind of an admission policy: it does so every half minute.
const POLICY: Duration = Duration::from_secs(90);
/// How often to try meanwhile: nobody says when it has, and credentials wait for it.
const LOOK: Duration = Duration::from_secs(1);

/// What mends rights that are missing at the consumer.
const BIND_AGAIN: &str =
    "the agent lacks rights that a bind gives it: run `kubectl bind` with the provider's URL again";

impl ClaimSync {
    /// Opens, widens or closes one consumer namespace; notes why if that cannot be done.
    pub(super) async fn look_after(self: &Arc<Self>, namespace: &str) -> Outcome {
        let error = match self.tend(namespace).await {
            Ok(outcome) => {
                let mut state = self.state.lock();
                state.troubles.remove(namespace);
                state.guarded.remove(namespace);
                return outcome;
            }
            Err(error) => error,
        };
        if error.awaits_policy() {
            let since = *self.state.lock().guarded.entry(namespace.to_owned()).or_insert_with(Instant::now);
            if since.elapsed() < POLICY {
                tracing::info!(binding = %self.binding, namespace, %error, "the admission policy is not ready yet");
                return Outcome::After(LOOK);
            }
        }
        tracing::warn!(binding = %self.binding, namespace, %error, "cannot look after the namespace for claims");
        if self.queue.failures(&Work::Namespace(namespace.to_owned())) >= TELL_AFTER {
            let message = format!("claims in namespace {namespace}: {error}; {}", self.mend(&error));
            self.state.lock().troubles.insert(namespace.to_owned(), message);
        }
        error.retry_after.map_or(Outcome::Retry, Outcome::RetryAfter)
    }

    /// What mends a failure under claims.
    pub(super) fn mend(&self, error: &ApiError) -> &'static str {
        if error.is_forbidden() && error.side != self.api.side() {
            return BIND_AGAIN;
        }
        error.mend()
    }

    /// Why claims do not work somewhere, in words.
    pub fn trouble(&self) -> Option<String> {
        let state = self.state.lock();
        if let Some(trouble) = state.troubles.values().next() {
            return Some(trouble.clone());
        }
        let open = state.attached.iter().filter(|(namespace, attached)| {
            // With a namespace that goes its rights go first.
            let known = self.consumer.namespaces.store().get(&ObjectKey::cluster(namespace));
            known.is_some_and(|entry| !entry.summary.deleting) && attached.since.elapsed() > SETTLING
        });
        let mut informers = open.flat_map(|(_, attached)| attached.informers.values());
        let trouble = informers.find_map(|informer| informer.health().borrow().trouble.clone())?;
        Some(match trouble.class {
            Class::Forbidden => format!("{}; {BIND_AGAIN}", trouble.message),
            _ => trouble.message,
        })
    }

    /// Namespaces that an earlier agent opened and that nobody uses any more have no event of their own: they are watched
    /// until they can be closed.
    pub(super) async fn look_for_leftovers(self: &Arc<Self>) -> Outcome {
        let decided = {
            let mut state = self.state.lock();
            let decided = state.decided();
            if state.swept || state.draining || decided.is_empty() {
                return Outcome::Done;
            }
            if state.frozen || !state.kinds_known() {
                return Outcome::After(LEFTOVERS);
            }
            state.swept = true;
            decided
        };
        let open = match self.open_namespaces().await {
            Ok(open) => open,
            Err(error) => {
                self.state.lock().swept = false;
                tracing::warn!(binding = %self.binding, %error, "cannot see which namespaces are open for claims");
                return error.retry_after.map_or(Outcome::Retry, Outcome::RetryAfter);
            }
        };
        for namespace in open {
            let left = {
                let state = self.state.lock();
                !state.index.uses(&namespace) && !state.attached.contains_key(&namespace)
            };
            if left {
                tracing::info!(binding = %self.binding, namespace, "namespace was left open for claimed kinds");
                self.watch(&namespace, decided.keys().cloned().collect());
                self.queue.add(Work::Namespace(namespace));
            }
        }
        Outcome::Done
    }

    async fn tend(self: &Arc<Self>, namespace: &str) -> Result<Outcome, ApiError> {
        let (used, decided, draining, attached, gone) = {
            let state = self.state.lock();
            let attached = state.attached.get(namespace);
            let used = state.index.uses(namespace);
            (used, state.decided(), state.draining, attached.is_some(), attached.is_some_and(|a| a.gone))
        };
        let known = self.consumer.namespaces.store().get(&ObjectKey::cluster(namespace));
        let there = known.is_some_and(|entry| !entry.summary.deleting);
        if gone && used && there {
            // The namespace was made again, and something still refers to it.
            self.state.lock().attached.remove(namespace);
            return Ok(Outcome::Retry);
        }
        if gone || (attached && !used) {
            return self.close(namespace, gone).await;
        }
        if !used || decided.is_empty() || draining {
            return Ok(Outcome::Done);
        }
        let accepted = decided.values().any(|accepted| *accepted);
        let from_afar = accepted && self.state.lock().index.named_from_afar(namespace);
        if from_afar && !there {
            self.tell_missing(namespace).await;
            return Ok(Outcome::After(LINGER));
        }
        if from_afar && self.provider_namespace(namespace).is_none() {
            // No object in it asks for the mapped namespace. With it comes the provider's list, which goes on from here.
            let _ = ensure_service_namespace(&self.api, &self.contract_namespace, namespace).await?;
        }
        // Somebody may have taken it away.
        if self.ensure_role_binding(namespace, accepted).await? {
            self.watch(namespace, decided.into_keys().collect());
        }
        Ok(Outcome::Done)
    }

    /// A cluster-scoped object names a namespace that is not there.
    async fn tell_missing(&self, namespace: &str) {
        let items: Vec<ItemKey> = {
            let state = self.state.lock();
            state.index.all().into_iter().filter(|item| item.namespace == namespace).collect()
        };
        for item in items {
            let message = format!(
                "there is no namespace {namespace:?} in this cluster, so its {} {:?} is not copied: create it, or name \
                 another",
                item.resource, item.name
            );
            self.tell(&item, "NamespaceNotFound", &message).await;
        }
    }

    /// `Ok(false)`: there is no right to watch, and no need to have one.
    async fn ensure_role_binding(&self, namespace: &str, create: bool) -> Result<bool, ApiError> {
        let wanted = contract::rbac::consumer::claims_in(&self.binding, Some(&self.binding_uid), namespace);
        let name = wanted.metadata.name.clone().unwrap_or_default();
        let key = ObjectKey::new(namespace, &name);
        match self.consumer.api.get_opt(&resources::role_bindings(), &key).await {
            // The same name always means the same rights; one for another subject or role is replaced by a person.
            Ok(Some(live)) => return Ok(live["roleRef"]["name"] == name.as_str()),
            Ok(None) => {}
            // Nothing was ever accepted.
            Err(error) if error.is_forbidden() && !create => return Ok(false),
            Err(error) => return Err(error),
        }
        let deleting = self
            .consumer
            .namespaces
            .store()
            .get(&ObjectKey::cluster(namespace))
            .is_none_or(|entry| entry.summary.deleting);
        if !create || deleting {
            return Ok(false);
        }
        let mut body = serde_json::to_value(&wanted).unwrap_or_default();
        body["apiVersion"] = json!("rbac.authorization.k8s.io/v1");
        body["kind"] = json!("RoleBinding");
        // By apply: the right to create is for this name only, which a POST would not honour.
        match self.consumer.api.apply_create_only(&resources::role_bindings(), &key, &body, MANAGER).await {
            Ok(_) => {
                tracing::info!(binding = %self.binding, namespace, "namespace opened for claimed kinds");
                Ok(true)
            }
            Err(error) if error.is_conflict() => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn watch(self: &Arc<Self>, namespace: &str, kinds: Vec<String>) {
        let claims = self.state.lock().claims.clone();
        for plural in kinds {
            let Some(resource) = resources::claimable("", &plural) else { continue };
            let known = self.state.lock().attached.get(namespace).is_some_and(|a| a.informers.contains_key(&plural));
            if known {
                continue;
            }
            let (binding, contract) = (self.binding.clone(), self.contract_namespace.clone());
            let (kind, of_kind, claims) = (resource.kind.clone(), plural.clone(), claims.clone());
            let project = move |object: &Arc<Value>| -> Result<ItemSummary, String> {
                Ok(bodies::summary(object, &kind, &binding, &contract, &of_kind, &claims))
            };
            let weak = Arc::downgrade(self);
            let of_kind = plural.clone();
            let place = namespace.to_owned();
            let handler = move |delta: &Delta<ItemSummary>| {
                let Some(this) = weak.upgrade() else { return };
                match delta {
                    Delta::Applied { key, .. } => {
                        let item = item(&of_kind, key);
                        this.state.lock().deleted.remove(&item);
                        this.queue.add(Work::Item(item));
                    }
                    Delta::Removed { key, last, observed } => {
                        let item = item(&of_kind, key);
                        if *observed && !last.summary.copy {
                            this.state.lock().deleted.insert(item.clone(), last.summary.uid.clone());
                        }
                        this.queue.add(Work::Item(item));
                    }
                    Delta::Synced => this.requeue_namespace(&of_kind, &place),
                }
            };
            let informer = Informer::start(
                &self.consumer.api,
                &resource,
                ListQuery::namespace(namespace),
                InformerOptions::keeping(Keep { managed_fields: ManagedFields::Of(FIELD_MANAGER), leave_out: &[] }),
                Arc::new(project),
                Arc::new(handler),
            );
            let mut state = self.state.lock();
            // Whoever halts clears what is attached after it has said so.
            if !self.stop.is_cancelled() {
                let attached = state.attached.entry(namespace.to_owned()).or_insert_with(Attached::now);
                attached.informers.insert(plural, informer);
            }
        }
    }

    fn requeue_namespace(&self, resource: &str, namespace: &str) {
        let state = self.state.lock();
        let mut items: Vec<ItemKey> =
            state.index.all().into_iter().filter(|i| i.namespace == namespace && i.resource == resource).collect();
        if let Some(list) = state.lists.get(namespace) {
            items.extend(list.keys().filter(|(kind, _)| kind == resource).map(|(kind, name)| ItemKey {
                resource: kind.clone(),
                namespace: namespace.to_owned(),
                name: name.clone(),
            }));
        }
        drop(state);
        for item in items {
            self.queue.add(Work::Item(item));
        }
    }

    /// The API is not used in the namespace any more: when no copy is left on either side, the rights go.
    async fn close(self: &Arc<Self>, namespace: &str, gone: bool) -> Result<Outcome, ApiError> {
        let (copies_here, sent) = {
            let state = self.state.lock();
            let may_have = |informer: &Informer<ItemSummary>| {
                !informer.synced() || informer.store().all().iter().any(|(_, entry)| entry.summary.copy)
            };
            let copies_here =
                state.attached.get(namespace).is_some_and(|a| !a.gone && a.informers.values().any(may_have));
            (copies_here, state.sent_from(namespace))
        };
        if copies_here || sent.iter().any(|key| !self.is_others(key)) {
            return Ok(Outcome::After(LINGER));
        }
        if !gone {
            let name = contract::rbac::consumer::claims_role_name(&self.binding);
            let key = ObjectKey::new(namespace, &name);
            if let Some(live) = self.consumer.api.get_opt(&resources::role_bindings(), &key).await? {
                let uid = live["metadata"]["uid"].as_str().unwrap_or_default();
                self.consumer.api.delete(&resources::role_bindings(), &key, uid).await?;
            }
        }
        let mut state = self.state.lock();
        if state.index.uses(namespace) {
            // Used again meanwhile.
            state.attached.remove(namespace);
            drop(state);
            self.queue.add(Work::Namespace(namespace.to_owned()));
            return Ok(Outcome::Done);
        }
        state.attached.remove(namespace);
        state.mirrored.retain(|item, _| item.namespace != namespace);
        state.deleted.retain(|item, _| item.namespace != namespace);
        tracing::info!(binding = %self.binding, namespace, "namespace closed for claimed kinds");
        Ok(Outcome::Done)
    }

    /// Whether another binding wants a copy at the provider: it is that one's to look after then.
    fn is_others(&self, key: &ItemKey) -> bool {
        let others = self.others(key).unwrap_or_default();
        others.into_iter().flatten().any(|other| other.wants(key, DropThere::ReferrerGone) == Some(Wanted::Yes))
    }

    /// The namespace's own deletion was seen, and with it that of everything in it.
    pub(super) fn consumer_namespace_gone(&self, namespace: &str) {
        let mut state = self.state.lock();
        let Some(attached) = state.attached.get_mut(namespace) else { return };
        attached.gone = true;
        let informers: BTreeMap<String, Informer<ItemSummary>> = std::mem::take(&mut attached.informers);
        let mut items = Vec::new();
        for (resource, informer) in informers {
            for (key, entry) in informer.store().all() {
                let item = item(&resource, &key);
                if !entry.summary.copy {
                    state.deleted.insert(item.clone(), entry.summary.uid.clone());
                }
                items.push(item);
            }
        }
        drop(state);
        for item in items {
            self.queue.add(Work::Item(item));
        }
        self.queue.add_after(Work::Namespace(namespace.to_owned()), LINGER);
    }

    /// Whether claimed kinds are still looked after in a namespace.
    pub fn is_open(&self, namespace: &str) -> bool {
        self.state.lock().attached.contains_key(namespace)
    }

    /// All attached namespaces.
    pub(super) fn attached_namespaces(&self) -> Vec<String> {
        self.state.lock().attached.keys().cloned().collect()
    }

    pub(super) fn start_draining(&self) {
        let mut state = self.state.lock();
        state.draining = true;
        state.draining_since.get_or_insert_with(Instant::now);
    }
}

impl State {
    /// Objects at the provider that may have been copied there from a namespace under this binding's claims, whatever was
    /// decided about them since.
    fn sent_from(&self, namespace: &str) -> Vec<ItemKey> {
        let claims = self.claims.iter().filter(|claim| claim.direction().to_provider());
        let sent: HashSet<&str> = claims.map(|claim| claim.resource().resource.as_str()).collect();
        let entries = self.lists.get(namespace).into_iter().flat_map(HashMap::values);
        let sent = entries.filter(|entry| {
            entry.uid.is_some()
                && entry.deleted != Some(true)
                && entry.owner != Some(ClaimOwner::Provider)
                && sent.contains(entry.resource.as_str())
        });
        let key = |entry: &ClaimedObject| ItemKey {
            resource: entry.resource.clone(),
            namespace: namespace.to_owned(),
            name: entry.name.clone(),
        };
        sent.map(key).collect()
    }

    /// Namespaces whose claimed kinds may not be watched (any more).
    pub(super) fn without_rights(&self) -> Vec<String> {
        let refused = |informer: &Informer<ItemSummary>| {
            informer.health().borrow().trouble.as_ref().is_some_and(|trouble| trouble.class == Class::Forbidden)
        };
        let without = self.attached.iter().filter(|(_, attached)| attached.informers.values().any(refused));
        without.map(|(namespace, _)| namespace.clone()).collect()
    }
}

fn item(resource: &str, key: &ObjectKey) -> ItemKey {
    ItemKey { resource: resource.to_owned(), namespace: key.namespace.clone(), name: key.name.clone() }
}
