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
/// Restarts.
const LONG: usize = if cfg!(debug_assertions) { 1 } else { 3 };

impl Run {
    /// First bind and restart with many objects.
    pub async fn many(&mut self, table: &mut Table, agent: Agent) -> Result<Agent> {
        agent.stop().await?;
        let prefix = self.prefix();
        let objects: Vec<_> = (0..MANY).map(|number| self.bare(&format!("{prefix}-{number}"), number)).collect();
        let mut made = Vec::with_capacity(MANY);
        for part in objects.chunks(AT_ONCE) {
            made.extend(try_join_all(part.iter().map(|object| self.floor.create(object))).await?);
        }
        let its = self.floor.bind(made, AT_ONCE).await?;
        self.floor.clean().await?;
        self.bench.create(&prefix, MANY).await?;
        until("all are seen", LIMIT, || self.bench.near.count() == MANY).await?;
        let agent = Agent::start(&self.kubeconfig).await?;
        self.bench.settled(MANY).await?;
        let back = self.bench.near.all().iter().filter_map(|seen| seen.status).max().context("nothing")?;
        let mine = back - agent.started();
        let ratio = mine.as_secs_f64() / its.as_secs_f64();
        let show = |time: Duration| format!("{:.1} s, {:.0}/s", time.as_secs_f64(), MANY as f64 / time.as_secs_f64());
        let what = format!("{MANY} existing objects: all there and all statuses back, once each");
        table.compare(what, show(its), show(mine), ratio, "≤ 1.3".into(), ratio <= 1.3);
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

    async fn restart(&mut self, table: &mut Table, mut agent: Agent) -> Result<Agent> {
        let (mut lists, mut rests, mut writes) = (Vec::new(), Vec::new(), 0);
        for _ in 0..LONG {
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
            format!("in {LONG} restarts; bar 0"),
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
