//! Permission claims as data (S6): what was accepted crosses, and nothing else; rejected copies go.

use serde_json::json;
use std::time::Duration;
use testkit::service::Service;
use testkit::site::{bindings, core};
use testkit::world::World;
use testkit::{eventually, stays};

async fn wait_for_secret(world: &World, name: &str, there: bool) {
    eventually(&format!("Secret {name} at the consumer: {there}"), async || {
        let seen = world.consumers[0].site.get(&core("secrets"), "default", name).await;
        if seen.is_some() == there { Ok(()) } else { Err(format!("{:?}", seen.map(|s| s["metadata"].clone()))) }
    })
    .await;
}

async fn set_claims(world: &World, state: &str) {
    let name = world.binding(0);
    let binding = world.consumers[0].site.get(&bindings(), "", &name).await.unwrap();
    let mut claims = binding["spec"]["permissionClaims"].clone();
    for claim in claims.as_array_mut().unwrap() {
        claim["state"] = json!(state);
    }
    world.consumers[0].site.patch(&bindings(), "", &name, &json!({"spec": {"permissionClaims": claims}})).await;
}

#[tokio::test]
async fn a_claims_object_comes_and_goes_with_what_refers_to_it() {
    let world = World::bound(super::PROGRAM, Service::new(31)).await;
    let service = world.service();
    let here = &world.consumers[0].site;
    // A Secret of the consumer's own stays where it is.
    here.apply(
        &core("secrets"),
        &json!({"metadata": {"name": "private", "namespace": "default"}, "stringData": {"a": "b"}}),
    )
    .await;
    world.make("default", "one", "one-token").await;
    wait_for_secret(&world, "one-token", true).await;
    eventually("the Service arrived", async || {
        here.get(&core("services"), "default", "one").await.ok_or("not yet".to_owned())
    })
    .await;
    let secret = here.get(&core("secrets"), "default", "one-token").await.unwrap();
    use base64::Engine as _;
    let token = base64::engine::general_purpose::STANDARD.decode(secret["data"]["token"].as_str().unwrap()).unwrap();
    assert_eq!(token, b"token of one");
    let copy = world.copy(0, "one").await.unwrap();
    let namespace = copy["metadata"]["namespace"].as_str().unwrap();
    assert!(
        world.providers[0].site.get(&core("secrets"), namespace, "private").await.is_none(),
        "a private Secret crossed"
    );
    // A change at the owner's side arrives.
    world.providers[0].site.patch(&core("secrets"), namespace, "one-token", &json!({"data": {"token": "bmV3"}})).await;
    eventually("the new token", async || {
        let secret = here.get(&core("secrets"), "default", "one-token").await.unwrap_or_default();
        if secret["data"]["token"] == "bmV3" { Ok(()) } else { Err(secret["data"].to_string()) }
    })
    .await;
    here.delete(&service.resource(), "default", "one").await;
    wait_for_secret(&world, "one-token", false).await;
    eventually("the Service went", async || match here.get(&core("services"), "default", "one").await {
        None => Ok(()),
        Some(service) => Err(service.to_string()),
    })
    .await;
    assert!(here.get(&core("secrets"), "default", "private").await.is_some());
    world.end().await;
}

#[tokio::test]
async fn rejected_copies_go_and_accepted_ones_come_back() {
    let world = World::bound(super::PROGRAM, Service::new(32)).await;
    world.make("default", "one", "one-token").await;
    wait_for_secret(&world, "one-token", true).await;
    set_claims(&world, "Rejected").await;
    wait_for_secret(&world, "one-token", false).await;
    // At the provider the operator's Secret is untouched, and new ones do not cross.
    let namespace = world.copy(0, "one").await.unwrap()["metadata"]["namespace"].as_str().unwrap().to_owned();
    assert!(world.providers[0].site.get(&core("secrets"), &namespace, "one-token").await.is_some());
    world.make("default", "two", "two-token").await;
    stays("nothing crosses while rejected", Duration::from_secs(2), async || {
        match world.consumers[0].site.get(&core("secrets"), "default", "two-token").await {
            None => Ok(()),
            Some(_) => Err("two-token crossed".to_owned()),
        }
    })
    .await;
    set_claims(&world, "Accepted").await;
    wait_for_secret(&world, "one-token", true).await;
    wait_for_secret(&world, "two-token", true).await;
    world.end().await;
}

#[tokio::test]
async fn what_was_not_accepted_stays_and_deletes_nothing() {
    let world = World::bound(super::PROGRAM, Service::new(33)).await;
    world.make("default", "one", "one-token").await;
    wait_for_secret(&world, "one-token", true).await;
    let name = world.binding(0);
    // Absent means pending: nothing crosses any more, nothing is deleted.
    world.consumers[0].site.patch(&bindings(), "", &name, &json!({"spec": {"permissionClaims": []}})).await;
    world.make("default", "two", "two-token").await;
    stays("pending: no new copies, old ones stay", Duration::from_secs(3), async || {
        let site = &world.consumers[0].site;
        let old = site.get(&core("secrets"), "default", "one-token").await.is_some();
        let new = site.get(&core("secrets"), "default", "two-token").await.is_some();
        if old && !new { Ok(()) } else { Err(format!("old {old}, new {new}")) }
    })
    .await;
    let status = world.consumers[0].binding_status(&name).await;
    assert!(
        status.to_string().to_lowercase().contains("pending"),
        "the binding says that claims are pending: {status}"
    );
    world.end().await;
}
