//! Nobody works through somebody else's hands (negative tests 2, 3, 9): forged objects and names make neither side write
//! where it should not, and what came from a schema default never crosses.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube_client::api::{Api, FieldManager, Subresource};
use kube_client::store::ObjectKey;
use serde_json::{Value, json};
use testkit::service::Service;
use testkit::site::{core, ours};
use testkit::world::World;
use testkit::{eventually, stays};

use super::both_ways::{mapped, reader, reading};

/// The consumer's credential in the hands of whoever reads its Secret.
pub(super) async fn stolen(world: &World) -> (Api, String) {
    let credential = world.consumers[0].site.credential().await;
    let text = String::from_utf8(STANDARD.decode(credential["data"]["kubeconfig"].as_str().unwrap()).unwrap()).unwrap();
    let connection = kube_client::connect::from_kubeconfig(&text, None).await.unwrap();
    (Api::new(connection.client, "provider"), connection.namespace)
}

const THIEF: FieldManager = FieldManager("thief");

#[tokio::test]
async fn forged_references_make_the_provider_write_and_read_nothing_else() {
    let mut world = World::bound(super::PROGRAM, reading(91)).await;
    world.expect_refusals("somebody holds a stolen credential");
    let service = world.service();
    let (here, there) = (&world.consumers[0].site, &world.providers[0].site);
    here.apply(
        &core("secrets"),
        &json!({"metadata": {"name": "input", "namespace": "default"}, "stringData": {"in": "one"}}),
    )
    .await;
    here.apply(&service.resource(), &reader(&service, "one", "input")).await;
    let namespace = mapped(&world, "one").await;
    eventually("the input is there", async || {
        there.get(&core("secrets"), &namespace, "input").await.ok_or("no".to_owned())
    })
    .await;
    let own = json!({"metadata": {"name": "root-password", "namespace": namespace}, "stringData": {"root": "x"}});
    let own = there.apply(&core("secrets"), &own).await;
    let (api, contract) = stolen(&world).await;
    let forbidden = |what: &str, answer: Result<Value, kube_client::error::ApiError>| match answer {
        Err(error) => assert_eq!(error.code, 403, "{what}: {error}"),
        Ok(object) => panic!("{what} was allowed: {object}"),
    };

    // A Secret of the consumer's under the name of one that the operator keeps for itself.
    here.apply(
        &core("secrets"),
        &json!({"metadata": {"name": "root-password", "namespace": "default"}, "stringData": {"root": "forged"}}),
    )
    .await;
    here.apply(&service.resource(), &reader(&service, "two", "root-password")).await;
    // The provider's copy, changed with the consumer's credential: another name, and marks as if it were somebody else's.
    let forged = json!({"spec": {"inputSecret": "root-password"}, "metadata": {"annotations": {"kube-bind.io/cluster-namespace": "kube-system"}}});
    let key = ObjectKey::new(&namespace, "one");
    let _ = api.merge_patch(&service.resource(), &key, Subresource::Main, &forged, THIEF).await;
    // Names that are paths or namespaces.
    for (name, input) in [("three", "../kube-system/root"), ("four", "kube-system/root")] {
        let object = reader(&service, name, input);
        let key = ObjectKey::of(&object).unwrap();
        let _ = here.api.apply(&service.resource(), &key, &object, THIEF, Subresource::Main).await;
    }
    stays("the operator's Secret is neither written nor given away", Duration::from_secs(3), async || {
        let live = there.get(&core("secrets"), &namespace, "root-password").await.unwrap_or_default();
        if live["metadata"]["resourceVersion"] != own["metadata"]["resourceVersion"] {
            return Err(format!("written: {live}"));
        }
        let key = ObjectKey::new(&namespace, "root-password");
        match api.get(&core("secrets"), &key).await {
            Err(error) if error.code == 403 => Ok(()),
            other => Err(format!("the credential reads it: {other:?}")),
        }
    })
    .await;
    forbidden(
        "a patch of it",
        api.merge_patch(
            &core("secrets"),
            &ObjectKey::new(&namespace, "root-password"),
            Subresource::Main,
            &json!({"data": null}),
            THIEF,
        )
        .await,
    );

    // The lists and marks that rights follow from are the provider's.
    let mapping = ours("apiservicenamespaces", "APIServiceNamespace");
    let entry = json!({"status": {"claimedObjects": [{"group": "", "resource": "secrets", "name": "root-password"}], "namespace": "kube-system"}});
    forbidden(
        "the list of claimed objects",
        api.merge_patch(&mapping, &ObjectKey::new(&contract, "default"), Subresource::Status, &entry, THIEF).await,
    );
    let body = json!({"apiVersion": "kube-bind.io/v1alpha2", "kind": "APIServiceNamespace", "metadata": {"name": "elsewhere"}, "status": {"namespace": "kube-system"}});
    let _ = api.create(&mapping, Some(&contract), &body).await;
    eventually("a mapping of its own leads only to a namespace of its own", async || {
        let made = there.get(&mapping, &contract, "elsewhere").await.unwrap_or_default();
        let place = made["status"]["namespace"].as_str().unwrap_or_default().to_owned();
        if place.starts_with(&contract) { Ok(()) } else { Err(made.to_string()) }
    })
    .await;
    // A request with claims of its own making.
    let everything =
        json!({"group": "", "resource": "secrets", "owner": "Provider", "selector": {"labelSelector": {}}});
    let body = json!({
        "apiVersion": "kube-bind.io/v1alpha2", "kind": "APIServiceExportRequest", "metadata": {"name": "forged"},
        "spec": {"resources": service.template()["spec"]["resources"], "permissionClaims": [everything]},
    });
    let _ = api.create(&ours("apiserviceexportrequests", "APIServiceExportRequest"), Some(&contract), &body).await;
    stays("what was not offered is not granted", Duration::from_secs(2), async || {
        let made =
            there.get(&ours("apiserviceexports", "APIServiceExport"), &contract, "forged").await.unwrap_or_default();
        if made["spec"]["permissionClaims"].to_string().contains("labelSelector") {
            Err(made.to_string())
        } else {
            Ok(())
        }
    })
    .await;
    let roles = kube_client::resource::Resource::new("rbac.authorization.k8s.io", "v1", "roles", "Role");
    for role in there.list(&roles).await {
        let text = role["rules"].to_string();
        assert!(!text.contains("root-password"), "granted: {role}");
    }
    world.end().await;
}

