//! A follower that was away.

use super::{Bench, blocking};
use crate::commands::{
    admin,
    bench::{
        args::{Places, Writing, within},
        load::{self, Party, Plan},
        report::{Counts, Report, figure},
        servers::{Http, Look, Role, Seen, Servers, Usage},
    },
};
use anyhow::{Context as _, Result, bail};
use std::time::{Duration, Instant};
use types::RegionId;

const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Pairs that write while the follower is away.
const PAIRS: usize = 200;
const WINDOW: usize = 32;
const WRITING_SECONDS_MAX: u64 = 3_600;

/// Kills a region, writes to chats of another one, starts the region again, and waits until it has copied
/// everything. The deployment is one whose regions nobody else needs.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CatchUp {
    /// How many records are written while the region is away.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    pub(crate) records: usize,
    /// The region that is away [default: the deployment's last]
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<RegionId>,
    /// Bytes of random body.
    #[arg(long, default_value_t = 400, value_name = "N")]
    pub(crate) body_bytes: usize,
    /// How long it may take to catch up.
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    pub(crate) patience_seconds: u64,
}

impl CatchUp {
    pub(crate) fn check(&self) -> Result<()> {
        within("records", self.records, PAIRS..=1_000_000_000)?;
        Writing { body_bytes: self.body_bytes, ..Writing::new(1) }.check()
    }

    pub(crate) async fn run(&self, bench: &Bench) -> Result<Report> {
        let regions = &bench.deployment.described.regions;
        let away = match &self.region {
            Some(name) => bench.deployment.region(Some(name))?,
            None => regions.last().context("the deployment has no regions")?,
        };
        let others = bench.deployment.others(&away.region);
        let home = others.first().context("the deployment has one region: nobody copies anything")?;
        let what = format!(
            "{} records of {} bytes written in {} while {} was away",
            self.records, self.body_bytes, home.region, away.region
        );
        let mut report = bench.report("catch-up", what);
        let control = bench.deployment.control;

        // A chat is opened once it is on two regions' disks, so while all are there.
        let mut shape =
            bench.shape(&Places { senders: Some(home.region.clone()), ..Places::default() }, 2, 1)?;
        shape.reader_edges.clear();
        let parties = blocking(move || load::connect_all(&shape, PAIRS)).await?;
        control.act("kill", away.region.as_str()).await?;
        let written = self.write(parties).await;
        // Whatever became of the writing, the region is given back.
        control.act("start", away.region.as_str()).await?;
        let began = Instant::now();
        let written_per_s = written?;
        let described = control.describe().await?;
        let servers = Servers::of_description(&described, control);
        let first = blocking({
            let servers = servers.clone();
            move || servers.look()
        })
        .await?;
        let ready_after = self.wait_caught_up(bench, &away.region, &away.http, began).await?;
        let took = began.elapsed();
        let last = blocking({
            let servers = servers.clone();
            move || servers.look()
        })
        .await?;

        let records = self.records as f64;
        report.put(figure::RECORDS, records);
        report.put(figure::WRITTEN, written_per_s);
        report.put(figure::READY_AFTER, ready_after.as_secs_f64());
        report.put(figure::CAUGHT_UP_AFTER, took.as_secs_f64());
        report.put(figure::CAUGHT_UP, records / took.as_secs_f64());
        let cpu_us = |look: &Look| -> u64 {
            let of = servers.processes.iter().zip(&look.usage);
            of.filter(|(process, _)| process.role == Role::Server)
                .map(|(_, usage)| Usage::cpu_us(usage))
                .sum()
        };
        report.put(figure::CPU_PER_RECORD, (cpu_us(&last) - cpu_us(&first)) as f64 / records);
        report.put(figure::LINK_BYTES, (last.region_bytes - first.region_bytes) as f64 / records);
        let seen = Seen { first, last, seconds: took.as_secs_f64(), over_time: Vec::new() };
        report.add_usage(&servers, &seen, Counts { messages: 0.0, deliveries: 0.0, body_bytes: 0 });
        Ok(report)
    }

    /// Lets them write: messages per second.
    async fn write(&self, parties: Vec<Party>) -> Result<f64> {
        let writing =
            Writing { window: WINDOW, body_bytes: self.body_bytes, ..Writing::new(WRITING_SECONDS_MAX) };
        let each = self.records.div_ceil(PAIRS) as u64;
        blocking(move || {
            let plan = Plan { messages_max: each, ..writing.plan(PAIRS) };
            let tally = load::run(&plan, parties, 1)?;
            if let Some(fault) = tally.faults().first() {
                bail!("while the region was away: {fault}");
            }
            Ok((each * PAIRS as u64) as f64 / (tally.took_us as f64 / 1e6))
        })
        .await
    }

    /// Waits until every home says that the region lacks nothing: after how long its node was ready.
    async fn wait_caught_up(
        &self,
        bench: &Bench,
        away: &RegionId,
        node: &str,
        began: Instant,
    ) -> Result<Duration> {
        let directory = &bench.deployment.described.directory.address;
        let patience = Duration::from_secs(self.patience_seconds);
        let mut ready_after = None;
        loop {
            if ready_after.is_none() {
                let node = node.to_owned();
                let ready = blocking(move || Http::connect(&node)?.get("/readyz", "bench").map(|_| ()));
                ready_after = ready.await.is_ok().then(|| began.elapsed());
            }
            let follows = admin::replication(directory).await?;
            let standing = follows.iter().find(|standing| standing.region == *away);
            let lacks = standing.map_or(u64::MAX, |standing| standing.lag_records_max);
            let follows_all =
                standing.is_some_and(|standing| standing.follows > 0 && standing.in_sync == standing.follows);
            if let (Some(ready_after), 0, true) = (ready_after, lacks, follows_all) {
                return Ok(ready_after);
            }
            if began.elapsed() > patience {
                bail!("{away} has not caught up after {patience:?}: a partition lacks {lacks} records");
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}
