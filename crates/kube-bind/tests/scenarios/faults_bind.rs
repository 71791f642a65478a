//! Faults while somebody binds: what passes is waited for; what lasts is one clear message, a non-zero exit code and
//! nothing left behind; and the same command completes when the fault is over.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::fault::{Fault, FaultProxy, Seen, all, first_try, group, on};
use testkit::program::{Ended, Person, file};
use testkit::service::Service;
use testkit::site::{Site, bindings, core};
use testkit::world::World;

/// An administrator of the consumer's cluster whose kubeconfig names the proxy; with a token, because that passes.
async fn administrator(world: &World, proxy: &FaultProxy) -> Person {
    let site = &world.consumers[0].site;
    let rbac = kube_client::resource::Resource::new(
        "rbac.authorization.k8s.io",
        "v1",
        "clusterrolebindings",
        "ClusterRoleBinding",
    );
    let account = json!({"metadata": {"name": "ada", "namespace": "default"}});
    site.apply(&core("serviceaccounts"), &account).await;
    site.apply(
        &rbac,
        &json!({
            "metadata": {"name": "ada-administrates"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "namespace": "default", "name": "ada"}],
        }),
    )
    .await;
    let secret = json!({
        "metadata": {"name": "ada-token", "namespace": "default", "annotations": {"kubernetes.io/service-account.name": "ada"}},
        "type": "kubernetes.io/service-account-token",
    });
    site.apply(&core("secrets"), &secret).await;
    let token = site.setup().await.token("default", "ada").await.unwrap();
    let kubeconfig = proxy.kubeconfig(&site.kubeconfig_with("ada", &token));
    let path = file(world.folder(), "ada.kubeconfig", &kubeconfig);
    Person { kubeconfig: path.into(), ..world.consumers[0].person.clone() }
}

/// A world with proxies, an administrator behind one of their own, and their login.
async fn logged_in(seed: u64) -> (World, FaultProxy, Person) {
    let world = World::with_faults(super::PROGRAM, Service::new(seed)).await;
    let site = &world.consumers[0].site;
    let proxy = FaultProxy::start(&std::fs::read_to_string(&site.kubeconfig).unwrap()).await;
    let person = administrator(&world, &proxy).await;
    let _ = person.log_in(&world.providers[0].server, &world.logins[0]).await.ok();
    (world, proxy, person)
}

async fn bind(world: &World, person: &Person) -> Ended {
    let name = world.service().plural;
    person.bind(&[&world.providers[0].server, "--template", &name, "--accept-claims"], "").await
}

/// What a bind makes in the consumer's cluster.
async fn made(site: &Site) -> Vec<String> {
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let mut all: Vec<String> = site.list(&bindings()).await.iter().map(name).collect();
    let secrets = site.list(&core("secrets")).await;
    all.extend(secrets.iter().filter(|secret| secret["data"]["kubeconfig"].is_string()).map(name));
    let crds = site.list(&testkit::site::crds()).await;
    all.extend(crds.iter().map(name).filter(|name| name.ends_with("example.com")));
    all
}

#[tokio::test]
async fn what_passes_is_waited_for_and_the_bind_succeeds() {
    let (world, proxy, person) = logged_in(221).await;
    for code in [500, 503, 504] {
        proxy.share(0.05, all(), Fault::status(code));
        // So much that every bind meets some, and so little that chance alone does not outlast the patience of one request.
        proxy.share(0.08, Box::new(Seen::writes), Fault::DoneBut(code));
    }
    proxy.share(0.1, all(), Fault::too_many(1));
    let at_the_provider = world.providers[0].faults.as_ref().unwrap();
    at_the_provider.share(0.2, all(), Fault::status(503));
    // The agent meets faults too, and a machine under load is slow: how long it may take is not the question here.
    let (url, name) = (world.providers[0].server.as_str(), world.service().plural);
    let words = [url, "--template", &name, "--accept-claims", "--wait", "90"];
    let ended = person.bind(&words, "").await.ok();
    assert!(ended.stdout.contains("Added APIs: "), "{}", ended.stdout);
    proxy.well();
    at_the_provider.well();
    world.phase(&world.binding(0), "Connected").await;
    world.make("default", "one", "one-token").await;
    world.end().await;
}

/// Every write is done, and the answer to its first try gets lost; then the bind fails for another reason. What was made
/// without our being told goes too.
#[tokio::test]
async fn writes_whose_answers_got_lost_are_taken_back_too() {
    let (world, proxy, person) = logged_in(222).await;
    let site = &world.consumers[0].site;
    assert_eq!(made(site).await, Vec::<String>::new());
    proxy.when(first_try("PATCH", &["fieldManager=kubectl-bind"]), Fault::DoneBut(504));
    // The agent is told nothing of the provider, so the binding never gets connected.
    world.providers[0]
        .faults
        .as_ref()
        .unwrap()
        .when(Box::new(|seen| seen.path.contains("clusterbindings")), Fault::status(403));
    let url = &world.providers[0].server;
    let name = world.service().plural;
    let words = [url.as_str(), "--template", &name, "--accept-claims", "--wait", "8"];
    let ended = person.bind(&words, "").await;
    let ended = ended.refused(&["did not get connected", "AccessRevoked", "ask the provider"]);
    assert!(!ended.stdout.contains("Added APIs"), "{}", ended.stdout);
    assert_eq!(made(site).await, Vec::<String>::new(), "something stays");
    proxy.well();
    world.providers[0].faults.as_ref().unwrap().well();
    let _ = bind(&world, &person).await.ok();
    world.make("default", "one", "one-token").await;
    world.end().await;
}

