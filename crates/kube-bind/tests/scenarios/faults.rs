//! Faults between us and an API server: while one lasts, somebody is told which side, which object and what mends it, and
//! nobody is asked more often than is decent; when it ends, everything is as if nothing had been.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::fault::{Fault, FaultProxy, Seen, all, group, on, with_ca};
use testkit::service::Service;
use testkit::site::{Site, bindings, core, crds, ours};
use testkit::world::World;
use testkit::{eventually, stays, within};

/// "Within seconds", on a machine that is shared.
const SECONDS: Duration = Duration::from_secs(45);

/// A bound world with proxies.
async fn world(seed: u64) -> World {
    let world = World::with_faults(super::PROGRAM, Service::new(seed)).await;
    let _ = world.bind(0, 0).await.ok();
    world
}

/// Between the agent and the provider.
fn provider(world: &World) -> &FaultProxy {
    world.providers[0].faults.as_ref().unwrap()
}

/// Between the agent and its own cluster.
fn consumer(world: &World) -> &FaultProxy {
    world.consumers[0].faults.as_ref().unwrap()
}

/// Waits until a condition of the binding has this reason, with all these words in its message, under this phase.
async fn told(world: &World, phase: &str, type_: &str, reason: &str, words: &[&str]) {
    let name = world.binding(0);
    within(SECONDS, &format!("the binding is {phase} and {type_} says {reason}"), async || {
        let status = world.consumers[0].binding_status(&name).await;
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.iter().find(|condition| condition["type"] == type_ && condition["reason"] == reason);
        let message = found.map(|condition| condition["message"].to_string()).unwrap_or_default();
        let said = found.is_some() && words.iter().all(|word| message.contains(word));
        if said && status["phase"] == phase { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}

/// Makes objects without waiting.
async fn apply(world: &World, names: &[String]) {
    let service = world.service();
    for name in names {
        let object = service.object("default", name, &format!("{name}-token"));
        world.consumers[0].site.apply(&service.resource(), &object).await;
    }
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}{number}")).collect()
}

/// Waits until exactly these objects are there with their status and their Secrets, once at the provider and once here.
async fn converged(world: &World, expected: &[String]) {
    let service = world.service();
    let here = &world.consumers[0].site;
    let wanted: std::collections::BTreeSet<String> = expected.iter().cloned().collect();
    eventually("everything has converged", async || {
        let objects = here.list(&service.resource()).await;
        let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let have: std::collections::BTreeSet<String> = objects.iter().map(name).collect();
        let copies: Vec<String> = world.providers[0].site.list(&service.resource()).await.iter().map(name).collect();
        let copied: std::collections::BTreeSet<String> = copies.iter().cloned().collect();
        let running = objects.iter().filter(|object| object["status"]["phase"] == "Running").count();
        let mut tokens = 0;
        for name in expected {
            tokens += usize::from(here.get(&core("secrets"), "default", &format!("{name}-token")).await.is_some());
        }
        let done = have == wanted
            && copied == wanted
            && copies.len() == wanted.len()
            && running == wanted.len()
            && tokens == wanted.len();
        if done {
            Ok(())
        } else {
            Err(format!("{} objects, {running} running, {} copies, {tokens} tokens", have.len(), copies.len()))
        }
    })
    .await;
}

/// Uids of the provider's copies, by name.
async fn copies(world: &World) -> std::collections::BTreeMap<String, String> {
    let list = world.providers[0].site.list(&world.service().resource()).await;
    let text = |object: &Value, field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    list.iter().map(|copy| (text(copy, "name"), text(copy, "uid"))).collect()
}

/// How many requests came through within `time`.
async fn asked(proxy: &FaultProxy, time: Duration) -> Vec<Seen> {
    let _ = proxy.take_seen();
    tokio::time::sleep(time).await;
    proxy.take_seen()
}

/// A provider that does not serve, in every way that a server knows: the binding says so and what mends it, the agent asks
/// at a decent rate, and afterwards what was made meanwhile crosses.
#[tokio::test]
async fn a_provider_that_does_not_serve_is_told_of_and_waited_for() {
    let world = world(201).await;
    let mut expected = vec!["before".to_owned()];
    world.make("default", "before", "before-token").await;
    let before = copies(&world).await;
    let faults: [(&str, Fault, &[&str]); 5] = [
        ("busy", Fault::too_many(2), &["provider", "too many requests", "ask the provider"]),
        ("broken", Fault::status(500), &["provider", "an error on the server", "ask the provider"]),
        ("down", Fault::status(503), &["provider", "currently unable", "ask the provider"]),
        ("slow", Fault::status(504), &["provider", "did not complete", "ask the provider"]),
        ("dropping", Fault::Drop, &["provider", "tried again by itself", "reach"]),
    ];
    for (name, fault, words) in faults {
        let proxy = provider(&world);
        proxy.when(all(), fault);
        told(&world, "Disconnected", "Connected", "ProviderUnreachable", words).await;
        // Whatever was open is gone too: every watch has to ask.
        proxy.cut_watches();
        let meanwhile = names(&format!("{name}-"), 10);
        apply(&world, &meanwhile).await;
        let seen = asked(proxy, Duration::from_secs(6)).await;
        assert!(seen.len() < 300, "{name}: {} requests in 6 s", seen.len());
        expected.extend(meanwhile);
        proxy.well();
        world.phase(&world.binding(0), "Connected").await;
        converged(&world, &expected).await;
        let after = copies(&world).await;
        assert!(before.iter().all(|(name, uid)| after.get(name) == Some(uid)), "{name}: a copy was made anew");
    }
    world.end().await;
}

#[tokio::test]
async fn retry_after_is_respected() {
    let world = world(202).await;
    world.make("default", "one", "one-token").await;
    let proxy = provider(&world);
    let busy = proxy.when(all(), Fault::too_many(3));
    told(&world, "Disconnected", "Connected", "ProviderUnreachable", &["too many requests"]).await;
    let many = names("late", 30);
    let before = proxy.struck(busy);
    apply(&world, &many).await;
    let _ = proxy.take_seen();
    tokio::time::sleep(Duration::from_secs(9)).await;
    // One look at the contract and what the queues let through, every three seconds; not thirty objects each on their own.
    let asked = proxy.struck(busy) - before;
    assert!(asked <= 70, "{asked} requests in 9 s to a server that asks for 3 s");
    let looks: Vec<_> =
        proxy.take_seen().into_iter().filter(|seen| seen.place().ends_with("/clusterbindings/cluster")).collect();
    assert!(looks.len() >= 2, "it is not looked at any more");
    for pair in looks.windows(2) {
        let between = pair[1].at - pair[0].at;
        assert!(between >= Duration::from_millis(2900), "asked again after {between:?}");
    }
    proxy.well();
    let expected = [vec!["one".to_owned()], many].concat();
    converged(&world, &expected).await;
    world.end().await;
}

/// Every second request fails in some way, some of them after the write was done; on both sides, while objects are made,
/// changed and deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_fail_or_seem_to_are_neither_lost_nor_doubled() {
    let world = world(203).await;
    let service = world.service();
    let here = &world.consumers[0].site;
    let old = names("old", 10);
    apply(&world, &old).await;
    converged(&world, &old).await;
    for proxy in [provider(&world), consumer(&world)] {
        for code in [500, 503, 504] {
            proxy.share(0.1, Box::new(Seen::writes), Fault::status(code));
            proxy.share(0.15, Box::new(Seen::writes), Fault::DoneBut(code));
        }
        proxy.share(0.1, Box::new(|seen| !seen.writes()), Fault::status(500));
        proxy.share(0.1, Box::new(Seen::writes), Fault::too_many(1));
    }
    let new = names("new", 20);
    apply(&world, &new).await;
    for name in &old[..5] {
        here.delete(&service.resource(), "default", name).await;
    }
    for name in &old[5..] {
        here.patch(&service.resource(), "default", name, &json!({"spec": {"size": 7}})).await;
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    provider(&world).well();
    consumer(&world).well();
    let expected = [old[5..].to_vec(), new].concat();
    converged(&world, &expected).await;
    for copy in world.providers[0].site.list(&service.resource()).await {
        let name = copy["metadata"]["name"].as_str().unwrap_or_default();
        let size = if name.starts_with("old") { 7 } else { 2 };
        assert_eq!(copy["spec"]["size"], size, "{copy}");
    }
    for name in &old[..5] {
        let copy = format!("{name}-token");
        eventually(&format!("{copy} is gone"), async || match here.get(&core("secrets"), "default", &copy).await {
            None => Ok(()),
            Some(copy) => Err(copy["metadata"].to_string()),
        })
        .await;
    }
    world.end().await;
}

/// One object that the provider's server cannot take for now: its owner reads why, everybody else is fine.
#[tokio::test]
async fn an_object_that_fails_alone_says_so_and_the_others_go_on() {
    let world = world(204).await;
    // From here on the agent knows what is at the provider, and that the copy is not there.
    world.make("default", "first", "first-token").await;
    let proxy = provider(&world);
    proxy.when(on("PATCH", &["/stuck?"]), Fault::status(500));
    apply(&world, &["stuck".to_owned()]).await;
    world.make("default", "fine", "fine-token").await;
    within(SECONDS, "an Event on the object", async || {
        let events = world.consumers[0].site.list(&core("events")).await;
        let said = events.iter().find(|event| {
            event["involvedObject"]["name"] == "stuck"
                && event["reason"] == "SyncDelayed"
                && ["provider", "an error on the server", "API server's log"]
                    .iter()
                    .all(|word| event["message"].as_str().unwrap_or_default().contains(word))
        });
        said.map(|_| ()).ok_or_else(|| json!(events).to_string())
    })
    .await;
    assert_eq!(world.consumers[0].binding_status(&world.binding(0)).await["phase"], "Connected");
    proxy.well();
    converged(&world, &["first".to_owned(), "stuck".to_owned(), "fine".to_owned()]).await;
    world.end().await;
}

/// Watches that end, that end at once, that are too old at their start or in the middle: nothing is missed, and nobody
/// asks in circles.
#[tokio::test]
async fn watches_that_are_cut_or_too_old_miss_nothing() {
    let world = world(205).await;
    world.make("default", "n0", "n0-token").await;
    let mut expected = vec!["n0".to_owned()];
    let both = [provider(&world), consumer(&world)];
    for (number, round) in
        ["cut", "gone", "gone at the start", "gone as the first event", "cut at once"].iter().enumerate()
    {
        for proxy in both {
            let watches = || -> testkit::fault::Matches { Box::new(|seen| seen.watch) };
            match *round {
                "cut" => proxy.cut_watches(),
                "gone" => proxy.gone(),
                "gone at the start" => {
                    proxy.when(watches(), Fault::status(410));
                    proxy.cut_watches();
                }
                "gone as the first event" => {
                    proxy.when(watches(), Fault::GoneInStream);
                    proxy.cut_watches();
                }
                _ => {
                    proxy.when(watches(), Fault::Drop);
                    proxy.cut_watches();
                }
            }
        }
        let name = format!("n{}", number + 1);
        apply(&world, std::slice::from_ref(&name)).await;
        expected.push(name);
        for proxy in both {
            let seen = asked(proxy, Duration::from_secs(3)).await;
            assert!(seen.len() < 250, "{round}: {} requests in 3 s", seen.len());
            proxy.well();
        }
        converged(&world, &expected).await;
    }
    world.end().await;
}

/// Connections that look alive and are not.
#[tokio::test]
async fn half_dead_connections_are_noticed() {
    let world = world(206).await;
    world.make("default", "one", "one-token").await;
    // Watches of the provider that deliver nothing: our own writes do not come back, so we look for ourselves.
    provider(&world).half_dead();
    apply(&world, &["two".to_owned()]).await;
    converged(&world, &["one".to_owned(), "two".to_owned()]).await;
    // Requests that are never answered.
    provider(&world).when(all(), Fault::Silence);
    told(&world, "Disconnected", "Connected", "ProviderUnreachable", &["does not answer within 5 s"]).await;
    provider(&world).well();
    world.phase(&world.binding(0), "Connected").await;
    apply(&world, &["three".to_owned()]).await;
    converged(&world, &["one".to_owned(), "two".to_owned(), "three".to_owned()]).await;
    world.end().await;
}

#[tokio::test]
async fn lists_that_break_off_or_hold_nonsense_delete_nothing() {
    let world = world(207).await;
    let service = world.service();
    let expected = names("n", 5);
    apply(&world, &expected).await;
    converged(&world, &expected).await;
    let before = copies(&world).await;
    let kind = service.plural.as_str();
    for proxy in [provider(&world), consumer(&world)] {
        for fault in [Fault::Garble("n3".to_owned()), Fault::Truncate] {
            let rule = proxy.when(
                Box::new({
                    let kind = kind.to_owned();
                    move |seen| seen.lists() && seen.place().contains(&kind)
                }),
                fault.clone(),
            );
            proxy.gone();
            within(SECONDS, "it lists again", async || {
                if proxy.struck(rule) > 0 { Ok(()) } else { Err("it does not".to_owned()) }
            })
            .await;
            stays("copies and Secrets", Duration::from_secs(2), async || {
                let there = world.consumers[0].site.get(&core("secrets"), "default", "n3-token").await.is_some();
                let same = copies(&world).await == before;
                if there && same { Ok(()) } else { Err(format!("Secret {there}, copies {same}")) }
            })
            .await;
            proxy.well();
            proxy.cut_watches();
        }
    }
    let resource = service.resource();
    world.consumers[0].site.patch(&resource, "default", "n3", &json!({"spec": {"size": 9}})).await;
    eventually("the change crosses", async || {
        let copy = world.copy(0, "n3").await.unwrap_or_default();
        if copy["spec"]["size"] == 9 { Ok(()) } else { Err(copy.to_string()) }
    })
    .await;
    converged(&world, &expected).await;
    assert_eq!(copies(&world).await, before);
    world.end().await;
}

/// Both API servers away and back, also in the middle of writes.
#[tokio::test]
async fn api_servers_that_are_restarted_are_found_again() {
    let mut world = world(208).await;
    let binding = world.binding(0);
    let first = names("first", 10);
    apply(&world, &first).await;
    world.providers[0].site.stop().await;
    told(&world, "Disconnected", "Connected", "ProviderUnreachable", &["tried again by itself"]).await;
    let second = names("second", 5);
    apply(&world, &second).await;
    world.providers[0].site.restart().await;
    world.phase(&binding, "Connected").await;
    let expected = [first, second].concat();
    converged(&world, &expected).await;
    world.consumers[0].site.stop().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.consumers[0].site.restart().await;
    apply(&world, &["third".to_owned()]).await;
    converged(&world, &[expected, vec!["third".to_owned()]].concat()).await;
    world.end().await;
}

/// While nobody can watch, first the provider and then the consumer, objects come and go, the history is forgotten and the
/// API server starts anew: every watch is too old then.
#[tokio::test]
async fn a_history_that_is_compacted_under_the_watches_is_listed_again() {
    let mut world = world(214).await;
    let service = world.service();
    let old = names("old", 4);
    apply(&world, &old).await;
    converged(&world, &old).await;
    provider(&world).refuse().await;
    let new = names("new", 4);
    apply(&world, &new).await;
    for name in &old[..2] {
        world.consumers[0].site.delete(&service.resource(), "default", name).await;
    }
    // What the provider writes meanwhile.
    let namespace = world.copy(0, "old3").await.unwrap()["metadata"]["namespace"].as_str().unwrap().to_owned();
    let size = json!({"spec": {"machinery": "composed"}});
    world.providers[0].site.patch(&service.resource(), &namespace, "old3", &size).await;
    let forgets = forget(&mut world.providers[0].site).await;
    provider(&world).accept().await;
    eventually("the provider's API server says that a watch is too old", async || {
        let said = provider(&world).forgotten();
        if said > 0 || !forgets { Ok(()) } else { Err("it does not".to_owned()) }
    })
    .await;
    consumer(&world).refuse().await;
    let late = names("late", 2);
    apply(&world, &late).await;
    world.consumers[0].site.delete(&service.resource(), "default", &new[0]).await;
    let forgets = forget(&mut world.consumers[0].site).await;
    let _ = consumer(&world).take_seen();
    consumer(&world).accept().await;
    // An agent that lost its Lease meanwhile does not try the watches: it lists at once.
    eventually("the consumer's objects are listed again", async || {
        let seen = consumer(&world).seen();
        let listed = seen.iter().any(|seen| seen.lists() && seen.place().ends_with(&service.plural));
        if listed || !forgets { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    // Those that were open are told so in the middle.
    provider(&world).gone();
    consumer(&world).gone();
    converged(&world, &[&old[2..], &new[1..], &late].concat()).await;
    assert_eq!(world.copy(0, "old3").await.unwrap()["spec"]["machinery"], "composed");
    world.end().await;
}

/// Nothing that was there before can be watched from any more, where a store forgets when told; says whether it does.
async fn forget(site: &mut Site) -> bool {
    let mut forgets = false;
    for _ in 0..2 {
        forgets = site.compact().await;
        site.stop().await;
        site.restart().await;
    }
    forgets
}

#[tokio::test]
async fn a_credential_that_expires_at_the_provider_is_named_with_its_mend() {
    let world = world(209).await;
    world.make("default", "one", "one-token").await;
    let proxy = provider(&world);
    proxy.when(all(), Fault::status(401));
    proxy.cut_watches();
    let secret = format!("kube-bind/{}", world.binding(0));
    told(&world, "Disconnected", "Connected", "CredentialExpired", &[&secret, "kubectl bind", "expired"]).await;
    apply(&world, &["two".to_owned()]).await;
    let seen = asked(proxy, Duration::from_secs(6)).await;
    assert!(seen.len() < 60, "{} requests in 6 s with a credential that is refused", seen.len());
    assert!(!seen.iter().any(Seen::writes), "a refused credential writes nothing");
    proxy.well();
    world.phase(&world.binding(0), "Connected").await;
    converged(&world, &["one".to_owned(), "two".to_owned()]).await;
    world.end().await;
}

#[tokio::test]
async fn a_provider_with_another_ca_is_not_trusted_until_the_credential_names_it() {
    let world = world(210).await;
    world.make("default", "one", "one-token").await;
    let proxy = provider(&world);
    let secret = format!("kube-bind/{}", world.binding(0));
    let before = proxy.change_certificate().await;
    told(&world, "Disconnected", "Connected", "CertificateNotTrusted", &[&secret, "kubectl bind", "CA"]).await;
    let seen = asked(proxy, Duration::from_secs(3)).await;
    assert!(seen.is_empty(), "the credential was shown to a server that is not trusted: {seen:?}");
    proxy.restore_certificate(before).await;
    world.phase(&world.binding(0), "Connected").await;
    // The provider has moved to another CA for good, and the credential is renewed: what a new bind does.
    let _ = proxy.change_certificate().await;
    told(&world, "Disconnected", "Connected", "CertificateNotTrusted", &[&secret]).await;
    apply(&world, &["two".to_owned()]).await;
    let site = &world.consumers[0].site;
    let live = site.get(&core("secrets"), "kube-bind", &world.binding(0)).await.unwrap();
    let decode = |text: &Value| {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::STANDARD.decode(text.as_str().unwrap()).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    let renewed = with_ca(&decode(&live["data"]["kubeconfig"]), &proxy.ca_pem());
    let name = world.binding(0);
    site.patch(&core("secrets"), "kube-bind", &name, &json!({"stringData": {"kubeconfig": renewed}})).await;
    world.phase(&name, "Connected").await;
    converged(&world, &["one".to_owned(), "two".to_owned()]).await;
    world.end().await;
}

/// The agent's own cluster: it can write nothing there, so it says it in its log.
#[tokio::test]
async fn an_agent_that_its_own_cluster_refuses_says_so_and_comes_back() {
    let mut world = world(211).await;
    world.make("default", "one", "one-token").await;
    world.consumer().stop_agent().await;
    let kubeconfig = testkit::program::file(world.folder(), "agent.kubeconfig", &world.consumers[0].agent_kubeconfig);
    let log = world.folder().join("agent.log");
    let mut agent = tokio::process::Command::new(super::PROGRAM)
        .args(["konnector", "--kubeconfig", &kubeconfig])
        .env("RUST_LOG", "info")
        .stdout(std::fs::File::create(&log).unwrap())
        .stderr(std::fs::File::options().append(true).open(&log).unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    apply(&world, &["two".to_owned()]).await;
    converged(&world, &["one".to_owned(), "two".to_owned()]).await;
    let proxy = consumer(&world);
    let faults: [(Fault, &[&str]); 3] = [
        (Fault::status(401), &["consumer", "Lease", "expired or was revoked, give this program a new one"]),
        (Fault::status(503), &["consumer", "Lease", "currently unable", "tried again by itself"]),
        (Fault::too_many(2), &["consumer", "Lease", "too many requests", "tried again by itself"]),
    ];
    for (number, (fault, words)) in faults.into_iter().enumerate() {
        let mark = std::fs::read_to_string(&log).unwrap().len();
        proxy.when(all(), fault);
        proxy.cut_watches();
        within(SECONDS, "the log says it", async || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let text = &text[mark.min(text.len())..];
            if words.iter().all(|word| text.contains(word)) { Ok(()) } else { Err(text.to_owned()) }
        })
        .await;
        let seen = asked(proxy, Duration::from_secs(6)).await;
        assert!(seen.len() < 80, "{} requests in 6 s", seen.len());
        proxy.well();
        let name = format!("after{number}");
        apply(&world, std::slice::from_ref(&name)).await;
        world.running("default", &name).await;
    }
    let untrusted = proxy.change_certificate().await;
    within(SECONDS, "the log names the CA", async || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        if text.contains("put the cluster's present CA there") { Ok(()) } else { Err(text) }
    })
    .await;
    proxy.restore_certificate(untrusted).await;
    apply(&world, &["last".to_owned()]).await;
    world.running("default", "last").await;
    assert!(agent.try_wait().unwrap().is_none(), "without a restart");
    let _ = agent.kill().await;
    world.end().await;
}

#[tokio::test]
async fn a_schema_that_the_consumers_api_server_refuses_is_told_in_its_words_and_bound_when_it_is_taken() {
    let world = World::with_faults(super::PROGRAM, Service::new(212)).await;
    let service = world.service();
    let words = "CustomResourceDefinition is invalid: spec.validation: Forbidden: rule cost exceeds the budget";
    let proxy = consumer(&world);
    let matches = || on("PATCH", &["/customresourcedefinitions/", &service.crd_name()]);
    proxy.when(matches(), Fault::invalid(words));
    let ended = world.bind(0, 0).await.refused(&["cannot be connected", "rule cost exceeds the budget", "consumer"]);
    assert_eq!(ended.stdout.matches("rule cost exceeds the budget").count(), 1, "{}", ended.stdout);
    let site = &world.consumers[0].site;
    assert!(site.get(&bindings(), "", &service.plural).await.is_none(), "it was taken back");
    proxy.well();
    let _ = world.bind(0, 0).await.ok();
    world.make("default", "one", "one-token").await;
    // A new form that is refused: the old one stays in use, the binding says why, and it ends by itself.
    proxy.when(matches(), Fault::invalid(words));
    let template = ours("apiserviceexporttemplates", "APIServiceExportTemplate");
    let follow = json!({"spec": {"schemaUpdatePolicy": "Always"}});
    world.providers[0].site.patch(&template, "", &service.plural, &follow).await;
    let version = json!([{"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/more", "value": {"type": "string"}}]);
    let api = &world.providers[0].site.api;
    let key = kube_client::store::ObjectKey::cluster(&service.crd_name());
    let manager = kube_client::api::FieldManager("scenario");
    let part = kube_client::api::Subresource::Main;
    api.json_patch(&crds(), &key, part, &version, manager).await.unwrap();
    told(&world, "Failed", "SchemaInSync", "CustomResourceDefinitionUpdateFailed", &["consumer", "rule cost"]).await;
    apply(&world, &["two".to_owned()]).await;
    converged(&world, &["one".to_owned(), "two".to_owned()]).await;
    proxy.well();
    world.phase(&service.plural, "Connected").await;
    world.end().await;
}

#[tokio::test]
async fn an_api_that_fails_is_named_and_the_rest_works() {
    let world = world(213).await;
    world.make("default", "one", "one-token").await;
    // An aggregated API that nobody here needs.
    for proxy in [provider(&world), consumer(&world)] {
        proxy.when(group("metrics.k8s.io"), Fault::status(503));
    }
    world.make("default", "two", "two-token").await;
    // The contract's own kinds: the provider answers, and cannot say what is offered.
    let proxy = provider(&world);
    proxy.when(on("GET", &["/boundschemas"]), Fault::status(403));
    proxy.gone();
    told(&world, "Connected", "InformersSynced", "WatchFailed", &["provider", "boundschemas"]).await;
    world.make("default", "three", "three-token").await;
    proxy.well();
    eventually("it is well again", async || {
        let status = world.consumers[0].binding_status(&world.binding(0)).await;
        let ready = status["conditions"].as_array().cloned().unwrap_or_default();
        let well =
            ready.iter().any(|condition| condition["type"] == "InformersSynced" && condition["status"] == "True");
        if well { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    // What binding needs of our own cluster: side, object and words stand in the binding.
    let ours = consumer(&world);
    let name = world.binding(0);
    let crd = world.service().crd_name();
    ours.when(on("GET", &["/customresourcedefinitions/", &crd]), Fault::status(500));
    let touch = json!({"metadata": {"annotations": {"touched": "yes"}}});
    world.consumers[0].site.patch(&bindings(), "", &name, &touch).await;
    told(&world, "Connected", "Connected", "ReconcileFailed", &["consumer", &crd, "an error on the server", "log"])
        .await;
    world.make("default", "four", "four-token").await;
    ours.well();
    eventually("it is well again", async || {
        let status = world.consumers[0].binding_status(&name).await;
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let well = conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        if well { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    // What the provider is told cannot be written: objects go on.
    proxy.when(on("PATCH", &["/apiserviceexports/"]), Fault::status(500));
    let resource = world.service().resource();
    world.consumers[0].site.delete(&resource, "default", "one").await;
    eventually("deletion goes on", async || world.copy(0, "one").await.map_or(Ok(()), |copy| Err(copy.to_string())))
        .await;
    proxy.well();
    world.end().await;
}
