//! What an ended export has left at the provider outlives everything that ends after it: the mapping of its namespace, the
//! other exports of the contract, and the contract. Also when its kind is served in another version by then, or not granted
//! any more.

use std::time::Duration;

use backend::release::{self, Released};
use contract::rbac;
use kube_bind_api::{
    APIServiceExport, APIServiceExportRequest, APIServiceNamespace, ClusterBinding, GroupResource, Isolation,
};
use kube_client::{ObjectKey, Resource, Subresource};
use serde_json::{Value, json};

use crate::provider::{Consumer, MANAGER, Provider, apply, eventually, of, resource, widget_crd};

/// A second kind of the provider, in two versions, granted and exported to the consumer as `gadgets`.
async fn gadgets(provider: &Provider, consumer: &Consumer) -> Resource {
    let kind = GroupResource::new(provider.kind().group, "gadgets");
    let mut crd = widget_crd(&kind, "Namespaced");
    crd["spec"]["names"] =
        json!({"plural": "gadgets", "singular": "gadget", "kind": "Gadget", "listKind": "GadgetList"});
    let mut second = crd["spec"]["versions"][0].clone();
    second["name"] = json!("v2");
    second["storage"] = json!(false);
    crd["spec"]["versions"].as_array_mut().unwrap().push(second);
    apply(&provider.admin, &crds(), "", &crd).await;
    let roles = resource(rbac::RBAC_GROUP, "clusterroles", "ClusterRole");
    let patch = json!([{"op": "add", "path": "/rules/-", "value": rbac::backend::offer_rule(&kind)}]);
    let key = ObjectKey::cluster(rbac::backend::OFFERS);
    provider.admin.json_patch(&roles, &key, Subresource::Main, &patch, MANAGER).await.unwrap();
    let spec = json!({"scope": "Namespaced", "resources": [kind]});
    let template = json!({"metadata": {"name": format!("gadgets{}", provider.suffix)}, "spec": spec});
    apply(&provider.admin, &of::<kube_bind_api::APIServiceExportTemplate>(), "", &template).await;
    let request = of::<APIServiceExportRequest>();
    let body = json!({"apiVersion": request.api_version(), "kind": request.kind, "metadata": {"name": "gadgets"},
        "spec": {"resources": [{"group": kind.group, "resource": "gadgets", "versions": ["v1"]}]}});
    consumer.api.create(&request, Some(&consumer.namespace), &body).await.unwrap();
    resource(&kind.group, "gadgets", "Gadget")
}

fn crds() -> Resource {
    resource("apiextensions.k8s.io", "customresourcedefinitions", "CustomResourceDefinition")
}

async fn unbind(consumer: &Consumer, export: &str) {
    let key = ObjectKey::new(&consumer.namespace, export);
    let live = consumer.api.get(&of::<APIServiceExport>(), &key).await.unwrap();
    let uid = live["metadata"]["uid"].as_str().unwrap();
    consumer.api.delete(&of::<APIServiceExport>(), &key, uid).await.unwrap();
}

async fn namespace(provider: &Provider, name: &str) -> Option<Value> {
    provider.admin.get_opt(&resource("", "namespaces", "Namespace"), &ObjectKey::cluster(name)).await.unwrap()
}

