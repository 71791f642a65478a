//! The finalizer at birth. Objects arrive with finalizer and place, so the agent writes only their status; and on no path is
//! a finalizer left behind that nobody takes off. Where the API server stores such policies without evaluating them, and
//! without `--finalizer-at-birth`, everything ends the same way, the finalizers coming from the agent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use contract::rbac::birth;
use kube_bind_api::constants::{ANNOTATION_PROVIDER_NAMESPACE, FINALIZER};
use kube_client::api::Api;
use kube_client::resource::Resource;
use serde_json::{Value, json};
use testkit::eventually;
use testkit::program::Person;
use testkit::service::Service;
use testkit::site::{Site, bindings, crds};
use testkit::world::World;

fn admission(plural: &str, kind: &str) -> Resource {
    Resource::new("admissionregistration.k8s.io", "v1", plural, kind)
}

pub(super) fn policies() -> [Resource; 2] {
    [
        admission("mutatingadmissionpolicies", "MutatingAdmissionPolicy"),
        admission("mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding"),
    ]
}

/// A world whose first consumer has bound with `--finalizer-at-birth`.
async fn bound(service: Service) -> World {
    let world = World::new(super::PROGRAM, service).await;
    let _ = world.bind_with(0, 0, &["--finalizer-at-birth"]).await.ok();
    world
}

/// How many of the two objects of a binding's policy are there.
async fn written(site: &Site, binding: &str) -> usize {
    let name = birth::name(binding);
    let mut count = 0;
    for kind in policies() {
        count += usize::from(site.get(&kind, "", &name).await.is_some());
    }
    count
}

fn held(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|all| all.iter().any(|name| name == FINALIZER))
}

/// The answer to a plain create.
async fn create(api: &Api, service: &Service, namespace: &str, name: &str) -> Value {
    let resource = service.resource();
    let mut object = service.object(namespace, name, &format!("{name}-token"));
    object["apiVersion"] = json!(resource.api_version());
    object["kind"] = json!(resource.kind);
    let namespace = object["metadata"]["namespace"].as_str().map(str::to_owned);
    api.create(&resource, namespace.as_deref(), &object).await.unwrap_or_else(|error| panic!("create {name}: {error}"))
}

/// Waits until new objects are held at birth as they should be, where policies are evaluated; takes the tries away again.
async fn in_force(site: &Site, service: &Service, expected: bool) {
    if !site.enforces_admission() {
        return;
    }
    let mut count = 0;
    eventually(&format!("objects are held at birth: {expected}"), async || {
        count += 1;
        let name = format!("try-{count}");
        let born = held(&create(&site.api, service, "default", &name).await);
        site.delete(&service.resource(), "default", &name).await;
        if born == expected { Ok(()) } else { Err(format!("held: {born}")) }
    })
    .await;
}

/// Managers that wrote the object itself, not its status.
fn writers(object: &Value) -> Vec<&str> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries.filter(|entry| entry["subresource"].is_null()).filter_map(|entry| entry["manager"].as_str()).collect()
}

async fn gone(site: &Site, service: &Service, namespace: &str, name: &str) {
    eventually(&format!("{namespace}/{name} is gone"), async || {
        site.get(&service.resource(), namespace, name).await.map_or(Ok(()), |object| Err(object.to_string()))
    })
    .await;
}

async fn unbound(site: &Site, binding: &str) {
    eventually("the binding is gone", async || {
        site.get(&bindings(), "", binding).await.map_or(Ok(()), |binding| Err(binding.to_string()))
    })
    .await;
}

