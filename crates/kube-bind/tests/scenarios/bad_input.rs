//! Bad input: one clear message that names the object, the side and the mend; exit code not 0; nothing half-written.

use testkit::program::{Person, file};
use testkit::service::Service;
use testkit::site::{bindings, core, crds};
use testkit::world::World;

#[tokio::test]
async fn each_mistake_gets_one_clear_message_and_writes_nothing() {
    let world = World::new(super::PROGRAM, Service::new(71)).await;
    let service = world.service();
    let person = &world.consumers[0].person;
    let here = &world.consumers[0].site;
    let server = world.providers[0].server.clone();
    let before = (here.names(&core("secrets")).await, here.names(&crds()).await);

    // Not a URL, nobody there, not a kube-bind server, unknown page.
    let _ = person.bind(&["nonsense"], "").await.refused(&["nonsense"]);
    let _ = person.bind(&["http://127.0.0.1:1/exports", "--skip-browser"], "").await.refused(&["127.0.0.1:1"]);
    let _ = person.bind(&[&format!("{server}/no/such/page"), "--skip-browser"], "").await.refused(&["/no/such/page"]);
    let _ = person
        .bind(&[&format!("{server}/exports/no-such-offering"), "--skip-browser"], "")
        .await
        .refused(&["no-such-offering"]);
    // TLS where there is none.
    let _ = person.bind(&[&server.replace("http://", "https://"), "--skip-browser"], "").await.refused(&["TLS"]);

    // Kubeconfigs: missing, broken, of a cluster that is away.
    let nobody = Person { kubeconfig: world.folder().join("missing"), ..person.clone() };
    let _ = nobody.bind(&[&server, "--skip-browser"], "").await.refused(&["kubeconfig"]);
    let broken = Person { kubeconfig: file(world.folder(), "broken", "a: [").into(), ..person.clone() };
    let _ = broken.bind(&[&server, "--skip-browser"], "").await.refused(&["kubeconfig"]);
    let text = std::fs::read_to_string(&person.kubeconfig).unwrap();
    let port = text.split("127.0.0.1:").nth(1).unwrap().split('/').next().unwrap().to_owned();
    let away = Person { kubeconfig: file(world.folder(), "away", &text.replace(&port, "1")).into(), ..person.clone() };
    let _ = away.bind(&[&server, "--skip-browser"], "").await.refused(&["consumer"]);

    // Files: missing, malformed, of another kind, none given.
    let remote = file(world.folder(), "remote", &text);
    let apiservice = async |manifest: &str| {
        person.bind(&["apiservice", "-f", manifest, "--remote-kubeconfig", &remote, "--accept-claims"], "").await
    };
    let _ = apiservice("/no/such/file.yaml").await.refused(&["/no/such/file.yaml"]);
    let malformed = file(world.folder(), "malformed.yaml", "kind: [unclosed");
    let _ = apiservice(&malformed).await.refused(&["malformed.yaml"]);
    let other = file(world.folder(), "other.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n");
    let _ = apiservice(&other).await.refused(&["ConfigMap", "APIServiceExportRequest"]);
    let _ = person
        .bind(&["apiservice", "http://127.0.0.1:1/x.yaml", "--remote-kubeconfig", &remote], "")
        .await
        .refused(&["https"]);
    let _ = person.bind(&["unbind", "no-such-binding"], "").await.refused(&["no-such-binding"]);
    let _ = person.bind(&["claims", "accept", "no-such-binding"], "").await.refused(&["no-such-binding"]);
    let _ = person.bind(&["templates", "--server", &server], "").await.refused(&["login"]);

    assert_eq!((here.names(&core("secrets")).await, here.names(&crds()).await), before);
    assert!(here.list(&bindings()).await.is_empty());

    // A CRD of the same name that is not ours is refused before anything is written.
    here.apply(&crds(), &service.crd()).await;
    let ended = world.bind(0, 0).await.refused(&[&service.crd_name()]);
    assert!(!ended.stdout.contains("Added APIs"), "{}", ended.stdout);
    assert!(here.list(&bindings()).await.is_empty());
    assert_eq!(here.names(&core("secrets")).await, before.0);
    world.end().await;
}

#[tokio::test]
async fn without_an_agent_it_says_what_to_run() {
    let mut world = World::new(super::PROGRAM, Service::new(72)).await;
    world.consumer().stop_agent().await;
    let leases = kube_client::resource::Resource::new("coordination.k8s.io", "v1", "leases", "Lease");
    world.consumers[0].site.delete(&leases, "kube-bind", "kube-bind").await;
    let url = format!("{}/kubernetes", world.providers[0].server);
    let words = [url.as_str(), "--skip-browser", "--accept-claims", "--skip-konnector", "--wait", "3"];
    let ended = world.consumers[0].person.bind_in_browser(&words, &world.logins[0], None).await;
    let _ = ended.refused(&["konnector"]);
    world.end().await;
}
