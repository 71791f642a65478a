//! An embedded Kubernetes API server with many logical clusters.
//!
//! ```text
//!            kubectl · konnector · backend · operators          in-process controllers
//!                       │ HTTPS /clusters/<name>/…                        │
//!                       ▼                                                 ▼
//!   http/   route ► authenticate ► authorise ► decode              api::Api (same calls,
//!             │          (auth/)                  │                 without HTTP and auth)
//!             │                                   ▼                       │
//!             │                     pipeline/  defaults, admission, ◄─────┘
//!             │                       merge, apply, prune, validate
//!             │                                   │ one write with a precondition
//!             ▼                                   ▼
//!   discovery, OpenAPI, Tables        store/  committer ──► Log (memory │ SQLite)
//!             ▲                                   │ after the commit
//!             │                                   ▼
//!   registry/ Catalog of Resources ◄── state in memory, watch events encoded once ──► watch streams, controllers/
//! ```
//!
//! - [`registry`]: descriptors of what is served; built-in kinds and CustomResourceDefinitions alike.
//! - [`store`]: the durable revisioned log and the state in memory.
//! - [`pipeline`]: what happens to an object between the request and the store.
//! - [`http`]: the protocol.
//! - [`auth`]: who may do what.
//! - [`controllers`]: what Kubernetes' own controllers do for namespaces, owner references, service accounts.
//! - [`server`]: puts it together: [`ControlPlane::start`].
//!
//! It is not a general-purpose Kubernetes: no pods are run.

pub mod api;
pub mod auth;
mod bootstrap;
pub mod clusters;
pub mod controllers;
pub mod core;
pub mod http;
pub mod pipeline;
pub mod registry;
pub mod request;
pub mod server;
pub mod store;

pub use api::{Api, ObjectRef, Subscription};
pub use auth::{Access, AccessLog, Purpose};
pub use request::{ALL_CLUSTERS, Attributes, ObjectReader, UserInfo};
pub use server::{ControlPlane, Options, StartError};
