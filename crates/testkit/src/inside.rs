//! A program that finds its API server as in a pod: `KUBERNETES_SERVICE_HOST` and the ServiceAccount's files where a kubelet
//! mounts them. In: a kubeconfig with a token. Out: a command that runs a program so. The mount is the process's own, which
//! takes Linux and the right to have one; the API server must be at the root of its URL.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::process::Command;
use url::Url;

/// Where programs look for them.
const PLACE: &str = "/run/secrets/kubernetes.io/serviceaccount";

/// The files of a pod's ServiceAccount, and where its API server is.
pub struct Inside {
    files: PathBuf,
    host: String,
    port: u16,
    unshare: &'static [String],
}

impl Inside {
    /// Writes the files below `folder`; nothing where the kubeconfig or the machine does not allow it.
    #[must_use]
    pub fn new(folder: &Path, namespace: &str, kubeconfig: &str) -> Option<Self> {
        let unshare = unshare().as_deref()?;
        let kubeconfig = apimachinery::yaml::document(kubeconfig).unwrap();
        let cluster = &kubeconfig["clusters"][0]["cluster"];
        let server = Url::parse(cluster["server"].as_str()?).ok()?;
        if server.path() != "/" || server.scheme() != "https" {
            return None;
        }
        let inside = Self {
            files: folder.join("serviceaccount"),
            host: server.host_str()?.to_owned(),
            port: server.port_or_known_default()?,
            unshare,
        };
        let authority = STANDARD.decode(cluster["certificate-authority-data"].as_str()?).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().as_bytes().to_vec();
        std::fs::create_dir_all(&inside.files).unwrap();
        for (name, content) in [
            ("ca.crt", authority),
            ("namespace", namespace.as_bytes().to_vec()),
            ("token", text(&kubeconfig["users"][0]["user"]["token"])),
        ] {
            std::fs::write(inside.files.join(name), content).unwrap();
        }
        Some(inside)
    }

    /// Runs a program; its process is the command's own.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let script = format!(
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin; mount -t tmpfs tmpfs /run && mkdir -p {PLACE} && \
             mount --bind \"$1\" {PLACE} && shift && exec \"$@\""
        );
        let mut command = Command::new(&self.unshare[0]);
        command.args(&self.unshare[1..]).args(["/bin/sh", "-c", &script, "sh"]).arg(&self.files).arg(program);
        command.env_clear();
        command.env("KUBERNETES_SERVICE_HOST", &self.host).env("KUBERNETES_SERVICE_PORT", self.port.to_string());
        command
    }
}

/// How a process gets mounts of its own here, if it may.
fn unshare() -> &'static Option<Vec<String>> {
    static WAY: OnceLock<Option<Vec<String>>> = OnceLock::new();
    WAY.get_or_init(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = std::env::split_paths(&path).map(|folder| folder.join("unshare")).find(|file| file.exists());
        let program = program?.to_string_lossy().into_owned();
        let may = |flag: &str| {
            let mut tried = std::process::Command::new(&program);
            tried.args([flag, "/bin/sh", "-c", &format!("mount -t tmpfs tmpfs /run && mkdir -p {PLACE}")]);
            tried.output().is_ok_and(|output| output.status.success())
        };
        let way = ["-m", "-rm"].into_iter().find(|flag| may(flag)).map(|flag| vec![program.clone(), flag.to_owned()]);
        if way.is_none() {
            eprintln!("pods find their API servers by kubeconfigs: this machine gives no process mounts of its own");
        }
        way
    })
}
