//! What kube-bind needs over [`kube`]: informers, a keyed work queue, Lease election, writes with preconditions.
//!
//! ```text
//!   API server ──list/watch──► informer ──deltas──► your handler ──keys──► queue ──► your reconcile
//!        ▲                        │ store                                                │
//!        └────────── api: create-only / update-only apply, patches, deletes ◄────────────┘
//!                         all of it only while election holds the Lease
//! ```
//!
//! Nothing here knows kube-bind. Objects are raw JSON ([`serde_json::Value`]), because the kinds are known only at run
//! time. State machines ([`informer::Machine`], [`election::evaluate`], [`queue::WorkQueue`]) are free of IO; time and
//! randomness come from outside.

pub mod api;
pub mod backoff;
pub mod connect;
pub mod decode;
pub mod election;
pub mod error;
pub mod informer;
pub mod queue;
pub mod resource;
pub mod source;
pub mod store;
mod stream;
mod transport;

pub use api::{Api, FieldManager, ListQuery, Page, Subresource};
pub use backoff::Backoff;
pub use decode::{Keep, ManagedFields};
pub use error::{ApiError, Class};
pub use informer::{Delta, Health, Informer, InformerOptions};
pub use queue::{Depth, Outcome, WorkQueue};
pub use resource::Resource;
pub use source::Source;
pub use store::{Entry, KeyMap, ObjectKey, Revision, Store};
