//! Both sides with the agent between them: delay at a steady rate, 10,000 objects at once, restart, memory. Out: rows of
//! the table.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use kube_client::api::{Api, FieldManager, Subresource};
use kube_client::resource::Resource;
use serde_json::{Value, json};
use testkit::service::Service;
use testkit::world::World;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::agent::{Agent, program};
use crate::side::{Operator, Side, until};
use crate::table::{Table, percentiles};

/// Objects of the large tests (few in a debug build, which only shows that everything works).
pub const MANY: usize = if cfg!(debug_assertions) { 500 } else { 10_000 };
/// Of the test of delay.
pub const RATE: u32 = 100;
const SECONDS: u32 = 10;
/// Objects lie in so many namespaces of the consumer.
pub const NAMESPACES: usize = 10;
/// Size of an object's spec, roughly, bytes.
const SIZE: usize = 2048;
pub const LIMIT: Duration = Duration::from_secs(600);
const WRITERS: usize = 8;

/// Both sides, and who looks at them.
pub struct Bench {
    service: Service,
    /// The bound kind.
    pub resource: Resource,
    consumer: Api,
    /// What the consumer has.
    pub near: Arc<Side>,
    /// What the provider has.
    pub far: Arc<Side>,
    operator: Arc<Operator>,
}

/// What the objects of one run took.
#[derive(Default)]
pub struct Delays {
    /// Created to present on the provider.
    pub up: Vec<Duration>,
    /// Status sent to back on the consumer.
    pub down: Vec<Duration>,
    /// Created to status back.
    pub whole: Vec<Duration>,
}

/// All rows about the agent.
pub async fn measure(table: &mut Table) -> Result<()> {
    let program = program()?;
    let service = Service::new(7).without_claims();
    let mut world = World::new(program.to_str().context("this program's path is not UTF-8")?, service.clone()).await;
    // The agent runs as a process of its own, and the operator must not poll.
    world.provider().stop_operator().await;
    world.consumer().stop_agent().await;
    let kubeconfig = world.folder().join("agent.kubeconfig");
    std::fs::write(&kubeconfig, &world.consumer().agent_kubeconfig)?;
    let agent = Agent::start(&kubeconfig).await?;
    agent.at_rest(LIMIT).await?;
    let alone = agent.memory("VmRSS")?;
    let bound = world.bind(0, 0).await;
    if !bound.success {
        bail!("bind failed: {} {}", bound.stdout, bound.stderr);
    }
    agent.at_rest(LIMIT).await?;
    table.row(
        "memory of the agent, empty",
        format!("{:.1} MiB", agent.memory("VmRSS")?),
        format!("RSS, one binding, no objects; {alone:.1} MiB without a binding"),
    );

    let mut watches = JoinSet::new();
    let bench = Bench::start(&world, service, &mut watches).await?;

    bench.delay(table, "near empty", "few").await?;
    bench.removal(table).await?;
    let agent = bench.cold(table, agent, &kubeconfig).await?;
    let agent = bench.restart(table, agent, &kubeconfig).await?;
    let agent = bench.away(table, agent, &kubeconfig).await?;
    bench.delay(table, &format!("beside {MANY}"), "beside").await?;
    agent.stop().await?;
    watches.shutdown().await;
    world.end().await;
    Ok(())
}

/// Consumer namespace of an object.
pub fn namespace(number: usize) -> String {
    format!("team-{}", number % NAMESPACES)
}

impl Bench {
    /// Starts watches and operator; mapped namespaces and connections are there then.
    pub async fn start(world: &World, service: Service, watches: &mut JoinSet<()>) -> Result<Self> {
        let resource = service.resource();
        let (consumer, provider) = (world.consumers[0].site.api.clone(), world.providers[0].site.api.clone());
        let (told, news) = Operator::channel();
        let near = Side::follow(watches, &consumer, &resource, None).await?;
        let far = Side::follow(watches, &provider, &resource, Some(told)).await?;
        let operator = Operator::start(&provider, &resource, news);
        let bench = Self { service, resource, consumer, near, far, operator };
        for number in 0..NAMESPACES {
            world.consumers[0].site.namespace(&namespace(number)).await;
        }
        bench.create("warm", NAMESPACES * 2).await?;
        bench.settled(NAMESPACES * 2).await?;
        bench.delete_all().await?;
        Ok(bench)
    }

