//! The machine's own yardsticks: without them no figure of a run can be compared with another machine's.

use super::load::latencies;
use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::{
    fmt,
    fs::File,
    hint::black_box,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// For each yardstick.
const FOR: Duration = Duration::from_secs(1);
/// What is appended and synced: a small group of messages.
const APPEND_BYTES: usize = 4 * 1024;
/// What goes round: a small message.
const ECHO_BYTES: usize = 64;

/// What the machine can do, measured.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Yardsticks {
    pub(crate) cores: usize,
    /// Hashed by one core, out of its cache.
    pub(crate) sha256_mb_per_s: f64,
    /// Appends of 4 KiB, each synced with `fdatasync`, one after the other, in the data folder.
    pub(crate) syncs_per_s: f64,
    pub(crate) sync_p50_ms: f64,
    pub(crate) sync_p99_ms: f64,
    /// Round trips of 64 bytes over one loopback connection between two threads.
    pub(crate) loopback_p50_us: f64,
    pub(crate) loopback_p99_us: f64,
    /// Of the last minute, when the run began.
    pub(crate) load_average: f64,
}

impl fmt::Display for Yardsticks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "machine: {} cores, load average {:.1}; SHA-256 {:.0} MB/s on one core; 4 KiB appended and synced {:.0}/s, \
             p50 {:.2} ms, p99 {:.2} ms; loopback round trip p50 {:.1} µs, p99 {:.1} µs",
            self.cores,
            self.load_average,
            self.sha256_mb_per_s,
            self.syncs_per_s,
            self.sync_p50_ms,
            self.sync_p99_ms,
            self.loopback_p50_us,
            self.loopback_p99_us
        )
    }
}

/// Measures, in about three seconds. `dir` is where the servers' data is. Blocks.
pub(crate) fn measure(dir: &Path) -> Result<Yardsticks> {
    let load_average = load_average();
    let (sync_us, syncing) = syncs(dir)?;
    let loopback_us = round_trips()?;
    Ok(Yardsticks {
        cores: thread::available_parallelism()?.get(),
        sha256_mb_per_s: hashed_mb_per_s(),
        syncs_per_s: sync_us.len() as f64 / syncing.as_secs_f64(),
        sync_p50_ms: sync_us.value_at_quantile(0.5) as f64 / 1e3,
        sync_p99_ms: sync_us.value_at_quantile(0.99) as f64 / 1e3,
        loopback_p50_us: loopback_us.value_at_quantile(0.5) as f64 / 1e3,
        loopback_p99_us: loopback_us.value_at_quantile(0.99) as f64 / 1e3,
        load_average,
    })
}

fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}

fn hashed_mb_per_s() -> f64 {
    let block = vec![7_u8; 64 << 10];
    let (started, mut bytes) = (Instant::now(), 0);
    while started.elapsed() < FOR {
        black_box(Sha256::digest(black_box(&block)));
        bytes += block.len();
    }
    bytes as f64 / 1e6 / started.elapsed().as_secs_f64()
}

fn syncs(dir: &Path) -> Result<(Histogram<u64>, Duration)> {
    let mut file: File =
        tempfile::tempfile_in(dir).with_context(|| format!("cannot write in {}", dir.display()))?;
    let block = vec![7_u8; APPEND_BYTES];
    let mut taken_us = latencies();
    let started = Instant::now();
    while started.elapsed() < FOR {
        let begun = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        taken_us.saturating_record(begun.elapsed().as_micros() as u64);
    }
    Ok((taken_us, started.elapsed()))
}

/// In ns.
fn round_trips() -> Result<Histogram<u64>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut near = TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let echo = thread::spawn(move || {
        let mut bytes = [0; ECHO_BYTES];
        while far.read_exact(&mut bytes).and_then(|()| far.write_all(&bytes)).is_ok() {}
    });
    let (mut bytes, mut taken_ns) = ([0; ECHO_BYTES], latencies());
    let started = Instant::now();
    while started.elapsed() < FOR {
        let begun = Instant::now();
        near.write_all(&bytes)?;
        near.read_exact(&mut bytes)?;
        taken_ns.saturating_record(begun.elapsed().as_nanos() as u64);
    }
    drop(near);
    echo.join().expect("a panic aborts");
    Ok(taken_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_hashes_syncs_and_answers() {
        let folder = tempfile::tempdir().expect("a folder");
        let measured = measure(folder.path()).expect("it is measured");
        assert!(measured.sha256_mb_per_s > 0.0 && measured.syncs_per_s > 0.0);
        assert!(measured.loopback_p50_us > 0.0 && measured.loopback_p50_us <= measured.loopback_p99_us);
    }
}
