//! The kube-bind agent: the only thing that a consumer runs.
//!
//! ```text
//!        CONSUMER                                  AGENT                                   PROVIDER (one of several)
//!  bindings, CRDs, Secrets ──► agent ──► provider (failure domain) ◄──────────── ClusterBinding, exports, schemas
//!                                 │          │
//!                                 │          ├── binding: CRD, statuses, unbind
//!  bound objects ◄──────────────► │          ├── kind:    decide(consumer, provider) ◄──► copies in mapped namespaces
//!  claimed objects ◄────────────► │          └── claims:  decide over references      ◄──► claimedObjects
//! ```
//!
//! [`sync`] decides and does no IO; everything else watches and writes. One agent of a cluster writes at a time: it holds
//! the Lease `kube-bind/kube-bind`. Nothing here is specific to any provider, and the rights that it needs are exactly
//! those that crate `contract` generates.

mod agent;
mod binding;
mod claims;
mod config;
mod consumer;
mod events;
mod health;
mod kind;
mod provider;
mod reasons;
mod resources;
pub mod sync;

pub use agent::{RunError, run};
pub use config::{Config, main_from_args};
pub use health::Metrics;
