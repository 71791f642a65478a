//! The data folder: one owner at a time, private, and gone afterwards if it is a temporary one.

use std::path::Path;

use anyhow::{Context as _, Result};
use controlplane::server::DataDir;
use tempfile::TempDir;

/// A data folder that this process owns.
pub struct Folder {
    data: DataDir,
    /// Removed when dropped.
    temporary: Option<TempDir>,
}

impl Folder {
    /// Takes `path`, or makes a temporary folder.
    ///
    /// # Errors
    /// When another process has it, or it cannot be written.
    pub fn open(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else {
            let temporary = tempfile::Builder::new().prefix("kube-bind-").tempdir().context("a temporary folder")?;
            return Ok(Self { data: DataDir::open(temporary.path())?, temporary: Some(temporary) });
        };
        let path = std::path::absolute(path).with_context(|| format!("the data folder {}", path.display()))?;
        Ok(Self { data: DataDir::open(&path)?, temporary: None })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.data.path()
    }

    /// Whether it goes with the process.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    pub(super) fn read(&self, name: &str) -> Result<Option<String>> {
        Ok(self.data.read(name)?)
    }

    pub(super) fn write(&self, name: &str, text: &str) -> Result<()> {
        Ok(self.data.write(name, text)?)
    }

    /// Gives it back; removes it if it is temporary.
    pub fn close(self) {
        drop(self.data);
        if let Some(temporary) = self.temporary {
            // What is left of it lies in the system's temporary folder.
            let _ = temporary.close();
        }
    }
}
