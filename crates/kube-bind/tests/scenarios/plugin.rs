//! The plugin's smaller commands, and everything that a person does to stop a bind before it has begun.

use std::time::Duration;

use kube_bind::browser::Browser;
use kube_bind::terminal::Terminal;
use serde_json::{Value, json};
use testkit::eventually;
use testkit::service::Service;
use testkit::site::{bindings, core, ours};
use testkit::typed::{Typed, log_in};
use testkit::world::World;

use super::consent::picture;

#[tokio::test]
async fn whoever_cancels_in_the_browser_or_by_ctrl_c_changes_nothing() {
    let world = World::new(super::PROGRAM, Service::new(111)).await;
    let (consumer, provider) = (&world.consumers[0], &world.providers[0]);
    let url = format!("{}/kubernetes", provider.server);
    let words = [url.as_str(), "--skip-browser", "--accept-claims"];
    let before = (picture(&consumer.site).await, picture(&provider.site).await);

    // Ctrl-C while the browser is away: ends, and waits for it no longer.
    let typed = Typed::start(&consumer.person, &words).await;
    typed.interrupt().await;
    let ended = tokio::time::timeout(testkit::PATIENCE, typed.end()).await.unwrap().refused(&[]);
    assert_eq!(ended.stdout, "");

    // Consent refused at the login; Back on the bind page; too slow.
    let typed = Typed::start(&consumer.person, &words).await;
    let mut browser = Browser::new().unwrap();
    let page = browser.open(&typed.url).await.unwrap();
    let fill = [
        ("username", world.logins[0].username.as_str()),
        ("password", &format!("{}-password", world.logins[0].username)),
    ];
    let page = browser.press(&page, "Log in", &fill).await.unwrap();
    browser.press(&page, "Cancel", &[]).await.unwrap();
    let _ =
        typed.end().await.refused(&["login at the provider", "refused", "Nothing was changed in the consumer cluster"]);

    let typed = Typed::start(&consumer.person, &words).await;
    let page = log_in(&mut browser, &typed.url, &world.logins[0]).await;
    browser.follow(&page, &page.link("Back").unwrap()).await.unwrap();
    let _ = typed.end().await.refused(&["cancelled in the browser", "Nothing was changed in the consumer cluster"]);

    let slow = [&words[..], &["--timeout", "1"]].concat();
    let _ = consumer.person.bind(&slow, "").await.refused(&["no answer from the browser after 1 s"]);

    assert_eq!(picture(&provider.site).await, before.1, "nothing at the provider either");
    assert_eq!(picture(&consumer.site).await, before.0);

    // A script without the flag: the claims are listed, and nothing is bound.
    let typed = Typed::start(&consumer.person, &words[..2]).await;
    kube_bind::browser::log_in_and_bind(&mut browser, &typed.url, &world.logins[0], |_| {}).await.unwrap();
    let ended =
        typed.end().await.refused(&["1. Create secrets referenced in", "2. Create service named", "--accept-claims"]);
    assert_eq!(ended.stdout, "", "talk is not data");
    assert_eq!(picture(&consumer.site).await, before.0);
    world.end().await;
}

