//! The real control plane of the test kit: starts, is one that users would know, comes back, forgets, and ends with the test,
//! however that ends; and says why it does not start.
//!
//! Tests that must not end well are played by a child process: this program, asked for the same test with [`PART`] set.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ffi::OsStr;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::logs::Folder;
use testkit::real::{Kubernetes, Options, binaries, pool};
use testkit::{eventually, within};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// Says what a child process plays.
const PART: &str = "KUBE_BIND_TEST_PART";
const ALL: [&str; 3] = ["etcd", "kube-apiserver", "kube-controller-manager"];
/// What a child prints before its folder.
const HERE: &str = "the cluster is in ";

async fn get(cluster: &Kubernetes, path: &str) -> Value {
    let answer = cluster.http().get(format!("{}{path}", cluster.url())).send().await.unwrap();
    let code = answer.status().as_u16();
    answer.json().await.unwrap_or_else(|_| json!({"code": code}))
}

async fn create(cluster: &Kubernetes, path: &str, body: &Value) -> Value {
    let answer = cluster.http().post(format!("{}{path}", cluster.url())).json(body).send().await.unwrap();
    let body: Value = answer.json().await.unwrap();
    assert!(body["metadata"]["uid"].is_string(), "{body}");
    body
}

#[tokio::test]
#[ignore = "starts a real Kubernetes: scripts/test-real runs it"]
async fn it_starts_comes_back_and_forgets() {
    if binaries().is_none() {
        return;
    }
    let folder = Folder::new("cluster");
    let mut cluster = Kubernetes::start(folder.path(), Options::default()).await;
    if std::env::var_os("KUBEBUILDER_ASSETS").is_none() {
        assert_eq!(get(&cluster, "/version").await["gitVersion"], "v1.36.3");
    }
    let baseline = cluster.snapshot().await;
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "things.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]},
    });
    for _ in 0..2 {
        let uid = get(&cluster, "/api/v1/namespaces/kube-system").await["metadata"]["uid"].clone();
        create(&cluster, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &crd).await;
        eventually("the kind is served", async || {
            let things = get(&cluster, "/apis/example.com/v1/things").await;
            if things["kind"] == "ThingList" { Ok(()) } else { Err(things.to_string()) }
        })
        .await;
        let thing = json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "one"}});
        create(&cluster, "/apis/example.com/v1/namespaces/default/things", &thing).await;
        let team = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}});
        create(&cluster, "/api/v1/namespaces", &team).await;
        eventually("the controllers work", async || {
            let account = get(&cluster, "/api/v1/namespaces/team/serviceaccounts/default").await;
            if account["metadata"]["uid"].is_string() { Ok(()) } else { Err(account.to_string()) }
        })
        .await;
        cluster.restore(&baseline).await;
        eventually("all is forgotten", async || {
            let things = get(&cluster, "/apis/example.com/v1/things").await["code"].clone();
            let team = get(&cluster, "/api/v1/namespaces/team").await["code"].clone();
            let now = get(&cluster, "/api/v1/namespaces/kube-system").await["metadata"]["uid"].clone();
            let seen = format!("{things} {team} {now}");
            if things == 404 && team == 404 && now.is_string() && now != uid { Ok(()) } else { Err(seen) }
        })
        .await;
        cluster.settled().await;
    }
    let url = cluster.url();
    let kept = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kept"}});
    create(&cluster, "/api/v1/namespaces", &kept).await;
    cluster.restart().await;
    assert_eq!(cluster.url(), url);
    assert_eq!(get(&cluster, "/api/v1/namespaces/kept").await["kind"], "Namespace");
    let pids = pids(folder.path(), &ALL);
    assert!(pids.iter().all(|pid| alive(pid)));
    drop(cluster);
    gone(&pids).await;
}

