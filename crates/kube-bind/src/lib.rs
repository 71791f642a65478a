//! kube-bind on one machine: both sides, a login and two providers in one process, to try and to test.
//!
//! ```text
//!   args ──► demo ──┐   demo types scenario S1 into the real programs and checks what they say
//!        └─► dev ───┴─► stage ──► control plane: logical clusters provider, tshirt-provider, consumer
//!                             ├─► issuer: a login for this machine
//!                             ├─► a backend and an operator for each provider
//!                             └─► konnector, with the rights that the contract generates and no others
//! ```
//!
//! The program is all programs at once: the name it is started under, or its first word, chooses (`kubectl-bind`,
//! `konnector`, `kube-bind-backend`, `mangodb`, `tshirt`), so one build is enough to try everything.

pub mod browser;
mod demo;
mod dev;
pub mod issuer;
pub mod stage;
pub mod terminal;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Both sides of kube-bind on one machine.
#[derive(Parser)]
#[command(name = "kube-bind", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Play the whole story once, check every step, and clean up
    Demo(DemoArgs),
    /// Start both sides and stay, to try by hand
    Dev(DevArgs),
    /// The plugin (as `kubectl bind`)
    #[command(disable_help_flag = true, name = "kubectl-bind")]
    KubectlBind(Rest),
    /// The agent
    #[command(disable_help_flag = true)]
    Konnector(Rest),
    /// The provider's service
    #[command(disable_help_flag = true, name = "kube-bind-backend")]
    Backend(Rest),
    /// An example provider's operator
    #[command(disable_help_flag = true)]
    Mangodb(Rest),
    /// Another example provider's operator
    #[command(disable_help_flag = true)]
    Tshirt(Rest),
}

#[derive(Args)]
struct DemoArgs {
    /// Keep everything in this folder and leave it there; default: a temporary one
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
}

#[derive(Args)]
struct DevArgs {
    /// Keep everything in this folder, across restarts; default: a temporary one
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
}

/// Arguments for another program.
#[derive(Args)]
struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// A program that `kube-bind` also is.
type Program = fn(Vec<OsString>) -> ExitCode;

fn program(name: &str) -> Option<Program> {
    match name {
        "kubectl-bind" | "kubectl_bind" => Some(kubectl_bind::main_from_args),
        "konnector" => Some(konnector::main_from_args),
        "kube-bind-backend" => Some(backend::main_from_args),
        "mangodb" => Some(mangodb::main_from_args),
        "tshirt" => Some(tshirt::main_from_args),
        _ => None,
    }
}

/// The program: `args` as the operating system hands them over, the first being the name it was started under.
pub fn main_from_args(args: Vec<OsString>) -> ExitCode {
    let own_name =
        args.first().map(Path::new).and_then(Path::file_stem).and_then(|name| name.to_str()).unwrap_or_default();
    if let Some(program) = program(own_name) {
        return program(args);
    }
    let word = args.get(1).and_then(|word| word.to_str()).unwrap_or_default().to_owned();
    if let Some(program) = program(&word) {
        return program(args.into_iter().skip(1).collect());
    }
    let cli = Cli::parse_from(args);
    // An error means that another provider is installed already, which serves as well.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        match cli.command {
            Command::Demo(args) => demo::run(args.data_dir).await,
            Command::Dev(args) => dev::run(args.data_dir).await,
            // These words were dispatched above.
            Command::KubectlBind(Rest { rest })
            | Command::Konnector(Rest { rest })
            | Command::Backend(Rest { rest })
            | Command::Mangodb(Rest { rest })
            | Command::Tshirt(Rest { rest }) => Err(anyhow::anyhow!("unexpected arguments: {rest:?}")),
        }
    });
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
