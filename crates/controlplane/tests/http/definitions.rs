//! CustomResourceDefinitions and their objects.

use serde_json::{Value, json};

use crate::harness::{Server, definition};

const DEFINITIONS: &str = "/clusters/a/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const ALL: &str = "/clusters/a/apis/mangodb.com/v1alpha1/namespaces/default/mangodbs";

fn mango(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "mangodb.com/v1alpha1", "kind": "MangoDB", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn a_definition_is_served_at_once() {
    let server = Server::start().await;
    server.get(ALL).await.failed(404);
    let made = server.post(DEFINITIONS, definition()).await.ok();
    let established = made["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .any(|c| c["type"] == "Established" && c["status"] == "True");
    assert!(established, "{made:#}");
    assert_eq!(made["status"]["acceptedNames"]["listKind"], "MangoDBList");
    assert_eq!(made["status"]["storedVersions"], json!(["v1alpha1"]));
    assert_eq!(server.get(ALL).await.ok()["kind"], "MangoDBList");
    server.get(&ALL.replace("/a/", "/b/")).await.failed(404);
}

#[tokio::test]
async fn objects_are_pruned_defaulted_and_validated() {
    let server = Server::start().await;
    server.post(DEFINITIONS, definition()).await.ok();
    let made = server.post(ALL, mango("m", json!({"tier": "Shared", "color": "red"}))).await;
    assert_eq!(made.warnings, ["299 - \"unknown field \\\"spec.color\\\"\""]);
    assert_eq!(made.ok()["spec"], json!({"tier": "Shared", "replicas": 1}));
    let text = server.post(ALL, mango("n", json!({"tier": "Gold"}))).await.failed(422);
    assert!(text.contains("spec.tier: Unsupported value: \"Gold\""), "{text}");
    let text = server.post(ALL, mango("n", json!({}))).await.failed(422);
    assert!(text.contains("spec.tier: Required value"), "{text}");
    let text = server.post(ALL, mango("n", json!({"tier": "Shared", "replicas": 2}))).await.failed(422);
    assert!(text.contains("shared tiers have one replica"), "{text}");
    let mut unversioned = server.get(&format!("{ALL}/m")).await.ok();
    unversioned["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    let text = server.put(&format!("{ALL}/m"), unversioned).await.failed(422);
    assert!(text.contains("must be specified for an update"), "{text}");
}

#[tokio::test]
async fn bad_definitions_are_refused() {
    let server = Server::start().await;
    let mut misnamed = definition();
    misnamed["metadata"]["name"] = "x.mangodb.com".into();
    let text = server.post(DEFINITIONS, misnamed).await.failed(422);
    assert!(text.contains("metadata.name") && text.contains("must be spec.names.plural"), "{text}");
    let mut shapeless = definition();
    shapeless["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = json!({"properties": {"spec": {}}});
    let text = server.post(DEFINITIONS, shapeless).await.failed(422);
    assert!(text.contains("openAPIV3Schema"), "{text}");
    let mut hooked = definition();
    hooked["spec"]["conversion"] = json!({"strategy": "Webhook"});
    let text = server.post(DEFINITIONS, hooked).await.failed(422);
    assert!(text.contains("does not call conversion webhooks"), "{text}");
}

#[tokio::test]
async fn two_versions_show_the_same_object() {
    let server = Server::start().await;
    let mut two = definition();
    let mut second = two["spec"]["versions"][0].clone();
    second["name"] = "v1".into();
    second["storage"] = false.into();
    second["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["engine"] =
        json!({"type": "string", "default": "m2"});
    two["spec"]["versions"].as_array_mut().unwrap().push(second);
    server.post(DEFINITIONS, two).await.ok();
    server.post(ALL, mango("m", json!({"tier": "Shared"}))).await.ok();
    let other = server.get(&format!("{}/m", ALL.replace("v1alpha1", "v1"))).await.ok();
    assert_eq!(other["apiVersion"], "mangodb.com/v1");
    assert_eq!(other["spec"]["engine"], "m2", "the version's own defaults");
    let listed = server.get(&ALL.replace("v1alpha1", "v1")).await.ok();
    assert_eq!(listed["items"][0]["apiVersion"], "mangodb.com/v1");
}

#[tokio::test]
async fn new_defaults_show_in_old_objects() {
    let server = Server::start().await;
    let path = format!("{DEFINITIONS}/mangodbs.mangodb.com");
    server.post(DEFINITIONS, definition()).await.ok();
    server.post(ALL, mango("m", json!({"tier": "Shared"}))).await.ok();
    let add = json!([{"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/zone",
        "value": {"type": "string", "default": "here"}}]);
    let changed = server.patch(&path, "json", add).await.ok();
    assert_eq!(changed["metadata"]["generation"], 2);
    assert_eq!(server.get(&format!("{ALL}/m")).await.ok()["spec"]["zone"], "here");
}

#[tokio::test]
async fn objects_go_with_their_definition() {
    let server = Server::start().await;
    let path = format!("{DEFINITIONS}/mangodbs.mangodb.com");
    server.post(DEFINITIONS, definition()).await.ok();
    let mut held = mango("m", json!({"tier": "Shared"}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    server.post(ALL, held).await.ok();
    let marked = server.delete(&path, Value::Null).await.ok();
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    for _ in 0..100 {
        if server.get(&format!("{ALL}/m")).await.ok()["metadata"]["deletionTimestamp"].is_string() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    server.post(ALL, mango("late", json!({"tier": "Shared"}))).await.failed(405);
    server.patch(&format!("{ALL}/m"), "merge", json!({"metadata": {"finalizers": null}})).await.ok();
    server.until(&path, 404).await;
    server.until(ALL, 404).await;
}
