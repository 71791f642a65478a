//! Kinds that are cluster-scoped at the provider (isolation `Prefixed`): what one consumer has under a name lies there
//! under that name with a prefix. RBAC cannot fence by prefix, so there is one consumer until the provider shares the kind
//! on purpose (`design/architecture.md` §6, Isolation).

use std::time::Duration;

use serde_json::{Value, json};
use testkit::program::Person;
use testkit::service::Service;
use testkit::site::{Site, bindings, core, crds, ours};
use testkit::world::{Consumer, World};
use testkit::{eventually, stays};

use super::consent::picture;

fn admin(world: &World) -> Person {
    Person { kubeconfig: world.providers[0].site.kubeconfig.clone(), ..world.consumers[0].person.clone() }
}

/// The contract namespace of a consumer, found by the UID of its cluster.
async fn contract(world: &World, consumer: &Consumer) -> String {
    let uid = consumer.site.get(&core("namespaces"), "", "kube-system").await.unwrap()["metadata"]["uid"].clone();
    let contracts = world.providers[0].site.list(&ours("clusterbindings", "ClusterBinding")).await;
    let own = contracts.iter().find(|contract| contract["spec"]["consumerClusterUID"] == uid).unwrap();
    own["metadata"]["namespace"].as_str().unwrap().to_owned()
}

/// Waits until an object of a consumer has the operator's status for its size.
async fn saw(site: &Site, service: &Service, name: &str, size: u32) {
    eventually(&format!("{name} at {} is Running with size {size}", site.cluster), async || {
        let object = site.get(&service.resource(), "", name).await.unwrap_or_default();
        let status = &object["status"];
        if status["phase"] == "Running" && status["saw"] == size { Ok(()) } else { Err(object.to_string()) }
    })
    .await;
}

/// Waits until exactly these objects are at the provider.
async fn are_there(world: &World, service: &Service, wanted: &[String]) {
    let mut wanted = wanted.to_vec();
    wanted.sort();
    eventually("exactly these are at the provider", async || {
        let objects = world.providers[0].site.list(&service.resource()).await;
        let mut seen: Vec<&str> = objects.iter().filter_map(|object| object["metadata"]["name"].as_str()).collect();
        seen.sort_unstable();
        if seen == wanted { Ok(()) } else { Err(format!("{seen:?}, not {wanted:?}")) }
    })
    .await;
}

/// Waits for an Event on a cluster-scoped object that says all this.
async fn event(site: &Site, name: &str, reason: &str, says: &[&str]) {
    eventually(&format!("an Event {reason} on {name}"), async || {
        let events = site.list(&core("events")).await;
        let about = events.iter().filter(|event| event["involvedObject"]["name"] == name && event["reason"] == reason);
        let messages: Vec<&str> = about.filter_map(|event| event["message"].as_str()).collect();
        let found = messages.iter().any(|message| says.iter().all(|part| message.contains(part)));
        if found { Ok(()) } else { Err(format!("{messages:?}")) }
    })
    .await;
}

fn revisions(objects: &[Value]) -> Vec<Value> {
    objects.iter().map(|object| object["metadata"]["resourceVersion"].clone()).collect()
}

