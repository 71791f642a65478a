//! Claimed objects of one binding.

use std::sync::Arc;

use contract::{Claim, Consent};
use kube_bind_api::GroupResource;
use kube_client::ApiError;

use crate::{
    kind::{KindSync, ReferenceListener},
    provider::Provider,
};

/// The claims of one binding; it stops when dropped.
pub struct ClaimSync {}

impl ClaimSync {
    /// Starts with no claims.
    pub fn start(_provider: &Arc<Provider>, _binding: &str, _binding_uid: &str) -> Arc<Self> {
        Arc::new(Self {})
    }

    /// For the syncs of bound kinds: what their objects refer to.
    pub fn reference_listener(self: &Arc<Self>, _referring: GroupResource) -> ReferenceListener {
        Arc::new(|_, _, _| {})
    }

    /// New consent, claims or kinds.
    pub fn update(&self, _consent: Consent, _claims: Arc<Vec<Claim>>, _kinds: Vec<Arc<KindSync>>) {}

    /// The provider's list of claimed objects changed.
    pub fn namespace_changed(&self, _consumer_namespace: &str) {}

    /// Stops or resumes all movement.
    pub fn freeze(&self, _frozen: bool) {}

    /// Deletes all copies; says how many are left.
    pub async fn drain(&self) -> Result<usize, ApiError> {
        Ok(0)
    }
}
