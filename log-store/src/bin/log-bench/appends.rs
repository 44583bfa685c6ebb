//! Appends: how many, how long each, at what cost.

use crate::{
    args::Args,
    disk, engine,
    load::{Home, merge, random_bytes},
    report::{Report, count, latencies, quantile_ms},
    usage::Usage,
};
use anyhow::Result;
use std::time::{Duration, Instant};

/// Writes to a new store for the time given. The cost is taken after the store was closed, when all that
/// was written is folded.
pub(crate) async fn measure(args: &Args, in_flight: usize, report: &mut Report) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("log-bench-").tempdir_in(&args.dir)?;
    let random = random_bytes();
    let store = engine::open(dir.path()).await?;
    let mut homes = Home::all(args, &random);
    homes.truncate(in_flight);
    let windows = share(in_flight, homes.len());

    let (before, started) = (Usage::now()?, Instant::now());
    let until = started + Duration::from_secs(args.seconds);
    let tasks: Vec<_> = homes
        .into_iter()
        .zip(windows)
        .map(|(home, window)| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut taken = latencies();
                let goes_on = |_| Instant::now() < until;
                let records =
                    home.write(store, window, goes_on, |begun| count(&mut taken, begun.elapsed())).await?;
                anyhow::Ok((records, taken))
            })
        })
        .collect();
    let (mut records, mut taken) = (0, Vec::new());
    for task in tasks {
        let (of_home, latencies) = task.await??;
        records += of_home;
        taken.push(latencies);
    }
    let seconds = started.elapsed().as_secs_f64();
    store.close().await;
    drop(store);
    let used = before.since()?;
    let (taken, records) = (merge(taken), records as f64);
    let body_bytes = records * args.body_bytes as f64;
    report.line(
        &format!("{in_flight} in flight"),
        &[
            ("appends_per_s", records / seconds),
            ("p50_ms", quantile_ms(&taken, 0.5)),
            ("p99_ms", quantile_ms(&taken, 0.99)),
            ("p999_ms", quantile_ms(&taken, 0.999)),
            ("cpu_us_per_append", used.cpu_us / records),
            ("segment_bytes_per_byte", disk::segment_bytes(dir.path())? as f64 / body_bytes),
            ("disk_bytes_per_byte", used.disk_bytes / body_bytes),
            ("appends", records),
        ],
    );
    Ok(())
}

/// Shares a window out over homes; none gets less than one.
fn share(in_flight: usize, homes: usize) -> Vec<usize> {
    (0..homes).map(|home| in_flight / homes + usize::from(home < in_flight % homes)).collect()
}
