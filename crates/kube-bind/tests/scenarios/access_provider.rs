//! The rights of the backend that an ordinary life does not need: answers without the HTTP API, claims of the consumer's own
//! Services and ServiceAccounts, rights that somebody changed by hand, a contract that moves to another cluster, one that is
//! revoked. [`super::access`] counts these as needed, because this story shows that they are.

use kube_bind_api::constants::{ANNOTATION_IDENTITY, KUBE_BINDER};
use kube_client::resource::Resource;
use serde_json::{Value, json};
use testkit::eventually;
use testkit::program::Person;
use testkit::rights::{Excuses, Witness, compare, is_agent, is_backend, is_credential, judge};
use testkit::service::Service;
use testkit::site::{Site, core, ours};
use testkit::world::World;

use super::access::{gone, plain, running, there};

/// Rights of the backend that are needed here.
pub(super) const SHOWN: [&str; 19] = [
    "kube-bind-backend: get bindableresourcesrequests.kube-bind.io",
    "kube-bind-backend: delete bindableresourcesrequests.kube-bind.io",
    "kube-bind-backend: patch bindableresourcesrequests/status.kube-bind.io",
    "kube-bind-backend: patch clusterbindings.kube-bind.io",
    "kube-bind-backend-contracts: patch roles.rbac.authorization.k8s.io",
    "kube-bind-backend-contracts: patch rolebindings.rbac.authorization.k8s.io",
    "kube-bind-backend-contracts: patch secrets",
    "kube-bind-backend-contracts: delete secrets",
    "kube-bind-backend-contracts: delete serviceaccounts",
    "kube-bind-backend-offers: patch rolebindings.rbac.authorization.k8s.io",
    "kube-bind-backend-offers: get serviceaccounts",
    "kube-bind-backend-offers: list serviceaccounts",
    "kube-bind-backend-offers: watch serviceaccounts",
    "kube-bind-backend-offers: create serviceaccounts",
    "kube-bind-backend-offers: patch serviceaccounts",
    "kube-bind-backend-offers: delete serviceaccounts",
    "kube-bind-backend-offers: create services",
    "kube-bind-backend-offers: patch services",
    "kube-bind-backend-offers: delete services",
];

/// The administrator takes rights away here, and the contract moves.
const TAKEN: Excuses = &[
    ("in a dying namespace: *", "Roles and bindings of a namespace that is being deleted go first"),
    ("before it might: get services", "rights follow a moment after the list"),
    ("before it might: get serviceaccounts", "the same"),
    ("before it might: get secrets", "the same"),
    ("before it might: list <kinds>", "an export is seen a moment before its Role; informers try again"),
    ("before it might: watch <kinds>", "the same"),
];

fn rbac(plural: &str, kind: &str) -> Resource {
    Resource::new("rbac.authorization.k8s.io", "v1", plural, kind)
}

fn claim(resource: &str, name: &str) -> Value {
    json!({"group": "", "resource": resource, "owner": "Consumer", "verbs": ["read"], "selector": {"namedResources": [{"name": name}]}})
}

/// A contract without the HTTP API: the answer is in a Secret, the request goes after a while.
async fn by_request(site: &Site, service: &Service) {
    site.namespace("automation").await;
    // Where requests are made the backend needs rights on Secrets: the administrator gives them.
    let binding = json!({
        "metadata": {"name": "kube-bind-backend-contracts", "namespace": "automation"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "kube-bind-backend-contracts"},
        "subjects": [{"kind": "ServiceAccount", "namespace": "kube-bind", "name": "backend"}],
    });
    site.apply(&rbac("rolebindings", "RoleBinding"), &binding).await;
    let reviews = Resource::new("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview");
    let review = json!({
        "apiVersion": reviews.api_version(), "kind": reviews.kind, "metadata": {},
        "spec": {
            "user": "system:serviceaccount:kube-bind:backend",
            "resourceAttributes": {"verb": "create", "resource": "secrets", "namespace": "automation"},
        },
    });
    eventually("the API server believes it", async || {
        let answer = site.api.create(&reviews, None, &review).await.map_err(|error| error.to_string())?;
        if answer["status"]["allowed"] == true { Ok(()) } else { Err(answer["status"].to_string()) }
    })
    .await;
    let kind = ours("bindableresourcesrequests", "BindableResourcesRequest");
    let request = json!({
        "metadata": {"name": "robot", "namespace": "automation"},
        "spec": {
            "templateRef": {"name": service.plural}, "author": "robot", "ttlAfterFinished": "2s",
            "clusterIdentity": {"identity": "a-cluster-of-robots"},
        },
    });
    site.apply(&kind, &request).await;
    let answer = there(site, &core("secrets"), "automation", "robot-binding-response").await;
    assert!(answer["data"].as_object().is_some_and(|data| data.len() == 1), "{}", answer["metadata"]);
    gone(site, &kind, "automation", "robot").await;
}

