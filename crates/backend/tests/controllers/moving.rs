//! A contract that moves to another cluster, when something breaks off in between: the next try finishes it, and nobody keeps
//! an old credential.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use backend::contracts::{self, Claim, Contract, ContractError};
use contract::rbac;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use kube::client::Body;
use kube_bind_api::{ClusterBinding, Isolation};
use kube_client::{Api, ObjectKey, Subresource, connect};
use serde_json::{Value, json};

use crate::isolation::is_shared;
use crate::provider::{MANAGER, Provider, eventually, of, resource};

type Hook = Arc<dyn Fn() -> BoxFuture<'static, Option<Response<Body>>> + Send + Sync>;

/// The backend's connection, on which something happens before the first request of that method to that path; if it is an
/// answer, the API server never sees the request.
async fn hooked(provider: &Provider, method: Method, path: &str, hook: Hook) -> Api {
    let client = connect::from_kubeconfig(&provider.backend, None).await.unwrap().client;
    let (path, due) = (path.to_owned(), Arc::new(AtomicBool::new(true)));
    let service = tower::service_fn(move |request: Request<Body>| {
        let meant = *request.method() == method && request.uri().path() == path;
        let (client, hook) = (client.clone(), hook.clone());
        let due = meant && due.swap(false, Ordering::SeqCst);
        async move {
            if due && let Some(answer) = hook().await {
                return Ok(answer);
            }
            client.send(request).await
        }
    });
    Api::new(kube::Client::new(service, "default"), "provider")
}

/// The same, with a failure.
async fn failing(provider: &Provider, method: Method, path: &str) -> Api {
    let failure = || {
        let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 500,
            "reason": "InternalError", "message": "somebody pulled the plug"});
        let answer = Response::builder().status(500).header("content-type", "application/json");
        let answer = answer.body(Body::from(body.to_string().into_bytes())).unwrap();
        async move { Some(answer) }.boxed()
    };
    hooked(provider, method, path, Arc::new(failure)).await
}

async fn log_in(provider: &Provider, api: &Api, subject: &str, cluster: &str) -> Result<Contract, ContractError> {
    contracts::ensure(api, &provider.issuing, &provider.person(subject), cluster, "").await
}

async fn move_to(
    provider: &Provider,
    api: &Api,
    subject: &str,
    namespace: &str,
    cluster: &str,
) -> Result<(), ContractError> {
    contracts::move_here(api, &provider.issuing, &provider.person(subject), namespace, cluster).await
}

/// Pin and identity.
async fn owners(provider: &Provider, namespace: &str) -> (Value, Value) {
    let key = ObjectKey::new(namespace, "cluster");
    let binding = provider.admin.get(&of::<ClusterBinding>(), &key).await.unwrap();
    let kind = resource("", "namespaces", "Namespace");
    let namespace = provider.admin.get(&kind, &ObjectKey::cluster(namespace)).await.unwrap();
    let identity = namespace["metadata"]["annotations"]["backend.kube-bind.io/identity"].clone();
    (binding["spec"]["consumerClusterUID"].clone(), identity)
}

