//! Create, read, update, delete of built-in kinds.

use serde_json::{Value, json};

use crate::harness::{Server, config_map};

const MAPS: &str = "/clusters/a/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn an_object_lives_and_dies() {
    let server = Server::start().await;
    let made = server.post(MAPS, config_map("one", json!({"x": "1"}))).await;
    assert_eq!(made.status, 201);
    let made = made.ok();
    assert_eq!(made["metadata"]["namespace"], "default");
    let text = server.post(MAPS, config_map("one", json!({}))).await.failed(409);
    assert_eq!(text, "configmaps \"one\" already exists");

    let path = format!("{MAPS}/one");
    let mut read = server.get(&path).await.ok();
    assert_eq!(read, made);
    read["data"]["y"] = "2".into();
    let changed = server.put(&path, read.clone()).await.ok();
    assert_eq!(changed["metadata"]["uid"], made["metadata"]["uid"]);
    assert_ne!(changed["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    assert!(server.put(&path, read.clone()).await.failed(409).contains("the object has been modified"));
    let same = server.put(&path, changed.clone()).await.ok();
    assert_eq!(same["metadata"]["resourceVersion"], changed["metadata"]["resourceVersion"], "nothing changed");

    let wrong = json!({"preconditions": {"uid": "other"}});
    assert!(server.delete(&path, wrong).await.failed(409).contains("does not match the UID in record"));
    let status = server.delete(&path, Value::Null).await.ok();
    assert_eq!((status["kind"].as_str(), status["status"].as_str()), (Some("Status"), Some("Success")));
    assert_eq!(status["details"]["uid"], made["metadata"]["uid"]);
    assert_eq!(server.get(&path).await.failed(404), "configmaps \"one\" not found");
    server.plane.shutdown().await;
}

#[tokio::test]
async fn bad_requests_are_refused_in_kubernetes_words() {
    let server = Server::start().await;
    let text = server.post(MAPS, config_map("Upper", json!({}))).await.failed(422);
    assert!(text.starts_with("ConfigMap \"Upper\" is invalid: metadata.name: Invalid value: \"Upper\""), "{text}");
    let mut other = config_map("x", json!({}));
    other["metadata"]["namespace"] = "kube-system".into();
    assert!(server.post(MAPS, other).await.failed(400).contains("does not match the namespace"));
    let text =
        server.post("/clusters/a/api/v1/namespaces/nope/configmaps", config_map("x", json!({}))).await.failed(404);
    assert_eq!(text, "namespaces \"nope\" not found");
    assert!(
        server.get("/clusters/a/api/v1/nonsense").await.failed(404).contains("could not find the requested resource")
    );
    assert_eq!(server.get("/clusters/nope/api/v1/pods").await.status, 200, "made by its first use");
    let protobuf = server.send(reqwest::Method::POST, MAPS, "application/vnd.kubernetes.protobuf", "k8s").await;
    protobuf.failed(400);
    let text = server.send(reqwest::Method::POST, MAPS, "text/plain", "x").await.failed(415);
    assert!(text.contains("unknown format"), "{text}");
    let broken = server.send(reqwest::Method::POST, MAPS, "application/json", "{").await;
    broken.failed(400);
}

#[tokio::test]
async fn names_are_generated() {
    let server = Server::start().await;
    let body = json!({"metadata": {"generateName": "x-"}});
    let one = server.post(MAPS, body.clone()).await.ok();
    let two = server.post(MAPS, body).await.ok();
    assert_ne!(one["metadata"]["name"], two["metadata"]["name"]);
    assert!(one["metadata"]["name"].as_str().unwrap().starts_with("x-"));
}

#[tokio::test]
async fn finalizers_hold_an_object_back() {
    let server = Server::start().await;
    let mut body = config_map("held", json!({}));
    body["metadata"]["finalizers"] = json!(["example.com/hold"]);
    server.post(MAPS, body).await.ok();
    let path = format!("{MAPS}/held");
    let marked = server.delete(&path, Value::Null).await.ok();
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    let text = server
        .patch(&path, "merge", json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}}))
        .await
        .failed(422);
    assert!(text.contains("no new finalizers can be added"), "{text}");
    server.patch(&path, "json", json!([{"op": "remove", "path": "/metadata/finalizers"}])).await.ok();
    server.get(&path).await.failed(404);
}

