//! Who uses the processor. In: `/proc`. Out: processor time of this program and of all it started, by what they are: API
//! servers (with etcd and the controllers), the agent, and the rest (load generator, floor, backend).
//!
//! Wall clock times hang on what else the machine does; these hardly do, so they tell what a change of the agent costs.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Processor time used so far, user and system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Processor {
    /// kube-apiserver, etcd and kube-controller-manager, on both sides.
    pub servers: Duration,
    /// The agent.
    pub agent: Duration,
    /// This program and what else it started.
    pub rest: Duration,
}

impl Processor {
    /// Of this program and of everything below it that runs now; `agent` is the agent's process.
    pub fn now(agent: u32) -> Result<Self> {
        let mut all: HashMap<u32, Process> = HashMap::new();
        for entry in std::fs::read_dir("/proc").context("no /proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // What ended meanwhile is not counted.
            if let Some(process) = Process::read(pid) {
                all.insert(pid, process);
            }
        }
        let own = std::process::id();
        let below = |mut pid: u32| loop {
            if pid == own {
                return true;
            }
            match all.get(&pid) {
                Some(process) if process.parent != 0 => pid = process.parent,
                _ => return false,
            }
        };
        let mut used = Self::default();
        for (pid, process) in all.iter().filter(|(pid, _)| below(**pid)) {
            let sum = match process.name.as_str() {
                _ if *pid == agent => &mut used.agent,
                // The kernel keeps 15 bytes of a name.
                "kube-apiserver" | "etcd" | "kube-controller" => &mut used.servers,
                _ => &mut used.rest,
            };
            *sum += process.used;
        }
        Ok(used)
    }

    /// What was used since `before`, by each of so many objects, as `16.2 ms (servers 14.1, agent 1.3, load 0.8)`.
    pub fn each(self, before: Self, objects: f64) -> Each {
        let ms = |after: Duration, before: Duration| after.saturating_sub(before).as_secs_f64() * 1000.0 / objects;
        Each {
            servers: ms(self.servers, before.servers),
            agent: ms(self.agent, before.agent),
            rest: ms(self.rest, before.rest),
        }
    }
}

/// Processor time for one object, milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Each {
    /// As in [`Processor`].
    pub servers: f64,
    /// As in [`Processor`].
    pub agent: f64,
    /// As in [`Processor`].
    pub rest: f64,
}

impl Each {
    /// All of it.
    pub fn sum(self) -> f64 {
        self.servers + self.agent + self.rest
    }
}

impl std::fmt::Display for Each {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} ms (API servers {:.1}, load {:.1}", self.sum(), self.servers, self.rest)?;
        match self.agent >= 0.05 {
            true => write!(f, ", agent {:.1})", self.agent),
            false => write!(f, ")"),
        }
    }
}

struct Process {
    name: String,
    parent: u32,
    used: Duration,
}

impl Process {
    /// proc(5): the name stands in parentheses and may hold spaces; then state, parent, and as fields 14 and 15 the times
    /// in ticks of 10 ms.
    fn read(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (start, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            name: start.split_once('(')?.1.to_owned(),
            parent: number(1)?.try_into().ok()?,
            used: Duration::from_millis(10 * (number(11)? + number(12)?)),
        })
    }
}

/// Processor time of one process, user and system.
pub fn of(pid: u32) -> Result<Duration> {
    Ok(Process::read(pid).context("the process has ended")?.used)
}
