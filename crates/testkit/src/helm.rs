//! Helm, and the project's charts. In: words and values. Out: what Helm did, or the objects that it renders.
//!
//! Helm is `KUBE_BIND_HELM`, else what `scripts/helm` built, else the one on PATH.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::program::Ended;

const GO_MOD: &str = include_str!("../../../test/helm/go.mod");

/// A chart of `deploy/charts`.
#[must_use]
pub fn chart(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/charts").join(name)
}

/// Helm with a home of its own.
pub struct Helm {
    program: PathBuf,
    home: PathBuf,
}

impl Helm {
    /// Helm, if it is there; otherwise says how to get it. `home` is where it keeps what it keeps.
    ///
    /// # Panics
    /// When it is missing and `KUBE_BIND_REQUIRE_TOOLS` is set.
    #[must_use]
    pub fn find(home: &Path) -> Option<Self> {
        let given = std::env::var_os("KUBE_BIND_HELM").map(PathBuf::from);
        let version = GO_MOD.lines().find_map(|line| line.trim().strip_prefix("require helm.sh/helm/v4 v"));
        let built = built().join("helm").join(version.unwrap_or_default().trim()).join("helm");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let on_path = std::env::split_paths(&path).map(|folder| folder.join("helm"));
        let program = given.into_iter().chain([built]).chain(on_path).find(|program| program.is_file());
        if program.is_none() {
            assert!(
                std::env::var_os("KUBE_BIND_REQUIRE_TOOLS").is_none(),
                "Helm is required (KUBE_BIND_REQUIRE_TOOLS) and not there"
            );
            eprintln!("charts: skipped, there is no Helm; scripts/helm builds it with Go, or put one on PATH");
        }
        program.map(|program| Self { program, home: home.to_owned() })
    }

    /// Types `helm …`.
    ///
    /// # Panics
    /// When Helm cannot be started.
    pub async fn run(&self, kubeconfig: Option<&Path>, words: &[&str]) -> Ended {
        let mut command = tokio::process::Command::new(&self.program);
        command.args(words).env("HOME", &self.home).env_remove("KUBECONFIG").stdin(Stdio::null()).kill_on_drop(true);
        for (variable, folder) in [("CACHE", "cache"), ("CONFIG", "config"), ("DATA", "data")] {
            command.env(format!("HELM_{variable}_HOME"), self.home.join("helm").join(folder));
        }
        if let Some(kubeconfig) = kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        let output = command.output().await.unwrap();
        Ended {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// What a chart renders with values, without a cluster; further words go to `helm template`.
    ///
    /// # Panics
    /// When it does not render.
    pub async fn template(&self, name: &str, namespace: &str, values: &Value, words: &[&str]) -> Vec<Value> {
        let chart = chart(name).to_string_lossy().into_owned();
        let values = self.values(values);
        let mut all = vec!["template", name, &chart, "--namespace", namespace, "--values", &values];
        all.extend(words);
        let rendered = self.run(None, &all).await.ok().stdout;
        apimachinery::yaml::documents(&rendered).unwrap().into_iter().filter(|object| !object.is_null()).collect()
    }

    /// Values as a file; gives its path.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn values(&self, values: &Value) -> String {
        let mut file = tempfile::Builder::new().suffix(".json").tempfile_in(&self.home).unwrap();
        std::io::Write::write_all(&mut file, values.to_string().as_bytes()).unwrap();
        let (_, path) = file.keep().unwrap();
        path.to_string_lossy().into_owned()
    }
}

/// Where the project's own tools are.
fn built() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(default, PathBuf::from)
}
