//! The data folder: one owner at a time, private, and gone afterwards if it is a temporary one.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use controlplane::server::DataDir;

/// A data folder that this process owns.
pub struct Folder {
    data: DataDir,
    temporary: bool,
}

impl Folder {
    /// Takes `path`, or makes a temporary folder.
    ///
    /// # Errors
    /// When another process has it, or it cannot be written.
    pub fn open(path: Option<&Path>) -> Result<Self> {
        let temporary = path.is_none();
        let path = match path {
            Some(path) => std::path::absolute(path).with_context(|| format!("the data folder {}", path.display()))?,
            None => temporary_path(),
        };
        Ok(Self { data: DataDir::open(&path)?, temporary })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.data.path()
    }

    /// Whether it goes with the process.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.temporary
    }

    pub(super) fn read(&self, name: &str) -> Result<Option<String>> {
        Ok(self.data.read(name)?)
    }

    pub(super) fn write(&self, name: &str, text: &str) -> Result<()> {
        Ok(self.data.write(name, text)?)
    }

    /// Gives it back; removes it if it is temporary.
    pub fn close(self) {
        if self.temporary {
            let _ = std::fs::remove_dir_all(self.data.path());
        }
    }
}

fn temporary_path() -> PathBuf {
    let unique: String = rand::random::<[u8; 6]>().iter().map(|byte| format!("{byte:02x}")).collect();
    std::env::temp_dir().join(format!("kube-bind-{unique}"))
}