#[tokio::test]
async fn objects_arrive_held_and_the_agent_writes_only_their_status() {
    for service in [
        Service::new(196),
        Service::new(197).without_claims().cluster_scoped(),
        Service::new(198).without_claims().prefixed(),
    ] {
        let mut world = bound(service).await;
        let (service, binding) = (world.service(), world.binding(0));
        let evaluated = world.consumers[0].site.enforces_admission();
        {
            let here = &world.consumers[0].site;
            assert_eq!(written(here, &binding).await, 2);
            in_force(here, &service, true).await;
        }
        let here = &world.consumers[0].site;
        let born = create(&here.api, &service, "default", "one").await;
        assert_eq!(held(&born), evaluated, "{born}");
        let namespace = born["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        let object = world.running(&namespace, "one").await;
        assert!(held(&object), "{object}");
        let copy = world.copy(0, "one").await;
        let place = copy.as_ref().map_or(&Value::Null, |copy| &copy["metadata"]["namespace"]);
        assert_eq!(&object["metadata"]["annotations"][ANNOTATION_PROVIDER_NAMESPACE], place, "{object}");
        if evaluated {
            assert_eq!(writers(&object).len(), 1, "somebody but its maker has written it: {object}");
            assert_eq!(born["metadata"]["annotations"], object["metadata"]["annotations"]);
        } else {
            assert_eq!(writers(&object).len(), 2, "its maker, and the agent: {object}");
        }
        // What its maker says later takes nothing away.
        here.patch(&service.resource(), &namespace, "one", &json!({"spec": {"size": 7}})).await;
        assert!(held(&here.get(&service.resource(), &namespace, "one").await.unwrap()));
        here.delete(&service.resource(), &namespace, "one").await;
        gone(here, &service, &namespace, "one").await;
        assert!(world.copy(0, "one").await.is_none());
        if !namespace.is_empty() {
            // Nowhere mapped yet, and deleted while nobody looks: it has to find its end all the same.
            here.namespace("fresh").await;
            world.consumer().stop_agent().await;
            let here = &world.consumers[0].site;
            let _ = create(&here.api, &service, "fresh", "short").await;
            here.delete(&service.resource(), "fresh", "short").await;
            assert_eq!(here.get(&service.resource(), "fresh", "short").await.is_some(), evaluated);
            world.consumer().start_agent().await;
            gone(&world.consumers[0].site, &service, "fresh", "short").await;
        }
        world.end().await;
    }
}

/// Makes objects as fast as it can until told to stop; says how many.
fn maker(api: Api, service: Service, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<(usize, usize)> {
    tokio::spawn(async move {
        let (mut made, mut held_ones) = (0, 0);
        while !stop.load(Ordering::Relaxed) {
            made += 1;
            held_ones += usize::from(held(&create(&api, &service, "default", &format!("n-{made}")).await));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        (made, held_ones)
    })
}

#[tokio::test]
async fn orphaning_while_objects_are_being_made_leaves_no_finalizer() {
    for by_kubectl in [false, true] {
        let world = bound(Service::new(199).without_claims()).await;
        let (service, binding) = (world.service(), world.binding(0));
        let here = &world.consumers[0].site;
        in_force(here, &service, true).await;
        let stop = Arc::new(AtomicBool::new(false));
        let making = maker(here.api.clone(), service.clone(), stop.clone());
        tokio::time::sleep(Duration::from_millis(300)).await;
        if by_kubectl {
            here.delete(&bindings(), "", &binding).await;
        } else {
            let _ = world.consumers[0].person.bind(&["unbind", &binding, "--orphan"], "").await.ok();
        }
        unbound(here, &binding).await;
        stop.store(true, Ordering::Relaxed);
        let (made, held_ones) = making.await.unwrap();
        let left: Vec<Value> = here.list(&service.resource()).await.into_iter().filter(held).collect();
        assert!(left.is_empty(), "{} of {made} objects keep a finalizer that nobody takes off", left.len());
        if here.enforces_admission() {
            assert!(held_ones > 0 && held_ones < made, "{held_ones} of {made} were born held");
        }
        // What is left of the policy does nothing.
        assert_eq!(written(here, &binding).await, if by_kubectl { 2 } else { 0 });
        assert!(!held(&create(&here.api, &service, "default", "later").await));
        here.delete(&service.resource(), "default", "later").await;
        gone(here, &service, "default", "later").await;
        if by_kubectl {
            // One that an agent of long ago has left is let go of with the rest.
            here.patch(
                &service.resource(),
                "default",
                "n-1",
                &json!({"metadata": {"finalizers": [FINALIZER, "a.example/b"]}}),
            )
            .await;
            let _ = world.consumers[0].person.bind(&["unbind", &binding], "").await.ok();
            assert_eq!(written(here, &binding).await, 0);
            let object = here.get(&service.resource(), "default", "n-1").await.unwrap();
            assert_eq!(object["metadata"]["finalizers"], json!(["a.example/b"]));
            here.patch(&service.resource(), "default", "n-1", &json!({"metadata": {"finalizers": null}})).await;
        }
        world.end().await;
    }
}

#[tokio::test]
async fn deleting_everything_takes_along_what_is_born_meanwhile() {
    let world = bound(Service::new(200).without_claims()).await;
    let (service, binding) = (world.service(), world.binding(0));
    let here = &world.consumers[0].site;
    in_force(here, &service, true).await;
    for name in ["one", "two"] {
        let _ = create(&here.api, &service, "default", name).await;
    }
    let delete = json!({"spec": {"deletionPolicy": "Delete"}});
    here.patch(&bindings(), "", &binding, &delete).await;
    here.delete(&bindings(), "", &binding).await;
    // Into the moment before the API server hears of it; the kind may be gone already.
    let mut late = service.object("default", "late", "late-token");
    late["apiVersion"] = json!(service.resource().api_version());
    late["kind"] = json!(service.kind);
    let _ = here.api.create(&service.resource(), Some("default"), &late).await;
    unbound(here, &binding).await;
    eventually("the CRD is gone", async || {
        here.get(&crds(), "", &service.crd_name()).await.map_or(Ok(()), |crd| Err(crd["status"].to_string()))
    })
    .await;
    // kube-apiserver lets an object go whose DELETE it had begun when the finalizer came; that may leave the copy of a try.
    let left = world.providers[0].site.list(&service.resource()).await;
    let left: Vec<_> = left.iter().map(|copy| copy["metadata"]["name"].as_str().unwrap()).collect();
    assert!(left.iter().all(|name| name.starts_with("try-")), "{left:?}");
    let _ = world.consumers[0].person.bind(&["unbind", &binding], "").await.ok();
    assert_eq!(written(here, &binding).await, 0);
    world.end().await;
}

#[tokio::test]
async fn without_an_agent_nothing_is_born_that_cannot_be_deleted() {
    let mut world = bound(Service::new(201).without_claims()).await;
    let (service, binding) = (world.service(), world.binding(0));
    in_force(&world.consumers[0].site, &service, true).await;
    world.consumer().stop_agent().await;
    let here = &world.consumers[0].site;
    // Only away: it waits, like everything that was made before.
    let waits = held(&create(&here.api, &service, "default", "waits").await);
    assert_eq!(waits, here.enforces_admission());
    here.delete(&service.resource(), "default", "waits").await;
    // Uninstalled, as `helm uninstall` or `kubectl delete -f` do it; or the binding's rights taken away.
    let roles = Resource::new("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding");
    for name in ["kube-bind-konnector".to_owned(), contract::rbac::consumer::role_name(&binding)] {
        let kept = here.get(&roles, "", &name).await.unwrap();
        here.delete(&roles, "", &name).await;
        in_force(here, &service, false).await;
        assert!(!held(&create(&here.api, &service, "default", "free").await));
        here.delete(&service.resource(), "default", "free").await;
        assert!(here.get(&service.resource(), "default", "free").await.is_none());
        let again = json!({"metadata": {"name": name}, "roleRef": kept["roleRef"], "subjects": kept["subjects"]});
        here.apply(&roles, &again).await;
        in_force_again(here, &service).await;
    }
    world.consumer().start_agent().await;
    gone(&world.consumers[0].site, &service, "default", "waits").await;
    world.end().await;
}

/// Rights that are back; what is tried stays until the agent is.
async fn in_force_again(site: &Site, service: &Service) {
    if site.enforces_admission() {
        let mut count = 0;
        eventually("objects are held at birth again", async || {
            count += 1;
            let born = create(&site.api, service, "default", &format!("again-{count}-{}", std::process::id())).await;
            site.delete(&service.resource(), "default", born["metadata"]["name"].as_str().unwrap()).await;
            if held(&born) { Ok(()) } else { Err("not yet".to_owned()) }
        })
        .await;
        let own = site.list(&service.resource()).await;
        for object in own.iter().filter(|o| o["metadata"]["name"].as_str().unwrap().starts_with("again-")) {
            let name = object["metadata"]["name"].as_str().unwrap();
            site.patch(&service.resource(), "default", name, &json!({"metadata": {"finalizers": null}})).await;
        }
    }
}

#[tokio::test]
async fn a_revoked_contract_holds_no_new_objects_and_unbinds() {
    let world = bound(Service::new(202).without_claims()).await;
    let (service, binding) = (world.service(), world.binding(0));
    let here = &world.consumers[0].site;
    in_force(here, &service, true).await;
    world.make("default", "before", "before-token").await;
    let kubeconfig = world.providers[0].site.kubeconfig.clone();
    let provider = Person { kubeconfig, ..world.consumers[0].person.clone() };
    let contracts = world.providers[0].site.list(&testkit::site::ours("clusterbindings", "ClusterBinding")).await;
    let contract = contracts[0]["metadata"]["namespace"].as_str().unwrap();
    let _ = provider.bind(&["provider", "revoke", contract], "").await.ok();
    eventually("the consumer knows", async || {
        let status = world.consumers[0].binding_status(&binding).await;
        if status["phase"] == "Connected" { Err(status.to_string()) } else { Ok(()) }
    })
    .await;
    in_force(here, &service, false).await;
    assert!(!held(&create(&here.api, &service, "default", "after").await));
    here.delete(&service.resource(), "default", "after").await;
    assert!(here.get(&service.resource(), "default", "after").await.is_none());
    let _ = world.consumers[0].person.bind(&["unbind", &binding, "--orphan"], "").await.ok();
    assert!(!held(&here.get(&service.resource(), "default", "before").await.unwrap()));
    assert_eq!(written(here, &binding).await, 0);
    world.end().await;
}

#[tokio::test]
async fn it_is_made_only_when_asked_for_and_kept_by_later_binds() {
    let world = World::new(super::PROGRAM, Service::new(203).without_claims()).await;
    let (service, binding) = (world.service(), world.binding(0));
    let consumer = &world.consumers[0];
    let here = &consumer.site;
    for (at, (flags, count)) in [(&[][..], 0), (&["--finalizer-at-birth"], 2), (&[], 2)].into_iter().enumerate() {
        let _ = world.bind_with(0, 0, flags).await.ok();
        assert_eq!(written(here, &binding).await, count, "{flags:?}");
        in_force(here, &service, count == 2).await;
        let object = world.make("default", &format!("made-{at}"), "token").await;
        assert!(held(&object), "{object}");
    }
    // Nobody needs rights on policies to end it.
    here.patch(&bindings(), "", &binding, &json!({"metadata": {"annotations": {birth::ANNOTATION: null}}})).await;
    in_force(here, &service, false).await;
    world.make("default", "made-last", "token").await;
    let _ = consumer.person.bind(&["unbind", &binding, "--delete-objects"], "").await.ok();
    assert_eq!(written(here, &binding).await, 0);
    world.end().await;
}
