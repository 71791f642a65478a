//! Programs that are killed for real (S11): the agent as a process of its own in the middle of 500 writes, and the backend
//! in the middle of binds. SIGKILL, at different moments, several times; what is left must be what was asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IteratorRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use testkit::daemon::{self, Daemon};
use testkit::service::Service;
use testkit::site::{bindings, core, ours};
use testkit::world::World;
use testkit::{stays, within};

use super::sync::{differences, rest, revisions};

/// 500 writes are some work for a debug build on a shared machine.
const LONG: Duration = Duration::from_secs(180);
const WRITES: usize = 500;

/// What the consumer wants: objects by name, with their size.
type Wanted = BTreeMap<String, u64>;

/// Creates, changes or deletes an object, and notes it.
async fn write(world: &World, random: &mut StdRng, wanted: &mut Wanted, number: usize) {
    let service = world.service();
    let site = &world.consumers[0].site;
    let dice: f64 = random.random();
    let known = wanted.keys().choose(random).cloned();
    match known {
        Some(name) if dice < 0.2 => {
            site.delete(&service.resource(), "default", &name).await;
            wanted.remove(&name);
        }
        Some(name) if dice < 0.5 => {
            let patch = json!({"spec": {"size": 1000 + number}});
            site.patch(&service.resource(), "default", &name, &patch).await;
            wanted.insert(name, 1000 + number as u64);
        }
        _ => {
            // A name that was never used: what was deleted must not be mistaken for what is new.
            let name = format!("n{number}");
            let mut object = service.object("default", &name, "unused");
            object["spec"]["size"] = json!(number);
            site.apply(&service.resource(), &object).await;
            wanted.insert(name, number as u64);
        }
    }
}

fn sizes(objects: &[Value], pointer: &str) -> Vec<(String, u64)> {
    let size = |object: &Value| {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        (name, object.pointer(pointer).and_then(Value::as_u64).unwrap_or(u64::MAX))
    };
    let mut sizes: Vec<_> = objects.iter().map(size).collect();
    sizes.sort();
    sizes
}

/// Waits until both sides are exactly as wanted: no object lost, none twice, none left, every status back.
async fn agreed(world: &World, wanted: &Wanted) {
    let service = world.service();
    let expected: Vec<(String, u64)> = wanted.iter().map(|(name, size)| (name.clone(), *size)).collect();
    for (site, pointer, what) in [
        (&world.consumers[0].site, "/spec/size", "the consumer's objects"),
        (&world.providers[0].site, "/spec/size", "the provider's copies"),
        (&world.consumers[0].site, "/status/saw", "what the operator saw, back at the consumer"),
    ] {
        within(LONG, &format!("{what} are those that are wanted"), async || {
            let seen = sizes(&site.list(&service.resource()).await, pointer);
            let strange = seen.iter().filter(|one| !expected.contains(one)).collect::<Vec<_>>();
            let missing = expected.iter().filter(|one| !seen.contains(one)).collect::<Vec<_>>();
            if seen == expected {
                Ok(())
            } else {
                Err(format!("{} of {}; strange: {strange:?}; missing: {missing:?}", seen.len(), expected.len()))
            }
        })
        .await;
    }
}