#[tokio::test]
async fn ctrl_c_at_the_question_and_in_the_middle_of_writing_leaves_nothing() {
    let mut world = World::new(super::PROGRAM, Service::new(112)).await;
    // Without an agent the bind waits for one, after its first writes.
    world.consumer().stop_agent().await;
    let consumer = &world.consumers[0];
    let leases = kube_client::resource::Resource::new("coordination.k8s.io", "v1", "leases", "Lease");
    consumer.site.delete(&leases, "kube-bind", "kube-bind").await;
    let before = picture(&consumer.site).await;
    let server = world.providers[0].server.as_str();
    let plural = world.service().plural;
    let _ = consumer.person.log_in(server, &world.logins[0]).await.ok();
    let words = [server, "--template", &plural, "--skip-konnector"];
    for answered in [false, true] {
        let mut terminal = Terminal::start(consumer.person.command(&words), |_| {}).unwrap();
        terminal.expect("Accept? [y,N] ", testkit::PATIENCE).await.unwrap();
        if answered {
            terminal.type_line("y").unwrap();
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
        let pid = terminal.pid().to_string();
        assert!(tokio::process::Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
        let (status, seen) = terminal.end(testkit::PATIENCE).await.unwrap();
        assert!(!status.success(), "{seen}");
        assert!(!seen.contains("Added APIs"), "{seen}");
        assert_eq!(seen.contains("interrupted"), answered, "{seen}");
        assert_eq!(picture(&consumer.site).await, before, "answered: {answered}");
    }
    world.end().await;
}

#[tokio::test]
async fn status_and_claims_tell_and_decide() {
    let world = World::bound(super::PROGRAM, Service::new(113)).await;
    let service = world.service();
    let name = service.plural.as_str();
    let (person, here) = (&world.consumers[0].person, &world.consumers[0].site);
    let first = format!("Create secrets referenced in {}.spec.{}", service.kind, service.secret_path.join("."));
    let second = format!("Create service named {}.metadata.name", service.kind);

    world.phase(name, "Connected").await;
    let status = person.bind(&["status"], "").await.ok();
    let rows: Vec<Vec<&str>> = status.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "EXPORT", "PHASE", "CLAIMS", "AGE"]);
    assert_eq!(
        rows[1][..4],
        [name, &format!("{}/kubernetes", world.providers[0].server), "Connected", "2/2"],
        "{}",
        status.stdout
    );
    assert!(status.stderr.contains("Agent: scenario, last heard of"), "{}", status.stderr);
    let _ = person.bind(&["status", "other"], "").await.refused(&["no binding other", name]);

    let list = person.bind(&["claims", "list", name], "").await.ok();
    assert_eq!(list.stdout, format!("1. {first} [Accepted]\n2. {second} [Accepted]\n"));
    let _ = person.bind(&["claims", "reject", name, "3"], "").await.refused(&["no claim number 3", "2"]);
    let _ = person.bind(&["claims", "reject", name, "0"], "").await.refused(&["no claim number 0"]);

    world.make("default", "one", "one-token").await;
    let secret = async |there: bool| {
        eventually(&format!("the token is here: {there}"), async || {
            let seen = here.get(&core("secrets"), "default", "one-token").await;
            if seen.is_some() == there {
                Ok(())
            } else {
                Err(format!("{:?}", seen.map(|secret| secret["metadata"].clone())))
            }
        })
        .await;
    };
    secret(true).await;
    let ended = person.bind(&["claims", "reject", name, "1"], "").await.ok();
    assert!(ended.stderr.contains(&format!("1. {first} [Rejected]\n2. {second} [Accepted]")), "{}", ended.stderr);
    secret(false).await;
    assert!(here.get(&core("services"), "default", "one").await.is_some(), "the other claim still holds");
    assert!(person.bind(&["status", name], "").await.ok().stdout.contains("1/2"));
    let _ = person.bind(&["claims", "accept", name, "1"], "").await.ok();
    secret(true).await;
    let states: Vec<Value> = here.get(&bindings(), "", name).await.unwrap()["spec"]["permissionClaims"]
        .as_array()
        .unwrap()
        .iter()
        .map(|claim| claim["state"].clone())
        .collect();
    assert_eq!(states, [json!("Accepted"), json!("Accepted")]);

    // What waits for a decision is said, and with the command.
    here.patch(&bindings(), "", name, &json!({"spec": {"permissionClaims": []}})).await;
    eventually("the status says that claims wait", async || {
        let status = person.bind(&["status", name], "").await.ok();
        let told = status.stderr.contains("2 permission claims wait for a decision: kubectl bind claims list");
        if told && status.stdout.contains("0/2") { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    let _ = person.bind(&["claims", "accept", name], "").await.ok();
    eventually("all are accepted", async || {
        let list = person.bind(&["claims", "list", name], "").await.ok().stdout;
        if list.matches("[Accepted]").count() == 2 { Ok(()) } else { Err(list) }
    })
    .await;

    world.end().await;
}

#[tokio::test]
async fn unbinding_says_what_it_does() {
    let world = World::bound(super::PROGRAM, Service::new(114)).await;
    let service = world.service();
    let name = service.plural.as_str();
    let (person, here) = (&world.consumers[0].person, &world.consumers[0].site);
    world.make("default", "one", "one-token").await;
    let _ = person.bind(&["unbind", name, "--orphan", "--delete-objects"], "").await.refused(&["--orphan"]);
    let kept = person.bind(&["unbind", name], "").await.refused(&[
        &format!("1 {}", service.crd_name()),
        "--delete-objects",
        "--orphan",
    ]);
    assert_eq!(kept.stdout, "");
    let ended = person.bind(&["unbind", name, "--delete-objects"], "").await.ok();
    assert!(
        ended.stdout.starts_with(&format!("Unbound {name}. Deleted on both sides: 1 {}.", service.crd_name())),
        "{}",
        ended.stdout
    );
    assert!(ended.stdout.contains("its credential was removed"), "{}", ended.stdout);
    let status = person.bind(&["status"], "").await.ok();
    assert!(status.stdout.is_empty() && status.stderr.contains("No bindings."), "{status:?}");
    let _ = person.bind(&["unbind", name], "").await.refused(&[name]);

    // Without objects nothing has to be chosen; what is left behind is said.
    let _ = world.bind(0, 0).await.ok();
    let ended = person.bind(&["unbind", name], "").await.ok();
    assert!(ended.stdout.starts_with(&format!("Unbound {name}. It was the last")), "{}", ended.stdout);
    let _ = world.bind(0, 0).await.ok();
    world.make("default", "two", "two-token").await;
    let ended = person.bind(&["unbind", name, "--orphan"], "").await.ok();
    let words = format!("Left behind on both sides, no longer synced: 1 {}.", service.crd_name());
    assert!(ended.stdout.contains(&words), "{}", ended.stdout);
    assert!(world.copy(0, "two").await.is_some());
    assert!(here.list(&ours("apiservicebindings", "APIServiceBinding")).await.is_empty());

    // What was left behind is taken up again under its name only.
    let server = world.providers[0].server.as_str();
    let _ = person.log_in(server, &world.logins[0]).await.ok();
    let again = [server, "--template", name, "--accept-claims", "--name", "other"];
    let (crd, mend) = (service.crd_name(), format!("--name {name}"));
    let _ = person.bind(&again, "").await.refused(&[&crd, "left behind by the binding", &mend]);
    let _ = person.bind(&again[..4], "").await.ok();
    world.running("default", "two").await;
    world.end().await;
}
