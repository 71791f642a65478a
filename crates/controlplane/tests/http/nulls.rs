//! Nulls in custom resources, against what kube-apiserver 1.36 answered.
//!
//! `recorded/nulls.json` holds a definition with fields of every kind, and cases: an optional object to begin with (made by
//! an apply), a write, and the real server's answer. Regenerate it by asking a real server the same.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Server};

const ALL: &str = "/clusters/a/apis/n1.example/v1/namespaces/default/nulls";

/// Sends a case to the server, and shows the answer as it was recorded.
async fn answer(server: &Server, case: &Value, full: &Value) -> Value {
    let named =
        |spec: &Value| json!({"apiVersion": "n1.example/v1", "kind": "Null", "metadata": {"name": "x"}, "spec": spec});
    let path = format!("{ALL}/x");
    let apply = format!("{path}?fieldManager=m");
    let before = if case["before"] == "full" { full } else { &case["before"] };
    if !before.is_null() {
        server.patch(&apply, "apply", named(before)).await.ok();
    }
    let spec = &case["spec"];
    let answer = match case["how"].as_str().unwrap() {
        "create" => server.post(ALL, named(spec)).await,
        "apply" => server.patch(&apply, "apply", named(spec)).await,
        "merge" => server.patch(&path, "merge", json!({"spec": spec})).await,
        "json" => {
            let (field, value) = spec.as_object().unwrap().iter().next().unwrap();
            let add = json!([{"op": "add", "path": format!("/spec/{field}"), "value": value}]);
            server.patch(&path, "json", add).await
        }
        other => panic!("the recording has an unknown way to write: {other}"),
    };
    server.send(Method::DELETE, &path, "application/json", "").await;
    shown(&answer)
}

fn shown(answer: &Answer) -> Value {
    let mut shown = json!({"code": answer.status.as_u16()});
    if !answer.warnings.is_empty() {
        shown["warnings"] = answer.warnings.clone().into();
    }
    let body = &answer.body;
    if answer.status.is_success() {
        shown["spec"] = body["spec"].clone();
        let owners = body["metadata"]["managedFields"].as_array().into_iter().flatten();
        let applied = owners.filter(|owner| owner["operation"] == "Apply");
        shown["owned"] = applied.map(|owner| owner["fieldsV1"].clone()).collect();
    } else {
        shown["message"] = body["message"].clone();
    }
    shown
}

#[tokio::test]
async fn nulls_are_answered_as_the_real_server_answers_them() {
    let recorded: Value = serde_json::from_str(include_str!("recorded/nulls.json")).unwrap();
    let server = Server::start().await;
    let definitions = "/clusters/a/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    server.post(definitions, recorded["definition"].clone()).await.ok();
    let cases = recorded["cases"].as_array().unwrap();
    assert!(cases.len() > 250, "the recording has lost cases");
    let mut wrong = Vec::new();
    for case in cases {
        let answer = answer(&server, case, &recorded["full"]).await;
        if answer != case["answer"] {
            let live = if case["before"].is_null() { "" } else { " over an object" };
            wrong.push(format!(
                "{}{live} {}\n  expected {}\n  got      {answer}",
                case["how"], case["spec"], case["answer"]
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
