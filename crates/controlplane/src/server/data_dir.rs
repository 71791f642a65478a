//! The data folder: who owns it, and its secrets.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::StartError;

/// A data folder that this process owns for as long as the value lives.
pub struct DataDir {
    path: PathBuf,
    /// Locked; the lock goes with the process, however it ends.
    _lock: File,
}

impl DataDir {
    /// Makes the folder if need be, and takes it.
    pub fn open(path: &Path) -> Result<Self, StartError> {
        let failed = |what: &str| {
            let what = format!("{what} the data folder {}", path.display());
            move |source| StartError::Io { what, source }
        };
        std::fs::create_dir_all(path).map_err(failed("cannot make"))?;
        restrict(path).map_err(failed("cannot protect"))?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join("lock"));
        let lock = lock.map_err(failed("cannot lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(std::fs::TryLockError::WouldBlock) => Err(StartError::InUse(path.to_owned())),
            Err(std::fs::TryLockError::Error(source)) => Err(failed("cannot lock")(source)),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The content of a file; `None` if there is no such file.
    pub fn read(&self, name: &str) -> Result<Option<String>, StartError> {
        let path = self.path.join(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StartError::Io { what: format!("cannot read {}", path.display()), source }),
        }
    }

    /// Writes a file that only its owner can read, whole or not at all.
    pub fn write(&self, name: &str, text: &str) -> Result<(), StartError> {
        let path = self.path.join(name);
        let draft = self.path.join(format!("{name}.new"));
        write_private(&draft, text)
            .and_then(|()| std::fs::rename(&draft, &path))
            .map_err(|source| StartError::Io { what: format!("cannot write {}", path.display()), source })
    }
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(unix)]
fn restrict(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
}

#[cfg(not(unix))]
fn restrict(_: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_folder_has_one_owner() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataDir::open(folder.path()).unwrap();
        assert!(matches!(DataDir::open(folder.path()), Err(StartError::InUse(_))));
        first.write("secret", "x").unwrap();
        drop(first);
        let again = DataDir::open(folder.path()).unwrap();
        assert_eq!(again.read("secret").unwrap().as_deref(), Some("x"));
        assert_eq!(again.read("other").unwrap(), None);
    }
}
