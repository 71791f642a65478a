//! MangoDB Inc., an example provider: an operator that knows nothing of kube-bind.
//!
//! ```text
//!  MongoDB object ──► controller ──► server (one a database: HTTP, token, one file on disk)
//!       ▲ status          └────────► Secret named in spec.tokenSecret, Service named like the object
//! ```
//!
//! It watches `MongoDB` objects in all namespaces of the API server it is given, starts a small key-value server for
//! each and tells where it is. That some of these objects come from other clusters is not its business.

mod api;
mod controller;
pub mod server;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tokio_util::sync::CancellationToken;

pub use controller::{Config, run};

/// The CustomResourceDefinition of the API, as YAML.
pub const CRD: &str = include_str!("../manifests/crd.yaml");
/// The catalogue entry (`APIServiceExportTemplate`), as YAML.
pub const TEMPLATE: &str = include_str!("../manifests/template.yaml");

/// Runs databases for the MongoDB objects of the API server that the kubeconfig names.
#[derive(Parser)]
#[command(name = "mangodb")]
struct Args {
    /// Folder for the databases' files.
    #[arg(long, default_value = "mangodb-data")]
    data_dir: PathBuf,
}

/// The program: `args` as the operating system hands them over, the kubeconfig from `KUBECONFIG` or its usual place.
pub fn main_from_args(args: Vec<OsString>) -> ExitCode {
    let args = Args::parse_from(args);
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    // An error means that another provider is installed already, which serves as well.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match serve(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn serve(args: Args) -> anyhow::Result<()> {
    let client = kube::Client::try_default().await?;
    let shutdown = CancellationToken::new();
    let on_signal = shutdown.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        on_signal.cancel();
    });
    run(Config { client, data_dir: args.data_dir }, shutdown).await
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_example_in_the_template_is_an_order() {
        let template: serde_json::Value = serde_saphyr::from_str(super::TEMPLATE).unwrap();
        let order: crate::api::MongoDB = serde_json::from_value(template["spec"]["example"].clone()).unwrap();
        assert_eq!(order.spec.token_secret, "db-token");
        let crd: serde_json::Value = serde_saphyr::from_str(super::CRD).unwrap();
        assert_eq!(crd["spec"]["names"]["plural"], "mangodbs");
    }
}
