//! S1's variants: everything that is not a yes.

use kube_bind::browser::Browser;
use kube_bind::terminal::Terminal;
use secrecy::ExposeSecret as _;
use testkit::eventually;
use testkit::program::{Ended, Person, file};
use testkit::site::{core, ours};
use testkit::typed::{Typed, log_in};
use testkit::world::World;

use super::{Answer, LIMIT, Transcript, databases};
use crate::consent::picture;

#[tokio::test]
async fn whoever_does_not_say_yes() {
    let world = World::new(crate::PROGRAM, databases()).await;
    let (ada, login) = (&world.consumers[0].person, &world.logins[0]);
    let url = format!("{}/kubernetes", world.providers[0].server);
    let words = [url.as_str(), "--skip-browser"];
    let before = picture(&world.consumers[0].site).await;
    let mut t = Transcript::new("s1-whoever-does-not-say-yes", &world);

    t.say("No, Enter, something else, and the end of input.");
    for answer in [Answer::Line("n"), Answer::Line(""), Answer::Line("maybe"), Answer::End] {
        let _ = t.terminal(ada, &words, login, answer).await.refused(&[]);
    }

    t.say("Ctrl-C while the browser is away.");
    let typed = Typed::start(ada, &words).await;
    typed.interrupt().await;
    let _ = t.end(&words, typed).await.refused(&[]);

    t.say("Cancelled on the page that asks what may be read.");
    let typed = Typed::start(ada, &words).await;
    let mut browser = Browser::new().unwrap();
    let page = browser.open(&typed.url).await.unwrap();
    let fill = [("username", login.username.as_str()), ("password", login.password.expose_secret())];
    let page = browser.press(&page, "Log in", &fill).await.unwrap();
    browser.press(&page, "Cancel", &[]).await.unwrap();
    let _ = t.end(&words, typed).await.refused(&[]);

    t.say("Back on the bind page.");
    let typed = Typed::start(ada, &words).await;
    let page = log_in(&mut browser, &typed.url, login).await;
    browser.follow(&page, &page.link("Back").unwrap()).await.unwrap();
    let _ = t.end(&words, typed).await.refused(&[]);

    t.say("Too slow.");
    let _ = t.bind(ada, &[&words[..], &["--timeout", "1"]].concat()).await.refused(&[]);

    t.say("A script that does not accept the claims.");
    let typed = Typed::start(ada, &words).await;
    kube_bind::browser::log_in_and_bind(&mut browser, &typed.url, login, |_| {}).await.unwrap();
    let _ = t.end(&words, typed).await.refused(&[]);

    t.say("Ctrl-C at the question.");
    let mut terminal = Terminal::start(ada.command(&words), |_| {}).unwrap();
    let seen = terminal.expect("client_type=ui\n", LIMIT).await.unwrap();
    let to = seen.split_whitespace().find(|word| word.contains("redirect_url=")).unwrap().to_owned();
    kube_bind::browser::log_in_and_bind(&mut browser, &to, login, |_| {}).await.unwrap();
    terminal.expect("Accept? [y,N] ", LIMIT).await.unwrap();
    let pid = terminal.pid().to_string();
    assert!(tokio::process::Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    let (status, stdout) = terminal.end(LIMIT).await.unwrap();
    t.typed("kubectl bind", &words, "", &Ended { success: status.success(), stdout, stderr: String::new() });

    assert_eq!(picture(&world.consumers[0].site).await, before, "nothing has changed in the consumer cluster");
    let there = &world.providers[0].site;
    eventually("no contract is left at the provider", async || {
        let namespaces = there.names(&core("namespaces")).await;
        let left: Vec<_> = namespaces.into_iter().filter(|name| name.contains("/cluster-")).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    assert!(there.list(&ours("clusterbindings", "ClusterBinding")).await.is_empty());

    t.say("A credential that was handed out before is not taken away by a no.");
    let _ = ada.log_in(&world.providers[0].server, login).await.ok();
    let kept = ada.bind(&["kubeconfig", &world.providers[0].server], "").await.ok().stdout;
    let _ = t.bind(ada, &[&world.providers[0].server, "--template", "mangodbs"]).await.refused(&[]);
    let kept = file(world.folder(), "kept.kubeconfig", &kept);
    let contract = Person { kubeconfig: kept.into(), ..ada.clone() };
    assert_eq!(there.list(&ours("clusterbindings", "ClusterBinding")).await.len(), 1);
    if let Some(ended) = contract.kubectl(&["get", "clusterbindings"], "").await {
        let _ = ended.ok();
    }
    t.check();
    world.end().await;
}
