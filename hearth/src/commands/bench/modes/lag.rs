//! Replication: how long until a message is on other regions' disks, and until their readers see it.

use super::{Bench, distance::Distances};
use crate::commands::bench::{
    args::{Ack, CONNECTIONS_MAX, Places, Writing, within},
    report::{Latency, Report, above, figure},
};
use anyhow::{Result, bail};
use types::RegionId;

/// Chats with a sender at the home and a reader in every other region. Senders wait for `replicated`: what
/// that takes above the round trip to the farthest region bounds the replication lag from above, since the
/// home's own write is in it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Lag {
    /// How many chats are written to at the same time.
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub(crate) chats: usize,
    /// The region of the senders and homes [default: the deployment's first]
    #[arg(long, value_name = "REGION")]
    pub(crate) home: Option<RegionId>,
    /// The default is an open loop at 5,000 messages/s; `--ack` is always `replicated`.
    #[command(flatten)]
    pub(crate) writing: Writing,
}

impl Lag {
    pub(crate) fn check(&self) -> Result<()> {
        within("chats", self.chats, 1..=CONNECTIONS_MAX / 2)?;
        self.writing.check()
    }

    pub(crate) async fn run(&self, bench: &Bench) -> Result<Report> {
        let home = bench.deployment.region(self.home.as_ref())?.region.clone();
        let others: Vec<RegionId> =
            bench.deployment.others(&home).into_iter().map(|place| place.region.clone()).collect();
        if others.is_empty() {
            bail!("the deployment has one region: nothing is replicated");
        }
        let distances = Distances::of(bench).await?;
        let writing = Writing {
            ack: Ack::Replicated,
            rate: self.writing.rate.or(Some(5_000.0)),
            ..self.writing.clone()
        };
        let places =
            Places { senders: Some(home.clone()), receivers: others.clone(), home: Some(home.clone()) };
        let shape = bench.shape(&places, 1 + others.len(), 1)?;
        let loaded = bench.load(shape, self.chats, &writing, |plan| plan).await?;

        let mut report =
            bench.report("lag", format!("{} chats homed in {home}, {}", self.chats, writing.told()));
        let round_trips = others.iter().map(|other| distances.round_trip_us(&home, other));
        let farthest_us = round_trips.collect::<Result<Vec<_>>>()?.into_iter().max().unwrap_or(0);
        report.put(figure::ROUND_TRIP, farthest_us as f64 / 1e3);
        report.add_load(&loaded.tally, &loaded.servers, &loaded.seen, writing.body_bytes);
        let extra = above(&loaded.tally.ack_us, farthest_us);
        report.latencies.insert(1, Latency::of("replicated above the round trip", &extra));
        for (other, deliver_us) in others.iter().zip(&loaded.tally.deliver_us) {
            let extra = above(deliver_us, distances.one_way_us(&home, other)?);
            report.latencies.push(Latency::of(format!("seen in {other} above the one-way time"), &extra));
        }
        Ok(report)
    }
}
