//! What a contract means, as pure functions: rules in, Kubernetes objects and decisions out.
//!
//! ```text
//!   template, request, binding ──► claims ──► consent ──► AcceptedClaim ──┬──► rbac     (who may what, both sides)
//!                                                                         ├──► claimed  (which objects, by name)
//!   CRD ◄──► schema ◄──► BoundSchema                                      └──► safety   (what may cross)
//!   consumer key ◄──► names ◄──► provider key            identity: whose contract is it
//!   version, image ──► install ──► everything that the agent needs in a cluster
//! ```
//!
//! Callers are the agent, the backend and the CLI. Nothing here does IO, reads a clock or draws a random number, and
//! nothing decides about the synchronisation of single objects.

pub mod claimed;
pub mod claims;
pub mod consent;
pub mod identity;
pub mod install;
pub mod names;
pub mod rbac;
pub mod safety;
pub mod schema;

pub use claims::{Claim, ClaimError, Direction, Target};
pub use consent::{AcceptedClaim, Consent};
pub use names::{ConsumerKey, Mapping, NamespaceMap, ProviderKey, Strategy};
