//! Running until told to stop. In: a runtime and the work, which gets a token. Out: an exit code. SIGTERM or SIGINT cancels
//! the token; then the work has the grace period to finish what is under way and to give back what it holds. A second
//! signal, or the end of the grace period, ends the process at once and with a failure.

use std::fmt::Display;
use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Flags for the end.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Shutdown")]
pub struct Shutdown {
    /// After SIGTERM or SIGINT, how long what is under way may take; keep it below the grace period of the pod
    #[arg(long, default_value = "20s", value_name = "TIME", value_parser = crate::value::some_time)]
    pub shutdown_grace_period: Duration,
}

/// How many threads work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// One: for a program that mostly waits, where each further thread costs memory.
    One,
    /// As many as there are processors.
    All,
}

/// What ended first.
enum End<E> {
    Work(Result<(), E>),
    Late,
    Again,
}

/// Runs `work` until it ends by itself or is told to, and says why it failed on stderr.
pub fn run<F, Fut, E>(name: &str, threads: Threads, grace: Duration, work: F) -> ExitCode
where
    F: FnOnce(CancellationToken) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Display,
{
    let fail = |error: &dyn Display| {
        eprintln!("{name}: {error:#}");
        ExitCode::FAILURE
    };
    let runtime = match runtime(threads) {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}")),
    };
    let ended = runtime.block_on(async {
        let stop = CancellationToken::new();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let work = work(stop.clone());
        tokio::pin!(work);
        let caught = tokio::select! {
            ended = &mut work => return Ok(End::Work(ended)),
            caught = either(&mut terminate, &mut interrupt) => caught,
        };
        tracing::info!(signal = caught, grace = ?grace, "shutting down");
        stop.cancel();
        Ok::<_, std::io::Error>(tokio::select! {
            ended = &mut work => End::Work(ended),
            () = tokio::time::sleep(grace) => End::Late,
            _ = either(&mut terminate, &mut interrupt) => End::Again,
        })
    });
    // Whatever still blocks is not waited for.
    runtime.shutdown_background();
    match ended {
        Ok(End::Work(Ok(()))) => ExitCode::SUCCESS,
        Ok(End::Work(Err(error))) => fail(&error),
        Ok(End::Late) => {
            fail(&format!("not done within the grace period of {} s; ended all the same", grace.as_secs_f64()))
        }
        Ok(End::Again) => fail(&"ended at once by a second signal"),
        Err(error) => fail(&format!("cannot listen for signals: {error}")),
    }
}

fn runtime(threads: Threads) -> std::io::Result<Runtime> {
    match threads {
        Threads::One => Builder::new_current_thread().enable_all().build(),
        Threads::All => Builder::new_multi_thread().enable_all().build(),
    }
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
