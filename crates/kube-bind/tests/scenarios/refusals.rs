//! Binds that one of the two sides refuses: a consumer that the person may not change, TLS that nobody vouches for, names
//! that do not fit, schemas that cannot be installed. Each has one message, and leaves nothing behind.

use std::collections::HashMap;

use jiff::Timestamp;
use kube_client::resource::Resource;
use serde_json::json;
use testkit::eventually;
use testkit::https::Https;
use testkit::program::{Person, file};
use testkit::service::Service;
use testkit::site::{bindings, core, crds, ours};
use testkit::world::World;

use super::consent::picture;
use super::golden::{self, Mask};

fn rbac(plural: &str, kind: &str) -> Resource {
    Resource::new("rbac.authorization.k8s.io", "v1", plural, kind)
}

#[tokio::test]
async fn what_a_person_may_not_do_is_listed_before_anything_is_written() {
    let world = World::new(super::PROGRAM, Service::new(151)).await;
    let service = world.service();
    let consumer = &world.consumers[0];
    let server = world.providers[0].server.as_str();
    let _ = consumer.person.log_in(server, &world.logins[0]).await.ok();
    // A ServiceAccount that may nothing.
    let site = &consumer.site;
    site.apply(&core("serviceaccounts"), &json!({"metadata": {"name": "nobody", "namespace": "default"}})).await;
    let secret = json!({
        "metadata": {"name": "nobody-token", "namespace": "default", "annotations": {"kubernetes.io/service-account.name": "nobody"}},
        "type": "kubernetes.io/service-account-token",
    });
    site.apply(&core("secrets"), &secret).await;
    let token = site.setup().await.token("default", "nobody").await.unwrap();
    let kubeconfig = file(world.folder(), "nobody.kubeconfig", &site.kubeconfig_with("nobody", &token));
    let nobody = Person { kubeconfig: kubeconfig.into(), ..consumer.person.clone() };
    let before = picture(site).await;
    let words = [server, "--template", &service.plural, "--accept-claims"];
    let _ = nobody.bind(&words, "").await.refused(&[
        "consumer cluster",
        "you may not get namespaces",
        "kube-system",
        "administrator",
    ]);
    for words in [&["status"][..], &["claims", "list", "x"], &["unbind", "x"]] {
        let _ = nobody.bind(words, "").await.refused(&["consumer cluster", "you may not", "administrator"]);
    }
    // As a provider's hands it reaches nothing either.
    for words in [&["provider", "exports"][..], &["provider", "offer", "x.y"]] {
        let _ = nobody.bind(words, "").await.refused(&["provider cluster", "you may not", "administrator"]);
    }
    // Somebody who may read: what is missing is listed as a whole.
    let role = json!({"metadata": {"name": "reader"}, "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]}]});
    site.apply(&rbac("clusterroles", "ClusterRole"), &role).await;
    let binding = json!({
        "metadata": {"name": "reader"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "nobody", "namespace": "default"}],
    });
    site.apply(&rbac("clusterrolebindings", "ClusterRoleBinding"), &binding).await;
    let with_reader = picture(site).await;
    assert_ne!(with_reader, before);
    let wanted = [
        "you lack permissions in the consumer cluster",
        "create secrets in namespace kube-bind",
        "create apiservicebindings.kube-bind.io",
    ];
    let ended = nobody.bind(&words, "").await.refused(&wanted);
    assert!(ended.stderr.contains("create clusterrolebindings.rbac.authorization.k8s.io"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("requests the following"), "no question for what cannot work: {}", ended.stderr);
    assert_eq!(picture(site).await, with_reader);
    // A credential that the cluster does not know.
    let kubeconfig = file(world.folder(), "stranger.kubeconfig", &site.kubeconfig_with("stranger", "made up"));
    let stranger = Person { kubeconfig: kubeconfig.into(), ..consumer.person.clone() };
    let _ = stranger.bind(&words, "").await.refused(&["consumer cluster", "does not accept the credential", "Log in"]);
    // And one that the provider does not know.
    let requests = consumer.person.bind(&[server, "--template", &service.plural, "--dry-run"], "").await.ok().stdout;
    let credential = consumer.person.bind(&["kubeconfig", server], "").await.ok().stdout;
    let token = credential.lines().find(|line| line.contains("token:")).unwrap();
    let forged = file(
        world.folder(),
        "forged",
        &credential.replace(token, &format!("{}token: forged", &token[..token.find("token:").unwrap()])),
    );
    let words = ["apiservice", "-f", "-", "--accept-claims", "--remote-kubeconfig", &forged];
    let _ = consumer.person.bind(&words, &requests).await.refused(&[
        "provider",
        "does not accept the credential",
        "kubectl bind kubeconfig",
    ]);
    assert_eq!(picture(site).await, with_reader, "what was written before the provider refused is taken back");
    world.end().await;
}

#[tokio::test]
async fn tls_trouble_and_strange_servers_are_told_apart() {
    let world = World::new(super::PROGRAM, Service::new(152)).await;
    let person = &world.consumers[0].person;
    let before = picture(&world.consumers[0].site).await;
    let server = world.providers[0].server.as_str();
    let https = Https::start(HashMap::from([
        ("/page".to_owned(), "<!doctype html><p>welcome".to_owned()),
        ("/other".to_owned(), "{\"kind\": \"Pod\", \"apiVersion\": \"v1\"}".to_owned()),
    ]))
    .await;
    let ca = file(world.folder(), "ca.pem", &https.ca_pem);
    let no_ca = file(world.folder(), "no-ca.pem", "this is no certificate");
    let page = format!("{}/page", https.url);
    for command in [&[page.as_str(), "--skip-browser"][..], &["login", page.as_str(), "--skip-browser"]] {
        let typed = async |more: &[&str]| person.bind(&[command, more].concat(), "").await;
        let _ = typed(&[]).await.refused(&[&page, "cannot be trusted", "--server-ca-file"]);
        let _ = typed(&["--server-ca-file", &no_ca]).await.refused(&["no-ca.pem"]);
        let _ = typed(&["--server-ca-file", "/no/such.pem"]).await.refused(&["/no/such.pem"]);
        let _ = typed(&["--server-ca-file", &ca]).await.refused(&[&page, "not a kube-bind server", "right URL"]);
        let _ = typed(&["--insecure-skip-tls-verify"]).await.refused(&[&page, "not a kube-bind server"]);
    }
    let typed = async |path: &str| {
        person.bind(&[&format!("{}/{path}", https.url), "--skip-browser", "--server-ca-file", &ca], "").await
    };
    let _ = typed("other").await.refused(&["not a kube-bind server"]);
    let _ = typed("missing").await.refused(&["nothing to bind at", "/missing", "right URL"]);
    // The consumer's API server is https and no kube-bind server; https spoken to a plain port, http to a TLS port.
    let ended = person.bind(&[&server.replace("http://", "https://"), "--skip-browser"], "").await;
    let ended = ended.refused(&["does not speak TLS", "http://"]);
    assert!(!ended.stderr.contains("InvalidContentType"), "in words: {}", ended.stderr);
    let _ = person
        .bind(&[&https.url.replace("https://", "http://"), "--skip-browser"], "")
        .await
        .refused(&[&https.url.replace("https://", "http://")]);
    for (url, words) in [
        ("mangodb.example", &["mangodb.example", "https://"][..]),
        ("ftp://mangodb.example/", &["must start with https://"]),
        ("https://user:secret@mangodb.example/", &["user name or password"]),
        ("http://no-such-host.invalid/exports", &["no-such-host.invalid", "cannot be reached"]),
    ] {
        let ended = person.bind(&[url, "--skip-browser"], "").await.refused(words);
        assert_eq!(ended.stderr.matches("error:").count(), 1, "{}", ended.stderr);
    }
    assert_eq!(picture(&world.consumers[0].site).await, before);
    world.end().await;
}

#[tokio::test]
async fn names_that_do_not_fit_are_refused_on_the_side_where_they_are_given() {
    let world = World::new(super::PROGRAM, Service::new(153)).await;
    let service = world.service();
    let consumer = &world.consumers[0];
    let server = world.providers[0].server.as_str();
    let _ = consumer.person.log_in(server, &world.logins[0]).await.ok();
    let before = picture(&consumer.site).await;
    let long = "n".repeat(64);
    for (name, words) in [
        (long.as_str(), &["64 characters", "63", "--name"][..]),
        ("Up_per", &["Up_per", "--name"]),
        ("a..b", &["a..b", "--name"]),
    ] {
        let words_typed = [server, "--template", &service.plural, "--accept-claims", "--name", name];
        let _ = consumer.person.bind(&words_typed, "").await.refused(words);
    }
    let requests = consumer.person.bind(&[server, "--template", &service.plural, "--dry-run"], "").await.ok().stdout;
    let remote = file(world.folder(), "remote", &consumer.person.bind(&["kubeconfig", server], "").await.ok().stdout);
    let renamed = requests.replacen(&format!("name: {}", service.plural), &format!("name: {long}"), 1);
    let words = ["apiservice", "-f", "-", "--accept-claims", "--remote-kubeconfig", &remote];
    let _ = consumer.person.bind(&words, &renamed).await.refused(&["64 characters", "--name"]);
    let nameless = requests.replacen(&format!("name: {}", service.plural), "labels: {}", 1);
    let _ = consumer.person.bind(&words, &nameless).await.refused(&["empty", "--name"]);
    assert_eq!(picture(&consumer.site).await, before);

    // The longest names that Kubernetes has do fit where namespaces are mapped.
    let words = [server, "--template", &service.plural, "--accept-claims"];
    let _ = consumer.person.bind(&words, "").await.ok();
    let namespace = "s".repeat(63);
    let object = "o".repeat(63);
    consumer.site.namespace(&namespace).await;
    world.make(&namespace, &object, "one-token").await;
    let copy = world.copy(0, &object).await.unwrap();
    assert!(copy["metadata"]["namespace"].as_str().unwrap().len() <= 63);
    world.end().await;
}

#[tokio::test]
async fn names_that_another_kind_has_here_fail_the_bind_and_leave_nothing() {
    let world = World::new(super::PROGRAM, Service::new(154)).await;
    let service = world.service();
    let server = world.providers[0].server.clone();
    let person = world.consumers[0].person.clone();
    let _ = person.log_in(&server, &world.logins[0]).await.ok();
    let words = [server.as_str(), "--template", &service.plural, "--accept-claims", "--wait", "20"];

    // The kind's names are taken by another CRD of the consumer.
    let mut other = service.crd();
    other["metadata"] = json!({"name": format!("other{}", service.crd_name())});
    other["spec"]["names"] =
        json!({"plural": format!("other{}", service.plural), "kind": service.kind, "singular": "other"});
    world.consumers[0].site.apply(&crds(), &other).await;
    let before = picture(&world.consumers[0].site).await;
    let short = [&words[..4], &["--wait", "3"]].concat();
    let _ = person.bind(&short, "").await.refused(&["consumer cluster", &service.plural, "names"]);
    assert_eq!(names_left(&picture(&world.consumers[0].site).await), names_left(&before));
    world.consumers[0].site.delete(&crds(), "", &format!("other{}", service.crd_name())).await;

    world.end().await;
}

#[tokio::test]
async fn a_schema_that_no_api_server_takes_fails_the_bind_and_leaves_nothing() {
    let mut world = World::new(super::PROGRAM, Service::new(155)).await;
    let service = world.service();
    let server = world.providers[0].server.clone();
    let person = world.consumers[0].person.clone();
    let _ = person.log_in(&server, &world.logins[0]).await.ok();
    let words = [server.as_str(), "--template", &service.plural, "--accept-claims", "--wait", "20"];
    // The provider changes what is published, behind its backend's back.
    world.consumer().stop_agent().await;
    let before = picture(&world.consumers[0].site).await;
    let leases = Resource::new("coordination.k8s.io", "v1", "leases", "Lease");
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string();
    let lease = json!({
        "metadata": {"name": "kube-bind", "namespace": "kube-bind"},
        "spec": {"holderIdentity": "scenario", "leaseDurationSeconds": 60, "renewTime": now, "acquireTime": now},
    });
    world.consumers[0].site.apply(&leases, &lease).await;
    let typed: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let binder = person.clone();
    let binding = tokio::spawn(async move {
        let words: Vec<&str> = typed.iter().map(String::as_str).collect();
        binder.bind(&words, "").await
    });
    eventually("the binding waits for the agent", async || {
        world.consumers[0].site.get(&bindings(), "", &service.plural).await.map(|_| ()).ok_or("no binding".to_owned())
    })
    .await;
    world.provider().stop_backend().await;
    let schemas = ours("boundschemas", "BoundSchema");
    let published = world.providers[0].site.list(&schemas).await.remove(0);
    let mut versions = published["spec"]["versions"].clone();
    let broken = json!({"type": "object", "properties": {"spec": {"type": "nonsense"}}});
    versions[0]["schema"] = json!({"openAPIV3Schema": broken});
    let namespace = published["metadata"]["namespace"].as_str().unwrap();
    world.providers[0]
        .site
        .patch(&schemas, namespace, &service.crd_name(), &json!({"spec": {"versions": versions}}))
        .await;
    world.consumer().start_agent().await;
    let ended = binding.await.unwrap().refused(&["consumer", "cannot be connected", &service.crd_name()]);
    assert!(!ended.stdout.contains("Added APIs"), "{ended:?}");
    let said = Mask::of(&world).apply(&ended.stderr);
    golden::check("transcripts/bad-input-a-schema-that-is-refused.txt", &said);
    assert_eq!(names_left(&picture(&world.consumers[0].site).await), names_left(&before));
    world.end().await;
}

/// Kinds and names of a picture.
fn names_left(picture: &str) -> Vec<String> {
    let name = |line: &str| -> String {
        let (kind, object) = line.split_once(' ').unwrap_or_default();
        let object: serde_json::Value = serde_json::from_str(object).unwrap_or_default();
        format!("{kind} {}", object["metadata"]["name"])
    };
    picture.lines().map(name).collect()
}
