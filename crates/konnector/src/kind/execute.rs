//! Carries out the actions of one decision, in order, each with the precondition that makes it safe. In: actions and the
//! summaries they were decided on. Out: what the queue shall do next. A precondition that fails means that the world has
//! moved on: the key comes back and is decided anew.

use std::{sync::Arc, time::Duration};

use kube_bind_api::constants::{ANNOTATION_PROVIDER_NAMESPACE, FIELD_MANAGER, FINALIZER};
use kube_client::{ApiError, Class, ObjectKey, Outcome, Subresource};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{KindSync, Standing, late::TELL_AFTER};
use crate::{
    events::Subject,
    health::Cluster,
    reasons,
    resources::{self, MANAGER},
    sync::{
        Side,
        body::{Origin, desired, owned_digest, without_empty_maps},
        consumer_key,
        decide::{Action, Applied, CONTESTED_AFTER, Obstacle},
        fields,
        intent::{Deletion, Teardown},
        provider_object,
        status::{Generations, StatusKey, translate},
        summary::{Belongs, ConsumerSummary, ProviderSummary},
    },
};

/// The same namespace is asked for at most this often.
const MAPPING_RETRY: Duration = Duration::from_secs(30);
/// How an API server says that it made a map null.
const NULL_MAP: &str = "must be of type object: \"null\"";

impl KindSync {
    pub(super) async fn carry_out(
        &self,
        key: &ObjectKey,
        consumer: &ConsumerSummary,
        copy: &Side<ProviderSummary>,
        standing: Standing,
        actions: Vec<Action>,
    ) -> Outcome {
        let asked = actions.contains(&Action::EnsureMapping);
        // What the spec has to wait for, the status does not: it comes down all the same.
        let (mut refused, mut later) = (None, None);
        for action in actions {
            let done = match &action {
                Action::EnsureMapping => self.ensure_mapping(&key.namespace).await,
                Action::Hold => self.hold(key, consumer, copy).await.map(drop),
                Action::Create => self.create(key, consumer, copy).await,
                Action::Update { uid, migrate, revert } => {
                    if let Some(wait) = self.contested_wait(key, *revert) {
                        later = Some(Outcome::After(wait));
                        continue;
                    }
                    self.update(key, consumer, copy, uid, *migrate, *revert).await
                }
                Action::Delete(deletion) => self.delete(key, consumer, copy, standing, deletion).await,
                Action::PutStatus(rule) => self.put_status(key, consumer, copy, rule).await,
                Action::Release => self.release(key, consumer, copy, standing).await,
                Action::Report(obstacle) => {
                    self.report(key, consumer, obstacle).await;
                    continue;
                }
            };
            if let Err(error) = done {
                let outcome = self.failed(key, consumer, &action, &error).await;
                let content = matches!(error.class, Class::Invalid | Class::Forbidden);
                if !(content && matches!(action, Action::Update { .. })) {
                    return outcome;
                }
                refused = Some(outcome);
            }
        }
        // Its answer comes with the mapping, or was to an earlier one that has gone since.
        let asked = asked.then_some(Outcome::After(MAPPING_RETRY));
        refused.or(later).or(asked).unwrap_or(Outcome::Done)
    }

    pub(super) async fn failed(
        &self,
        key: &ObjectKey,
        consumer: &ConsumerSummary,
        action: &Action,
        error: &ApiError,
    ) -> Outcome {
        // What was found out here was never sent.
        if error.code != 0 || error.class != Class::Conflict {
            let side = match action {
                Action::Hold | Action::PutStatus(_) | Action::Release => Cluster::Consumer,
                _ => Cluster::Provider,
            };
            self.consumer.metrics.refused(side, &self.config.resource, error);
        }
        match error.class {
            Class::Conflict | Class::AlreadyExists | Class::NotFound => {
                tracing::debug!(object = %key, ?action, %error, "the world has moved on");
                return Outcome::Retry;
            }
            Class::Invalid | Class::Forbidden => {
                let reason = match action {
                    Action::PutStatus(_) => "StatusRefused",
                    Action::Hold | Action::Release => "FinalizerRefused",
                    _ => "SyncRefused",
                };
                self.warn(key, consumer, reason, &error.to_string()).await;
            }
            _ => {}
        }
        if error.class.is_transient() && self.queue.failures(key) >= TELL_AFTER && self.late.may_tell() {
            let message = format!("{error}; {}", error.mend());
            self.warn(key, consumer, reasons::SYNC_DELAYED, &message).await;
        }
        tracing::warn!(object = %key, binding = %self.config.binding, ?action, %error, "action failed");
        match error.retry_after {
            Some(wait) => Outcome::RetryAfter(wait),
            None => Outcome::Retry,
        }
    }

