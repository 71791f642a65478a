//! Running clusters that scenarios take and give back: a start takes seconds of both cores, a reset does not. In: a wish for
//! a cluster, and for what is installed in it. Out: one that nobody has used, as far as anybody can tell.
//!
//! ```text
//!   take ◄── idle ◄── reset (etcd as it was before the use, another identity) ◄── given back by drop
//!     └────► start, if none is on its way
//! ```
//!
//! Who installs what others will want too says so ([`Loan::remember`]): the cluster is reset to that, and lent first to those
//! who want it. Every kind costs an API server as much as some hundred objects, when it comes and when it goes.
//!
//! All of it happens on threads of its own, because every scenario has a runtime of its own. What was dropped by a panic
//! is not used again; its logs are kept and named. A cluster that does not start fails one of those who wait, at once and in
//! its own words.

use std::any::Any;
use std::collections::BTreeSet;
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
/// All groups and kinds in one answer.
const DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
/// How long to wait for a cluster with the right things installed while there are others.
const PREFERENCE: Duration = Duration::from_secs(1);

/// What is stored, and what is served because of it.
struct State {
    stored: Snapshot,
    served: BTreeSet<String>,
}

/// What somebody installed.
struct Installed {
    what: String,
    token: String,
    state: State,
}

struct Member {
    cluster: Kubernetes,
    fresh: State,
    installed: Option<Installed>,
}

impl Member {
    fn what(&self) -> Option<&str> {
        self.installed.as_ref().map(|installed| installed.what.as_str())
    }
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

/// Takes a cluster that nobody has used; `name` is what its logs are kept under if the test fails. With `what` it may be one in
/// which that is installed already ([`Loan::token`]); otherwise there is nothing in it.
pub async fn take(name: &str, what: Option<&str>) -> Loan {
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
    let (start, deadline) = (Instant::now(), Instant::now() + 4 * PATIENCE);
    let mut member = loop {
        if let Some(member) = choose(&mut pool.idle.lock(), what, start.elapsed() >= PREFERENCE) {
            break member;
        }
        if let Some(words) = pool.failed.lock().pop() {
            panic!("a Kubernetes does not start: {words}");
        }
        assert!(Instant::now() < deadline, "no Kubernetes starts");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    if member.what().is_some_and(|installed| Some(installed) != what) {
        member.installed = None;
        reset(&mut member).await;
    }
    let audit_from = std::fs::metadata(member.cluster.folder().join("audit.log")).map_or(0, |log| log.len());
    Loan { member: Some(member), name: name.to_owned(), audit_from }
}

/// The best of those that are there: one with the right things in it, an empty one, or any.
fn choose(idle: &mut Vec<Member>, what: Option<&str>, any: bool) -> Option<Member> {
    let of = |wanted: Option<&str>| idle.iter().position(|member| member.what() == wanted);
    let place = of(what).or_else(|| of(None)).or_else(|| (any && !idle.is_empty()).then_some(0))?;
    Some(idle.remove(place))
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

/// Whether clusters keep an audit log: whoever measures wants no log of every request.
pub fn audited() -> bool {
    std::env::var_os("KUBE_BIND_TEST_AUDIT").is_none_or(|audit| audit != "off")
}

async fn start(folder: &Path) -> Member {
    let cluster =
        Kubernetes::start(folder, Options { remove_folder: true, audit: audited(), ..Options::default() }).await;
    // What the servers write in the first seconds belongs to what is there.
    let fresh = State { served: served(&cluster).await, stored: cluster.snapshot().await };
    Member { cluster, fresh, installed: None }
}

/// The API groups that it serves, and their kinds where it tells all of them at once (Kubernetes 1.27).
async fn served(cluster: &Kubernetes) -> BTreeSet<String> {
    let request = cluster.http().get(format!("{}/apis", cluster.url())).header("Accept", DISCOVERY);
    let Ok(answer) = request.send().await else { return BTreeSet::new() };
    let answer: Value = answer.json().await.unwrap_or_default();
    let each = |value: &Value, field: &str| value[field].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut names: BTreeSet<String> = each(&answer, "groups").iter().map(|group| text(&group["name"])).collect();
    for group in each(&answer, "items") {
        let name = text(&group["metadata"]["name"]);
        for version in each(&group, "versions") {
            for kind in each(&version, "resources") {
                names.insert(format!("{name}/{}/{}", text(&version["version"]), text(&kind["resource"])));
            }
        }
        names.insert(name);
    }
    names
}

/// As if nobody had used it.
async fn reset(member: &mut Member) {
    if !member.cluster.runs() {
        member.cluster.start_apiserver().await;
    }
    let state = member.installed.as_ref().map_or(&member.fresh, |installed| &installed.state);
    member.cluster.restore(&state.stored).await;
    let deadline = Instant::now() + PATIENCE;
    // The controllers may have been in the middle of something: what they wrote meanwhile goes too.
    while served(&member.cluster).await != state.served {
        assert!(Instant::now() < deadline, "a Kubernetes does not serve what it did before");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    member.cluster.restore(&state.stored).await;
    member.cluster.settled().await;
}

impl Loan {
    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> &Kubernetes {
        &self.member.as_ref().unwrap().cluster
    }

    /// The token that was remembered with what is installed.
    #[must_use]
    pub fn token(&self) -> Option<String> {
        self.member.as_ref().unwrap().installed.as_ref().map(|installed| installed.token.clone())
    }

    /// What is in the cluster now is `what`: others may get it as it is now, with this token of an account in it.
    pub async fn remember(&mut self, what: &str, token: &str) {
        let member = self.member.as_mut().unwrap();
        let state = State { served: served(&member.cluster).await, stored: member.cluster.snapshot().await };
        member.installed = Some(Installed { what: what.to_owned(), token: token.to_owned(), state });
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
