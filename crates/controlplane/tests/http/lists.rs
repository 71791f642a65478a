//! Lists: selectors, pages, revisions, shapes.

use serde_json::{Value, json};

use crate::harness::{Server, config_map, definition};

const MAPS: &str = "/clusters/a/api/v1/namespaces/default/configmaps";

fn names(list: &Value) -> Vec<String> {
    list["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn pages_show_one_revision() {
    let server = Server::start().await;
    for name in ["aa", "bb", "cc", "dd"] {
        server.post(MAPS, config_map(name, json!({}))).await.ok();
    }
    let first = server.get(&format!("{MAPS}?limit=2")).await.ok();
    assert_eq!(names(&first), ["aa", "bb"]);
    assert!(first["metadata"]["remainingItemCount"].as_u64().unwrap() >= 2);
    server.delete(&format!("{MAPS}/cc"), Value::Null).await.ok();
    server.post(MAPS, config_map("cd", json!({}))).await.ok();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = server.get(&format!("{MAPS}?limit=2&continue={token}")).await.ok();
    assert_eq!(names(&second), ["cc", "dd"], "as they were at the first page");
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let elsewhere = "/clusters/b/api/v1/namespaces/default/configmaps";
    server.get(&format!("{elsewhere}?limit=2&continue={token}")).await.failed(400);
}

#[tokio::test]
async fn revisions_are_understood() {
    let server = Server::start().await;
    let made = server.post(MAPS, config_map("x", json!({"a": "1"}))).await.ok();
    let revision = made["metadata"]["resourceVersion"].as_str().unwrap();
    server.patch(&format!("{MAPS}/x"), "merge", json!({"data": {"a": "2"}})).await.ok();
    let exact = server
        .get(&format!("{MAPS}?resourceVersion={revision}&resourceVersionMatch=Exact&fieldSelector=metadata.name%3Dx"))
        .await
        .ok();
    assert_eq!(exact["items"][0]["data"]["a"], "1");
    let newer = server
        .get(&format!(
            "{MAPS}?resourceVersion={revision}&resourceVersionMatch=NotOlderThan&fieldSelector=metadata.name%3Dx"
        ))
        .await
        .ok();
    assert_eq!(newer["items"][0]["data"]["a"], "2");
    let future = revision.parse::<u64>().unwrap() + 100_000;
    for path in [format!("{MAPS}?resourceVersion={future}"), format!("{MAPS}/x?resourceVersion={future}")] {
        let answer = server.get(&path).await;
        assert_eq!(answer.body["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
        answer.failed(504);
    }
    server.get(&format!("{MAPS}?resourceVersion=1&resourceVersionMatch=Exact")).await.failed(410);
    server.get(&format!("{MAPS}?resourceVersionMatch=Exact")).await.failed(422);
    server.get(&format!("{MAPS}?resourceVersion=abc")).await.failed(400);
}

#[tokio::test]
async fn selectors_select() {
    let server = Server::start().await;
    let mut body = config_map("x", json!({}));
    body["metadata"]["labels"] = json!({"app": "a"});
    server.post(MAPS, body).await.ok();
    server.post(MAPS, config_map("y", json!({}))).await.ok();
    for (selector, expected) in [
        ("labelSelector=app%3Da", vec!["x"]),
        ("labelSelector=app%20in%20(a,b)", vec!["x"]),
        ("fieldSelector=metadata.name%3Dy", vec!["y"]),
        ("fieldSelector=metadata.name!%3Dy&labelSelector=app", vec!["x"]),
    ] {
        assert_eq!(names(&server.get(&format!("{MAPS}?{selector}")).await.ok()), expected, "{selector}");
    }
    server.get(&format!("{MAPS}?labelSelector=((")).await.failed(400);
    server.get(&format!("{MAPS}?fieldSelector=data.x%3D1")).await.failed(400);
}

#[tokio::test]
async fn tables_and_metadata() {
    let server = Server::start().await;
    server.post("/clusters/a/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition()).await.ok();
    let all = "/clusters/a/apis/mangodb.com/v1alpha1/namespaces/default/mangodbs";
    let body = json!({"apiVersion": "mangodb.com/v1alpha1", "kind": "MangoDB", "metadata": {"name": "m"}, "spec": {"tier": "Shared"}});
    server.post(all, body).await.ok();
    let accept = |kind: &str| format!("application/json;as={kind};v=v1;g=meta.k8s.io,application/json");
    let read = async |path: &str, kind: &str| -> Value {
        let request =
            server.client.get(format!("{}{path}", server.plane.url())).bearer_auth(server.plane.admin_token("a"));
        request.header("accept", accept(kind)).send().await.unwrap().json().await.unwrap()
    };
    let table = read(all, "Table").await;
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["columnDefinitions"][1]["name"], "Tier");
    assert_eq!(table["rows"][0]["cells"][0], "m");
    assert_eq!(table["rows"][0]["cells"][1], "Shared");
    assert_eq!(read(&format!("{all}/m"), "Table").await["rows"].as_array().unwrap().len(), 1);
    let metadata = read(all, "PartialObjectMetadataList").await;
    assert_eq!(metadata["items"][0]["metadata"]["name"], "m");
    assert!(metadata["items"][0].get("spec").is_none());
}
