//! Logs on stderr, as text or as JSON, one line per event. In: [`Logs`], flattened into a program's flags. Out: the
//! process' subscriber. Each program starts it once its settings are read.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// Flags for logs.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Logs")]
pub struct Logs {
    /// Form of the log lines on stderr
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// What is logged: a level (error, warn, info, debug, trace), or levels by part such as `info,kube_client=debug`; also
    /// $RUST_LOG
    #[arg(long, default_value = "info", value_name = "LEVELS", value_parser = levels)]
    pub log_level: String,
}

fn levels(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|error| format!("{error}; say error, warn, info, debug or trace, or such levels by part"))
}

impl Logs {
    /// Starts logging; does nothing where a program that embeds this one logs already.
    pub fn start(&self) {
        let filter = EnvFilter::try_new(&self.log_level).unwrap_or_else(|_| EnvFilter::new("info"));
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        let _ = match self.log_format {
            LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
            LogFormat::Json => builder.json().flatten_event(true).try_init(),
        };
    }
}
