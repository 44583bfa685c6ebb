//! The servers of a deployment as processes, watched while they serve.

use super::{deployment::Deployment, http::Http, usage::Usage};
use crate::commands::bench::load::Plan;
use anyhow::{Context as _, Result};
use lab::{Description, Place, control::Client};
use std::{
    thread,
    time::{Duration, Instant},
};
use tokio::runtime::Handle;

/// How often CPU time is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// What a process is to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    /// Part of Hearth: what messages cost is what these use.
    Server,
    /// The WAN links of the lab.
    Links,
    /// The load generator.
    Generator,
}

/// A process of a run.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) pid: u32,
}

/// All processes of a run, and where to ask for more.
#[derive(Debug, Clone)]
pub(crate) struct Servers {
    pub(crate) processes: Vec<Watched>,
    control: Client,
    nodes: Vec<String>,
    runtime: Handle,
}

/// One look.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub(crate) usage: Vec<Usage>,
    /// Of the partition logs of all nodes, since they began.
    pub(crate) syncs: u64,
    /// Between processes of different regions.
    pub(crate) region_bytes: u64,
}

/// What was seen of the counted time.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) first: Look,
    pub(crate) last: Look,
    pub(crate) seconds: f64,
    /// At so many seconds: the CPU time of each process so far, in µs.
    pub(crate) over_time: Vec<(f64, Vec<u64>)>,
}

impl Servers {
    /// The processes of a deployment, and this one. Inside a runtime.
    pub(crate) fn of(deployment: &Deployment) -> Self {
        Self::of_description(&deployment.described, deployment.control)
    }

    /// The processes that are described, and this one. Inside a runtime.
    pub(crate) fn of_description(described: &Description, control: Client) -> Self {
        let process = |name: String, role, pid: Option<u32>| pid.map(|pid| Watched { name, role, pid });
        let of_regions = described.regions.iter().flat_map(|region| {
            let nodes = region.nodes.iter();
            let nodes = nodes.map(|node| process(format!("node {}", node.id), Role::Server, node.pid));
            let name = format!("replicator {}", region.region);
            nodes.chain([process(name, Role::Server, region.replicator.pid)]).collect::<Vec<_>>()
        });
        let directory = process("directory".to_owned(), Role::Server, described.directory.pid);
        let links = process("links".to_owned(), Role::Links, Some(described.lab_pid));
        let own = process("generator".to_owned(), Role::Generator, Some(std::process::id()));
        let nodes = described.regions.iter().flat_map(|region| &region.nodes);
        Self {
            processes: [directory].into_iter().chain(of_regions).chain([links, own]).flatten().collect(),
            control,
            nodes: nodes.map(|node| node.address.clone()).collect(),
            runtime: Handle::current(),
        }
    }

    /// Looks at everything once. Blocks.
    pub(crate) fn look(&self) -> Result<Look> {
        let usage = self.processes.iter().map(|process| Usage::of(process.pid)).collect::<Result<_>>()?;
        let links = self.runtime.block_on(self.control.links())?;
        let is_between_regions = |link: &&lab::LinkDescription| {
            [&link.from, &link.to].iter().all(|place| matches!(place, Place::Region(_)))
        };
        let syncs = self.nodes.iter().map(|node| syncs(node)).sum::<Result<u64>>()?;
        let region_bytes = links.iter().filter(is_between_regions).map(|link| link.bytes).sum();
        Ok(Look { usage, syncs, region_bytes })
    }

    /// Runs a load, and watches the servers through its counted time. Blocks.
    pub(crate) fn watch<T>(&self, plan: &Plan, load: impl FnOnce() -> Result<T>) -> Result<(T, Seen)> {
        thread::scope(|scope| {
            let watching = scope.spawn(|| self.watch_span(plan));
            let loaded = load()?;
            Ok((loaded, watching.join().expect("a panic aborts")?))
        })
    }

    fn watch_span(&self, plan: &Plan) -> Result<Seen> {
        let at = |us| plan.epoch + Duration::from_micros(us);
        sleep_until(at(plan.span.counts_from));
        let (began, first) = (Instant::now(), self.look()?);
        let mut over_time = vec![(0.0, first.usage.iter().map(Usage::cpu_us).collect())];
        let until = at(plan.span.sends_until);
        while Instant::now() + LOOK_INTERVAL < until {
            thread::sleep(LOOK_INTERVAL);
            let cpu_us = self.processes.iter().map(|process| Ok(Usage::of(process.pid)?.cpu_us()));
            over_time.push((began.elapsed().as_secs_f64(), cpu_us.collect::<Result<_>>()?));
        }
        sleep_until(until);
        let (seconds, last) = (began.elapsed().as_secs_f64(), self.look()?);
        over_time.push((seconds, last.usage.iter().map(Usage::cpu_us).collect()));
        Ok(Seen { first, last, seconds, over_time })
    }
}

fn sleep_until(at: Instant) {
    thread::sleep(at.saturating_duration_since(Instant::now()));
}

/// How many syncs a node's partition log has made.
fn syncs(node: &str) -> Result<u64> {
    const COUNT: &str = "hearth_log_sync_seconds_count";
    // A node that does not listen yet has made none.
    let Ok(mut http) = Http::connect(node) else { return Ok(0) };
    let metrics = String::from_utf8_lossy(http.get("/metrics", "bench")?);
    // A node that has not synced yet has no such metric.
    let counts =
        metrics.lines().filter(|line| line.starts_with(COUNT)).filter_map(|line| line.rsplit(' ').next());
    counts.map(|count| count.parse::<u64>().with_context(|| format!("{COUNT} is {count}"))).sum()
}
