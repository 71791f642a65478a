//! Watches: where they begin, what they send, how they end.

use serde_json::{Value, json};

use crate::harness::{Server, config_map, definition};

const MAPS: &str = "/clusters/a/api/v1/namespaces/n/configmaps";

async fn start() -> Server {
    let server = Server::start().await;
    server.post("/clusters/a/api/v1/namespaces", json!({"metadata": {"name": "n"}})).await.ok();
    // Furnished by the controllers; wait for it, so that the tests see only their own objects.
    server.until("/clusters/a/api/v1/namespaces/n/configmaps/kube-root-ca.crt", 200).await;
    server.delete(&format!("{MAPS}/none"), Value::Null).await.failed(404);
    server
}

fn seen(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

#[tokio::test]
async fn changes_arrive_in_order() {
    let server = start().await;
    let list = server.get(MAPS).await.ok();
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut watch = server.watch(&format!("{MAPS}?watch=true&resourceVersion={revision}")).await;
    server.post(MAPS, config_map("x", json!({}))).await.ok();
    server.patch(&format!("{MAPS}/x"), "merge", json!({"data": {"a": "1"}})).await.ok();
    server.delete(&format!("{MAPS}/x"), Value::Null).await.ok();
    assert_eq!(watch.seen().await, seen("ADDED", "x"));
    assert_eq!(watch.seen().await, seen("MODIFIED", "x"));
    let deleted = watch.next().await.unwrap();
    assert_eq!(deleted["type"], "DELETED");
    let last: u64 = deleted["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    assert!(last > revision.parse::<u64>().unwrap() + 2);

    // The same again, from memory.
    let mut again = server.watch(&format!("{MAPS}?watch=true&resourceVersion={revision}")).await;
    assert_eq!(again.seen().await, seen("ADDED", "x"));
    assert_eq!(again.seen().await, seen("MODIFIED", "x"));
    assert_eq!(again.next().await.unwrap(), deleted);
}

#[tokio::test]
async fn objects_enter_and_leave_a_selection() {
    let server = start().await;
    let mut watch = server.watch(&format!("{MAPS}?watch=1&labelSelector=app%3Da")).await;
    server.post(MAPS, config_map("x", json!({}))).await.ok();
    server.patch(&format!("{MAPS}/x"), "merge", json!({"metadata": {"labels": {"app": "a"}}})).await.ok();
    server.patch(&format!("{MAPS}/x"), "merge", json!({"metadata": {"labels": {"app": "b"}}})).await.ok();
    assert_eq!(watch.seen().await, seen("ADDED", "x"));
    let left = watch.next().await.unwrap();
    assert_eq!(
        (left["type"].as_str(), left["object"]["metadata"]["labels"]["app"].as_str()),
        (Some("DELETED"), Some("a"))
    );
}

#[tokio::test]
async fn the_initial_list_can_be_streamed() {
    let server = start().await;
    server.post(MAPS, config_map("x", json!({}))).await.ok();
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = server.watch(&format!("{MAPS}?{query}&fieldSelector=metadata.name%3Dx")).await;
    assert_eq!(watch.seen().await, seen("ADDED", "x"));
    let mark = watch.next().await.unwrap();
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(mark["object"]["kind"], "ConfigMap");
    server.delete(&format!("{MAPS}/x"), Value::Null).await.ok();
    assert_eq!(watch.seen().await, seen("DELETED", "x"));
    server.get(&format!("{MAPS}?watch=1&sendInitialEvents=true")).await.failed(422);
}

#[tokio::test]
async fn an_old_revision_is_told_inside_the_stream() {
    let server = start().await;
    let mut watch = server.watch(&format!("{MAPS}?watch=1&resourceVersion=1")).await;
    let error = watch.next().await.unwrap();
    assert_eq!((error["type"].as_str(), error["object"]["code"].as_u64()), (Some("ERROR"), Some(410)));
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_watch_ends_on_time_and_with_its_definition() {
    let server = start().await;
    let mut short = server.watch(&format!("{MAPS}?watch=1&timeoutSeconds=1&fieldSelector=metadata.name%3Dno")).await;
    assert!(short.next().await.is_none());

    let definitions = "/clusters/a/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    server.post(definitions, definition()).await.ok();
    let mut watch = server.watch("/clusters/a/apis/mangodb.com/v1alpha1/mangodbs?watch=1").await;
    server.delete(&format!("{definitions}/mangodbs.mangodb.com"), Value::Null).await.ok();
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn tables_are_watched() {
    let server = start().await;
    server.post(MAPS, config_map("x", json!({}))).await.ok();
    let mut response = server
        .client
        .get(format!("{}{MAPS}?watch=1&fieldSelector=metadata.name%3Dx", server.plane.url()))
        .bearer_auth(server.plane.admin_token("a"))
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .send()
        .await
        .unwrap();
    let first = response.chunk().await.unwrap().unwrap();
    let event: Value = serde_json::from_slice(&first).unwrap();
    assert_eq!(
        (event["object"]["kind"].as_str(), event["object"]["rows"][0]["cells"][0].as_str()),
        (Some("Table"), Some("x"))
    );
}
