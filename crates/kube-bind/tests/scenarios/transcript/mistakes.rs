//! Bad input: every mistake that a person can make has one message that names the object, the side and the mend.

use std::collections::HashMap;

use kube_client::resource::Resource;
use serde_json::json;
use testkit::https::Https;
use testkit::program::{Person, file};
use testkit::site::{bindings, core, crds};
use testkit::world::World;

use super::{Transcript, databases};

#[tokio::test]
async fn mistakes_before_anything_is_asked() {
    let world = World::new(crate::PROGRAM, databases()).await;
    let ada = &world.consumers[0].person;
    let server = world.providers[0].server.as_str();
    let before = crate::consent::picture(&world.consumers[0].site).await;
    let https = Https::start(HashMap::from([("/page".to_owned(), "<!doctype html><p>welcome".to_owned())])).await;
    let ca = file(world.folder(), "ca.pem", &https.ca_pem);
    let mut t = Transcript::new("bad-input-urls-and-files", &world);
    t.mask = t
        .mask
        .name(&https.url, "https://other.example")
        .name(&server.replace("http://", "https://"), "https://provider1.example");

    t.say("What is no URL.");
    for words in [&[][..], &["nonsense"], &["ftp://mangodb.example/"], &["https://user:secret@mangodb.example/"]] {
        let _ = t.bind(ada, words).await.refused(&[]);
    }
    t.say("Nobody there; nothing there; somebody else there.");
    let _ = t.bind(ada, &["http://127.0.0.1:1/exports"]).await.refused(&[]);
    let _ = t.bind(ada, &[&format!("{server}/no/such/page")]).await.refused(&[]);
    let _ = t.bind(ada, &[&format!("{server}/exports/no-such")]).await.refused(&[]);
    let page = format!("{}/page", https.url);
    let _ = t.bind(ada, &[&page, "--server-ca-file", &ca]).await.refused(&[]);

    t.say("TLS.");
    let _ = t.bind(ada, &[&page]).await.refused(&[]);
    let _ = t.bind(ada, &[&page, "--server-ca-file", "/no/such.pem"]).await.refused(&[]);
    let _ = t.bind(ada, &[&server.replace("http://", "https://")]).await.refused(&[]);

    t.say("No login, and an offering that is not there.");
    let _ = t.bind(ada, &["templates", "--server", server]).await.refused(&[]);
    let _ = t.bind(ada, &[server, "--template", "mangodbs"]).await.refused(&[]);
    let _ = ada.log_in(server, &world.logins[0]).await.ok();
    let _ = t.bind(ada, &[server, "--template", "no-such"]).await.refused(&[]);
    let _ = t.bind(ada, &["apiservice", "--template-name", "no-such"]).await.refused(&[]);

    t.say("Kubeconfigs: none, broken, of a cluster that is away, without a namespace.");
    let nobody = Person { kubeconfig: world.folder().join("missing"), ..ada.clone() };
    let _ = t.bind(&nobody, &[server]).await.refused(&[]);
    let broken = Person { kubeconfig: file(world.folder(), "broken", "a: [").into(), ..ada.clone() };
    let _ = t.bind(&broken, &[server]).await.refused(&[]);
    let text = std::fs::read_to_string(&ada.kubeconfig).unwrap();
    let config = apimachinery::yaml::document(&text).unwrap();
    let api = config["clusters"][0]["cluster"]["server"].as_str().unwrap();
    let away = file(world.folder(), "away", &text.replace(api, "https://127.0.0.1:1"));
    let away = Person { kubeconfig: away.into(), ..ada.clone() };
    let _ = t.bind(&away, &[server]).await.refused(&[]);
    let requests = ada.bind(&[server, "--template", "mangodbs", "--dry-run"], "").await.ok().stdout;
    let requests = file(world.folder(), "requests.yaml", &requests);
    let credential = ada.bind(&["kubeconfig", server], "").await.ok().stdout;
    let mut config = apimachinery::yaml::document(&credential).unwrap();
    config["contexts"][0]["context"].as_object_mut().unwrap().remove("namespace");
    let nameless = file(world.folder(), "no-namespace.kubeconfig", &apimachinery::yaml::write(&config));
    let apiservice =
        |manifest, remote| ["apiservice", "-f", manifest, "--remote-kubeconfig", remote, "--accept-claims"];
    let _ = t.bind(ada, &apiservice(&requests, &nameless)).await.refused(&[]);
    config["contexts"][0]["context"]["namespace"] = json!("default");
    config["users"][0]["user"]["token"] = json!("made up");
    let forged = file(world.folder(), "forged.kubeconfig", &apimachinery::yaml::write(&config));
    let _ = t.bind(ada, &apiservice(&requests, &forged)).await.refused(&[]);

    t.say("Manifests: missing, malformed, of another kind.");
    let remote = file(world.folder(), "provider.kubeconfig", &credential);
    let malformed = file(world.folder(), "malformed.yaml", "kind: [unclosed\nmore: {");
    let other = file(world.folder(), "other.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n");
    for manifest in ["/no/such.yaml", &malformed, &other] {
        let _ = t.bind(ada, &apiservice(manifest, &remote)).await.refused(&[]);
    }
    t.say("Names.");
    let long = "n".repeat(64);
    for name in [long.as_str(), "Up_per"] {
        let words = [server, "--template", "mangodbs", "--accept-claims", "--name", name];
        let _ = t.bind(ada, &words).await.refused(&[]);
    }
    assert_eq!(crate::consent::picture(&world.consumers[0].site).await, before);
    t.check();
    world.end().await;
}

