//! What each process used in the counted time.

use super::super::servers::{Role, Seen, Servers, Usage, Watched};
use serde::Serialize;

/// A process in a run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ProcessReport {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) user_us: f64,
    pub(crate) system_us: f64,
    /// User and system, of each message; `None` where there were none.
    pub(crate) cpu_us_per_message: Option<f64>,
    /// In the end.
    pub(crate) rss_bytes: u64,
    /// Handed to the block layer.
    pub(crate) written_bytes: f64,
    pub(crate) context_switches: f64,
}

pub(super) fn reports(servers: &Servers, seen: &Seen, messages: f64) -> Vec<ProcessReport> {
    let looks = seen.first.usage.iter().zip(&seen.last.usage);
    let report = |(process, (first, last)): (&Watched, (&Usage, &Usage))| {
        let used = last.since(first);
        ProcessReport {
            name: process.name.clone(),
            role: process.role,
            user_us: used.user_us as f64,
            system_us: used.system_us as f64,
            cpu_us_per_message: (messages > 0.0).then(|| used.cpu_us() as f64 / messages),
            rss_bytes: used.rss_bytes,
            written_bytes: used.written_bytes as f64,
            context_switches: used.context_switches as f64,
        }
    };
    servers.processes.iter().zip(looks).map(report).collect()
}