/// The namespace is there, is not going, and has the object.
async fn stands(provider: &Provider, kind: &Resource, name: &str) {
    let live = namespace(provider, name).await;
    let live = live.unwrap_or_else(|| panic!("the namespace {name} of what was left is gone"));
    assert!(live["metadata"]["deletionTimestamp"].is_null(), "what was left is being destroyed: {live}");
    let object = provider.admin.get_opt(kind, &ObjectKey::new(name, "kept")).await.unwrap();
    assert!(object.is_some(), "what was left is destroyed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_ended_export_has_left_outlives_what_ends_after_it() {
    let provider = Provider::start(Isolation::Prefixed).await;
    let alice = provider.contract("alice", "uid-a").await;
    let mapped = alice.bound(&provider).await;
    let kind = gadgets(&provider, &alice).await;
    let team = alice.mapped("team").await;
    for namespace in [&mapped, &team] {
        eventually("granted", || async { (alice.list_code(&kind, Some(namespace)).await == 200).then_some(()) }).await;
        apply(&alice.api, &kind, namespace, &json!({"metadata": {"name": "kept"}, "spec": {}})).await;
    }

    // The export ends, and what it needed is looked at again.
    unbind(&alice, "gadgets").await;
    for namespace in [&mapped, &team] {
        eventually("taken back", || async { (alice.list_code(&kind, Some(namespace)).await == 403).then_some(()) })
            .await;
    }
    let empty = alice.mapped("empty").await;
    tokio::time::sleep(Duration::from_millis(1500)).await;

    // The consumer's namespace goes. The version in which the backend knew the kind is not served any more.
    let gadget_crd = ObjectKey::cluster(&format!("gadgets.{}", kind.group));
    let patch = json!([{"op": "replace", "path": "/spec/versions/0/served", "value": false}]);
    provider.admin.json_patch(&crds(), &gadget_crd, Subresource::Main, &patch, MANAGER).await.unwrap();
    eventually("that version is gone", || async {
        (provider.admin.get_opt(&kind, &ObjectKey::new(&team, "kept")).await.unwrap().is_none()).then_some(())
    })
    .await;
    let kind = Resource::new(&kind.group, "v2", "gadgets", "Gadget");
    let mapping = ObjectKey::new(&alice.namespace, "team");
    let uid = alice.mapping("team").await["metadata"]["uid"].as_str().unwrap().to_owned();
    alice.api.delete(&of::<APIServiceNamespace>(), &mapping, &uid).await.unwrap();
    eventually("the mapping goes", || async {
        alice.api.get_opt(&of::<APIServiceNamespace>(), &mapping).await.unwrap().is_none().then_some(())
    })
    .await;
    stands(&provider, &kind, &team).await;
    assert_eq!(alice.list_code(&provider.widgets(), Some(&team)).await, 403, "rights are left there");

    // It comes back, and so do the rights on what is still exported.
    assert_eq!(alice.mapped("team").await, team);
    eventually("granted again", || async {
        (alice.list_code(&provider.widgets(), Some(&team)).await == 200).then_some(())
    })
    .await;

    // The last export ends when the backend may not look any more.
    let roles = resource(rbac::RBAC_GROUP, "clusterroles", "ClusterRole");
    let offers = ObjectKey::cluster(rbac::backend::OFFERS);
    let mut rules = provider.admin.get(&roles, &offers).await.unwrap()["rules"].clone();
    let gone = |rule: &Value| rule["apiGroups"][0] == kind.group.as_str() && rule["resources"][0] == "gadgets";
    rules.as_array_mut().unwrap().retain(|rule| !gone(rule));
    let patch = json!([{"op": "replace", "path": "/rules", "value": rules}]);
    provider.admin.json_patch(&roles, &offers, Subresource::Main, &patch, MANAGER).await.unwrap();
    unbind(&alice, &provider.name()).await;
    let going = async |name: &str| {
        let live = namespace(&provider, name).await;
        live.is_none_or(|live| live["metadata"]["deletionTimestamp"].is_string()).then_some(())
    };
    eventually("the contract goes", || going(&alice.namespace)).await;
    eventually("the empty namespace goes", || going(&empty)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    for namespace in [&mapped, &team] {
        stands(&provider, &kind, namespace).await;
    }
}

/// A consumer with an object in its contract namespace, whose kind is not labelled any more.
async fn lodging(provider: &Provider) -> Consumer {
    let alice = provider.contract("alice", "uid-a").await;
    alice.request(provider, "widgets").await;
    assert_eq!(alice.phase(provider).await["phase"], "Succeeded");
    let kind = provider.widgets();
    eventually("granted", || async { (alice.list_code(&kind, Some(&alice.namespace)).await == 200).then_some(()) })
        .await;
    apply(&alice.api, &kind, &alice.namespace, &json!({"metadata": {"name": "kept"}, "spec": {}})).await;
    let patch = json!({"metadata": {"labels": {"kube-bind.io/exported": null}}});
    let crd = ObjectKey::cluster(&provider.kind().crd_name());
    provider.admin.merge_patch(&crds(), &crd, Subresource::Main, &patch, MANAGER).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1000)).await;
    alice
}

/// The last export ends, and what it has left stands.
async fn ends(provider: &Provider, consumer: &Consumer) {
    unbind(consumer, &provider.name()).await;
    let account = ObjectKey::new(&consumer.namespace, "kube-binder");
    let accounts = resource("", "serviceaccounts", "ServiceAccount");
    eventually("the contract ends", || async {
        provider.admin.get_opt(&accounts, &account).await.unwrap().is_none().then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(1000)).await;
    stands(provider, &provider.widgets(), &consumer.namespace).await;
}

/// Neither when the contract ends, nor when the provider has revoked it since and somebody who logged in again declines.
#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_the_contract_namespace_is_given_back_to_nobody() {
    let provider = Provider::start(Isolation::Namespaced).await;
    let alice = lodging(&provider).await;
    ends(&provider, &alice).await;
    // What `kubectl bind provider revoke` does.
    let key = ObjectKey::new(&alice.namespace, "cluster");
    let binding = provider.admin.get(&of::<ClusterBinding>(), &key).await.unwrap();
    let uid = binding["metadata"]["uid"].as_str().unwrap();
    provider.admin.delete(&of::<ClusterBinding>(), &key, uid).await.unwrap();
    let again = provider.contract("alice", "uid-a").await;
    assert_eq!(again.namespace, alice.namespace);
    let backend = provider.backend().await;
    assert_eq!(release::release(&backend, &again.namespace, &again.token).await.unwrap(), Released::Kept);
    stands(&provider, &provider.widgets(), &again.namespace).await;
}

/// A contract of a release that did not note which kinds lie in its namespace.
#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_the_contract_namespace_stays_where_its_kinds_are_not_noted() {
    let provider = Provider::start(Isolation::Namespaced).await;
    let alice = lodging(&provider).await;
    let kind = resource("", "namespaces", "Namespace");
    let patch = json!({"metadata": {"annotations": {"backend.kube-bind.io/exported-kinds": null}}});
    let key = ObjectKey::cluster(&alice.namespace);
    provider.admin.merge_patch(&kind, &key, Subresource::Main, &patch, MANAGER).await.unwrap();
    provider.granted(false).await;
    ends(&provider, &alice).await;
}

/// Whoever deletes the contract namespace itself means everything in it, and nothing holds it back.
#[tokio::test(flavor = "multi_thread")]
async fn a_contract_namespace_that_somebody_deletes_goes_with_what_lies_in_it() {
    let provider = Provider::start(Isolation::Namespaced).await;
    let alice = lodging(&provider).await;
    let live = namespace(&provider, &alice.namespace).await.unwrap();
    let (kind, key) = (resource("", "namespaces", "Namespace"), ObjectKey::cluster(&alice.namespace));
    provider.admin.delete(&kind, &key, live["metadata"]["uid"].as_str().unwrap()).await.unwrap();
    let path = ObjectKey::new(&alice.namespace, &provider.name());
    eventually("the export is let go of", || async {
        provider.admin.get_opt(&of::<APIServiceExport>(), &path).await.unwrap().is_none().then_some(())
    })
    .await;
}
