//! A big store: killed, opened again, read in pages.

use crate::{
    args::Args,
    disk, engine,
    load::{self, Home},
    report::{Report, count, latencies, quantile_ms},
};
use anyhow::{Result, ensure};
use log_store::{LogStore, Scan};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::{path::Path, process::Command, sync::Arc, time::Instant};
use types::{Offset, limits};

const FILL_WINDOW: usize = 64;

/// Writes records and dies as a killed process does: with nothing closed.
pub(crate) async fn fill_and_abort(args: &Args, records: u64) -> Result<()> {
    let store = engine::open(&args.dir).await?;
    let of_each = records.div_ceil(u64::from(args.partitions));
    let tasks: Vec<_> = Home::all(args, &load::random_bytes())
        .into_iter()
        .map(|home| {
            let goes_on = move |written| written < of_each;
            tokio::spawn(home.write(store.clone(), FILL_WINDOW, goes_on, |_| {}))
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    std::process::abort()
}

/// Fills a store in a process that dies, then opens it and reads pages, cold and warm.
pub(crate) async fn measure(args: &Args, report: &mut Report) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("log-bench-").tempdir_in(&args.dir)?;
    fill(args, dir.path())?;

    disk::drop_cached(dir.path())?;
    let (store, after_kill_s) = timed_open(args, dir.path()).await?;
    store.close().await;
    drop(store);
    disk::drop_cached(dir.path())?;
    let (store, after_close_s) = timed_open(args, dir.path()).await?;
    let figures = [("after_kill_s", after_kill_s), ("after_close_s", after_close_s)];
    report.line(&format!("reopening {} records, cold", args.records), &figures);

    disk::drop_cached(dir.path())?;
    read_pages(args, &store, "cold", args.pages.div_ceil(10), report).await?;
    read_pages(args, &store, "", args.pages, report).await?;
    read_pages(args, &store, "warm", args.pages, report).await?;
    store.close().await;
    Ok(())
}

fn fill(args: &Args, dir: &Path) -> Result<()> {
    let status = Command::new(std::env::current_exe()?)
        .arg("--dir")
        .arg(dir)
        .args(["--fill-and-abort", &args.records.to_string()])
        .args(["--logs", &args.logs.to_string()])
        .args(["--partitions", &args.partitions.to_string()])
        .args(["--body-bytes", &args.body_bytes.to_string()])
        .status()?;
    ensure!(status.code().is_none(), "filling the store ended early: {status}");
    Ok(())
}

/// Opens the store and reads each partition's end, which needs all of it to be there.
async fn timed_open(args: &Args, dir: &Path) -> Result<(Arc<dyn LogStore>, f64)> {
    let started = Instant::now();
    let store = engine::open(dir).await?;
    let mut records = 0;
    for partition in store.partitions().await? {
        records += store.end(partition).await?.last.lsn.get();
    }
    let seconds = started.elapsed().as_secs_f64();
    ensure!(records >= args.records, "{records} of {} records are there", args.records);
    Ok((store, seconds))
}

/// Reads the newest entries of random logs; without a name it only warms up.
async fn read_pages(
    args: &Args,
    store: &Arc<dyn LogStore>,
    name: &str,
    pages: usize,
    report: &mut Report,
) -> Result<()> {
    let mut rng = SmallRng::seed_from_u64(11);
    let mut taken = latencies();
    let (started, mut entries) = (Instant::now(), 0);
    for _ in 0..pages {
        let (partition, log) = load::log(args, rng.random_range(0..args.logs));
        let newest = Scan::Before(Offset::new(u64::MAX));
        let begun = Instant::now();
        let page =
            store.read_log(partition, log, newest, args.page_entries, limits::PAGE_MAX_BYTES, 0).await?;
        count(&mut taken, begun.elapsed());
        ensure!(page.iter().all(|record| record.log == log), "another log's entry in a page of {log}");
        entries += page.len();
    }
    if !name.is_empty() {
        let per_s = pages as f64 / started.elapsed().as_secs_f64();
        let of_each = entries as f64 / pages as f64;
        let (p50, p99) = (quantile_ms(&taken, 0.5), quantile_ms(&taken, 0.99));
        report.line(
            &format!("pages of {} entries, {name}", args.page_entries),
            &[("pages_per_s", per_s), ("p50_ms", p50), ("p99_ms", p99), ("entries", of_each)],
        );
    }
    Ok(())
}
