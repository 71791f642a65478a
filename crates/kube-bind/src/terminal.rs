//! A terminal without a person: starts a program on a pseudo-terminal, shows what it prints, types into it.
//!
//! In: a command and lines to type. Out: everything that a person at that terminal would see. Programs that ask
//! questions only of people can be used by `demo` and by tests this way.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use parking_lot::Mutex;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tokio::time::Instant;

const POLL: Duration = Duration::from_millis(20);

/// A running program and its terminal.
pub struct Terminal {
    master: File,
    child: Child,
    seen: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Terminal {
    /// Starts `command` with a terminal as its standard input, output and error. `show` gets everything that appears.
    ///
    /// # Errors
    /// When the system has no terminals or the program cannot be started.
    pub fn start(mut command: Command, show: impl Fn(&str) + Send + 'static) -> Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).context("no pseudo-terminal")?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let path = std::path::Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
        let terminal = File::options().read(true).write(true).open(path).context("cannot open the pseudo-terminal")?;
        command.stdin(Stdio::from(terminal.try_clone()?));
        command.stdout(Stdio::from(terminal.try_clone()?));
        command.stderr(Stdio::from(terminal));
        let child = command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
        // The command holds the terminal's other end; without it reading ends when the program does.
        drop(command);
        let master = File::from(master);
        let seen = Arc::new(Mutex::new(String::new()));
        let mut input = master.try_clone()?;
        let output = seen.clone();
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // At the end of the program the system reports an error instead of an end.
            while let Ok(count @ 1..) = input.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..count]).replace('\r', "");
                show(&text);
                output.lock().push_str(&text);
            }
        });
        Ok(Self { master, child, seen, reader: Some(reader) })
    }

    /// Waits until `text` has appeared; gives everything seen so far.
    ///
    /// # Errors
    /// When the program ends or the time is over first; the message says what was seen.
    pub async fn expect(&mut self, text: &str, within: Duration) -> Result<String> {
        let deadline = Instant::now() + within;
        loop {
            let ended = self.child.try_wait()?.is_some()
                && self.reader.as_ref().is_none_or(std::thread::JoinHandle::is_finished);
            let seen = self.seen.lock().clone();
            if seen.contains(text) {
                return Ok(seen);
            }
            if ended {
                bail!("expected {text:?}, but the program ended after:\n{seen}");
            }
            if Instant::now() > deadline {
                bail!("expected {text:?} within {} s, seen:\n{seen}", within.as_secs());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Types a line.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn type_line(&mut self, line: &str) -> Result<()> {
        self.master.write_all(format!("{line}\n").as_bytes()).context("cannot type")
    }

    /// The program's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end of the program; gives its exit status and everything that was seen.
    ///
    /// # Errors
    /// When the time is over first; the program is ended then.
    pub async fn end(mut self, within: Duration) -> Result<(ExitStatus, String)> {
        let deadline = Instant::now() + within;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                bail!("the program did not end within {} s, seen:\n{}", within.as_secs(), self.seen.lock());
            }
            tokio::time::sleep(POLL).await;
        };
        if let Some(reader) = self.reader.take() {
            let _ = tokio::task::spawn_blocking(move || reader.join()).await;
        }
        let seen = self.seen.lock().clone();
        Ok((status, seen))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_asks_is_answered() {
        let mut command = Command::new("sh");
        command.args(["-c", "test -t 0 && printf 'Accept? ' && read answer && echo \"got $answer\""]);
        let mut terminal = Terminal::start(command, |_| {}).unwrap();
        terminal.expect("Accept? ", Duration::from_secs(5)).await.unwrap();
        terminal.type_line("y").unwrap();
        let (status, seen) = terminal.end(Duration::from_secs(5)).await.unwrap();
        assert!(status.success(), "{seen}");
        assert!(seen.ends_with("got y\n"), "{seen:?}");
    }

    #[tokio::test]
    async fn what_was_seen_is_told() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo something else; exit 3"]);
        let mut terminal = Terminal::start(command, |_| {}).unwrap();
        let error = terminal.expect("nothing", Duration::from_secs(5)).await.unwrap_err().to_string();
        assert!(error.contains("something else"), "{error}");
    }
}
