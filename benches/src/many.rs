//! Between two real API servers with 10,000 objects: the first bind, restarts, memory; against the floor and against the
//! LISTs alone. Out: rows with ratios.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::future::try_join_all;
use kube_client::ListQuery;
use kube_client::api::Api;
use kube_client::resource::Resource;
use tokio::time::Instant;

use crate::agent::Agent;
use crate::real::Run;
use crate::side::until;
use crate::sync::{LIMIT, MANY};
use crate::table::{Table, median};

/// The agent works on so many objects at once, and so does the floor.
const AT_ONCE: usize = 16;
/// Restarts, and first binds.
const TURNS: usize = if cfg!(debug_assertions) { 2 } else { 5 };

/// One first bind, between two of the floor; seconds.
pub struct Bind {
    floor: [f64; 2],
    mine: f64,
}

impl Run {
    /// First binds (one, if nobody wants to compare them), and restarts with many objects.
    pub async fn many(&mut self, table: &mut Table, mut agent: Agent, compare: bool) -> Result<Agent> {
        for _ in 0..if compare { TURNS } else { 1 } {
            agent = self.first_bind(agent, compare).await?;
        }
        if compare {
            self.show_binds(table);
        }
        let (_, used) = agent.at_rest(LIMIT).await?;
        table.row(
            format!("memory of the agent, {MANY} objects of 2 KB, just synced"),
            agent.footprint()?.to_string(),
            format!(
                "at most {:.1} MiB until then; {:.1} s of processor time; bar 24 MiB",
                agent.memory("VmHWM")?,
                used.as_secs_f64()
            ),
        );
        self.restart(table, agent).await
    }

    /// Objects that are there when the agent starts, with the binding in place; the floor before and after, because API
    /// servers that have had much to do keep it, and are slower for whoever comes second.
    async fn first_bind(&mut self, agent: Agent, compare: bool) -> Result<Agent> {
        agent.stop().await?;
        self.floor.hands.clear(&self.bench.resource).await?;
        until("nothing is left", LIMIT, || self.bench.near.count() + self.bench.far.count() == 0).await?;
        let before = match self.binds.last() {
            Some(bind) => bind.floor[1],
            None if compare => self.floor_bind().await?,
            None => 0.0,
        };
        let prefix = self.prefix();
        self.bench.create(&prefix, MANY).await?;
        until("all are seen", LIMIT, || self.bench.near.count() == MANY).await?;
        let agent = Agent::start(&self.kubeconfig).await?;
        self.bench.settled(MANY).await?;
        if compare {
            let back = self.bench.near.all().iter().filter_map(|seen| seen.status).max().context("nothing")?;
            let mine = (back - agent.started()).as_secs_f64();
            let after = self.floor_bind().await?;
            // The next turn is minutes away.
            eprintln!("first bind of {MANY}: floor {before:.1} s, agent {mine:.1} s, floor {after:.1} s");
            self.binds.push(Bind { floor: [before, after], mine });
        }
        Ok(agent)
    }

    fn show_binds(&self, table: &mut Table) {
        let its = |bind: &Bind| bind.floor.iter().sum::<f64>() / 2.0;
        let ratio = median(self.binds.iter().map(|bind| bind.mine / its(bind)).collect());
        let show = |seconds: f64| format!("{seconds:.1} s, {:.0}/s", MANY as f64 / seconds);
        let turns = self.binds.len();
        let what = format!("{MANY} existing objects: all there and all statuses back, once each (turns: {turns})");
        let floor = median(self.binds.iter().map(its).collect());
        let mine = median(self.binds.iter().map(|bind| bind.mine).collect());
        table.compare(what, show(floor), show(mine), ratio, "≤ 1.3".into(), ratio <= 1.3);
        let each = self.binds.iter().map(|b| format!("{:.1} {:.1} {:.1}", b.floor[0], b.mine, b.floor[1]));
        table.row("floor before, agent, floor after: seconds", each.collect::<Vec<_>>().join("; "), "each turn");
    }

    /// As many objects of the floor, from there on as for a first bind; seconds.
    async fn floor_bind(&mut self) -> Result<f64> {
        let prefix = self.prefix();
        let objects: Vec<_> = (0..MANY).map(|number| self.bare(&format!("{prefix}-{number}"), number)).collect();
        let mut made = Vec::with_capacity(MANY);
        for part in objects.chunks(AT_ONCE) {
            made.extend(try_join_all(part.iter().map(|object| self.floor.create(object))).await?);
        }
        let took = self.floor.bind(made, AT_ONCE).await?;
        self.floor.clean().await?;
        Ok(took.as_secs_f64())
    }

    async fn restart(&mut self, table: &mut Table, mut agent: Agent) -> Result<Agent> {
        let (mut lists, mut rests, mut writes) = (Vec::new(), Vec::new(), 0);
        for _ in 0..TURNS {
            agent.stop().await?;
            lists.push(self.lists().await?.as_secs_f64());
            agent = Agent::start(Path::new(&self.kubeconfig)).await?;
            let (rest, _) = agent.at_rest(LIMIT).await?;
            rests.push((rest - agent.started()).as_secs_f64());
            let done = agent.writes().await?;
            writes += done.consumer + done.provider;
            if agent.objects().await? < MANY as u64 {
                bail!("the agent rests and knows only {} of {MANY} objects", agent.objects().await?);
            }
        }
        let (its, mine) = (median(lists), median(rests));
        let show = |seconds: f64| format!("{seconds:.2} s");
        let what = format!("restart with {MANY} in sync: at rest, against the LISTs alone");
        table.compare(what, show(its), show(mine), mine / its, "≤ 1.2".into(), mine / its <= 1.2);
        table.row(
            format!("restart with {MANY} in sync: writes"),
            writes.to_string(),
            format!("in {TURNS} restarts; bar 0"),
        );
        table.row(
            format!("memory of the agent, {MANY} objects of 2 KB, after a restart"),
            agent.footprint()?.to_string(),
            format!("at most {:.1} MiB until then; bar 24 MiB", agent.memory("VmHWM")?),
        );
        Ok(agent)
    }

    /// The lists that a restarted agent cannot avoid, at the same time as the agent makes them, and nothing else.
    async fn lists(&self) -> Result<Duration> {
        let mut namespaces: Vec<String> = self.bench.far.all().into_iter().map(|seen| seen.key.namespace).collect();
        namespaces.sort();
        namespaces.dedup();
        let (near, far) = (&self.floor.consumer, &self.floor.provider);
        let begun = Instant::now();
        let there =
            namespaces.iter().map(|namespace| pages(far, &self.bench.resource, ListQuery::namespace(namespace)));
        let (here, there) = tokio::join!(pages(near, &self.bench.resource, ListQuery::default()), try_join_all(there));
        let took = begun.elapsed();
        let count: usize = there?.into_iter().sum();
        if here? != MANY || count != MANY {
            bail!("the lists show {count} copies");
        }
        Ok(took)
    }
}

async fn pages(api: &Api, resource: &Resource, query: ListQuery) -> Result<usize> {
    let (mut count, mut token) = (0, None::<Arc<str>>);
    loop {
        let page = api.list_page(resource, &query, 500, token.as_deref()).await?;
        count += page.items.len();
        match page.continue_token {
            Some(next) => token = Some(next.into()),
            None => return Ok(count),
        }
    }
}
