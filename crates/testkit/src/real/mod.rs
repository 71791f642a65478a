//! A real Kubernetes API server: etcd, kube-apiserver and kube-controller-manager, each a process of its own that ends with
//! the test.
//!
//! ```text
//!   binaries ──► Kubernetes::start(folder, options) ──► url, ca_pem, admin_kubeconfig; stop, restart
//!                    ├── certificates   a CA, a serving certificate, an administrator, keys for service-account tokens
//!                    ├── process        each program under a small shell that kills it when the test process is gone
//!                    └── etcd           its HTTP/JSON gateway: snapshot and reset of everything that is stored
//! ```
//!
//! Public API: [`binaries`] says whether there is anything to start; [`Kubernetes`] is one cluster without nodes:
//! RBAC, client certificates, service-account tokens, and the controllers that belong to the API (namespace, garbage
//! collector, ServiceAccount and its token, ClusterRole aggregation, root CA publisher). Nothing here knows kube-bind.
//! [`crate::site`] takes such servers from a pool; a test that wants one of its own starts it:
//!
//! ```no_run
//! # async fn example() {
//! use testkit::real::{Kubernetes, Options, binaries};
//! if binaries().is_none() { return } // has said why
//! let folder = tempfile::tempdir().unwrap();
//! let mut cluster = Kubernetes::start(folder.path(), Options::default()).await;
//! std::fs::write(folder.path().join("admin"), cluster.admin_kubeconfig()).unwrap();
//! cluster.restart().await; // same port, same data
//! cluster.stop().await; // or just drop it
//! # }
//! ```

mod binaries;
mod certificates;
mod etcd;
pub mod pool;
mod process;
mod server;

pub(crate) use binaries::target;
pub use binaries::{Binaries, binaries};
pub use etcd::Snapshot;
pub use server::{Kubernetes, Options};
