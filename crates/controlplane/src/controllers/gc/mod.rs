//! The garbage collector: what goes when its owners are gone.
//!
//! ```text
//!  commits ─► Graph::observe ─► Step ─► (live owners are read) ─► decide ─► Verdict ─► a write with preconditions
//! ```
//!
//! - [`graph`]: who names whom as owner, and which steps a change makes due.
//! - [`decide`]: what to do with one object, given the state of its owners as it was just read.
//! - [`collector`]: reads and writes.
//!
//! The rules are those of the Kubernetes document "Garbage Collection": background, foreground and orphaning
//! deletion; an owner in another namespace counts as absent, a namespaced owner of a cluster-scoped object is no
//! reason to do anything. An object is deleted only after each of its owners was looked for and not found (or found
//! under another UID); an owner whose kind is not served is no absence.

pub mod collector;
pub mod decide;
pub mod graph;

/// The finalizer of an object that waits for its dependents to be deleted.
pub const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an object whose dependents are to be released.
pub const ORPHAN: &str = "orphan";
