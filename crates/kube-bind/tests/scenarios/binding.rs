//! What a bind makes: the API is served with columns and schema, phases tell the truth, twice is once, two consumers and
//! two providers do not see each other.

use serde_json::json;
use std::time::Duration;
use testkit::fault::{Fault, all, on};
use testkit::service::Service;
use testkit::site::{bindings, core, crds, ours};
use testkit::world::World;
use testkit::{eventually, stays};

#[tokio::test]
async fn a_bound_api_works_like_any_other() {
    let world = World::bound(super::PROGRAM, Service::new(1)).await;
    let service = world.service();
    let person = &world.consumers[0].person;
    // Served at once: the command returns only then.
    let object = world.make("default", "one", "one-token").await;
    assert_eq!(
        object["status"]["observedGeneration"], object["metadata"]["generation"],
        "translated to this side's generation"
    );
    let copy = world.copy(0, "one").await.unwrap();
    assert_eq!(copy["spec"], object["spec"]);
    assert_ne!(copy["metadata"]["namespace"], "default", "not the provider's own namespace");
    // Invalid input is refused here, by this side's API server.
    let mut wrong = service.object("default", "two", "two-token");
    wrong["spec"][&service.choice] = json!("nonsense");
    let refused = world.consumers[0].site.api.create(&service.resource(), Some("default"), &wrong).await.unwrap_err();
    assert_eq!(refused.code, 422, "{refused}");
    assert!(refused.message.contains("Unsupported value"), "{refused}");
    if let Some(table) = person.kubectl(&["get", &service.plural], "").await {
        let table = table.ok().stdout;
        assert!(table.starts_with("NAME   PHASE     AGE") || table.starts_with("NAME   PHASE"), "{table}");
        assert!(table.contains("Running"), "{table}");
        let table = person.kubectl(&["get", "apibindings"], "").await.unwrap().ok().stdout;
        let mut lines = table.lines();
        let header: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
        assert_eq!(header, ["NAME", "EXPORT", "PHASE", "AGE"], "{table}");
        let row: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
        assert_eq!(
            row[..3],
            [service.plural.as_str(), &format!("{}/kubernetes", world.providers[0].server), "Connected"],
            "{table}"
        );
        let wide = person.kubectl(&["get", "apibindings", "-o", "wide"], "").await.unwrap().ok().stdout;
        let mut lines = wide.lines();
        let at = lines.next().unwrap_or_default().find("RESOURCES").unwrap();
        let resources = lines.next().unwrap_or_default()[at..].split_whitespace().next();
        assert_eq!(resources, Some(service.crd_name().as_str()), "{wide}");
    }
    // The same bind again changes nothing.
    let before = world.consumers[0].site.get(&bindings(), "", &service.plural).await.unwrap();
    let _ = world.bind(0, 0).await.ok();
    let after = world.consumers[0].site.get(&bindings(), "", &service.plural).await.unwrap();
    assert_eq!((&before["spec"], &before["metadata"]["uid"]), (&after["spec"], &after["metadata"]["uid"]));
    assert_eq!(world.copy(0, "one").await.unwrap()["metadata"]["uid"], copy["metadata"]["uid"]);
    world.end().await;
}

