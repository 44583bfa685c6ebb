//! The machine stops at every write and every sync of a workload.
//!
//! What was acked is there afterwards, what was under way is there whole or not at all, and everything
//! that is derived is what a fresh fold derives. The memory engine is the model.

use crate::support::{
    Picture, archives, batch, copy, created, cursor, deleted, entry, expiring, log, message, open, partition,
    picture, scratch, small,
};
use log_store::{
    Append, ArchiveId, LogStore, StoreError,
    embedded::{Config, EmbeddedStore, Switches},
    files::cut::{CutFiles, Survive},
    memory::MemoryStore,
};
use std::{path::Path, sync::Arc};
use types::{EntryBody, Epoch, Lsn, PartitionId, StoreId};

/// The partitions that the workload writes.
const PARTITIONS: [PartitionId; 2] = [partition(0), partition(1)];
const EXPIRY_MS: u64 = 50;

#[derive(Debug, Clone)]
enum Step {
    /// Appends that are under way at once, each to a partition of its own.
    Append(Vec<Append>),
    Fence(PartitionId, u64),
    Archive(PartitionId, u64, u64),
    Truncate(PartitionId, u64, u64),
    Discard(u64),
    Reclaim(u64),
    Canary,
}

/// Whether the step was acked.
async fn take(step: &Step, store: &dyn LogStore) -> bool {
    match step.clone() {
        Step::Append(appends) => {
            let all: Vec<_> = appends.into_iter().map(|append| store.append(append)).collect();
            futures_util::future::join_all(all).await.iter().all(Result::is_ok)
        }
        Step::Fence(partition, epoch) => store.fence(partition, Epoch::new(epoch)).await.is_ok(),
        Step::Archive(partition, obeys, from) => {
            store.archive_tail(partition, Epoch::new(obeys), Lsn::new(from)).await.is_ok()
        }
        Step::Truncate(partition, obeys, from) => {
            store.truncate(partition, Epoch::new(obeys), Lsn::new(from)).await.is_ok()
        }
        Step::Discard(archive) => store.discard_archive(ArchiveId(archive)).await.is_ok(),
        Step::Reclaim(now_ms) => store.reclaim(now_ms).await.is_ok(),
        Step::Canary => store.canary().await.is_ok(),
    }
}

/// Appends to two partitions, several logs, a fence, a divergent tail, deletions, expiry, several
/// rotations.
fn workload() -> Vec<Step> {
    let [a, b] = PARTITIONS;
    let both = |a_records, b_records| Step::Append(vec![batch(a, 1, a_records), batch(b, 1, b_records)]);
    let text = |lsn: u64| format!("{lsn} {}", "sealed ".repeat(16));
    let mut steps =
        vec![both(vec![created(1, 1, log(1)), created(2, 1, log(3))], vec![created(1, 1, log(2))])];
    for round in 1..=6 {
        let lsn = round * 3;
        let a_records = vec![
            message(lsn, 1, log(1), round + 1, &text(lsn)),
            cursor(lsn + 1, 1, log(1), round),
            expiring(message(lsn + 2, 1, log(3), round + 1, &text(lsn)), EXPIRY_MS * round),
        ];
        let b_records = vec![message(round + 1, 1, log(2), round + 1, &text(round))];
        steps.push(both(a_records, b_records));
    }
    steps.push(Step::Append(vec![batch(a, 1, vec![deleted(21, 1, log(1), 8, &[2, 3])])]));
    steps.push(Step::Fence(a, 2));
    steps.push(Step::Append(vec![batch(a, 2, vec![message(22, 2, log(1), 9, &text(22))])]));
    steps.push(Step::Append(vec![batch(b, 1, vec![deleted(8, 1, log(2), 8, &[4]), created(9, 1, log(4))])]));
    steps.push(Step::Fence(b, 3));
    steps.push(Step::Archive(b, 3, 6));
    steps.push(Step::Truncate(b, 3, 6));
    for round in 0..4 {
        let lsn = 6 + round;
        steps.push(Step::Append(vec![batch(b, 3, vec![message(lsn, 3, log(2), lsn, &text(lsn))])]));
    }
    steps.push(Step::Reclaim(EXPIRY_MS * 3));
    steps.push(Step::Canary);
    steps.push(Step::Append(vec![batch(
        a,
        2,
        vec![
            entry(23, 2, log(5), 1, EntryBody::Message { ciphertext: text(23).into() }),
            message(24, 2, log(3), 8, &text(24)),
        ],
    )]));
    steps.push(Step::Discard(1));
    steps.push(Step::Reclaim(EXPIRY_MS * 3));
    steps.push(Step::Fence(a, 3));
    steps.push(Step::Append(vec![batch(a, 3, vec![message(25, 3, log(5), 2, &text(25))])]));
    steps
}

