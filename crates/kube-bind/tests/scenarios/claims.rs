//! Permission claims as data (S6): what was accepted crosses, and nothing else; rejected copies go, and none goes because
//! something is missing.

use kube_client::resource::Resource;
use serde_json::json;
use std::time::Duration;
use testkit::fault::{Fault, on};
use testkit::service::Service;
use testkit::site::{Site, bindings, core, crds};
use testkit::world::World;
use testkit::{eventually, stays, within};

use super::both_ways::{mapped, reader, reading};

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

fn rbac(plural: &str, kind: &str) -> Resource {
    Resource::new("rbac.authorization.k8s.io", "v1", plural, kind)
}

/// Waits until a namespace of the first consumer is open for a binding's claims, or not.
pub(super) async fn wait_for_opening(world: &World, binding: &str, namespace: &str, open: bool) {
    let name = contract::rbac::consumer::claims_role_name(binding);
    eventually(&format!("RoleBinding {namespace}/{name}: {open}"), async || {
        let seen = world.consumers[0].site.get(&rbac("rolebindings", "RoleBinding"), namespace, &name).await;
        if seen.is_some() == open { Ok(()) } else { Err(format!("{:?}", seen.map(|s| s["metadata"].clone()))) }
    })
    .await;
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

/// An object with a Secret of the consumer's as input and one of the provider's as token, both copied to the other side;
/// the mapped namespace.
async fn with_copies(world: &World, name: &str) -> String {
    let (here, there) = (&world.consumers[0].site, &world.providers[0].site);
    let input = format!("{name}-input");
    let secret = json!({"metadata": {"name": input, "namespace": "default"}, "stringData": {"in": name}});
    here.apply(&core("secrets"), &secret).await;
    let service = world.service();
    here.apply(&service.resource(), &reader(&service, name, &input)).await;
    wait_for_secret(world, &format!("{name}-token"), true).await;
    let namespace = mapped(world, name).await;
    eventually("the input is at the provider", async || {
        there.get(&core("secrets"), &namespace, &input).await.map(|_| ()).ok_or("no".to_owned())
    })
    .await;
    namespace
}

/// The copies of [`with_copies`], at the consumer and at the provider.
fn copies<'a>(world: &'a World, namespace: &'a str, name: &str) -> [(&'a Site, &'a str, String); 2] {
    let (here, there) = (&world.consumers[0].site, &world.providers[0].site);
    [(here, "default", format!("{name}-token")), (there, namespace, format!("{name}-input"))]
}

