//! The real programs, typed and answered: `kubectl bind` (and `kubectl`, where there is one) as child processes. In: words
//! and answers. Out: exit code and what was printed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use kube_bind::browser::{self, Browser};
use kube_bind::stage::Login;
use kube_bind::terminal::Terminal;

/// Longest time a program may take.
const LIMIT: Duration = Duration::from_secs(90);

/// What a program did.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Whether the exit code was 0.
    pub success: bool,
    /// Standard output; at a terminal: everything.
    pub stdout: String,
    /// Standard error; at a terminal: nothing.
    pub stderr: String,
}

impl Ended {
    /// # Panics
    /// When the program failed.
    #[must_use]
    pub fn ok(self) -> Self {
        assert!(self.success, "the program failed:\n{}\n{}", self.stdout, self.stderr);
        self
    }

    /// # Panics
    /// When the program did not fail, or did not say all `words`.
    #[must_use]
    pub fn refused(self, words: &[&str]) -> Self {
        assert!(!self.success, "the program should have refused:\n{}\n{}", self.stdout, self.stderr);
        let said = format!("{}\n{}", self.stdout, self.stderr);
        for word in words {
            assert!(said.contains(word), "expected {word:?} in what was said:\n{said}");
        }
        assert!(!said.contains("panicked"), "{said}");
        self
    }
}

/// Someone at a keyboard, with a home folder and a kubeconfig.
#[derive(Clone, Debug)]
pub struct Person {
    /// The program that is all programs.
    pub program: PathBuf,
    /// Their home.
    pub home: PathBuf,
    /// Their `KUBECONFIG`.
    pub kubeconfig: PathBuf,
}

impl Person {
    /// `kubectl bind …` as this person would start it.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("kubectl-bind").args(words).env("HOME", &self.home).env("KUBECONFIG", &self.kubeconfig);
        command.env_remove("RUST_LOG");
        command
    }

    /// Types `kubectl bind …` without a terminal; `input` is its standard input.
    pub async fn bind(&self, words: &[&str], input: &str) -> Ended {
        let mut command = tokio::process::Command::from(self.command(words));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stdin, input.as_bytes()).await.unwrap();
        drop(stdin);
        let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await;
        let output = output.unwrap_or_else(|_| panic!("kubectl bind {words:?} did not end")).unwrap();
        Ended {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Types `kubectl bind …` at a terminal with a browser beside it: opens what is printed, logs in and binds, then
    /// answers the question, if there is an answer. `answer: None` closes no question: the command must not ask.
    pub async fn bind_in_browser(&self, words: &[&str], login: &Login, answer: Option<&str>) -> Ended {
        let mut terminal = Terminal::start(self.command(words), |_| {}).unwrap();
        let seen = terminal.expect("redirect_url=", LIMIT).await.unwrap();
        let mut browser = Browser::new().unwrap();
        let url = url_in(&terminal_line(&mut terminal, seen).await);
        browser::log_in_and_bind(&mut browser, &url, login, |_| {}).await.unwrap();
        if let Some(answer) = answer {
            terminal.expect("Accept?", LIMIT).await.unwrap();
            terminal.type_line(answer).unwrap();
        }
        let (status, seen) = terminal.end(LIMIT).await.unwrap();
        Ended { success: status.success(), stdout: seen, stderr: String::new() }
    }

    /// `kubectl` itself, if it is on PATH; says so when it is not.
    pub async fn kubectl(&self, words: &[&str], input: &str) -> Option<Ended> {
        let kubectl = kubectl()?;
        let mut command = tokio::process::Command::new(kubectl);
        command.args(words).env("HOME", &self.home).env("KUBECONFIG", &self.kubeconfig);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stdin, input.as_bytes()).await.unwrap();
        drop(stdin);
        let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await.unwrap().unwrap();
        Some(Ended {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

/// Where `kubectl` is. Without it a test that needs it is skipped with a line, unless `KUBE_BIND_REQUIRE_TOOLS` is set.
///
/// # Panics
/// When it is required and missing.
#[must_use]
pub fn kubectl() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("kubectl")).find(|file| file.is_file());
    if found.is_none() {
        assert!(
            std::env::var_os("KUBE_BIND_REQUIRE_TOOLS").is_none(),
            "kubectl is not on PATH, and KUBE_BIND_REQUIRE_TOOLS is set"
        );
        eprintln!("skipped: there is no kubectl on PATH");
    }
    found
}

/// What was seen once the line with the URL is complete.
async fn terminal_line(terminal: &mut Terminal, seen: String) -> String {
    let complete = |text: &str| text.split_once("redirect_url=").is_some_and(|(_, rest)| rest.contains('\n'));
    let mut seen = seen;
    while !complete(&seen) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        seen = terminal.expect("redirect_url=", LIMIT).await.unwrap();
    }
    seen
}

fn url_in(seen: &str) -> String {
    let line = seen.lines().find(|line| line.contains("redirect_url=")).unwrap_or_default();
    line.split_whitespace().find(|word| word.starts_with("http")).unwrap_or_default().to_owned()
}

/// Writes a file into a folder and gives its path.
#[must_use]
pub fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_string_lossy().into_owned()
}
