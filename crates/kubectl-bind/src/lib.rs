//! `kubectl bind`: the plugin, for consumers and providers. Thin: it asks, shows and writes; what a contract means is
//! in the crate `contract`, and everything lasting is done by the agent and the backend.
//!
//! ```text
//!   args ──► commands ──► server, browser     the provider's HTTP API, login and consent in a browser
//!                    ├──► manifest            reviewed requests from files and URLs
//!                    ├──► consent             the question about permission claims
//!                    └──► binder ──► rights   check everything, then write, then wait; or take it back
//!                              ├──► agent ──► install, served     what to install or upgrade, on which API server
//!                              └──► changes, cluster (API servers)
//! ```
//!
//! Data goes to standard output, talk to standard error; a failed command ends with exit code 1 and one message.

mod agent;
mod args;
mod binder;
mod browser;
mod changes;
mod cluster;
mod commands;
mod consent;
mod errors;
mod held;
mod install;
mod kubeconfig;
mod logins;
mod manifest;
mod patience;
mod print;
mod rights;
mod served;
mod server;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use args::{Cli, Command};
use errors::CliError;

/// The program: `args` as the operating system hands them over, the first being the program's own name.
pub fn main_from_args(args: Vec<OsString>) -> ExitCode {
    let cli = Cli::parse_from(args);
    // An error means that another provider is installed already, which serves as well.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(run(cli));
    // Reading standard input may still block a thread; there is nothing to wait for.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<(), CliError> {
    let common = &cli.common;
    match cli.command {
        None => commands::bind::run(cli.bind, common).await,
        Some(Command::Login { url, skip_browser, timeout }) => {
            commands::login::run(&url, skip_browser, timeout, common).await
        }
        Some(Command::Templates { server, output }) => {
            commands::catalogue::templates(server.url(), output, common).await
        }
        Some(Command::Collections { server, output }) => {
            commands::catalogue::collections(server.url(), output, common).await
        }
        Some(Command::Kubeconfig { server, cluster_identity }) => {
            commands::catalogue::kubeconfig(server.url(), cluster_identity, common).await
        }
        Some(Command::Apiservice(args)) => commands::apiservice::run(args, common).await,
        Some(Command::Status { name }) => commands::status::run(name.as_deref(), common).await,
        Some(Command::Claims { action }) => commands::claims::run(action, common).await,
        Some(Command::Unbind { name, delete_objects, orphan, timeout }) => {
            commands::unbind::run(&name, delete_objects, orphan, timeout, common).await
        }
        Some(Command::ClusterIdentity) => {
            let identity = cluster::Cluster::consumer(common).await?.identity().await?;
            print::line(&format!("{identity}\n"))
        }
        Some(Command::Konnector(args)) => commands::konnector::run(&args, common).await,
        Some(Command::Provider { action }) => commands::provider::run(action, common).await,
    }
}