/// Something happens to the copies, again and again, and they stay the same objects.
async fn survive(world: &World, namespace: &str, name: &str) {
    let mut old = Vec::new();
    for (site, place, secret) in copies(world, namespace, name) {
        old.push(site.get(&core("secrets"), place, &secret).await.unwrap()["metadata"]["uid"].clone());
    }
    for turn in 0..6 {
        for ((site, place, secret), old) in copies(world, namespace, name).into_iter().zip(&old) {
            let live = site.get(&core("secrets"), place, &secret).await;
            let live = live.unwrap_or_else(|| panic!("{}: {secret} was deleted", site.cluster));
            assert_eq!(live["metadata"]["uid"], *old, "{}: {secret} was deleted and made again", site.cluster);
            let turn = json!({"metadata": {"annotations": {"example.com/turn": turn.to_string()}}});
            site.patch(&core("secrets"), place, &secret, &turn).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn are_gone(world: &World, namespace: &str, name: &str) {
    for (site, place, secret) in copies(world, namespace, name) {
        eventually(&format!("{secret} goes with what referred to it"), async || {
            site.get(&core("secrets"), place, &secret).await.map_or(Ok(()), |live| Err(live["metadata"].to_string()))
        })
        .await;
    }
}

#[tokio::test]
async fn a_consumer_restored_from_before_an_object_loses_none_of_its_copies() {
    let mut world = World::bound(super::PROGRAM, reading(34)).await;
    let service = world.service();
    with_copies(&world, "old").await;
    let namespace = with_copies(&world, "prod").await;
    world.consumer().stop_agent().await;
    {
        // As a backup from before the object leaves it: it is missing, and nobody has deleted it.
        let here = &world.consumers[0].site;
        here.patch(&service.resource(), "default", "prod", &json!({"metadata": {"finalizers": null}})).await;
        here.delete(&service.resource(), "default", "prod").await;
    }
    world.consumer().start_agent().await;
    let (here, there) = (&world.consumers[0].site, &world.providers[0].site);
    here.patch(&service.resource(), "default", "old", &json!({"spec": {"size": 9}})).await;
    eventually("the agent works", async || {
        let copy = there.get(&service.resource(), &namespace, "old").await.unwrap_or_default();
        if copy["spec"]["size"] == 9 { Ok(()) } else { Err(copy.to_string()) }
    })
    .await;
    survive(&world, &namespace, "prod").await;
    assert!(there.get(&service.resource(), &namespace, "prod").await.is_some());
    // What is really deleted takes its copies along.
    here.delete(&service.resource(), "default", "old").await;
    are_gone(&world, &namespace, "old").await;
    // So does what was missing, once it is there again.
    here.apply(&service.resource(), &reader(&service, "prod", "prod-input")).await;
    eventually("it is held again", async || {
        let object = here.get(&service.resource(), "default", "prod").await.unwrap_or_default();
        if object["metadata"]["finalizers"].is_array() { Ok(()) } else { Err(object.to_string()) }
    })
    .await;
    here.delete(&service.resource(), "default", "prod").await;
    are_gone(&world, &namespace, "prod").await;
    world.end().await;
}

#[tokio::test]
async fn a_crd_that_is_made_again_empty_takes_no_copies_along() {
    let world = World::bound(super::PROGRAM, reading(35)).await;
    let service = world.service();
    let namespace = with_copies(&world, "one").await;
    let here = &world.consumers[0].site;
    let old = here.get(&crds(), "", &service.crd_name()).await.unwrap()["metadata"]["uid"].clone();
    here.delete(&crds(), "", &service.crd_name()).await;
    eventually("the CRD is back", async || {
        let crd = here.get(&crds(), "", &service.crd_name()).await.unwrap_or_default();
        let back = crd["metadata"]["uid"].is_string() && crd["metadata"]["uid"] != old;
        if back { Ok(()) } else { Err(crd["metadata"].to_string()) }
    })
    .await;
    eventually("the API is served again", async || {
        here.api.list(&service.resource(), &kube_client::api::ListQuery::default()).await.map_err(|e| e.to_string())
    })
    .await;
    survive(&world, &namespace, "one").await;
    here.apply(&service.resource(), &reader(&service, "one", "one-input")).await;
    world.running("default", "one").await;
    here.delete(&service.resource(), "default", "one").await;
    are_gone(&world, &namespace, "one").await;
    world.end().await;
}

#[tokio::test]
async fn what_is_made_anew_with_another_type_replaces_its_copy() {
    let mut world = World::bound(super::PROGRAM, reading(36)).await;
    let namespace = with_copies(&world, "one").await;
    // The provider's Secret must not change any more, so its next credential is in a new one.
    world.providers[0].site.patch(&core("secrets"), &namespace, "one-token", &json!({"immutable": true})).await;
    eventually("the copy is immutable", async || {
        let copy = world.consumers[0].site.get(&core("secrets"), "default", "one-token").await.unwrap_or_default();
        if copy["immutable"] == true { Ok(()) } else { Err(copy["metadata"].to_string()) }
    })
    .await;
    world.consumer().stop_agent().await;
    {
        let (here, there) = (&world.consumers[0].site, &world.providers[0].site);
        let old = there.get(&core("secrets"), &namespace, "one-token").await.unwrap();
        there.delete(&core("secrets"), &namespace, "one-token").await;
        let metadata = json!({
            "name": "one-token", "namespace": namespace, "ownerReferences": old["metadata"]["ownerReferences"],
        });
        there.apply(&core("secrets"), &json!({"metadata": metadata, "data": {"token": "bmV3"}})).await;
        here.delete(&core("secrets"), "default", "one-input").await;
        let metadata = json!({"name": "one-input", "namespace": "default"});
        let other = json!({"metadata": metadata, "type": "example.com/other", "stringData": {"in": "new"}});
        here.apply(&core("secrets"), &other).await;
    }
    world.consumer().start_agent().await;
    let (here, there) = (&world.consumers[0].site, &world.providers[0].site);
    for (site, place, name, field) in
        [(here, "default", "one-token", "token"), (there, namespace.as_str(), "one-input", "in")]
    {
        eventually(&format!("{name} at {} is the new one", site.cluster), async || {
            let copy = site.get(&core("secrets"), place, name).await.unwrap_or_default();
            if copy["data"][field] == "bmV3" { Ok(()) } else { Err(format!("{} {}", copy["type"], copy["metadata"])) }
        })
        .await;
    }
    assert_eq!(there.get(&core("secrets"), &namespace, "one-input").await.unwrap()["type"], "example.com/other");
    world.end().await;
}

#[tokio::test]
async fn rights_for_claims_that_somebody_removes_are_made_again_or_missed_aloud() {
    let mut world = World::bound(super::PROGRAM, Service::new(37)).await;
    world.expect_refusals("an administrator takes the agent's rights away");
    let (service, binding) = (world.service(), world.binding(0));
    let here = &world.consumers[0].site;
    let name = contract::rbac::consumer::claims_role_name(&binding);
    world.make("default", "one", "one-token").await;
    wait_for_secret(&world, "one-token", true).await;
    // What the agent makes, it makes again.
    here.delete(&rbac("rolebindings", "RoleBinding"), "default", &name).await;
    wait_for_opening(&world, &binding, "default", false).await;
    world.make("default", "two", "two-token").await;
    wait_for_secret(&world, "two-token", true).await;
    wait_for_opening(&world, &binding, "default", true).await;
    // What a bind makes is missing: the object says so, and the binding, which mends it.
    let role = here.get(&rbac("clusterroles", "ClusterRole"), "", &name).await.unwrap();
    here.delete(&rbac("clusterroles", "ClusterRole"), "", &name).await;
    world.make("default", "three", "three-token").await;
    eventually("an Event on the object", async || {
        let events = here.list(&core("events")).await;
        let said = events.iter().find(|event| {
            let words = ["consumer", "three", "kubectl bind"];
            event["involvedObject"]["name"] == "three"
                && event["reason"] == "SyncDelayed"
                && words.iter().all(|word| event["message"].as_str().unwrap_or_default().contains(word))
        });
        said.map(|_| ()).ok_or_else(|| json!(events).to_string())
    })
    .await;
    here.namespace("team").await;
    here.apply(&service.resource(), &service.object("team", "four", "four-token")).await;
    let watches = async |status: &str, words: &[&str]| {
        eventually(&format!("the binding's InformersSynced is {status}"), async || {
            let now = world.consumers[0].binding_status(&binding).await;
            let conditions = now["conditions"].as_array().cloned().unwrap_or_default();
            let found = conditions.iter().find(|c| c["type"] == "InformersSynced" && c["status"] == status);
            let message = found.map(|condition| condition["message"].to_string());
            let said = message.is_some_and(|message| words.iter().all(|word| message.contains(word)));
            if said { Ok(()) } else { Err(now.to_string()) }
        })
        .await;
    };
    watches("False", &["consumer", "team", "kubectl bind"]).await;
    here.apply(
        &rbac("clusterroles", "ClusterRole"),
        &json!({"metadata": {"name": name, "labels": role["metadata"]["labels"]}, "rules": role["rules"]}),
    )
    .await;
    wait_for_secret(&world, "three-token", true).await;
    eventually("the other token is here", async || {
        here.get(&core("secrets"), "team", "four-token").await.map(|_| ()).ok_or("no".to_owned())
    })
    .await;
    watches("True", &[]).await;
    world.end().await;
}

#[tokio::test]
async fn a_namespace_that_an_agent_left_open_is_closed_by_the_next() {
    let mut world = World::bound(super::PROGRAM, reading(38)).await;
    let (service, binding) = (world.service(), world.binding(0));
    let namespace = with_copies(&world, "one").await;
    wait_for_opening(&world, &binding, "default", true).await;
    world.consumer().stop_agent().await;
    {
        // As if it had ended between the deletion of the last object and that of what it referred to.
        let (here, there) = (&world.consumers[0].site, &world.providers[0].site);
        here.patch(&service.resource(), "default", "one", &json!({"metadata": {"finalizers": null}})).await;
        here.delete(&service.resource(), "default", "one").await;
        there.delete(&service.resource(), &namespace, "one").await;
    }
    world.consumer().start_agent().await;
    are_gone(&world, &namespace, "one").await;
    wait_for_opening(&world, &binding, "default", false).await;
    assert!(
        world.consumers[0].site.get(&core("secrets"), "default", "one-input").await.is_some(),
        "it is the consumer's"
    );
    world.end().await;
}

#[tokio::test]
async fn what_the_provider_made_waits_for_an_agent_that_has_just_begun() {
    let mut world = World::with_faults(super::PROGRAM, Service::new(39)).await;
    let _ = world.bind(0, 0).await.ok();
    let service = world.service();
    world.make("default", "one", "one-token").await;
    wait_for_secret(&world, "one-token", true).await;
    let namespace = mapped(&world, "one").await;
    world.consumer().stop_agent().await;
    world.providers[0].site.patch(&core("secrets"), &namespace, "one-token", &json!({"data": {"token": "bmV3"}})).await;
    // The agent hears of the claimed objects long before it hears of the objects that refer to them.
    let proxy = world.providers[0].faults.as_ref().unwrap();
    let list = format!("/{namespace}/{}?limit", service.plural);
    let slow = proxy.when(on("GET", &[&list]), Fault::Delay(Duration::from_secs(3)));
    world.consumer().start_agent().await;
    let arrives = async |name: &str, token: Option<&str>| {
        within(Duration::from_secs(30), &format!("{name} is here"), async || {
            let copy = world.consumers[0].site.get(&core("secrets"), "default", name).await.unwrap_or_default();
            let is = copy["data"]["token"].as_str();
            if is.is_some() && token.is_none_or(|token| is == Some(token)) {
                Ok(())
            } else {
                Err(copy["metadata"].to_string())
            }
        })
        .await;
    };
    arrives("one-token", Some("bmV3")).await;
    assert!(world.providers[0].faults.as_ref().unwrap().struck(slow) > 0, "the list was not slow");
    // The same with an object that the agent has made and not yet heard of.
    let proxy = world.providers[0].faults.as_ref().unwrap();
    let watch = format!("/{namespace}/{}?watch", service.plural);
    let slow = proxy.when(on("GET", &[&watch]), Fault::Delay(Duration::from_secs(3)));
    proxy.cut_watches();
    world.make("default", "two", "two-token").await;
    arrives("two-token", None).await;
    assert!(proxy.struck(slow) > 0, "the watch was not slow");
    let events = world.consumers[0].site.list(&core("events")).await;
    let wrong: Vec<_> = events.iter().filter(|event| event["reason"] == "NotCopied").collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    world.end().await;
}

#[tokio::test]
async fn an_admission_policy_that_is_not_ready_is_waited_for() {
    let world = World::with_faults(super::PROGRAM, Service::new(40)).await;
    let _ = world.bind(0, 0).await.ok();
    // As kube-apiserver says it while it has not looked up the kind that the policy of the claims names.
    let not_ready = "rolebindings is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p' denied request: failed to configure \
                     policy: failed to find resource referenced by paramKind: 'example.com/v1, Kind=Thing'";
    let proxy = world.consumers[0].faults.as_ref().unwrap();
    let refused = proxy.times(9, on("PATCH", &["/rolebindings/"]), Fault::invalid(not_ready));
    world.make("default", "one", "one-token").await;
    let here = &world.consumers[0].site;
    within(Duration::from_secs(40), "the token is here", async || {
        here.get(&core("secrets"), "default", "one-token").await.map(|_| ()).ok_or("not yet".to_owned())
    })
    .await;
    assert!(proxy.struck(refused) >= 9, "it was refused {} times", proxy.struck(refused));
    let events = here.list(&core("events")).await;
    let wrong: Vec<_> = events.iter().filter(|event| event["message"].to_string().contains("paramKind")).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    world.end().await;
}
