//! The requests of a Go command line, written down after the recordings, get equivalent answers; URL forms of scenario S1;
//! pages as golden files.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use common::{BASE, Browser, CLIENT, action, bind_url, call, encode, field, param, set, wire_token};
use http::{Method, StatusCode};
use serde_json::{Value, json};

#[tokio::test]
async fn the_provider_document() {
    let set = set().await;
    let answer = call(&set.router, Method::GET, "/api/exports", &[], "").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(
        answer.json(),
        json!({"kind": "BindingProvider", "apiVersion": "v1alpha2", "providerPrettyName": "Widget Inc.", "version": "v0.1.0",
            "authenticationMethods": [{"method": "OAuth2CodeGrant",
                "oauth2CodeGrant": {"authenticatedURL": format!("{BASE}api/authorize")}}]})
    );
    let redirect = call(&set.router, Method::GET, "/exports?cluster_id=", &[("accept", "*/*")], "").await;
    assert_eq!(
        (redirect.status, redirect.headers["location"].to_str().unwrap()),
        (StatusCode::FOUND, "/api/exports?cluster_id=")
    );
    let json = [("accept", "application/json")];
    for path in ["/", "/api/exports", "/exports", "/export", "/kubernetes", "/exports/widget", "/exports/databases"] {
        let answer = call(&set.router, Method::GET, path, &json, "").await;
        assert_eq!(answer.json()["kind"], "BindingProvider", "{path}");
    }
    for path in ["/nothing", "/exports/nothing", "/exports/widget/more", "/api", "/kubernetes/x"] {
        let answer = call(&set.router, Method::GET, path, &json, "").await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(answer.json()["code"], "RESOURCE_NOT_FOUND");
    }
}

#[tokio::test]
async fn the_login_of_a_go_command_line() {
    let set = set().await;
    let start =
        format!("/api/authorize?client_type=cli&redirect_url={}&session_id=FJHK4XU2N5EHJ7C3URGJGC2WWG", encode(CLIENT));
    let leave = call(&set.router, Method::GET, &start, &[("accept", "*/*")], "").await.location();
    assert_eq!(param(&leave, "redirect_uri"), format!("{BASE}api/callback"));
    let back = Browser::default().log_in(&set, &start, "alice").await.location();
    assert_eq!(back.as_str().split('?').next(), Some(CLIENT));
    assert_eq!((param(&back, "token_type"), param(&back, "expires_in")), ("Bearer".into(), "3600".into()));
    assert!(!param(&back, "access_token").is_empty());
    let bad = call(&set.router, Method::POST, "/api/authorize", &[], "{}").await;
    assert_eq!((bad.status, bad.body.as_str()), (StatusCode::BAD_REQUEST, "missing redirect_url or session_id\n"));
}

#[tokio::test]
async fn the_calls_with_a_token() {
    let set = set().await;
    let bearer = format!("Bearer {}", wire_token(&set, "alice").await);
    let auth = [("authorization", bearer.as_str()), ("accept", "application/json")];
    let templates = call(&set.router, Method::GET, "/api/templates", &auth, "").await;
    assert_eq!(templates.headers["cache-control"], "no-cache, no-store, must-revalidate, max-age=0");
    assert_eq!(templates.headers["x-accel-expires"], "0");
    let item = &templates.json()["items"][0];
    assert_eq!((&item["kind"], &item["metadata"]["name"]), (&json!("APIServiceExportTemplate"), &json!("widget")));
    assert_eq!(
        item["spec"]["resources"],
        json!([{"group": "widgets.example", "resource": "widgets", "versions": ["v1alpha1"]}])
    );
    let collections = call(&set.router, Method::GET, "/api/collections", &auth, "").await.json();
    assert_eq!(collections["items"][0]["spec"], json!({"description": "Databases", "templates": [{"name": "widget"}]}));
    assert_eq!(call(&set.router, Method::GET, "/api/ping", &auth, "").await.body, "pong");
    let status = call(&set.router, Method::GET, "/api/consumer-status", &auth, "").await;
    assert_eq!(status.json(), json!({"connected": false}));
    let claimable = call(&set.router, Method::GET, "/api/bindable-resources", &[], "").await.json();
    assert_eq!(claimable[1]["GroupVersionResource"], json!({"Group": "", "Version": "v1", "Resource": "secrets"}));
    let unknown = call(&set.router, Method::GET, "/api/templates", &[], "").await;
    assert_eq!(unknown.status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        unknown.json(),
        json!({"kind": "Error", "apiVersion": "kube-bind.io/v1alpha2", "message": "Authentication required",
            "code": "AUTHENTICATION_FAILED", "details": "No valid session found"})
    );
    let other = call(&set.router, Method::GET, "/api/templates?cluster_id=b", &auth, "").await;
    assert_eq!(other.status, StatusCode::FORBIDDEN, "a token is for the cluster of its login");
    assert_eq!(call(&set.router, Method::GET, "/api/healthz", &[], "").await.body, "");
    assert_eq!(call(&set.router, Method::GET, "/healthz", &[], "").await.body, "ok");
    let manifests = call(&set.router, Method::GET, "/api/konnector-manifests", &[], "").await;
    assert_eq!(manifests.headers["content-disposition"], "attachment; filename=konnector.yaml");
    assert!(manifests.body.matches("kind: ").count() >= 7, "{}", manifests.body);
    let out = call(&set.router, Method::POST, "/api/logout", &auth, "").await;
    assert_eq!(out.body, "logged out");
}

