//! What is counted in instructions: see `benches/instructions.sh` at the root.

mod support;

use log_store::{
    Append, LogStore, Scan,
    check::Checker,
    embedded::{Config, EmbeddedStore},
    fold::LogState,
};
use std::{hint::black_box, sync::Arc};
use support::{Empty, message};
use tokio::runtime::{Builder, Runtime};
use types::{Epoch, LogId, Offset, PartitionId, Record};

const PARTITION: PartitionId = PartitionId::new(0);
const BATCH: u64 = 64;
const PAGE: usize = 50;
const PAGE_BYTES: usize = 1 << 20;

/// A name, and what runs it so many times.
type Workload = (&'static str, fn(u64));

const WORKLOADS: &[Workload] = &[
    ("record-encode", encode),
    ("record-decode", decode),
    ("check-batch-of-64", check),
    ("fold-64-of-1-device", |times| fold(times, 1)),
    ("fold-64-of-64-devices", |times| fold(times, 64)),
    ("append-batch-of-64", append),
    ("page-of-50", page),
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (name, times) = (arguments.next(), arguments.next().and_then(|times| times.parse().ok()));
    match (WORKLOADS.iter().find(|(known, _)| Some(*known) == name.as_deref()), times) {
        (Some((_, run)), Some(times)) => run(times),
        _ => WORKLOADS.iter().for_each(|(known, _)| println!("{known}")),
    }
}

fn encode(times: u64) {
    let record = message(1, 1, 1, 1);
    for _ in 0..times {
        black_box(proto::encode_record(black_box(&record)));
    }
}

fn decode(times: u64) {
    let bytes = proto::encode_record(&message(1, 1, 1, 1));
    for _ in 0..times {
        black_box(proto::decode_record(black_box(bytes.clone()))).expect("a record");
    }
}

fn check(times: u64) {
    let batch = batch(0);
    let mut checker = Checker::default();
    for _ in 0..times {
        checker.follows(black_box(&batch), &mut Empty).expect("it follows");
    }
}

fn fold(times: u64, devices: u64) {
    let records: Vec<Record> = (1..=BATCH).map(|lsn| message(lsn, 1, lsn, lsn % devices)).collect();
    for _ in 0..times {
        let mut state = LogState::default();
        records.iter().for_each(|record| state.apply(black_box(record)).expect("it follows"));
    }
}

/// The making of the batch is counted too.
fn append(times: u64) {
    let bench = Bench::new();
    for nth in 0..times {
        bench.append(nth);
    }
}

fn page(times: u64) {
    let bench = Bench::new();
    (0..20).for_each(|nth| bench.append(nth));
    let log = LogId::group(1_u128.to_be_bytes());
    for _ in 0..times {
        let scan = Scan::Before(Offset::new(u64::MAX));
        let read = bench.store.read_log(PARTITION, log, scan, PAGE, PAGE_BYTES, 0);
        assert_eq!(bench.runtime.block_on(read).expect("readable").len(), PAGE);
    }
}

/// The next batch of messages, all of one log.
fn batch(nth: u64) -> Append {
    let numbers = nth * BATCH + 1..=(nth + 1) * BATCH;
    Append {
        partition: PARTITION,
        obeys: Epoch::FIRST,
        records: numbers.map(|number| message(number, 1, number, 1)).collect(),
    }
}

/// A store in a folder that goes with it.
struct Bench {
    runtime: Runtime,
    store: Arc<EmbeddedStore>,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = Config { segment_bytes: 16 << 20, fold_interval_ms: 3_600_000, ..Config::default() };
        let store = EmbeddedStore::open(folder.path(), config).expect("it opens");
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { runtime, store, _folder: folder }
    }

    fn append(&self, nth: u64) {
        self.runtime.block_on(self.store.append(batch(nth))).expect("it is written");
    }
}
