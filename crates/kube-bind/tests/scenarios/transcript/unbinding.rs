//! S6: claims decided after the bind, and taking a binding back in each way.

use testkit::eventually;
use testkit::program::kubectl;
use testkit::site::{bindings, core, crds};
use testkit::world::World;

use super::{Transcript, databases};

#[tokio::test]
async fn claims_are_decided_and_undecided() {
    let world = World::bound(crate::PROGRAM, databases()).await;
    let ada = &world.consumers[0].person;
    let here = &world.consumers[0].site;
    let name = "mangodbs";
    world.phase(name, "Connected").await;
    world.make("default", "prod", "db-token").await;
    let secret = async |there: bool| {
        eventually(&format!("the token is here: {there}"), async || {
            let seen = here.get(&core("secrets"), "default", "db-token").await.is_some();
            if seen == there { Ok(()) } else { Err(format!("{seen}")) }
        })
        .await;
    };
    secret(true).await;
    let mut t = Transcript::new("s6-claims", &world);

    let _ = t.bind(ada, &["status"]).await.ok();
    let _ = t.bind(ada, &["status", "other"]).await.refused(&[]);
    let _ = t.bind(ada, &["claims", "list", name]).await.ok();
    let _ = t.bind(ada, &["claims", "list", "other"]).await.refused(&[]);
    t.say("Rejected: the copies go. Accepted again: they come back.");
    let _ = t.bind(ada, &["claims", "reject", name, "3"]).await.refused(&[]);
    let _ = t.bind(ada, &["claims", "reject", name, "1"]).await.ok();
    secret(false).await;
    let _ = t.bind(ada, &["status", name]).await.ok();
    let _ = t.bind(ada, &["claims", "accept", name, "1"]).await.ok();
    secret(true).await;
    t.say("What nobody has decided waits.");
    here.patch(&bindings(), "", name, &serde_json::json!({"spec": {"permissionClaims": []}})).await;
    eventually("the status says that claims wait", async || {
        let said = ada.bind(&["status", name], "").await.ok().stderr;
        if said.contains("wait for a decision") { Ok(()) } else { Err(said) }
    })
    .await;
    let _ = t.bind(ada, &["status", name]).await.ok();
    let _ = t.bind(ada, &["claims", "list", name]).await.ok();
    let _ = t.bind(ada, &["claims", "accept", name]).await.ok();
    t.check();
    world.end().await;
}

#[tokio::test]
async fn a_binding_is_taken_back() {
    if kubectl().is_none() {
        return;
    }
    let world = World::bound(crate::PROGRAM, databases()).await;
    let ada = &world.consumers[0].person;
    let here = &world.consumers[0].site;
    let url = format!("{}/kubernetes", world.providers[0].server);
    let name = "mangodbs";
    let mut t = Transcript::new("s6-unbind", &world);

    t.say("With objects left it refuses, and counts them.");
    world.make("default", "prod", "prod-token").await;
    world.make("default", "test", "test-token").await;
    let _ = t.bind(ada, &["unbind", "other"]).await.refused(&[]);
    let _ = t.bind(ada, &["unbind", name]).await.refused(&[]);
    let _ = t.bind(ada, &["unbind", name, "--delete-objects", "--orphan"]).await.refused(&[]);

    t.say("Left behind on both sides, and adopted again by a bind of the same name.");
    let _ = t.bind(ada, &["unbind", name, "--orphan"]).await.ok();
    let _ = t.bind(ada, &["status"]).await.ok();
    let words = [url.as_str(), "--skip-browser", "--accept-claims"];
    let other = [&words[..], &["--name", "other"]].concat();
    let _ = t.terminal(ada, &other, &world.logins[0], super::Answer::Unasked).await.refused(&[]);
    let _ = t.terminal(ada, &words, &world.logins[0], super::Answer::Unasked).await.ok();
    world.running("default", "prod").await;

    t.say("With kubectl it is the same, but for what only the plugin may remove.");
    let _ = t.kubectl(ada, &["delete", "apibinding", name], "").await.ok();
    let _ = t.bind(ada, &["unbind", name, "--delete-objects"]).await.refused(&[]);
    let _ = t.bind(ada, &["unbind", name]).await.ok();
    assert!(here.get(&core("secrets"), "kube-bind", name).await.is_none(), "the credential is gone");
    let roles = kube_client::resource::Resource::new("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole");
    let left = here.names(&roles).await.into_iter().filter(|role| role.contains(&format!("kube-bind:{name}")));
    assert_eq!(left.collect::<Vec<_>>(), Vec::<String>::new(), "its rights are gone");
    let _ = t.bind(ada, &["unbind", name]).await.refused(&[]);
    let _ = t.terminal(ada, &words, &world.logins[0], super::Answer::Unasked).await.ok();
    world.running("default", "prod").await;

    t.say("Deleted properly, on both sides.");
    let _ = t.bind(ada, &["unbind", name, "--delete-objects"]).await.ok();
    let _ = t.bind(ada, &["status"]).await.ok();
    let _ = t.bind(ada, &["unbind", name]).await.refused(&[]);
    assert!(here.get(&crds(), "", "mangodbs.mangodb.com").await.is_none());

    t.say("With nothing in it, it just goes.");
    let _ = world.bind(0, 0).await.ok();
    let _ = t.bind(ada, &["unbind", name]).await.ok();
    assert!(here.get(&crds(), "", "mangodbs.mangodb.com").await.is_none());
    t.check();
    world.end().await;
}