#[tokio::test]
async fn the_bind_of_a_go_command_line() {
    let set = set().await;
    let bearer = format!("Bearer {}", wire_token(&set, "alice").await);
    let auth = [("authorization", bearer.as_str())];
    let bind = |body: &'static str| {
        let (router, bearer) = (set.router.clone(), bearer.clone());
        async move { call(&router, Method::POST, "/api/bind", &[("authorization", &bearer)], body).await }
    };
    let missing =
        bind(r#"{"metadata":{"name":"x"},"spec":{"templateRef":{"name":"nope"},"clusterIdentity":{"identity":"a"}}}"#)
            .await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    assert_eq!(
        missing.json(),
        json!({"kind": "Error", "apiVersion": "kube-bind.io/v1alpha2", "message": "Failed to retrieve template",
            "code": "RESOURCE_NOT_FOUND", "details": "APIServiceExportTemplate.kube-bind.io \"nope\" not found"})
    );
    let nonsense = bind("nonsense").await;
    assert_eq!((nonsense.status, nonsense.json()["code"].clone()), (StatusCode::BAD_REQUEST, json!("BAD_REQUEST")));
    assert_eq!(nonsense.json()["message"], "Invalid JSON request body");
    assert_eq!(bind(r#"{"spec":{"templateRef":{"name":"widget"}}}"#).await.status, StatusCode::BAD_REQUEST);
    let large = "x".repeat(2 << 20);
    let large = call(&set.router, Method::POST, "/api/bind", &auth, &large).await;
    assert_eq!((large.status, large.json()["code"].clone()), (StatusCode::PAYLOAD_TOO_LARGE, json!("BAD_REQUEST")));
    assert!(set.api.writes().is_empty(), "refusals write nothing: {:?}", set.api.writes());

    let body = r#"{"metadata":{"name":"widget"},"spec":{"templateRef":{"name":"widget"},"clusterIdentity":{"identity":"d0a4de11"},"author":""},"status":{}}"#;
    let dry = call(&set.router, Method::POST, "/api/bind?dry_run=true", &auth, body).await.json();
    assert_eq!(dry["kubeconfig"], "");
    assert_eq!(dry["requests"][0]["spec"]["permissionClaims"][0]["state"], "Pending");
    assert!(set.api.writes().is_empty(), "a dry run writes nothing");

    let answer = bind(body).await.json();
    assert_eq!(answer["kind"], "BindingResponse");
    assert_eq!(answer["authentication"]["oauth2CodeGrant"]["sid"], "S1");
    assert_eq!(answer["authentication"]["oauth2CodeGrant"]["id"], format!("{}/alice", set.issuer.url));
    let request = &answer["requests"][0];
    assert_eq!(request["metadata"], json!({"name": "widget"}));
    assert_eq!(request["apiVersion"], "kube-bind.io/v1alpha2");
    assert_eq!(
        request["spec"]["resources"],
        json!([{"group": "widgets.example", "resource": "widgets", "versions": ["v1alpha1"]}])
    );
    let namespace = answer["providerNamespace"].as_str().unwrap();
    assert!(namespace.starts_with("cluster-"));
    let text = base64::engine::general_purpose::STANDARD.decode(answer["kubeconfig"].as_str().unwrap()).unwrap();
    let kubeconfig: Value = serde_saphyr::from_str(std::str::from_utf8(&text).unwrap()).unwrap();
    assert_eq!(kubeconfig["contexts"][0]["context"]["namespace"], namespace);
    let status = call(&set.router, Method::GET, "/api/consumer-status?consumer_id=d0a4de11", &auth, "").await.json();
    assert_eq!((&status["connected"], &status["namespace"]), (&json!(true), &json!(namespace)));
}

#[tokio::test]
async fn the_browser_flow_of_a_go_command_line() {
    let set = set().await;
    let mut browser = Browser::default();
    let url = bind_url("/", "uid-1", "");
    browser.log_in(&set, &url, "alice").await;
    let page = browser.get(&set.router, &url).await.body;
    let form = format!("token={}", encode(&field(&page, "token")));
    let done = browser.send(&set.router, Method::POST, &action(&page), &[], &form).await.location();
    let answer: Value = serde_json::from_slice(&URL_SAFE.decode(param(&done, "binding_response")).unwrap()).unwrap();
    assert_eq!(answer["kind"], "BindingResponse");
    assert_eq!(answer["authentication"]["oauth2CodeGrant"]["sid"], "S1");
}

/// Takes what differs from run to run out of a page.
fn masked(page: &str) -> String {
    let token =
        page.split("name=\"token\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or("-none-");
    page.replace(token, "<token>")
}

#[tokio::test]
async fn the_pages() {
    let set = set().await;
    let mut browser = Browser::default();
    let url = bind_url("/kubernetes", "uid-1", "");
    browser.log_in(&set, &url, "alice").await;
    let bind = browser.get(&set.router, &url).await;
    insta::assert_snapshot!("bind", masked(&bind.body));
    let visit = browser.get(&set.router, "/kubernetes").await;
    assert!(visit.body.contains("kubectl bind http://127.0.0.1:18070/kubernetes"), "{}", visit.body);
    set.api.add_offering();
    let chooser = browser.get(&set.router, &url).await;
    insta::assert_snapshot!("chooser", masked(&chooser.body));
    let only = browser.get(&set.router, &bind_url("/exports/things.b.io", "uid-1", "")).await;
    assert!(only.body.contains("Bind our Kubernetes API in no time"), "a named offering skips the chooser");
    let lost = browser.get(&set.router, "/nothing").await;
    assert_eq!(lost.status, StatusCode::NOT_FOUND);
    insta::assert_snapshot!("not-found", lost.body);
    for page in [&bind, &chooser, &lost] {
        assert!(!page.body.contains("<script") && !page.body.contains("style="), "no scripts, no inline styles");
        assert!(page.headers["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
        assert_eq!(page.headers["x-frame-options"], "DENY");
    }
    let style = browser.get(&set.router, "/assets/style.css").await;
    assert!(style.headers["content-type"].to_str().unwrap().starts_with("text/css"));
    assert!(!style.body.contains("url(") && !style.body.contains("@import"));
}

/// Binds from cluster `identity` with a token, as our command line does with a named offering: contract and credential.
async fn bound(set: &common::Set, bearer: &str, identity: &str) -> (String, String) {
    let body = json!({"metadata": {"name": "widget"}, "spec": {"templateRef": {"name": "widget"}, "clusterIdentity": {"identity": identity}}});
    let auth = [("authorization", bearer)];
    let answer = call(&set.router, Method::POST, "/api/bind", &auth, &body.to_string()).await.json();
    let text = base64::engine::general_purpose::STANDARD.decode(answer["kubeconfig"].as_str().unwrap()).unwrap();
    let kubeconfig: Value = serde_saphyr::from_str(std::str::from_utf8(&text).unwrap()).unwrap();
    let token = kubeconfig["users"][0]["user"]["token"].as_str().unwrap().to_owned();
    (answer["providerNamespace"].as_str().unwrap().to_owned(), token)
}

#[tokio::test]
async fn a_contract_that_came_to_nothing_is_given_back_by_its_own_credential_only() {
    let set = set().await;
    let bearer = format!("Bearer {}", wire_token(&set, "alice").await);
    let release = async |namespace: &str, token: &str| {
        let auth = format!("Bearer {token}");
        let body = json!({"namespace": namespace}).to_string();
        call(&set.router, Method::POST, "/api/release", &[("authorization", &auth)], &body).await
    };
    let connected = async |identity: &str| {
        let path = format!("/api/consumer-status?consumer_id={identity}");
        call(&set.router, Method::GET, &path, &[("authorization", &bearer)], "").await.json()["connected"] == true
    };
    let (namespace, token) = bound(&set, &bearer, "uid-1").await;
    let before = set.api.writes().len();
    for (namespace, token) in [
        (namespace.as_str(), "guessed"),
        (&namespace, ""),
        // A login is not the contract's credential.
        (&namespace, bearer.trim_start_matches("Bearer ")),
        ("kube-bind", &token),
        ("kube-system", &token),
        ("../namespaces/x", &token),
        ("", &token),
    ] {
        let refused = release(namespace, token).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{namespace}");
    }
    assert_eq!(set.api.writes().len(), before, "refusals write nothing");
    assert!(connected("uid-1").await);
    let done = release(&namespace, &token).await;
    assert_eq!((done.status, done.json()), (StatusCode::OK, json!({"released": true})));
    assert!(!connected("uid-1").await);

    // One that was handed out again may be in somebody's file.
    let (again, token) = bound(&set, &bearer, "uid-2").await;
    assert_eq!(bound(&set, &bearer, "uid-2").await.0, again);
    assert_eq!(release(&again, &token).await.json(), json!({"released": false}));
    assert!(connected("uid-2").await);
}
