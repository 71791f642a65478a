//! From a request to its end: grants, refusals that go away, claims, unbind, revocation, hand-over.

use std::time::Duration;

use contract::rbac;
use kube_bind_api::{APIServiceExport, APIServiceExportRequest, BoundSchema, ClusterBinding, Isolation};
use kube_client::{ListQuery, ObjectKey, Subresource};
use serde_json::{Value, json};

use crate::provider::{MANAGER, Provider, apply, eventually, of, resource, secrets};

#[tokio::test(flavor = "multi_thread")]
async fn from_request_to_claimed_objects() {
    let provider = Provider::start(Isolation::Prefixed).await;
    let alice = provider.contract("alice", "uid-a").await;
    let mapped = alice.bound(&provider).await;
    assert_eq!(mapped, format!("{}-default", alice.namespace));

    let schema = ObjectKey::new(&alice.namespace, &provider.kind().crd_name());
    eventually("schema owned by the export", || async {
        let live = alice.api.get(&of::<BoundSchema>(), &schema).await.unwrap();
        (live["metadata"]["ownerReferences"][0]["kind"] == "APIServiceExport").then_some(())
    })
    .await;
    let export = ObjectKey::new(&alice.namespace, &provider.name());
    eventually("export in sync", || async {
        let live = alice.api.get(&of::<APIServiceExport>(), &export).await.unwrap();
        let list = live["status"]["conditions"].as_array()?.clone();
        list.into_iter().find(|c| c["type"] == "ProviderInSync" && c["status"] == "True")
    })
    .await;

    // The consumer's copy names a Secret: listed before it exists, granted when it does.
    let widget = json!({"metadata": {"name": "prod"}, "spec": {"tokenSecret": "token"}});
    let prod = apply(&alice.api, &provider.widgets(), &mapped, &widget).await;
    alice.entry("token", |entry| entry["uid"].is_null() && entry["owner"] == "Provider").await;
    alice.entry("prod", |entry| entry["resource"] == "services").await;
    assert_eq!(
        alice.code(&secrets(), &ObjectKey::new(&mapped, "token")).await,
        403,
        "it may come as the operator's own"
    );
    assert_eq!(alice.code(&secrets(), &ObjectKey::new(&mapped, "other")).await, 403);
    assert_eq!(alice.list_code(&secrets(), Some(&mapped)).await, 403, "no list of Secrets in a mapped namespace");
    assert_eq!(alice.list_code(&provider.widgets(), None).await, 403);
    assert_eq!(alice.list_code(&resource("", "namespaces", "Namespace"), None).await, 403);

    // The operator makes it.
    let made = json!({
        "metadata": {"name": "token", "namespace": mapped, "ownerReferences": [{"apiVersion": provider.widgets().api_version(),
            "kind": "Widget", "name": "prod", "uid": prod["metadata"]["uid"]}]},
        "stringData": {"token": "s3cret"},
    });
    let made = apply(&provider.admin, &secrets(), &mapped, &made).await;
    let uid = made["metadata"]["uid"].clone();
    alice.entry("token", |entry| entry["uid"] == uid && entry["deleted"].is_null()).await;
    assert_eq!(alice.code(&secrets(), &ObjectKey::new(&mapped, "token")).await, 200);

    // What the operator keeps for itself is fetched by no name.
    let own = json!({"metadata": {"name": "root-password"}, "stringData": {"password": "p"}});
    apply(&provider.admin, &secrets(), &mapped, &own).await;
    let thief = json!({"metadata": {"name": "thief"}, "spec": {"tokenSecret": "root-password"}});
    apply(&alice.api, &provider.widgets(), &mapped, &thief).await;
    eventually("the refusal is visible", || async {
        let mapping = alice.mapping("default").await;
        let list = mapping["status"]["conditions"].as_array()?.clone();
        list.into_iter().find(|c| {
            c["type"] == "ClaimsResolved" && c["message"].as_str().unwrap_or_default().contains("root-password")
        })
    })
    .await;
    assert_eq!(alice.code(&secrets(), &ObjectKey::new(&mapped, "root-password")).await, 403);

    // Evidence of its deletion.
    provider.admin.delete(&secrets(), &ObjectKey::new(&mapped, "token"), uid.as_str().unwrap()).await.unwrap();
    alice.entry("token", |entry| entry["uid"] == uid && entry["deleted"] == true).await;

    // A second consumer reaches nothing of it.
    let bob = provider.contract("bob", "uid-a").await;
    assert_ne!(bob.namespace, alice.namespace);
    let bobs = bob.bound(&provider).await;
    for namespace in [&alice.namespace, &mapped] {
        assert_eq!(bob.list_code(&provider.widgets(), Some(namespace)).await, 403);
        assert_eq!(bob.list_code(&secrets(), Some(namespace)).await, 403);
        assert_eq!(bob.code(&secrets(), &ObjectKey::new(namespace, "token")).await, 403);
        assert_eq!(bob.list_code(&of::<APIServiceExport>(), Some(namespace)).await, 403);
    }
    assert_eq!(bob.list_code(&provider.widgets(), Some(&bobs)).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_cannot_be_granted_say_why_and_recover() {
    let provider = Provider::start(Isolation::Prefixed).await;
    let alice = provider.contract("alice", "uid-a").await;
    alice.request(&provider, "gadgets").await;
    let refused = alice.phase(&provider).await;
    assert_eq!(refused["phase"], "Failed");
    assert!(refused["terminalMessage"].as_str().unwrap().contains("does not offer gadgets."), "{refused}");
    assert_eq!(refused["conditions"][1]["reason"], "SchemaNotFound");

    // The label goes: not offered to others, what is bound stays; it comes back: the request is granted.
    let bob = provider.contract("bob", "uid-b").await;
    let crds = resource("apiextensions.k8s.io", "customresourcedefinitions", "CustomResourceDefinition");
    let crd = ObjectKey::cluster(&provider.kind().crd_name());
    let label = |value: Value| json!({"metadata": {"labels": {"kube-bind.io/exported": value}}});
    provider.admin.merge_patch(&crds, &crd, Subresource::Main, &label(Value::Null), MANAGER).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    bob.request(&provider, &provider.kind().resource).await;
    let refused = bob.phase(&provider).await;
    assert!(refused["terminalMessage"].as_str().unwrap().contains("kubectl bind provider offer"), "{refused}");
    provider.admin.merge_patch(&crds, &crd, Subresource::Main, &label(json!("true")), MANAGER).await.unwrap();
    let key = ObjectKey::new(&bob.namespace, &provider.name());
    eventually("granted after all", || async {
        let live = bob.api.get(&of::<APIServiceExportRequest>(), &key).await.unwrap();
        (live["status"]["phase"] == "Succeeded").then_some(())
    })
    .await;

    // A namespace that is somebody else's is not taken over.
    let taken = format!("{}-taken", bob.namespace);
    apply(&provider.admin, &resource("", "namespaces", "Namespace"), "", &json!({"metadata": {"name": taken}})).await;
    bob.map("taken").await;
    let mapping = eventually("refused", || async {
        let mapping = bob.mapping("taken").await;
        mapping["status"]["conditions"].is_array().then_some(mapping)
    })
    .await;
    assert_eq!(mapping["status"]["conditions"][0]["reason"], "ForeignNamespace");
    assert!(mapping["status"]["namespace"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_follow_the_template_and_rights_follow_consent() {
    let provider = Provider::start(Isolation::Prefixed).await;
    let alice = provider.contract("alice", "uid-a").await;
    let mapped = alice.bound(&provider).await;
    let widget = json!({"metadata": {"name": "prod"}, "spec": {"tokenSecret": "token"}});
    apply(&alice.api, &provider.widgets(), &mapped, &widget).await;
    let labels = json!({"kube-bind.io/owner": "provider"});
    let token = json!({"metadata": {"name": "token", "labels": labels}, "stringData": {"token": "s3cret"}});
    apply(&provider.admin, &secrets(), &mapped, &token).await;
    alice.entry("token", |entry| entry["uid"].is_string()).await;
    assert_eq!(alice.code(&secrets(), &ObjectKey::new(&mapped, "token")).await, 200);
    // The provider asks for more: the new claim is nobody's consent.
    let wider = json!({"permissionClaims": [{"resource": "secrets", "owner": "Provider", "verbs": ["create"],
        "selector": {"namedResources": [{"name": "more"}],
            "references": [{"group": provider.kind().group, "resource": "widgets", "jsonPath": {"name": ".spec.tokenSecret"}}]}}]});
    provider.template(&wider).await;
    let key = ObjectKey::new(&alice.namespace, &provider.name());
    eventually("claims follow", || async {
        let live = alice.api.get(&of::<APIServiceExport>(), &key).await.unwrap();
        (live["spec"]["permissionClaims"].as_array()?.len() == 1).then_some(())
    })
    .await;
    let more = json!({"metadata": {"name": "more", "labels": labels}, "stringData": {"more": "s3cret"}});
    apply(&provider.admin, &secrets(), &mapped, &more).await;
    tokio::time::sleep(Duration::from_millis(1000)).await;
    assert_eq!(alice.code(&secrets(), &ObjectKey::new(&mapped, "more")).await, 403, "nobody has consented");
    // What was granted leaves with its object: the agent has to clean up.
    assert_eq!(alice.code(&secrets(), &ObjectKey::new(&mapped, "token")).await, 200);
    alice.accept(&provider).await;
    alice.entry("more", |entry| entry["uid"].is_string()).await;
    assert_eq!(alice.code(&secrets(), &ObjectKey::new(&mapped, "more")).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_unbind_ends_the_contract_and_destroys_no_object() {
    let provider = Provider::start(Isolation::Prefixed).await;
    let alice = provider.contract("alice", "uid-a").await;
    let mapped = alice.bound(&provider).await;
    let empty = alice.mapped("empty").await;
    apply(&alice.api, &provider.widgets(), &mapped, &json!({"metadata": {"name": "kept"}, "spec": {}})).await;
    let export = ObjectKey::new(&alice.namespace, &provider.name());
    let live = alice.api.get(&of::<APIServiceExport>(), &export).await.unwrap();
    let uid = live["metadata"]["uid"].as_str().unwrap();
    alice.api.delete(&of::<APIServiceExport>(), &export, uid).await.unwrap();
    let namespaces = resource("", "namespaces", "Namespace");
    let going = |name: String| {
        let (admin, namespaces) = (provider.admin.clone(), namespaces.clone());
        async move {
            let live = admin.get_opt(&namespaces, &ObjectKey::cluster(&name)).await.unwrap();
            live.is_none_or(|live| live["metadata"]["deletionTimestamp"].is_string()).then_some(())
        }
    };
    eventually("the contract goes", || going(alice.namespace.clone())).await;
    eventually("the empty namespace goes", || going(empty.clone())).await;
    assert!(going(mapped.clone()).await.is_none(), "objects are left in it");
    assert!(provider.admin.get_opt(&provider.widgets(), &ObjectKey::new(&mapped, "kept")).await.unwrap().is_some());
    eventually("rights are withdrawn", || async {
        let roles = resource(rbac::RBAC_GROUP, "roles", "Role");
        provider.admin.list(&roles, &ListQuery::namespace(&mapped)).await.unwrap().is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_one_consumer_ends_its_credential_only() {
    let provider = Provider::start(Isolation::Prefixed).await;
    let (alice, bob) = (provider.contract("alice", "uid-a").await, provider.contract("bob", "uid-b").await);
    let key = ObjectKey::new(&alice.namespace, "cluster");
    let patch =
        json!({"metadata": {"annotations": {kube_bind_api::constants::ANNOTATION_REVOKED: "2026-01-01T00:00:00Z"}}});
    provider.admin.merge_patch(&of::<ClusterBinding>(), &key, Subresource::Main, &patch, MANAGER).await.unwrap();
    eventually("the credential stops", || async {
        (alice.list_code(&of::<APIServiceExport>(), Some(&alice.namespace)).await == 401).then_some(())
    })
    .await;
    assert_eq!(bob.list_code(&of::<APIServiceExport>(), Some(&bob.namespace)).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_approves_a_hand_over() {
    let provider = Provider::start(Isolation::Prefixed).await;
    let alice = provider.contract("alice", "uid-a").await;
    let kind = of::<ClusterBinding>();
    let key = ObjectKey::new(&alice.namespace, "cluster");
    let beat = |uid: &str| {
        json!({"status": {"lastHeartbeatTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "heartbeatInterval": "5m0s", "konnectorVersion": "v0.1.0", "consumerClusterUID": uid}})
    };
    alice.api.merge_patch(&kind, &key, Subresource::Status, &beat("uid-b"), MANAGER).await.unwrap();
    eventually("healthy", || async {
        let live = alice.api.get(&kind, &key).await.unwrap();
        let list = live["status"]["conditions"].as_array()?.clone();
        list.into_iter().find(|c| c["type"] == "Healthy" && c["status"] == "True")
    })
    .await;
    assert_eq!(
        alice.api.get(&kind, &key).await.unwrap()["spec"]["consumerClusterUID"],
        "uid-a",
        "a heartbeat alone moves nothing"
    );
    let approve = json!({"spec": {"approvedClusterUID": "uid-b"}});
    provider.admin.merge_patch(&kind, &key, Subresource::Main, &approve, MANAGER).await.unwrap();
    eventually("moved", || async {
        let live = alice.api.get(&kind, &key).await.unwrap();
        (live["spec"]["consumerClusterUID"] == "uid-b" && live["spec"]["approvedClusterUID"].is_null()).then_some(())
    })
    .await;
}
