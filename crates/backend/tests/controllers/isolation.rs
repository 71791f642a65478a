//! What keeps consumers apart, isolation by isolation.

use contract::rbac;
use kube_bind_api::{APIServiceExport, APIServiceExportRequest, BoundSchema, Isolation};
use kube_client::{ListQuery, ObjectKey};
use serde_json::json;

use crate::provider::{Consumer, Provider, apply, eventually, of, resource};

/// Whether other tests are consumers of the same API server; says that the test is skipped then.
pub fn is_shared() -> bool {
    let shared = std::env::var_os("KUBE_BIND_TEST_KUBECONFIG").is_some();
    if shared {
        println!("skipped: other tests are consumers of the same API server");
    }
    shared
}

/// Waits until what was refused is granted.
async fn granted(consumer: &Consumer, provider: &Provider, what: &str) {
    let key = ObjectKey::new(&consumer.namespace, &provider.name());
    eventually(what, || async {
        let live = consumer.api.get(&of::<APIServiceExportRequest>(), &key).await.unwrap();
        (live["status"]["phase"] == "Succeeded").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unfenced_isolation_is_for_one_consumer() {
    if is_shared() {
        return;
    }
    let provider = Provider::start(Isolation::None).await;
    let alice = provider.contract("alice", "uid-a").await;
    alice.request(&provider, &provider.kind().resource).await;
    assert_eq!(alice.phase(&provider).await["phase"], "Succeeded");
    let bob = provider.contract("bob", "uid-b").await;
    bob.request(&provider, &provider.kind().resource).await;
    let refused = bob.phase(&provider).await;
    assert!(refused["terminalMessage"].as_str().unwrap().contains("used by another consumer"), "{refused}");
    provider.template(&json!({"sharedClusterScope": true})).await;
    granted(&bob, &provider, "shared on purpose").await;
}

/// Who was refused because of another consumer gets the kind when that one has gone.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_gives_back_is_granted() {
    if is_shared() {
        return;
    }
    let provider = Provider::start(Isolation::None).await;
    let (alice, bob) = (provider.contract("alice", "uid-a").await, provider.contract("bob", "uid-b").await);
    alice.request(&provider, &provider.kind().resource).await;
    assert_eq!(alice.phase(&provider).await["phase"], "Succeeded");
    bob.request(&provider, &provider.kind().resource).await;
    assert_eq!(bob.phase(&provider).await["phase"], "Failed");
    let key = ObjectKey::new(&alice.namespace, &provider.name());
    let export = provider.admin.get(&of::<APIServiceExport>(), &key).await.unwrap();
    provider.admin.delete(&of::<APIServiceExport>(), &key, export["metadata"]["uid"].as_str().unwrap()).await.unwrap();
    granted(&bob, &provider, "granted after all").await;
}

/// Whether a kind is taken is decided by one request at a time, whatever the caches of the backend know by then.
#[tokio::test(flavor = "multi_thread")]
async fn of_requests_at_the_same_moment_one_is_granted() {
    if is_shared() {
        return;
    }
    let provider = Provider::start(Isolation::None).await;
    let mut consumers = Vec::new();
    for number in 0..4 {
        consumers.push(provider.contract(&format!("consumer{number}"), &format!("uid-{number}")).await);
    }
    let plural = provider.kind().resource;
    futures::future::join_all(consumers.iter().map(|consumer| consumer.request(&provider, &plural))).await;
    let mut granted = Vec::new();
    for consumer in &consumers {
        let status = consumer.phase(&provider).await;
        match status["phase"] == "Succeeded" {
            true => granted.push(consumer),
            false => {
                assert!(status["terminalMessage"].as_str().unwrap().contains("used by another consumer"), "{status}")
            }
        }
    }
    let exports = provider.admin.list(&of::<APIServiceExport>(), &ListQuery::default()).await.unwrap();
    assert_eq!((granted.len(), exports.len()), (1, 1));
}

/// A contract has a kind once, under one name.
#[tokio::test(flavor = "multi_thread")]
async fn of_names_at_the_same_moment_one_is_granted() {
    let provider = Provider::start(Isolation::Prefixed).await;
    let alice = provider.contract("alice", "uid-a").await;
    let names = ["one", "two", "three", "four"];
    futures::future::join_all(names.iter().map(|name| alice.request_as(&provider, name))).await;
    let mut granted = 0;
    for name in names {
        let key = ObjectKey::new(&alice.namespace, name);
        let status = eventually(&format!("{name} is answered"), || async {
            let live = alice.api.get(&of::<APIServiceExportRequest>(), &key).await.unwrap();
            matches!(live["status"]["phase"].as_str(), Some("Succeeded" | "Failed")).then(|| live["status"].clone())
        })
        .await;
        match status["phase"] == "Succeeded" {
            true => granted += 1,
            false => assert!(status["terminalMessage"].as_str().unwrap().contains("bind it once"), "{status}"),
        }
    }
    let exports = alice.api.list(&of::<APIServiceExport>(), &ListQuery::namespace(&alice.namespace)).await.unwrap();
    assert_eq!((granted, exports.len()), (1, 1));
}

/// Isolation `Namespaced`: cluster-scoped for the consumer, in the contract namespace at the provider.
#[tokio::test(flavor = "multi_thread")]
async fn cluster_scoped_for_the_consumer_only() {
    let provider = Provider::start(Isolation::Namespaced).await;
    let (alice, bob) = (provider.contract("alice", "uid-a").await, provider.contract("bob", "uid-b").await);
    for consumer in [&alice, &bob] {
        consumer.request(&provider, "widgets").await;
        assert_eq!(consumer.phase(&provider).await["phase"], "Succeeded");
        eventually("rights in the contract namespace", || async {
            (consumer.list_code(&provider.widgets(), Some(&consumer.namespace)).await == 200).then_some(())
        })
        .await;
    }
    let schema = ObjectKey::new(&alice.namespace, &provider.kind().crd_name());
    assert_eq!(alice.api.get(&of::<BoundSchema>(), &schema).await.unwrap()["spec"]["scope"], "Cluster");
    assert_eq!(alice.list_code(&provider.widgets(), Some(&bob.namespace)).await, 403);
}

/// Isolation `Prefixed` of a cluster-scoped kind: for one consumer, until the provider shares it on purpose, and with the
/// rights that it gives for that.
#[tokio::test(flavor = "multi_thread")]
async fn cluster_scoped_on_both_sides_is_shared_on_purpose() {
    let provider = Provider::start_with(Isolation::Prefixed, "Cluster").await;
    let alice = provider.contract("alice", "uid-a").await;
    alice.request(&provider, "widgets").await;
    assert_eq!(alice.phase(&provider).await["phase"], "Succeeded");
    let key = ObjectKey::new(&alice.namespace, &provider.name());
    let condition = || async {
        let live = alice.api.get(&of::<APIServiceExport>(), &key).await.unwrap();
        let list = live["status"]["conditions"].as_array()?.clone();
        list.into_iter().find(|c| c["type"] == "ProviderInSync")
    };
    let missing = eventually("missing rights are told", condition).await;
    assert_eq!((&missing["status"], &missing["reason"]), (&json!("False"), &json!("RightsMissing")), "{missing}");
    let roles = resource(rbac::RBAC_GROUP, "clusterroles", "ClusterRole");
    apply(&provider.admin, &roles, "", &rbac::backend::shared(&provider.kind())).await;
    let us = rbac::service_account("kube-bind", "backend");
    let (role, binding) = rbac::backend::keeper(&provider.kind(), vec![us]);
    apply(&provider.admin, &roles, "", &role).await;
    let bindings = resource(rbac::RBAC_GROUP, "clusterrolebindings", "ClusterRoleBinding");
    apply(&provider.admin, &bindings, "", &binding).await;
    eventually("rights on the kind", || async {
        (alice.list_code(&provider.widgets(), None).await == 200).then_some(())
    })
    .await;
    let bob = provider.contract("bob", "uid-b").await;
    bob.request(&provider, "widgets").await;
    assert!(bob.phase(&provider).await["terminalMessage"].as_str().unwrap().contains("used by another consumer"));
    assert_eq!(bob.list_code(&provider.widgets(), None).await, 403);
    provider.template(&json!({"sharedClusterScope": true})).await;
    eventually("shared on purpose", || async { (bob.list_code(&provider.widgets(), None).await == 200).then_some(()) })
        .await;
    assert_eq!(alice.list_code(&provider.widgets(), None).await, 200);
}
