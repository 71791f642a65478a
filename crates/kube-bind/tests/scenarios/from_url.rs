//! Requests from an https URL (S5): a good one binds; each way in which it can be wrong has one clear sentence.

use std::collections::HashMap;

use testkit::https::Https;
use testkit::program::file;
use testkit::service::Service;
use testkit::site::bindings;
use testkit::world::World;

#[tokio::test]
async fn a_manifest_is_taken_from_https_only_and_each_mistake_is_told() {
    let world = World::new(super::PROGRAM, Service::new(131)).await;
    let service = world.service();
    let consumer = &world.consumers[0];
    let person = &consumer.person;
    let server = world.providers[0].server.as_str();
    let _ = person.log_in(server, &world.logins[0]).await.ok();
    let requests = person.bind(&[server, "--template", &service.plural, "--dry-run"], "").await.ok().stdout;
    let remote = file(world.folder(), "remote", &person.bind(&["kubeconfig", server], "").await.ok().stdout);

    let bodies = HashMap::from([
        ("/good.yaml".to_owned(), requests.replace("state: Pending", "state: Accepted")),
        ("/pending.yaml".to_owned(), requests.clone()),
        ("/kind.yaml".to_owned(), "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n".to_owned()),
        ("/version.yaml".to_owned(), requests.replace("kube-bind.io/v1alpha2", "kube-bind.io/v1alpha1")),
        ("/large.yaml".to_owned(), format!("{requests}#{}", "x".repeat(1024 * 1024))),
        ("/invalid.yaml".to_owned(), "kind: [unclosed\nmore: {".to_owned()),
        ("/page.yaml".to_owned(), "<!doctype html><p>please log in".to_owned()),
        ("/empty.yaml".to_owned(), "# nothing\n".to_owned()),
        ("/away.yaml".to_owned(), format!("->{server}/exports")),
    ]);
    let https = Https::start(bodies).await;
    let ca = file(world.folder(), "ca.pem", &https.ca_pem);
    let get = async |path: &str| {
        let url = format!("{}/{path}", https.url);
        person.bind(&["apiservice", &url, "--remote-kubeconfig", &remote, "--server-ca-file", &ca], "").await
    };
    for (path, words) in [
        ("missing.yaml", &["missing.yaml", "404"][..]),
        (
            "kind.yaml",
            &["kind.yaml", "ConfigMap of v1", "APIServiceExportRequest of kube-bind.io/v1alpha2 is expected"],
        ),
        ("version.yaml", &["version.yaml", "kube-bind.io/v1alpha1", "is expected"]),
        ("large.yaml", &["large.yaml", "larger than 1 MiB"]),
        ("invalid.yaml", &["invalid.yaml", "not valid YAML", "line"]),
        ("page.yaml", &["page.yaml", "is expected"]),
        ("empty.yaml", &["empty.yaml", "is empty"]),
        ("away.yaml", &["away.yaml", "https"]),
        ("pending.yaml", &["1. Create secrets referenced in", "--accept-claims"]),
    ] {
        let ended = get(path).await.refused(words);
        assert_eq!(ended.stderr.matches("error:").count(), 1, "one message: {}", ended.stderr);
        assert_eq!(ended.stdout, "");
    }
    // http instead of https; a server that nobody vouches for; one that does not speak TLS; nobody at all.
    let plain = format!("{}/good.yaml", https.url.replace("https://", "http://"));
    let _ = person
        .bind(&["apiservice", &plain, "--remote-kubeconfig", &remote], "")
        .await
        .refused(&["must come over https"]);
    let good = format!("{}/good.yaml", https.url);
    let stranger = person.bind(&["apiservice", &good, "--remote-kubeconfig", &remote], "").await;
    let _ = stranger.refused(&[&https.url, "cannot be trusted", "--server-ca-file"]);
    let no_tls = format!("{}/x.yaml", server.replace("http://", "https://"));
    let _ = person
        .bind(&["apiservice", &no_tls, "--remote-kubeconfig", &remote], "")
        .await
        .refused(&["does not speak TLS"]);
    let _ = person
        .bind(&["apiservice", "https://127.0.0.1:1/x.yaml", "--remote-kubeconfig", &remote], "")
        .await
        .refused(&["cannot be reached"]);
    assert!(consumer.site.list(&bindings()).await.is_empty());

    let ended = get("good.yaml").await.ok();
    assert!(ended.stdout.contains("Added APIs: "), "{}", ended.stdout);
    world.phase(&service.plural, "Connected").await;
    let binding = consumer.site.get(&bindings(), "", &service.plural).await.unwrap();
    assert_eq!(binding["spec"]["reference"]["export"]["url"], good);
    world.make("default", "one", "one-token").await;
    world.end().await;
}