/// UIDs of the provider's copies by name.
async fn uids(world: &World) -> BTreeMap<String, Value> {
    let copies = world.providers[0].site.list(&world.service().resource()).await;
    let uid = |copy: &Value| (copy["metadata"]["name"].as_str().unwrap().to_owned(), copy["metadata"]["uid"].clone());
    copies.iter().map(uid).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_program_killed_again_and_again_in_500_writes_loses_and_doubles_nothing() {
    let mut world = World::bound(super::PROGRAM, Service::new(181).without_claims()).await;
    world.consumer().stop_agent().await;
    let folder = world.folder().to_owned();
    let mut random = StdRng::seed_from_u64(181);
    let mut wanted = Wanted::new();
    let mut early = BTreeMap::new();
    let mut agent: Option<Daemon> = Some(daemon::agent(&world.consumers[0], &folder, "scenario"));
    daemon::leads(&world.consumers[0], "scenario").await;
    for number in 0..WRITES {
        match number {
            // Killed at work; killed again while it starts and looks through everything; away for a while; once more.
            60 | 250 | 420 => {
                early.extend(uids(&world).await);
                agent.take().unwrap().kill().await;
            }
            90 | 300 | 421 => agent = Some(daemon::agent(&world.consumers[0], &folder, "scenario")),
            120 => {
                agent.take().unwrap().kill().await;
                let brief = daemon::agent(&world.consumers[0], &folder, "scenario");
                tokio::time::sleep(Duration::from_millis(random.random_range(100..600))).await;
                brief.kill().await;
                agent = Some(daemon::agent(&world.consumers[0], &folder, "scenario"));
            }
            _ => {}
        }
        write(&world, &mut random, &mut wanted, number).await;
    }
    assert!(wanted.len() > 100 && early.len() > 20, "{} wanted, {} copies before kills", wanted.len(), early.len());
    agreed(&world, &wanted).await;
    let copies = uids(&world).await;
    for (name, uid) in early.iter().filter(|(name, _)| wanted.contains_key(*name)) {
        assert_eq!(copies.get(name), Some(uid), "the copy of {name} was made anew");
    }

    // At rest; then another agent takes over, as after the loss of a machine: it writes nothing.
    let before = rest(&world, LONG, Duration::from_secs(1)).await;
    agent.take().unwrap().kill().await;
    let agent = daemon::agent(&world.consumers[0], &folder, "another");
    daemon::leads(&world.consumers[0], "another").await;
    stays("the new agent writes nothing", Duration::from_secs(4), async || {
        let changed = differences(&before, &revisions(&world).await);
        if changed.is_empty() { Ok(()) } else { Err(changed.join("\n")) }
    })
    .await;
    // It is not idle because it is dead.
    world.make("default", "last", "unused").await;
    wanted.insert("last".to_owned(), 2);
    agreed(&world, &wanted).await;
    let after = revisions(&world).await;
    let touched: Vec<_> = before.iter().filter(|one| !after.contains(one)).collect();
    assert!(touched.is_empty(), "{touched:?}");
    agent.terminate().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_killed_in_the_middle_of_a_bind_leaves_a_bind_that_works_or_can_be_repeated() {
    let mut world = World::new(super::PROGRAM, Service::new(182)).await;
    let service = world.service();
    let name = service.plural.clone();
    world.provider().stop_backend().await;
    let folder = world.folder().to_owned();
    let mut backend = daemon::backend(&world.providers[0], &world.consumers[0].person.program, &folder);
    daemon::answers(&world.providers[0]).await;
    let server = world.providers[0].server.clone();
    let person = world.consumers[0].person.clone();
    let _ = person.log_in(&server, &world.logins[0]).await.ok();
    let words = [server.as_str(), "--template", &name, "--accept-claims", "--wait", "60"];
    let mut ends = Vec::new();
    for (milliseconds, away) in [(40, 300), (300, 0), (900, 2000), (1300, 0), (1800, 1000)] {
        let (binder, typed) = (person.clone(), words.map(str::to_owned));
        let command = tokio::spawn(async move {
            let words: Vec<&str> = typed.iter().map(String::as_str).collect();
            binder.bind(&words, "").await
        });
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        backend.kill().await;
        tokio::time::sleep(Duration::from_millis(away)).await;
        backend = daemon::backend(&world.providers[0], &world.consumers[0].person.program, &folder);
        let ended = command.await.unwrap();
        daemon::answers(&world.providers[0]).await;
        ends.push((milliseconds, ended.success, ended.stderr.clone()));
        if !ended.success {
            // One message, no half bind, and the same command again does it.
            assert_eq!(ended.stderr.matches("error:").count(), 1, "{}", ended.stderr);
            assert!(world.consumers[0].site.get(&bindings(), "", &name).await.is_none(), "{}", ended.stderr);
            let _ = person.bind(&words, "").await.ok();
        }
        world.phase(&name, "Connected").await;
        world.make("default", "one", "one-token").await;
        let contracts = world.providers[0].site.list(&ours("clusterbindings", "ClusterBinding")).await;
        assert_eq!(contracts.len(), 1, "one contract, however often it was asked for");
        let credentials = world.consumers[0].site.list(&core("secrets")).await;
        assert_eq!(credentials.iter().filter(|secret| secret["data"]["kubeconfig"].is_string()).count(), 1);
        let _ = person.bind(&["unbind", &name, "--delete-objects"], "").await.ok();
        gone(&world).await;
    }
    eprintln!("how the binds ended: {ends:?}");
    backend.kill().await;
    world.end().await;
}

/// Waits until nothing of a contract is left at the provider.
async fn gone(world: &World) {
    let there = &world.providers[0].site;
    within(LONG, "the contract is gone at the provider", async || {
        let contracts = there.names(&ours("clusterbindings", "ClusterBinding")).await;
        let namespaces = there.names(&core("namespaces")).await;
        let left: Vec<_> = namespaces.into_iter().filter(|name| name.contains("cluster-")).collect();
        if contracts.is_empty() && left.is_empty() { Ok(()) } else { Err(format!("{contracts:?} {left:?}")) }
    })
    .await;
}
