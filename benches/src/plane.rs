//! The control plane alone: start, creates, watch delivery, logical clusters. Out: rows of the table. Writes and watches go
//! over HTTPS with the client that the agent uses, so the client's own work is in the figures.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use controlplane::{ControlPlane, Options};
use futures::StreamExt as _;
use kube_client::api::{Api, ListQuery};
use kube_client::connect;
use kube_client::resource::Resource;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::agent::{memory, program};
use crate::table::{Table, median, percentiles};

const STARTS: usize = 7;
const RUNS: usize = 3;
/// One run of creates.
const SPELL: Duration = Duration::from_millis(1500);
/// Bytes of payload of what is created.
const PAYLOAD: usize = 1024;
const TENANTS: usize = 10;
const CLUSTERS: usize = 1000;

/// All rows about the control plane.
pub async fn measure(table: &mut Table) -> Result<()> {
    start(table).await?;
    creates(table).await?;
    delivery(table).await?;
    clusters(table).await
}

/// One measurement in this fresh process; prints numbers on one line.
pub async fn probe(what: &str, rest: &[&str], begun: Instant) -> Result<()> {
    match (what, rest) {
        ("start", folder) => {
            let plane = plane(folder.first().map(Path::new)).await?;
            let api = connect(&plane, "default").await?;
            api.raw_get("/version").await?;
            println!("{} {}", begun.elapsed().as_secs_f64() * 1000.0, memory("self", "VmRSS")?);
            plane.shutdown().await;
        }
        ("clusters", [count]) => {
            let plane = Arc::new(plane(None).await?);
            let count: usize = count.parse()?;
            // The first one pays for what all share.
            plane.create_cluster("first").await.map_err(|error| anyhow::anyhow!("{error}"))?;
            sleep(Duration::from_secs(1)).await;
            let before = memory("self", "VmRSS")?;
            let begun = Instant::now();
            let mut tasks = JoinSet::new();
            for task in 0..8 {
                let plane = plane.clone();
                tasks.spawn(async move {
                    for n in (task..count).step_by(8) {
                        plane.create_cluster(&format!("c{n}")).await.map_err(|error| error.to_string())?;
                    }
                    Ok::<_, String>(())
                });
            }
            while let Some(done) = tasks.join_next().await {
                done?.map_err(anyhow::Error::msg)?;
            }
            let rate = count as f64 / begun.elapsed().as_secs_f64();
            // The controllers furnish the namespaces; done when nothing is written for a second.
            let store = plane.api().core().store.clone();
            let mut last = store.revision();
            let mut since = Instant::now();
            while since.elapsed() < Duration::from_secs(1) {
                sleep(Duration::from_millis(100)).await;
                if store.revision() != last {
                    (last, since) = (store.revision(), Instant::now());
                }
            }
            let with_history = memory("self", "VmRSS")?;
            store.compact(u64::MAX);
            sleep(Duration::from_millis(500)).await;
            let after = memory("self", "VmRSS")?;
            let each = |now: f64| (now - before) * 1024.0 / count as f64;
            println!("{rate} {} {} {before}", each(after), each(with_history));
        }
        other => bail!("unknown probe {other:?}"),
    }
    Ok(())
}

