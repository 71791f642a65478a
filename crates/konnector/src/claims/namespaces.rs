//! Where claimed kinds are watched at the consumer: in namespaces where the API is used, and only while it is, by a
//! RoleBinding that the agent makes there. In: which namespaces have objects of the bound kinds. Out: RoleBindings and
//! watches.

use std::{sync::Arc, time::Duration};

use kube_bind_api::constants::FIELD_MANAGER;
use kube_client::{Delta, Informer, InformerOptions, Keep, ListQuery, ManagedFields, ObjectKey, Outcome};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{ClaimSync, ItemKey, Work, bodies};
use crate::{
    kind::ensure_service_namespace,
    resources::{self, MANAGER},
    sync::claims::ItemSummary,
};

/// How soon a namespace that is not used any more is looked at again while copies are left in it.
const LINGER: Duration = Duration::from_secs(5);

impl ClaimSync {
    /// Opens, widens or closes one consumer namespace.
    pub(super) async fn look_after(self: &Arc<Self>, namespace: &str) -> Outcome {
        let (used, decided, attached, gone) = {
            let state = self.state.lock();
            let attached = state.attached.get(namespace);
            (state.index.uses(namespace), state.decided(), attached.is_some(), attached.is_some_and(|a| a.gone))
        };
        let known = self.consumer.namespaces.store().get(&ObjectKey::cluster(namespace));
        let there = known.is_some_and(|entry| !entry.summary.deleting);
        if gone && used && there {
            // The namespace was made again, and something still refers to it.
            self.state.lock().attached.remove(namespace);
            return Outcome::Retry;
        }
        if gone || (attached && !used) {
            return self.close(namespace, gone).await;
        }
        if !used || decided.is_empty() {
            return Outcome::Done;
        }
        let accepted = decided.values().any(|accepted| *accepted);
        let from_afar = accepted && self.state.lock().index.named_from_afar(namespace);
        if from_afar && !there {
            self.tell_missing(namespace).await;
            return Outcome::After(LINGER);
        }
        if from_afar && self.provider_namespace(namespace).is_none() {
            // No object in it asks for the mapped namespace. With it comes the provider's list, which goes on from here.
            if let Err(error) = ensure_service_namespace(&self.api, &self.contract_namespace, namespace).await {
                tracing::warn!(binding = %self.binding, namespace, %error, "cannot ask for the mapped namespace");
                return error.retry_after.map_or(Outcome::Retry, Outcome::RetryAfter);
            }
        }
        if !attached {
            match self.ensure_role_binding(namespace, accepted).await {
                Ok(true) => {}
                Ok(false) => return Outcome::Done,
                Err(error) => {
                    tracing::warn!(binding = %self.binding, namespace, %error, "cannot open the namespace for claims");
                    return error.retry_after.map_or(Outcome::Retry, Outcome::RetryAfter);
                }
            }
        }
        self.watch(namespace, decided.into_keys().collect());
        Outcome::Done
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
    async fn ensure_role_binding(&self, namespace: &str, create: bool) -> Result<bool, kube_client::ApiError> {
        let wanted = contract::rbac::consumer::claims_in(&self.binding, Some(&self.binding_uid), namespace);
        let name = wanted.metadata.name.clone().unwrap_or_default();
        let key = ObjectKey::new(namespace, &name);
        if let Some(live) = self.consumer.api.get_opt(&resources::role_bindings(), &key).await? {
            // The same name always means the same rights; one for another subject or role is replaced by a person.
            return Ok(live["roleRef"]["name"] == name.as_str());
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
            self.state.lock().attached.entry(namespace.to_owned()).or_default().informers.insert(plural, informer);
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
    async fn close(self: &Arc<Self>, namespace: &str, gone: bool) -> Outcome {
        let left = {
            let state = self.state.lock();
            let copies_here = state.attached.get(namespace).is_some_and(|a| {
                !a.gone && a.informers.values().any(|i| i.store().all().iter().any(|(_, e)| e.summary.copy))
            });
            let copies_there = state
                .lists
                .get(namespace)
                .is_some_and(|list| list.values().any(|e| e.uid.is_some() && e.deleted != Some(true)));
            copies_here || copies_there
        };
        if left {
            return Outcome::After(LINGER);
        }
        if !gone {
            let name = contract::rbac::consumer::claims_role_name(&self.binding);
            let key = ObjectKey::new(namespace, &name);
            let removed = async {
                if let Some(live) = self.consumer.api.get_opt(&resources::role_bindings(), &key).await? {
                    let uid = live["metadata"]["uid"].as_str().unwrap_or_default();
                    self.consumer.api.delete(&resources::role_bindings(), &key, uid).await?;
                }
                Ok::<(), kube_client::ApiError>(())
            };
            if let Err(error) = removed.await {
                tracing::warn!(binding = %self.binding, namespace, %error, "cannot close the namespace for claims");
                return Outcome::Retry;
            }
        }
        let mut state = self.state.lock();
        if state.index.uses(namespace) {
            // Used again meanwhile.
            state.attached.remove(namespace);
            drop(state);
            self.queue.add(Work::Namespace(namespace.to_owned()));
            return Outcome::Done;
        }
        state.attached.remove(namespace);
        state.mirrored.retain(|item, _| item.namespace != namespace);
        state.deleted.retain(|item, _| item.namespace != namespace);
        tracing::info!(binding = %self.binding, namespace, "namespace closed for claimed kinds");
        Outcome::Done
    }

    /// The namespace's own deletion was seen, and with it that of everything in it.
    pub(super) fn consumer_namespace_gone(&self, namespace: &str) {
        let mut state = self.state.lock();
        let Some(attached) = state.attached.get_mut(namespace) else { return };
        attached.gone = true;
        let informers: Vec<(String, Informer<ItemSummary>)> = attached.informers.drain().collect();
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

fn item(resource: &str, key: &ObjectKey) -> ItemKey {
    ItemKey { resource: resource.to_owned(), namespace: key.namespace.clone(), name: key.name.clone() }
}
