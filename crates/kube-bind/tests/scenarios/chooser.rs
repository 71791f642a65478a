//! Several offerings (S2): a login shows what there is, the page lets one be picked, and so does the terminal.

use kube_bind::browser::Browser;
use kube_bind::terminal::Terminal;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use testkit::program::Person;
use testkit::service::Service;
use testkit::site::{bindings, core, crds, ours};
use testkit::typed::{Typed, log_in};
use testkit::world::World;

/// A world whose provider offers `second` too, and a collection of both.
async fn two_offerings(first: Service, second: &Service) -> World {
    let world = World::new(super::PROGRAM, first).await;
    let provider = &world.providers[0];
    provider.site.apply(&crds(), &second.crd()).await;
    let admin = Person { kubeconfig: provider.site.kubeconfig.clone(), ..world.consumers[0].person.clone() };
    let _ = admin.bind(&["provider", "offer", &second.crd_name()], "").await.ok();
    provider.site.apply(&ours("apiserviceexporttemplates", "APIServiceExportTemplate"), &second.template()).await;
    let collection = json!({
        "metadata": {"name": "everything"},
        "spec": {"description": "all that there is", "templates": [{"name": world.service().plural}, {"name": second.plural}]},
    });
    provider.site.apply(&ours("collections", "Collection"), &collection).await;
    world
}

#[tokio::test]
async fn a_login_shows_what_there_is() {
    let second = Service::new(102);
    let world = two_offerings(Service::new(101), &second).await;
    let first = world.service();
    let server = world.providers[0].server.as_str();
    let person = &world.consumers[0].person;

    // Nobody comes back in time; consent is refused; the password is wrong at first.
    let ended = person.bind(&["login", server, "--skip-browser", "--timeout", "1"], "").await;
    let _ = ended.refused(&["no answer from the browser after 1 s", "try again"]);
    let typed = Typed::start(person, &["login", server, "--skip-browser"]).await;
    let mut browser = Browser::new().unwrap();
    let page = browser.open(&typed.url).await.unwrap();
    let user = ("username", world.logins[0].username.as_str());
    let wrong = browser.press(&page, "Log in", &[user, ("password", "guessed")]).await.unwrap();
    assert_eq!(wrong.status, 401, "{}", wrong.text());
    assert!(!typed.is_over(), "a wrong password is not the end");
    let right = [user, ("password", world.logins[0].password.expose_secret())];
    let consent = browser.press(&wrong, "Log in", &right).await.unwrap();
    assert!(consent.text().contains(&world.logins[0].email), "{}", consent.text());
    browser.press(&consent, "Cancel", &[]).await.unwrap();
    let _ = typed.end().await.refused(&["login", "refused", "access_denied"]);
    let _ = person.bind(&["templates", "--server", server], "").await.refused(&["no login", "kubectl bind login"]);
    let _ = person.bind(&["templates"], "").await.refused(&["no login", "kubectl bind login"]);

    let ended = person.log_in(server, &world.logins[0]).await.ok();
    assert!(ended.stderr.contains("Logged in at Provider 1 Inc."), "{}", ended.stderr);
    assert_eq!(ended.stdout, "", "the token is for nobody's eyes");

    // What there is, by the last login and by URL, as a table and for scripts.
    for words in [&["templates"][..], &["templates", server], &["templates", "--server", server]] {
        let table = person.bind(words, "").await.ok().stdout;
        let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        assert_eq!(lines.next().unwrap(), ["NAME", "RESOURCES", "PERMISSIONCLAIMS", "AGE"], "{table}");
        let rows: Vec<_> = lines.collect();
        assert_eq!(rows.len(), 2, "{table}");
        for service in [&first, &second] {
            let row = rows.iter().find(|row| row[0] == service.plural).unwrap();
            assert_eq!(row[1..3], [service.group.as_str(), "secrets,services"], "{table}");
        }
    }
    let list: Value = serde_json::from_str(&person.bind(&["templates", "-o", "json"], "").await.ok().stdout).unwrap();
    assert_eq!((&list["kind"], list["items"].as_array().unwrap().len()), (&json!("APIServiceExportTemplateList"), 2));
    let table = person.bind(&["collections"], "").await.ok().stdout;
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[0], "everything", "{table}");
    assert!(table.contains(&format!("{},{}", first.plural, second.plural)), "{table}");

    // An offering that is not there.
    for words in [&[server, "--template", "no-such"][..], &["apiservice", "--template-name", "no-such"]] {
        let ended = person.bind(words, "").await.refused(&["no-such", "not found", "kubectl bind templates"]);
        assert_eq!(ended.stdout, "");
    }
    assert!(world.consumers[0].site.list(&bindings()).await.is_empty());
    let contracts = world.providers[0].site.list(&ours("clusterbindings", "ClusterBinding")).await;
    assert!(contracts.is_empty(), "a login alone makes no contract: {contracts:?}");
    world.end().await;
}

