//! The control plane over HTTP, as clients see it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // in tests a panic is the message

mod answers;
mod crud;
mod definitions;
mod harness;
mod lists;
mod nulls;
mod tenants;
mod watches;
mod writes;