    async fn ensure_mapping(&self, namespace: &str) -> Result<(), ApiError> {
        {
            let mut asked = self.mapping_asked.lock();
            if asked.get(namespace).is_some_and(|at| at.elapsed() < MAPPING_RETRY) {
                return Ok(());
            }
            asked.insert(namespace.to_owned(), Instant::now());
        }
        let made = ensure_service_namespace(&self.provider, self.config.mapping.contract_namespace(), namespace).await;
        match made {
            Ok(true) => self.consumer.metrics.wrote(Cluster::Provider, &resources::service_namespaces(), None),
            Ok(false) => {}
            Err(error) => {
                self.mapping_asked.lock().remove(namespace);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Puts finalizer and place on the consumer's object; returns what it is then.
    pub(super) async fn hold(
        &self,
        key: &ObjectKey,
        consumer: &ConsumerSummary,
        copy: &Side<ProviderSummary>,
    ) -> Result<ConsumerSummary, ApiError> {
        let live = if consumer.finalizer || consumer.other_finalizers {
            self.consumer_body(key, consumer).await?
        } else {
            // All that the write needs is known: the list of finalizers is empty at this very revision.
            Arc::new(json!({"metadata": {
                "namespace": key.namespace, "name": key.name,
                "uid": consumer.uid, "resourceVersion": consumer.revision,
            }}))
        };
        let namespace = self.target_namespace(key);
        let annotations: Vec<(&str, &str)> = namespace
            .as_deref()
            .filter(|n| !n.is_empty())
            .map(|n| (ANNOTATION_PROVIDER_NAMESPACE, n))
            .into_iter()
            .collect();
        let held = self.consumer.api.add_finalizer(&self.config.resource, &live, FINALIZER, &annotations, MANAGER);
        let held = Arc::new(held.await?);
        self.wrote(Cluster::Consumer, None);
        let summary = self.summarise(&held);
        self.answered(key, consumer, &summary, copy);
        self.bodies.put_answer(key, summary.revision.clone(), held);
        Ok(summary)
    }

    async fn create(
        &self,
        key: &ObjectKey,
        consumer: &ConsumerSummary,
        copy: &Side<ProviderSummary>,
    ) -> Result<(), ApiError> {
        let (target, body) = self.wanted(key, consumer).await?;
        let made = self.provider.apply_create_only(&self.config.resource, &target, &body, MANAGER).await?;
        tracing::info!(object = %key, copy = %target, binding = %self.config.binding, "created at the provider");
        self.wrote(Cluster::Provider, Some(key));
        self.note_applied(key, consumer, &made, false);
        self.expect_echo(key, consumer, copy);
        Ok(())
    }

    async fn update(
        &self,
        key: &ObjectKey,
        consumer: &ConsumerSummary,
        copy: &Side<ProviderSummary>,
        uid: &str,
        migrate: bool,
        revert: bool,
    ) -> Result<(), ApiError> {
        let (target, body) = self.wanted(key, consumer).await?;
        if migrate {
            self.migrate(key, &target, uid).await?;
        }
        let apply = |body| self.provider.apply_update_only(&self.config.resource, &target, body, uid, MANAGER);
        let made = match apply(&body).await {
            // The answer to a map that we emptied: see `without_empty_maps`.
            Err(error) if error.class == Class::Invalid && error.message.contains(NULL_MAP) => {
                let Some(less) = without_empty_maps(&body) else { return Err(error) };
                apply(&less).await?;
                self.wrote(Cluster::Provider, Some(key));
                apply(&body).await?
            }
            made => made?,
        };
        self.wrote(Cluster::Provider, Some(key));
        self.note_applied(key, consumer, &made, revert);
        let revision = made["metadata"]["resourceVersion"].as_str();
        if revision != copy.present().map(|c| c.revision.as_str()) {
            tracing::info!(object = %key, copy = %target, binding = %self.config.binding, "updated at the provider");
            self.expect_echo(key, consumer, copy);
        }
        Ok(())
    }

    /// Turns what the Go agent recorded as plain updates into our apply entry, so that fields which the consumer drops
    /// go away at the provider too.
    async fn migrate(&self, key: &ObjectKey, target: &ObjectKey, uid: &str) -> Result<(), ApiError> {
        let live = self.provider.get(&self.config.resource, target).await?;
        let Some(entries) = fields::migrated(&live, FIELD_MANAGER) else { return Ok(()) };
        let resource = &self.config.resource;
        self.provider.put_managed_fields(resource, target, &live, uid, &json!(entries), MANAGER).await?;
        tracing::info!(object = %key, "took over the field ownership of an earlier agent");
        Ok(())
    }

    /// Deletes the copy, after fresh reads that confirm the intent on both sides.
    async fn delete(
        &self,
        key: &ObjectKey,
        consumer: &ConsumerSummary,
        copy: &Side<ProviderSummary>,
        standing: Standing,
        deletion: &Deletion,
    ) -> Result<(), ApiError> {
        if !self.intent_still_holds(key, consumer, standing).await? {
            tracing::info!(object = %key, "not deleting: a fresh read does not confirm it");
            return Ok(());
        }
        let Some(target) = self.target(key) else { return Ok(()) };
        let Some(live) = self.provider.get_opt(&self.config.resource, &target).await? else {
            self.expect_echo(key, consumer, copy);
            return Ok(());
        };
        let seen = self.summarise_copy(key, &live);
        if seen.uid != deletion.uid() || !matches!(seen.belongs, Belongs::Ours { .. }) || seen.deleting {
            return Ok(());
        }
        self.provider.delete(&self.config.resource, &target, deletion.uid()).await?;
        tracing::info!(object = %key, copy = %target, reason = ?deletion.reason(), "deleted at the provider");
        self.wrote(Cluster::Provider, Some(key));
        self.expect_echo(key, consumer, copy);
        Ok(())
    }

    /// Reads binding, CRD, contract and object again: each must still say that this deletion is meant.
    async fn intent_still_holds(
        &self,
        key: &ObjectKey,
        consumer: &ConsumerSummary,
        standing: Standing,
    ) -> Result<bool, ApiError> {
        let api = &self.consumer.api;
        let Some(object) = api.get_opt(&self.config.resource, key).await? else { return Ok(false) };
        if object["metadata"]["uid"] != consumer.uid.as_str() || !object["metadata"]["deletionTimestamp"].is_string() {
            return Ok(false);
        }
        let Some(binding) = api.get_opt(&resources::bindings(), &ObjectKey::cluster(&self.config.binding)).await?
        else {
            return Ok(false);
        };
        if binding["metadata"]["uid"] != self.config.binding_uid.as_str() {
            return Ok(false);
        }
        let binding_going = binding["metadata"]["deletionTimestamp"].is_string();
        let told_to_delete = binding["spec"]["deletionPolicy"] == "Delete";
        let crd_name = format!("{}.{}", self.config.resource.plural, self.config.resource.group);
        let crd = api.get_opt(&resources::crds(), &ObjectKey::cluster(&crd_name)).await?;
        let crd_going = crd.as_ref().is_none_or(|c| c["metadata"]["deletionTimestamp"].is_string());
        let meant = match standing.teardown {
            Teardown::None => !binding_going && !crd_going,
            Teardown::Delete => binding_going && told_to_delete,
            Teardown::Kind | Teardown::Orphan => false,
        };
        if !meant {
            return Ok(false);
        }
        let contract = self.config.mapping.contract_namespace();
        let cluster_key = ObjectKey::new(contract, kube_bind_api::constants::CLUSTER_BINDING);
        let cluster_binding = self.provider.get_opt(&resources::cluster_bindings(), &cluster_key).await?;
        Ok(cluster_binding.is_some_and(|c| crate::provider::pin::holds(&c, &self.consumer.uid)))
    }

    async fn put_status(
        &self,
        key: &ObjectKey,
        consumer: &ConsumerSummary,
        copy: &Side<ProviderSummary>,
        rule: &Generations,
    ) -> Result<(), ApiError> {
        let Side::Present(seen) = copy else { return Ok(()) };
        let body = match self.bodies.take_provider(key, &seen.revision) {
            Some(body) => body,
            None => {
                let Some(target) = self.target(key) else { return Ok(()) };
                let live = self.provider.get(&self.config.resource, &target).await?;
                if live["metadata"]["uid"] != seen.uid.as_str() {
                    return Ok(());
                }
                Arc::new(live)
            }
        };
        let rule = Generations { provider: body["metadata"]["generation"].as_i64().unwrap_or(rule.provider), ..*rule };
        let status = translate(&body, &rule);
        let part = if self.config.status_subresource { Subresource::Status } else { Subresource::Main };
        if status.is_none() && consumer.status.digest.is_none() {
            return Ok(());
        }
        let written = self
            .consumer
            .api
            .put_status(&self.config.resource, key, &consumer.uid, status.as_ref(), part, MANAGER)
            .await?;
        self.wrote(Cluster::Consumer, Some(key));
        let meant = StatusKey::of(&json!({"status": status}));
        let result = StatusKey::of(&written);
        self.remember(key, |memory| memory.status = Some((meant, result)));
        if written["metadata"]["resourceVersion"] != consumer.revision.as_str() {
            tracing::debug!(object = %key, "status brought to the consumer");
            self.expect_echo(key, consumer, copy);
        }
        Ok(())
    }

    /// Takes our finalizer off. Unless CRD or binding go, a fresh read must say that no copy of ours is left: the cache
    /// may be older than our own create.
    async fn release(
        &self,
        key: &ObjectKey,
        consumer: &ConsumerSummary,
        copy: &Side<ProviderSummary>,
        standing: Standing,
    ) -> Result<(), ApiError> {
        if matches!(standing.teardown, Teardown::None | Teardown::Delete)
            && let Some(target) = self.target(key)
            && let Some(live) = self.provider.get_opt(&self.config.resource, &target).await?
            && matches!(self.summarise_copy(key, &live).belongs, Belongs::Ours { .. })
        {
            return Err(self.moved_on(key, "the provider's copy is still there"));
        }
        let live = match self.consumer_body(key, consumer).await {
            Ok(live) => live,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        match self.consumer.api.remove_finalizer(&self.config.resource, &live, FINALIZER, MANAGER).await {
            Ok(Some(_)) => self.wrote(Cluster::Consumer, None),
            Ok(None) => {}
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        }
        self.expect_echo(key, consumer, copy);
        Ok(())
    }

    async fn report(&self, key: &ObjectKey, consumer: &ConsumerSummary, obstacle: &Obstacle) {
        let (reason, message) = match obstacle {
            Obstacle::ForeignObject(why) => (
                "ForeignObject",
                format!(
                    "the provider has an object {} that is not the copy of this one ({why}); nothing is synced: \
                     ask the provider to remove it, or choose another name",
                    self.target(key).map(|t| t.to_string()).unwrap_or_default()
                ),
            ),
            Obstacle::ProviderDeleting => (
                "ProviderDeleting",
                "the provider is deleting its copy though this object is not being deleted; it is made again as soon \
                 as it is gone"
                    .into(),
            ),
            Obstacle::Unmappable(why) => ("NameNotMappable", why.clone()),
            Obstacle::Contested => (
                "FieldContested",
                "somebody at the provider keeps changing fields that this object sets; they are put back more and \
                 more slowly: ask the provider which of them it owns"
                    .into(),
            ),
        };
        self.warn(key, consumer, reason, &message).await;
    }

    pub(super) async fn warn(&self, key: &ObjectKey, consumer: &ConsumerSummary, reason: &str, message: &str) {
        let subject = Subject { resource: self.config.resource.clone(), key: key.clone(), uid: consumer.uid.clone() };
        self.consumer.events.warn(&subject, reason, message).await;
    }

    /// Fields that are changed again and again at the provider are put back more and more slowly.
    fn contested_wait(&self, key: &ObjectKey, revert: bool) -> Option<Duration> {
        let reverts = self.remembered(key).reverts;
        if !revert || reverts < CONTESTED_AFTER {
            self.contested.lock().remove(key);
            return None;
        }
        let delay = Duration::from_secs(10 << (reverts - CONTESTED_AFTER).min(6));
        let now = Instant::now();
        let mut contested = self.contested.lock();
        match contested.get(key) {
            None => {
                contested.insert(key, now + delay);
                Some(delay)
            }
            Some(until) if *until > now => Some(*until - now),
            Some(_) => {
                contested.remove(key);
                None
            }
        }
    }

    fn note_applied(&self, key: &ObjectKey, consumer: &ConsumerSummary, made: &Value, revert: bool) {
        let seen = self.summarise_copy(key, made);
        self.remember(key, |memory| {
            memory.reverts = if revert { memory.reverts + 1 } else { 0 };
            memory.applied = Some(Applied {
                desired: consumer.desired,
                result: seen.owned,
                uid: seen.uid,
                provider_generation: seen.generation,
                consumer_generation: consumer.generation,
            });
        });
    }

    /// The body to apply, made from exactly the revision that was decided on, or from a newer one that wants the same.
    async fn wanted(&self, key: &ObjectKey, consumer: &ConsumerSummary) -> Result<(ObjectKey, Value), ApiError> {
        let live = self.consumer_body(key, consumer).await?;
        let consumer_key = consumer_key(key);
        let target = self.to_provider(&consumer_key).map_err(|e| self.moved_on(key, &e.to_string()))?;
        let contract = self.config.mapping.contract_namespace();
        let origin = Origin { contract_namespace: contract, consumer: &consumer_key, uid: &consumer.uid };
        let body = desired(&live, Some(&target), origin, self.config.schema.as_deref());
        if owned_digest(&body) != consumer.desired {
            return Err(self.moved_on(key, "the consumer's object has changed meanwhile"));
        }
        Ok((provider_object(&target), body))
    }

    async fn consumer_body(&self, key: &ObjectKey, consumer: &ConsumerSummary) -> Result<Arc<Value>, ApiError> {
        if let Some(body) = self.bodies.take_consumer(key, &consumer.revision) {
            return Ok(body);
        }
        let live = self.consumer.api.get(&self.config.resource, key).await?;
        if live["metadata"]["uid"] != consumer.uid.as_str() {
            return Err(self.moved_on(key, "the consumer's object was replaced by another of its name"));
        }
        Ok(Arc::new(live))
    }

    fn moved_on(&self, key: &ObjectKey, why: &str) -> ApiError {
        ApiError {
            side: self.consumer.api.side().to_owned(),
            verb: "sync",
            target: format!("{} {key}", self.config.resource),
            class: Class::Conflict,
            code: 0,
            reason: String::new(),
            message: why.to_owned(),
            retry_after: None,
        }
    }

    fn summarise_copy(&self, key: &ObjectKey, live: &Value) -> ProviderSummary {
        let contract = self.config.mapping.contract_namespace();
        crate::sync::summary::provider(live, &consumer_key(key), contract, self.config.schema.as_deref())
    }

    fn target(&self, key: &ObjectKey) -> Option<ObjectKey> {
        self.to_provider(&consumer_key(key)).ok().map(|t| provider_object(&t))
    }

    fn target_namespace(&self, key: &ObjectKey) -> Option<String> {
        self.target(key).map(|t| t.namespace)
    }

    /// Counts a write; with the key of the object whose change it brings across.
    fn wrote(&self, side: Cluster, change: Option<&ObjectKey>) {
        let waited = change.and_then(|key| self.queue.due_for(key));
        self.consumer.metrics.wrote(side, &self.config.resource, waited);
    }
}

/// Asks the provider to map a consumer namespace; `false` when it was asked before.
pub async fn ensure_service_namespace(
    provider: &kube_client::Api,
    contract_namespace: &str,
    namespace: &str,
) -> Result<bool, ApiError> {
    let body = json!({
        "apiVersion": "kube-bind.io/v1alpha2", "kind": "APIServiceNamespace",
        "metadata": {"name": namespace, "namespace": contract_namespace}, "spec": {},
    });
    match provider.create(&resources::service_namespaces(), Some(contract_namespace), &body).await {
        Ok(_) => Ok(true),
        Err(error) if error.class == Class::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}
