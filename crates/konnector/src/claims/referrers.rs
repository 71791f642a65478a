//! A fresh look at who refers to a claimed object, before a copy goes because nobody does. In: the item. Out: whether its
//! last referrer is really gone, on both sides.
//!
//! What is missing here is no evidence: a consumer that was restored from an older backup, or whose CRD was removed and
//! made again, has lost objects that live on at the provider, with everything they refer to. Who deletes an object has its
//! copy deleted first (the finalizer sees to that), so a copy that still refers to the item tells the two apart.

use std::collections::HashSet;

use contract::{ConsumerKey, Strategy, safety::is_bound_copy};
use kube_bind_api::GroupResource;
use kube_client::{ApiError, ListQuery, ObjectKey};
use serde_json::{Value, json};

use super::{ClaimSync, index::ItemKey};
use crate::{
    kind::KindConfig,
    resources,
    sync::{consumer_key, provider_key},
};

/// What a fresh look says about a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meant {
    /// It is meant.
    Yes,
    /// It is not, and what spoke for it is no evidence.
    No,
    /// It cannot be told yet: what is on its way has to arrive first.
    NotYet,
}

impl ClaimSync {
    /// Lists the referring kinds of the namespace anew, on both sides. A kind whose CRD is going or gone takes its objects
    /// with it, which is no reason to delete what they referred to.
    pub(super) async fn nothing_refers(&self, key: &ItemKey) -> Result<Meant, ApiError> {
        let (kinds, claims) = {
            let state = self.state.lock();
            (state.kinds.clone(), state.claims.clone())
        };
        let Some(provider) = self.provider.upgrade() else { return Ok(Meant::NotYet) };
        if kinds.is_empty() {
            return Ok(Meant::No);
        }
        let mut meant = Meant::Yes;
        for kind in kinds {
            let Some(kind) = kind.upgrade() else { return Ok(Meant::No) };
            let config = kind.config();
            let referring = GroupResource::new(config.resource.group.clone(), config.resource.plural.clone());
            let claims: Vec<&contract::Claim> = claims
                .iter()
                .filter(|claim| claim.resource().resource == key.resource)
                .filter(|claim| claim.references().iter().any(|reference| reference.resource == referring))
                .collect();
            if claims.is_empty() {
                continue;
            }
            let refers = |object: &Value| {
                claims.iter().any(|claim| {
                    let targets = claim.targets(&referring, object, config.openapi.as_deref());
                    let named = |target: &contract::Target| {
                        target.name == key.name && target.namespace.as_ref() == Some(&key.namespace)
                    };
                    targets.found.iter().any(named)
                })
            };
            let crd = format!("{}.{}", config.resource.plural, config.resource.group);
            let crd = self.consumer.api.get_opt(&resources::crds(), &ObjectKey::cluster(&crd)).await?;
            if crd.is_none_or(|c| c["metadata"]["deletionTimestamp"].is_string()) {
                return Ok(Meant::No);
            }
            let namespaced = config.mapping.strategy() == Strategy::ServiceNamespaced;
            let query = if namespaced { ListQuery::namespace(&key.namespace) } else { ListQuery::default() };
            let objects = self.consumer.api.list(&config.resource, &query).await?;
            if objects.iter().any(refers) {
                return Ok(Meant::No);
            }
            let here: HashSet<ConsumerKey> =
                objects.iter().filter_map(ObjectKey::of).map(|key| consumer_key(&key)).collect();
            let Some(copies) = self.copies_at_provider(key, config).await? else { return Ok(Meant::NotYet) };
            let map = provider.namespace_map();
            for (consumer, copy) in copies.iter().filter_map(|copy| as_at_consumer(copy, config, &map)) {
                if !refers(&copy) {
                    continue;
                }
                // Of an object that is there the change is on its way; of one that is not, nobody has deleted it.
                if !here.contains(&consumer) {
                    return Ok(Meant::No);
                }
                meant = Meant::NotYet;
            }
        }
        Ok(meant)
    }

    /// The provider's objects of a bound kind that may refer to an item, where they are watched anyway; `None` when the
    /// namespace is not mapped, so that nobody knows.
    async fn copies_at_provider(&self, key: &ItemKey, config: &KindConfig) -> Result<Option<Vec<Value>>, ApiError> {
        let query = match config.mapping.strategy() {
            Strategy::ServiceNamespaced => match self.provider_namespace(&key.namespace) {
                Some(mapped) => ListQuery::namespace(&mapped),
                None => return Ok(None),
            },
            Strategy::Namespaced => ListQuery::namespace(config.mapping.contract_namespace()),
            Strategy::Prefixed | Strategy::None => ListQuery::default(),
        };
        self.api.list(&config.resource, &query).await.map(Some)
    }
}

/// A copy under the name and in the namespace of the consumer's object, as which it refers to the same; `None` for what
/// is no copy of this contract's.
fn as_at_consumer(copy: &Value, config: &KindConfig, map: &contract::NamespaceMap) -> Option<(ConsumerKey, Value)> {
    if !is_bound_copy(copy, config.mapping.contract_namespace()) {
        return None;
    }
    let consumer = config.mapping.to_consumer(&provider_key(&ObjectKey::of(copy)?), map)?;
    let mut copy = copy.clone();
    let metadata = copy["metadata"].as_object_mut()?;
    metadata.insert("name".into(), json!(consumer.name));
    match &consumer.namespace {
        Some(namespace) => metadata.insert("namespace".into(), json!(namespace)),
        None => metadata.remove("namespace"),
    };
    Some((consumer, copy))
}
