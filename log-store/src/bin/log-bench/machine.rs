//! The machine's own yardsticks.

use crate::report::{Report, count, latencies, quantile_ms};
use anyhow::Result;
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    hint::black_box,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

const FOR: Duration = Duration::from_secs(2);

pub(crate) fn measure(dir: &Path, report: &mut Report) -> Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    report.line("machine", &[("cores", cores as f64), ("sha256_mb_per_s", hashed_mb_per_s())]);
    for (what, bytes) in [("fdatasync of 4 KiB", 4 << 10), ("fdatasync of 512 KiB", 512 << 10)] {
        let path = dir.join("yardstick");
        let synced = sync_writes(&path, bytes);
        fs::remove_file(&path)?;
        let (syncs_per_s, p50_ms, p99_ms) = synced?;
        let mb_per_s = syncs_per_s * bytes as f64 / 1e6;
        report.line(
            what,
            &[("syncs_per_s", syncs_per_s), ("mb_per_s", mb_per_s), ("p50_ms", p50_ms), ("p99_ms", p99_ms)],
        );
    }
    Ok(())
}

/// How fast one core hashes what it has in its cache.
fn hashed_mb_per_s() -> f64 {
    let block = vec![7_u8; 64 << 10];
    let (started, mut bytes) = (Instant::now(), 0);
    while started.elapsed() < FOR {
        black_box(Sha256::digest(black_box(&block)));
        bytes += block.len();
    }
    bytes as f64 / 1e6 / started.elapsed().as_secs_f64()
}

/// Appends and syncs, one after the other.
fn sync_writes(path: &Path, bytes: usize) -> Result<(f64, f64, f64)> {
    let mut file = File::create(path)?;
    let block = vec![7_u8; bytes];
    let mut taken = latencies();
    let started = Instant::now();
    while started.elapsed() < FOR {
        let begun = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        count(&mut taken, begun.elapsed());
    }
    let per_s = taken.len() as f64 / started.elapsed().as_secs_f64();
    Ok((per_s, quantile_ms(&taken, 0.5), quantile_ms(&taken, 0.99)))
}
