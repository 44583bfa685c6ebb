//! What this process has used so far.

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};

/// CPU time and bytes handed to the disk, of all threads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// User and system time, in µs.
    pub(crate) cpu_us: f64,
    /// Bytes that went to the block layer, those of the fold included.
    pub(crate) disk_bytes: f64,
}

impl Usage {
    pub(crate) fn now() -> Result<Self> {
        let used = getrusage(UsageWho::RUSAGE_SELF)?;
        let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 * 1e6 + time.tv_usec() as f64;
        let io = std::fs::read_to_string("/proc/self/io").context("cannot read /proc/self/io")?;
        let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        let disk_bytes = written.context("no write_bytes in /proc/self/io")?.parse()?;
        Ok(Self { cpu_us: seconds(used.user_time()) + seconds(used.system_time()), disk_bytes })
    }

    /// What was used since.
    pub(crate) fn since(&self) -> Result<Self> {
        let now = Self::now()?;
        Ok(Self { cpu_us: now.cpu_us - self.cpu_us, disk_bytes: now.disk_bytes - self.disk_bytes })
    }
}