/// What must be there, and what may be.
struct Model {
    acked: MemoryStore,
    with_under_way: MemoryStore,
}

/// Runs the workload until it ends or the machine stops.
async fn run(store: &dyn LogStore) -> (Model, bool) {
    let id = StoreId::from_bytes([0; 16]);
    let model = Model { acked: MemoryStore::new(id), with_under_way: MemoryStore::new(id) };
    for step in workload() {
        let acked = take(&step, store).await;
        assert!(take(&step, &model.with_under_way).await, "the model takes {step:?}");
        if !acked {
            return (model, false);
        }
        assert!(take(&step, &model.acked).await, "the model takes {step:?}");
    }
    (model, true)
}

/// What does not hold of a store that was found after a crash.
async fn compare(store: &dyn LogStore, model: &Model) -> Result<Vec<Picture>, String> {
    let mut pictures = Vec::new();
    for partition in PARTITIONS {
        let found = picture(store, partition).await;
        let least = picture(&model.acked, partition).await;
        let most = picture(&model.with_under_way, partition).await;
        if found != least && found != most {
            return Err(format!("partition {partition} is {found:?}\nnot {least:?}\nnor {most:?}"));
        }
        pictures.push(found);
    }
    let found = archives(store).await;
    if found != archives(&model.acked).await && found != archives(&model.with_under_way).await {
        return Err(format!("the archives are {found:?}"));
    }
    Ok(pictures)
}

/// Opens what a crash has left and looks at it.
async fn recover(files: &CutFiles, model: &Model) -> Result<(), String> {
    let opened = EmbeddedStore::open_on(Arc::new(files.clone()), small());
    let store = opened.map_err(|error| format!("it does not open: {error}"))?;
    let pictures = compare(&*store, model).await?;
    for (partition, picture) in PARTITIONS.into_iter().zip(pictures) {
        let (lsn, epoch) = (picture.end.last.lsn.get() + 1, 9);
        let next = created(lsn, epoch, log(99));
        let durable = store.append(batch(partition, epoch, vec![next])).await;
        durable.map_err(|error| format!("it does not go on: {error}"))?;
    }
    Ok(())
}

/// Crashes a store that has recovered and written on, and looks whether it is still as it was.
async fn crash_again(files: &CutFiles) -> Result<(), String> {
    let store = open(files, small());
    let before = [picture(&*store, PARTITIONS[0]).await, picture(&*store, PARTITIONS[1]).await];
    drop(store);
    let store = open(&files.crash(Survive::Nothing), small());
    let after = [picture(&*store, PARTITIONS[0]).await, picture(&*store, PARTITIONS[1]).await];
    if before == after { Ok(()) } else { Err("what was written after the crash is gone".into()) }
}

/// Stops the machine at one operation and recovers in every way; whether the workload got that far.
async fn cut_at(operation: u64, config: Config) -> Result<bool, String> {
    let folder = scratch();
    let live = folder.path().join("live");
    let files = CutFiles::new(&live);
    files.cut_at(operation);
    let opened = EmbeddedStore::open_on(Arc::new(files.clone()), config);
    let (model, complete) = match opened {
        Ok(store) => run(&*store).await,
        Err(_) if files.is_cut() => {
            let id = StoreId::from_bytes([0; 16]);
            (Model { acked: MemoryStore::new(id), with_under_way: MemoryStore::new(id) }, false)
        }
        Err(error) => return Err(format!("it does not open: {error}")),
    };
    if complete && !files.is_cut() {
        return Ok(false);
    }
    let ways =
        [Survive::Nothing, Survive::Torn(operation), Survive::Torn(operation ^ 77), Survive::Everything];
    for (at, survive) in ways.into_iter().enumerate() {
        for keep_fold in [true, false] {
            let path = folder.path().join(format!("{at} {keep_fold}"));
            if keep_fold && live.is_dir() {
                copy(&live, &path);
            }
            let crashed = files.fork(&path).crash(survive);
            let what = |error| format!("cut at {operation}, {survive:?}, fold kept: {keep_fold}: {error}");
            recover(&crashed, &model).await.map_err(what)?;
            if survive == Survive::Torn(operation) {
                crash_again(&crashed).await.map_err(what)?;
            }
        }
    }
    Ok(true)
}

