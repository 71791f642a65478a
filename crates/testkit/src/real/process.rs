//! Processes that do not outlive the test, however it ends. In: a command line and a log file. Out: a handle; dropping it,
//! panicking or `kill -9` of the test process ends the program.
//!
//! A small shell holds a pipe from the test process. When the pipe closes, for whatever reason, it kills the program and
//! removes what it was told to. A line on the pipe asks for the end without the removal. Whom to kill it knows from the start:
//! a test may remove the folder at the same moment.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

const GUARD: &str = r#"log=$1 remove=$2; shift 2
rm -f "$log.pid" "$log.ended"
( "$@" </dev/null >>"$log" 2>&1 & echo $! >"$log.pid"; wait $!; echo $? >"$log.ended" ) &
while [ ! -s "$log.pid" ]; do sleep 0.01; done
read -r pid <"$log.pid"
read -r word
[ -e "$log.ended" ] || kill -KILL "$pid"
wait
[ "$word" = stop ] || [ -z "$remove" ] || for pause in 1 2 4; do sleep $pause; rm -rf "$remove"; done"#;

/// A running program under its guard.
pub(super) struct Process {
    guard: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program`; its output is appended to `log`. `remove` goes when the test process is gone.
    pub(super) fn start(program: &Path, arguments: &[String], log: &Path, remove: Option<&Path>) -> Self {
        // Until the guard has come to it: what was before is not ours.
        let _ = std::fs::remove_file(ended(log));
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(GUARD).arg("guard").arg(log).arg(remove.unwrap_or(Path::new("")));
        command.arg(program).args(arguments);
        // Many of them share few cores for a short time: memory is cheaper than collecting garbage. Whoever measures says
        // otherwise in the environment: at its limit a program does hardly anything else.
        for (name, value) in [("GOGC", "400"), ("GOMEMLIMIT", "700MiB")] {
            if std::env::var_os(name).is_none() {
                command.env(name, value);
            }
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // Ctrl-C at the terminal reaches the test; the pipe tells the guard.
        command.process_group(0);
        let guard = command.spawn().unwrap_or_else(|error| panic!("/bin/sh does not start: {error}"));
        Self { guard, log: log.to_owned() }
    }

    /// Whether the program ended by itself.
    pub(super) fn ended(&self) -> bool {
        ended(&self.log).exists()
    }

    /// The end of its log, for people.
    pub(super) fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Ends it at once and waits until it has ended.
    pub(super) async fn stop(mut self) {
        if let Some(mut pipe) = self.guard.stdin.take() {
            let _ = pipe.write_all(b"stop\n");
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline && matches!(self.guard.try_wait(), Ok(None)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn ended(log: &Path) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(".ended");
    PathBuf::from(name)
}