#[tokio::test]
async fn a_name_gets_the_contract_as_prefix_and_comes_back_without_it() {
    let mut world = World::bound(super::PROGRAM, Service::new(181).without_claims().prefixed()).await;
    let service = world.service();
    let kind = service.resource();
    let contract = contract(&world, &world.consumers[0]).await;
    let (copy, stranger, taken) = (format!("{contract}-one"), format!("{contract}x-one"), format!("{contract}-taken"));
    {
        let (here, there) = (&world.consumers[0].site, &world.providers[0].site);
        assert_eq!(here.get(&crds(), "", &service.crd_name()).await.unwrap()["spec"]["scope"], "Cluster");
        here.apply(&kind, &service.object("", "one", "unused")).await;
        saw(here, &service, "one", 2).await;
        are_there(&world, &service, std::slice::from_ref(&copy)).await;
        here.patch(&kind, "", "one", &json!({"spec": {"size": 7}})).await;
        saw(here, &service, "one", 7).await;
        // The provider's own objects of the kind, and those of others, are not this consumer's.
        there.apply(&kind, &service.object("", "own", "unused")).await;
        there.apply(&kind, &service.object("", &stranger, "unused")).await;
        stays("they do not arrive", Duration::from_secs(2), async || {
            let names = here.names(&kind).await;
            if names.len() == 1 { Ok(()) } else { Err(format!("{names:?}")) }
        })
        .await;
        // What somebody at the provider made under a name of ours is left alone, and said.
        there.apply(&kind, &service.object("", &taken, "theirs")).await;
        here.apply(&kind, &service.object("", "taken", "ours")).await;
        event(here, "taken", "ForeignObject", &[&taken, "the provider has", "choose another name"]).await;
        let left = there.get(&kind, "", &taken).await.unwrap();
        assert_eq!(service.secret_of(&left), Some("theirs"));
        here.delete(&kind, "", "taken").await;
        there.delete(&kind, "", &taken).await;
    }

    // A restart finds everything as it should be.
    world.consumer().stop_agent().await;
    let (here, there) = (&world.consumers[0].site, &world.providers[0].site);
    let before = (there.list(&kind).await, here.list(&kind).await);
    world.consumer().start_agent().await;
    world.phase(&service.plural, "Connected").await;
    let (here, there) = (&world.consumers[0].site, &world.providers[0].site);
    stays("nothing is written", Duration::from_secs(3), async || {
        let now = (there.list(&kind).await, here.list(&kind).await);
        let same = revisions(&now.0) == revisions(&before.0) && revisions(&now.1) == revisions(&before.1);
        if same { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;

    // A finalizer of the copy holds the consumer's object.
    there.patch(&kind, "", &copy, &json!({"metadata": {"finalizers": ["example.com/backup"]}})).await;
    here.delete(&kind, "", "one").await;
    eventually("the copy is told", async || {
        let live = there.get(&kind, "", &copy).await.ok_or("it is gone".to_owned())?;
        if live["metadata"]["deletionTimestamp"].is_string() { Ok(()) } else { Err(live.to_string()) }
    })
    .await;
    assert!(here.get(&kind, "", "one").await.is_some(), "it went before its copy");
    there.patch(&kind, "", &copy, &json!({"metadata": {"finalizers": null}})).await;
    eventually("both are gone", async || match here.get(&kind, "", "one").await {
        None => Ok(()),
        Some(object) => Err(object.to_string()),
    })
    .await;
    are_there(&world, &service, &["own".to_owned(), stranger]).await;
    world.end().await;
}

#[tokio::test]
async fn a_name_too_long_for_its_prefix_is_told_and_stops_nothing_else() {
    let world = World::bound(super::PROGRAM, Service::new(182).without_claims().prefixed()).await;
    let service = world.service();
    let kind = service.resource();
    let here = &world.consumers[0].site;
    let contract = contract(&world, &world.consumers[0]).await;
    let allowed = 253 - contract.len() - 1;
    let (fits, long) = ("f".repeat(allowed), "l".repeat(allowed + 1));
    for name in [&long, &fits] {
        here.apply(&kind, &service.object("", name, "unused")).await;
    }
    saw(here, &service, &fits, 2).await;
    let mend = format!("at most {allowed} characters");
    event(here, &long, "NameNotMappable", &[&format!("{contract}-{long}"), "at the provider", &mend]).await;
    here.apply(&kind, &service.object("", "after", "unused")).await;
    saw(here, &service, "after", 2).await;
    are_there(&world, &service, &[format!("{contract}-{fits}"), format!("{contract}-after")]).await;
    // It is nobody's prisoner.
    here.delete(&kind, "", &long).await;
    assert!(here.get(&kind, "", &long).await.is_none(), "there was nothing to wait for");
    world.phase(&service.plural, "Connected").await;
    world.end().await;
}

#[tokio::test]
async fn a_second_consumer_waits_until_the_provider_shares_on_purpose() {
    let mut world = World::bound(super::PROGRAM, Service::new(183).without_claims().prefixed()).await;
    let service = world.service();
    let kind = service.resource();
    world.consumers[0].site.apply(&kind, &service.object("", "same", "unused")).await;
    saw(&world.consumers[0].site, &service, "same", 2).await;
    world.add_consumer().await;
    let first = contract(&world, &world.consumers[0]).await;
    let command = format!("kubectl bind provider offer --shared {}", service.crd_name());

    // Refused, before anything is written there; the first one does not notice.
    let before = picture(&world.consumers[1].site).await;
    let ended = world.bind_offering(1, 0, &service.plural).await;
    let _ = ended.refused(&[&service.crd_name(), "cluster-scoped at the provider", "another consumer", &command]);
    assert_eq!(picture(&world.consumers[1].site).await, before);
    let one = &world.consumers[0].site;
    one.patch(&kind, "", "same", &json!({"spec": {"size": 3}})).await;
    saw(one, &service, "same", 3).await;
    world.phase(&service.plural, "Connected").await;

    // Shared on purpose, which says what it means; twice is once.
    let hands = admin(&world);
    let offer = ["provider", "offer", "--shared", &service.crd_name()];
    let ended = hands.bind(&offer, "").await.ok();
    for part in ["It is shared", "cannot fence by prefix", "other consumers", "sharedClusterScope: true now"] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
    let ended = hands.bind(&offer, "").await.ok();
    assert!(ended.stdout.contains("was offered already") && !ended.stdout.contains("now."), "{}", ended.stdout);
    let _ = world.bind_offering(1, 0, &service.plural).await.ok();
    let second = contract(&world, &world.consumers[1]).await;
    let two = &world.consumers[1].site;
    two.apply(&kind, &service.object("", "same", "unused")).await;
    two.patch(&kind, "", "same", &json!({"spec": {"size": 5}})).await;
    saw(two, &service, "same", 5).await;
    saw(one, &service, "same", 3).await;
    are_there(&world, &service, &[format!("{first}-same"), format!("{second}-same")]).await;

    // Each unbinds with its own, and with its rights.
    one.apply(&kind, &service.object("", "more", "unused")).await;
    saw(one, &service, "more", 2).await;
    let _ = world.consumers[1].person.bind(&["unbind", &service.plural, "--delete-objects"], "").await.ok();
    assert!(two.get(&bindings(), "", &service.plural).await.is_none());
    are_there(&world, &service, &[format!("{first}-same"), format!("{first}-more")]).await;
    let rbac = "rbac.authorization.k8s.io";
    let grants = kube_client::resource::Resource::new(rbac, "v1", "clusterrolebindings", "ClusterRoleBinding");
    eventually("only the first one has rights", async || {
        let name = format!("kube-bind-shared:{}", service.crd_name());
        let subjects = world.providers[0].site.get(&grants, "", &name).await.unwrap()["subjects"].to_string();
        if subjects.contains(&first) && !subjects.contains(&second) { Ok(()) } else { Err(subjects) }
    })
    .await;
    one.patch(&kind, "", "same", &json!({"spec": {"size": 4}})).await;
    saw(one, &service, "same", 4).await;

    // And is cut off with its own.
    world.providers[0].site.apply(&kind, &service.object("", "own", "unused")).await;
    let ended = hands.bind(&["provider", "revoke", &first, "--delete-objects"], "").await.ok();
    assert!(ended.stdout.contains("2 of its objects are being deleted"), "{}", ended.stdout);
    are_there(&world, &service, &["own".to_owned()]).await;
    world.end().await;
}

#[tokio::test]
async fn offering_says_what_becomes_of_a_cluster_scoped_kind() {
    let world = World::new(super::PROGRAM, Service::new(184)).await;
    let hands = admin(&world);
    let namespaced = world.service().crd_name();
    let ended = hands.bind(&["provider", "offer", "--shared", &namespaced], "").await;
    let _ = ended.refused(&[&namespaced, "namespaced", "leave --shared out"]);
    let wide = Service::new(185).without_claims().prefixed();
    let mut crd = wide.crd();
    crd["metadata"]["labels"] = json!({});
    world.providers[0].site.apply(&crds(), &crd).await;
    let ended = hands.bind(&["provider", "offer", &wide.crd_name()], "").await.ok();
    for part in ["is offered now", "isolation Prefixed", "one consumer can bind it", "offer --shared"] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
    // Without a template, sharing makes one.
    let ended = hands.bind(&["provider", "offer", "--shared", &wide.crd_name()], "").await.ok();
    let made = format!("Made its template (APIServiceExportTemplate) {}", wide.crd_name());
    assert!(ended.stdout.contains(&made), "{}", ended.stdout);
    let _ = world.bind_offering(0, 0, &wide.crd_name()).await.ok();
    let object = json!({"metadata": {"name": "one"}, "spec": {"size": 2}});
    world.consumers[0].site.apply(&wide.resource(), &object).await;
    let contract = contract(&world, &world.consumers[0]).await;
    are_there(&world, &wide, &[format!("{contract}-one")]).await;
    world.end().await;
}

/// An API whose cluster-scoped objects refer to a Secret of the provider and to one of the consumer, in the namespace
/// that they name.
pub(super) fn referring(seed: u64) -> Service {
    let claim = |owner: &str, verb: &str, field: &str| {
        json!({
            "group": "", "resource": "secrets", "owner": owner, "verbs": [verb],
            "selector": {"references": [{"jsonPath": {"name": format!(".spec.{field}"), "namespace": ".spec.place"}}]},
        })
    };
    Service::new(seed)
        .without_claims()
        .with_field("place", json!({"type": "string"}))
        .with_field("output", json!({"type": "string"}))
        .with_field("input", json!({"type": "string"}))
        .with_claim(claim("Provider", "create", "output"))
        .with_claim(claim("Consumer", "read", "input"))
}

/// An object of [`referring`].
pub(super) fn object(service: &Service, name: &str, place: &str, output: &str, input: &str) -> Value {
    let mut object = service.object("", name, "unused");
    for (field, value) in [("place", place), ("output", output), ("input", input)] {
        if !value.is_empty() {
            object["spec"][field] = json!(value);
        }
    }
    object
}

async fn secret(site: &Site, namespace: &str, name: &str, text: &str) {
    let body = json!({"metadata": {"name": name, "namespace": namespace}, "stringData": {"in": text}});
    site.apply(&core("secrets"), &body).await;
}

/// Waits until a Secret says this (base64), or is not there.
async fn says(site: &Site, namespace: &str, name: &str, wanted: Option<&str>) {
    eventually(&format!("Secret {namespace}/{name} at {} says {wanted:?}", site.cluster), async || {
        let seen = site.get(&core("secrets"), namespace, name).await;
        let text = seen.as_ref().map(|secret| secret["data"]["in"].as_str().unwrap_or_default().to_owned());
        if text.as_deref() == wanted { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
}

/// Claims that cluster-scoped objects of the consumer make use of, in both directions. `place` is the namespace of the
/// copies at the provider; empty for cluster-scoped ones.
async fn claims_from_afar(service: Service, owned: bool) {
    let mut world = World::bound(super::PROGRAM, service).await;
    let service = world.service();
    let kind = service.resource();
    let contract = contract(&world, &world.consumers[0]).await;
    let mapped = format!("{contract}-team");
    let (copy_namespace, copy_name) =
        if owned { (String::new(), format!("{contract}-one")) } else { (contract.clone(), "one".to_owned()) };
    {
        let (here, there) = (&world.consumers[0].site, &world.providers[0].site);
        for namespace in ["team", "private"] {
            here.namespace(namespace).await;
            secret(here, namespace, "up", namespace).await;
            secret(here, namespace, "other", namespace).await;
        }
        secret(here, "kube-system", "up", "the cluster's").await;
        here.apply(&kind, &object(&service, "one", "team", "down", "up")).await;
        saw(here, &service, "one", 2).await;

        // Up: the Secret of the namespace that the object names, and no other.
        says(there, &mapped, "up", Some("dGVhbQ==")).await;
        secret(here, "team", "up", "two").await;
        says(there, &mapped, "up", Some("dHdv")).await;

        // Down: what the provider made for the object. A Secret that it did not mean stays where it is.
        let copy = there.get(&kind, &copy_namespace, &copy_name).await.unwrap();
        let mut body = json!({"metadata": {"name": "down", "namespace": mapped}, "stringData": {"in": "one"}});
        if owned {
            let owner = json!([{"apiVersion": copy["apiVersion"], "kind": service.kind, "name": copy_name, "uid": copy["metadata"]["uid"]}]);
            body["metadata"]["ownerReferences"] = owner;
        } else {
            body["metadata"]["labels"] = json!({"kube-bind.io/owner": "provider"});
        }
        there.apply(&core("secrets"), &body).await;
        says(here, "team", "down", Some("b25l")).await;
        there.patch(&core("secrets"), &mapped, "down", &json!({"data": {"in": "dHdv"}})).await;
        says(here, "team", "down", Some("dHdv")).await;
        secret(there, &mapped, "root", "the operator's").await;
        here.apply(&kind, &object(&service, "greedy", "team", "root", "")).await;
        event(here, "greedy", "NotCopied", &["root", "provider"]).await;

        // Without a namespace, in one of the cluster's own, or in one that is not there: said, and nothing moves.
        here.apply(&kind, &object(&service, "nowhere", "", "down", "up")).await;
        event(here, "nowhere", "ReferenceNotFollowed", &["in which namespace", "spec.place"]).await;
        here.apply(&kind, &object(&service, "thief", "kube-system", "down", "up")).await;
        event(here, "thief", "ReferenceNotFollowed", &["kube-system", "name another namespace"]).await;
        here.apply(&kind, &object(&service, "early", "later", "", "up")).await;
        event(here, "early", "NamespaceNotFound", &["later", "create it"]).await;
        stays("nothing else crossed", Duration::from_secs(2), async || {
            let there = there.list(&core("secrets")).await;
            let copies = there.iter().filter(|secret| secret["metadata"]["labels"]["kube-bind.io/owner"] == "consumer");
            let names: Vec<String> = copies
                .map(|secret| format!("{}/{}", secret["metadata"]["namespace"], secret["metadata"]["name"]))
                .collect();
            let strangers = [("private", "down"), ("kube-system", "down"), ("team", "root"), ("default", "down")];
            for (namespace, name) in strangers {
                if here.get(&core("secrets"), namespace, name).await.is_some() {
                    return Err(format!("{namespace}/{name} arrived"));
                }
            }
            if names.len() == 1 { Ok(()) } else { Err(format!("{names:?}")) }
        })
        .await;
        // It comes to be.
        here.namespace("later").await;
        secret(here, "later", "up", "late").await;
        says(there, &format!("{contract}-later"), "up", Some("bGF0ZQ==")).await;
    }

    // A restart writes nothing.
    world.consumer().stop_agent().await;
    let before = {
        let (here, there) = (&world.consumers[0].site, &world.providers[0].site);
        (there.list(&core("secrets")).await, here.list(&core("secrets")).await)
    };
    world.consumer().start_agent().await;
    world.phase(&service.plural, "Connected").await;
    let (here, there) = (&world.consumers[0].site, &world.providers[0].site);
    stays("nothing is written", Duration::from_secs(3), async || {
        let now = (there.list(&core("secrets")).await, here.list(&core("secrets")).await);
        let same = revisions(&now.0) == revisions(&before.0) && revisions(&now.1) == revisions(&before.1);
        if same { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;

    // The object names another namespace, and then goes.
    here.patch(&kind, "", "one", &json!({"spec": {"place": "private"}})).await;
    says(there, &format!("{contract}-private"), "up", Some("cHJpdmF0ZQ==")).await;
    says(there, &mapped, "up", None).await;
    says(here, "team", "down", None).await;
    says(here, "team", "up", Some("dHdv")).await;
    here.delete(&kind, "", "one").await;
    says(there, &format!("{contract}-private"), "up", None).await;
    says(here, "private", "up", Some("cHJpdmF0ZQ==")).await;
    let _ = world.consumers[0].person.bind(&["unbind", &service.plural, "--delete-objects"], "").await.ok();
    eventually("the provider keeps nothing of it", async || {
        let names = there.names(&core("namespaces")).await;
        let left: Vec<&String> = names.iter().filter(|name| name.contains(&contract)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn what_prefixed_objects_refer_to_travels_in_both_directions() {
    claims_from_afar(referring(186).prefixed(), true).await;
}

#[tokio::test]
async fn what_objects_in_the_contract_namespace_refer_to_travels_in_both_directions() {
    claims_from_afar(referring(187).cluster_scoped(), false).await;
}

#[tokio::test]
async fn a_claim_that_cannot_say_where_is_refused() {
    let world = World::new(super::PROGRAM, Service::new(188).prefixed()).await;
    let service = world.service();
    let before = picture(&world.consumers[0].site).await;
    let ended = world.bind(0, 0).await;
    let _ = ended.refused(&[&service.crd_name(), "cluster-scoped", "jsonPath.namespace", &service.plural]);
    assert_eq!(picture(&world.consumers[0].site).await, before);
    let requests = world.providers[0].site.list(&ours("apiserviceexportrequests", "APIServiceExportRequest")).await;
    assert!(requests.iter().all(|request| request["status"]["phase"] != "Succeeded"), "{requests:?}");
    world.end().await;
}

#[tokio::test]
async fn an_orphaned_binding_leaves_what_lies_in_the_contract_namespace() {
    let world = World::bound(super::PROGRAM, Service::new(189).without_claims().cluster_scoped()).await;
    let service = world.service();
    let here = &world.consumers[0].site;
    here.apply(&service.resource(), &service.object("", "one", "unused")).await;
    saw(here, &service, "one", 2).await;
    let contract = contract(&world, &world.consumers[0]).await;
    let _ = world.consumers[0].person.bind(&["unbind", &service.plural, "--orphan"], "").await.ok();
    let there = &world.providers[0].site;
    without_credential(there, &contract).await;
    stays("the copy stays", Duration::from_secs(2), async || {
        there.get(&service.resource(), &contract, "one").await.map(|_| ()).ok_or("it was destroyed".to_owned())
    })
    .await;
    found_again(world, &contract).await;
}

async fn without_credential(there: &Site, contract: &str) {
    eventually("its credential is gone", async || {
        let accounts = there.names(&core("serviceaccounts")).await;
        let own = accounts.iter().find(|name| name.starts_with(&format!("{contract}/kube-binder")));
        own.map_or(Ok(()), |name| Err(name.clone()))
    })
    .await;
}

/// Bound again, the copy is found again.
async fn found_again(world: World, contract: &str) {
    let service = world.service();
    let (here, there) = (&world.consumers[0].site, &world.providers[0].site);
    let uid = there.get(&service.resource(), contract, "one").await.unwrap()["metadata"]["uid"].clone();
    let _ = world.bind(0, 0).await.ok();
    here.patch(&service.resource(), "", "one", &json!({"spec": {"size": 9}})).await;
    saw(here, &service, "one", 9).await;
    assert_eq!(there.get(&service.resource(), contract, "one").await.unwrap()["metadata"]["uid"], uid);
    world.end().await;
}

/// What lies in the contract namespace outlives the last binding when the backend cannot see any more what it is: the copy
/// stays, and is found again when the kind is offered and bound again.
async fn orphans_that_nobody_can_see(service: Service, hide: impl AsyncFn(&Site, &Service)) {
    let world = World::bound(super::PROGRAM, service).await;
    let service = world.service();
    let here = &world.consumers[0].site;
    here.apply(&service.resource(), &service.object("", "one", "unused")).await;
    saw(here, &service, "one", 2).await;
    let contract = contract(&world, &world.consumers[0]).await;
    let there = &world.providers[0].site;
    hide(there, &service).await;
    let _ = world.consumers[0].person.bind(&["unbind", &service.plural, "--orphan"], "").await.ok();
    without_credential(there, &contract).await;
    stays("the copy stays", Duration::from_secs(2), async || {
        let namespace = there.get(&core("namespaces"), "", &contract).await.ok_or("its namespace is gone")?;
        if namespace["metadata"]["deletionTimestamp"].is_string() {
            return Err("its namespace is being deleted".to_owned());
        }
        there.get(&service.resource(), &contract, "one").await.map(|_| ()).ok_or("it was destroyed".to_owned())
    })
    .await;
    let _ = admin(&world).bind(&["provider", "offer", &service.crd_name()], "").await.ok();
    found_again(world, &contract).await;
}

#[tokio::test]
async fn orphans_of_a_kind_that_is_no_longer_labelled_stay_in_the_contract_namespace() {
    let service = Service::new(241).without_claims().cluster_scoped();
    orphans_that_nobody_can_see(service, async |there: &Site, service: &Service| {
        let patch = json!({"metadata": {"labels": {"kube-bind.io/exported": null}}});
        there.patch(&crds(), "", &service.crd_name(), &patch).await;
    })
    .await;
}

#[tokio::test]
async fn orphans_of_a_kind_that_is_no_longer_granted_stay_in_the_contract_namespace() {
    let service = Service::new(242).without_claims().cluster_scoped();
    orphans_that_nobody_can_see(service, async |there: &Site, service: &Service| {
        let roles =
            kube_client::resource::Resource::new("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole");
        let offers = contract::rbac::backend::OFFERS;
        let mut rules = there.get(&roles, "", offers).await.unwrap()["rules"].clone();
        rules.as_array_mut().unwrap().retain(|rule| rule["apiGroups"] != json!([service.group]));
        there.patch(&roles, "", offers, &json!({"rules": rules})).await;
    })
    .await;
}