#[tokio::test]
async fn a_malicious_provider_writes_only_what_an_accepted_claim_names() {
    let mut world = World::bound(super::PROGRAM, Service::new(92)).await;
    let service = world.service();
    world.consumers[0].site.namespace("quiet").await;
    world.make("default", "one", "one-token").await;
    let namespace = mapped(&world, "one").await;
    // From now on the provider is up to no good.
    world.provider().stop_operator().await;
    world.provider().stop_backend().await;
    let (here, there) = (&world.consumers[0].site, &world.providers[0].site);
    let mapping = ours("apiservicenamespaces", "APIServiceNamespace");
    let default = there.list(&mapping).await.into_iter().find(|m| m["metadata"]["name"] == "default").unwrap();
    let contract = default["metadata"]["namespace"].as_str().unwrap().to_owned();
    let owner = json!([{"apiVersion": "v1", "kind": service.kind, "name": "one", "uid": world.copy(0, "one").await.unwrap()["metadata"]["uid"]}]);
    let ours_mark = json!({"kube-bind.io/owner": "provider"});
    let evil = |place: &str, name: &str| {
        json!({
            "metadata": {"name": name, "namespace": place, "labels": ours_mark, "ownerReferences": owner,
                "annotations": {"kube-bind.io/consumer-namespace": "quiet"}},
            "stringData": {"evil": "yes"},
        })
    };
    there.apply(&core("secrets"), &evil(&namespace, "unasked")).await;
    let listed = there.get(&core("secrets"), &namespace, "unasked").await.unwrap();
    // It tells the agent of a Secret that no object refers to, and grants it, with everything else.
    let roles = |kind: &str| {
        kube_client::resource::Resource::new(
            "rbac.authorization.k8s.io",
            "v1",
            &format!("{}s", kind.to_lowercase()),
            kind,
        )
    };
    let all = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    there.apply(&roles("ClusterRole"), &json!({"metadata": {"name": "evil"}, "rules": all})).await;
    let subjects = json!([{"kind": "ServiceAccount", "name": "kube-binder", "namespace": contract}]);
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "evil"});
    there
        .apply(
            &roles("ClusterRoleBinding"),
            &json!({"metadata": {"name": "evil"}, "roleRef": role, "subjects": subjects}),
        )
        .await;
    let mut entries = default["status"]["claimedObjects"].as_array().cloned().unwrap_or_default();
    entries.push(json!({"group": "", "resource": "secrets", "name": "unasked", "owner": "Provider",
        "uid": listed["metadata"]["uid"], "resourceVersion": listed["metadata"]["resourceVersion"]}));
    there.patch_status(&mapping, &contract, "default", &json!({"claimedObjects": entries})).await;
    // A mapping for a namespace where nobody uses the API, with a Secret of the claimed name.
    let quiet = format!("{contract}-quiet");
    there.namespace(&quiet).await;
    there.apply(&core("secrets"), &evil(&quiet, "one-token")).await;
    let made = there.get(&core("secrets"), &quiet, "one-token").await.unwrap();
    there.apply(&mapping, &json!({"metadata": {"name": "quiet", "namespace": contract}})).await;
    let entry = json!([{"group": "", "resource": "secrets", "name": "one-token", "owner": "Provider",
        "uid": made["metadata"]["uid"], "resourceVersion": made["metadata"]["resourceVersion"]}]);
    there.patch_status(&mapping, &contract, "quiet", &json!({"namespace": quiet, "claimedObjects": entry})).await;
    // Objects of the exported kind that no consumer has made, one of them with the marks of a copy.
    let mut planted = service.object(&namespace, "planted", "unasked");
    there.apply(&service.resource(), &planted).await;
    planted["metadata"]["name"] = json!("marked");
    planted["metadata"]["annotations"] = world.copy(0, "one").await.unwrap()["metadata"]["annotations"].clone();
    there.apply(&service.resource(), &planted).await;
    // The object that is the consumer's: its status travels, its spec does not.
    there.patch(&service.resource(), &namespace, "one", &json!({"spec": {"size": 666}})).await;

    stays("nothing of it arrives", Duration::from_secs(4), async || {
        for (place, name) in
            [("default", "unasked"), ("quiet", "one-token"), ("quiet", "unasked"), ("kube-system", "one-token")]
        {
            if here.get(&core("secrets"), place, name).await.is_some() {
                return Err(format!("Secret {place}/{name} arrived"));
            }
        }
        let objects = here.names(&service.resource()).await;
        let size = here.get(&service.resource(), "default", "one").await.unwrap_or_default()["spec"]["size"].clone();
        if objects == ["default/one"] && size == 2 { Ok(()) } else { Err(format!("{objects:?}, size {size}")) }
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn a_name_from_a_schema_default_never_crosses() {
    let claim = |owner: &str, field: &str| {
        json!({
            "group": "", "resource": "secrets", "owner": owner, "verbs": ["read"],
            "selector": {"references": [{"jsonPath": {"name": format!(".spec.{field}")}}]},
        })
    };
    let service = Service::new(93)
        .with_field("inputSecret", json!({"type": "string", "default": "up-by-default"}))
        .with_field("outputSecret", json!({"type": "string", "default": "down-by-default"}))
        .with_field("plainInput", json!({"type": "string"}))
        .with_claim(claim("Consumer", "inputSecret"))
        .with_claim(claim("Consumer", "plainInput"))
        .with_claim(claim("Provider", "outputSecret"));
    let world = World::bound(super::PROGRAM, service).await;
    let service = world.service();
    let (here, there) = (&world.consumers[0].site, &world.providers[0].site);
    let account = json!({"kubernetes.io/service-account.name": "default"});
    here.apply(
        &core("secrets"),
        &json!({"metadata": {"name": "up-by-default", "namespace": "default"}, "stringData": {"in": "x"}}),
    )
    .await;
    here.apply(&core("secrets"), &json!({
        "metadata": {"name": "a-token", "namespace": "default", "annotations": account}, "type": "kubernetes.io/service-account-token",
    }))
    .await;
    here.apply(
        &core("secrets"),
        &json!({"metadata": {"name": "plain", "namespace": "default"}, "stringData": {"in": "x"}}),
    )
    .await;
    for (name, input) in [("one", "plain"), ("two", "a-token")] {
        let mut object = service.object("default", name, &format!("{name}-token"));
        object["spec"]["plainInput"] = json!(input);
        let made = here.apply(&service.resource(), &object).await;
        assert_eq!(made["spec"]["inputSecret"], "up-by-default", "the default is filled in");
    }
    let namespace = mapped(&world, "two").await;
    let copy = world.copy(0, "one").await.unwrap();
    let owner = json!([{"apiVersion": copy["apiVersion"], "kind": service.kind, "name": "one", "uid": copy["metadata"]["uid"]}]);
    there.apply(&core("secrets"), &json!({"metadata": {"name": "down-by-default", "namespace": namespace, "ownerReferences": owner}, "stringData": {"in": "x"}})).await;
    eventually("what was named crosses", async || {
        there.get(&core("secrets"), &namespace, "plain").await.ok_or("no".to_owned())
    })
    .await;
    eventually("in both directions", async || {
        here.get(&core("secrets"), "default", "one-token").await.ok_or("no".to_owned())
    })
    .await;
    stays("what was not named does not", Duration::from_secs(3), async || {
        for (site, place, name) in [
            (there, namespace.as_str(), "up-by-default"),
            (there, namespace.as_str(), "a-token"),
            (here, "default", "down-by-default"),
        ] {
            if site.get(&core("secrets"), place, name).await.is_some() {
                return Err(format!("{name} crossed"));
            }
        }
        Ok(())
    })
    .await;
    world.end().await;
}
