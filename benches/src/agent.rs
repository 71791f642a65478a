//! The agent as a process of its own. In: its kubeconfig. Out: its memory, its processor time, its counters.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(30);
/// Processor time in a second below which a process is at rest.
const REST: Duration = Duration::from_millis(30);

/// A running agent; killed when dropped.
pub struct Agent {
    child: Child,
    pid: u32,
    address: String,
    started: Instant,
}

/// Memory of a process, MiB.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    /// All of it that is resident.
    pub rss: f64,
    /// The part that is not the program's file: heap, stacks, relocations.
    pub own: f64,
}

impl std::fmt::Display for Footprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} MiB (of it {:.1} of its own)", self.rss, self.own)
    }
}

/// Writes that the agent counted.
#[derive(Clone, Copy, Debug)]
pub struct Writes {
    /// To the consumer.
    pub consumer: u64,
    /// To the provider.
    pub provider: u64,
}

impl Agent {
    /// Starts it and waits until it holds its Lease and its caches are filled. Its log goes beside the kubeconfig.
    pub async fn start(kubeconfig: &Path) -> Result<Self> {
        let address = testkit::ports::free().to_string();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(kubeconfig.with_extension("log"))?;
        let mut command = match shipped() {
            Some(program) => Command::new(program),
            None => {
                let mut command = Command::new(program()?);
                command.arg("konnector");
                command
            }
        };
        command.args(["--log-level", "warn", "--server-address", &address, "--kubeconfig"]).arg(kubeconfig);
        command.env_remove("RUST_LOG").env_remove("POD_NAME").env_remove("POD_NAMESPACE");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        let started = Instant::now();
        let child = command.spawn().context("cannot start the agent")?;
        let pid = child.id().context("the agent ended at once")?;
        let agent = Self { child, pid, address, started };
        while !agent.leads().await {
            if started.elapsed() > PATIENCE {
                bail!("the agent does not take its Lease within {} s", PATIENCE.as_secs());
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(agent)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// When its process was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Ends it as an orchestrator does; it gives its Lease back.
    pub async fn stop(mut self) -> Result<()> {
        let sent =
            Command::new("kill").args(["-TERM", &self.pid.to_string()]).status().await.context("cannot run kill")?;
        if !sent.success() {
            bail!("kill -TERM {}: {sent}", self.pid);
        }
        tokio::time::timeout(PATIENCE, self.child.wait()).await.context("the agent does not end")??;
        Ok(())
    }

    /// Waits until it has nothing to do; the time at which that began, and the processor time it had used by then.
    pub async fn at_rest(&self, limit: Duration) -> Result<(Instant, Duration)> {
        let begun = Instant::now();
        let mut looks: Vec<(Instant, Duration)> = Vec::new();
        loop {
            let now = Instant::now();
            let used = crate::processor::of(self.pid)?;
            looks.push((now, used));
            let second = looks.iter().rev().find(|(at, _)| now - *at >= Duration::from_secs(1));
            if let Some((at, before)) = second
                && used - *before <= REST
            {
                return Ok((*at, used));
            }
            if begun.elapsed() > limit {
                bail!("the agent does not come to rest within {} s", limit.as_secs());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// What it has in memory now.
    pub fn footprint(&self) -> Result<Footprint> {
        Ok(Footprint { rss: self.memory("VmRSS")?, own: self.memory("RssAnon")? })
    }

    /// Connections that it has open.
    pub fn connections(&self) -> Result<usize> {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.pid)).context("the agent has ended")?;
        let sockets = open.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
        Ok(sockets.filter(|target| target.to_string_lossy().starts_with("socket:")).count())
    }

    /// A line of `/proc/<pid>/status`, MiB.
    pub fn memory(&self, field: &str) -> Result<f64> {
        memory(&self.pid.to_string(), field)
    }

    /// What it has written so far.
    pub async fn writes(&self) -> Result<Writes> {
        let metrics = self.metrics().await?;
        Ok(Writes {
            consumer: total(&metrics, "konnector_writes_total", &["side=\"consumer\"", "outcome=\"ok\""]),
            provider: total(&metrics, "konnector_writes_total", &["side=\"provider\"", "outcome=\"ok\""]),
        })
    }

    /// How often it has begun a watch anew.
    pub async fn watch_restarts(&self) -> Result<u64> {
        Ok(total(&self.metrics().await?, "konnector_watch_restarts_total", &[]))
    }

    /// Objects of bound kinds it knows at the consumer.
    pub async fn objects(&self) -> Result<u64> {
        Ok(total(&self.metrics().await?, "konnector_objects", &[]))
    }

    async fn leads(&self) -> bool {
        let leads = self.metrics().await.is_ok_and(|text| value(&text, "konnector_leading") == Some(1));
        leads && self.get("/readyz").await.is_ok_and(|text| text.contains("200 OK"))
    }

    async fn metrics(&self) -> Result<String> {
        self.get("/metrics").await
    }

    async fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(&self.address).await?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n").as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }
}

fn value(metrics: &str, name: &str) -> Option<u64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

/// The sum of a metric over all its labels but those that do not have `labels`.
fn total(metrics: &str, name: &str, labels: &[&str]) -> u64 {
    let lines = metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once(' '));
    lines.filter(|(set, _)| labels.iter().all(|l| set.contains(l))).filter_map(|(_, n)| n.parse::<u64>().ok()).sum()
}

/// A line of `/proc/<pid>/status` in MiB; `self` is this process.
pub fn memory(pid: &str, field: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    Ok(kib.with_context(|| format!("no {field} in /proc/{pid}/status"))? / 1024.0)
}

/// The agent as it is shipped, if the environment names it: `KONNECTOR`.
pub fn shipped() -> Option<PathBuf> {
    std::env::var_os("KONNECTOR").filter(|path| !path.is_empty()).map(Into::into)
}

/// This program.
pub fn program() -> Result<PathBuf> {
    std::env::current_exe().context("cannot find this program")
}
