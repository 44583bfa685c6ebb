//! A process is killed while it appends, many times over one folder.

use crate::support::{batch, log, message, partition, picture, small};
use futures_util::{StreamExt, stream::FuturesUnordered};
use log_store::{
    LogStore,
    embedded::{Config, EmbeddedStore},
};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const FOLDER_VARIABLE: &str = "HEARTH_TEST_APPENDING_CHILD";
const KILLS: u32 = 50;
const PARTITIONS: u32 = 4;
const UNDER_WAY: u64 = 16;

fn config() -> Config {
    Config { segment_bytes: 64 * 1024, fold_records: 500, fold_interval_ms: 50, ..small() }
}

fn text(partition: u32, lsn: u64) -> String {
    format!("{lsn} of {partition} {}", "sealed ".repeat((lsn % 40) as usize))
}

/// Appends for ever, and says what was acked. Does nothing where no parent asks for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appending_child() {
    let Ok(folder) = std::env::var(FOLDER_VARIABLE) else { return };
    let store = EmbeddedStore::open(Path::new(&folder), config()).expect("it opens");
    let mut tasks = Vec::new();
    for of in 0..PARTITIONS {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            let mut lsn = store.end(partition(of)).await.expect("it is open").last.lsn.get();
            let mut under_way = FuturesUnordered::new();
            loop {
                while under_way.len() < UNDER_WAY as usize {
                    lsn += 1;
                    let record = message(lsn, 1, log(of as u8), lsn, &text(of, lsn));
                    under_way.push(store.append(batch(partition(of), 1, vec![record])));
                }
                let durable = under_way.next().await.expect("some are under way").expect("it follows");
                let line = format!("acked {of} {}\n", durable.lsn);
                std::io::stdout().write_all(line.as_bytes()).expect("the parent listens");
            }
        }));
    }
    futures_util::future::join_all(tasks).await;
}

/// Runs a child for a while and kills it; the highest LSN that it said was acked, by partition.
fn append_and_kill(folder: &Path, run_for: Duration) -> BTreeMap<u32, u64> {
    let mut child = Command::new(std::env::current_exe().expect("this test has a file"))
        .args(["kill::appending_child", "--exact", "--nocapture"])
        .env(FOLDER_VARIABLE, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("this test can be run again");
    let said = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut acked = BTreeMap::new();
    let mut kill_at = None;
    let mut killed = false;
    for line in said.lines().map_while(Result::ok) {
        if let Some((of, lsn)) = line.strip_prefix("acked ").and_then(|rest| rest.split_once(' ')) {
            let of: u32 = of.parse().expect("a partition");
            let highest = acked.entry(of).or_insert(0);
            *highest = u64::max(*highest, lsn.parse().expect("an LSN"));
            kill_at.get_or_insert_with(|| Instant::now() + run_for);
        }
        if !killed && kill_at.is_some_and(|at| Instant::now() >= at) {
            child.kill().expect("it is running");
            killed = true;
        }
    }
    child.wait().expect("it was started here");
    assert!(killed, "the child ended by itself");
    acked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acked_is_lost_by_fifty_kills() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    for kill in 0..KILLS {
        let path = folder.path().to_owned();
        let run_for = Duration::from_millis(u64::from(5 + kill * 7 % 40));
        let acked = tokio::task::spawn_blocking(move || append_and_kill(&path, run_for)).await;
        let acked = acked.expect("it does not panic");
        let store = EmbeddedStore::open(folder.path(), config()).expect("it opens after a kill");
        for (of, lsn) in acked {
            let end = store.end(partition(of)).await.expect("it is open").last.lsn.get();
            assert!(end >= lsn, "kill {kill}: lsn {lsn} of partition {of} was acked, and it ends at {end}");
            if kill % 10 == 9 {
                let records = picture(&*store, partition(of)).await.records;
                for (at, record) in records.iter().enumerate() {
                    let lsn = at as u64 + 1;
                    assert_eq!(*record, message(lsn, 1, log(of as u8), lsn, &text(of, lsn)));
                }
            }
        }
    }
}
