//! Bound again while something of the time before is still there. API servers collect what an export leaves some time after
//! it is gone: a request waits for that, or the backend clears it away; it is never refused, and an unbind never comes back.

use std::time::Duration;

use kube_bind_api::{APIServiceExport, APIServiceExportRequest, BoundSchema, Isolation};
use kube_client::{ObjectKey, Subresource};
use serde_json::{Value, json};

use crate::provider::{Consumer, MANAGER, Provider, eventually, of};

/// A finalizer of nobody here: what has it stays until the test takes it off.
const HOLD: &str = "test.example/hold";

async fn hold(provider: &Provider, kind: &kube_client::Resource, key: &ObjectKey, held: bool) {
    let live = provider.admin.get(kind, key).await.unwrap();
    let mut list = live["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    list.retain(|item| item != HOLD);
    if held {
        list.push(json!(HOLD));
    }
    let patch = json!({"metadata": {"finalizers": list}});
    provider.admin.merge_patch(kind, key, Subresource::Main, &patch, MANAGER).await.unwrap();
}

async fn delete(consumer: &Consumer, kind: &kube_client::Resource, key: &ObjectKey) -> Value {
    let live = consumer.api.get(kind, key).await.unwrap();
    consumer.api.delete(kind, key, live["metadata"]["uid"].as_str().unwrap()).await.unwrap();
    live
}

/// An export of something else, which keeps the contract.
async fn keep(provider: &Provider, consumer: &Consumer) {
    let kind = of::<APIServiceExport>();
    let other = json!({"group": "gadgets.example", "resource": "gadgets", "versions": ["v1"]});
    let body = json!({
        "apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {"name": "keeper", "namespace": consumer.namespace},
        "spec": {"resources": [other], "informerScope": "Namespaced", "isolation": "Prefixed"},
    });
    provider.admin.create(&kind, Some(&consumer.namespace), &body).await.unwrap();
}

/// The request's status once it says that it waits, and that this is not an answer.
async fn waits(consumer: &Consumer, name: &str, reason: &str) {
    let key = ObjectKey::new(&consumer.namespace, name);
    let status = eventually(&format!("{name} waits: {reason}"), || async {
        let live = consumer.api.get_opt(&of::<APIServiceExportRequest>(), &key).await.unwrap()?;
        let ready = live["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == "Ready")?.clone();
        assert_ne!(live["status"]["phase"], "Failed", "{live}");
        (ready["reason"] == reason).then(|| live["status"].clone())
    })
    .await;
    assert_eq!((&status["phase"], &status["terminalMessage"]), (&json!("Pending"), &Value::Null), "{status}");
    let ready = &status["conditions"][0];
    assert!(ready["message"].as_str().unwrap().starts_with("waiting for the "), "{ready}");
    // It is looked at again and again, and does not change its mind.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let live = consumer.api.get(&of::<APIServiceExportRequest>(), &key).await.unwrap();
    assert_eq!(live["status"], status);
}

/// The export once the request is granted, with its schema: published for it, and controlled by it.
async fn granted(provider: &Provider, consumer: &Consumer, name: &str) -> (Value, Value) {
    let key = ObjectKey::new(&consumer.namespace, name);
    eventually(&format!("{name} granted"), || async {
        let live = consumer.api.get_opt(&of::<APIServiceExportRequest>(), &key).await.unwrap()?;
        assert_ne!(live["status"]["phase"], "Failed", "{live}");
        (live["status"]["phase"] == "Succeeded").then_some(())
    })
    .await;
    let schema = ObjectKey::new(&consumer.namespace, &provider.kind().crd_name());
    eventually("the schema is the export's", || async {
        let export = consumer.api.get_opt(&of::<APIServiceExport>(), &key).await.unwrap()?;
        let schema = consumer.api.get_opt(&of::<BoundSchema>(), &schema).await.unwrap()?;
        let owners = schema["metadata"]["ownerReferences"].as_array()?.clone();
        let in_sync = export["status"]["conditions"]
            .as_array()?
            .iter()
            .any(|c| c["type"] == "ProviderInSync" && c["status"] == "True");
        (in_sync
            && schema["metadata"]["deletionTimestamp"].is_null()
            && owners.iter().any(|owner| owner["uid"] == export["metadata"]["uid"]))
        .then_some((export, schema))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn under_another_name_while_the_export_before_goes() {
    let provider = Provider::start(Isolation::Prefixed).await;
    let alice = provider.contract("alice", "uid-a").await;
    alice.bound(&provider).await;
    let (before, _) = granted(&provider, &alice, &provider.name()).await;
    let export = ObjectKey::new(&alice.namespace, &provider.name());
    hold(&provider, &of::<APIServiceExport>(), &export, true).await;

    // As long as that export stays there is nothing to wait for.
    let other = format!("{}-mine", provider.name());
    alice.request_as(&provider, &other).await;
    let key = ObjectKey::new(&alice.namespace, &other);
    let refused = eventually("refused", || async {
        let live = alice.api.get(&of::<APIServiceExportRequest>(), &key).await.unwrap();
        (live["status"]["phase"] == "Failed").then(|| live["status"].clone())
    })
    .await;
    assert!(refused["terminalMessage"].as_str().unwrap().contains("bind it once"), "{refused}");
    delete(&alice, &of::<APIServiceExportRequest>(), &key).await;

    // Its end is a matter of time.
    let another = format!("{}-other", provider.name());
    keep(&provider, &alice).await;
    delete(&alice, &of::<APIServiceExport>(), &export).await;
    alice.request_as(&provider, &another).await;
    waits(&alice, &another, "SchemaTerminating").await;
    hold(&provider, &of::<APIServiceExport>(), &export, false).await;
    let (now, _) = granted(&provider, &alice, &another).await;
    assert_ne!(now["metadata"]["uid"], before["metadata"]["uid"]);
    let old = alice.api.get_opt(&of::<APIServiceExport>(), &export).await.unwrap();
    assert!(old.is_none(), "what was unbound stays unbound: {old:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn under_the_same_name_while_the_export_before_goes() {
    let provider = Provider::start(Isolation::Prefixed).await;
    let alice = provider.contract("alice", "uid-a").await;
    alice.bound(&provider).await;
    let (before, schema) = granted(&provider, &alice, &provider.name()).await;
    let key = ObjectKey::new(&alice.namespace, &provider.name());
    hold(&provider, &of::<APIServiceExport>(), &key, true).await;
    keep(&provider, &alice).await;
    delete(&alice, &of::<APIServiceExport>(), &key).await;
    eventually("the answered request goes with its export", || async {
        let live = alice.api.get_opt(&of::<APIServiceExportRequest>(), &key).await.unwrap();
        live.is_none().then_some(())
    })
    .await;
    alice.request(&provider, &provider.kind().resource).await;
    waits(&alice, &provider.name(), "ExportTerminating").await;
    hold(&provider, &of::<APIServiceExport>(), &key, false).await;
    let (now, renewed) = granted(&provider, &alice, &provider.name()).await;
    assert_ne!(now["metadata"]["uid"], before["metadata"]["uid"]);
    assert_ne!(renewed["metadata"]["uid"], schema["metadata"]["uid"], "the schema is the new export's own");
}

/// What API servers leave for a while: a schema whose export is gone, of this name or another; collected at once, or held
/// by somebody.
#[tokio::test(flavor = "multi_thread")]
async fn over_what_an_export_has_left() {
    let provider = Provider::start(Isolation::Prefixed).await;
    let alice = provider.contract("alice", "uid-a").await;
    alice.bound(&provider).await;
    let (export, published) = granted(&provider, &alice, &provider.name()).await;
    let kind = of::<BoundSchema>();
    for (subject, owner, held) in [("bob", provider.name(), false), ("carol", "before".to_owned(), true)] {
        let consumer = provider.contract(subject, "uid-b").await;
        let key = ObjectKey::new(&consumer.namespace, &provider.kind().crd_name());
        let finalizers = if held { json!([HOLD]) } else { json!([]) };
        let left = json!({
            "apiVersion": kind.api_version(), "kind": kind.kind,
            "metadata": {"name": key.name, "namespace": key.namespace, "finalizers": finalizers,
                "ownerReferences": [{"apiVersion": export["apiVersion"], "kind": export["kind"], "name": owner,
                    "uid": "00000000-0000-0000-0000-000000000001", "controller": true}]},
            "spec": published["spec"],
        });
        let left = provider.admin.create(&kind, Some(&consumer.namespace), &left).await.unwrap();
        consumer.request(&provider, &provider.kind().resource).await;
        if held {
            waits(&consumer, &provider.name(), "SchemaTerminating").await;
            hold(&provider, &kind, &key, false).await;
        }
        let (_, schema) = granted(&provider, &consumer, &provider.name()).await;
        assert_ne!(schema["metadata"]["uid"], left["metadata"]["uid"]);
        assert_eq!(schema["spec"], published["spec"]);
    }
}

/// The export stays, and its schema is replaced by one that refers to an earlier export of the same name.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_an_earlier_export_of_that_name_is_replaced() {
    let provider = Provider::start(Isolation::Prefixed).await;
    let alice = provider.contract("alice", "uid-a").await;
    alice.bound(&provider).await;
    let (_, published) = granted(&provider, &alice, &provider.name()).await;
    let kind = of::<BoundSchema>();
    let key = ObjectKey::new(&alice.namespace, &provider.kind().crd_name());
    let earlier = json!([{"apiVersion": "kube-bind.io/v1alpha2", "kind": "APIServiceExport", "name": provider.name(),
        "uid": "00000000-0000-0000-0000-000000000001", "controller": true}]);
    let patch = json!({"metadata": {"ownerReferences": earlier}});
    provider.admin.merge_patch(&kind, &key, Subresource::Main, &patch, MANAGER).await.unwrap();
    let (_, now) = granted(&provider, &alice, &provider.name()).await;
    assert_ne!(now["metadata"]["uid"], published["metadata"]["uid"]);
    assert_eq!(now["spec"], published["spec"]);
}

/// A schema without an export is taken over, as what the provider offers now.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_without_an_export_is_taken_over_and_renewed() {
    let provider = Provider::start(Isolation::Prefixed).await;
    let (alice, bob) = (provider.contract("alice", "uid-a").await, provider.contract("bob", "uid-b").await);
    alice.bound(&provider).await;
    let (_, published) = granted(&provider, &alice, &provider.name()).await;
    let kind = of::<BoundSchema>();
    let mut spec = published["spec"].clone();
    let old = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    spec["versions"][0]["schema"]["openAPIV3Schema"] = old;
    let name = provider.kind().crd_name();
    let orphan = json!({
        "apiVersion": kind.api_version(), "kind": kind.kind,
        "metadata": {"name": name, "namespace": bob.namespace}, "spec": spec,
    });
    let orphan = provider.admin.create(&kind, Some(&bob.namespace), &orphan).await.unwrap();
    assert_ne!(orphan["spec"], published["spec"], "the test must not be about nothing");
    bob.bound(&provider).await;
    let (_, schema) = granted(&provider, &bob, &provider.name()).await;
    assert_eq!(schema["metadata"]["uid"], orphan["metadata"]["uid"]);
    assert_eq!(schema["spec"], published["spec"]);
}