/// The numbers that this program prints as a probe.
async fn ask(words: &[&str]) -> Result<Vec<f64>> {
    let mut command = tokio::process::Command::new(program()?);
    command.arg("probe").args(words).kill_on_drop(true);
    let output =
        tokio::time::timeout(Duration::from_secs(60), command.output()).await.context("the probe does not end")??;
    if !output.status.success() {
        bail!("probe {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace()
        .map(|word| word.parse().with_context(|| format!("probe {words:?} printed {text:?}")))
        .collect()
}

async fn plane(folder: Option<&Path>) -> Result<ControlPlane> {
    Ok(ControlPlane::start(Options { data_dir: folder.map(Path::to_owned), ..Options::default() }).await?)
}

async fn connect(plane: &ControlPlane, cluster: &str) -> Result<Api> {
    Ok(Api::new(connect::from_kubeconfig(&plane.admin_kubeconfig(cluster), None).await?.client, cluster))
}

async fn start(table: &mut Table) -> Result<()> {
    let (mut memory, mut fresh, mut again, mut resident) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("data");
        let path = path.to_str().context("the temporary folder's name is not UTF-8")?;
        for (times, words) in
            [(&mut memory, &["start"] as &[&str]), (&mut fresh, &["start", path]), (&mut again, &["start", path])]
        {
            let numbers = ask(words).await?;
            times.extend(numbers.first());
            if words.len() == 1 {
                resident.extend(numbers.get(1));
            }
        }
    }
    let how = format!("fresh process: `main` to the first answer over HTTPS; median of {STARTS}");
    table.row("start to ready, memory", format!("{:.0} ms", median(memory)), how.clone());
    table.row("start to ready, SQLite, new folder", format!("{:.0} ms", median(fresh)), how.clone());
    table.row("start to ready, SQLite, same folder again", format!("{:.0} ms", median(again)), how);
    table.row(
        "memory of an empty control plane",
        format!("{:.1} MiB", median(resident)),
        "RSS at that moment, client included",
    );
    Ok(())
}

fn configmaps() -> Resource {
    Resource::new("", "v1", "configmaps", "ConfigMap")
}

fn body(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"payload": "x".repeat(PAYLOAD)}})
}

async fn creates(table: &mut Table) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let planes = [plane(None).await?, plane(Some(&folder.path().join("data"))).await?];
    let mut rates = [[Vec::new(), Vec::new()], [Vec::new(), Vec::new()]];
    for run in 0..RUNS {
        for (store, plane) in planes.iter().enumerate() {
            for (column, writers) in [1, 16].into_iter().enumerate() {
                let rate = create_for(plane, writers, &format!("r{run}-w{writers}")).await?;
                rates[store][column].push(rate);
            }
        }
    }
    for plane in planes {
        plane.shutdown().await;
    }
    let [[memory1, memory16], [sqlite1, sqlite16]] = rates.map(|columns| columns.map(median));
    let how = format!("ConfigMaps of {PAYLOAD} bytes over HTTPS; median of {RUNS} turns of {} s", SPELL.as_secs_f64());
    let mut row = |what: &str, rate: f64, than: f64| {
        let ratio = format!("{how}; {:.2} of memory", rate / than);
        table.row(what, format!("{rate:.0}/s"), if rate == than { how.clone() } else { ratio });
    };
    row("creates, memory, 1 writer", memory1, memory1);
    row("creates, SQLite, 1 writer", sqlite1, memory1);
    row("creates, memory, 16 writers", memory16, memory16);
    row("creates, SQLite, 16 writers", sqlite16, memory16);
    Ok(())
}

async fn create_for(plane: &ControlPlane, writers: usize, prefix: &str) -> Result<f64> {
    let mut tasks = JoinSet::new();
    let begun = Instant::now();
    for writer in 0..writers {
        let api = connect(plane, "default").await?;
        let prefix = format!("{prefix}-{writer}");
        tasks.spawn(async move {
            let mut count = 0u32;
            while begun.elapsed() < SPELL {
                api.create(&configmaps(), Some("default"), &body(&format!("{prefix}-{count}"))).await?;
                count += 1;
            }
            anyhow::Ok(count)
        });
    }
    let mut count = 0;
    while let Some(done) = tasks.join_next().await {
        count += done??;
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}

/// Writes at a given rate whatever the answers do, into ten logical clusters; one watch sees all of them.
async fn delivery(table: &mut Table) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let plane = plane(Some(&folder.path().join("data"))).await?;
    let mut apis = Vec::new();
    for tenant in 0..TENANTS {
        let name = format!("tenant{tenant}");
        plane.create_cluster(&name).await.map_err(|error| anyhow::anyhow!("{error}"))?;
        apis.push(connect(&plane, &name).await?);
    }
    let everything = connect(&plane, "*").await?;
    for (rate, seconds) in [(200u32, 5u32), (1000, 5)] {
        // The connections are made before.
        deliver(&apis, &everything, rate, rate / 2, &format!("warm{rate}")).await?;
        let (latencies, failed) = deliver(&apis, &everything, rate, rate * seconds, &format!("at{rate}")).await?;
        let failed = if failed == 0 { String::new() } else { format!("; **{failed} writes failed**") };
        table.row(
            format!("watch delivery at {rate} writes/s, p50 / p99 / max"),
            percentiles(latencies),
            format!(
                "SQLite; one watch across {TENANTS} logical clusters; from the time the write was due (open loop) to its \
                 event, {seconds} s{failed}"
            ),
        );
    }
    plane.shutdown().await;
    Ok(())
}

