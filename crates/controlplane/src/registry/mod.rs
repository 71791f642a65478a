//! Resource descriptors: what is served, and how each resource behaves.
//!
//! Flows in: the built-in kinds and CustomResourceDefinitions. Flows out: [`Catalog`]s of [`Resource`]s. Called by the
//! HTTP front and by the write pipeline.

pub mod builtin;
pub mod catalog;
pub mod resource;

pub use catalog::Catalog;
pub use resource::{GroupResource, Resource, ScalePaths, StoredAs, Subresource};
