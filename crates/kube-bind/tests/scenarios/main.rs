//! Scenarios: what a person does and sees, with the real programs, on a kind that is made from a seed. The story with
//! the example providers is the demo's; `demo.rs` runs it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop anywhere")]

mod access;
mod access_provider;
mod bad_input;
mod binding;
mod birth;
mod both_ways;
mod charts;
mod chooser;
mod claims;
mod consent;
mod demo;
mod deputies;
mod dev;
mod echo;
mod faults;
mod faults_bind;
mod from_url;
mod gitops;
mod golden;
mod help;
mod install;
mod killed;
mod life;
mod login;
mod negative;
mod oidc;
mod old_servers;
mod plugin;
mod policies;
mod programs;
mod provider_day;
mod refusals;
mod renewed;
mod seeds;
mod shared;
mod sync;
mod transcript;
mod unbind;

/// The program that is all programs.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kube-bind");
