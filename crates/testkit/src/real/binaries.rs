//! Where the programs of a real control plane are. In: `KUBEBUILDER_ASSETS`, and what `scripts/kubernetes` built. Out: their
//! paths, or one line that says how to get them.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const GO_MOD: &str = include_str!("../../../../test/kubernetes/go.mod");

/// The programs.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// etcd.
    pub etcd: PathBuf,
    /// kube-apiserver.
    pub apiserver: PathBuf,
    /// kube-controller-manager.
    pub controller_manager: PathBuf,
}

impl Binaries {
    /// The minor version of kube-controller-manager, as it says itself: flags differ between versions.
    pub(super) fn minor(&self) -> u32 {
        let output = std::process::Command::new(&self.controller_manager).arg("--version").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let minor = said.split('.').nth(1).and_then(|minor| minor.parse().ok());
        minor.unwrap_or_else(|| panic!("kube-controller-manager --version says no version: {said:?}"))
    }
}

/// The programs, if they are there. Otherwise says once how to get them.
///
/// # Panics
/// When they are missing and `KUBE_BIND_REQUIRE_TOOLS` is set.
#[must_use]
pub fn binaries() -> Option<Binaries> {
    static FOUND: OnceLock<Option<Binaries>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let (folder, how) = match std::env::var_os("KUBEBUILDER_ASSETS").filter(|value| !value.is_empty()) {
            Some(assets) => (PathBuf::from(assets), "KUBEBUILDER_ASSETS should name a folder with them"),
            None => (built(), "`just kubernetes` builds them with Go, or set KUBEBUILDER_ASSETS"),
        };
        let found = find(&folder);
        if found.is_none() {
            eprintln!(
                "real Kubernetes: skipped, no etcd, kube-apiserver and kube-controller-manager in {}; {how}",
                folder.display()
            );
        }
        found
    });
    let required = std::env::var_os("KUBE_BIND_REQUIRE_TOOLS").is_some();
    assert!(found.is_some() || !required, "a real Kubernetes is required (KUBE_BIND_REQUIRE_TOOLS) and not there");
    found.clone()
}

fn find(folder: &Path) -> Option<Binaries> {
    let program = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
    Some(Binaries {
        etcd: program("etcd")?,
        apiserver: program("kube-apiserver")?,
        controller_manager: program("kube-controller-manager")?,
    })
}

/// The project's `target` folder.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => PathBuf::from(target),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
    }
}

fn built() -> PathBuf {
    let line = GO_MOD.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v"));
    target().join("kubernetes").join(line.unwrap_or_default().trim())
}
