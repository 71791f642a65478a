//! `kube-bind dev`: the set stays until Ctrl-C, and the next commands to type are printed.

use std::path::PathBuf;

use anyhow::Result;
use secrecy::ExposeSecret as _;
use tracing_subscriber::EnvFilter;

use crate::stage::Stage;

pub(crate) async fn run(data_dir: Option<PathBuf>) -> Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    let mut stage = tokio::select! {
        stage = Stage::start(data_dir.as_deref()) => stage?,
        () = interrupted() => return Ok(()),
    };
    println!("{}", guide(&stage));
    let result = tokio::select! {
        () = interrupted() => Ok(()),
        error = stage.broken() => Err(error),
    };
    println!("\nStopping ...");
    stage.stop().await;
    result
}

/// Ctrl-C, or the end that a service manager asks for.
async fn interrupted() {
    let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

fn guide(stage: &Stage) -> String {
    let mut text = format!("kube-bind is ready. Everything is in {}\n\n", stage.folder().display());
    text.push_str(&format!("  consumer   {}\n", stage.consumer_kubeconfig().display()));
    for provider in stage.providers() {
        text.push_str(&format!(
            "  provider   {}  {} at {}\n",
            provider.kubeconfig.display(),
            provider.pretty_name,
            provider.url
        ));
    }
    for login in stage.logins() {
        text.push_str(&format!("  login      {}  password {}\n", login.username, login.password.expose_secret()));
    }
    text.push_str(&format!(
        "\nIn another shell:\n\n  export KUBECONFIG={}\n  export PATH={}:$PATH\n",
        stage.consumer_kubeconfig().display(),
        stage.bin().display()
    ));
    for provider in stage.providers() {
        text.push_str(&format!("  kubectl bind {}\n", provider.url));
    }
    text.push_str("  kubectl get apibindings\n  kubectl api-resources --api-group=mangodb.com\n\nCtrl-C ends it.");
    text
}