    /// An object of 2 KB.
    pub fn object(&self, name: &str, number: usize) -> Value {
        let mut object = self.service.object(&namespace(number), name, "unused");
        let notes: Vec<String> =
            (0..SIZE / 64).map(|line| format!("{line:03} {number:06} {}", "n".repeat(50))).collect();
        object["spec"]["notes"] = json!(notes);
        object
    }

    /// Creates one object.
    pub async fn make(&self, name: &str, number: usize) -> Result<()> {
        self.consumer.create(&self.resource, Some(&namespace(number)), &self.object(name, number)).await?;
        Ok(())
    }

    /// Changes the spec of an object.
    pub async fn change(&self, name: &str) -> Result<()> {
        let key = &self.near.get(name).context("lost")?.key;
        let patch = json!({"spec": {"notes": ["changed"]}});
        self.consumer.merge_patch(&self.resource, key, Subresource::Main, &patch, FieldManager("writer")).await?;
        Ok(())
    }

    /// Creates objects as fast as it goes.
    pub async fn create(&self, prefix: &str, count: usize) -> Result<()> {
        let mut tasks = JoinSet::new();
        for writer in 0..WRITERS {
            let objects: Vec<(usize, Value)> =
                (writer..count).step_by(WRITERS).map(|n| (n, self.object(&format!("{prefix}-{n}"), n))).collect();
            let (api, resource) = (self.consumer.clone(), self.resource.clone());
            tasks.spawn(async move {
                for (number, object) in objects {
                    api.create(&resource, Some(&namespace(number)), &object).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(())
    }

    /// Waits until both sides have so many objects, all with a status.
    pub async fn settled(&self, count: usize) -> Result<()> {
        let both = || self.far.count() == count && self.near.answered() == count;
        until(&format!("{count} objects have their status back"), LIMIT, both).await.with_context(|| self.state())
    }

    fn state(&self) -> String {
        format!(
            "consumer: {} objects, {} with status; provider: {}, {} with status",
            self.near.count(),
            self.near.answered(),
            self.far.count(),
            self.far.answered()
        )
    }

    /// Deletes everything at the consumer and waits until nothing is left on either side.
    pub async fn delete_all(&self) -> Result<Duration> {
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        let all = self.near.all();
        for part in all.chunks(all.len().div_ceil(WRITERS).max(1)) {
            let (part, api, resource) = (part.to_vec(), self.consumer.clone(), self.resource.clone());
            tasks.spawn(async move {
                for seen in part {
                    api.delete(&resource, &seen.key, &seen.uid).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        until("nothing is left on either side", LIMIT, || self.near.count() == 0 && self.far.count() == 0)
            .await
            .with_context(|| self.state())?;
        Ok(begun.elapsed())
    }

    /// Creates so many a second, whatever the answers do.
    pub async fn delays(&self, prefix: &str, rate: u32, seconds: u32) -> Result<Delays> {
        let count = rate * seconds;
        let before = self.near.count();
        let begun = Instant::now() + Duration::from_millis(100);
        let mut tasks = JoinSet::new();
        let mut due = HashMap::new();
        for number in 0..count {
            let at = begun + Duration::from_secs(1) * number / rate;
            let name = format!("{prefix}-{number}");
            let (object, namespace) = (self.object(&name, number as usize), namespace(number as usize));
            due.insert(name, at);
            sleep_until(at).await;
            let (api, resource) = (self.consumer.clone(), self.resource.clone());
            tasks.spawn(async move { api.create(&resource, Some(&namespace), &object).await.map(drop) });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        self.settled(before + count as usize).await?;
        let mut delays = Delays::default();
        for (name, due) in due {
            let present = self.far.get(&name).context("lost")?.first;
            let back = self.near.get(&name).and_then(|seen| seen.status).context("lost")?;
            let sent = self.operator.sent(&name).context("lost")?;
            delays.up.push(present.saturating_duration_since(due));
            delays.down.push(back.saturating_duration_since(sent));
            delays.whole.push(back.saturating_duration_since(due));
        }
        Ok(delays)
    }

    async fn delay(&self, table: &mut Table, where_: &str, prefix: &str) -> Result<()> {
        let Delays { up, down, whole } = self.delays(prefix, RATE, SECONDS).await?;
        let how =
            format!("open loop for {SECONDS} s, objects of 2 KB, SQLite on both sides; the operator answers at once");
        table.row(
            format!("{RATE}/s {where_}: created → present on the provider, p50 / p99 / max"),
            percentiles(up),
            how.clone(),
        );
        table.row(
            format!("{RATE}/s {where_}: status sent → back on the consumer"),
            percentiles(down),
            "the same objects",
        );
        table.row(format!("{RATE}/s {where_}: created → status back"), percentiles(whole), "the same objects");
        Ok(())
    }

    async fn removal(&self, table: &mut Table) -> Result<()> {
        let count = self.near.count();
        let took = self.delete_all().await?;
        table.row(
            format!("{count} objects deleted at once"),
            format!("{:.1} s, {:.0}/s", took.as_secs_f64(), count as f64 / took.as_secs_f64()),
            "first DELETE at the consumer to nothing left on either side",
        );
        Ok(())
    }

    /// Objects that were there before the agent.
    async fn cold(&self, table: &mut Table, agent: Agent, kubeconfig: &std::path::Path) -> Result<Agent> {
        agent.stop().await?;
        self.create("many", MANY).await?;
        until("all are seen", LIMIT, || self.near.count() == MANY).await?;
        let agent = Agent::start(kubeconfig).await?;
        self.settled(MANY).await?;
        let present = self.far.all().iter().map(|seen| seen.first).max().context("nothing")? - agent.started();
        let back = self.near.all().iter().filter_map(|seen| seen.status).max().context("nothing")? - agent.started();
        let (_, used) = agent.at_rest(LIMIT).await?;
        let writes = agent.writes().await?;
        let rate = |time: Duration| format!("{:.1} s, {:.0}/s", time.as_secs_f64(), MANY as f64 / time.as_secs_f64());
        table.row(
            format!("{MANY} existing objects: all present on the provider"),
            rate(present),
            "from the start of the agent's process; the binding is there, the operator answers meanwhile",
        );
        table.row(
            format!("{MANY} existing objects: all statuses back"),
            rate(back),
            format!(
                "{} writes to the consumer, {} to the provider; the agent used {:.1} s of processor time",
                writes.consumer,
                writes.provider,
                used.as_secs_f64()
            ),
        );
        self.memory(table, &agent, "just synced").await?;
        Ok(agent)
    }

    async fn memory(&self, table: &mut Table, agent: &Agent, when: &str) -> Result<()> {
        table.row(
            format!("memory of the agent, {MANY} objects of 2 KB, {when}"),
            format!("{:.1} MiB", agent.memory("VmRSS")?),
            format!("RSS; at most {:.1} MiB until then", agent.memory("VmHWM")?),
        );
        Ok(())
    }

    /// Nothing happened while it was away.
    async fn restart(&self, table: &mut Table, agent: Agent, kubeconfig: &std::path::Path) -> Result<Agent> {
        agent.stop().await?;
        let agent = Agent::start(kubeconfig).await?;
        let (rest, used) = agent.at_rest(LIMIT).await?;
        let (writes, objects) = (agent.writes().await?, agent.objects().await?);
        if objects < MANY as u64 {
            bail!("the agent rests and knows only {objects} of {MANY} objects");
        }
        table.row(
            format!("restart of the agent with {MANY} in sync: at rest after"),
            format!("{:.1} s", (rest - agent.started()).as_secs_f64()),
            format!("from the start of its process; {:.1} s of processor time", used.as_secs_f64()),
        );
        table.row(
            format!("restart of the agent with {MANY} in sync: writes"),
            format!("{}", writes.consumer + writes.provider),
            format!(
                "{} to the consumer, {} to the provider, by its own counters; Lease and heartbeat left out",
                writes.consumer, writes.provider
            ),
        );
        self.memory(table, &agent, "after a restart").await?;
        Ok(agent)
    }

    /// One object was made while it was away: shows that "at rest" means "has looked at everything".
    async fn away(&self, table: &mut Table, agent: Agent, kubeconfig: &std::path::Path) -> Result<Agent> {
        agent.stop().await?;
        self.create("meanwhile", 1).await?;
        let agent = Agent::start(kubeconfig).await?;
        self.settled(MANY + 1).await?;
        let seen = self.far.get("meanwhile-0").context("lost")?;
        table.row(
            format!("restart with {MANY} in sync and one made meanwhile: present after"),
            format!("{:.2} s", (seen.first - agent.started()).as_secs_f64()),
            "from the start of its process",
        );
        Ok(agent)
    }
}
