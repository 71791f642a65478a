//! The core story for kinds that nobody has seen before: bind, make, claims, update, delete, unbind. `TESTKIT_SEED` plays
//! one that was printed before.

use rand::RngExt as _;
use serde_json::json;
use testkit::eventually;
use testkit::service::Service;
use testkit::site::{bindings, core, crds, ours};
use testkit::world::World;

#[tokio::test]
async fn the_story_does_not_depend_on_the_kind() {
    let seeds: Vec<u64> = match std::env::var("TESTKIT_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..3).map(|_| rand::rng().random_range(0..u64::from(u32::MAX))).collect(),
    };
    let stories = seeds.into_iter().map(|seed| {
        let service = Service::new(seed);
        eprintln!("TESTKIT_SEED={seed}: {} {}", service.crd_name(), service.secret_path.join("."));
        story(service)
    });
    futures::future::join_all(stories).await;
}

async fn story(service: Service) {
    let world = World::bound(super::PROGRAM, service.clone()).await;
    let (here, there) = (&world.consumers[0].site, &world.providers[0].site);
    let name = service.plural.as_str();
    // Made: a copy, its status, and what was claimed.
    world.make("default", "one", "one-token").await;
    let copy = world.copy(0, "one").await.unwrap();
    for (kind, claimed) in [("secrets", "one-token"), ("services", "one")] {
        eventually(&format!("{kind} {claimed} arrived"), async || {
            here.get(&core(kind), "default", claimed).await.ok_or("not yet".to_owned())
        })
        .await;
    }
    // Changed: the copy and the status that answers follow; a field taken away is gone there too.
    here.patch(&service.resource(), "default", "one", &json!({"spec": {"size": 5, "notes": ["a", "b"]}})).await;
    eventually("the change was seen and answered", async || {
        let object = here.get(&service.resource(), "default", "one").await.unwrap_or_default();
        if object["status"]["saw"] == 5 { Ok(()) } else { Err(object.to_string()) }
    })
    .await;
    here.patch(
        &service.resource(),
        "default",
        "one",
        &json!({"spec": {"notes": null, service.choice.clone(): service.choices[2]}}),
    )
    .await;
    eventually("the copy has what the object has", async || {
        let copy = world.copy(0, "one").await.unwrap_or_default();
        let same = copy["spec"]["notes"].is_null() && copy["spec"][&service.choice] == service.choices[2].as_str();
        if same { Ok(()) } else { Err(copy.to_string()) }
    })
    .await;
    assert_eq!(
        world.copy(0, "one").await.unwrap()["metadata"]["uid"],
        copy["metadata"]["uid"],
        "changed, not made anew"
    );
    // Rejected claims take their copies with them.
    let person = &world.consumers[0].person;
    let _ = person.bind(&["claims", "reject", name], "").await.ok();
    eventually("the claimed copies are gone", async || {
        let secret = here.get(&core("secrets"), "default", "one-token").await;
        let service = here.get(&core("services"), "default", "one").await;
        if secret.is_none() && service.is_none() { Ok(()) } else { Err(format!("{secret:?} {service:?}")) }
    })
    .await;
    let _ = person.bind(&["claims", "accept", name], "").await.ok();
    eventually("and come again", async || {
        here.get(&core("secrets"), "default", "one-token").await.ok_or("not yet".to_owned())
    })
    .await;
    // Deleted: gone on both sides, with what it referred to.
    here.delete(&service.resource(), "default", "one").await;
    eventually("the object and its Secret are gone on both sides", async || {
        let left = (
            here.get(&service.resource(), "default", "one").await.is_some(),
            world.copy(0, "one").await.is_some(),
            here.get(&core("secrets"), "default", "one-token").await.is_some(),
        );
        if left == (false, false, false) { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    // Unbound: nothing of ours is left.
    world.make("default", "two", "two-token").await;
    let _ = person.bind(&["unbind", name, "--delete-objects"], "").await.ok();
    assert!(here.list(&bindings()).await.is_empty());
    assert!(here.get(&crds(), "", &service.crd_name()).await.is_none());
    assert!(there.list(&service.resource()).await.is_empty());
    eventually("the contract is gone", async || {
        let contracts = there.names(&ours("clusterbindings", "ClusterBinding")).await;
        if contracts.is_empty() { Ok(()) } else { Err(format!("{contracts:?}")) }
    })
    .await;
    world.end().await;
}
