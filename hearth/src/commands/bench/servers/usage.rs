//! What the system says that a process has used: `/proc/PID/{stat,status,io}`.

use anyhow::{Context as _, Result};
use nix::unistd::{SysconfVar, sysconf};
use std::fs;

/// What a process has used since it began; RSS is what it holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) user_us: u64,
    pub(crate) system_us: u64,
    pub(crate) rss_bytes: u64,
    /// Handed to the block layer.
    pub(crate) written_bytes: u64,
    /// Of all threads that live.
    pub(crate) context_switches: u64,
}

impl Usage {
    /// What a process has used so far.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            fs::read_to_string(&path).with_context(|| format!("cannot read {path}: has the process ended?"))
        };
        let ticks_per_s = sysconf(SysconfVar::CLK_TCK)?.context("the system names no clock tick")?;
        let (user, system) = cpu_ticks(&read("stat")?).context("/proc/PID/stat is of another kind")?;
        let us = |ticks: u64| ticks * 1_000_000 / u64::try_from(ticks_per_s).unwrap_or(100).max(1);
        let rss_kib = field(&read("status")?, "VmRSS:").unwrap_or(0);
        Ok(Self {
            user_us: us(user),
            system_us: us(system),
            rss_bytes: rss_kib * 1_024,
            written_bytes: field(&read("io")?, "write_bytes:").unwrap_or(0),
            context_switches: context_switches(pid)?,
        })
    }

    /// User and system time.
    pub(crate) const fn cpu_us(&self) -> u64 {
        self.user_us + self.system_us
    }

    /// What was used after `earlier`.
    pub(crate) const fn since(&self, earlier: &Self) -> Self {
        Self {
            user_us: self.user_us.saturating_sub(earlier.user_us),
            system_us: self.system_us.saturating_sub(earlier.system_us),
            rss_bytes: self.rss_bytes,
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
            context_switches: self.context_switches.saturating_sub(earlier.context_switches),
        }
    }
}

/// `status` of a process counts the switches of its first thread only.
fn context_switches(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end between the two looks.
        if let Ok(status) = fs::read_to_string(task?.path().join("status")) {
            let count = |name| field(&status, name).unwrap_or(0);
            sum += count("voluntary_ctxt_switches:") + count("nonvoluntary_ctxt_switches:");
        }
    }
    Ok(sum)
}

/// User and system time in clock ticks. The command name, in parentheses, may hold anything.
fn cpu_ticks(stat: &str) -> Option<(u64, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_command_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194304 100 0 0 0 523 77 0 0 20 0 9 0 1";
        assert_eq!(cpu_ticks(stat), Some((523, 77)));
        assert_eq!(cpu_ticks("7 (hearth"), None);
    }

    #[test]
    fn this_process_has_used_something() {
        let first = Usage::of(std::process::id()).expect("its own figures");
        assert!(first.rss_bytes > 0 && first.context_switches > 0);
        let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
        let used = loop {
            let used = Usage::of(std::process::id()).expect("its own figures").since(&first);
            if used.cpu_us() > 0 {
                break used;
            }
            assert!(std::time::Instant::now() < until, "no CPU time after 30 s of a busy loop");
        };
        assert!(used.cpu_us() < 60_000_000);
    }
}
