//! Logical clusters: isolation, reads across them, restarts.

use controlplane::Options;
use reqwest::Method;
use serde_json::json;

use crate::harness::{Server, config_map, definition};

#[tokio::test]
async fn credentials_and_objects_stay_in_their_cluster() {
    let server = Server::start().await;
    let token = server.plane.admin_token("a");
    let maps = |cluster: &str| format!("/clusters/{cluster}/api/v1/namespaces/default/configmaps");
    let json = "application/json";
    let made = server.send_as(&token, Method::POST, &maps("a"), json, config_map("x", json!({})).to_string()).await;
    assert_eq!(made.status, 201);
    server.send_as(&token, Method::GET, &maps("b"), json, "").await.failed(401);
    server.send_as(&token, Method::GET, "/clusters/*/api/v1/configmaps", json, "").await.failed(401);
    server.get(&format!("{}/x", maps("b"))).await.failed(404);
    let nobody = server.client.get(format!("{}{}", server.plane.url(), maps("a"))).send().await.unwrap();
    assert_eq!(nobody.status(), 403);
    let ready = server.client.get(format!("{}/readyz", server.plane.url())).send().await.unwrap();
    assert_eq!(ready.text().await.unwrap(), "ok");
}

#[tokio::test]
async fn all_clusters_are_read_in_one_order() {
    let server = Server::start().await;
    let mut watch = server.watch("/clusters/*/api/v1/configmaps?watch=1&labelSelector=mine").await;
    for (cluster, name) in [("b", "one"), ("a", "two")] {
        let mut body = config_map(name, json!({}));
        body["metadata"]["labels"] = json!({"mine": "yes"});
        server.post(&format!("/clusters/{cluster}/api/v1/namespaces/default/configmaps"), body).await.ok();
    }
    for (cluster, name) in [("b", "one"), ("a", "two")] {
        let event = watch.next().await.unwrap();
        assert_eq!(event["object"]["metadata"]["name"], name);
        assert_eq!(event["object"]["metadata"]["annotations"]["kcp.io/cluster"], cluster);
    }
    let list = server.get("/clusters/*/api/v1/configmaps?labelSelector=mine").await.ok();
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    assert!(list["items"][0]["metadata"]["annotations"]["kcp.io/cluster"].is_string());
    server.post("/clusters/*/api/v1/namespaces/default/configmaps", config_map("z", json!({}))).await.failed(400);

    server.post("/clusters/a/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition()).await.ok();
    let everywhere = "/clusters/*/apis/mangodb.com/v1alpha1/mangodbs";
    assert_eq!(server.get(everywhere).await.status, 200);

    // Another definition of the same name: now the request has to say which one.
    let mut other = definition();
    other["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["size"] =
        json!({"type": "string"});
    server.post("/clusters/b/apis/apiextensions.k8s.io/v1/customresourcedefinitions", other).await.ok();
    for cluster in ["a", "b"] {
        let body = json!({"apiVersion": "mangodb.com/v1alpha1", "kind": "MangoDB", "metadata": {"name": cluster}, "spec": {"tier": "Shared"}});
        server
            .post(&format!("/clusters/{cluster}/apis/mangodb.com/v1alpha1/namespaces/default/mangodbs"), body)
            .await
            .ok();
    }
    let text = server.get(everywhere).await.failed(400);
    let identities: Vec<&str> = text.rsplit(": ").next().unwrap().split(", ").collect();
    assert_eq!(identities.len(), 2, "{text}");
    let of_a = server.get(&everywhere.replace("mangodbs", identities[0])).await.ok();
    assert_eq!(
        (of_a["items"].as_array().unwrap().len(), of_a["items"][0]["metadata"]["name"].as_str()),
        (1, Some("a"))
    );
}

#[tokio::test]
async fn everything_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let options =
        Options { data_dir: Some(folder.path().join("data")), clusters: vec!["a".into()], ..Options::default() };
    let server = Server::with(options.clone()).await;
    let (token, ca) = (server.plane.admin_token("a"), server.plane.ca_pem().to_owned());
    server.post("/clusters/a/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition()).await.ok();
    let all = "/clusters/a/apis/mangodb.com/v1alpha1/namespaces/default/mangodbs";
    let body = json!({"apiVersion": "mangodb.com/v1alpha1", "kind": "MangoDB", "metadata": {"name": "m"}, "spec": {"tier": "Shared"}});
    let made = server.post(all, body).await.ok();
    let identity = server.get("/clusters/a/api/v1/namespaces/kube-system").await.ok()["metadata"]["uid"].clone();
    assert!(controlplane::ControlPlane::start(options.clone()).await.is_err_and(|e| e.to_string().contains("in use")));
    server.plane.shutdown().await;

    let server = Server::with(options).await;
    assert_eq!((server.plane.admin_token("a"), server.plane.ca_pem()), (token, ca.as_str()));
    assert_eq!(server.get(&format!("{all}/m")).await.ok(), made);
    assert_eq!(server.get("/clusters/a/api/v1/namespaces/kube-system").await.ok()["metadata"]["uid"], identity);
    let later = server.post("/clusters/a/api/v1/namespaces/default/configmaps", config_map("x", json!({}))).await.ok();
    let number = |o: &serde_json::Value| o["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
    assert!(number(&later) > number(&made));
}

#[tokio::test]
async fn a_cluster_is_removed_and_made_anew() {
    let server = Server::start().await;
    server.post("/clusters/b/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition()).await.ok();
    let identity = "/clusters/b/api/v1/namespaces/kube-system";
    let uid = server.get(identity).await.ok()["metadata"]["uid"].clone();
    server.plane.delete_cluster("b").await.unwrap();
    assert!(!server.plane.clusters().contains(&"b".to_owned()));
    let token = server.plane.admin_token("b");
    server.send_as(&token, Method::GET, identity, "application/json", "").await.failed(404);
    let anew = server.get(identity).await.ok();
    assert_ne!(anew["metadata"]["uid"], uid, "another cluster, though of the same name");
    server.get("/clusters/b/apis/mangodb.com/v1alpha1/mangodbs").await.failed(404);
}

#[tokio::test]
async fn an_administrator_may_act_as_somebody_else() {
    let server = Server::start().await;
    let maps = format!("{}/clusters/a/api/v1/namespaces/default/configmaps", server.plane.url());
    let ask = async |token: &str, headers: &[(&'static str, &'static str)]| {
        let mut request = server.client.get(&maps).bearer_auth(token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let admin = server.plane.admin_token("a");
    let (code, text) = ask(&admin, &[("impersonate-user", "jane")]).await;
    assert!(code == 403 && text.contains("User \\\"jane\\\" cannot list"), "{code} {text}");
    assert_eq!(ask(&admin, &[("impersonate-user", "jane"), ("impersonate-group", "system:masters")]).await.0, 200);
    assert_eq!(ask(&admin, &[("impersonate-group", "system:masters")]).await.0, 400);

    let account = "/clusters/a/api/v1/namespaces/default/serviceaccounts/default/token";
    let token = server.post(account, json!({"spec": {}})).await.ok()["status"]["token"].as_str().unwrap().to_owned();
    assert_eq!(ask(&token, &[("impersonate-user", "jane"), ("impersonate-group", "system:masters")]).await.0, 403);
}
