//! Objects and their copies: every top-level field up, removal included; status down as it is; no writes at rest; what the
//! provider's machinery writes into spec survives.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::fault::{Fault, on};
use testkit::service::Service;
use testkit::site::{bindings, core, crds};
use testkit::world::World;
use testkit::{PATIENCE, eventually, within};

#[tokio::test]
async fn changes_and_removals_travel_up_and_the_providers_own_fields_survive() {
    let tags = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let world = World::bound(super::PROGRAM, Service::new(21).with_field("tags", tags)).await;
    let service = world.service();
    let here = &world.consumers[0].site;
    let there = &world.providers[0].site;
    let mut object = service.object("default", "one", "one-token");
    object["spec"]["notes"] = json!(["a", "b"]);
    object["extra"] = json!({"deep": {"er": [1, {"x": null}]}});
    here.apply(&service.resource(), &object).await;
    world.running("default", "one").await;
    let copy = world.copy(0, "one").await.unwrap();
    assert_eq!(copy["extra"]["deep"]["er"][0], 1, "fields beside spec travel too: {copy}");
    let namespace = copy["metadata"]["namespace"].as_str().unwrap().to_owned();
    there.patch(&service.resource(), &namespace, "one", &json!({"spec": {"machinery": "composed-7"}})).await;

    object["spec"]["size"] = json!(9);
    object["spec"].as_object_mut().unwrap().remove("notes");
    object.as_object_mut().unwrap().remove("extra");
    here.apply(&service.resource(), &object).await;
    let copy = eventually("change and removal arrived", async || {
        let copy = world.copy(0, "one").await.unwrap_or_default();
        let done = copy["spec"]["size"] == 9 && copy["spec"]["notes"].is_null() && copy["extra"].is_null();
        if done { Ok(copy) } else { Err(copy.to_string()) }
    })
    .await;
    assert_eq!(copy["spec"]["machinery"], "composed-7", "the provider's own field was erased");
    let object = here.get(&service.resource(), "default", "one").await.unwrap();
    assert!(object["spec"]["machinery"].is_null(), "and it was not sent back: {object}");
    // A map that loses its last entry stays, empty.
    for tags in [json!({"a": "1"}), json!({"a": null})] {
        here.patch(&service.resource(), "default", "one", &json!({"spec": {"tags": tags}})).await;
        let object = here.get(&service.resource(), "default", "one").await.unwrap();
        eventually("the map arrived", async || {
            let copy = world.copy(0, "one").await.unwrap_or_default();
            if copy["spec"]["tags"] == object["spec"]["tags"] { Ok(()) } else { Err(copy["spec"].to_string()) }
        })
        .await;
        assert!(object["spec"]["tags"].is_object(), "{object}");
    }
    // Drift of what is ours is put back.
    there.patch(&service.resource(), &namespace, "one", &json!({"spec": {"size": 1}})).await;
    eventually("the drift is put back", async || {
        let copy = world.copy(0, "one").await.unwrap_or_default();
        if copy["spec"]["size"] == 9 { Ok(()) } else { Err(copy["spec"].to_string()) }
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn status_is_carried_as_it_is_and_goes_when_it_goes() {
    let mut world = World::bound(super::PROGRAM, Service::new(22)).await;
    let service = world.service();
    world.make("default", "one", "one-token").await;
    world.provider().stop_operator().await;
    let namespace = world.copy(0, "one").await.unwrap()["metadata"]["namespace"].as_str().unwrap().to_owned();
    let strange = json!({"conditions": {"AMap": {"status": true}}, "phase": "Odd", "observedGeneration": null, "saw": null, "list": [[], {}]});
    world.providers[0].site.patch_status(&service.resource(), &namespace, "one", &strange).await;
    eventually("the odd status arrived", async || {
        let object = world.consumers[0].site.get(&service.resource(), "default", "one").await.unwrap_or_default();
        let done = object["status"]["phase"] == "Odd"
            && object["status"]["list"] == json!([[], {}])
            && object["status"]["saw"].is_null();
        if done { Ok(()) } else { Err(object["status"].to_string()) }
    })
    .await;
    world.providers[0].site.patch_status(&service.resource(), &namespace, "one", &Value::Null).await;
    eventually("the status is gone", async || {
        let object = world.consumers[0].site.get(&service.resource(), "default", "one").await.unwrap_or_default();
        if object["status"].as_object().is_none_or(|status| status.is_empty()) {
            Ok(())
        } else {
            Err(object["status"].to_string())
        }
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn the_status_comes_down_while_the_spec_is_refused_or_contested() {
    let mut world = World::with_faults(super::PROGRAM, Service::new(24)).await;
    let _ = world.bind(0, 0).await.ok();
    let service = world.service();
    let kind = service.resource();
    world.make("default", "one", "one-token").await;
    world.provider().stop_operator().await;
    let namespace = world.copy(0, "one").await.unwrap()["metadata"]["namespace"].as_str().unwrap().to_owned();
    let (here, there) = (&world.consumers[0].site, &world.providers[0].site);
    let size = json!({"spec": {"size": 9}});
    let told = async |reason: &str| {
        eventually(&format!("an Event {reason}"), async || {
            let events = here.list(&core("events")).await;
            let said = events.iter().any(|e| e["involvedObject"]["name"] == "one" && e["reason"] == reason);
            if said { Ok(()) } else { Err(json!(events).to_string()) }
        })
        .await;
    };
    let comes_down = async |phase: &str| {
        there.patch_status(&kind, &namespace, "one", &json!({"phase": phase})).await;
        eventually(&format!("{phase} is at the consumer"), async || {
            let object = here.get(&kind, "default", "one").await.unwrap_or_default();
            if object["status"]["phase"] == phase { Ok(()) } else { Err(object["status"].to_string()) }
        })
        .await;
    };
    let there_is = async |wanted: u32| {
        eventually(&format!("size {wanted} is at the provider"), async || {
            let copy = world.copy(0, "one").await.unwrap_or_default();
            if copy["spec"]["size"] == wanted { Ok(()) } else { Err(copy["spec"].to_string()) }
        })
        .await;
    };
    let proxy = world.providers[0].faults.as_ref().unwrap();
    proxy.when(on("PATCH", &["/one?"]), Fault::invalid("\"one\" is invalid: spec.size: must not grow"));
    here.patch(&kind, "default", "one", &size).await;
    told("SyncRefused").await;
    comes_down("Degraded").await;
    assert_eq!(world.copy(0, "one").await.unwrap()["spec"]["size"], 2);
    proxy.well();
    there_is(9).await;
    // Somebody at the provider has another opinion, again and again.
    for _ in 0..3 {
        there.patch(&kind, &namespace, "one", &json!({"spec": {"size": 1}})).await;
        there_is(9).await;
    }
    there.patch(&kind, &namespace, "one", &json!({"spec": {"size": 1}})).await;
    told("FieldContested").await;
    comes_down("Contested").await;
    assert_eq!(world.copy(0, "one").await.unwrap()["spec"]["size"], 1, "the status has waited for the spec");
    world.end().await;
}

/// Names and contents of the objects that the agent may touch, heartbeats and Leases aside; of Secrets the revision.
pub(super) async fn revisions(world: &World) -> Vec<(String, String)> {
    let service = world.service();
    let mut seen = Vec::new();
    for site in [&world.consumers[0].site, &world.providers[0].site] {
        for kind in [service.resource(), core("secrets"), core("services"), core("namespaces"), crds(), core("events")]
        {
            for object in site.list(&kind).await {
                let name = format!(
                    "{} {} {}/{}",
                    site.cluster, kind.plural, object["metadata"]["namespace"], object["metadata"]["name"]
                );
                let content = match kind.plural.as_str() {
                    "secrets" => object["metadata"]["resourceVersion"].to_string(),
                    _ => content(object),
                };
                seen.push((name, content));
            }
        }
    }
    for object in world.consumers[0].site.list(&bindings()).await {
        seen.push((format!("binding {}", object["metadata"]["name"]), content(object)));
    }
    seen
}

fn content(mut object: Value) -> String {
    object["metadata"]["managedFields"].take();
    object.to_string()
}

/// Waits until nothing is written for as long as the pause; returns what there is then.
pub(super) async fn rest(world: &World, patience: Duration, pause: Duration) -> Vec<(String, String)> {
    let mut before = revisions(world).await;
    within(patience, "it comes to rest", async || {
        tokio::time::sleep(pause).await;
        let now = revisions(world).await;
        let changed = differences(&before, &now);
        before = now;
        if changed.is_empty() { Ok(()) } else { Err(changed.join("\n")) }
    })
    .await;
    before
}

/// What is not as it was, before and now.
pub(super) fn differences(before: &[(String, String)], now: &[(String, String)]) -> Vec<String> {
    let of = |sign: &str, ones: &[(String, String)], others: &[(String, String)]| {
        let changed = ones.iter().filter(|one| !others.contains(one));
        changed.map(|(name, content)| format!("{sign} {name}: {content}")).collect::<Vec<_>>()
    };
    [of("-", before, now), of("+", now, before)].concat()
}

#[tokio::test]
async fn nothing_is_written_at_rest_nor_after_a_restart() {
    let mut world = World::bound(super::PROGRAM, Service::new(23)).await;
    for number in 0..5 {
        world.make("default", &format!("n{number}"), &format!("t{number}")).await;
    }
    // Until the tokens are here, writes are due.
    for number in 0..5 {
        eventually("the token is here", async || {
            world.consumers[0]
                .site
                .get(&core("secrets"), "default", &format!("t{number}"))
                .await
                .map(|_| ())
                .ok_or("not yet".to_owned())
        })
        .await;
    }
    let before = rest(&world, PATIENCE, Duration::from_secs(2)).await;
    let at_rest = async |world: &World, what: &str, time: Duration| {
        tokio::time::sleep(time).await;
        let changed = differences(&before, &revisions(world).await);
        assert!(changed.is_empty(), "{what}:\n{}", changed.join("\n"));
    };
    at_rest(&world, "at rest", Duration::from_secs(3)).await;
    world.consumer().stop_agent().await;
    world.consumer().start_agent().await;
    at_rest(&world, "after a restart of the agent", Duration::from_secs(4)).await;
    world.end().await;
}

#[tokio::test]
async fn a_new_object_does_not_wait_for_those_that_were_there_before() {
    const BEFORE: usize = 200;
    let mut world = World::bound(super::PROGRAM, Service::new(26)).await;
    world.make("default", "first", "token-first").await;
    world.consumer().stop_agent().await;
    let service = world.service();
    for number in 0..BEFORE {
        let object = service.object("default", &format!("old{number}"), "unused");
        world.consumers[0].site.apply(&service.resource(), &object).await;
    }
    world.consumer().start_agent().await;
    let copies = async || world.providers[0].site.list(&service.resource()).await.len();
    eventually("the agent has begun", async || if copies().await > 1 { Ok(()) } else { Err("nothing yet".to_owned()) })
        .await;
    world.consumers[0].site.apply(&service.resource(), &service.object("default", "new", "unused")).await;
    let others = eventually("the new one is there", async || match world.copy(0, "new").await {
        Some(_) => Ok(copies().await),
        None => Err(format!("{} others", copies().await)),
    })
    .await;
    // Several are worked on at once, so the last of a queue is not the last to arrive.
    assert!(others < BEFORE * 3 / 4, "the new one came after {others} others");
    eventually("the others come too", async || {
        let there = copies().await;
        if there == BEFORE + 2 { Ok(()) } else { Err(format!("{there} of {}", BEFORE + 2)) }
    })
    .await;
    world.end().await;
}
