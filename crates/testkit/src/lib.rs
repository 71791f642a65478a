//! Worlds to test in: both sides of kube-bind from their real parts, with faults on demand (tests only).
//!
//! ```text
//!   Service (kind, schema, claims from a seed)
//!        │
//!        ▼
//!   World ──► Provider: Site + backend + operator      Site: an API server that can stop and come back
//!        └──► Consumer: Site + agent                   program, typed: kubectl-bind and kubectl, typed and answered
//!                                                      pod: runs what a Deployment says
//! ```
//!
//! A scenario never asks what kind of API server it runs on, nor which API it is about. Those about admission policies ask
//! a site whether it evaluates them ([`site::Site::enforces_admission`]): the embedded one only stores them.

// Tests panic: that is how they fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]

mod audit;
pub mod daemon;
pub mod fault;
pub mod helm;
pub mod https;
pub mod inside;
pub mod install;
pub mod logs;
pub mod operator;
pub mod pod;
pub mod ports;
pub mod program;
pub mod real;
pub mod rights;
pub mod service;
pub mod site;
pub mod typed;
pub mod world;

use std::time::Duration;

use tokio::time::Instant;

/// How long a scenario waits for something that should happen within a second or two: machines are shared.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `check` gives something.
///
/// # Panics
/// When it does not within [`PATIENCE`]; the message says what was waited for and what was seen last.
pub async fn eventually<T, F>(what: &str, check: F) -> T
where
    F: AsyncFnMut() -> Result<T, String>,
{
    within(PATIENCE, what, check).await
}

/// [`eventually`] with another patience, for what is much work.
pub async fn within<T, F>(patience: Duration, what: &str, mut check: F) -> T
where
    F: AsyncFnMut() -> Result<T, String>,
{
    let began = Instant::now();
    let deadline = began + patience;
    loop {
        match check().await {
            Ok(value) => return value,
            Err(seen) => {
                assert!(Instant::now() < deadline, "not within {} s: {what}; seen last: {seen}", patience.as_secs())
            }
        }
        // What takes longer than a moment is asked for less often: asking costs the API servers more than the waiting gains.
        let pause = if began.elapsed() < Duration::from_secs(1) { 50 } else { 100 };
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

/// Watches for `time` that `check` stays true.
///
/// # Panics
/// When it does not; the message says what was seen.
pub async fn stays<F>(what: &str, time: Duration, mut check: F)
where
    F: AsyncFnMut() -> Result<(), String>,
{
    let deadline = Instant::now() + time;
    while Instant::now() < deadline {
        if let Err(seen) = check().await {
            panic!("no longer true: {what}; seen: {seen}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
