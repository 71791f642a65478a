//! `kill -9` while writing: no acknowledged write is lost, no revision comes twice.
//!
//! The test runs itself as the server: a child process with the name of the ignored test `server`.

#![allow(clippy::unwrap_used, clippy::expect_used)] // in tests a panic is the message

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use controlplane::{ControlPlane, Options};
use reqwest::Client;
use serde_json::{Value, json};

const FOLDER: &str = "CONTROLPLANE_DURABILITY_FOLDER";
const ROUNDS: u32 = 4;

/// Not a test: the process that is killed.
#[tokio::test]
#[ignore = "run by the other test as a process of its own"]
async fn server() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let options = Options { data_dir: Some(folder.into()), clusters: vec!["c".into()], ..Options::default() };
    let plane = ControlPlane::start(options).await.unwrap();
    println!("\nready {} {}", plane.cluster_url("c"), plane.admin_token("c"));
    std::future::pending::<()>().await;
}

/// A client of the server.
struct Server {
    client: Client,
    maps: String,
    token: String,
}

impl Server {
    fn start(folder: &Path) -> (Child, Self) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "server", "--ignored", "--nocapture"])
            .env(FOLDER, folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.map_while(Result::ok).find(|line| line.starts_with("ready ")).expect("the server is ready");
        let mut words = ready.split(' ').skip(1);
        let (url, token) = (words.next().unwrap(), words.next().unwrap());
        let ca = std::fs::read(folder.join("ca.crt")).unwrap();
        let ca = reqwest::Certificate::from_pem(&ca).unwrap();
        let server = Self {
            client: Client::builder().tls_certs_only([ca]).timeout(Duration::from_secs(10)).build().unwrap(),
            maps: format!("{url}/api/v1/namespaces/default/configmaps"),
            token: token.to_owned(),
        };
        (child, server)
    }

    async fn create(&self, name: &str) -> reqwest::Result<u64> {
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
        let request = self.client.post(&self.maps).bearer_auth(&self.token).body(body.to_string());
        let request = request.header("content-type", "application/json");
        let made: Value = request.send().await?.error_for_status()?.json().await?;
        Ok(revision(&made))
    }

    async fn list(&self) -> Value {
        self.client.get(&self.maps).bearer_auth(&self.token).send().await.unwrap().json().await.unwrap()
    }
}

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_a_kill() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged: BTreeMap<String, u64> = BTreeMap::new();
    let mut highest = 0;
    for round in 0..ROUNDS {
        let (mut child, server) = Server::start(folder.path());
        let server = Arc::new(server);
        check(&server.list().await, &acknowledged, &mut highest);

        let (report, mut reports) = tokio::sync::mpsc::unbounded_channel();
        for writer in 0..8 {
            let (server, report) = (server.clone(), report.clone());
            tokio::spawn(async move {
                for n in 0.. {
                    let name = format!("r{round}-w{writer}-{n}");
                    match server.create(&name).await {
                        Ok(revision) => report.send((name, revision)).unwrap(),
                        Err(_) => return,
                    }
                }
            });
        }
        drop(report);
        // Enough writes to have batches under way, then the axe.
        let mut seen = 0;
        while let Some((name, revision)) = reports.recv().await {
            assert!(revision > highest, "revision {revision} came again");
            assert!(!acknowledged.values().any(|r| *r == revision), "revision {revision} came twice");
            acknowledged.insert(name, revision);
            seen += 1;
            if seen == 40 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
    }
    let (mut child, server) = Server::start(folder.path());
    check(&server.list().await, &acknowledged, &mut highest);
    child.kill().unwrap();
    child.wait().unwrap();
}

fn check(list: &Value, acknowledged: &BTreeMap<String, u64>, highest: &mut u64) {
    let stored: BTreeMap<&str, u64> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|object| (object["metadata"]["name"].as_str().unwrap(), revision(object)))
        .collect();
    for (name, revision) in acknowledged {
        assert_eq!(stored.get(name.as_str()), Some(revision), "{name} was acknowledged");
    }
    *highest = revision(list);
}
