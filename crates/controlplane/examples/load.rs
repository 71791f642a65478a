//! Numbers of a control plane in this process: `cargo run --release -p controlplane --example load -- [clusters] [writes]`.
//!
//! Prints a table: start to ready, creation and memory of empty logical clusters, writes per second (in memory and on
//! SQLite), delivery to a watch across all clusters.

use std::error::Error;
use std::time::Duration;

use controlplane::store::{Scope, TableId};
use controlplane::{ControlPlane, ObjectRef, Options};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut args = std::env::args().skip(1);
    let clusters: u32 = args.next().map_or(Ok(1000), |n| n.parse())?;
    let writes: u32 = args.next().map_or(Ok(5000), |n| n.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let begun = Instant::now();
        let plane = ControlPlane::start(Options::default()).await?;
        row("start to ready", format!("{:?}", begun.elapsed()));

        let before = resident()?;
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        let api = plane.api();
        for task in 0..8 {
            let core = api.core().clone();
            tasks.spawn(async move {
                for n in (task..clusters).step_by(8) {
                    core.create_cluster(&format!("c{n}")).await.map_err(|e| e.to_string())?;
                }
                Ok::<_, String>(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        let spent = begun.elapsed();
        row("logical clusters made per second", format!("{:.0}", f64::from(clusters) / spent.as_secs_f64()));
        tokio::time::sleep(Duration::from_secs(3)).await; // the controllers furnish the namespaces
        plane.api().core().store.compact(u64::MAX);
        let each = resident()?.saturating_sub(before) / u64::from(clusters.max(1));
        row("memory of an empty logical cluster", format!("{} KiB", each / 1024));
        row("writes per second, memory", rate(&plane, writes).await?);
        plane.shutdown().await;

        let folder = std::env::temp_dir().join(format!("load-{}", std::process::id()));
        let options = Options { data_dir: Some(folder.clone()), ..Options::default() };
        let plane = ControlPlane::start(options).await?;
        row("writes per second, SQLite", rate(&plane, writes).await?);
        plane.shutdown().await;
        std::fs::remove_dir_all(folder)?;
        Ok(())
    })
}

fn row(what: &str, value: impl std::fmt::Display) {
    println!("{what:<40} {value}");
}

/// Creates ConfigMaps from 64 tasks, and measures when a watch across all clusters sees them.
async fn rate(plane: &ControlPlane, writes: u32) -> Result<String, Box<dyn Error>> {
    let store = plane.api().core().store.clone();
    let (_, mut watch) = store.list_and_watch(&TableId::new("", "configmaps"), &Scope::All, usize::MAX);
    let seen = tokio::spawn(async move {
        let mut seen = 0;
        while seen < writes {
            match watch.recv().await {
                Some(event) if event.object.key.name.starts_with("load-") => seen += 1,
                Some(_) => {}
                None => break,
            }
        }
        Instant::now()
    });
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for task in 0..64 {
        let api = plane.api();
        tasks.spawn(async move {
            for n in (task..writes).step_by(64) {
                let object =
                    ObjectRef { cluster: "default", group: "", resource: "configmaps", namespace: "default", name: "" };
                let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("load-{n}")},
                    "data": {"payload": "x".repeat(1000)}});
                api.create(object, body).await.map_err(|e| e.to_string())?;
            }
            Ok::<_, String>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let spent = begun.elapsed();
    let late = seen.await?.saturating_duration_since(begun + spent);
    Ok(format!("{:.0} (the watch was {late:?} behind at the end)", f64::from(writes) / spent.as_secs_f64()))
}

/// Resident memory of this process, bytes (Linux).
fn resident() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? * 1024)
}