/// What the backend wrote about rights is changed by hand; it puts everything right.
async fn put_right(world: &mut World, contract: &str, mapped: &str, service: &Service) {
    let (roles, bindings) = (rbac("roles", "Role"), rbac("rolebindings", "RoleBinding"));
    let export = format!("kube-bind:{}", service.plural);
    let written = [
        (&roles, contract, KUBE_BINDER, "rules"),
        (&bindings, contract, KUBE_BINDER, "subjects"),
        (&bindings, contract, "kube-bind-backend-contracts", "subjects"),
        (&bindings, mapped, export.as_str(), "subjects"),
    ];
    // Nobody is to notice meanwhile.
    world.consumer().stop_agent().await;
    let site = &world.providers[0].site;
    let mut before = Vec::new();
    for (kind, namespace, name, field) in written {
        let live = site.get(kind, namespace, name).await.unwrap_or_else(|| panic!("{namespace}/{name}"));
        before.push(live[field].clone());
        let last = live[field].as_array().unwrap().len() - 1;
        let changed = match field {
            "rules" => json!(live[field].as_array().unwrap()[..last]),
            _ => json!([{"kind": "ServiceAccount", "namespace": "nowhere", "name": "nobody"}]),
        };
        site.patch(kind, namespace, name, &json!({field: changed})).await;
    }
    // The login looks after the contract, a change in the mapped namespace after the export.
    let person = Person { home: world.folder().to_owned(), ..world.consumers[0].person.clone() };
    let _ = person.log_in(&world.providers[0].server, &world.logins[0]).await.ok();
    let _ = person.bind(&["kubeconfig", &world.providers[0].server], "").await.ok();
    site.patch(&core("serviceaccounts"), mapped, "worker", &json!({"metadata": {"annotations": {"touched": "1"}}}))
        .await;
    for ((kind, namespace, name, field), before) in written.into_iter().zip(before) {
        eventually(&format!("{namespace}/{name} is put right"), async || {
            let live = site.get(kind, namespace, name).await.unwrap_or_default();
            if live[field] == before { Ok(()) } else { Err(live.to_string()) }
        })
        .await;
    }
    world.consumer().start_agent().await;
}

/// As if the contract had been made for another cluster: a login from this one moves it here.
async fn moved(world: &World, contract: &str, service: &Service) {
    let site = &world.providers[0].site;
    let kind = ours("clusterbindings", "ClusterBinding");
    let elsewhere = json!({"annotations": {ANNOTATION_IDENTITY: "elsewhere"}});
    site.patch(&core("namespaces"), "", contract, &json!({"metadata": elsewhere})).await;
    let pinned = json!({"metadata": elsewhere, "spec": {"consumerClusterUID": "elsewhere"}});
    site.patch(&kind, contract, "cluster", &pinned).await;
    world.phase(&service.plural, "ClaimedElsewhere").await;
    let token = site.get(&core("secrets"), contract, KUBE_BINDER).await.unwrap()["data"]["token"].clone();
    let _ = world.bind(0, 0).await.ok();
    world.phase(&service.plural, "Connected").await;
    let rotated = site.get(&core("secrets"), contract, KUBE_BINDER).await.unwrap()["data"]["token"].clone();
    assert_ne!(rotated, token, "whoever held the old credential is out");
}

#[tokio::test]
async fn what_only_a_providers_day_needs_is_needed() {
    let service =
        Service::new(75).with_claim(claim("services", "front")).with_claim(claim("serviceaccounts", "worker"));
    let mut world = World::new(super::PROGRAM, service.clone()).await;
    let sites = [&world.consumers[0].site, &world.providers[0].site];
    let [consumer, provider] = [Witness::start(sites[0]).await, Witness::start(sites[1]).await];
    let here = &world.consumers[0].site;
    let front = json!({"metadata": {"name": "front", "namespace": "default"}, "spec": {"type": "ExternalName", "externalName": "front.example"}});
    here.apply(&core("services"), &front).await;
    here.apply(&core("serviceaccounts"), &json!({"metadata": {"name": "worker", "namespace": "default"}})).await;
    let _ = world.bind(0, 0).await.ok();
    world.make("default", "one", "one-token").await;
    let copy = world.copy(0, "one").await.unwrap();
    let mapped = copy["metadata"]["namespace"].as_str().unwrap().to_owned();
    let contract = copy["metadata"]["annotations"]["kube-bind.io/cluster-namespace"].as_str().unwrap().to_owned();
    let site = &world.providers[0].site;
    there(site, &core("services"), &mapped, "front").await;
    there(site, &core("serviceaccounts"), &mapped, "worker").await;

    by_request(site, &service).await;
    put_right(&mut world, &contract, &mapped, &service).await;
    moved(&world, &contract, &service).await;
    let (here, site) = (&world.consumers[0].site, &world.providers[0].site);
    here.apply(&service.resource(), &service.object("default", "two", "two-token")).await;
    running(here, &service, "default", "two").await;
    let revoked = json!({"metadata": {"annotations": {"backend.kube-bind.io/revoked": "not paid"}}});
    site.patch(&ours("clusterbindings", "ClusterBinding"), &contract, "cluster", &revoked).await;
    gone(site, &core("serviceaccounts"), &contract, KUBE_BINDER).await;
    gone(site, &core("secrets"), &contract, KUBE_BINDER).await;

    let plain = plain(&[&service]);
    let (consumer, provider) = (consumer.rights(), provider.rights());
    let (asked, answered) = (here.record.seen(), site.record.seen());
    let backend = compare(&provider, &answered, &is_backend, &plain);
    let mut faults = Vec::new();
    for line in SHOWN.iter().filter(|line| !backend.needed.contains(**line)) {
        let how = match (backend.granted.contains(*line), backend.used.contains(*line)) {
            (false, _) => "it is not granted",
            (_, true) => "something else always allows it too",
            _ => "it was not used",
        };
        faults.push(format!("the backend does not need {line:?} here: {how}"));
    }
    for (who, mut findings) in [
        ("the backend", backend),
        ("the agent", compare(&consumer, &asked, &is_agent, &plain)),
        ("the consumer's credential", compare(&provider, &answered, &is_credential, &plain)),
    ] {
        // Whether all of them are needed is the question of the other story.
        findings.needed.clone_from(&findings.granted);
        faults.extend(judge(who, &findings, TAKEN));
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    world.end().await;
}
