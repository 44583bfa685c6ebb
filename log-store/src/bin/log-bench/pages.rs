//! A big store: killed, opened again, read in pages.

use crate::{
    args::Args,
    disk, engine,
    load::{self, Home, merge},
    report::{Report, count, latencies, quantile_ms},
    usage::Usage,
};
use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
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

/// Reads pages at random places of random logs, one reader beside the other; without a name it only warms
/// up.
async fn read_pages(
    args: &Args,
    store: &Arc<dyn LogStore>,
    name: &str,
    pages: usize,
    report: &mut Report,
) -> Result<()> {
    let (started, before) = (Instant::now(), Usage::now()?);
    let of_each = pages.div_ceil(args.readers);
    let readers: Vec<_> = (0..args.readers)
        .map(|reader| tokio::spawn(read_some(args.clone(), store.clone(), reader as u64, of_each)))
        .collect();
    let (mut taken, mut entries) = (Vec::new(), 0);
    for reader in readers {
        let (of_reader, read) = reader.await??;
        taken.push(of_reader);
        entries += read;
    }
    if !name.is_empty() {
        let (taken, pages) = (merge(taken), (of_each * args.readers) as f64);
        report.line(
            &format!("pages of {} entries, {} readers, {name}", args.page_entries, args.readers),
            &[
                ("pages_per_s", pages / started.elapsed().as_secs_f64()),
                ("p50_ms", quantile_ms(&taken, 0.5)),
                ("p99_ms", quantile_ms(&taken, 0.99)),
                ("cpu_us_per_page", before.since()?.cpu_us / pages),
                ("entries", entries as f64 / pages),
            ],
        );
    }
    Ok(())
}

/// Reads pages one after the other; how long each took, and how many entries they had.
async fn read_some(
    args: Args,
    store: Arc<dyn LogStore>,
    seed: u64,
    pages: usize,
) -> Result<(Histogram<u64>, usize)> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let (mut taken, mut entries) = (latencies(), 0);
    for _ in 0..pages {
        let (partition, log) = load::log(&args, rng.random_range(0..args.logs));
        let begun = Instant::now();
        let state = store.log_state(partition, log).await?.context("a log without a record")?;
        let last = rng.random_range(0..state.head.offset.get()) + 1;
        let scan = Scan::Before(Offset::new(last + 1));
        let page = store.read_log(partition, log, scan, args.page_entries, limits::PAGE_MAX_BYTES, 0).await?;
        count(&mut taken, begun.elapsed());
        ensure!(page.iter().all(|record| record.log == log), "another log's entry in a page of {log}");
        entries += page.len();
    }
    Ok((taken, entries))
}
