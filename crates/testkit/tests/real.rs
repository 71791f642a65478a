//! The real control plane of the test kit: starts, is one that users would know, comes back, forgets, and ends with the test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use serde_json::{Value, json};
use testkit::real::{Kubernetes, Options, binaries};
use testkit::{eventually, within};

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
    let folder = tempfile::tempdir().unwrap();
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
    let pid = std::fs::read_to_string(folder.path().join("kube-apiserver.log.pid")).unwrap();
    let alive = || std::path::Path::new("/proc").join(pid.trim()).exists();
    assert!(alive());
    drop(cluster);
    within(Duration::from_secs(10), "the process ends with its handle", async || {
        if alive() { Err(pid.clone()) } else { Ok(()) }
    })
    .await;
}
