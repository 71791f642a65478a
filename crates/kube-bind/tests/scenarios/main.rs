//! Scenarios: what a person does and sees, with the real programs, on a kind that is made from a seed. The story with
//! the example providers is the demo's; `demo.rs` runs it.

mod bad_input;
mod binding;
mod claims;
mod consent;
mod demo;
mod dev;
mod life;
mod negative;
mod sync;
mod unbind;

/// The program that is all programs.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kube-bind");
