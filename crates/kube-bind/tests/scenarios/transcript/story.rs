//! S1, S2 and S15: the whole story, the chooser, and a second provider.

use testkit::program::kubectl;
use testkit::world::World;

use super::{Answer, LIMIT, Transcript, databases, shirts};
use kube_bind::terminal::Terminal;

const ORDER: &str = "\
apiVersion: mangodb.com/v1alpha1
kind: MongoDB
metadata:
  name: prod
spec:
  tier: dedicated
  region: eu-central-1
  tokenSecret: db-token
";

const SHIRT: &str = "\
apiVersion: tshirt.example/v1alpha1
kind: TShirtClaim
metadata:
  name: stefan
spec:
  size: 44
";

#[tokio::test]
async fn the_whole_story() {
    if kubectl().is_none() {
        return;
    }
    let mut world = World::new(crate::PROGRAM, databases()).await;
    world.add_consumer().await;
    let (ada, bob) = (&world.consumers[0].person, &world.consumers[1].person);
    let url = format!("{}/kubernetes", world.providers[0].server);
    let words = [url.as_str(), "--skip-browser"];
    let mut t = Transcript::new("s1-the-whole-story", &world);

    t.say("A database service is bound.");
    let _ = t.terminal(ada, &words, &world.logins[0], Answer::Line("y")).await.ok();
    let _ = t.kubectl(ada, &["get", "mangodbs"], "").await.ok();
    let _ = t.kubectl(ada, &["get", "apibindings"], "").await.ok();
    let _ = t.kubectl(ada, &["get", "apiservicebindings", "-o", "wide"], "").await.ok();

    t.say("It is used like any other API.");
    let _ = t.kubectl(ada, &["apply", "-f", "-"], ORDER).await.ok();
    world.running("default", "prod").await;
    for kind in ["secrets", "services"] {
        let name = if kind == "secrets" { "db-token" } else { "prod" };
        testkit::eventually("what is claimed has arrived", async || {
            let there = world.consumers[0].site.get(&testkit::site::core(kind), "default", name).await;
            there.map(|_| ()).ok_or_else(|| format!("no {kind} {name}"))
        })
        .await;
    }
    for words in [
        &["get", "mangodb"][..],
        &["get", "mangodbs", "prod", "-o", "yaml"],
        &["get", "services", "prod"],
        &["get", "secrets", "db-token"],
        &["explain", "mangodb.spec.tokenSecret"],
    ] {
        let _ = t.kubectl(ada, words, "").await.ok();
    }
    let wrong = ORDER.replace("prod", "wrong").replace("dedicated", "gigantic");
    let _ = t.kubectl(ada, &["apply", "-f", "-"], &wrong).await.refused(&[]);

    t.say("The same bind once more changes nothing.");
    let _ = t.terminal(ada, &words, &world.logins[0], Answer::Line("y")).await.ok();
    let _ = t.bind(ada, &["status"]).await.ok();

    t.say("Another cluster, another person.");
    let _ = t.terminal(bob, &words, &world.logins[1], Answer::Line("yes")).await.ok();
    let _ = t.kubectl(bob, &["get", "mangodbs"], "").await.ok();
    t.check();
    world.end().await;
}

#[tokio::test]
async fn the_chooser() {
    let mut world = World::new(crate::PROGRAM, databases()).await;
    world.offer(0, shirts()).await;
    let ada = &world.consumers[0].person;
    let server = world.providers[0].server.as_str();
    let url = format!("{server}/exports");
    let mut t = Transcript::new("s2-the-chooser", &world);

    t.say("What there is.");
    let _ = t.bind(ada, &["templates"]).await.refused(&[]);
    let words = ["login", server, "--skip-browser"];
    let typed = testkit::typed::Typed::start(ada, &words).await;
    let mut browser = kube_bind::browser::Browser::new().unwrap();
    kube_bind::browser::log_in_and_bind(&mut browser, &typed.url, &world.logins[0], |_| {}).await.unwrap();
    let _ = t.end(&words, typed).await.ok();
    let _ = t.bind(ada, &["templates"]).await.ok();
    let _ = t.bind(ada, &["templates", "--server", server, "-o", "name"]).await.ok();
    let _ = t.bind(ada, &["collections"]).await.ok();

    t.say("One is picked in the terminal.");
    let words = [url.as_str(), "--skip-browser"];
    for (number, sure) in [("2", None), ("1", Some("n")), ("1", Some("y"))] {
        let mut terminal = Terminal::start(ada.command(&words), |_| {}).unwrap();
        terminal.expect("Which one? [1-2] ", LIMIT).await.unwrap();
        terminal.type_line(number).unwrap();
        if let Some(sure) = sure {
            terminal.expect("Accept? [y,N] ", LIMIT).await.unwrap();
            terminal.type_line(sure).unwrap();
        }
        let (status, stdout) = terminal.end(LIMIT).await.unwrap();
        let ended = testkit::program::Ended { success: status.success(), stdout, stderr: String::new() };
        t.typed("kubectl bind", &words, "", &ended);
        assert_eq!(ended.success, sure != Some("n"));
    }

    t.say("Or named, without a question which.");
    let named = [server, "--template", "mangodbs"];
    let _ = t.bind(ada, &named).await.refused(&[]);
    let _ = t.bind(ada, &[&named[..], &["--accept-claims"]].concat()).await.ok();
    let _ = t.bind(ada, &["status"]).await.ok();
    t.check();
    world.end().await;
}

#[tokio::test]
async fn two_providers() {
    if kubectl().is_none() {
        return;
    }
    let mut world = World::bound(crate::PROGRAM, databases()).await;
    world.add_provider(shirts()).await;
    world.add_provider(databases()).await;
    let ada = &world.consumers[0].person;
    let mut t = Transcript::new("s15-two-providers", &world);

    t.say("A second provider, without claims: nothing is asked.");
    let url = format!("{}/export", world.providers[1].server);
    let _ = t.terminal(ada, &[&url, "--skip-browser"], &world.logins[0], Answer::Unasked).await.ok();
    let _ = t.kubectl(ada, &["create", "-f", "-"], SHIRT).await.ok();
    let resource = shirts().resource();
    testkit::eventually("the shirt is ordered", async || {
        let shirt = world.consumers[0].site.get(&resource, "default", "stefan").await.unwrap_or_default();
        if shirt["status"]["phase"] == "Running" { Ok(()) } else { Err(shirt.to_string()) }
    })
    .await;
    let _ = t.kubectl(ada, &["get", "tshirtclaims", "-o", "yaml"], "").await.ok();
    let _ = t.kubectl(ada, &["get", "apibindings"], "").await.ok();

    t.say("A third one offers what is bound already.");
    let url = format!("{}/exports", world.providers[2].server);
    let _ = t.terminal(ada, &[&url, "--skip-browser"], &world.logins[0], Answer::Unasked).await.refused(&[]);

    t.say("The first one dies; the second does not notice.");
    let name = world.binding(0);
    world.provider().site.stop().await;
    world.phase(&name, "Disconnected").await;
    let ada = &world.consumers[0].person;
    let _ = t.kubectl(ada, &["get", "apibindings"], "").await.ok();
    world.provider().site.restart().await;
    world.phase(&name, "Connected").await;
    let _ = t.kubectl(&world.consumers[0].person, &["get", "apibindings"], "").await.ok();
    t.check();
    world.end().await;
}
