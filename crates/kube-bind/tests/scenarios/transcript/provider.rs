//! S7 and S14: the provider offers, sees who has bound what, and cuts one consumer off.

use testkit::eventually;
use testkit::program::{Person, kubectl};
use testkit::site::crds;
use testkit::world::World;

use super::{Transcript, databases, shirts};

#[tokio::test]
async fn the_providers_day() {
    if kubectl().is_none() {
        return;
    }
    let mut world = World::new(crate::PROGRAM, databases()).await;
    world.add_consumer().await;
    let provider =
        Person { kubeconfig: world.providers[0].site.kubeconfig.clone(), ..world.consumers[0].person.clone() };
    let (ada, bob) = (&world.consumers[0].person, &world.consumers[1].person);
    let server = world.providers[0].server.as_str();
    let mut t = Transcript::new("s14-the-providers-day", &world);

    let _ = t.bind(&provider, &["provider", "exports"]).await.ok();
    let _ = t.bind(&provider, &["provider", "consumers"]).await.ok();

    t.say("Labelled and not granted: not available yet, and what the provider has to type.");
    world.providers[0].site.apply(&crds(), &shirts().crd()).await;
    let _ = ada.log_in(server, &world.logins[0]).await.ok();
    let _ = t.bind(ada, &["templates"]).await.ok();
    let name = shirts().crd_name();
    let words = [server, "--template", &name];
    let _ = t.bind(ada, &words).await.refused(&[]);
    let _ = t.bind(&provider, &["provider", "offer", "no-such.example.com"]).await.refused(&[]);
    for _ in 0..2 {
        let _ = t.bind(&provider, &["provider", "offer", &name]).await.ok();
    }
    let _ = t.bind(ada, &["templates"]).await.ok();
    let _ = t.bind(ada, &words).await.ok();

    let _ = t.bind(&provider, &["provider", "revoke", "nobody"]).await.refused(&[]);

    t.say("Two consumers.");
    let _ = ada.bind(&[server, "--template", "mangodbs", "--accept-claims"], "").await.ok();
    let _ = bob.log_in(server, &world.logins[1]).await.ok();
    let _ = bob.bind(&[server, "--template", "mangodbs", "--accept-claims"], "").await.ok();
    // Contracts have random names: the transcript shows them in the order in which they came.
    let consumers = eventually("both are heard of", async || {
        let table = provider.bind(&["provider", "consumers"], "").await.ok().stdout;
        if table.contains("<never>") || table.matches("True").count() < 2 { Err(table) } else { Ok(table) }
    })
    .await;
    let contract = |person: &str| {
        let row = consumers.lines().find(|line| line.contains(person)).unwrap();
        row.split_whitespace().next().unwrap().to_owned()
    };
    let (adas, bobs) = (contract("ada-subject"), contract("bob-subject"));
    t.mask = std::mem::replace(&mut t.mask, super::Mask::new()).name(&adas, "cluster-ada").name(&bobs, "cluster-bob");
    t.sorted = true;
    eventually("both are connected", async || {
        let table = provider.bind(&["provider", "exports"], "").await.ok().stdout;
        if table.matches("True").count() == 3 { Ok(()) } else { Err(table) }
    })
    .await;
    let _ = t.bind(&provider, &["provider", "exports"]).await.ok();
    let _ = t.bind(&provider, &["provider", "consumers"]).await.ok();
    let _ = t.kubectl(&provider, &["get", "apiserviceexports", "-A"], "").await.ok();
    let _ = t.kubectl(&provider, &["get", "clusterbindings", "-A"], "").await.ok();
    t.sorted = false;

    t.say("One is cut off.");
    let _ = t.bind(&provider, &["provider", "revoke", &bobs]).await.ok();
    eventually("the second one knows", async || {
        let status = world.consumers[1].binding_status("mangodbs").await;
        let told = status["phase"] != "Connected" && status.to_string().contains("CredentialExpired");
        if told { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    let _ = t.bind(bob, &["status"]).await.ok();
    let _ = t.bind(&provider, &["provider", "revoke", &adas, "--delete-objects"]).await.ok();
    t.check();
    world.end().await;
}
