//! The pure core of the agent: the state of both sides in, actions out. No IO, no clock, no randomness; what it decides
//! is carried out by `kind` and `claims`.
//!
//! ```text
//!   consumer object ─► summary ─┐                     ┌─► finalizer, create/update/delete at the provider
//!                               ├─► decide() ─ actions┤
//!   provider copy  ─► summary ─┘                     └─► status, finalizer off at the consumer
//! ```
//!
//! Summaries are small (uid, revision, flags, digests); bodies are asked for only when a write is due.

pub mod body;
pub mod claims;
pub mod decide;
pub mod digest;
pub mod fields;
pub mod intent;
pub mod packed;
pub mod status;
pub mod summary;

#[cfg(test)]
mod simulation;

pub use contract::{ConsumerKey, ProviderKey};
use kube_client::ObjectKey;

/// What is known of one side of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side<T> {
    /// Not known: the list is not complete, or the API server does not answer.
    Unknown,
    /// Known to be missing. Never a reason to delete anything.
    Absent,
    /// There.
    Present(T),
}

impl<T> Side<T> {
    /// The summary, if the object is there.
    pub fn present(&self) -> Option<&T> {
        match self {
            Self::Present(summary) => Some(summary),
            _ => None,
        }
    }

    /// From a lookup in a store that is complete (`known`) or not.
    pub fn from_lookup(known: bool, found: Option<T>) -> Self {
        match (known, found) {
            (_, Some(summary)) => Self::Present(summary),
            (true, None) => Self::Absent,
            (false, None) => Self::Unknown,
        }
    }
}

/// The key as requests to the consumer want it.
pub fn consumer_object(key: &ConsumerKey) -> ObjectKey {
    ObjectKey::new(key.namespace.as_deref().unwrap_or_default(), &key.name)
}

/// The key as requests to the provider want it.
pub fn provider_object(key: &ProviderKey) -> ObjectKey {
    ObjectKey::new(key.namespace.as_deref().unwrap_or_default(), &key.name)
}

/// The consumer's key of an object of its cluster.
pub fn consumer_key(key: &ObjectKey) -> ConsumerKey {
    ConsumerKey::new(key.namespace(), key.name.clone())
}

/// The provider's key of an object of its cluster.
pub fn provider_key(key: &ObjectKey) -> ProviderKey {
    ProviderKey::new(key.namespace(), key.name.clone())
}
