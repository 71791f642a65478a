//! Resource descriptors: what is served, and how each resource behaves.
//!
//! Flows in: the built-in kinds and CustomResourceDefinitions. Flows out: [`Catalog`]s of [`Resource`]s. Called by the
//! HTTP front and by the write pipeline.

pub mod builtin;
pub mod catalog;
pub mod crd;
pub mod lazy;
pub mod protobuf;
pub mod resource;

pub use catalog::Catalog;
pub use lazy::Lazy;
pub use resource::{GroupResource, Resource, ScalePaths, StoredAs, Subresource};
