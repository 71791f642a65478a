//! `kube-bind demo`: scenario S1 and what belongs to it, typed into the real programs, with every step checked.
//!
//! In: nothing but an optional data folder. Out: the transcript as it happens, and exit code 0 only if each step said what
//! it should. A failed step says what was expected and what was seen.

mod client;
mod kubectl;
mod leftovers;
mod story;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use tracing_subscriber::EnvFilter;

use crate::stage::Stage;

pub(crate) async fn run(data_dir: Option<PathBuf>) -> Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    println!("# Starting a consumer, two providers, a login, two backends, two operators and the agent ...");
    let mut stage = Stage::start(data_dir.as_deref()).await?;
    let hand = kubectl::Hand::new(&stage)?;
    println!("# {}", hand.introduction());
    let result = tokio::select! {
        result = story::tell(&stage, &hand) => result,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    let result = match result {
        Err(error) if error.to_string() != "interrupted" => {
            // A part that died explains more than the step that noticed it.
            match tokio::time::timeout(std::time::Duration::from_millis(600), stage.broken()).await {
                Ok(broken) => Err(error).context(format!("{broken:#}")),
                Err(_) => Err(error),
            }
        }
        result => result,
    };
    stage.stop().await;
    result?;
    println!("\n# Every step was as expected.");
    Ok(())
}
