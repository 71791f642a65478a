//! The T-shirt booth, an example provider: an operator that knows nothing of kube-bind.
//!
//! It watches `TShirtClaim` objects in all namespaces of its API server and answers each in its status, whose
//! `conditions` are a map, on purpose: not every API follows the conventions.

mod api;
mod controller;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use tokio_util::sync::CancellationToken;

pub use controller::run;

/// The CustomResourceDefinition of the API, as YAML.
pub const CRD: &str = include_str!("../manifests/crd.yaml");
/// The catalogue entry (`APIServiceExportTemplate`), as YAML.
pub const TEMPLATE: &str = include_str!("../manifests/template.yaml");

/// Puts T-shirts aside for the TShirtClaim objects of the API server that the kubeconfig names.
#[derive(Parser)]
#[command(name = "tshirt")]
struct Args {}

/// The program: `args` as the operating system hands them over, the kubeconfig from `KUBECONFIG` or its usual place.
pub fn main_from_args(args: Vec<OsString>) -> ExitCode {
    let Args {} = Args::parse_from(args);
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    // An error means that another provider is installed already, which serves as well.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn serve() -> anyhow::Result<()> {
    let client = kube::Client::try_default().await?;
    let shutdown = CancellationToken::new();
    let on_signal = shutdown.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        on_signal.cancel();
    });
    run(client, shutdown).await
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_example_in_the_template_is_a_claim() {
        let template: serde_json::Value = serde_saphyr::from_str(super::TEMPLATE).unwrap();
        let claim: crate::api::TShirtClaim = serde_json::from_value(template["spec"]["example"].clone()).unwrap();
        assert_eq!(claim.spec.size, "XL");
        let crd: serde_json::Value = serde_saphyr::from_str(super::CRD).unwrap();
        assert_eq!(crd["spec"]["names"]["plural"], "tshirtclaims");
    }
}
