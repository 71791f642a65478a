//! Patches, server-side apply, unknown fields.

use serde_json::json;

use crate::harness::{Server, config_map, definition};

const MAPS: &str = "/clusters/a/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn the_three_patches() {
    let server = Server::start().await;
    server.post(MAPS, config_map("x", json!({"a": "1", "b": "2"}))).await.ok();
    let path = format!("{MAPS}/x");
    let merged = server.patch(&path, "merge", json!({"data": {"a": null, "c": "3"}})).await.ok();
    assert_eq!(merged["data"], json!({"b": "2", "c": "3"}));
    let strategic = server.patch(&path, "strategic-merge", json!({"data": {"b": null}})).await.ok();
    assert_eq!(strategic["data"], json!({"c": "3"}));
    let test =
        json!([{"op": "test", "path": "/data/zzz", "value": null}, {"op": "add", "path": "/data/d", "value": "4"}]);
    let patched = server.patch(&path, "json", test).await.ok();
    assert_eq!(patched["data"], json!({"c": "3", "d": "4"}));
    server.patch(&path, "json", json!([{"op": "test", "path": "/data/c", "value": "no"}])).await.failed(422);
    let stale = json!({"metadata": {"resourceVersion": "1"}, "data": {"x": "y"}});
    server.patch(&path, "merge", stale).await.failed(409);
    server.patch(&format!("{MAPS}/nope"), "merge", json!({})).await.failed(404);
}

#[tokio::test]
async fn an_apply_owns_what_it_says() {
    let server = Server::start().await;
    let apply = |manager: &str| format!("{MAPS}/x?fieldManager={manager}");
    let made = server.patch(&apply("one"), "apply", config_map("x", json!({"a": "1", "b": "1"}))).await;
    assert_eq!(made.status, 201);
    let again = server.patch(&apply("one"), "apply", config_map("x", json!({"a": "1", "b": "1"}))).await;
    assert_eq!(again.status, 200);
    assert_eq!(again.body["metadata"]["resourceVersion"], made.body["metadata"]["resourceVersion"]);
    let conflict = server.patch(&apply("two"), "apply", config_map("x", json!({"a": "2"}))).await;
    assert_eq!(conflict.body["details"]["causes"][0]["field"], ".data.a");
    assert!(conflict.failed(409).contains("conflict with \"one\""));
    let forced =
        server.patch(&format!("{}&force=true", apply("two")), "apply", config_map("x", json!({"a": "2"}))).await;
    assert_eq!(forced.ok()["data"], json!({"a": "2", "b": "1"}));
    let dropped = server.patch(&apply("one"), "apply", config_map("x", json!({}))).await.ok();
    assert_eq!(dropped["data"], json!({"a": "2"}));
    let nobody = server.patch(&format!("{MAPS}/x"), "apply", config_map("x", json!({}))).await;
    assert!(nobody.failed(422).contains("is required for apply patch"));
}

#[tokio::test]
async fn an_apply_is_create_only_with_a_revision_and_update_only_with_a_uid() {
    let server = Server::start().await;
    let path = format!("{MAPS}/x?fieldManager=m&force=true");
    let with = |field: &str, value: &str| {
        let mut object = config_map("x", json!({"a": value}));
        object["metadata"][field] = value.into();
        object
    };
    server.patch(&path, "apply", with("uid", "u")).await.failed(409);
    let made = server.patch(&path, "apply", with("resourceVersion", "1")).await;
    assert_eq!(made.status, 201);
    let uid = made.ok()["metadata"]["uid"].as_str().unwrap().to_owned();
    assert!(server.patch(&path, "apply", with("resourceVersion", "1")).await.failed(409).contains("has been modified"));
    server.patch(&path, "apply", with("uid", "other")).await.failed(422);
    assert_eq!(server.patch(&path, "apply", with("uid", &uid)).await.status, 200);
}

#[tokio::test]
async fn unknown_fields_are_dropped_and_told() {
    let server = Server::start().await;
    let mut body = config_map("x", json!({}));
    body["datum"] = json!({"a": "1"});
    let warned = server.post(MAPS, body.clone()).await;
    assert_eq!(warned.warnings, ["299 - \"unknown field \\\"datum\\\"\""]);
    assert!(warned.ok().get("datum").is_none());
    body["metadata"]["name"] = "y".into();
    let text = server.post(&format!("{MAPS}?fieldValidation=Strict"), body.clone()).await.failed(400);
    assert!(text.ends_with("strict decoding error: unknown field \"datum\""), "{text}");
    let quiet = server.post(&format!("{MAPS}?fieldValidation=Ignore"), body).await;
    assert!(quiet.warnings.is_empty());
    let twice = server.send(
        reqwest::Method::POST,
        MAPS,
        "application/json",
        r#"{"metadata":{"name":"z"},"data":{"a":"1","a":"2"}}"#,
    );
    assert_eq!(twice.await.warnings, ["299 - \"duplicate field \\\"data.a\\\"\""]);
}

#[tokio::test]
async fn yaml_bodies_are_read() {
    let server = Server::start().await;
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: yy\ndata:\n  a: \"1\"\n";
    let made = server.send(reqwest::Method::POST, MAPS, "application/yaml", yaml).await;
    assert_eq!(made.ok()["data"]["a"], "1");
    let applied = server
        .send(
            reqwest::Method::PATCH,
            &format!("{MAPS}/zz?fieldManager=m"),
            "application/apply-patch+yaml",
            yaml.replace("name: yy", "name: zz"),
        )
        .await;
    assert_eq!(applied.status, 201);
}

#[tokio::test]
async fn status_generation_and_scale() {
    let server = Server::start().await;
    server.post("/clusters/a/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition()).await.ok();
    let all = "/clusters/a/apis/mangodb.com/v1alpha1/namespaces/default/mangodbs";
    let body = json!({"apiVersion": "mangodb.com/v1alpha1", "kind": "MangoDB", "metadata": {"name": "m"},
        "spec": {"tier": "Dedicated", "backup": true}, "status": {"phase": "no"}});
    let made = server.post(all, body.clone()).await.ok();
    assert_eq!((&made["spec"]["replicas"], &made["metadata"]["generation"]), (&json!(1), &json!(1)));
    assert!(made.get("status").is_none(), "status has its own endpoint");

    let path = format!("{all}/m");
    let status = server
        .patch(&format!("{path}/status"), "merge", json!({"status": {"phase": "Up"}, "spec": {"tier": "Shared"}}))
        .await
        .ok();
    assert_eq!((&status["status"]["phase"], &status["spec"]["tier"]), (&json!("Up"), &json!("Dedicated")));
    assert_eq!(status["metadata"]["generation"], 1);
    let spec = server.patch(&path, "merge", json!({"spec": {"backup": false}, "status": {"phase": "Down"}})).await.ok();
    assert_eq!((&spec["status"]["phase"], &spec["metadata"]["generation"]), (&json!("Up"), &json!(2)));

    let scale = server.get(&format!("{path}/scale")).await.ok();
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(1)));
    let scaled = server.patch(&format!("{path}/scale"), "merge", json!({"spec": {"replicas": 3}})).await.ok();
    assert_eq!(scaled["spec"]["replicas"], 3);
    assert_eq!(server.get(&path).await.ok()["spec"]["replicas"], 3);
    server.patch(&path, "strategic-merge", json!({})).await.failed(415);
}
