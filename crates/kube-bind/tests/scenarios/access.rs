//! Every right is needed, and none is missing. A broad story is played; then each grant of the agent, of the consumer's
//! credential and of the backend must have allowed something that nothing else allowed, be shown by [`access_provider`], or
//! stand in a table with a reason. What was refused must have been allowed a moment before or after, and stand in a table.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube_client::api::{FieldManager, Subresource};
use kube_client::store::ObjectKey;
use serde_json::{Value, json};
use testkit::eventually;
use testkit::rights::{Excuses, Rights, Seen, Witness, compare, is_agent, is_backend, is_credential, judge};
use testkit::service::Service;
use testkit::site::{Site, bindings, core, crds, ours};
use testkit::world::World;

use super::{access_provider, shared};

const AGENT: Excuses = &[
    (
        "in a dying namespace: *",
        "when a namespace is deleted its RoleBindings go first; the agent asks and takes the answer",
    ),
    (
        "when it might no longer: list rolebindings.rbac.authorization.k8s.io",
        "unbinding takes the binding's rights away; the agent may be looking for what it bound",
    ),
    ("when it might no longer: list <kinds>", "the same, for objects that a CRD which is being deleted waits for"),
];

const CREDENTIAL: Excuses = &[
    ("kube-binder: delete apiserviceexportrequests.kube-bind.io", WIRE),
    ("kube-binder: get apiserviceexports/status.kube-bind.io", WIRE),
    ("kube-binder: get apiservicenamespaces.kube-bind.io", WIRE),
    ("kube-binder: get boundschemas/status.kube-bind.io", WIRE),
    ("kube-binder: get clusterbindings/status.kube-bind.io", WIRE),
    ("kube-binder: list apiserviceexportrequests.kube-bind.io", WIRE),
    ("kube-binder: list boundschemas/status.kube-bind.io", WIRE),
    ("kube-binder: list clusterbindings.kube-bind.io", WIRE),
    ("kube-binder: list secrets", WIRE),
    ("kube-binder: patch apiservicenamespaces.kube-bind.io", WIRE),
    ("kube-binder: update apiserviceexportrequests.kube-bind.io", WIRE),
    ("kube-binder: update apiserviceexports/status.kube-bind.io", WIRE),
    ("kube-binder: update apiservicenamespaces.kube-bind.io", WIRE),
    ("kube-binder: update boundschemas/status.kube-bind.io", WIRE),
    ("kube-binder: update clusterbindings/status.kube-bind.io", WIRE),
    ("kube-binder: watch apiserviceexportrequests.kube-bind.io", WIRE),
    ("kube-binder: watch clusterbindings.kube-bind.io", WIRE),
    ("kube-binder: watch secrets", WIRE),
    ("in a dying namespace: *", "contract and mapped namespaces go with the last export, and their Roles first"),
    ("before it might: list <kinds>", "an export is seen a moment before its Role; informers try again"),
    ("before it might: watch <kinds>", "the same"),
    ("when it might no longer: list <kinds>", "an export that goes takes its Role along"),
    ("when it might no longer: watch <kinds>", "the same"),
    ("before it might: get secrets", "rights follow a moment after the list"),
    ("before it might: get services", "the same"),
    ("before it might: get configmaps", "the same"),
    ("when it might no longer: get secrets", "a name leaves the Role when its object is gone"),
    ("when it might no longer: get services", "the same"),
    ("when it might no longer: get configmaps", "the same"),
];

const WIRE: &str = "the wire's base table (reference 5.5), which agents of the Go release use";

const BACKEND: Excuses = &[
    (
        "kube-bind-backend: patch rolebindings.rbac.authorization.k8s.io",
        "its own binding in a contract namespace is put right (access_provider.rs changes it), which gives back at once what \
         else allows that",
    ),
    (
        "sometimes kube-bind-backend: delete boundschemas.kube-bind.io",
        "a schema whose export is gone, where the API server's garbage collector is not as quick as the next bind",
    ),
    ("in a dying namespace: *", "Roles and bindings of a namespace that is being deleted go first"),
];

pub(super) async fn gone(site: &Site, resource: &kube_client::resource::Resource, namespace: &str, name: &str) {
    eventually(&format!("{namespace}/{name} is gone"), async || match site.get(resource, namespace, name).await {
        None => Ok(()),
        Some(object) => Err(object.to_string()),
    })
    .await;
}

