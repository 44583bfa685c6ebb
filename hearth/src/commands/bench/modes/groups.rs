//! Group chats: one writes, all others read.

use super::Bench;
use crate::commands::bench::{
    args::{CONNECTIONS_MAX, Places, Writing, within},
    load::Plan,
    report::Report,
};
use anyhow::{Result, bail};
use types::limits;

/// Groups of one sender and its readers. Deliveries are counted at every member but the sender; in a closed
/// loop a message is under way until it is acked and every reader has it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Groups {
    /// How many members each group has, the sender counted.
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub(crate) members: usize,
    /// How many groups write at the same time.
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub(crate) groups: usize,
    #[command(flatten)]
    pub(crate) places: Places,
    #[command(flatten)]
    pub(crate) writing: Writing,
}

impl Groups {
    pub(crate) fn check(&self) -> Result<()> {
        within("members", self.members, 2..=limits::MEMBERS_MAX)?;
        within("groups", self.groups, 1..=CONNECTIONS_MAX)?;
        if self.members * self.groups > CONNECTIONS_MAX {
            bail!("{} members are more than {CONNECTIONS_MAX} connections", self.members * self.groups);
        }
        self.writing.check()
    }

    pub(crate) async fn run(&self, bench: &Bench) -> Result<Report> {
        let shape = bench.shape(&self.places, self.members, 1)?;
        let until_delivered = |plan| Plan { until_delivered: true, ..plan };
        let loaded = bench.load(shape, self.groups, &self.writing, until_delivered).await?;
        let what = format!("{} groups of {}, {}", self.groups, self.members, self.writing.told());
        let mut report = bench.report("groups", what);
        report.add_load(&loaded.tally, &loaded.servers, &loaded.seen, self.writing.body_bytes);
        Ok(report)
    }
}
