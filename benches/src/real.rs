//! Between two real API servers: the agent against the floor (see [`crate::floor`]), turn by turn. Out: rows with ratios.
//!
//! Both act on kinds with the same schema, the floor on one that no agent syncs, so that the agent can stay (idle) while
//! the floor is measured. What either does is seen by watches of the load generator. The agent's objects are answered by an
//! operator that hears of them by its watch, which is in the agent's figures; the floor is told by the answers to its writes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::future::try_join_all;
use kube_client::ListQuery;
use kube_client::resource::Resource;
use serde_json::json;
use testkit::service::Service;
use testkit::site::{Site, crds};
use testkit::world::World;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::agent::{Agent, program, shipped};
use crate::floor::{Floor, Hands};
use crate::many::Bind;
use crate::processor::{Each, Processor};
use crate::side::{Side, until};
use crate::sync::{Bench, Delays, LIMIT, NAMESPACES, RATE, namespace};
use crate::table::{Table, median, ms, quantile};

/// Decides what World takes as API servers.
const PAIRING: &str = "KUBE_BIND_TEST_PAIRING";
/// Alternating runs.
const TURNS: usize = if cfg!(debug_assertions) { 1 } else { 5 };
/// Alternating runs where time is short.
const FEW: usize = if cfg!(debug_assertions) { 1 } else { 3 };
/// Seconds of one run at a steady rate, and of one with so many writers.
const SECONDS: u32 = if cfg!(debug_assertions) { 1 } else { 5 };
const WRITERS: [usize; 2] = [16, 64];
const PREFIX: &str = "floor-";
/// What can be measured, and how.
const PARTS: [&str; 4] = ["delay", "rate", "many", "restart"];
const WORDS: [&str; 6] = ["delay", "rate", "many", "restart", "short", "birth"];

/// All rows; in this process if the environment says so, else in a child that it says so to.
pub async fn measure(table: &mut Table, words: &[&str]) -> Result<()> {
    if std::env::var(PAIRING).as_deref() != Ok("real/real") {
        let mut again = tokio::process::Command::new(program()?);
        again.arg("real").args(words).env(PAIRING, "real/real").env("KUBE_BIND_TEST_AUDIT", "off");
        // The API servers collect garbage as they do everywhere, not as in tests, unless the caller says otherwise.
        for (name, value) in [("GOGC", "100"), ("GOMEMLIMIT", "off")] {
            if std::env::var_os(name).is_none() {
                again.env(name, value);
            }
        }
        let status = again.status().await?;
        std::process::exit(status.code().unwrap_or(1));
    }
    if let Some(other) = words.iter().find(|word| !WORDS.contains(word)) {
        bail!("unknown word {other:?}; after `real` there are {}", WORDS.join(", "));
    }
    let short = words.contains(&"short");
    let parts: Vec<&str> = words.iter().copied().filter(|word| PARTS.contains(word)).collect();
    let wanted = |part: &str| if short { part != "many" } else { parts.is_empty() || parts.contains(&part) };
    let many = wanted("many");
    let service = Service::new(7).without_claims();
    let bare = Service { group: format!("floor.{}", service.group), ..service.clone() };
    let mut world = World::new(program()?.to_str().context("no UTF-8")?, service.clone()).await;
    world.provider().stop_operator().await;
    world.consumer().stop_agent().await;
    let kubeconfig = world.folder().join("agent.kubeconfig");
    std::fs::write(&kubeconfig, &world.consumer().agent_kubeconfig)?;
    let agent = Agent::start(&kubeconfig).await?;
    agent.at_rest(LIMIT).await?;
    let alone = agent.footprint()?;
    // Finalizers by an admission policy, for the agent's kind; the floor's objects then have them in their create.
    let birth = words.contains(&"birth");
    let flags: &[&str] = if birth { &["--finalizer-at-birth"] } else { &[] };
    let bound = world.bind_with(0, 0, flags).await;
    if !bound.success {
        bail!("bind failed: {} {}", bound.stdout, bound.stderr);
    }
    agent.at_rest(LIMIT).await?;
    let how = if shipped().is_some() { "the program konnector" } else { "the agent in this program" };
    table.row("memory of the agent without a binding", alone.to_string(), how);
    table.row("memory of the agent, empty", agent.footprint()?.to_string(), "one binding, no objects; bar 8 MiB");
    let mut watches = JoinSet::new();
    let bench = Bench::start(&world, service.clone(), &mut watches).await?;
    let floor = prepare(&world, &bare, birth).await?;
    // What the load generator looks at the agent with, it looks at the floor with.
    let near = Side::follow(&mut watches, &floor.consumer, &floor.resource, None).await?;
    let far = Side::follow(&mut watches, &floor.provider, &floor.resource, None).await?;
    let turns = if short { FEW } else { TURNS };
    let mut run = Run { bench, floor, near, far, bare, kubeconfig, turns, number: 0, binds: Vec::new() };
    if wanted("delay") {
        if !short {
            run.delays(table, RATE, "").await?;
        }
        // What queues at the machine's limit says little about who queues: the same where there is room.
        let rate = run.half(agent.pid()).await?;
        run.delays(table, rate, ", half of what the floor carries").await?;
    }
    if wanted("rate") {
        for writers in WRITERS.into_iter().take(if short { 1 } else { 2 }) {
            run.rate(table, writers, agent.pid()).await?;
        }
        run.writes(table, &agent).await?;
    }
    let agent = if many || parts.contains(&"restart") { run.many(table, agent, many).await? } else { agent };
    agent.stop().await?;
    watches.shutdown().await;
    world.end().await;
    Ok(())
}