pub(super) async fn there(
    site: &Site,
    resource: &kube_client::resource::Resource,
    namespace: &str,
    name: &str,
) -> Value {
    eventually(&format!("{namespace}/{name} is there"), async || {
        site.get(resource, namespace, name).await.ok_or("no".to_owned())
    })
    .await
}

pub(super) async fn running(site: &Site, service: &Service, namespace: &str, name: &str) {
    eventually(&format!("{namespace}/{name} is Running"), async || {
        let object = site.get(&service.resource(), namespace, name).await.unwrap_or_default();
        if object["status"]["phase"] == "Running" { Ok(()) } else { Err(object.to_string()) }
    })
    .await;
}

async fn set_claims(world: &World, name: &str, state: &str) {
    let here = &world.consumers[0].site;
    let binding = here.get(&bindings(), "", name).await.unwrap();
    let mut claims = binding["spec"]["permissionClaims"].clone();
    for claim in claims.as_array_mut().unwrap() {
        claim["state"] = json!(state);
    }
    here.patch(&bindings(), "", name, &json!({"spec": {"permissionClaims": claims}})).await;
}

/// The API that the story is about: claims of all sorts, in both directions.
fn broad(seed: u64) -> Service {
    Service::new(seed)
        .with_field("inputSecret", json!({"type": "string"}))
        .with_claim(json!({"group": "", "resource": "secrets", "owner": "Consumer", "verbs": ["read"], "selector": {"references": [{"jsonPath": {"name": ".spec.inputSecret"}}]}}))
        .with_claim(json!({"group": "", "resource": "configmaps", "owner": "Consumer", "verbs": ["read"], "selector": {"namedResources": [{"name": "settings"}]}}))
        .with_claim(json!({"group": "", "resource": "configmaps", "owner": "Provider", "verbs": ["create"], "selector": {"labelSelector": {"matchLabels": {"share": "yes"}}}}))
}