/// Lasting faults, wherever they strike: one message with side, object and mend; nothing half-made; the second run works.
#[tokio::test]
async fn what_lasts_is_one_message_and_a_second_run_completes() {
    let (world, proxy, person) = logged_in(223).await;
    let site = &world.consumers[0].site;
    let plural = world.service().plural;
    let faults: [(&str, Fault, &[&str]); 5] = [
        ("/secrets/", Fault::status(503), &["consumer cluster: cannot", "secrets", "run the same command again"]),
        (
            "/apiservicebindings/",
            Fault::status(500),
            &["consumer cluster: cannot", "apiservicebindings", "run the same"],
        ),
        ("/clusterroles/", Fault::too_many(60), &["consumer cluster: cannot", "clusterroles", "too many requests"]),
        ("/secrets/", Fault::status(401), &["consumer cluster", "does not accept the credential", "Log in"]),
        (
            "/apiservicebindings/",
            Fault::invalid("admission webhook \"guard\" denied the request: not on Fridays"),
            &["consumer cluster: cannot", "apiservicebindings", "not on Fridays"],
        ),
    ];
    for (path, fault, words) in faults {
        let rule = proxy.when(on("PATCH", &[path]), fault.clone());
        let ended = bind(&world, &person).await.refused(words);
        assert!(proxy.struck(rule) > 0);
        let said =
            ended.stderr.lines().filter(|line| line.contains("cannot") || line.contains("does not accept")).count();
        assert_eq!(said, 1, "{path} {fault:?}: {}", ended.stderr);
        proxy.well();
        assert_eq!(made(site).await, Vec::<String>::new(), "{path} {fault:?}: something stays");
    }
    // Nobody there, another certificate.
    proxy.refuse().await;
    let _ = bind(&world, &person).await.refused(&["consumer cluster", "cannot be reached", "kubeconfig is right"]);
    proxy.accept().await;
    let before = proxy.change_certificate().await;
    let _ = bind(&world, &person).await.refused(&["consumer cluster", "cannot be trusted", "CA in the kubeconfig"]);
    proxy.restore_certificate(before).await;
    let _ = bind(&world, &person).await.ok();
    world.phase(&plural, "Connected").await;
    let _ = bind(&world, &person).await.ok();
    world.make("default", "one", "one-token").await;
    world.end().await;
}

/// The provider's backend cannot reach its own API server: the consumer reads whose fault it is, and nothing was made.
#[tokio::test]
async fn a_backend_without_its_api_server_says_so_and_the_next_bind_works() {
    let (world, _proxy, person) = logged_in(224).await;
    let backend = world.providers[0].backend_faults.as_ref().unwrap();
    for fault in [Fault::status(503), Fault::status(500), Fault::too_many(1), Fault::Drop] {
        backend.when(all(), fault.clone());
        backend.cut_watches();
        let ended = bind(&world, &person).await.refused(&["the provider's server", "refuses", "provider"]);
        assert_eq!(ended.stderr.trim().lines().count(), 1, "{fault:?}: {}", ended.stderr);
        let seen = {
            let _ = backend.take_seen();
            tokio::time::sleep(Duration::from_secs(3)).await;
            backend.take_seen()
        };
        assert!(seen.len() < 200, "{fault:?}: {} requests in 3 s", seen.len());
        backend.well();
    }
    let _ = bind(&world, &person).await.ok();
    world.make("default", "one", "one-token").await;
    // And its watches: what happens while none is open is not missed.
    backend.cut_watches();
    backend.gone();
    world.consumers[0].site.namespace("team").await;
    world.make("team", "two", "two-token").await;
    world.end().await;
}

/// An aggregated API that is dead, and an API server that lacks what newer ones have: both are none of a bind's business.
#[tokio::test]
async fn a_dead_aggregated_api_and_an_old_server_do_not_stop_a_bind() {
    let (world, proxy, person) = logged_in(225).await;
    proxy.when(group("metrics.k8s.io"), Fault::status(503));
    // And one that is dead without our help, where API servers can be aggregated.
    let kind = kube_client::resource::Resource::new("apiregistration.k8s.io", "v1", "apiservices", "APIService");
    let name = "v1beta1.nowhere.example.com";
    let dead = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": name},
        "spec": {
            "group": "nowhere.example.com", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": true, "service": {"namespace": "default", "name": "nowhere", "port": 443},
        },
    });
    let key = kube_client::store::ObjectKey::cluster(name);
    let (manager, part) = (kube_client::api::FieldManager("scenario"), kube_client::api::Subresource::Main);
    for site in [&world.consumers[0].site, &world.providers[0].site] {
        let made = site.api.apply(&kind, &key, &dead, manager, part).await;
        assert!(made.is_ok() || made.as_ref().is_err_and(kube_client::error::ApiError::is_not_found), "{made:?}");
    }
    proxy.when(group("admissionregistration.k8s.io"), Fault::status(404));
    let ended = bind(&world, &person).await.ok();
    assert!(ended.stdout.contains("Added APIs: "), "{}", ended.stdout);
    assert!(ended.stderr.contains("ValidatingAdmissionPolicy"), "what is missing is said: {}", ended.stderr);
    world.make("default", "one", "one-token").await;
    world.end().await;
}