/// The kind of the floor and its namespaces, on both sides.
async fn prepare(world: &World, bare: &Service, at_birth: bool) -> Result<Floor> {
    let (consumer, provider) = (&world.consumers[0].site, &world.providers[0].site);
    for site in [consumer, provider] {
        let mut crd = bare.crd();
        crd["metadata"]["labels"] = json!({});
        site.apply(&crds(), &crd).await;
    }
    for number in 0..NAMESPACES {
        provider.namespace(&format!("{PREFIX}{}", namespace(number))).await;
    }
    let floor = Floor {
        consumer: consumer.api.clone(),
        provider: provider.api.clone(),
        resource: bare.resource(),
        prefix: PREFIX.to_owned(),
        at_birth,
        hands: Hands::new(&consumer.kubeconfig, &provider.kubeconfig).await?,
    };
    for site in [consumer, provider] {
        served(site, &floor.resource).await?;
    }
    Ok(floor)
}

async fn served(site: &Site, resource: &Resource) -> Result<()> {
    let begun = Instant::now();
    while let Err(error) = site.api.list(resource, &ListQuery::default()).await {
        if begun.elapsed() > LIMIT {
            bail!("{resource} is not served: {error}");
        }
        sleep(Duration::from_millis(100)).await;
    }
    // A real API server may still answer 404 to single requests for a moment.
    sleep(Duration::from_secs(2)).await;
    Ok(())
}

/// What all parts work with.
pub struct Run {
    /// Both sides of the bound kind.
    pub bench: Bench,
    /// The floor, on a kind of its own.
    pub floor: Floor,
    /// What the consumer has of that kind.
    near: Arc<Side>,
    /// What the provider has.
    far: Arc<Side>,
    bare: Service,
    /// The agent's.
    pub kubeconfig: std::path::PathBuf,
    turns: usize,
    number: usize,
    /// First binds so far.
    pub binds: Vec<Bind>,
}

/// One run of writers that wait.
struct Turn {
    /// Objects per second.
    rate: f64,
    each: Each,
}

/// p50 and p99 of each run.
#[derive(Default)]
struct Shares {
    p50: Vec<f64>,
    p99: Vec<f64>,
}