#[tokio::test]
async fn collections_are_deleted_by_selector() {
    let server = Server::start().await;
    for (name, label) in [("one", "x"), ("two", "y"), ("three", "x")] {
        let mut body = config_map(name, json!({}));
        body["metadata"]["labels"] = json!({"l": label});
        server.post(MAPS, body).await.ok();
    }
    let gone = server.delete(&format!("{MAPS}?labelSelector=l%3Dx"), Value::Null).await.ok();
    assert_eq!(gone["items"].as_array().unwrap().len(), 2);
    let left = server.get(&format!("{MAPS}?labelSelector=l")).await.ok();
    assert_eq!(left["items"][0]["metadata"]["name"], "two");
}

#[tokio::test]
async fn secrets_and_services_are_completed() {
    let server = Server::start().await;
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"k": "v"}});
    let secret = server.post("/clusters/a/api/v1/namespaces/default/secrets", secret).await.ok();
    assert_eq!((&secret["data"]["k"], &secret["type"]), (&json!("dg=="), &json!("Opaque")));
    assert!(secret.get("stringData").is_none());

    let services = "/clusters/a/api/v1/namespaces/default/services";
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    let service = server.post(services, service).await.ok();
    assert!(service["spec"]["clusterIP"].as_str().unwrap().starts_with("10.96."));
    assert_eq!(service["spec"]["ports"][0], json!({"port": 80, "protocol": "TCP", "targetPort": 80}));
    let external = json!({"metadata": {"name": "e"}, "spec": {"type": "ExternalName", "externalName": "x.localhost"}});
    let external = server.post(services, external).await.ok();
    assert!(external["spec"].get("clusterIP").is_none());
    let kubernetes = server.get(&format!("{services}/kubernetes")).await.ok();
    assert_eq!(kubernetes["spec"]["clusterIP"], "10.96.0.1");
}

#[tokio::test]
async fn a_namespace_goes_with_its_content() {
    let server = Server::start().await;
    server.post("/clusters/a/api/v1/namespaces", json!({"metadata": {"name": "n"}})).await.ok();
    server.post("/clusters/a/api/v1/namespaces/n/configmaps", config_map("x", json!({}))).await.ok();
    let marked = server.delete("/clusters/a/api/v1/namespaces/n", Value::Null).await.ok();
    assert_eq!(marked["status"]["phase"], "Terminating");
    server.until("/clusters/a/api/v1/namespaces/n", 404).await;
    server.get("/clusters/a/api/v1/namespaces/n/configmaps/x").await.failed(404);
    let text = server.delete("/clusters/a/api/v1/namespaces/default", Value::Null).await.failed(403);
    assert!(text.contains("this namespace may not be deleted"), "{text}");
}

#[tokio::test]
async fn nothing_is_stored_by_a_dry_run() {
    let server = Server::start().await;
    let path = format!("{MAPS}?dryRun=All");
    assert_eq!(server.post(&path, config_map("x", json!({}))).await.status, 201);
    server.get(&format!("{MAPS}/x")).await.failed(404);
    server.post(&format!("{MAPS}?dryRun=Some"), config_map("x", json!({}))).await.failed(422);
    server.post(MAPS, config_map("x", json!({"a": "1"}))).await.ok();
    server.patch(&format!("{MAPS}/x?dryRun=All"), "merge", json!({"data": {"a": "2"}})).await.ok();
    server.delete(&format!("{MAPS}/x?dryRun=All"), Value::Null).await.ok();
    assert_eq!(server.get(&format!("{MAPS}/x")).await.ok()["data"]["a"], "1");
}
