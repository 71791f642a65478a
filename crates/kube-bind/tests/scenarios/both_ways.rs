//! Claims whose objects the consumer owns, and two offerings of one provider in one namespace: what belongs to one of them
//! outlives the other (negative test 11).

use std::time::Duration;

use kube_client::resource::Resource;
use serde_json::{Value, json};
use testkit::service::Service;
use testkit::site::{Site, bindings, core, ours};
use testkit::world::World;
use testkit::{eventually, stays};

use super::claims::wait_for_opening;

/// A service that reads a Secret of the consumer.
pub(super) fn reading(seed: u64) -> Service {
    Service::new(seed).with_field("inputSecret", json!({"type": "string"})).with_claim(json!({
        "group": "", "resource": "secrets", "owner": "Consumer", "verbs": ["read"],
        "selector": {"references": [{"jsonPath": {"name": ".spec.inputSecret"}}]},
    }))
}

/// An object of [`reading`] that names a Secret of the consumer's.
pub(super) fn reader(service: &Service, name: &str, input: &str) -> Value {
    let mut object = service.object("default", name, &format!("{name}-token"));
    object["spec"]["inputSecret"] = json!(input);
    object
}

async fn data(site: &Site, namespace: &str, name: &str, wanted: Option<&str>) {
    eventually(&format!("Secret {namespace}/{name} at {} says {wanted:?}", site.cluster), async || {
        let seen = site.get(&core("secrets"), namespace, name).await;
        let text = seen.as_ref().map(|secret| secret["data"]["in"].as_str().unwrap_or_default().to_owned());
        if text.as_deref() == wanted { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
}

/// The mapped namespace of a consumer's object.
pub(super) async fn mapped(world: &World, name: &str) -> String {
    let copy = eventually("the copy is there", async || world.copy(0, name).await.ok_or("no".to_owned())).await;
    copy["metadata"]["namespace"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_the_consumer_owns_goes_up_changes_and_goes_with_what_refers_to_it() {
    let world = World::bound(super::PROGRAM, reading(81)).await;
    let service = world.service();
    let (here, there) = (&world.consumers[0].site, &world.providers[0].site);
    let secret = |name: &str, text: &str| json!({"metadata": {"name": name, "namespace": "default"}, "stringData": {"in": text}});
    here.apply(&core("secrets"), &secret("input", "one")).await;
    here.apply(&core("secrets"), &secret("private", "mine")).await;
    here.apply(&service.resource(), &reader(&service, "one", "input")).await;
    let namespace = mapped(&world, "one").await;
    data(there, &namespace, "input", Some("b25l")).await;
    assert!(there.get(&core("secrets"), &namespace, "private").await.is_none(), "a private Secret went up");
    // Its owner changes it.
    here.apply(&core("secrets"), &secret("input", "two")).await;
    data(there, &namespace, "input", Some("dHdv")).await;
    // The copy is not the provider's to change: it is put right again, and the original stays.
    there.patch(&core("secrets"), &namespace, "input", &json!({"data": {"in": "Zm9yZ2Vk"}})).await;
    data(there, &namespace, "input", Some("dHdv")).await;
    data(here, "default", "input", Some("dHdv")).await;
    // The owner deletes it, and makes it again.
    here.delete(&core("secrets"), "default", "input").await;
    data(there, &namespace, "input", None).await;
    here.apply(&core("secrets"), &secret("input", "three")).await;
    data(there, &namespace, "input", Some("dGhyZWU=")).await;
    // One that appears after what refers to it.
    here.apply(&service.resource(), &reader(&service, "two", "late")).await;
    world.running("default", "two").await;
    here.apply(&core("secrets"), &secret("late", "one")).await;
    data(there, &namespace, "late", Some("b25l")).await;
    // Two refer to one: it goes with the last.
    here.patch(&service.resource(), "default", "two", &json!({"spec": {"inputSecret": "input"}})).await;
    data(there, &namespace, "late", None).await;
    here.delete(&service.resource(), "default", "one").await;
    stays("the other one still refers to it", Duration::from_secs(2), async || {
        there.get(&core("secrets"), &namespace, "input").await.map(|_| ()).ok_or("it went".to_owned())
    })
    .await;
    here.delete(&service.resource(), "default", "two").await;
    data(there, &namespace, "input", None).await;
    // At its owner's nothing was ever deleted.
    for (name, text) in [("input", "dGhyZWU="), ("late", "b25l"), ("private", "bWluZQ==")] {
        data(here, "default", name, Some(text)).await;
    }
    world.end().await;
}

async fn uid(site: &Site, resource: &Resource, namespace: &str, name: &str) -> Value {
    site.get(resource, namespace, name).await.unwrap_or_else(|| panic!("{}: {namespace}/{name} is gone", site.cluster))
        ["metadata"]["uid"]
        .clone()
}

/// Two offerings of a provider in one namespace, with an object each.
async fn two_exports(seed: u64) -> (World, Service, Service, String) {
    two_exports_of(Service::new(seed), Service::new(seed + 100)).await
}

async fn two_exports_of(first: Service, second: Service) -> (World, Service, Service, String) {
    let mut world = World::new(super::PROGRAM, first.clone()).await;
    world.offer(0, second.clone()).await;
    let _ = world.bind_offering(0, 0, &first.plural).await.ok();
    let _ = world.bind_offering(0, 0, &second.plural).await.ok();
    world.make("default", "one", "one-token").await;
    let here = &world.consumers[0].site;
    here.apply(&second.resource(), &second.object("default", "other", "other-token")).await;
    for (kind, name) in
        [("secrets", "one-token"), ("secrets", "other-token"), ("services", "one"), ("services", "other")]
    {
        eventually(&format!("{kind} {name} is here"), async || {
            here.get(&core(kind), "default", name).await.ok_or("no".to_owned())
        })
        .await;
    }
    let namespace = mapped(&world, "one").await;
    assert!(
        world.providers[0].site.get(&second.resource(), &namespace, "other").await.is_some(),
        "they share the namespace"
    );
    (world, first, second, namespace)
}

#[tokio::test]
async fn an_export_that_goes_takes_nothing_of_another_in_the_same_namespace() {
    let (world, first, second, namespace) = two_exports(82).await;
    let (here, there) = (&world.consumers[0].site, &world.providers[0].site);
    let kept = [(here, "default"), (there, namespace.as_str())];
    let mut before = Vec::new();
    for (site, place) in kept {
        for (kind, name) in [
            (first.resource(), "one"),
            (second.resource(), "other"),
            (core("secrets"), "one-token"),
            (core("secrets"), "other-token"),
        ] {
            before.push((site, place, kind.clone(), name, uid(site, &kind, place, name).await));
        }
    }
    // The provider takes one export away, waiting for what depends on it as Argo CD does.
    let exports = ours("apiserviceexports", "APIServiceExport");
    let contract = there.list(&exports).await[0]["metadata"]["namespace"].as_str().unwrap().to_owned();
    let admin = testkit::program::Person {
        program: super::PROGRAM.into(),
        home: world.folder().to_owned(),
        kubeconfig: there.kubeconfig.clone(),
    };
    let words = [
        "-n",
        contract.as_str(),
        "delete",
        "apiserviceexport",
        &second.plural,
        "--cascade=foreground",
        "--wait=true",
        "--timeout=30s",
    ];
    match admin.kubectl(&words, "").await {
        Some(ended) => drop(ended.ok()),
        None => there.delete(&exports, &contract, &second.plural).await,
    }
    eventually("the binding is told", async || {
        let status = world.consumers[0].binding_status(&second.plural).await;
        if status["phase"] == "Connected" { Err(status.to_string()) } else { Ok(()) }
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    for (site, place, kind, name, old) in &before {
        assert_eq!(
            uid(site, kind, place, name).await,
            *old,
            "{}: {} {place}/{name} was destroyed",
            site.cluster,
            kind.plural
        );
    }
    // What stays bound works on.
    here.patch(&first.resource(), "default", "one", &json!({"spec": {"size": 9}})).await;
    eventually("the other export works", async || {
        let copy = there.get(&first.resource(), &namespace, "one").await.unwrap_or_default();
        if copy["spec"]["size"] == 9 { Ok(()) } else { Err(copy.to_string()) }
    })
    .await;
    world.phase(&first.plural, "Connected").await;
    world.end().await;
}

#[tokio::test]
async fn unbinding_one_of_two_leaves_the_objects_of_the_other() {
    let (world, first, second, namespace) = two_exports(83).await;
    let (here, there) = (&world.consumers[0].site, &world.providers[0].site);
    let mut before = Vec::new();
    for (site, place) in [(here, "default"), (there, namespace.as_str())] {
        for (kind, name) in [(first.resource(), "one"), (core("secrets"), "one-token"), (core("services"), "one")] {
            before.push((site, place, kind.clone(), name, uid(site, &kind, place, name).await));
        }
    }
    let _ = world.consumers[0].person.bind(&["unbind", &second.plural, "--delete-objects"], "").await.ok();
    assert!(here.get(&bindings(), "", &second.plural).await.is_none());
    assert!(there.list(&second.resource()).await.is_empty(), "its own objects are gone");
    assert!(here.get(&core("secrets"), "default", "other-token").await.is_none(), "its claimed copy is gone");
    tokio::time::sleep(Duration::from_secs(1)).await;
    for (site, place, kind, name, old) in &before {
        assert_eq!(
            uid(site, kind, place, name).await,
            *old,
            "{}: {} {place}/{name} was destroyed",
            site.cluster,
            kind.plural
        );
    }
    here.patch(&first.resource(), "default", "one", &json!({"spec": {"size": 9}})).await;
    eventually("the other binding works, with the same credential", async || {
        let copy = there.get(&first.resource(), &namespace, "one").await.unwrap_or_default();
        if copy["spec"]["size"] == 9 { Ok(()) } else { Err(copy.to_string()) }
    })
    .await;
    world.phase(&first.plural, "Connected").await;
    world.end().await;
}

async fn decide(site: &Site, binding: &str, state: &str) {
    let live = site.get(&bindings(), "", binding).await.unwrap();
    let mut claims = live["spec"]["permissionClaims"].clone();
    claims.as_array_mut().unwrap().iter_mut().for_each(|claim| claim["state"] = json!(state));
    site.patch(&bindings(), "", binding, &json!({"spec": {"permissionClaims": claims}})).await;
}

#[tokio::test]
async fn two_bindings_leave_each_other_what_the_consumer_owns() {
    let (world, first, second, namespace) = two_exports_of(reading(84), reading(184)).await;
    let (here, there) = (&world.consumers[0].site, &world.providers[0].site);
    let secret = |name: &str, text: &str| json!({"metadata": {"name": name, "namespace": "default"}, "stringData": {"in": text}});
    for (service, name, input) in
        [(&first, "mine", "mine"), (&second, "yours", "yours"), (&first, "ours", "both"), (&second, "shared", "both")]
    {
        here.apply(&core("secrets"), &secret(input, "one")).await;
        here.apply(&service.resource(), &reader(service, name, input)).await;
    }
    let mut old = Vec::new();
    for name in ["mine", "yours", "both"] {
        data(there, &namespace, name, Some("b25l")).await;
        old.push((name, uid(there, &core("secrets"), &namespace, name).await));
    }
    let same = async |names: &[&str]| {
        for turn in 0..6 {
            for (name, old) in old.iter().filter(|(name, _)| names.contains(name)) {
                assert_eq!(
                    uid(there, &core("secrets"), &namespace, name).await,
                    *old,
                    "{name} was deleted and made again"
                );
                // Every binding of the contract hears of it.
                here.apply(&core("secrets"), &secret(name, &format!("turn {turn}"))).await;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    same(&["mine", "yours", "both"]).await;
    // What one rejects, the other still reads.
    decide(here, &second.plural, "Rejected").await;
    data(there, &namespace, "yours", None).await;
    same(&["mine", "both"]).await;
    decide(here, &second.plural, "Accepted").await;
    eventually("it is read again", async || {
        there.get(&core("secrets"), &namespace, "yours").await.map(|_| ()).ok_or("no".to_owned())
    })
    .await;
    // The unbinding of one takes along its own and comes to an end.
    let _ = world.consumers[0].person.bind(&["unbind", &second.plural, "--delete-objects"], "").await.ok();
    assert!(here.get(&bindings(), "", &second.plural).await.is_none());
    data(there, &namespace, "yours", None).await;
    same(&["mine", "both"]).await;
    // And the last that refers to a Secret takes it along.
    here.delete(&first.resource(), "default", "ours").await;
    data(there, &namespace, "both", None).await;
    for name in ["mine", "yours", "both"] {
        assert!(here.get(&core("secrets"), "default", name).await.is_some(), "{name} was deleted at its owner's");
    }
    world.end().await;
}

#[tokio::test]
async fn a_namespace_is_closed_for_one_binding_while_another_goes_on_there() {
    let (world, first, second, namespace) = two_exports_of(reading(85), reading(185)).await;
    let (here, there) = (&world.consumers[0].site, &world.providers[0].site);
    let secret = |text: &str| json!({"metadata": {"name": "mine", "namespace": "default"}, "stringData": {"in": text}});
    here.apply(&core("secrets"), &secret("one")).await;
    here.apply(&first.resource(), &reader(&first, "reads", "mine")).await;
    data(there, &namespace, "mine", Some("b25l")).await;
    for binding in [&first.plural, &second.plural] {
        wait_for_opening(&world, binding, "default", true).await;
    }
    let old = uid(there, &core("secrets"), &namespace, "mine").await;
    here.delete(&second.resource(), "default", "other").await;
    wait_for_opening(&world, &second.plural, "default", false).await;
    assert!(here.get(&core("secrets"), "default", "other-token").await.is_none(), "its copy is left");
    // The other one has lost nothing.
    wait_for_opening(&world, &first.plural, "default", true).await;
    here.apply(&core("secrets"), &secret("two")).await;
    data(there, &namespace, "mine", Some("dHdv")).await;
    assert_eq!(uid(there, &core("secrets"), &namespace, "mine").await, old, "it was deleted and made again");
    assert!(here.get(&core("secrets"), "default", "one-token").await.is_some());
    world.end().await;
}
