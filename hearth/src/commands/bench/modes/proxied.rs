//! Writes whose home is elsewhere.

use super::{Bench, distance::Distances};
use crate::commands::bench::{
    args::{CONNECTIONS_MAX, Places, Writing, within},
    report::{Latency, Report, above, figure},
};
use anyhow::{Result, bail};

/// Pairs whose chats are homed in another region than the pairs are: their node proxies every write over the
/// WAN. Told beside the whole latency is what is above the link's bare round trip.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Proxied {
    /// How many pairs write at the same time.
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub(crate) pairs: usize,
    #[command(flatten)]
    pub(crate) places: Places,
    /// The default is an open loop at 1,000 messages/s.
    #[command(flatten)]
    pub(crate) writing: Writing,
}

impl Proxied {
    pub(crate) fn check(&self) -> Result<()> {
        within("pairs", self.pairs, 1..=CONNECTIONS_MAX / 2)?;
        self.writing.check()
    }

    pub(crate) async fn run(&self, bench: &Bench) -> Result<Report> {
        let senders = bench.deployment.region(self.places.senders.as_ref())?.region.clone();
        let home = match (&self.places.home, bench.deployment.others(&senders).first()) {
            (Some(home), _) => bench.deployment.region(Some(home))?.region.clone(),
            (None, Some(other)) => other.region.clone(),
            (None, None) => bail!("the deployment has one region: nothing is proxied"),
        };
        if home == senders {
            bail!("the senders are in {home}, where the chats are to be homed: nothing is proxied");
        }
        let bare_us = Distances::of(bench).await?.round_trip_us(&senders, &home)?;
        let places = Places { home: Some(home.clone()), ..self.places.clone() };
        let writing = Writing { rate: self.writing.rate.or(Some(1_000.0)), ..self.writing.clone() };
        let loaded = bench.load(bench.shape(&places, 2, 1)?, self.pairs, &writing, |plan| plan).await?;
        let what = format!("{} pairs in {senders}, chats homed in {home}, {}", self.pairs, writing.told());
        let mut report = bench.report("proxied", what);
        report.put(figure::ROUND_TRIP, bare_us as f64 / 1e3);
        report.add_load(&loaded.tally, &loaded.servers, &loaded.seen, writing.body_bytes);
        let extra = above(&loaded.tally.ack_us, bare_us);
        report.latencies.insert(1, Latency::of("ack above the round trip", &extra));
        Ok(report)
    }
}
