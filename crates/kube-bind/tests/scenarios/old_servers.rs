//! Consumers whose API server is too old for something that we use. What it answers is as recorded from Kubernetes 1.20.15,
//! on which these stories were played by hand; here a proxy says it. What can work works, and nothing is dropped silently.

use serde_json::json;
use testkit::eventually;
use testkit::fault::{Fault, first_try, on};
use testkit::service::Service;
use testkit::site::{core, crds};
use testkit::world::World;

fn answer(message: &str) -> Fault {
    Fault::Answer { code: 500, reason: String::new(), message: message.to_owned(), retry_after: None }
}

/// It names one field after the other that it does not know in a CRD.
#[tokio::test]
async fn fields_of_a_crd_that_it_does_not_know_are_left_out() {
    let world = World::with_faults(super::PROGRAM, Service::new(214)).await;
    let service = world.service();
    let proxy = world.consumers[0].faults.as_ref().unwrap();
    let version = ".spec.versions[0]";
    let size = format!("{version}.schema.openAPIV3Schema.properties.spec.properties.size.minimum");
    let matches = || on("PATCH", &["/customresourcedefinitions/", &service.crd_name()]);
    let refusal = format!("failed to create typed patch object: errors:\n  {size}: field not declared in schema");
    let first = proxy.times(1, matches(), answer(&refusal));
    let refusal = format!(
        "failed to create typed patch object: {version}.additionalPrinterColumns: field not declared in schema"
    );
    let second = proxy.times(1, matches(), answer(&refusal));
    let _ = world.bind(0, 0).await.ok();
    assert_eq!((proxy.struck(first), proxy.struck(second)), (1, 1));
    let crd = world.consumers[0].site.get(&crds(), "", &service.crd_name()).await.unwrap();
    let made = &crd["spec"]["versions"][0];
    assert_eq!(
        made["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["size"]["type"], "integer",
        "{crd}"
    );
    assert!(crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/size/minimum").is_none());
    assert!(!made["additionalPrinterColumns"].to_string().contains("Phase"), "{crd}");
    world.make("default", "one", "one-token").await;
    // It is not put back and refused for ever.
    let patches = proxy.seen().iter().filter(|seen| matches()(seen)).count();
    assert_eq!(patches, 3, "two refusals and the one that was taken");
    world.end().await;
}

/// It takes the precondition "nothing is there" of an apply for a mistake, on Services.
#[tokio::test]
async fn services_come_where_an_apply_cannot_say_that_nothing_is_there() {
    let world = World::with_faults(super::PROGRAM, Service::new(215)).await;
    let proxy = world.consumers[0].faults.as_ref().unwrap();
    proxy.when(
        first_try("PATCH", &["/services/"]),
        answer("resourceVersion should not be set on objects to be created"),
    );
    let _ = world.bind(0, 0).await.ok();
    world.make("default", "one", "one-token").await;
    let service = eventually("the Service is here, and ours as if applied", async || {
        let found = world.consumers[0].site.get(&core("services"), "default", "one").await.unwrap_or_default();
        let entries = found["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        let applied = entries.iter().any(|e| e["manager"] == "kube-bind.io" && e["operation"] == "Apply");
        if applied { Ok(found) } else { Err(found.to_string()) }
    })
    .await;
    assert_ne!(service["spec"]["ports"], json!(null), "{service}");
    let posts = proxy.seen().iter().filter(|seen| seen.method == "POST" && seen.path.contains("/services")).count();
    assert_eq!(posts, 1);
    world.end().await;
}