impl Shares {
    fn add(&mut self, times: &[Duration]) {
        self.p50.push(quantile(times, 0.5).as_secs_f64());
        self.p99.push(quantile(times, 0.99).as_secs_f64());
    }

    fn against(self, floor: Self, what: &str, table: &mut Table) {
        for (share, mine, its, bar) in [("p50", self.p50, floor.p50, 1.3), ("p99", self.p99, floor.p99, 2.0)] {
            let (mine, its) = (median(mine), median(its));
            let show = |seconds: f64| format!("{} ms", ms(Duration::from_secs_f64(seconds)));
            table.compare(
                format!("{what}, {share}"),
                show(its),
                show(mine),
                mine / its,
                format!("≤ {bar}"),
                mine / its <= bar,
            );
        }
    }
}

impl Run {
    /// A new one, so that names are unique.
    pub fn prefix(&mut self) -> String {
        self.number += 1;
        format!("r{}", self.number)
    }

    /// The object of the bench, of the kind that the floor has.
    pub fn bare(&self, name: &str, number: usize) -> serde_json::Value {
        let mut object = self.bench.object(name, number);
        object["apiVersion"] = json!(format!("{}/{}", self.bare.group, self.bare.version));
        object
    }

    /// Half of the objects a second that the floor carries on this machine in this hour, with the fewer writers.
    async fn half(&mut self, agent: u32) -> Result<u32> {
        let mut rates = Vec::new();
        for _ in 0..FEW {
            rates.push(self.loops(WRITERS[0], true, agent).await?.rate);
            self.floor.clean().await?;
        }
        Ok(((median(rates) / 2.0).round() as u32).max(1))
    }

    /// Open loop at a steady rate.
    async fn delays(&mut self, table: &mut Table, rate: u32, which: &str) -> Result<()> {
        let (mut up, mut whole) = ([Shares::default(), Shares::default()], [Shares::default(), Shares::default()]);
        let mut down = Shares::default();
        for _ in 0..self.turns {
            let floor = self.floor_delays(rate).await?;
            self.floor.clean().await?;
            let prefix = self.prefix();
            let agent = self.bench.delays(&prefix, rate, SECONDS).await?;
            self.bench.delete_all().await?;
            for (index, run) in [&floor, &agent].into_iter().enumerate() {
                up[index].add(&run.up);
                whole[index].add(&run.whole);
            }
            down.add(&agent.down);
        }
        let [floor, agent] = up;
        agent.against(floor, &format!("{rate}/s{which}: created → on the provider"), table);
        let [floor, agent] = whole;
        agent.against(floor, &format!("{rate}/s{which}: created → status back"), table);
        table.row(
            format!("{rate}/s{which}: status sent → back on the consumer, p50 / p99"),
            format!("{:.1} / {:.1} ms", median(down.p50) * 1000.0, median(down.p99) * 1000.0),
            "agent, the same objects",
        );
        Ok(())
    }