#[derive(Deserialize)]
struct Named {
    metadata: Name,
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

async fn deliver(apis: &[Api], everything: &Api, rate: u32, count: u32, prefix: &str) -> Result<(Vec<Duration>, u32)> {
    let page = everything.list_page(&configmaps(), &ListQuery::default(), 1, None).await?;
    let mut stream =
        everything.watch(&configmaps(), &ListQuery::default(), &page.revision, Duration::from_secs(120)).await?;
    let seen: Arc<Mutex<Vec<Option<Instant>>>> = Arc::new(Mutex::new(vec![None; count as usize]));
    let (note, start) = (seen.clone(), format!("{prefix}-"));
    let watcher = tokio::spawn(async move {
        let mut left = count;
        while left > 0 {
            let frame = stream.next().await.context("the watch ended")??;
            let now = Instant::now();
            let Ok(object) = serde_json::from_str::<Named>(frame.object.get()) else { continue };
            let number = object.metadata.name.strip_prefix(&start).and_then(|number| number.parse::<usize>().ok());
            if let Some(place) =
                number.and_then(|number| note.lock().get_mut(number).map(|place| place.replace(now).is_none()))
                && place
            {
                left -= 1;
            }
        }
        anyhow::Ok(())
    });
    let begun = Instant::now() + Duration::from_millis(100);
    let due = |number: u32| begun + Duration::from_secs(1) * number / rate;
    let mut tasks = JoinSet::new();
    for number in 0..count {
        sleep_until(due(number)).await;
        let api = apis[number as usize % apis.len()].clone();
        let name = format!("{prefix}-{number}");
        tasks.spawn(async move { api.create(&configmaps(), Some("default"), &body(&name)).await.map(drop) });
    }
    let mut failed = 0;
    while let Some(done) = tasks.join_next().await {
        if let Err(error) = done? {
            eprintln!("{error}");
            failed += 1;
        }
    }
    let patience = Duration::from_secs(if failed == 0 { 30 } else { 3 });
    match tokio::time::timeout(patience, watcher).await {
        Ok(ended) => ended??,
        // It waits for the ones that failed.
        Err(_) if failed > 0 => {}
        Err(_) => bail!("the watch does not deliver within {} s", patience.as_secs()),
    }
    let seen = seen.lock();
    let latencies =
        seen.iter().zip(0..).filter_map(|(at, number)| at.map(|at| at.saturating_duration_since(due(number))));
    Ok((latencies.collect(), failed))
}

async fn clusters(table: &mut Table) -> Result<()> {
    let count = CLUSTERS.to_string();
    let (mut rates, mut each, mut history) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let numbers = ask(&["clusters", &count]).await?;
        let [rate, compacted, with_history, _] = numbers[..] else { bail!("the probe printed {numbers:?}") };
        rates.push(rate);
        each.push(compacted);
        history.push(with_history);
    }
    table.row(
        format!("memory of an empty logical cluster, of {CLUSTERS}"),
        format!("{:.1} KiB", median(each)),
        format!("memory store, fresh process, growth of RSS / {CLUSTERS} after compaction ({:.1} KiB before it); median of {RUNS}", median(history)),
    );
    table.row(
        "creation of logical clusters",
        format!("{:.0}/s", median(rates)),
        format!("memory store, in process, 8 at once; median of {RUNS}"),
    );
    Ok(())
}
