//! What must not be possible (negative tests 1, 2, 3, 9, 10; 7 is in `login.rs`): consumers reach nothing of others,
//! providers write only what an accepted claim names, some things never cross.

use std::time::Duration;

use kube_client::api::ListQuery;
use kube_client::store::ObjectKey;
use serde_json::json;
use testkit::service::Service;
use testkit::site::{core, crds, ours};
use testkit::world::World;
use testkit::{eventually, stays};

use super::deputies::stolen;

#[tokio::test]
async fn a_consumers_credential_reaches_nothing_of_others() {
    let mut world = World::bound(super::PROGRAM, Service::new(61)).await;
    world.expect_refusals("somebody holds a stolen credential");
    let service = world.service();
    world.make("default", "mine", "mine-token").await;
    world.add_consumer().await;
    let url = format!("{}/kubernetes", world.providers[0].server);
    let words = [url.as_str(), "--skip-browser", "--accept-claims"];
    let _ = world.consumers[1].person.bind_in_browser(&words, &world.logins[1], None).await.ok();
    world.consumers[1].site.apply(&service.resource(), &service.object("default", "theirs", "theirs-token")).await;
    let theirs = eventually("their copy", async || world.copy(0, "theirs").await.ok_or("no copy".to_owned())).await;
    let their_namespace = theirs["metadata"]["namespace"].as_str().unwrap().to_owned();
    let their_contract =
        theirs["metadata"]["annotations"]["kube-bind.io/cluster-namespace"].as_str().unwrap().to_owned();
    let mine = world.copy(0, "mine").await.unwrap();
    let my_namespace = mine["metadata"]["namespace"].as_str().unwrap().to_owned();
    // The operator's own Secret beside the consumer's objects.
    let own = json!({"metadata": {"name": "root-password", "namespace": my_namespace}, "stringData": {"root": "x"}});
    world.providers[0].site.apply(&core("secrets"), &own).await;

    let (stolen, _) = stolen(&world).await;
    let forbidden = |error: kube_client::error::ApiError| assert_eq!(error.code, 403, "{error}");
    for kind in [
        core("namespaces"),
        core("secrets"),
        core("configmaps"),
        crds(),
        service.resource(),
        ours("clusterbindings", "ClusterBinding"),
    ] {
        forbidden(stolen.list(&kind, &ListQuery::default()).await.unwrap_err());
        for namespace in [&their_namespace, &their_contract] {
            forbidden(
                stolen
                    .list(&kind, &ListQuery::namespace(namespace))
                    .await
                    .err()
                    .unwrap_or_else(|| panic!("{} in {namespace} can be listed", kind.plural)),
            );
        }
    }
    for name in ["theirs-token", "root-password"] {
        forbidden(stolen.get(&core("secrets"), &ObjectKey::new(&their_namespace, name)).await.unwrap_err());
    }
    forbidden(stolen.get(&core("secrets"), &ObjectKey::new(&my_namespace, "root-password")).await.unwrap_err());
    forbidden(stolen.list(&core("secrets"), &ListQuery::namespace(&my_namespace)).await.unwrap_err());
    let planted = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "planted"}});
    forbidden(stolen.create(&core("secrets"), Some(&my_namespace), &planted).await.unwrap_err());
    forbidden(
        stolen
            .create(&service.resource(), Some(&their_namespace), &service.object(&their_namespace, "planted", "x"))
            .await
            .unwrap_err(),
    );
    // What it is for works.
    assert!(stolen.get(&service.resource(), &ObjectKey::new(&my_namespace, "mine")).await.is_ok());
    eventually("the claimed Secret can be read", async || {
        stolen
            .get(&core("secrets"), &ObjectKey::new(&my_namespace, "mine-token"))
            .await
            .map(|_| ())
            .map_err(|error| error.to_string())
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn a_secret_that_the_operator_keeps_for_itself_never_crosses() {
    let mut world = World::bound(super::PROGRAM, Service::new(62)).await;
    let service = world.service();
    world.make("default", "one", "one-token").await;
    let namespace = world.copy(0, "one").await.unwrap()["metadata"]["namespace"].as_str().unwrap().to_owned();
    let there = &world.providers[0].site;
    for (name, kind) in [("root-password", "Opaque"), ("a-token", "kubernetes.io/service-account-token")] {
        let annotations = json!({"kubernetes.io/service-account.name": "default"});
        let own = json!({"metadata": {"name": name, "namespace": namespace, "annotations": annotations}, "type": kind, "stringData": {"root": "x"}});
        there.apply(&core("secrets"), &own).await;
    }
    world.provider().stop_operator().await;
    let here = &world.consumers[0].site;
    here.apply(&service.resource(), &service.object("default", "two", "root-password")).await;
    here.apply(&service.resource(), &service.object("default", "three", "a-token")).await;
    eventually("the copies are there", async || {
        if world.copy(0, "three").await.is_some() { Ok(()) } else { Err("no".to_owned()) }
    })
    .await;
    stays("nothing is fetched", Duration::from_secs(3), async || {
        for name in ["root-password", "a-token"] {
            if here.get(&core("secrets"), "default", name).await.is_some() {
                return Err(format!("{name} crossed"));
            }
        }
        Ok(())
    })
    .await;
    // And it says why, where the affected person looks.
    eventually("an Event or condition says why", async || {
        let events = here.list(&core("events")).await;
        let said = events.iter().any(|event| event.to_string().contains("root-password"));
        let binding = world.consumers[0].binding_status(&world.binding(0)).await.to_string();
        if said || binding.contains("root-password") { Ok(()) } else { Err(format!("{events:?} {binding}")) }
    })
    .await;
    world.end().await;
}

/// What the operator will make for itself can be guessed.
#[tokio::test]
async fn a_name_that_an_object_gives_opens_nothing_before_it_is_judged() {
    let mut world = World::bound(super::PROGRAM, Service::new(65)).await;
    world.expect_refusals("somebody holds a stolen credential");
    let service = world.service();
    world.make("default", "one", "one-token").await;
    world.provider().stop_operator().await;
    let here = &world.consumers[0].site;
    here.apply(&service.resource(), &service.object("default", "two", "root-password")).await;
    let there = &world.providers[0].site;
    let namespace = eventually("the name is listed", async || {
        let mapped = there.list(&ours("apiservicenamespaces", "APIServiceNamespace")).await;
        let listed = mapped[0]["status"]["claimedObjects"].as_array().into_iter().flatten();
        match listed.into_iter().any(|entry| entry["name"] == "root-password") {
            true => Ok(mapped[0]["status"]["namespace"].as_str().unwrap_or_default().to_owned()),
            false => Err(mapped[0]["status"].to_string()),
        }
    })
    .await;
    let (stolen, _) = stolen(&world).await;
    let refused = async |when: &str| {
        stays(when, Duration::from_secs(2), async || {
            match stolen.get(&core("secrets"), &ObjectKey::new(&namespace, "root-password")).await {
                Err(error) if error.is_forbidden() => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    };
    refused("nothing is there yet").await;
    let own = json!({"metadata": {"name": "root-password", "namespace": namespace}, "stringData": {"root": "x"}});
    there.apply(&core("secrets"), &own).await;
    refused("it is the operator's own").await;
    world.end().await;
}

#[tokio::test]
async fn what_is_the_consumers_own_is_never_taken_over() {
    let world = World::new(super::PROGRAM, Service::new(63)).await;
    let service = world.service();
    let here = &world.consumers[0].site;
    // A Secret and a Service that the consumer has already, under the names that will be claimed.
    here.apply(
        &core("secrets"),
        &json!({"metadata": {"name": "one-token", "namespace": "default"}, "stringData": {"own": "yes"}}),
    )
    .await;
    here.apply(
        &core("services"),
        &json!({"metadata": {"name": "one", "namespace": "default"}, "spec": {"ports": [{"port": 80}]}}),
    )
    .await;
    let _ = world.bind(0, 0).await.ok();
    world.make("default", "one", "one-token").await;
    stays("both stay the consumer's", Duration::from_secs(3), async || {
        let secret = here.get(&core("secrets"), "default", "one-token").await.unwrap_or_default();
        let service = here.get(&core("services"), "default", "one").await.unwrap_or_default();
        let kept = secret["data"]["own"] == "eWVz"
            && secret["data"]["token"].is_null()
            && service["spec"]["type"] == "ClusterIP";
        if kept { Ok(()) } else { Err(format!("{secret} {service}")) }
    })
    .await;
    eventually("an Event says so", async || {
        let events = here.list(&core("events")).await;
        if events.iter().any(|event| event.to_string().contains("one-token")) {
            Ok(())
        } else {
            Err(format!("{events:?}"))
        }
    })
    .await;
    // Deleting what refers to them leaves them alone.
    here.delete(&service.resource(), "default", "one").await;
    eventually("the object is gone", async || match here.get(&service.resource(), "default", "one").await {
        None => Ok(()),
        Some(object) => Err(object.to_string()),
    })
    .await;
    assert!(here.get(&core("secrets"), "default", "one-token").await.is_some());
    assert!(here.get(&core("services"), "default", "one").await.is_some());
    world.end().await;
}

#[tokio::test]
async fn a_forged_status_names_nothing_and_service_fields_are_few() {
    let mut world = World::bound(super::PROGRAM, Service::new(64)).await;
    let service = world.service();
    world.provider().stop_operator().await;
    let here = &world.consumers[0].site;
    here.apply(
        &core("secrets"),
        &json!({"metadata": {"name": "precious", "namespace": "default"}, "stringData": {"a": "b"}}),
    )
    .await;
    here.apply(&service.resource(), &service.object("default", "one", "one-token")).await;
    let copy = eventually("the copy", async || world.copy(0, "one").await.ok_or("none".to_owned())).await;
    let namespace = copy["metadata"]["namespace"].as_str().unwrap().to_owned();
    let there = &world.providers[0].site;
    let owner = json!([{"apiVersion": copy["apiVersion"], "kind": service.kind, "name": "one", "uid": copy["metadata"]["uid"]}]);
    // The provider names another Secret in its copy and in status, and makes one of that name.
    let mut forged = json!("precious");
    for field in service.secret_path.iter().rev() {
        forged = json!({field: forged});
    }
    there.patch(&service.resource(), &namespace, "one", &json!({"spec": forged})).await;
    there.patch_status(&service.resource(), &namespace, "one", &json!({"secretName": "precious"})).await;
    there.apply(&core("secrets"), &json!({"metadata": {"name": "precious", "namespace": namespace, "ownerReferences": owner}, "stringData": {"a": "stolen"}})).await;
    let spec = json!({"ports": [{"port": 5}], "externalIPs": ["10.1.2.3"], "selector": {"app": "x"}});
    there
        .apply(
            &core("services"),
            &json!({"metadata": {"name": "one", "namespace": namespace, "ownerReferences": owner}, "spec": spec}),
        )
        .await;
    stays("the consumer's Secret is untouched, no external address crosses", Duration::from_secs(3), async || {
        let secret = here.get(&core("secrets"), "default", "precious").await.unwrap_or_default();
        let service = here.get(&core("services"), "default", "one").await.unwrap_or_default();
        let ok = secret["data"]["a"] == "Yg=="
            && service["spec"]["externalIPs"].is_null()
            && service["spec"]["selector"].is_null();
        if ok { Ok(()) } else { Err(format!("{secret} {service}")) }
    })
    .await;
    world.end().await;
}
