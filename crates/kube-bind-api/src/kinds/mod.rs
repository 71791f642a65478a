//! One file a kind.
// Columns of a kind are alike by nature; the lint takes them for repeated attributes.
#![allow(clippy::duplicated_attributes)]

pub mod binding;
pub mod bound_schema;
pub mod bundle;
pub mod cluster;
pub mod cluster_binding;
pub mod collection;
pub mod export;
pub mod namespace;
pub mod request;
pub mod resources_request;
pub mod template;