/// The first cut that is not survived, of so many.
async fn first_failure(config: Config, every: u64) -> Option<String> {
    for operation in 1.. {
        if operation % every != 0 {
            continue;
        }
        match cut_at(operation, config.clone()).await {
            Ok(true) => {}
            Ok(false) => {
                println!("the workload has {operation} operations");
                return None;
            }
            Err(error) => return Some(error),
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_write_or_sync_loses_nothing_acked() {
    assert_eq!(first_failure(small(), 1).await, None);
}

/// Crashes the machine while it recovers from a crash, at every operation of the recovery.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_while_recovering_loses_nothing_either() {
    for first in [15, 40, 60, 80] {
        let folder = scratch();
        let files = CutFiles::new(&folder.path().join("live"));
        files.cut_at(first);
        let store = open(&files, small());
        let (model, _) = run(&*store).await;
        drop(store);
        let crashed = files.crash(Survive::Torn(first));
        for second in 1.. {
            let again = crashed.fork(&folder.path().join(second.to_string()));
            again.cut_at(second);
            let opened = EmbeddedStore::open_on(Arc::new(again.clone()), small());
            drop(opened);
            if !again.is_cut() {
                break;
            }
            let recovered = recover(&again.crash(Survive::Torn(second)), &model).await;
            assert_eq!(recovered, Ok(()), "cut at {first}, and again at {second}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_crash_test_catches_an_ack_before_the_sync() {
    let switches = Switches { ack_before_sync: true, ..Switches::default() };
    let failure = first_failure(Config { switches, ..small() }, 1).await;
    println!("caught: {}", failure.as_deref().unwrap_or("nothing").chars().take(200).collect::<String>());
    assert!(failure.is_some());
}

/// Kills the process at one operation, looks at what the next one serves, and then crashes the machine.
/// What was served must stay. `None` when the workload ends before that operation.
async fn stays(operation: u64, config: Config) -> Option<Result<bool, StoreError>> {
    let folder = scratch();
    let files = CutFiles::new(folder.path());
    files.cut_at(operation);
    let opened = EmbeddedStore::open_on(Arc::new(files.clone()), config.clone());
    if let Ok(store) = opened {
        let (_, complete) = run(&*store).await;
        if complete && !files.is_cut() {
            return None;
        }
    }
    let killed = files.kill();
    let store = open(&killed, config.clone());
    let served = [picture(&*store, PARTITIONS[0]).await, picture(&*store, PARTITIONS[1]).await];
    drop(store);
    wipe_fold(folder.path());
    let store = match EmbeddedStore::open_on(Arc::new(killed.crash(Survive::Nothing)), config) {
        Ok(store) => store,
        Err(error) => return Some(Err(error)),
    };
    let left = [picture(&*store, PARTITIONS[0]).await, picture(&*store, PARTITIONS[1]).await];
    Some(Ok(served == left))
}

fn wipe_fold(folder: &Path) {
    std::fs::remove_dir_all(folder.join("fold")).expect("there is a fold");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_served_after_a_kill_survives_a_crash() {
    for operation in 1.. {
        match stays(operation, small()).await {
            Some(stays) => assert_eq!(stays, Ok(true), "killed at {operation}"),
            None => break,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_crash_test_catches_a_tail_that_is_served_unsynced() {
    let switches = Switches { serve_unsynced_tail: true, ..Switches::default() };
    for operation in 1.. {
        match stays(operation, Config { switches, ..small() }).await {
            Some(Ok(false)) => return println!("caught: killed at {operation}"),
            Some(_) => {}
            None => break,
        }
    }
    panic!("the planted bug was not caught");
}
