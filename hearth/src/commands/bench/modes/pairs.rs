//! One-to-one chats.

use super::Bench;
use crate::commands::bench::{
    args::{CONNECTIONS_MAX, Places, Writing, within},
    report::Report,
};
use anyhow::Result;

/// Pairs of a sender and a receiver, each with a chat of its own.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Pairs {
    /// How many pairs write at the same time.
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub(crate) pairs: usize,
    /// How many chats each pair shares; its messages go round them.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) chats: usize,
    #[command(flatten)]
    pub(crate) places: Places,
    #[command(flatten)]
    pub(crate) writing: Writing,
}

impl Pairs {
    pub(crate) fn check(&self) -> Result<()> {
        within("pairs", self.pairs, 1..=CONNECTIONS_MAX / 2)?;
        within("chats", self.chats, 1..=types::limits::SESSION_LOGS_MAX)?;
        self.writing.check()
    }

    pub(crate) async fn run(&self, bench: &Bench) -> Result<Report> {
        let shape = bench.shape(&self.places, 2, self.chats)?;
        let loaded = bench.load(shape, self.pairs, &self.writing, |plan| plan).await?;
        let chats = match self.chats {
            1 => String::new(),
            chats => format!(" with {chats} chats each"),
        };
        let mut report =
            bench.report("pairs", format!("{} pairs{chats}, {}", self.pairs, self.writing.told()));
        report.add_load(&loaded.tally, &loaded.servers, &loaded.seen, self.writing.body_bytes);
        Ok(report)
    }
}
