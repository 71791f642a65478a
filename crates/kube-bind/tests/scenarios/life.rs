//! S11 without schema changes: killed agents, deleted namespaces and CRDs, rebuilt consumers.

use std::time::Duration;

use serde_json::json;
use testkit::service::Service;
use testkit::site::{bindings, core, crds, ours};
use testkit::world::World;
use testkit::{eventually, stays, within};

use super::both_ways::{mapped, reader, reading};

/// 500 objects are some work for a debug build on a shared machine.
const LONG: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_killed_in_the_middle_of_500_writes_loses_nothing() {
    let mut world = World::bound(super::PROGRAM, Service::new(41).without_claims()).await;
    let service = world.service();
    for number in 0..500 {
        if number == 150 || number == 350 {
            world.consumer().kill_agent();
        }
        let object = service.object("default", &format!("n{number}"), "unused");
        world.consumers[0].site.apply(&service.resource(), &object).await;
        if number == 200 || number == 400 {
            world.consumer().start_agent().await;
        }
    }
    within(LONG, "all 500 have a copy", async || {
        let copies = world.providers[0].site.list(&service.resource()).await.len();
        if copies == 500 { Ok(()) } else { Err(format!("{copies} copies")) }
    })
    .await;
    within(LONG, "and their status is back", async || {
        let objects = world.consumers[0].site.list(&service.resource()).await;
        let running = objects.iter().filter(|object| object["status"]["phase"] == "Running").count();
        if running == 500 { Ok(()) } else { Err(format!("{running} of {} Running", objects.len())) }
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn a_deleted_namespace_takes_its_copies_along() {
    let world = World::bound(super::PROGRAM, Service::new(42)).await;
    let service = world.service();
    world.consumers[0].site.namespace("team").await;
    world.make("team", "one", "one-token").await;
    world.make("default", "two", "two-token").await;
    world.consumers[0].site.delete(&core("namespaces"), "", "team").await;
    eventually("namespace and copy are gone", async || {
        let namespace = world.consumers[0].site.get(&core("namespaces"), "", "team").await;
        let copy = world.copy(0, "one").await;
        if namespace.is_none() && copy.is_none() { Ok(()) } else { Err(format!("{namespace:?} {copy:?}")) }
    })
    .await;
    assert!(world.copy(0, "two").await.is_some());
    assert!(world.consumers[0].site.get(&service.resource(), "default", "two").await.is_some());
    world.end().await;
}

#[tokio::test]
async fn a_crd_deleted_by_hand_destroys_nothing_at_the_provider_and_comes_back() {
    let world = World::bound(super::PROGRAM, Service::new(43)).await;
    let service = world.service();
    world.make("default", "one", "one-token").await;
    let uid = world.copy(0, "one").await.unwrap()["metadata"]["uid"].clone();
    let old = world.consumers[0].site.get(&crds(), "", &service.crd_name()).await.unwrap()["metadata"]["uid"].clone();
    world.consumers[0].site.delete(&crds(), "", &service.crd_name()).await;
    eventually("the CRD is back", async || {
        let crd = world.consumers[0].site.get(&crds(), "", &service.crd_name()).await.unwrap_or_default();
        if crd["metadata"]["uid"].is_string() && crd["metadata"]["uid"] != old {
            Ok(())
        } else {
            Err(crd["metadata"].to_string())
        }
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.copy(0, "one").await.unwrap()["metadata"]["uid"], uid, "the provider's object was destroyed");
    // The same object again finds its copy.
    eventually("the API is served again", async || {
        let object = service.object("default", "one", "one-token");
        let key = kube_client::store::ObjectKey::of(&object).unwrap();
        let manager = kube_client::api::FieldManager("scenario");
        let api = &world.consumers[0].site.api;
        api.apply(&service.resource(), &key, &object, manager, kube_client::api::Subresource::Main)
            .await
            .map(|_| ())
            .map_err(|e| e.to_string())
    })
    .await;
    world.running("default", "one").await;
    assert_eq!(world.copy(0, "one").await.unwrap()["metadata"]["uid"], uid, "re-adopted, not made anew");
    world.end().await;
}

#[tokio::test]
async fn a_crd_deleted_by_hand_does_not_wait_for_the_provider() {
    let mut world = World::bound(super::PROGRAM, Service::new(46).without_claims()).await;
    let uid = out_of_reach(&mut world).await;
    world.phase(&world.service().plural, "Disconnected").await;
    delete_crd(&world).await;
    in_reach(world, &uid).await;
}

#[tokio::test]
async fn a_crd_deleted_by_hand_does_not_wait_for_the_provider_after_a_restart_either() {
    let mut world = World::bound(super::PROGRAM, Service::new(48).without_claims()).await;
    let uid = out_of_reach(&mut world).await;
    world.consumer().stop_agent().await;
    world.consumer().start_agent().await;
    delete_crd(&world).await;
    in_reach(world, &uid).await;
}

/// The provider's API server stops, with a copy in it; its uid.
async fn out_of_reach(world: &mut World) -> serde_json::Value {
    world.make("default", "one", "unused").await;
    let uid = world.copy(0, "one").await.unwrap()["metadata"]["uid"].clone();
    world.provider().site.stop().await;
    uid
}

/// It is there again: the CRD comes back, and the copy is the one that was.
async fn in_reach(mut world: World, uid: &serde_json::Value) {
    let crd = world.service().crd_name();
    world.provider().site.restart().await;
    eventually("the CRD is back", async || {
        world.consumers[0].site.get(&crds(), "", &crd).await.map(|_| ()).ok_or("not yet".to_owned())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.copy(0, "one").await.unwrap()["metadata"]["uid"], *uid, "the provider's object was destroyed");
    world.end().await;
}

#[tokio::test]
async fn a_crd_deleted_by_hand_does_not_wait_for_a_credential() {
    let world = World::bound(super::PROGRAM, Service::new(9).without_claims()).await;
    let service = world.service();
    world.make("default", "one", "unused").await;
    let here = &world.consumers[0].site;
    let credential = here.credential().await;
    let text = |field: &str| credential["metadata"][field].as_str().unwrap_or_default().to_owned();
    here.delete(&core("secrets"), &text("namespace"), &text("name")).await;
    eventually("the binding misses it", async || {
        let status = world.consumers[0].binding_status(&service.plural).await.to_string();
        if status.contains("KubeconfigSecretNotFound") { Ok(()) } else { Err(status) }
    })
    .await;
    delete_crd(&world).await;
    assert!(world.copy(0, "one").await.is_some(), "the provider's object was destroyed");
    world.end().await;
}

#[tokio::test]
async fn a_crd_deleted_by_hand_does_not_wait_for_a_provider_that_has_ended_it() {
    let world = World::bound(super::PROGRAM, Service::new(47).without_claims()).await;
    let service = world.service();
    world.make("default", "one", "unused").await;
    let exports = ours("apiserviceexports", "APIServiceExport");
    let there = &world.providers[0].site;
    let export = there.list(&exports).await.remove(0);
    there.delete(&exports, export["metadata"]["namespace"].as_str().unwrap(), &service.plural).await;
    eventually("the binding knows", async || {
        let status = world.consumers[0].binding_status(&service.plural).await;
        if status["phase"] == "Connected" { Err(status.to_string()) } else { Ok(()) }
    })
    .await;
    delete_crd(&world).await;
    assert!(world.copy(0, "one").await.is_some(), "the provider's object was destroyed");
    world.end().await;
}

/// Deletes the bound CRD in the consumer's cluster, and waits until it is gone with its objects.
async fn delete_crd(world: &World) {
    let (here, name) = (&world.consumers[0].site, world.service().crd_name());
    let uid = here.get(&crds(), "", &name).await.unwrap()["metadata"]["uid"].clone();
    here.delete(&crds(), "", &name).await;
    eventually("the CRD is gone with its objects", async || match here.get(&crds(), "", &name).await {
        Some(crd) if crd["metadata"]["uid"] == uid => Err(crd["metadata"].to_string()),
        _ => Ok(()),
    })
    .await;
}

#[tokio::test]
async fn a_rebuilt_consumer_is_let_in_by_a_login_and_adopts_everything() {
    rebuilt(true).await;
}

#[tokio::test]
async fn a_rebuilt_consumer_is_let_in_by_the_provider_and_adopts_everything() {
    rebuilt(false).await;
}

/// One more cluster with the manifests of the first one (credential, rights, binding) and another UID: it is told that it does
/// not have the contract.
async fn rebuild(world: &mut World) {
    let service = world.service();
    let old = &world.consumers[0];
    let credential = old.site.credential().await;
    let binding = old.site.get(&bindings(), "", &service.plural).await.unwrap();
    let rbac = |plural: &str, kind: &str| {
        kube_client::resource::Resource::new("rbac.authorization.k8s.io", "v1", plural, kind)
    };
    let mut rights = Vec::new();
    for kind in [rbac("clusterroles", "ClusterRole"), rbac("clusterrolebindings", "ClusterRoleBinding")] {
        for object in old.site.list(&kind).await {
            if object["metadata"]["name"].as_str().unwrap_or_default().starts_with("kube-bind:") {
                rights.push((kind.clone(), object));
            }
        }
    }
    world.add_consumer().await;
    let rebuilt = &world.consumers[1];
    let bare = |object: &serde_json::Value| {
        let mut bare = object.clone();
        let metadata = &object["metadata"];
        bare["metadata"] = json!({"name": metadata["name"]});
        for field in ["namespace", "labels", "annotations"] {
            if !metadata[field].is_null() {
                bare["metadata"][field] = metadata[field].clone();
            }
        }
        bare.as_object_mut().unwrap().remove("status");
        bare
    };
    for (kind, object) in &rights {
        rebuilt.site.apply(kind, &bare(object)).await;
    }
    rebuilt.site.apply(&core("secrets"), &bare(&credential)).await;
    rebuilt.site.apply(&bindings(), &bare(&binding)).await;
    eventually("the rebuilt cluster is told who has the contract", async || {
        let status = rebuilt.binding_status(&service.plural).await;
        if status["phase"] == "ClaimedElsewhere" { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}

async fn rebuilt(by_login: bool) {
    let mut world = World::bound(super::PROGRAM, Service::new(44)).await;
    let service = world.service();
    world.make("default", "one", "one-token").await;
    let copy = world.copy(0, "one").await.unwrap();
    world.consumer().stop_agent().await;
    rebuild(&mut world).await;
    let rebuilt = &world.consumers[1];
    assert_eq!(world.copy(0, "one").await.unwrap()["metadata"]["uid"], copy["metadata"]["uid"], "nothing was deleted");
    if by_login {
        // Its owner logs in from there; the page asks, and the answer is yes.
        let url = format!("{}/kubernetes", world.providers[0].server);
        let words = [url.as_str(), "--skip-browser", "--accept-claims"];
        let _ = rebuilt.person.bind_in_browser(&words, &world.logins[0], None).await.ok();
    } else {
        // The provider approves the move.
        let uid = rebuilt.site.get(&core("namespaces"), "", "kube-system").await.unwrap()["metadata"]["uid"].clone();
        let contract = world.providers[0].site.list(&ours("clusterbindings", "ClusterBinding")).await.remove(0);
        let namespace = contract["metadata"]["namespace"].as_str().unwrap().to_owned();
        let kind = ours("clusterbindings", "ClusterBinding");
        world.providers[0]
            .site
            .patch(&kind, &namespace, "cluster", &json!({"spec": {"approvedClusterUID": uid}}))
            .await;
    }
    eventually("the rebuilt cluster is connected", async || {
        let status = rebuilt.binding_status(&service.plural).await;
        if status["phase"] == "Connected" { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    eventually("the kind is served and the object can come back", async || {
        let object = service.object("default", "one", "one-token");
        let key = kube_client::store::ObjectKey::of(&object).unwrap();
        let manager = kube_client::api::FieldManager("scenario");
        let applied = rebuilt
            .site
            .api
            .apply(&service.resource(), &key, &object, manager, kube_client::api::Subresource::Main)
            .await;
        applied.map(|_| ()).map_err(|error| error.to_string())
    })
    .await;
    eventually("its status comes from the old copy", async || {
        let object = rebuilt.site.get(&service.resource(), "default", "one").await.unwrap_or_default();
        if object["status"]["phase"] == "Running" { Ok(()) } else { Err(object.to_string()) }
    })
    .await;
    assert_eq!(
        world.copy(0, "one").await.unwrap()["metadata"]["uid"],
        copy["metadata"]["uid"],
        "zero deletes, zero creates"
    );
    world.end().await;
}

#[tokio::test]
async fn a_cluster_that_does_not_have_the_contract_unbinds_and_destroys_nothing_of_the_one_that_has() {
    let mut world = World::bound(super::PROGRAM, reading(49)).await;
    let service = world.service();
    let input = json!({"metadata": {"name": "input", "namespace": "default"}, "stringData": {"in": "one"}});
    world.consumers[0].site.apply(&core("secrets"), &input).await;
    world.consumers[0].site.apply(&service.resource(), &reader(&service, "one", "input")).await;
    let namespace = mapped(&world, "one").await;
    let copied = eventually("the Secret is at the provider", async || {
        world.providers[0].site.get(&core("secrets"), &namespace, "input").await.ok_or("no".to_owned())
    })
    .await;
    // The first cluster goes on.
    rebuild(&mut world).await;
    let (rebuilt, there) = (&world.consumers[1].site, &world.providers[0].site);
    rebuilt.patch(&bindings(), "", &service.plural, &json!({"spec": {"deletionPolicy": "Delete"}})).await;
    rebuilt.delete(&bindings(), "", &service.plural).await;
    stays("what the other cluster has", Duration::from_secs(3), async || {
        let secret = there.get(&core("secrets"), &namespace, "input").await.unwrap_or_default();
        if secret["metadata"]["uid"] != copied["metadata"]["uid"] {
            return Err(format!("the Secret was deleted: {}", secret["metadata"]));
        }
        let namespaces = there.list(&ours("apiservicenamespaces", "APIServiceNamespace")).await;
        let going = namespaces.iter().any(|one| one["metadata"]["deletionTimestamp"].is_string());
        if namespaces.is_empty() || going { Err(format!("{namespaces:?}")) } else { Ok(()) }
    })
    .await;
    eventually("its binding is gone", async || match rebuilt.get(&bindings(), "", &service.plural).await {
        None => Ok(()),
        Some(binding) => Err(binding.to_string()),
    })
    .await;
    world.consumers[0].site.patch(&core("secrets"), "default", "input", &json!({"data": {"in": "dHdv"}})).await;
    eventually("the first cluster's change arrives", async || {
        let secret = there.get(&core("secrets"), &namespace, "input").await.unwrap_or_default();
        if secret["data"]["in"] == "dHdv" { Ok(()) } else { Err(secret["metadata"].to_string()) }
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn a_revoked_consumer_is_cut_off_and_keeps_its_objects() {
    let mut world = World::bound(super::PROGRAM, Service::new(45)).await;
    let service = world.service();
    world.make("default", "one", "one-token").await;
    world.add_consumer().await;
    let url = format!("{}/kubernetes", world.providers[0].server);
    let words = [url.as_str(), "--skip-browser", "--accept-claims"];
    let _ = world.consumers[1].person.bind_in_browser(&words, &world.logins[1], None).await.ok();
    let contract = world.copy(0, "one").await.unwrap()["metadata"]["annotations"]["kube-bind.io/cluster-namespace"]
        .as_str()
        .unwrap()
        .to_owned();
    let admin = testkit::program::Person {
        program: super::PROGRAM.into(),
        home: world.folder().to_owned(),
        kubeconfig: world.providers[0].site.kubeconfig.clone(),
    };
    let listed = admin.bind(&["provider", "consumers"], "").await.ok();
    assert!(listed.stdout.contains(&contract), "{}", listed.stdout);
    let _ = admin.bind(&["provider", "revoke", &contract], "").await.ok();
    eventually("the binding says so", async || {
        let status = world.consumers[0].binding_status(&service.plural).await;
        if status["phase"] == "Connected" { Err(status.to_string()) } else { Ok(()) }
    })
    .await;
    assert!(world.copy(0, "one").await.is_some(), "its objects stay");
    assert!(world.consumers[0].site.get(&service.resource(), "default", "one").await.is_some());
    // Nobody else notices.
    world.consumers[1].site.apply(&service.resource(), &service.object("default", "other", "other-token")).await;
    eventually("the other consumer works", async || {
        let object = world.consumers[1].site.get(&service.resource(), "default", "other").await.unwrap_or_default();
        if object["status"]["phase"] == "Running" { Ok(()) } else { Err(object.to_string()) }
    })
    .await;
    world.end().await;
}
