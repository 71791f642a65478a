//! Kubernetes' API semantics as pure functions: no IO, no clock, no randomness.
//!
//! ```text
//!   request body                                                       stored object
//!       │                                                                    │ live
//!       ▼                                                                    ▼
//!   ┌────────┐   ┌───────────────────┐   ┌─────────────────┐   ┌──────────────────────────┐
//!   │ patch  │──►│ schema: prune,    │──►│ schema:         │──►│ apply: who owns which    │──► new object
//!   │ apply  │   │ default           │   │ validate (CEL)  │   │ field, managedFields     │
//!   └────────┘   └───────────────────┘   └─────────────────┘   └──────────────────────────┘
//!       │ any step may fail                                          │
//!       ▼                                                            ▼
//!   field_path::FieldError ──► status::StatusError        selector, jsonpath, table: reading it again
//! ```
//!
//! Callers are the control plane's registries, the konnector (what would this apply change?) and the contract. Values
//! are [`serde_json::Value`]s; schemas are compiled once ([`schema::Structural`]) and shared.

pub mod apply;
pub mod duration;
pub mod field_path;
pub mod jsonpath;
pub mod names;
pub mod object;
pub mod patch;
pub mod schema;
pub mod selector;
pub mod status;
pub mod table;
pub mod yaml;
