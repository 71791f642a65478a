//! The tables of `docs/performance.md`: `cargo run --release -p benches`, or with a word only one half (`plane`, `sync`);
//! with `real` the agent between two real API servers, against the floor (further words: `delay`, `rate`, `many`, or `short` for
//! the first two in a few minutes; `birth` for bindings whose objects get their finalizer at birth).
//!
//! ```text
//!   main ──► plane ──► start, creates, watch delivery, logical clusters: a control plane of its own, over HTTPS
//!        └─► sync  ──► testkit's World (two API servers, a backend) with the agent as a process of its own
//!                        agent (process, memory, counters) · side (watches, and an operator that answers at once)
//!   main real ► real ──► the same on kube-apiserver and etcd, in turn with floor (the same writes, and nothing else)
//! ```
//!
//! What is started as a process of its own is this program again, with the words that `kube-bind` knows (`konnector`,
//! `kubectl-bind`: the same entry point, so nothing has to be found and nothing can be of another build) or with `probe`
//! (one measurement in a fresh process, because memory that was used once is rarely given back). Load generator, API
//! servers and agent share the machine; nothing runs elsewhere.

mod agent;
mod floor;
mod many;
mod plane;
mod processor;
mod real;
mod side;
mod sync;
mod table;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Result, bail};
use tokio::time::Instant;

use crate::table::Table;

fn main() -> ExitCode {
    let begun = Instant::now();
    let args: Vec<OsString> = std::env::args_os().collect();
    let words: Vec<&str> = args.iter().skip(1).filter_map(|word| word.to_str()).collect();
    if matches!(words.first(), Some(&("konnector" | "kubectl-bind"))) {
        return kube_bind::main_from_args(args);
    }
    // An error means that it is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let run = || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let done = runtime.block_on(run(&words, begun));
        runtime.shutdown_background();
        done
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(words: &[&str], begun: Instant) -> Result<()> {
    let mut table = Table::new();
    let (plane, sync) = match words {
        ["probe", what, rest @ ..] => return plane::probe(what, rest, begun).await,
        ["real", parts @ ..] => {
            real::measure(&mut table, parts).await?;
            table.print(begun.elapsed());
            return Ok(());
        }
        [] => (true, true),
        ["plane"] => (true, false),
        ["sync"] => (false, true),
        other => bail!("unknown words {other:?}; there are `plane`, `sync`, none for both, or `real`"),
    };
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build: its figures say nothing (use --release)");
    }
    if plane {
        plane::measure(&mut table).await?;
    }
    if sync {
        sync::measure(&mut table).await?;
    }
    table.print(begun.elapsed());
    Ok(())
}