#[tokio::test]
async fn mistakes_of_the_consumer_cluster() {
    let mut world = World::new(crate::PROGRAM, databases()).await;
    let server = world.providers[0].server.clone();
    let ada = world.consumers[0].person.clone();
    let _ = ada.log_in(&server, &world.logins[0]).await.ok();
    let words = [server.as_str(), "--template", "mangodbs", "--accept-claims"];
    let mut t = Transcript::new("bad-input-the-consumer-cluster", &world);

    t.say("Somebody who may nothing, and somebody who may only read.");
    let site = &world.consumers[0].site;
    site.apply(&core("serviceaccounts"), &json!({"metadata": {"name": "eve", "namespace": "default"}})).await;
    let secret = json!({
        "metadata": {"name": "eve-token", "namespace": "default", "annotations": {"kubernetes.io/service-account.name": "eve"}},
        "type": "kubernetes.io/service-account-token",
    });
    site.apply(&core("secrets"), &secret).await;
    let token = site.setup().await.token("default", "eve").await.unwrap();
    let eve = file(world.folder(), "eve.kubeconfig", &site.kubeconfig_with("eve", &token));
    let eve = Person { kubeconfig: eve.into(), ..ada.clone() };
    let _ = t.bind(&eve, &words).await.refused(&[]);
    let _ = t.bind(&eve, &["status"]).await.refused(&[]);
    let _ = t.bind(&eve, &["provider", "exports"]).await.refused(&[]);
    let rbac = |plural, kind| Resource::new("rbac.authorization.k8s.io", "v1", plural, kind);
    let role = json!({"metadata": {"name": "reader"}, "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]}]});
    site.apply(&rbac("clusterroles", "ClusterRole"), &role).await;
    let binding = json!({
        "metadata": {"name": "reader"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "eve", "namespace": "default"}],
    });
    site.apply(&rbac("clusterrolebindings", "ClusterRoleBinding"), &binding).await;
    let _ = t.bind(&eve, &words).await.refused(&[]);
    let stranger = file(world.folder(), "stranger.kubeconfig", &site.kubeconfig_with("stranger", "made up"));
    let stranger = Person { kubeconfig: stranger.into(), ..ada.clone() };
    let _ = t.bind(&stranger, &words).await.refused(&[]);

    t.say("A CustomResourceDefinition of the same name that is not ours; one that has the kind's names.");
    site.apply(&crds(), &databases().crd()).await;
    let _ = t.bind(&ada, &words).await.refused(&[]);
    site.delete(&crds(), "", &databases().crd_name()).await;
    testkit::eventually("the CRD is gone", async || {
        let there = site.get(&crds(), "", &databases().crd_name()).await;
        there.map_or(Ok(()), |crd| Err(crd["metadata"].to_string()))
    })
    .await;
    let mut other = databases().crd();
    other["metadata"] = json!({"name": format!("other{}", databases().crd_name())});
    other["spec"]["names"] = json!({"plural": "othermangodbs", "kind": "MongoDB", "singular": "other"});
    site.apply(&crds(), &other).await;
    let _ = t.bind(&ada, &[&words[..], &["--wait", "3"]].concat()).await.refused(&[]);
    site.delete(&crds(), "", &format!("other{}", databases().crd_name())).await;

    t.say("A Secret of the binding's name that holds something else.");
    let secret = json!({"metadata": {"name": "mangodbs", "namespace": "kube-bind"}, "stringData": {"a": "b"}});
    site.apply(&core("secrets"), &secret).await;
    let _ = t.bind(&ada, &words).await.refused(&[]);
    site.delete(&core("secrets"), "kube-bind", "mangodbs").await;

    t.say("No agent.");
    world.consumer().stop_agent().await;
    let leases = Resource::new("coordination.k8s.io", "v1", "leases", "Lease");
    world.consumers[0].site.delete(&leases, "kube-bind", "kube-bind").await;
    let _ = t.bind(&ada, &[&words[..], &["--skip-konnector", "--wait", "2"]].concat()).await.refused(&[]);
    let _ = t.bind(&ada, &["status"]).await.ok();
    assert!(world.consumers[0].site.list(&bindings()).await.is_empty());
    t.check();
    world.end().await;
}

#[tokio::test]
async fn mistakes_of_the_provider() {
    let world = World::new(crate::PROGRAM, databases()).await;
    let server = world.providers[0].server.clone();
    let ada = world.consumers[0].person.clone();
    let mut t = Transcript::new("bad-input-the-provider", &world);

    t.say("Somebody whom the provider does not let in.");
    let words = ["login", server.as_str(), "--skip-browser"];
    let typed = testkit::typed::Typed::start(&ada, &words).await;
    let mut browser = kube_bind::browser::Browser::new().unwrap();
    let outsider = kube_bind::stage::Login {
        username: "eve".to_owned(),
        password: "guessed".to_owned().into(),
        email: "eve@example.com".to_owned(),
    };
    let refused = kube_bind::browser::log_in_and_bind(&mut browser, &typed.url, &outsider, |_| {}).await;
    assert!(refused.is_err(), "a wrong password leads nowhere");
    typed.interrupt().await;
    let _ = t.end(&words, typed).await.refused(&[]);

    t.say("A contract that the provider has revoked.");
    let _ = ada.log_in(&server, &world.logins[0]).await.ok();
    let bind = [server.as_str(), "--template", "mangodbs", "--accept-claims"];
    let _ = t.bind(&ada, &bind).await.ok();
    let contracts = testkit::site::ours("clusterbindings", "ClusterBinding");
    let contract = world.providers[0].site.list(&contracts).await.remove(0);
    let namespace = contract["metadata"]["namespace"].as_str().unwrap();
    let patch = json!({"metadata": {"annotations": {"backend.kube-bind.io/revoked": "2026-01-01"}}});
    world.providers[0].site.patch(&contracts, namespace, "cluster", &patch).await;
    let _ = t.bind(&ada, &bind).await.refused(&[]);
    t.check();
    world.end().await;
}

#[tokio::test]
async fn a_data_folder_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let mut command = tokio::process::Command::new(crate::PROGRAM);
        command.args(["dev", "--data-dir"]).arg(folder.path()).kill_on_drop(true);
        command.stdin(std::process::Stdio::null());
        command
    };
    let mut first = start().stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(first.stdout.take().unwrap()));
    while !lines.next_line().await.unwrap().expect("dev ended before it was ready").contains("is ready") {}
    let second = start().output().await.unwrap();
    assert!(!second.status.success());
    let mask = super::Mask::new()
        .name(&folder.path().to_string_lossy(), "<folder>")
        .form(&format!(r"\b{}\b", first.id().unwrap()), "<pid>");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    super::golden::check("transcripts/bad-input-a-data-folder-in-use.txt", &mask.apply(&said));
    first.kill().await.unwrap();
}