/// Bind, use, change, reject, accept, restart, delete.
async fn first_half(world: &mut World, service: &Service, second: &Service, isolated: &Service, wide: &Service) {
    let here = &world.consumers[0].site;
    here.namespace("team").await;
    for (namespace, name) in [("default", "input"), ("team", "team-input")] {
        here.apply(
            &core("secrets"),
            &json!({"metadata": {"name": name, "namespace": namespace}, "stringData": {"in": "one"}}),
        )
        .await;
    }
    here.apply(
        &core("configmaps"),
        &json!({"metadata": {"name": "settings", "namespace": "default"}, "data": {"a": "1"}}),
    )
    .await;
    let _ = world.bind_offering(0, 0, &service.plural).await.ok();
    let _ = world.bind_offering(0, 0, &second.plural).await.ok();
    let _ = world.bind(0, 1).await.ok();
    let provider = &world.providers[0].site;
    for (namespace, name, input) in [("default", "one", "input"), ("team", "two", "team-input")] {
        let mut object = service.object(namespace, name, &format!("{name}-token"));
        object["spec"]["inputSecret"] = json!(input);
        here.apply(&service.resource(), &object).await;
        running(here, service, namespace, name).await;
        there(here, &core("secrets"), namespace, &format!("{name}-token")).await;
        there(here, &core("services"), namespace, name).await;
    }
    let mapped = world.copy(0, "one").await.unwrap()["metadata"]["namespace"].as_str().unwrap().to_owned();
    there(provider, &core("secrets"), &mapped, "input").await;
    there(provider, &core("configmaps"), &mapped, "settings").await;
    let labels = json!({"share": "yes", "kube-bind.io/owner": "provider"});
    provider
        .apply(
            &core("configmaps"),
            &json!({"metadata": {"name": "shared", "namespace": mapped, "labels": labels}, "data": {"a": "1"}}),
        )
        .await;
    there(here, &core("configmaps"), "default", "shared").await;

    // Other bindings: same provider and namespace, and a cluster-scoped kind of another provider.
    here.apply(&second.resource(), &second.object("default", "other", "other-token")).await;
    running(here, second, "default", "other").await;
    here.apply(&isolated.resource(), &isolated.object("", "wide", "wide-token")).await;
    running(here, isolated, "", "wide").await;
    here.patch(&isolated.resource(), "", "wide", &json!({"spec": {"size": 3}})).await;

    // A kind that is cluster-scoped on both sides, with what its objects refer to.
    let _ = world.bind_offering(0, 0, &wide.plural).await.ok();
    here.namespace("afar").await;
    let up = json!({"metadata": {"name": "up", "namespace": "afar"}, "stringData": {"in": "one"}});
    here.apply(&core("secrets"), &up).await;
    here.apply(&wide.resource(), &shared::object(wide, "far", "afar", "down", "up")).await;
    running(here, wide, "", "far").await;
    here.patch(&wide.resource(), "", "far", &json!({"spec": {"size": 3}})).await;
    let contract = world.copy(0, "one").await.unwrap()["metadata"]["annotations"]["kube-bind.io/cluster-namespace"]
        .as_str()
        .unwrap()
        .to_owned();
    let afar = format!("{contract}-afar");
    there(provider, &core("secrets"), &afar, "up").await;
    let owner = json!({"kube-bind.io/owner": "provider"});
    let down = json!({"metadata": {"name": "down", "namespace": afar, "labels": owner}, "stringData": {"in": "one"}});
    provider.apply(&core("secrets"), &down).await;
    there(here, &core("secrets"), "afar", "down").await;

    // Changes on both sides.
    here.patch(&service.resource(), "default", "one", &json!({"spec": {"size": 7}})).await;
    here.patch(&core("secrets"), "default", "input", &json!({"data": {"in": "Mg=="}})).await;
    here.patch(&core("configmaps"), "default", "settings", &json!({"data": {"a": "2"}})).await;
    provider.patch(&core("secrets"), &mapped, "one-token", &json!({"data": {"token": "bmV3"}})).await;
    provider.patch(&core("configmaps"), &mapped, "shared", &json!({"data": {"a": "2"}})).await;
    eventually("all changes have travelled", async || {
        let seen = [
            provider.get(&service.resource(), &mapped, "one").await.unwrap_or_default()["spec"]["size"] == 7,
            provider.get(&core("secrets"), &mapped, "input").await.unwrap_or_default()["data"]["in"] == "Mg==",
            provider.get(&core("configmaps"), &mapped, "settings").await.unwrap_or_default()["data"]["a"] == "2",
            here.get(&core("secrets"), "default", "one-token").await.unwrap_or_default()["data"]["token"] == "bmV3",
            here.get(&core("configmaps"), "default", "shared").await.unwrap_or_default()["data"]["a"] == "2",
        ];
        if seen == [true; 5] { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;

    // Consent taken back and given again.
    set_claims(world, &service.plural, "Rejected").await;
    for (kind, name) in [("secrets", "one-token"), ("services", "one"), ("configmaps", "shared")] {
        gone(here, &core(kind), "default", name).await;
    }
    gone(provider, &core("secrets"), &mapped, "input").await;
    gone(provider, &core("configmaps"), &mapped, "settings").await;
    set_claims(world, &service.plural, "Accepted").await;
    there(here, &core("secrets"), "default", "one-token").await;
    there(provider, &core("secrets"), &mapped, "input").await;
    there(provider, &core("configmaps"), &mapped, "settings").await;
}

/// The provider makes another token for the only consumer and puts it where the agent looks for it.
async fn rotate(provider: &Site) {
    let contracts = provider.list(&ours("clusterbindings", "ClusterBinding")).await;
    let contract = contracts[0]["metadata"]["namespace"].as_str().unwrap().to_owned();
    let annotations = json!({"kubernetes.io/service-account.name": "kube-binder"});
    let token = json!({"metadata": {"name": "next", "namespace": contract, "annotations": annotations}, "type": "kubernetes.io/service-account-token"});
    provider.apply(&core("secrets"), &token).await;
    let token = eventually("another token", async || {
        let secret = provider.get(&core("secrets"), &contract, "next").await.unwrap_or_default();
        secret["data"]["token"].as_str().map(decode).ok_or(secret.to_string())
    })
    .await;
    let reference = &contracts[0]["spec"]["kubeconfigSecretRef"];
    let (name, key) = (reference["name"].as_str().unwrap(), reference["key"].as_str().unwrap());
    let secret = provider.get(&core("secrets"), &contract, name).await.unwrap();
    let mut kubeconfig = apimachinery::yaml::document(&decode(secret["data"][key].as_str().unwrap())).unwrap();
    kubeconfig["users"][0]["user"]["token"] = json!(token);
    let data = STANDARD.encode(apimachinery::yaml::write(&kubeconfig));
    provider.patch(&core("secrets"), &contract, name, &json!({"data": {key: data}})).await;
}

/// Waits until the agent has the new token.
async fn rotated(world: &World) {
    let provider = &world.providers[0].site;
    let next =
        provider.list(&core("secrets")).await.into_iter().find(|secret| secret["metadata"]["name"] == "next").unwrap();
    let token = decode(next["data"]["token"].as_str().unwrap());
    eventually("the agent carries the new credential over", async || {
        let secrets = world.consumers[0].site.list(&core("secrets")).await;
        let found = secrets
            .iter()
            .filter_map(|secret| secret["data"]["kubeconfig"].as_str())
            .any(|text| decode(text).contains(&token));
        if found { Ok(()) } else { Err(format!("{} Secrets", secrets.len())) }
    })
    .await;
}

fn decode(text: &str) -> String {
    String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
}

/// Restarts, rotation, deletions, another consumer, unbinding in both ways.
async fn second_half(world: &mut World, service: &Service, second: &Service, isolated: &Service, wide: &Service) {
    world.consumer().stop_agent().await;
    world.provider().stop_backend().await;
    world.provider().start_backend().await;
    rotate(&world.providers[0].site).await;
    world.consumer().start_agent().await;
    rotated(world).await;
    let (here, provider) = (&world.consumers[0].site, &world.providers[0].site);
    let copy = world.copy(0, "one").await.unwrap();
    let mapped = copy["metadata"]["namespace"].as_str().unwrap().to_owned();

    // The owner of a claimed object takes it away and brings it back; what refers to it goes. A deletion that nobody saw
    // proves nothing, so wait until the agent is at work again.
    here.patch(&core("secrets"), "default", "input", &json!({"data": {"in": "Mw=="}})).await;
    eventually("the agent is at work again", async || {
        let secret = provider.get(&core("secrets"), &mapped, "input").await.unwrap_or_default();
        if secret["data"]["in"] == "Mw==" { Ok(()) } else { Err(secret["data"].to_string()) }
    })
    .await;
    here.delete(&core("secrets"), "default", "input").await;
    gone(provider, &core("secrets"), &mapped, "input").await;
    provider.delete(&core("configmaps"), &mapped, "shared").await;
    gone(here, &core("configmaps"), "default", "shared").await;
    here.delete(&core("configmaps"), "default", "settings").await;
    gone(provider, &core("configmaps"), &mapped, "settings").await;

    // Definitions taken away by hand come back, and follow the provider.
    let old = here.get(&crds(), "", &second.crd_name()).await.unwrap()["metadata"]["uid"].clone();
    here.delete(&crds(), "", &second.crd_name()).await;
    eventually("the CRD is made anew", async || {
        let crd = here.get(&crds(), "", &second.crd_name()).await.unwrap_or_default();
        let made = &crd["metadata"]["uid"];
        if made.is_string() && *made != old { Ok(()) } else { Err(crd["metadata"].to_string()) }
    })
    .await;
    eventually("the API is served again", async || {
        let object = second.object("default", "other", "other-token");
        let key = ObjectKey::of(&object).unwrap();
        let applied =
            here.api.apply(&second.resource(), &key, &object, FieldManager("scenario"), Subresource::Main).await;
        applied.map(|_| ()).map_err(|error| error.to_string())
    })
    .await;
    running(here, second, "default", "other").await;

    here.delete(&service.resource(), "default", "one").await;
    gone(here, &service.resource(), "default", "one").await;
    gone(provider, &service.resource(), &mapped, "one").await;
    gone(here, &core("secrets"), "default", "one-token").await;
    here.delete(&isolated.resource(), "", "wide").await;
    gone(here, &isolated.resource(), "", "wide").await;
    here.delete(&wide.resource(), "", "far").await;
    gone(here, &wide.resource(), "", "far").await;
    gone(here, &core("secrets"), "afar", "down").await;
    here.delete(&core("namespaces"), "", "team").await;
    gone(here, &core("namespaces"), "", "team").await;
    here.apply(&isolated.resource(), &isolated.object("", "wide", "wide-token")).await;
    running(here, isolated, "", "wide").await;

    world.add_consumer().await;
    let _ = world.bind_offering(1, 0, &service.plural).await.ok();
    let other = &world.consumers[1];
    other.site.apply(&service.resource(), &service.object("default", "three", "three-token")).await;
    running(&other.site, service, "default", "three").await;
    there(&other.site, &core("secrets"), "default", "three-token").await;

    let person = &world.consumers[0].person;
    let _ = person.bind(&["unbind", &second.plural, "--orphan"], "").await.ok();
    let _ = person.bind(&["unbind", &isolated.plural, "--delete-objects"], "").await.ok();
    let _ = person.bind(&["unbind", &wide.plural, "--delete-objects"], "").await.ok();
    let (here, provider) = (&world.consumers[0].site, &world.providers[0].site);
    let mut object = service.object("default", "four", "four-token");
    object["spec"]["inputSecret"] = json!("late");
    here.apply(
        &core("secrets"),
        &json!({"metadata": {"name": "late", "namespace": "default"}, "stringData": {"in": "one"}}),
    )
    .await;
    here.apply(&service.resource(), &object).await;
    running(here, service, "default", "four").await;
    there(here, &core("secrets"), "default", "four-token").await;
    there(provider, &core("secrets"), &mapped, "late").await;
    let _ = person.bind(&["unbind", &service.plural, "--delete-objects"], "").await.ok();
}

#[tokio::test]
async fn every_right_is_needed_and_none_is_missing() {
    let service = broad(71);
    let second = Service::new(72);
    let isolated = Service::new(73).without_claims().cluster_scoped();
    let mut world = World::new(super::PROGRAM, service.clone()).await;
    world.add_provider(isolated.clone()).await;
    let wide = shared::referring(74).prefixed();
    world.offer(0, second.clone()).await;
    world.offer(0, wide.clone()).await;
    let watched = [&world.consumers[0].site, &world.providers[0].site, &world.providers[1].site];
    let mut witnesses = Vec::new();
    for site in watched {
        witnesses.push(Witness::start(site).await);
    }
    first_half(&mut world, &service, &second, &isolated, &wide).await;
    second_half(&mut world, &service, &second, &isolated, &wide).await;
    let last = ours("clusterbindings", "ClusterBinding");
    eventually("the contract of the first consumer has ended", async || {
        let left = world.providers[0].site.names(&last).await;
        if left.len() == 1 { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;

    let plain = plain(&[&service, &second, &isolated, &wide]);
    let watched = [&world.consumers[0].site, &world.providers[0].site, &world.providers[1].site];
    let records = watched.map(|site| site.record.seen());
    let [consumer, provider, other] =
        <[_; 3]>::try_from(witnesses.iter().map(Witness::rights).zip(records).collect::<Vec<_>>()).unwrap();
    let at = |(rights, seen): &(Rights, Seen), who: &dyn Fn(&str) -> bool| compare(rights, seen, who, &plain);
    let mut faults = judge("the agent", &at(&consumer, &is_agent), AGENT);
    let credential = at(&provider, &is_credential).and(at(&other, &is_credential));
    faults.extend(judge("the consumer's credential", &credential, CREDENTIAL));
    let mut backend = at(&provider, &is_backend).and(at(&other, &is_backend));
    backend.needed.extend(access_provider::SHOWN.iter().map(|line| (*line).to_owned()));
    faults.extend(judge("the backend", &backend, BACKEND));
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    world.end().await;
}

/// Replaces names that come from seeds.
pub(super) fn plain(services: &[&Service]) -> impl Fn(&str) -> String + use<> {
    let names: Vec<_> = services.iter().map(|s| (s.crd_name(), s.plural.clone(), s.group.clone())).collect();
    move |text: &str| {
        let mut text = text.to_owned();
        for (crd, plural, group) in &names {
            text = text
                .replace(&format!("{plural}/status.{group}"), "<kinds>/status")
                .replace(crd, "<kinds>")
                .replace(plural, "<binding>");
        }
        text
    }
}
