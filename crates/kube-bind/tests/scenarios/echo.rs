//! Writes whose event is late: the answer is as good as the event, and nothing is written twice meanwhile.

use std::time::Duration;

use serde_json::json;
use testkit::eventually;
use testkit::fault::{Fault, on};
use testkit::service::Service;
use testkit::world::World;

#[tokio::test]
async fn the_way_back_does_not_wait_for_the_event_of_the_way_up() {
    const OBJECTS: usize = 5;
    const LATE: Duration = Duration::from_secs(12);
    let mut world = World::with_faults(super::PROGRAM, Service::new(216)).await;
    let _ = world.bind(0, 0).await.ok();
    world.make("default", "first", "token-first").await;
    world.consumer().stop_agent().await;
    let service = world.service();
    let here = |number: usize| format!("late{number}");
    for number in 0..OBJECTS {
        world.consumers[0].site.apply(&service.resource(), &service.object("default", &here(number), "unused")).await;
    }
    // The list is answered at once, the watch after it late: the provider's events are there long before our own.
    let proxy = world.consumers[0].faults.as_ref().unwrap();
    let watch = || on("GET", &[&service.plural, "watch="]);
    proxy.when(watch(), Fault::Delay(LATE));
    let _ = proxy.take_seen();
    world.consumer().start_agent().await;
    for number in 0..OBJECTS {
        eventually("its status is here", async || {
            let object = world.consumers[0].site.get(&service.resource(), "default", &here(number)).await;
            let object = object.unwrap_or_default();
            if object["status"]["phase"] == "Running" { Ok(()) } else { Err(object.to_string()) }
        })
        .await;
    }
    let proxy = world.consumers[0].faults.as_ref().unwrap();
    let seen = proxy.seen();
    proxy.well();
    let asked = seen.iter().find(|seen| watch()(seen)).expect("a watch").at;
    for number in 0..OBJECTS {
        let writes: Vec<(&str, u16)> = seen
            .iter()
            .filter(|seen| seen.writes() && seen.place().contains(&format!("/{}/{}", service.plural, here(number))))
            .map(|seen| (seen.place().rsplit('/').next().unwrap_or_default(), seen.status))
            .collect();
        let status =
            seen.iter().find(|seen| seen.writes() && seen.place().ends_with(&format!("/{}/status", here(number))));
        assert!(status.expect("its status").at < asked + LATE, "it waited for the watch");
        assert_eq!(writes, [(here(number).as_str(), 200), ("status", 200)], "finalizer and status, once each");
    }
    world.end().await;
}

#[tokio::test]
async fn what_has_come_is_not_waited_for() {
    let world = World::with_faults(super::PROGRAM, Service::new(217)).await;
    let _ = world.bind(0, 0).await.ok();
    let service = world.service();
    world.make("default", "one", "one-token").await;
    let mut object = service.object("default", "one", "one-token");
    object["spec"]["size"] = json!(7);
    world.consumers[0].site.apply(&service.resource(), &object).await;
    eventually("the change arrived", async || {
        let copy = world.copy(0, "one").await.unwrap_or_default();
        if copy["spec"]["size"] == 7 { Ok(()) } else { Err(copy.to_string()) }
    })
    .await;
    // Put back by the agent, with nothing to write after it.
    let nothing = json!({"metadata": {"finalizers": null}});
    world.consumers[0].site.patch(&service.resource(), "default", "one", &nothing).await;
    eventually("the finalizer is back", async || {
        let object = world.consumers[0].site.get(&service.resource(), "default", "one").await.unwrap_or_default();
        if object["metadata"]["finalizers"].is_array() { Ok(()) } else { Err(object.to_string()) }
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    // A watch of which an event is missing is doubted, and starts anew: here none is missing.
    let proxies = [&world.consumers[0].faults, &world.providers[0].faults].map(|proxy| proxy.as_ref().unwrap());
    proxies.iter().for_each(|proxy| drop(proxy.take_seen()));
    tokio::time::sleep(Duration::from_secs(12)).await;
    for proxy in proxies {
        let anew: Vec<_> =
            proxy.seen().into_iter().filter(|seen| seen.watch && seen.path.contains(&service.plural)).collect();
        assert!(anew.is_empty(), "{anew:?}");
    }
    world.end().await;
}
