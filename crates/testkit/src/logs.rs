//! Logs of a failed test are kept and named. In: the folder of something that ran, and what it is called. Out: every `*.log`
//! below that folder in `target/logs/<test>/<name>`, and one line that says so.
//!
//! [`Folder`] is a temporary folder that does it by itself: [`crate::world`] has one, and so has a test that starts programs
//! on its own. The pool of [`crate::real`] calls `keep`, because its folders belong to no test.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use tempfile::TempDir;

use crate::real::target;

/// A temporary folder. A test that panics while it has one leaves its logs behind.
pub struct Folder {
    place: TempDir,
    name: String,
}

impl Folder {
    /// An empty one; `name` says what runs there.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { place: tempfile::tempdir().unwrap(), name: name.to_owned() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.place.path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            keep(self.path(), &test(), &self.name);
        }
    }
}

/// The test that runs on this thread.
pub(crate) fn test() -> String {
    std::thread::current().name().unwrap_or("test").to_owned()
}

/// Copies the logs below a folder and says where they are.
pub(crate) fn keep(folder: &Path, test: &str, name: &str) {
    let mut logs = Vec::new();
    find(folder, &mut logs);
    if logs.is_empty() {
        return;
    }
    let to = place(test, name);
    // What an earlier run left is not of this failure.
    let _ = std::fs::remove_dir_all(&to);
    for log in logs {
        let copy = to.join(log.strip_prefix(folder).unwrap_or(&log));
        let made = copy.parent().map_or(Ok(()), std::fs::create_dir_all);
        if let Err(error) = made.and_then(|()| std::fs::copy(&log, &copy).map(|_| ())) {
            eprintln!("{} cannot be kept: {error}", log.display());
        }
    }
    eprintln!("logs of {name} are kept in {}", to.canonicalize().unwrap_or(to).display());
}

/// A place that nothing else of this process has.
fn place(test: &str, name: &str) -> PathBuf {
    static GIVEN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let folder = target().join("logs").join(test.replace("::", "-"));
    let mut given = GIVEN.lock();
    let mut number = 1;
    loop {
        let to = if number == 1 { folder.join(name) } else { folder.join(format!("{name}-{number}")) };
        if given.insert(to.clone()) {
            return to;
        }
        number += 1;
    }
}

fn find(folder: &Path, logs: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => find(&path, logs),
            Ok(kind) if kind.is_file() && path.extension().is_some_and(|end| end == "log") => logs.push(path),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays a test of that name with a folder, to its end; gives where its logs should be.
    fn play(name: &str, end: fn()) -> PathBuf {
        let body = move || {
            let folder = Folder::new("world");
            std::fs::create_dir(folder.path().join("consumer1")).unwrap();
            for (file, text) in [("agent.log", "what the agent said"), ("consumer1/etcd.log", ""), ("secret", "hush")] {
                std::fs::write(folder.path().join(file), text).unwrap();
            }
            end();
        };
        let _ = std::thread::Builder::new().name(name.to_owned()).spawn(body).unwrap().join();
        target().join("logs").join(name.replace("::", "-"))
    }

    #[test]
    fn a_test_that_panics_leaves_its_logs_and_nothing_else() {
        for (number, place) in [(1, "world"), (2, "world-2")] {
            let kept = play("logs::it_panics", || panic!("on purpose"));
            assert_eq!(std::fs::read_to_string(kept.join(place).join("agent.log")).unwrap(), "what the agent said");
            assert!(kept.join(place).join("consumer1/etcd.log").exists(), "{number}");
            assert!(!kept.join(place).join("secret").exists(), "{number}");
        }
        std::fs::remove_dir_all(target().join("logs/logs-it_panics")).unwrap();
    }

    #[test]
    fn a_test_that_ends_well_leaves_nothing() {
        assert!(!play("logs::it_ends_well", || {}).exists());
    }
}
