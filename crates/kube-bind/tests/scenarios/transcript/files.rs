//! S3, S4 and S5: requests and credential as files, from standard input, from a Secret, and from an https URL.

use std::collections::HashMap;

use testkit::https::Https;
use testkit::program::file;
use testkit::site::core;
use testkit::world::World;

use super::{Transcript, databases};

#[tokio::test]
async fn requests_and_credential_are_files() {
    let world = World::new(crate::PROGRAM, databases()).await;
    let ada = &world.consumers[0].person;
    let server = world.providers[0].server.as_str();
    let mut t = Transcript::new("s3-s4-files", &world);
    t.mask = t.mask.form(r"\b(token|certificate-authority-data): [A-Za-z0-9._+/=-]{40,}", "$1: <secret>");
    let https = |config: &str| config.lines().any(|line| line.trim_start().starts_with("certificate-authority-data"));

    t.say("Before a login.");
    let _ = t.bind(ada, &["kubeconfig", server]).await.refused(&[]);
    let _ = ada.log_in(server, &world.logins[0]).await.ok();

    t.say("A dry run prints what would be asked for, and nothing else.");
    let words = [server, "--template", "mangodbs", "--dry-run", "-o", "yaml"];
    let requests = t.bind(ada, &words).await.ok().stdout;

    t.say("The credential of the contract.");
    let remote = t.bind(ada, &["kubeconfig", server]).await.ok().stdout;
    assert!(https(&remote), "the provider's API server speaks TLS");
    let remote = file(world.folder(), "provider.kubeconfig", &remote);
    let pending = file(world.folder(), "requests.yaml", &requests);
    let reviewed = file(world.folder(), "reviewed.yaml", &requests.replace("state: Pending", "state: Accepted"));

    t.say("Not reviewed yet; then reviewed; then once more; then with the flag.");
    let apiservice = |manifest| ["apiservice", "-f", manifest, "--remote-kubeconfig", &remote];
    let _ = t.bind(ada, &apiservice(&pending)).await.refused(&[]);
    for _ in 0..2 {
        let _ = t.bind(ada, &apiservice(&reviewed)).await.ok();
    }
    let _ = t.bind(ada, &[&apiservice(&pending)[..], &["--accept-claims"]].concat()).await.ok();
    let _ = t.bind(ada, &["status"]).await.ok();

    t.say("The credential from a Secret.");
    let by_secret =
        ["apiservice", "-f", &reviewed, "--remote-kubeconfig-namespace", "kube-bind", "--remote-kubeconfig-name"];
    let _ = t.bind(ada, &[&by_secret[..], &["no-such"]].concat()).await.refused(&[]);
    let _ = t.bind(ada, &[&by_secret[..], &["mangodbs"]].concat()).await.ok();

    t.say("No credential at all, and nothing to bind.");
    let _ = t.bind(ada, &["apiservice", "-f", &reviewed]).await.refused(&[]);
    let _ = t.bind(ada, &["apiservice"]).await.refused(&[]);
    assert!(world.consumers[0].site.get(&core("secrets"), "kube-bind", "mangodbs").await.is_some());
    t.check();
    world.end().await;
}

#[tokio::test]
async fn a_manifest_comes_from_a_url() {
    let world = World::new(crate::PROGRAM, databases()).await;
    let ada = &world.consumers[0].person;
    let server = world.providers[0].server.as_str();
    let _ = ada.log_in(server, &world.logins[0]).await.ok();
    let requests = ada.bind(&[server, "--template", "mangodbs", "--dry-run"], "").await.ok().stdout;
    let remote = file(world.folder(), "provider.kubeconfig", &ada.bind(&["kubeconfig", server], "").await.ok().stdout);
    let bodies = HashMap::from([
        ("/good.yaml".to_owned(), requests.replace("state: Pending", "state: Accepted")),
        ("/pending.yaml".to_owned(), requests.clone()),
        ("/kind.yaml".to_owned(), "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n".to_owned()),
        ("/large.yaml".to_owned(), format!("{requests}#{}", "x".repeat(1024 * 1024))),
        ("/invalid.yaml".to_owned(), "kind: [unclosed\nmore: {".to_owned()),
        ("/empty.yaml".to_owned(), "# nothing\n".to_owned()),
    ]);
    let https = Https::start(bodies).await;
    let ca = file(world.folder(), "ca.pem", &https.ca_pem);
    let mut t = Transcript::new("s5-from-a-url", &world);
    t.mask = t
        .mask
        .name(&https.url, "https://files.example")
        .name(&https.url.replace("https://", "http://"), "http://files.example");
    let more = ["--remote-kubeconfig", remote.as_str(), "--server-ca-file", ca.as_str()];
    for path in ["missing.yaml", "kind.yaml", "large.yaml", "invalid.yaml", "empty.yaml", "pending.yaml"] {
        let url = format!("{}/{path}", https.url);
        let _ = t.bind(ada, &[&["apiservice", &url], &more[..]].concat()).await.refused(&[]);
    }
    let good = format!("{}/good.yaml", https.url);
    let plain = good.replace("https://", "http://");
    let _ = t.bind(ada, &[&["apiservice", &plain], &more[..]].concat()).await.refused(&[]);
    let _ = t.bind(ada, &["apiservice", &good, "--remote-kubeconfig", &remote]).await.refused(&[]);
    let _ = t.bind(ada, &[&["apiservice", &good], &more[..]].concat()).await.ok();
    let _ = t.bind(ada, &["status"]).await.ok();
    t.check();
    world.end().await;
}
