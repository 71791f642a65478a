//! The provider's day (S14 without schema versions): who has bound what, offering a kind and taking it back, cutting one
//! consumer off.

use kube_bind::browser::Browser;
use serde_json::{Value, json};
use testkit::eventually;
use testkit::program::Person;
use testkit::service::Service;
use testkit::site::{bindings, core, crds, ours};
use testkit::typed::{Typed, log_in};
use testkit::world::World;

fn admin(world: &World) -> Person {
    Person { kubeconfig: world.providers[0].site.kubeconfig.clone(), ..world.consumers[0].person.clone() }
}

fn rows(table: &str) -> Vec<Vec<&str>> {
    table.lines().map(|line| line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect()).collect()
}

/// Binds the second consumer, with the second login.
async fn bind_second(world: &World) {
    let url = format!("{}/kubernetes", world.providers[0].server);
    let words = [url.as_str(), "--skip-browser", "--accept-claims"];
    let _ = world.consumers[1].person.bind_in_browser(&words, &world.logins[1], None).await.ok();
}

#[tokio::test]
async fn the_provider_sees_who_has_bound_what_and_revokes_exactly_one() {
    let mut world = World::new(super::PROGRAM, Service::new(141)).await;
    let service = world.service();
    let name = service.plural.clone();
    let provider = admin(&world);
    for command in ["exports", "consumers"] {
        let ended = provider.bind(&["provider", command], "").await.ok();
        assert!(ended.stdout.is_empty() && ended.stderr.contains("No consumers yet."), "{ended:?}");
    }
    let _ = world.bind(0, 0).await.ok();
    world.add_consumer().await;
    bind_second(&world).await;
    for consumer in &world.consumers {
        consumer
            .site
            .apply(&service.resource(), &service.object("default", &format!("of-{}", consumer.site.cluster), "token"))
            .await;
    }
    eventually("both have a copy", async || {
        let copies = world.providers[0].site.names(&service.resource()).await;
        if copies.len() == 2 { Ok(()) } else { Err(format!("{copies:?}")) }
    })
    .await;

    let table = provider.bind(&["provider", "exports"], "").await.ok().stdout;
    let exports = rows(&table);
    assert_eq!(exports[0], ["CONTRACT", "NAME", "RESOURCES", "CONSUMER", "CONNECTED", "AGE"], "{table}");
    assert_eq!(exports.len(), 3, "{table}");
    for row in &exports[1..] {
        assert_eq!((row[1], row[2]), (name.as_str(), service.crd_name().as_str()), "{table}");
    }
    let mut contracts = Vec::new();
    let table = eventually("both are heard of", async || {
        let table = provider.bind(&["provider", "consumers"], "").await.ok().stdout;
        if table.contains("<never>") || table.matches("True").count() < 2 { Err(table) } else { Ok(table) }
    })
    .await;
    let consumers = rows(&table);
    assert_eq!(
        consumers[0],
        ["CONTRACT", "CONSUMER", "CLUSTER", "EXPORTS", "LAST HEARTBEAT", "HEALTHY", "AGE"],
        "{table}"
    );
    for consumer in &world.consumers {
        let uid = consumer.site.get(&core("namespaces"), "", "kube-system").await.unwrap()["metadata"]["uid"]
            .as_str()
            .unwrap()
            .to_owned();
        let row = consumers.iter().find(|row| row[2] == uid).unwrap_or_else(|| panic!("{uid} is missing:\n{table}"));
        assert_eq!(row[3], name);
        contracts.push(row[0].to_owned());
    }

    // With kubectl alone.
    if let Some(ended) = provider.kubectl(&["get", "apiserviceexports", "-A", "-o", "wide"], "").await {
        let table = ended.ok().stdout;
        assert!(contracts.iter().all(|contract| table.contains(contract)), "{table}");
    }

    let _ = provider.bind(&["provider", "revoke", "nobody"], "").await.refused(&["no contract nobody", &contracts[0]]);
    let ended = provider.bind(&["provider", "revoke", &contracts[1]], "").await.ok();
    assert!(ended.stdout.contains(&contracts[1]) && ended.stdout.contains("objects stay"), "{}", ended.stdout);
    eventually("the second one knows", async || {
        let status = world.consumers[1].binding_status(&name).await;
        let told = status.to_string().contains("kubectl bind") && status["phase"] != "Connected";
        if told { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    let ended = world.consumers[1].person.bind(&["status"], "").await.ok();
    assert!(ended.stderr.contains(&name), "the reason is told: {ended:?}");
    assert_eq!(world.providers[0].site.names(&service.resource()).await.len(), 2, "its objects stay");
    // Nobody else notices.
    world.make("default", "after", "after-token").await;
    world.phase(&name, "Connected").await;
    // It does not come back by itself, and the credential reaches nothing any more.
    let accounts = world.providers[0].site.names(&core("serviceaccounts")).await;
    assert!(
        !accounts.iter().any(|account| account.starts_with(&format!("{}/kube-binder", contracts[1]))),
        "{accounts:?}"
    );

    // The other one goes with its objects.
    let ended = provider.bind(&["provider", "revoke", &contracts[0], "--delete-objects"], "").await.ok();
    assert!(ended.stdout.contains("2 of its objects are being deleted"), "{}", ended.stdout);
    eventually("only the second one's copy is left", async || {
        let copies = world.providers[0].site.names(&service.resource()).await;
        if copies.len() == 1 && copies[0].ends_with("/of-consumer2") { Ok(()) } else { Err(format!("{copies:?}")) }
    })
    .await;
    assert!(
        world.consumers[0].site.get(&service.resource(), "default", "after").await.is_some(),
        "the consumer's objects are the consumer's"
    );
    world.end().await;
}

#[tokio::test]
async fn an_offer_is_made_and_taken_back_with_a_label_and_a_grant() {
    let world = World::new(super::PROGRAM, Service::new(142)).await;
    let other = Service::new(143).without_claims();
    let provider = &world.providers[0];
    let hands = admin(&world);
    let person = &world.consumers[0].person;
    let _ = hands
        .bind(&["provider", "offer", "no-such.example.com"], "")
        .await
        .refused(&["no-such.example.com", "kubectl get crds"]);

    // Labelled, but not granted: in the catalogue, with the command that mends it, and not to be bound.
    provider.site.apply(&crds(), &other.crd()).await;
    let command = format!("kubectl bind provider offer {}", other.crd_name());
    let _ = person.log_in(&provider.server, &world.logins[0]).await.ok();
    let list: Value = serde_json::from_str(&person.bind(&["templates", "-o", "json"], "").await.ok().stdout).unwrap();
    let entry = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|item| item["metadata"]["name"] == other.crd_name().as_str())
        .unwrap();
    let condition = &entry["status"]["conditions"][0];
    assert_eq!((&condition["type"], &condition["status"]), (&json!("Available"), &json!("False")));
    assert!(condition["message"].as_str().unwrap().contains(&command), "{condition}");
    let table = person.bind(&["templates"], "").await.ok();
    assert!(table.stdout.contains(&other.crd_name()), "{table:?}");
    assert!(table.stderr.contains("not available yet") && table.stderr.contains(&command), "{table:?}");
    let template = ["--template", &other.crd_name(), "--accept-claims"];
    let words = [&[provider.server.as_str()][..], &template].concat();
    let _ = person.bind(&words, "").await.refused(&["not available yet", &command]);
    let url = format!("{}/exports", provider.server);
    let typed = Typed::start(person, &[&url, "--skip-browser"]).await;
    let mut browser = Browser::new().unwrap();
    let chooser = log_in(&mut browser, &typed.url, &world.logins[0]).await;
    assert!(chooser.text().contains("Not available yet") && chooser.text().contains(&command), "{}", chooser.text());
    assert!(chooser.link(&format!("Choose {}", other.crd_name())).is_none());
    typed.interrupt().await;
    let _ = typed.end().await.refused(&[]);

    // The command makes both; twice is once.
    let ended = hands.bind(&["provider", "offer", &other.crd_name()], "").await.ok();
    assert!(ended.stdout.contains("is offered now"), "{}", ended.stdout);
    let ended = hands.bind(&["provider", "offer", &other.crd_name()], "").await.ok();
    assert!(ended.stdout.contains("was offered already"), "{}", ended.stdout);
    let ended = person.bind(&words, "").await.ok();
    assert!(ended.stdout.contains("Added APIs: "), "{}", ended.stdout);
    let binding = other.crd_name();
    world.phase(&binding, "Connected").await;

    // The label goes: no longer in the catalogue, and whoever has bound it does not notice.
    provider
        .site
        .patch(&crds(), "", &other.crd_name(), &json!({"metadata": {"labels": {"kube-bind.io/exported": null}}}))
        .await;
    eventually("it is out of the catalogue", async || {
        let names = person.bind(&["templates", "-o", "name"], "").await.ok().stdout;
        if names.contains(&other.crd_name()) { Err(names) } else { Ok(()) }
    })
    .await;
    let object =
        |name: &str, size: u32| json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"size": size}});
    world.consumers[0].site.apply(&other.resource(), &object("free", 7)).await;
    eventually("the binding still works", async || {
        let copies = provider.site.list(&other.resource()).await;
        if copies.iter().any(|copy| copy["spec"]["size"] == 7) { Ok(()) } else { Err(format!("{copies:?}")) }
    })
    .await;
    world.phase(&binding, "Connected").await;
    assert!(world.consumers[0].site.get(&bindings(), "", &binding).await.is_some());
    assert_eq!(provider.site.list(&ours("apiserviceexports", "APIServiceExport")).await.len(), 1);
    world.end().await;
}

