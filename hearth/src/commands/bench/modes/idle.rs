//! Connections that follow chats in which nothing happens.

use super::{Bench, blocking};
use crate::commands::bench::{
    args::{CONNECTIONS_MAX, within},
    load::{Crowd, latencies},
    report::{Counts, Latency, Report, figure},
    servers::{Look, Role, Seen, Servers},
};
use anyhow::{Result, bail};
use std::time::{Duration, Instant};
use types::RegionId;

/// Connections that say hello with all their chats, and then only ping. Their chats are opened first, by
/// connections that come and go.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Idle {
    /// How many connections.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub(crate) connections: usize,
    /// How many chats each follows.
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(crate) chats: usize,
    /// How many members each chat has: with 2 there are half as many chats as connections times chats.
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub(crate) members: usize,
    /// The region that they connect to [default: the deployment's first]
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<RegionId>,
    /// How long they are idle before memory is looked at.
    #[arg(long, default_value_t = 45, value_name = "N")]
    pub(crate) seconds: u64,
}

impl Idle {
    pub(crate) fn check(&self) -> Result<()> {
        within("connections", self.connections, 2..=CONNECTIONS_MAX)?;
        within("members", self.members, 2..=types::limits::MEMBERS_MAX.min(self.connections))?;
        within("chats", self.chats, 0..=types::limits::SESSION_LOGS_MAX.min(self.connections - 1))?;
        if !self.chats.is_multiple_of(self.members) {
            bail!("chats is {}, not a multiple of members, {}", self.chats, self.members);
        }
        within("seconds", self.seconds, 1..=3_600)
    }

    pub(crate) async fn run(&self, bench: &Bench) -> Result<Report> {
        let edge = bench.deployment.region(self.region.as_ref())?.edge.clone();
        let servers = Servers::of(&bench.deployment);
        let what = format!(
            "{} connections with {} chats of {} members each, idle for {} s",
            self.connections, self.chats, self.members, self.seconds
        );
        let mut report = bench.report("idle", what);
        let args = self.clone();
        blocking(move || {
            args.measure(&edge, &servers, &mut report)?;
            Ok(report)
        })
        .await
    }

    fn measure(&self, edge: &str, servers: &Servers, report: &mut Report) -> Result<()> {
        let empty = servers.look()?;
        let began = Instant::now();
        let crowd = Crowd::open_chats(edge, self.connections, self.chats, self.members)?;
        let opening_s = began.elapsed().as_secs_f64();
        let with_chats = servers.look()?;
        let mut resume_us = latencies();
        let began = Instant::now();
        let mut resumed = crowd.resume(edge, &mut resume_us)?;
        let resuming_s = began.elapsed().as_secs_f64();
        // The first seconds still settle what the beginning has stirred up.
        let settling = Duration::from_secs(self.seconds) / 3;
        resumed.stay(settling)?;
        let (began, first) = (Instant::now(), servers.look()?);
        resumed.stay(Duration::from_secs(self.seconds) - settling)?;
        let last = servers.look()?;
        let seen = Seen { first, last, seconds: began.elapsed().as_secs_f64(), over_time: Vec::new() };
        drop(resumed);

        let connections = self.connections as f64;
        let rss = |look: &Look| -> f64 {
            let of = servers.processes.iter().zip(&look.usage);
            of.filter(|(process, _)| process.role == Role::Server)
                .map(|(_, usage)| usage.rss_bytes as f64)
                .sum()
        };
        let (mib, kib) = (f64::from(1 << 20), 1_024.0);
        report.put(figure::CONNECTIONS, connections);
        report.put(figure::CHATS, crowd.chats() as f64);
        report.put(figure::RSS_PER_CONNECTION, (rss(&seen.last) - rss(&with_chats)) / kib / connections);
        report.put(figure::RSS_IN_ALL_PER_CONNECTION, rss(&seen.last) / kib / connections);
        report.put(figure::RSS_EMPTY, rss(&empty) / mib);
        report.put(figure::RSS_CHATS, rss(&with_chats) / mib);
        report.put(figure::RSS_CONNECTED, rss(&seen.last) / mib);
        report.put(figure::OPENED, crowd.chats() as f64 / opening_s);
        report.put(figure::RESUMED, resuming_s);
        report.latencies.push(Latency::of("resume", &resume_us));
        report.add_usage(servers, &seen, Counts { messages: 0.0, deliveries: 0.0, body_bytes: 0 });
        let of_servers = report.processes.iter().filter(|process| process.role == Role::Server);
        let cpu_us: f64 = of_servers.map(|process| process.user_us + process.system_us).sum();
        report.put(figure::IDLE_CPU, cpu_us / 1e4 / seen.seconds);
        Ok(())
    }
}