#[tokio::test]
async fn the_phase_tells_the_truth_while_the_provider_is_away() {
    let mut world = World::bound(super::PROGRAM, Service::new(2)).await;
    let service = world.service();
    world.phase(&service.plural, "Connected").await;
    world.make("default", "before", "before-token").await;
    world.provider().site.stop().await;
    world.phase(&service.plural, "Disconnected").await;
    let gone = service.object("default", "before", "before-token");
    world.consumers[0].site.delete(&service.resource(), "default", "before").await;
    world.consumers[0]
        .site
        .apply(&service.resource(), &service.object("default", "meanwhile", "meanwhile-token"))
        .await;
    // The object stays until its copy is really gone.
    stays("the deleted object waits for its copy", Duration::from_secs(1), async || {
        world.consumers[0]
            .site
            .get(&service.resource(), "default", "before")
            .await
            .map(|_| ())
            .ok_or_else(|| gone.to_string())
    })
    .await;
    world.provider().site.restart().await;
    world.phase(&service.plural, "Connected").await;
    world.running("default", "meanwhile").await;
    eventually("what was deleted meanwhile is gone on both sides", async || {
        let here = world.consumers[0].site.get(&service.resource(), "default", "before").await;
        let there = world.copy(0, "before").await;
        if here.is_none() && there.is_none() { Ok(()) } else { Err(format!("{here:?} {there:?}")) }
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn two_providers_live_side_by_side_and_a_second_of_the_same_api_is_refused() {
    let mut world = World::bound(super::PROGRAM, Service::new(3)).await;
    let first = world.service();
    world.add_provider(Service::new(4)).await;
    let _ = world.bind(0, 1).await.ok();
    let second = world.providers[1].service.clone();
    world.phase(&first.plural, "Connected").await;
    world.phase(&second.plural, "Connected").await;
    // One dies: the other does not notice.
    world.providers[1].site.stop().await;
    world.phase(&second.plural, "Disconnected").await;
    world.make("default", "one", "one-token").await;
    world.phase(&first.plural, "Connected").await;
    world.providers[1].site.restart().await;
    world.phase(&second.plural, "Connected").await;

    world.add_provider(first.clone()).await;
    let before = world.consumers[0].site.get(&bindings(), "", &first.plural).await.unwrap();
    let refused = world.bind(0, 2).await.refused(&[&first.plural]);
    assert!(
        refused.stdout.contains(&world.providers[0].server) || refused.stdout.contains("Provider 1 Inc."),
        "it names the first: {}",
        refused.stdout
    );
    let after = world.consumers[0].site.get(&bindings(), "", &first.plural).await.unwrap();
    assert_eq!(before["spec"], after["spec"]);
    world.end().await;
}

#[tokio::test]
async fn two_consumers_do_not_meet() {
    let mut world = World::bound(super::PROGRAM, Service::new(5)).await;
    let service = world.service();
    world.add_consumer().await;
    let url = format!("{}/kubernetes", world.providers[0].server);
    let words = [url.as_str(), "--skip-browser", "--accept-claims"];
    let _ = world.consumers[1].person.bind_in_browser(&words, &world.logins[1], None).await.ok();
    for consumer in &world.consumers {
        consumer.site.apply(&service.resource(), &service.object("default", "same", "same-token")).await;
    }
    eventually("both have a copy of their own", async || {
        let copies = world.providers[0].site.names(&service.resource()).await;
        if copies.len() == 2 { Ok(()) } else { Err(format!("{copies:?}")) }
    })
    .await;
    for consumer in &world.consumers {
        eventually("the token arrived", async || {
            consumer.site.get(&core("secrets"), "default", "same-token").await.ok_or_else(|| "no Secret".to_owned())
        })
        .await;
    }
    let contracts = world.providers[0].site.list(&ours("clusterbindings", "ClusterBinding")).await;
    assert_eq!(contracts.len(), 2);
    world.end().await;
}

#[tokio::test]
async fn a_labelled_and_granted_crd_is_an_offering() {
    let world = World::new(super::PROGRAM, Service::new(6)).await;
    let other = Service::new(7).without_claims();
    let provider = &world.providers[0];
    let mut crd = other.crd();
    crd["metadata"]["labels"] = json!({});
    provider.site.apply(&crds(), &crd).await;
    let admin = testkit::program::Person {
        program: super::PROGRAM.into(),
        home: world.folder().to_owned(),
        kubeconfig: provider.site.kubeconfig.clone(),
    };
    let _ = admin.bind(&["provider", "offer", &other.crd_name()], "").await.ok();
    let url = format!("{}/exports/{}", provider.server, other.crd_name());
    let person = &world.consumers[0].person;
    let ended = eventually("the offering is in the catalogue and can be bound", async || {
        let ended = person.bind_in_browser(&[&url, "--skip-browser", "--accept-claims"], &world.logins[0], None).await;
        if ended.success { Ok(ended) } else { Err(ended.stdout) }
    })
    .await;
    assert!(ended.stdout.contains("Added APIs:"), "{}", ended.stdout);
    world.consumers[0]
        .site
        .apply(&other.resource(), &json!({"metadata": {"name": "free", "namespace": "default"}, "spec": {"size": 3}}))
        .await;
    eventually("it has a copy at the provider", async || {
        let copies = provider.site.list(&other.resource()).await;
        if copies.iter().any(|copy| copy["spec"]["size"] == 3) { Ok(()) } else { Err(format!("{copies:?}")) }
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn what_ran_before_a_refused_schema_goes_on_and_heeds_a_rejection() {
    let world = World::with_faults(super::PROGRAM, Service::new(8)).await;
    let _ = world.bind(0, 0).await.ok();
    let (service, here) = (world.service(), &world.consumers[0].site);
    world.make("default", "one", "one-token").await;
    // The provider publishes what this cluster's API server does not take.
    let refused = on("PATCH", &["/customresourcedefinitions/", &service.crd_name()]);
    world.consumers[0].faults.as_ref().unwrap().when(refused, Fault::invalid("rule cost exceeds the budget"));
    let there = &world.providers[0].site;
    let template = ours("apiserviceexporttemplates", "APIServiceExportTemplate");
    there.patch(&template, "", &service.plural, &json!({"spec": {"schemaUpdatePolicy": "Always"}})).await;
    let more = json!([{"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/more", "value": {"type": "string"}}]);
    let key = kube_client::store::ObjectKey::cluster(&service.crd_name());
    let (manager, part) = (kube_client::api::FieldManager("scenario"), kube_client::api::Subresource::Main);
    there.api.json_patch(&crds(), &key, part, &more, manager).await.unwrap();
    world.phase(&service.plural, "Failed").await;
    // All of it stands still while the credential is not known, and no longer.
    let provider = world.providers[0].faults.as_ref().unwrap();
    provider.when(all(), Fault::status(401));
    world.phase(&service.plural, "Disconnected").await;
    provider.well();
    world.phase(&service.plural, "Failed").await;
    world.make("default", "two", "two-token").await;
    for name in ["one-token", "two-token"] {
        eventually(&format!("{name} is here"), async || {
            here.get(&core("secrets"), "default", name).await.map(|_| ()).ok_or("no".to_owned())
        })
        .await;
    }
    // The consumer takes its word back.
    let binding = here.get(&bindings(), "", &service.plural).await.unwrap();
    let mut claims = binding["spec"]["permissionClaims"].clone();
    claims.as_array_mut().unwrap().iter_mut().for_each(|claim| claim["state"] = json!("Rejected"));
    here.patch(&bindings(), "", &service.plural, &json!({"spec": {"permissionClaims": claims}})).await;
    for name in ["one-token", "two-token"] {
        eventually(&format!("{name} is gone"), async || match here.get(&core("secrets"), "default", name).await {
            None => Ok(()),
            Some(copy) => Err(copy["metadata"].to_string()),
        })
        .await;
    }
    assert_eq!(world.consumers[0].binding_status(&service.plural).await["phase"], "Failed");
    world.end().await;
}