#[tokio::test]
async fn a_contract_that_is_closed_opens_again_without_the_annotation() {
    let world = World::bound(super::PROGRAM, Service::new(144)).await;
    let service = world.service();
    world.make("default", "one", "one-token").await;
    let site = &world.providers[0].site;
    let kind = ours("clusterbindings", "ClusterBinding");
    let contract = site.list(&kind).await[0]["metadata"]["namespace"].as_str().unwrap().to_owned();
    let uid = world.copy(0, "one").await.unwrap()["metadata"]["uid"].clone();
    let exports = ours("apiserviceexports", "APIServiceExport");
    eventually("the export is established at the consumer", async || {
        let export = site.get(&exports, &contract, &service.plural).await.unwrap_or_default();
        let conditions = export["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let said = conditions.iter().any(|c| c["type"] == "Established" && c["status"] == "True");
        if said { Ok(()) } else { Err(export["status"].to_string()) }
    })
    .await;

    let word = |word: Value| json!({"metadata": {"annotations": {"backend.kube-bind.io/revoked": word}}});
    site.patch(&kind, &contract, "cluster", &word(json!("not paid"))).await;
    eventually("it is cut off", async || {
        let status = world.consumers[0].binding_status(&service.plural).await;
        if status["phase"] == "Disconnected" { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    let ended = world.bind(0, 0).await;
    let _ = ended.refused(&["not paid"]);
    // Taking the credential away as well does not open it.
    let hands = admin(&world);
    let ended = hands.bind(&["provider", "revoke", &contract], "").await.ok();
    for part in ["objects stay", "stays closed", "backend.kube-bind.io/revoked"] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
    let ended = world.bind(0, 0).await;
    let _ = ended.refused(&["not paid"]);
    // Without the annotation a login opens it again, with everything in it.
    site.patch(&kind, &contract, "cluster", &word(Value::Null)).await;
    let _ = world.bind(0, 0).await.ok();
    world.phase(&service.plural, "Connected").await;
    world.consumers[0].site.patch(&service.resource(), "default", "one", &json!({"spec": {"size": 8}})).await;
    eventually("the same copy follows", async || {
        let copy = world.copy(0, "one").await.unwrap_or_default();
        if copy["spec"]["size"] == 8 && copy["metadata"]["uid"] == uid { Ok(()) } else { Err(copy.to_string()) }
    })
    .await;

    // Closed without a word, and its objects are deleted: it is closed all the same.
    site.patch(&kind, &contract, "cluster", &word(json!(""))).await;
    let ended = world.bind(0, 0).await;
    let _ = ended.refused(&["the provider has revoked it, and only the provider can restore it"]);
    let ended = hands.bind(&["provider", "revoke", &contract, "--delete-objects"], "").await.ok();
    for part in ["1 of its objects are being deleted", "stays closed"] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
    let ended = world.bind(0, 0).await;
    let _ = ended.refused(&["the provider has revoked it, and only the provider can restore it"]);
    world.end().await;
}