/// What a move writes, step by step: method, and the path of what is written after that of the contract's namespace.
const STEPS: [(Method, &str, &str); 5] = [
    (Method::PATCH, "/apis/kube-bind.io/v1alpha2", "/clusterbindings/cluster"),
    (Method::DELETE, "/api/v1", "/secrets/kube-binder"),
    (Method::POST, "/api/v1", "/secrets"),
    (Method::PATCH, "/api/v1", "/secrets/kubeconfig"),
    (Method::PATCH, "/api/v1", ""),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_breaks_off_anywhere_is_finished_by_the_next_try() {
    let provider = Provider::start(Isolation::Prefixed).await;
    let api = provider.backend().await;
    for (number, (method, start, end)) in STEPS.into_iter().enumerate() {
        let what = format!("{method} {end}");
        let alice = format!("alice{number}");
        let old = log_in(&provider, &api, &alice, "uid-1").await.unwrap();
        let namespace = &old.namespace;
        let broken = failing(&provider, method, &format!("{start}/namespaces/{namespace}{end}")).await;
        let error = move_to(&provider, &broken, &alice, namespace, "uid-2").await.unwrap_err();
        assert!(error.to_string().contains("pulled the plug"), "{what}: {error}");
        move_to(&provider, &api, &alice, namespace, "uid-2").await.unwrap();
        let new = log_in(&provider, &api, &alice, "uid-2").await.unwrap();
        assert_eq!(&new.namespace, namespace, "{what}");
        assert!(new.kubeconfig != old.kubeconfig, "{what}: the old credential is still good");
        assert_eq!(owners(&provider, namespace).await, (json!("uid-2"), json!("uid-2")), "{what}");
        // Twice is once.
        move_to(&provider, &api, &alice, namespace, "uid-2").await.unwrap();
        assert!(log_in(&provider, &api, &alice, "uid-2").await.unwrap().kubeconfig == new.kubeconfig, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_that_has_half_moved_can_be_taken_back() {
    let provider = Provider::start(Isolation::Prefixed).await;
    let api = provider.backend().await;
    let old = log_in(&provider, &api, "alice", "uid-1").await.unwrap();
    let namespace = &old.namespace;
    let broken =
        failing(&provider, Method::DELETE, &format!("/api/v1/namespaces/{namespace}/secrets/kube-binder")).await;
    assert!(move_to(&provider, &broken, "alice", namespace, "uid-2").await.is_err());
    // It is nobody's by now: who logs in on the old cluster is told, and asked.
    let refused = log_in(&provider, &api, "alice", "uid-1").await.err().unwrap();
    assert!(matches!(&refused, ContractError::Elsewhere(text) if text.contains("uid-2")), "{refused}");
    let now = jiff::Timestamp::now();
    let held = contracts::held(&api, &provider.person("alice"), namespace, "uid-1", now).await.unwrap();
    assert!(matches!(&held, Claim::Elsewhere { question } if question.contains("uid-2")), "{held:?}");
    move_to(&provider, &api, "alice", namespace, "uid-1").await.unwrap();
    let new = log_in(&provider, &api, "alice", "uid-1").await.unwrap();
    assert!(new.namespace == old.namespace && new.kubeconfig != old.kubeconfig);
    assert_eq!(owners(&provider, namespace).await, (json!("uid-1"), json!("uid-1")));
    let held = contracts::held(&api, &provider.person("alice"), namespace, "uid-1", now).await.unwrap();
    assert_eq!(held, Claim::Here);
}

/// The old cluster's login has found the contract before it moves, and reads the token after.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_of_the_old_cluster_during_the_move_does_not_get_the_new_credential() {
    let provider = Arc::new(Provider::start(Isolation::Prefixed).await);
    let api = provider.backend().await;
    let old = log_in(&provider, &api, "alice", "uid-1").await.unwrap();
    let moves = {
        let (provider, api, namespace) = (provider.clone(), api.clone(), old.namespace.clone());
        move || {
            let (provider, api, namespace) = (provider.clone(), api.clone(), namespace.clone());
            async move {
                move_to(&provider, &api, "alice", &namespace, "uid-2").await.unwrap();
                None
            }
            .boxed()
        }
    };
    let path = format!("/api/v1/namespaces/{}/secrets/kube-binder", old.namespace);
    let meanwhile = hooked(&provider, Method::GET, &path, Arc::new(moves)).await;
    let refused = log_in(&provider, &meanwhile, "alice", "uid-1").await.err().expect("it got the new credential");
    assert!(matches!(refused, ContractError::Elsewhere(_)), "{refused}");
    assert_eq!(owners(&provider, &old.namespace).await, (json!("uid-2"), json!("uid-2")));
}

/// The provider approves a hand-over while its backend may not write namespaces: pin and identity follow each other.
#[tokio::test(flavor = "multi_thread")]
async fn a_hand_over_that_breaks_off_is_finished() {
    if is_shared() {
        return;
    }
    let provider = Provider::start(Isolation::Prefixed).await;
    let alice = provider.contract("alice", "uid-a").await;
    let kind = of::<ClusterBinding>();
    let key = ObjectKey::new(&alice.namespace, "cluster");
    let beat = json!({"status": {"lastHeartbeatTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "heartbeatInterval": "5m0s", "konnectorVersion": "v0.1.0", "consumerClusterUID": "uid-b"}});
    alice.api.merge_patch(&kind, &key, Subresource::Status, &beat, MANAGER).await.unwrap();
    let roles = resource(rbac::RBAC_GROUP, "clusterroles", "ClusterRole");
    let base = ObjectKey::cluster(rbac::backend::BASE);
    let whole = provider.admin.get(&roles, &base).await.unwrap()["rules"].clone();
    let mut less = whole.clone();
    for rule in less.as_array_mut().unwrap().iter_mut().filter(|rule| rule["resources"] == json!(["namespaces"])) {
        rule["verbs"].as_array_mut().unwrap().retain(|verb| verb != "patch");
    }
    assert_ne!(less, whole);
    let rules = async |rules: &Value| {
        let patch = json!([{"op": "replace", "path": "/rules", "value": rules}]);
        provider.admin.json_patch(&roles, &base, Subresource::Main, &patch, MANAGER).await.unwrap();
    };
    rules(&less).await;
    let approve = json!({"spec": {"approvedClusterUID": "uid-b"}});
    provider.admin.merge_patch(&kind, &key, Subresource::Main, &approve, MANAGER).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    rules(&whole).await;
    eventually("it has moved as a whole", || async {
        (owners(&provider, &alice.namespace).await == (json!("uid-b"), json!("uid-b"))).then_some(())
    })
    .await;
}