/// This program once more, for one test.
fn child(test: &str, part: &str, environment: &[(&str, &OsStr)]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--include-ignored", "--nocapture"])
        .env(PART, part)
        .envs(environment.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.spawn().unwrap()
}

/// The processes of a cluster.
fn pids(folder: &Path, programs: &[&str]) -> Vec<String> {
    let pid = |program: &str| std::fs::read_to_string(folder.join(format!("{program}.log.pid"))).unwrap();
    programs.iter().map(|program| pid(program).trim().to_owned()).collect()
}

fn alive(pid: &str) -> bool {
    let mut command = std::process::Command::new("kill");
    command.args(["-0", pid]).stderr(Stdio::null()).status().unwrap().success()
}

async fn gone(pids: &[String]) {
    within(Duration::from_secs(15), "the processes end", async || {
        let left: Vec<&String> = pids.iter().filter(|pid| alive(pid)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

/// Where a child says that it kept its logs.
fn kept(said: &str) -> &Path {
    let kept = said.lines().find_map(|line| line.strip_prefix("logs of cluster are kept in "));
    Path::new(kept.unwrap_or_else(|| panic!("no logs are named:\n{said}")))
}

/// A test that is killed cannot clean up, and one that panics may not come to it.
#[tokio::test]
#[ignore = "starts a real Kubernetes: scripts/test-real runs it"]
async fn nothing_is_left_of_a_cluster_whose_test_is_killed_or_panics() {
    if binaries().is_none() {
        return;
    }
    if std::env::var_os(PART).is_some() {
        let loan = pool::take("cluster", None).await;
        println!("{HERE}{}", loan.cluster().folder().display());
        std::io::stdin().read_line(&mut String::new()).unwrap();
        panic!("on purpose");
    }
    for part in ["is killed", "panics"] {
        let mut child = child("nothing_is_left_of_a_cluster_whose_test_is_killed_or_panics", part, &[]);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let folder = loop {
            let line = tokio::time::timeout(Duration::from_secs(240), lines.next_line()).await.expect("it starts");
            let line = line.unwrap().expect("it says where the cluster is");
            if let Some((_, folder)) = line.split_once(HERE) {
                break Path::new(folder).to_owned();
            }
        };
        let pids = pids(&folder, &ALL);
        assert!(pids.iter().all(|pid| alive(pid)), "{pids:?}");
        if part == "is killed" {
            child.kill().await.unwrap();
        } else {
            child.stdin.take().unwrap().write_all(b"go on\n").await.unwrap();
            let output = child.wait_with_output().await.unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success(), "{said}");
            let kept = kept(&said);
            for log in ["etcd.log", "kube-apiserver.log", "kube-controller-manager.log", "audit.log"] {
                assert!(kept.join(log).exists(), "{log} is not in {}", kept.display());
            }
            std::fs::remove_dir_all(kept.parent().unwrap()).unwrap();
        }
        gone(&pids).await;
        within(Duration::from_secs(30), "the folder goes", async || {
            if folder.exists() { Err(folder.display().to_string()) } else { Ok(()) }
        })
        .await;
    }
}

#[tokio::test]
#[ignore = "starts a real Kubernetes: scripts/test-real runs it"]
async fn taken_ports_are_not_an_error() {
    if binaries().is_none() {
        return;
    }
    let taken = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [etcd_port, port] = taken.each_ref().map(|listener| Some(listener.local_addr().unwrap().port()));
    let folder = Folder::new("cluster");
    let options = Options { etcd_port, port, controllers: false, remove_folder: true, ..Options::default() };
    let cluster = Kubernetes::start(folder.path(), options).await;
    assert_eq!(get(&cluster, "/api/v1/namespaces/default").await["kind"], "Namespace");
    assert!(!cluster.url().ends_with(&format!(":{}", port.unwrap())), "{}", cluster.url());
    for log in ["etcd.log", "kube-apiserver.log"] {
        let said = std::fs::read_to_string(folder.path().join(log)).unwrap();
        assert!(said.contains("address already in use"), "{log} met no taken port:\n{said}");
    }
    // Longer than the guard of what did not start would wait before it removes the folder.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(folder.path().join("ca.crt").exists(), "the folder of a running cluster is gone");
    // The folder may go first.
    let pids = pids(folder.path(), &["etcd", "kube-apiserver"]);
    drop(folder);
    assert!(pids.iter().all(|pid| alive(pid)), "{pids:?}");
    drop(cluster);
    gone(&pids).await;
}

/// Programs that end at once, instead of the real ones.
#[tokio::test]
async fn a_cluster_that_does_not_start_fails_its_test_at_once_in_its_own_words() {
    if std::env::var_os(PART).is_some() {
        let _loan = pool::take("cluster", None).await;
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for program in ["etcd", "kube-apiserver", "kube-controller-manager"] {
        let path = folder.path().join(program);
        std::fs::write(&path, "#!/bin/sh\necho no space is left for data\nexit 1\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let began = Instant::now();
    let test = "a_cluster_that_does_not_start_fails_its_test_at_once_in_its_own_words";
    let child = child(test, "waits", &[("KUBEBUILDER_ASSETS", folder.path().as_os_str())]);
    let output =
        tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("a Kubernetes does not start: etcd ended:\nno space is left for data"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(30), "it took {:?}", began.elapsed());
    let kept = kept(&said);
    assert!(std::fs::read_to_string(kept.join("etcd.log")).unwrap().contains("no space"));
    std::fs::remove_dir_all(kept.parent().unwrap()).unwrap();
}
