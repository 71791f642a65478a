//! Running clusters that scenarios take and give back: a start takes seconds of both cores, a reset does not. In: a wish for
//! a cluster. Out: one that nobody has used, as far as anybody can tell.
//!
//! ```text
//!   take ◄── idle ◄── reset (etcd as it was after the start, another identity) ◄── given back by drop
//!     └────► start, if none is on its way
//! ```
//!
//! All of it happens on threads of its own, because every scenario has a runtime of its own. What was dropped by a panic
//! is not used again; its logs are kept and named. A cluster that does not start fails one of those who wait, at once and in
//! its own words.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use super::etcd::Snapshot;
use super::server::{Kubernetes, Options};
use crate::logs;

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
    /// The last words of starts that failed, each for one of those who wait.
    failed: Mutex<Vec<String>>,
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
    let _waiting = Counted::up(&pool.waiting);
    let waiting = pool.waiting.load(Ordering::SeqCst);
    if waiting == 1 {
        // Nobody waits for these any more.
        pool.failed.lock().clear();
    }
    if pool.idle.lock().len() + pool.coming.load(Ordering::SeqCst) < waiting {
        order(logs::test(), name.to_owned());
    }
    let deadline = Instant::now() + 4 * PATIENCE;
    let member = loop {
        if let Some(member) = pool.idle.lock().pop() {
            break member;
        }
        if let Some(words) = pool.failed.lock().pop() {
            panic!("a Kubernetes does not start: {words}");
        }
        assert!(Instant::now() < deadline, "no Kubernetes starts");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let audit_from = std::fs::metadata(member.cluster.folder().join("audit.log")).map_or(0, |log| log.len());
    Loan { member: Some(member), name: name.to_owned(), audit_from }
}

/// Counted until it is dropped, however that comes.
struct Counted(&'static AtomicUsize);

impl Counted {
    fn up(counter: &'static AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::SeqCst);
        Self(counter)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Starts one more. If it does not start, its logs are those of `name` in `test`.
fn order(test: String, name: String) {
    let coming = Counted::up(&pool().coming);
    workers().spawn(async move {
        let number = pool().started.fetch_add(1, Ordering::SeqCst);
        let folder = std::env::temp_dir().join(format!("kube-bind-real-{}-{number}", std::process::id()));
        match attempt(start(&folder)).await {
            Ok(member) => pool().idle.lock().push(member),
            Err(words) => {
                logs::keep(&folder, &test, &name);
                pool().failed.lock().push(words);
            }
        }
        drop(coming);
    });
}

/// What the work gives, or the words of its panic.
async fn attempt<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let words = |panic: Box<dyn Any + Send>| match panic.downcast::<String>() {
        Ok(words) => *words,
        Err(panic) => panic.downcast_ref::<&str>().map_or_else(String::new, |words| (*words).to_owned()),
    };
    AssertUnwindSafe(work).catch_unwind().await.map_err(words)
}

async fn start(folder: &Path) -> Member {
    // Whoever measures wants no log of every request.
    let audit = std::env::var_os("KUBE_BIND_TEST_AUDIT").is_none_or(|audit| audit != "off");
    let cluster = Kubernetes::start(folder, Options { remove_folder: true, audit, ..Options::default() }).await;
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
            logs::keep(member.cluster.folder(), &logs::test(), &self.name);
            // The cluster ends with its handle.
            return;
        }
        let coming = Counted::up(&pool().coming);
        let (test, name) = (logs::test(), std::mem::take(&mut self.name));
        workers().spawn(async move {
            match attempt(reset(&mut member)).await {
                Ok(()) => pool().idle.lock().push(member),
                Err(words) => {
                    eprintln!("what {test} gave back is not used again: {words}");
                    logs::keep(member.cluster.folder(), &test, &name);
                    drop(member);
                    // Somebody may have counted on it.
                    let others = pool().idle.lock().len() + pool().coming.load(Ordering::SeqCst) - 1;
                    if others < pool().waiting.load(Ordering::SeqCst) {
                        order(test, name);
                    }
                }
            }
            drop(coming);
        });
    }
}
