//! Running clusters that scenarios take and give back: a start takes seconds of both cores, a reset does not. In: a wish for
//! a cluster. Out: one that nobody has used, as far as anybody can tell.
//!
//! ```text
//!   take ◄── idle ◄── reset (etcd as it was after the start, another identity) ◄── given back by drop
//!     └────► start, if none is on its way
//! ```
//!
//! All of it happens on threads of its own, because every scenario has a runtime of its own. What was dropped by a panic
//! is not used again; its logs are kept and named.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use super::binaries::target;
use super::etcd::Snapshot;
use super::server::{Kubernetes, Options};

const LOGS: [&str; 4] = ["etcd.log", "kube-apiserver.log", "kube-controller-manager.log", "audit.log"];
const PATIENCE: Duration = Duration::from_secs(60);

struct Member {
    cluster: Kubernetes,
    fresh: Snapshot,
    groups: Vec<String>,
}

#[derive(Default)]
struct Pool {
    idle: Mutex<Vec<Member>>,
    /// Members that are being started or reset.
    coming: AtomicUsize,
    waiting: AtomicUsize,
    started: AtomicUsize,
}

static POOL: OnceLock<Pool> = OnceLock::new();

fn pool() -> &'static Pool {
    POOL.get_or_init(Pool::default)
}

fn workers() -> &'static Runtime {
    static WORKERS: OnceLock<Runtime> = OnceLock::new();
    let make = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    WORKERS.get_or_init(make)
}

/// A cluster on loan.
pub struct Loan {
    member: Option<Member>,
    name: String,
    /// Where the audit log stood when the loan began.
    pub audit_from: u64,
}

/// Takes a cluster that nobody has used; `name` is what its logs are kept under if the test fails.
pub async fn take(name: &str) -> Loan {
    let pool = pool();
    let waiting = pool.waiting.fetch_add(1, Ordering::SeqCst) + 1;
    if pool.idle.lock().len() + pool.coming.load(Ordering::SeqCst) < waiting {
        pool.coming.fetch_add(1, Ordering::SeqCst);
        workers().spawn(async {
            let _coming = Coming;
            let member = start().await;
            pool.idle.lock().push(member);
        });
    }
    let deadline = Instant::now() + 4 * PATIENCE;
    let member = loop {
        if let Some(member) = pool.idle.lock().pop() {
            break member;
        }
        assert!(Instant::now() < deadline, "no Kubernetes starts");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    pool.waiting.fetch_sub(1, Ordering::SeqCst);
    let audit_from = std::fs::metadata(member.cluster.folder().join("audit.log")).map_or(0, |log| log.len());
    Loan { member: Some(member), name: name.to_owned(), audit_from }
}

/// Counts down, however the task ends.
struct Coming;

impl Drop for Coming {
    fn drop(&mut self) {
        pool().coming.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn start() -> Member {
    let number = pool().started.fetch_add(1, Ordering::SeqCst);
    let folder = std::env::temp_dir().join(format!("kube-bind-real-{}-{number}", std::process::id()));
    // Whoever measures wants no log of every request.
    let audit = std::env::var_os("KUBE_BIND_TEST_AUDIT").is_none_or(|audit| audit != "off");
    let cluster = Kubernetes::start(&folder, Options { remove_folder: true, audit, ..Options::default() }).await;
    let groups = groups(&cluster).await;
    // What the servers write in the first seconds belongs to what is there.
    let fresh = cluster.snapshot().await;
    Member { cluster, fresh, groups }
}

/// The API groups that it serves.
async fn groups(cluster: &Kubernetes) -> Vec<String> {
    let Ok(answer) = cluster.http().get(format!("{}/apis", cluster.url())).send().await else { return Vec::new() };
    let answer: Value = answer.json().await.unwrap_or_default();
    let names = answer["groups"].as_array().into_iter().flatten().filter_map(|group| group["name"].as_str());
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort();
    names
}

/// As if nothing had been.
async fn reset(member: &mut Member) {
    if !member.cluster.runs() {
        member.cluster.start_apiserver().await;
    }
    member.cluster.restore(&member.fresh).await;
    let deadline = Instant::now() + PATIENCE;
    // The controllers may have been in the middle of something: what they wrote meanwhile goes too.
    while groups(&member.cluster).await != member.groups {
        assert!(Instant::now() < deadline, "a Kubernetes does not forget its API groups");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    member.cluster.restore(&member.fresh).await;
    member.cluster.settled().await;
}

impl Loan {
    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> &Kubernetes {
        &self.member.as_ref().unwrap().cluster
    }

    /// The cluster, to stop and start.
    pub fn cluster_mut(&mut self) -> &mut Kubernetes {
        &mut self.member.as_mut().unwrap().cluster
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let Some(mut member) = self.member.take() else { return };
        if std::thread::panicking() {
            keep(member.cluster.folder(), &self.name);
            // The cluster ends with its handle.
            return;
        }
        pool().coming.fetch_add(1, Ordering::SeqCst);
        workers().spawn(async move {
            let _coming = Coming;
            reset(&mut member).await;
            pool().idle.lock().push(member);
        });
    }
}

/// Copies the logs and says where they are.
fn keep(folder: &Path, name: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("test").replace("::", "-");
    let to: PathBuf = target().join("kubernetes/logs").join(test).join(name);
    let _ = std::fs::create_dir_all(&to);
    for log in LOGS {
        let _ = std::fs::copy(folder.join(log), to.join(log));
    }
    eprintln!("logs of {name} are kept in {}", to.display());
}
