//! How the agent is told what to do: [`Config`] for those who embed it, flags, environment and file for the program. In:
//! arguments and environment. Out: a running agent and an exit code.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::Parser;
use kube_bind_api::constants::{CONSUMER_NAMESPACE, KONNECTOR_LEASE};
use kube_client::Source;
use kube_client::connect::{self, Connection};
use program::{
    Listen, Logs, Program,
    run::{Shutdown, Threads},
    settings::Environment,
    value::{filled, listen},
};

/// Everything an agent needs.
#[derive(Debug)]
pub struct Config {
    /// Connection to the consumer cluster.
    pub consumer: Connection,
    /// Name of the Lease that makes it the only writer.
    pub lease_name: String,
    /// Namespace of the Lease.
    pub lease_namespace: String,
    /// Its name among the candidates.
    pub identity: String,
    /// Where to answer probes; `None`: nowhere.
    pub server_address: Option<SocketAddr>,
}

impl Config {
    /// For a cluster, with the usual Lease, a random identity and no probes.
    pub fn new(consumer: Connection) -> Self {
        Self {
            consumer,
            lease_name: KONNECTOR_LEASE.into(),
            lease_namespace: CONSUMER_NAMESPACE.into(),
            identity: random_identity(),
            server_address: None,
        }
    }

    /// For a kubeconfig's text, as [`Config::new`].
    ///
    /// # Errors
    /// When the kubeconfig cannot be used.
    pub async fn from_kubeconfig(text: &str) -> Result<Self, connect::ConnectError> {
        Ok(Self::new(connect::from_kubeconfig(text, None).await?))
    }
}

/// How the program is configured. The agent's own credential is a kubeconfig or its service account; those of providers
/// are Secrets of the cluster: there is nothing secret to pass.
const PROGRAM: Program = Program {
    prefix: "KONNECTOR",
    also: &[("lease-namespace", "POD_NAMESPACE"), ("identity", "POD_NAME"), ("log-level", "RUST_LOG")],
    secrets: &[],
};

/// The kube-bind agent: mirrors the objects of bound APIs between this cluster and their providers.
#[derive(Debug, Parser)]
#[command(name = "konnector", version)]
struct Args {
    /// YAML file with settings, such as `logFormat: json`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Kubeconfig of the consumer cluster (default: $KUBECONFIG, ~/.kube/config, or the pod's service account)
    #[arg(long, value_name = "FILE", help_heading = "Consumer cluster")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig (default: its current one)
    #[arg(long, value_name = "NAME", help_heading = "Consumer cluster")]
    context: Option<String>,
    /// Name of the Lease; of all agents with it only the holder works, the others stand by
    #[arg(long, default_value = KONNECTOR_LEASE, value_name = "NAME", value_parser = filled, help_heading = "Replicas")]
    lease_name: String,
    /// Namespace of the Lease; also $POD_NAMESPACE
    #[arg(long, default_value = CONSUMER_NAMESPACE, value_name = "NAMESPACE", value_parser = filled, help_heading = "Replicas")]
    lease_namespace: String,
    /// Name of this agent among the replicas (default: random); also $POD_NAME
    #[arg(long, value_name = "NAME", value_parser = filled, help_heading = "Replicas")]
    identity: Option<String>,
    /// Where /healthz, /readyz and /metrics are served: IP:PORT, :PORT for all addresses, or none
    #[arg(long, default_value = "127.0.0.1:8090", value_name = "ADDRESS", value_parser = listen, help_heading = "Probes and metrics")]
    server_address: Listen,
    #[command(flatten)]
    logs: Logs,
    #[command(flatten)]
    shutdown: Shutdown,
}

/// The program: parses arguments (the first is the program's name), runs until a signal, returns the exit code.
pub fn main_from_args(args: Vec<OsString>) -> ExitCode {
    let environment: Environment<'_> = &|name| std::env::var_os(name);
    let args: Args = match PROGRAM.read(args, environment) {
        Ok(args) => args,
        Err(refused) => return refused.exit("konnector"),
    };
    // Fails only when the embedding program has installed it already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    args.logs.start();
    // One thread: the agent waits for API servers, and every further thread costs memory.
    program::run("konnector", Threads::One, args.shutdown.shutdown_grace_period, |stop| async move {
        let source = Source::new(args.kubeconfig.as_deref(), args.context.as_deref());
        let identity = args.identity.clone().unwrap_or_else(random_identity);
        let run = async |turn| anyhow::Ok(crate::run(connected(&args, &source, &identity).await?, turn).await?);
        source.keep(stop, run).await
    })
}

fn random_identity() -> String {
    format!("konnector-{}", uuid::Uuid::new_v4())
}

async fn connected(args: &Args, source: &Source, identity: &str) -> anyhow::Result<Config> {
    use anyhow::Context as _;

    let consumer = match &args.kubeconfig {
        Some(path) => connect::from_file(path, source.context()).await,
        None => connect::from_environment(source.context()).await,
    }
    .context("no connection to the consumer cluster; name its kubeconfig with --kubeconfig")?;
    let mut config = Config::new(consumer);
    config.lease_name.clone_from(&args.lease_name);
    config.lease_namespace.clone_from(&args.lease_namespace);
    identity.clone_into(&mut config.identity);
    config.server_address = args.server_address.0;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str], environment: &[(&str, &str)]) -> Result<Args, program::Refused> {
        let all = std::iter::once("konnector").chain(args.iter().copied()).map(OsString::from).collect();
        PROGRAM.read(all, &|name| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn a_pod_says_its_name_and_namespace() {
        let pod = [("POD_NAME", "konnector-abc"), ("POD_NAMESPACE", "agents"), ("RUST_LOG", "debug")];
        let args = read(&[], &pod).unwrap();
        assert_eq!((args.identity.as_deref(), args.lease_namespace.as_str()), (Some("konnector-abc"), "agents"));
        assert_eq!(args.logs.log_level, "debug");
        let args = read(&["--lease-namespace=x", "--server-address=:9"], &pod).unwrap();
        assert_eq!(args.lease_namespace, "x");
        assert_eq!(args.server_address, Listen(Some("[::]:9".parse().unwrap())));
    }

    #[test]
    fn wrong_values_are_refused_where_they_stand() {
        let said = read(&[], &[("KONNECTOR_SERVER_ADDRESS", "localhost")]).unwrap_err().to_string();
        assert!(said.starts_with("environment variable KONNECTOR_SERVER_ADDRESS: \"localhost\": must be "), "{said}");
        let said = read(&["--lease-name="], &[]).unwrap_err().to_string();
        assert!(said.contains("--lease-name") && said.contains("must not be empty"), "{said}");
    }
}