#[tokio::test]
async fn one_is_picked_on_the_page_or_in_the_terminal() {
    let second = Service::new(104);
    let world = two_offerings(Service::new(103), &second).await;
    let first = world.service();
    let consumer = &world.consumers[0];
    let url = format!("{}/exports", world.providers[0].server);

    // On the page.
    let typed = Typed::start(&consumer.person, &[&url, "--skip-browser", "--accept-claims"]).await;
    let mut browser = Browser::new().unwrap();
    let chooser = log_in(&mut browser, &typed.url, &world.logins[0]).await;
    for service in [&first, &second] {
        assert!(chooser.link(&format!("Choose {}", service.plural)).is_some(), "{}", chooser.html);
    }
    // Back from an offering leads to the chooser, the collection shows the same two.
    let link = chooser.link(&format!("Choose {}", first.plural)).unwrap();
    let page = browser.follow(&chooser, &link).await.unwrap();
    assert_eq!(page.title(), "Bind our Kubernetes API in no time");
    let back = browser.follow(&page, &page.link("Back").unwrap()).await.unwrap();
    assert_eq!(back.title(), chooser.title());
    let page = browser.follow(&back, &back.link(&format!("Choose {}", second.plural)).unwrap()).await.unwrap();
    assert!(page.text().contains(&format!("kind: {}", second.kind)), "the sample is shown: {}", page.text());
    let done = browser.press(&page, "Bind", &[]).await.unwrap();
    assert_eq!(done.url.path(), "/callback", "{}", done.text());
    let ended = typed.end().await.ok();
    assert!(
        ended.stdout.contains(&format!("Added APIs: {}.{}", second.plural.trim_end_matches('s'), second.group)),
        "{}",
        ended.stdout
    );
    assert!(ended.stdout.contains("Accepted permission claims."), "{}", ended.stdout);
    world.phase(&second.plural, "Connected").await;

    // In the terminal, with the login that there is.
    let _ = consumer.person.log_in(&url, &world.logins[0]).await.ok();
    let words = [url.as_str(), "--skip-browser"];
    let mut terminal = Terminal::start(consumer.person.command(&words), |_| {}).unwrap();
    let within = testkit::PATIENCE;
    let seen = terminal.expect("Which one? [1-2] ", within).await.unwrap();
    let line = seen.lines().find(|line| line.contains(&first.plural)).unwrap();
    terminal.type_line(line.split('.').next().unwrap()).unwrap();
    terminal.expect("Accept? [y,N] ", within).await.unwrap();
    terminal.type_line("y").unwrap();
    let (status, seen) = terminal.end(within).await.unwrap();
    assert!(status.success(), "{seen}");
    assert!(seen.contains("requests the following permission claims:\n1. Create secrets referenced in "), "{seen}");
    world.phase(&first.plural, "Connected").await;
    // Both are one contract: one credential here, one namespace there.
    let credentials = consumer
        .site
        .list(&core("secrets"))
        .await
        .into_iter()
        .filter(|secret| secret["data"]["kubeconfig"].is_string());
    assert_eq!(credentials.count(), 1);
    assert_eq!(world.providers[0].site.list(&ours("clusterbindings", "ClusterBinding")).await.len(), 1);

    // Named on the command line there is no question which; in a script the claims need the flag.
    let _ = consumer.person.bind(&["unbind", &first.plural], "").await.ok();
    let words = [url.as_str(), "--template", &first.plural];
    let _ = consumer.person.bind(&words, "").await.refused(&["1. Create secrets referenced in", "--accept-claims"]);
    assert!(consumer.site.get(&bindings(), "", &first.plural).await.is_none());
    let ended = consumer.person.bind(&[&words[..], &["--accept-claims", "--name", "mine"]].concat(), "").await.ok();
    assert!(ended.stdout.starts_with("Added APIs: "), "{}", ended.stdout);
    world.phase("mine", "Connected").await;
    world.make("default", "one", "one-token").await;
    world.end().await;
}
