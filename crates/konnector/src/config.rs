//! How the agent is told what to do: [`Config`] for those who embed it, flags for the program. In: arguments and
//! environment. Out: a running agent and an exit code.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum};
use kube_bind_api::constants::{CONSUMER_NAMESPACE, KONNECTOR_LEASE};
use kube_client::connect::{self, Connection};
use tokio_util::sync::CancellationToken;

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
            identity: format!("konnector-{}", uuid::Uuid::new_v4()),
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// The kube-bind agent: mirrors the objects of bound APIs between this cluster and their providers.
#[derive(Debug, Parser)]
#[command(name = "konnector", version)]
struct Args {
    /// Kubeconfig of the consumer cluster (default: $KUBECONFIG, ~/.kube/config, or the pod's service account)
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig
    #[arg(long)]
    context: Option<String>,
    /// Name of the Lease of which one agent of the cluster holds
    #[arg(long, default_value = KONNECTOR_LEASE)]
    lease_name: String,
    /// Namespace of the Lease
    #[arg(long, env = "POD_NAMESPACE", default_value = CONSUMER_NAMESPACE)]
    lease_namespace: String,
    /// Name of this agent among the candidates (default: random)
    #[arg(long, env = "POD_NAME")]
    identity: Option<String>,
    /// Address for /healthz, /readyz and /metrics; "" for none
    #[arg(long, default_value = "127.0.0.1:8090")]
    server_address: String,
    /// Form of the log lines on stderr
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,
    /// What to log, such as `info` or `konnector=debug`
    #[arg(long, env = "RUST_LOG", default_value = "info")]
    log_level: String,
}

/// The program: parses arguments (the first is the program's name), runs until a signal, returns the exit code.
pub fn main_from_args(args: Vec<OsString>) -> ExitCode {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    // Fails only when the embedding program has installed it already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    init_log(&args);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("konnector: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(start(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("konnector: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn init_log(args: &Args) {
    let filter = tracing_subscriber::EnvFilter::try_new(&args.log_level)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // An embedding program may have its own subscriber.
    let _ = match args.log_format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

async fn start(args: Args) -> anyhow::Result<()> {
    use anyhow::Context as _;

    let context = args.context.as_deref();
    let consumer = match &args.kubeconfig {
        Some(path) => connect::from_file(path, context).await,
        None => connect::from_environment(context).await,
    }
    .context("no connection to the consumer cluster; name its kubeconfig with --kubeconfig")?;
    let mut config = Config::new(consumer);
    config.lease_name = args.lease_name;
    config.lease_namespace = args.lease_namespace;
    if let Some(identity) = args.identity.filter(|i| !i.is_empty()) {
        config.identity = identity;
    }
    config.server_address = match args.server_address.as_str() {
        "" => None,
        text => Some(
            text.strip_prefix(':')
                .map_or_else(|| text.to_owned(), |port| format!("0.0.0.0:{port}"))
                .parse()
                .with_context(|| format!("--server-address {text:?} is not an address and port"))?,
        ),
    };
    let stop = CancellationToken::new();
    let signalled = stop.clone();
    tokio::spawn(async move {
        wait_for_signal().await;
        signalled.cancel();
    });
    crate::run(config, stop).await?;
    Ok(())
}

async fn wait_for_signal() {
    let interrupt = tokio::signal::ctrl_c();
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = interrupt => {}
            _ = terminate.recv() => {}
        },
        Err(_) => {
            let _ = interrupt.await;
        }
    }
}
