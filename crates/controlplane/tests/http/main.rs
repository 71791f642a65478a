//! The control plane over HTTP, as clients see it.

mod crud;
mod definitions;
mod harness;
mod lists;
mod tenants;
mod watches;
mod writes;
