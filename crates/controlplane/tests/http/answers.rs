//! What people run into, in the words of kube-apiserver 1.36.
//!
//! `recorded/answers.json` holds cases: requests, and what the real server said to the last of them (code, warnings, and of a
//! `Status` message, reason and causes). Every case begins in a namespace with nothing in it. The custom resource is the one
//! of `recorded/nulls.json`.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Server};

/// The namespace and the names that cases write to.
const COLLECTIONS: [&str; 5] = [
    "/api/v1/namespaces/default/configmaps",
    "/api/v1/namespaces/default/secrets",
    "/apis/n1.example/v1/namespaces/default/nulls",
    "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/rx",
    "/api/v1/namespaces/default/serviceaccounts/sx",
];

async fn play(server: &Server, steps: &Value) -> Answer {
    let mut last = None;
    for step in steps.as_array().unwrap() {
        let text = |at: usize| step[at].as_str().unwrap();
        let body = match &step[3] {
            Value::Null => String::new(),
            Value::String(raw) => raw.clone(),
            value => value.to_string(),
        };
        let method: Method = text(0).parse().unwrap();
        last = Some(server.send(method, &format!("/clusters/a{}", text(1)), text(2), body).await);
    }
    last.unwrap()
}

async fn clean(server: &Server) {
    let nulls = format!("/clusters/a{}", COLLECTIONS[2]);
    for held in server.get(&nulls).await.ok()["items"].as_array().unwrap() {
        let path = format!("{nulls}/{}", held["metadata"]["name"].as_str().unwrap());
        server.patch(&path, "merge", json!({"metadata": {"finalizers": null}})).await;
    }
    for collection in COLLECTIONS {
        server.send(Method::DELETE, &format!("/clusters/a{collection}"), "application/json", "").await;
    }
}

fn shown(answer: &Answer) -> Value {
    let mut shown = json!({"code": answer.status.as_u16()});
    if !answer.warnings.is_empty() {
        shown["warnings"] = answer.warnings.clone().into();
    }
    let body = &answer.body;
    if body["kind"] == "Status" {
        for (name, value) in
            [("message", &body["message"]), ("reason", &body["reason"]), ("causes", &body["details"]["causes"])]
        {
            if !value.is_null() {
                shown[name] = value.clone();
            }
        }
    }
    shown
}

#[tokio::test]
async fn refusals_read_as_the_real_server_words_them() {
    let recorded: Value = serde_json::from_str(include_str!("recorded/answers.json")).unwrap();
    let nulls: Value = serde_json::from_str(include_str!("recorded/nulls.json")).unwrap();
    let server = Server::start().await;
    let definitions = "/clusters/a/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    server.post(definitions, nulls["definition"].clone()).await.ok();
    let cases = recorded.as_array().unwrap();
    assert!(cases.len() > 100, "the recording has lost cases");
    let mut wrong = Vec::new();
    for case in cases {
        let answer = shown(&play(&server, &case["steps"]).await);
        if answer != case["answer"] {
            wrong.push(format!("{}\n  expected {}\n  got      {answer}", case["name"], case["answer"]));
        }
        clean(&server).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
