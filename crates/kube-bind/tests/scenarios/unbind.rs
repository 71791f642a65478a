//! Taking a binding back: refused with objects left, with `--delete-objects` nothing of ours stays, with `--orphan`
//! everything stays but our finalizers; foreground deletion destroys nothing.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::fault::{Fault, all, first_try, on};
use testkit::service::Service;
use testkit::site::{Site, bindings, core, crds, ours};
use testkit::world::World;
use testkit::{eventually, stays};

async fn unbound(here: &Site, service: &Service) {
    eventually("the binding is gone", async || match here.get(&bindings(), "", &service.plural).await {
        None => Ok(()),
        Some(binding) => Err(binding.to_string()),
    })
    .await;
}

fn finalizers(object: &Value) -> Vec<&str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[tokio::test]
async fn with_objects_left_it_refuses_and_counts_and_then_deletes_properly() {
    let world = World::bound(super::PROGRAM, Service::new(51)).await;
    let service = world.service();
    let (here, there) = (&world.consumers[0].site, &world.providers[0].site);
    world.make("default", "one", "one-token").await;
    world.make("default", "two", "two-token").await;
    let person = &world.consumers[0].person;
    let _ = person.bind(&["unbind", &service.plural], "").await.refused(&["2", "--delete-objects", "--orphan"]);
    assert!(here.get(&bindings(), "", &service.plural).await.is_some());

    let _ = person.bind(&["unbind", &service.plural, "--delete-objects"], "").await.ok();
    assert!(here.get(&bindings(), "", &service.plural).await.is_none());
    assert!(here.get(&crds(), "", &service.crd_name()).await.is_none(), "the CRD stayed");
    let left = here
        .names(&core("secrets"))
        .await
        .into_iter()
        .filter(|name| name.ends_with("-token") && name.starts_with("default/"))
        .collect::<Vec<_>>();
    assert!(left.is_empty(), "claimed copies stayed: {left:?}");
    let credentials =
        here.list(&core("secrets")).await.into_iter().filter(|secret| secret["data"]["kubeconfig"].is_string()).count();
    assert_eq!(credentials, 0, "the credential stayed");
    assert!(there.list(&service.resource()).await.is_empty());
    eventually("the contract is gone at the provider", async || {
        let contracts = there.names(&ours("clusterbindings", "ClusterBinding")).await;
        let namespaces = there.names(&core("namespaces")).await;
        let left: Vec<_> = namespaces.into_iter().filter(|name| name.contains("cluster-")).collect();
        if contracts.is_empty() && left.is_empty() { Ok(()) } else { Err(format!("{contracts:?} {left:?}")) }
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn orphaned_objects_stay_on_both_sides_without_our_finalizers() {
    for by_kubectl in [false, true] {
        let world = World::bound(super::PROGRAM, Service::new(52)).await;
        let service = world.service();
        let (here, there) = (&world.consumers[0].site, &world.providers[0].site);
        world.make("default", "one", "one-token").await;
        eventually("the token is here", async || {
            here.get(&core("secrets"), "default", "one-token").await.ok_or("not yet".to_owned())
        })
        .await;
        if by_kubectl {
            here.delete(&bindings(), "", &service.plural).await;
        } else {
            let _ = world.consumers[0].person.bind(&["unbind", &service.plural, "--orphan"], "").await.ok();
        }
        unbound(here, &service).await;
        let object = here.get(&service.resource(), "default", "one").await.expect("the object stays");
        assert!(finalizers(&object).is_empty(), "our finalizer stayed: {object}");
        assert!(here.get(&crds(), "", &service.crd_name()).await.is_some(), "the CRD stays");
        assert!(here.get(&core("secrets"), "default", "one-token").await.is_some(), "the claimed copy stays");
        let copy = world.copy(0, "one").await.expect("the copy stays");
        let namespace = copy["metadata"]["namespace"].as_str().unwrap();
        assert!(there.get(&core("secrets"), namespace, "one-token").await.is_some());
        // No longer synced.
        here.patch(&service.resource(), "default", "one", &json!({"spec": {"size": 77}})).await;
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert_ne!(world.copy(0, "one").await.unwrap()["spec"]["size"], 77);
        // And it can be deleted freely.
        here.delete(&service.resource(), "default", "one").await;
        assert!(here.get(&service.resource(), "default", "one").await.is_none());
        assert!(world.copy(0, "one").await.is_some());
        world.end().await;
    }
}

#[tokio::test]
async fn foreground_deletion_of_a_binding_destroys_no_object() {
    let world = World::bound(super::PROGRAM, Service::new(53)).await;
    let service = world.service();
    let here = &world.consumers[0].site;
    world.make("default", "one", "one-token").await;
    let uid = world.copy(0, "one").await.unwrap()["metadata"]["uid"].clone();
    if let Some(ended) = world.consumers[0]
        .person
        .kubectl(&["delete", "apibinding", &service.plural, "--cascade=foreground", "--wait=true", "--timeout=30s"], "")
        .await
    {
        let _ = ended.ok();
    } else {
        here.delete(&bindings(), "", &service.plural).await;
    }
    unbound(here, &service).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(here.get(&service.resource(), "default", "one").await.is_some());
    assert_eq!(world.copy(0, "one").await.unwrap()["metadata"]["uid"], uid);
    world.end().await;
}

#[tokio::test]
async fn deleting_objects_of_an_api_that_the_provider_has_withdrawn_waits_and_destroys_nothing() {
    let mut world = World::bound(super::PROGRAM, Service::new(54).without_claims()).await;
    let (service, other) = (world.service(), Service::new(55).without_claims());
    // Another API of that provider keeps the contract.
    world.offer(0, other.clone()).await;
    let _ = world.bind_offering(0, 0, &other.plural).await.ok();
    world.make("default", "one", "unused").await;
    let (here, there) = (&world.consumers[0].site, &world.providers[0].site);
    let exports = there.list(&ours("apiserviceexports", "APIServiceExport")).await;
    let export = exports.iter().find(|export| export["metadata"]["name"] == service.plural.as_str()).unwrap();
    let contract = export["metadata"]["namespace"].as_str().unwrap();
    there.delete(&ours("apiserviceexports", "APIServiceExport"), contract, &service.plural).await;
    eventually("the binding knows that the export is gone", async || {
        let status = world.consumers[0].binding_status(&service.plural).await;
        if status["phase"] == "Pending" && status.to_string().contains("ExportNotFound") {
            Ok(())
        } else {
            Err(status.to_string())
        }
    })
    .await;

    here.patch(&bindings(), "", &service.plural, &json!({"spec": {"deletionPolicy": "Delete"}})).await;
    here.delete(&bindings(), "", &service.plural).await;
    eventually("the binding says what it waits for, and the way out", async || {
        let status = world.consumers[0].binding_status(&service.plural).await.to_string();
        let told = ["UnbindingWaits", "withdrawn", &service.plural, "spec.deletionPolicy to Orphan"];
        if told.iter().all(|part| status.contains(part)) { Ok(()) } else { Err(status) }
    })
    .await;
    stays("nothing is being deleted", Duration::from_secs(3), async || {
        let crd = here.get(&crds(), "", &service.crd_name()).await.ok_or("the CRD is gone")?;
        let object = here.get(&service.resource(), "default", "one").await.ok_or("the object is gone")?;
        let going = [&crd, &object].iter().any(|one| one["metadata"]["deletionTimestamp"].is_string());
        if going { Err(format!("{} {}", crd["metadata"], object["metadata"])) } else { Ok(()) }
    })
    .await;

    here.patch(&bindings(), "", &service.plural, &json!({"spec": {"deletionPolicy": "Orphan"}})).await;
    unbound(here, &service).await;
    let object = here.get(&service.resource(), "default", "one").await.expect("the object stays");
    assert!(finalizers(&object).is_empty(), "our finalizer stayed: {object}");
    assert!(world.copy(0, "one").await.is_some(), "the copy stays");
    world.phase(&other.plural, "Connected").await;
    world.end().await;
}

#[tokio::test]
async fn a_binding_deleted_while_the_agent_was_away_is_told_to_the_provider() {
    let mut world = World::with_faults(super::PROGRAM, Service::new(56).without_claims()).await;
    let _ = world.bind(0, 0).await.ok();
    let service = world.service();
    world.consumer().stop_agent().await;
    world.consumers[0].site.delete(&bindings(), "", &service.plural).await;
    world.providers[0].faults.as_ref().unwrap().when(all(), Fault::Delay(Duration::from_millis(500)));
    world.consumer().start_agent().await;
    unbound(&world.consumers[0].site, &service).await;
    let there = &world.providers[0].site;
    eventually("export and contract are gone at the provider", async || {
        let exports = there.names(&ours("apiserviceexports", "APIServiceExport")).await;
        let contracts = there.names(&ours("clusterbindings", "ClusterBinding")).await;
        let namespaces = there.names(&core("namespaces")).await;
        let left: Vec<_> = namespaces.into_iter().filter(|name| name.contains("cluster-")).collect();
        let gone = exports.is_empty() && contracts.is_empty() && left.is_empty();
        if gone { Ok(()) } else { Err(format!("{exports:?} {contracts:?} {left:?}")) }
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn an_object_that_cannot_be_let_go_of_is_told_and_holds_up_no_other() {
    let world = World::with_faults(super::PROGRAM, Service::new(57).without_claims()).await;
    let _ = world.bind(0, 0).await.ok();
    let service = world.service();
    let here = &world.consumers[0].site;
    world.make("default", "one", "unused").await;
    world.make("default", "two", "unused").await;
    let proxy = world.consumers[0].faults.as_ref().unwrap();
    let denied = "admission webhook \"guard\" denied the request: not on Fridays";
    proxy.when(on("PATCH", &[&service.plural, "/one?"]), Fault::invalid(denied));
    here.delete(&bindings(), "", &service.plural).await;
    eventually("the other object has not our finalizer", async || {
        let two = here.get(&service.resource(), "default", "two").await.ok_or("it went")?;
        if finalizers(&two).is_empty() { Ok(()) } else { Err(two["metadata"].to_string()) }
    })
    .await;
    eventually("the binding says what it waits for", async || {
        let status = world.consumers[0].binding_status(&service.plural).await.to_string();
        let told = ["UnbindingWaits", "consumer", "one", "not on Fridays"];
        if told.iter().all(|part| status.contains(part)) { Ok(()) } else { Err(status) }
    })
    .await;
    let one = here.get(&service.resource(), "default", "one").await.unwrap();
    assert!(!finalizers(&one).is_empty(), "{one}");
    proxy.well();
    unbound(here, &service).await;
    let one = here.get(&service.resource(), "default", "one").await.unwrap();
    assert!(finalizers(&one).is_empty(), "our finalizer stayed: {one}");
    world.end().await;
}

#[tokio::test]
async fn an_export_is_withdrawn_though_the_provider_refuses_it_once() {
    let world = World::with_faults(super::PROGRAM, Service::new(59)).await;
    let service = world.service();
    let _ = world.bind(0, 0).await.ok();
    let proxy = world.providers[0].faults.as_ref().unwrap();
    proxy.when(first_try("DELETE", &["/apiserviceexports/"]), Fault::status(503));
    let person = &world.consumers[0].person;
    let _ = person.bind(&["unbind", &service.plural, "--orphan"], "").await.ok();
    unbound(&world.consumers[0].site, &service).await;
    let exports = ours("apiserviceexports", "APIServiceExport");
    eventually("the export is gone", async || {
        let left = world.providers[0].site.names(&exports).await;
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    world.end().await;
}
