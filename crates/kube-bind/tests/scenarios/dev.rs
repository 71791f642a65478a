//! `kube-bind dev`: ready when it says so, one owner of a folder, everything kept across kill -9, Ctrl-C ends it cleanly.

use std::path::Path;
use std::process::Stdio;

use kube_client::api::{Api, FieldManager, Subresource};
use kube_client::store::ObjectKey;
use serde_json::{Value, json};
use testkit::{eventually, site::core};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

async fn start(folder: &Path) -> Child {
    let mut command = Command::new(super::PROGRAM);
    command.args(["dev", "--data-dir"]).arg(folder).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = tokio::time::timeout(testkit::PATIENCE, async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("is ready") {
                return true;
            }
        }
        false
    });
    assert!(ready.await.unwrap(), "dev ended before it was ready");
    // Keep the pipe open and empty.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    child
}

async fn api(folder: &Path) -> Api {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let document: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("dev.json")).unwrap()).unwrap();
    let kubeconfig = document["consumer"]["kubeconfig"].as_str().unwrap().to_owned();
    let text = std::fs::read_to_string(kubeconfig).unwrap();
    Api::new(kube_client::connect::from_kubeconfig(&text, None).await.unwrap().client, "consumer")
}

#[tokio::test]
async fn a_data_folder_has_one_owner_and_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = start(folder.path()).await;
    let document = std::fs::read_to_string(folder.path().join("dev.json")).unwrap();
    let key = ObjectKey::new("default", "kept");
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept"}, "data": {"a": "b"}});
    let made = api(folder.path())
        .await
        .apply(&core("configmaps"), &key, &body, FieldManager("test"), Subresource::Main)
        .await
        .unwrap();

    let second = Command::new(super::PROGRAM).args(["dev", "--data-dir"]).arg(folder.path()).output().await.unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("is in use by another process"), "{said}");
    assert!(said.contains(&*folder.path().to_string_lossy()), "{said}");

    first.kill().await.unwrap();
    let mut again = start(folder.path()).await;
    let old: Value = serde_json::from_str(&document).unwrap();
    let new: Value = serde_json::from_str(&std::fs::read_to_string(folder.path().join("dev.json")).unwrap()).unwrap();
    assert_eq!(
        (&old["providers"], &old["login"], &old["controlPlane"]),
        (&new["providers"], &new["login"], &new["controlPlane"])
    );
    let api = api(folder.path()).await;
    let kept = api.get(&core("configmaps"), &key).await.unwrap();
    assert_eq!(kept["metadata"]["uid"], made["metadata"]["uid"]);
    let changed = api
        .merge_patch(&core("configmaps"), &key, Subresource::Main, &json!({"data": {"a": "c"}}), FieldManager("test"))
        .await
        .unwrap();
    let revision = |object: &Value| object["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
    assert!(revision(&changed) > revision(&made), "revisions restarted");

    let pid = again.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    let status = tokio::time::timeout(testkit::PATIENCE, again.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
    eventually("the API no longer answers", async || match api.get(&core("configmaps"), &key).await {
        Ok(_) => Err("it answers".to_owned()),
        Err(_) => Ok(()),
    })
    .await;
}