    async fn floor_delays(&mut self, rate: u32) -> Result<Delays> {
        until("nothing of the floor is left", LIMIT, || self.near.count() + self.far.count() == 0).await?;
        let prefix = self.prefix();
        let begun = Instant::now() + Duration::from_millis(100);
        let mut tasks = JoinSet::new();
        let mut due = Vec::new();
        for number in 0..rate * SECONDS {
            let at = begun + Duration::from_secs(1) * number / rate;
            let name = format!("{prefix}-{number}");
            let object = self.bare(&name, number as usize);
            due.push((name, at));
            sleep_until(at).await;
            let floor = self.floor.clone();
            tasks.spawn(async move { floor.whole(&object).await });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        until("the watches show all of the floor", LIMIT, || {
            self.near.answered() == due.len() && self.far.answered() == due.len()
        })
        .await?;
        let mut delays = Delays::default();
        for (name, due) in due {
            let present = self.far.get(&name).context("lost")?.first;
            let back = self.near.get(&name).and_then(|seen| seen.status).context("lost")?;
            delays.up.push(present.saturating_duration_since(due));
            delays.whole.push(back.saturating_duration_since(due));
        }
        Ok(delays)
    }

    /// So many writers, each of which makes the next object when the status of the last is back.
    async fn rate(&mut self, table: &mut Table, writers: usize, agent: u32) -> Result<()> {
        let (mut its, mut mine) = (Vec::new(), Vec::new());
        for _ in 0..self.turns {
            its.push(self.loops(writers, true, agent).await?);
            self.floor.clean().await?;
            mine.push(self.loops(writers, false, agent).await?);
            let quiet = || self.bench.far.count() == self.bench.near.answered();
            until("all have their status", LIMIT, quiet).await?;
            self.bench.delete_all().await?;
        }
        let rate = |turns: &[Turn]| median(turns.iter().map(|turn| turn.rate).collect());
        let show = |rate: f64| format!("{rate:.0}/s");
        let what = format!("sustained with {writers} writers, each waiting for its status");
        let ratio = rate(&mine) / rate(&its);
        table.compare(what, show(rate(&its)), show(rate(&mine)), ratio, "≥ 0.8".into(), ratio >= 0.8);
        let each = |mut turns: Vec<Turn>| {
            turns.sort_by(|a, b| a.each.sum().total_cmp(&b.each.sum()));
            turns.get(turns.len() / 2).map(|turn| turn.each).context("no turn")
        };
        let (its, mine) = (each(its)?, each(mine)?);
        table.row(
            "the same: processor time for one object",
            format!("{:.2}", mine.sum() / its.sum()),
            format!("floor {its}; agent {mine}"),
        );
        Ok(())
    }

    async fn loops(&mut self, writers: usize, bare: bool, agent: u32) -> Result<Turn> {
        let prefix = self.prefix();
        let before = Processor::now(agent)?;
        let begun = Instant::now();
        let end = begun + Duration::from_secs(SECONDS.into());
        let writer = async |writer: usize| -> Result<usize> {
            let mut made = 0;
            while Instant::now() < end {
                let (name, number) = (format!("{prefix}-{writer}-{made}"), writer + made);
                if bare {
                    self.floor.whole(&self.bare(&name, number)).await?;
                } else {
                    let answered = self.bench.near.when_answered(&name);
                    self.bench.make(&name, number).await?;
                    tokio::time::timeout(LIMIT, answered).await.context("no status")??;
                }
                made += 1;
            }
            Ok(made)
        };
        let made: usize = try_join_all((0..writers).map(writer)).await?.into_iter().sum();
        let (rate, made) = (made as f64 / begun.elapsed().as_secs_f64(), made as f64);
        Ok(Turn { rate, each: Processor::now(agent)?.each(before, made) })
    }

    /// Writes of the agent for one object, one change and one deletion, and whether any of them began a watch.
    async fn writes(&mut self, table: &mut Table, agent: &Agent) -> Result<()> {
        let restarts = agent.watch_restarts().await?;
        let name = self.prefix();
        let mut before = agent.writes().await?;
        let mut count = async |what: &str, which: &str| {
            agent.at_rest(LIMIT).await?;
            let after = agent.writes().await?;
            let count = format!("{} + {}", after.consumer - before.consumer, after.provider - before.provider);
            table.row(format!("writes for {what}"), count, which);
            before = after;
            anyhow::Ok(())
        };
        self.bench.make(&name, 0).await?;
        until("its status is back", LIMIT, || self.bench.near.answered() == 1).await?;
        let which = "consumer (finalizer, status) + provider (apply); the floor makes the same";
        count("one object and its status", which).await?;
        self.bench.change(&name).await?;
        count("a change of its spec", "provider (apply)").await?;
        self.bench.delete_all().await?;
        count("a deletion", "consumer (finalizer) + provider (delete)").await?;
        let again = agent.watch_restarts().await? - restarts;
        table.row("watches begun anew meanwhile", again.to_string(), "by its own counter");
        table.row("connections of the agent", agent.connections()?.to_string(), "sockets, its own listener included");
        Ok(())
    }
}
