//! The question before a bind, and everything that answers it with no: the consumer stays as it was, to the byte.

use kube_client::resource::Resource;
use serde_json::Value;
use testkit::eventually;
use testkit::program::file;
use testkit::service::Service;
use testkit::site::{Site, bindings, core, crds, ours};
use testkit::world::World;

/// Everything at a site that binding could touch, as text.
pub(super) async fn picture(site: &Site) -> String {
    let rbac = |plural: &str, kind: &str| Resource::new("rbac.authorization.k8s.io", "v1", plural, kind);
    let kinds = [
        core("namespaces"),
        core("secrets"),
        core("configmaps"),
        core("serviceaccounts"),
        crds(),
        rbac("clusterroles", "ClusterRole"),
        rbac("clusterrolebindings", "ClusterRoleBinding"),
        rbac("roles", "Role"),
        rbac("rolebindings", "RoleBinding"),
    ];
    let mut text = String::new();
    for kind in kinds {
        for object in site.list(&kind).await {
            text.push_str(&format!("{} {object}\n", kind.plural));
        }
    }
    text
}

#[tokio::test]
async fn whoever_does_not_say_yes_changes_nothing() {
    let world = World::new(super::PROGRAM, Service::new(11)).await;
    let consumer = &world.consumers[0];
    let before = picture(&consumer.site).await;
    let url = format!("{}/kubernetes", world.providers[0].server);
    let words = [url.as_str(), "--skip-browser"];
    for answer in ["n", "", "nonsense"] {
        let ended = consumer.person.bind_in_browser(&words, &world.logins[0], Some(answer)).await;
        let ended = ended.refused(&[]);
        assert!(ended.stdout.contains("requests the following permission claims:"), "{}", ended.stdout);
        assert_eq!(picture(&consumer.site).await, before, "after the answer {answer:?}");
    }
    assert!(consumer.site.list(&bindings()).await.is_empty());
    world.end().await;
}

#[tokio::test]
async fn a_dry_run_prints_yaml_and_changes_nothing_on_either_side() {
    let world = World::new(super::PROGRAM, Service::new(12)).await;
    let consumer = &world.consumers[0];
    let (here, there) = (picture(&consumer.site).await, picture(&world.providers[0].site).await);
    let url = format!("{}/exports", world.providers[0].server);
    // The terminal shows standard error too; the login is kept for the command without a terminal.
    let ended = consumer
        .person
        .bind_in_browser(&[&url, "--skip-browser", "--dry-run", "-o", "yaml"], &world.logins[0], None)
        .await
        .ok();
    assert!(ended.stdout.contains("kind: APIServiceExportRequest"), "{}", ended.stdout);
    assert!(ended.stdout.contains("state: Pending"), "{}", ended.stdout);
    assert_eq!(picture(&consumer.site).await, here);
    assert_eq!(picture(&world.providers[0].site).await, there, "not even a contract at the provider");
    world.end().await;
}

/// The documents of a reviewed file.
fn requests(text: &str) -> Vec<Value> {
    apimachinery::yaml::documents(text).unwrap()
}

#[tokio::test]
async fn a_reviewed_file_binds_without_browser_or_question() {
    let mut world = World::bound(super::PROGRAM, Service::new(13)).await;
    let service = world.service();
    // A second binding keeps the contract: it ends with its last one.
    let other = Service::new(130).without_claims();
    world.offer(0, other.clone()).await;
    let _ = world.bind_offering(0, 0, &other.plural).await.ok();
    let person = &world.consumers[0].person;
    // The credential is the one of the first bind; S4 begins with it in a file.
    let secret = world.consumers[0].site.credential().await;
    let remote = apimachinery_base64(secret["data"]["kubeconfig"].as_str().unwrap());
    let remote = file(world.folder(), "provider.kubeconfig", &remote);
    let _ = person.bind(&["unbind", &service.plural, "--orphan"], "").await.ok();

    let template = service.template();
    let mut request = serde_json::json!({
        "apiVersion": "kube-bind.io/v1alpha2", "kind": "APIServiceExportRequest", "metadata": {"name": service.plural},
        "spec": {"resources": template["spec"]["resources"], "permissionClaims": template["spec"]["permissionClaims"]},
    });
    let pending = file(world.folder(), "requests.yaml", &apimachinery::yaml::write(&request));
    assert_eq!(requests(&std::fs::read_to_string(&pending).unwrap()).len(), 1);
    let ended = person.bind(&["apiservice", "-f", &pending, "--remote-kubeconfig", &remote], "").await;
    let _ = ended.refused(&[&format!("{}.spec.{}", service.kind, service.secret_path.join("."))]);
    for claim in request["spec"]["permissionClaims"].as_array_mut().unwrap() {
        claim["state"] = serde_json::json!("Accepted");
    }
    let text = apimachinery::yaml::write(&request);
    let _ = person.bind(&["apiservice", "-f", "-", "--remote-kubeconfig", &remote], &text).await.ok();
    world.phase(&service.plural, "Connected").await;
    // Twice is once.
    let before = world.consumers[0].site.get(&bindings(), "", &service.plural).await.unwrap();
    // A credential says nothing about where the provider's pages are; the contract does.
    let exports = format!("{}/exports", world.providers[0].server);
    assert_eq!(before["spec"]["reference"]["export"]["url"], exports.as_str());
    let _ = person.bind(&["apiservice", "-f", "-", "--remote-kubeconfig", &remote], &text).await.ok();
    let after = world.consumers[0].site.get(&bindings(), "", &service.plural).await.unwrap();
    assert_eq!(before["spec"], after["spec"]);
    assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);

    // The last unbind takes the contract: then the credential is refused in words, whether its namespace is gone or going.
    let contract =
        world.providers[0].site.list(&ours("clusterbindings", "ClusterBinding")).await[0]["metadata"]["namespace"]
            .as_str()
            .unwrap()
            .to_owned();
    for name in [&service.plural, &other.plural] {
        let _ = person.bind(&["unbind", name, "--orphan"], "").await.ok();
    }
    eventually("the contract ends", async || {
        let namespace = world.providers[0].site.get(&core("namespaces"), "", &contract).await.unwrap_or_default();
        let lives = namespace.is_object() && namespace["metadata"]["deletionTimestamp"].is_null();
        if lives { Err(namespace.to_string()) } else { Ok(()) }
    })
    .await;
    let ended = person.bind(&["apiservice", "-f", "-", "--remote-kubeconfig", &remote], &text).await;
    let _ = ended.refused(&["provider"]);
    // Who logs in gets a new one, as soon as the old one is gone.
    let _ = world.bind_offering(0, 0, &service.plural).await.ok();
    world.phase(&service.plural, "Connected").await;
    world.end().await;
}

fn apimachinery_base64(text: &str) -> String {
    use base64::Engine as _;
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text).unwrap()).unwrap()
}
