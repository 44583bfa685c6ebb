//! The pure parts that every append passes: encoding, the check, the fold.

mod support;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use log_store::{Append, check::Checker, fold::LogState};
use std::hint::black_box;
use support::{Empty, message};
use types::{Epoch, PartitionId, Record};

const BATCH: u64 = 256;
const LOGS: u64 = 32;

fn records(c: &mut Criterion) {
    let record = message(1, 1, 1, 1);
    let bytes = proto::encode_record(&record);
    let mut group = c.benchmark_group("record");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("encode", |b| b.iter(|| proto::encode_record(black_box(&record))));
    group.bench_function("decode", |b| b.iter(|| proto::decode_record(black_box(bytes.clone()))));
    group.finish();
}

fn checks(c: &mut Criterion) {
    let of = |records: u64| Append {
        partition: PartitionId::new(0),
        obeys: Epoch::FIRST,
        records: (0..records).map(|at| message(at + 1, at % LOGS, at / LOGS + 1, 1)).collect(),
    };
    let mut group = c.benchmark_group("check");
    for batch in [of(1), of(BATCH)] {
        group.throughput(Throughput::Elements(batch.records.len() as u64));
        let mut checker = Checker::default();
        checker.follows(&batch, &mut Empty).expect("a good batch");
        group.bench_function(format!("batch of {}", batch.records.len()), |b| {
            b.iter(|| checker.follows(black_box(&batch), &mut Empty));
        });
    }
    group.finish();
}

fn folds(c: &mut Criterion) {
    let mut group = c.benchmark_group("fold");
    group.throughput(Throughput::Elements(BATCH));
    for devices in [1, 64, 100] {
        let records: Vec<Record> = (1..=BATCH).map(|lsn| message(lsn, 1, lsn, lsn % devices)).collect();
        group.bench_function(format!("records of {devices} devices"), |b| {
            let apply = |state: &mut LogState| {
                records.iter().for_each(|record| state.apply(black_box(record)).expect("it follows"));
            };
            b.iter_batched_ref(LogState::default, apply, BatchSize::SmallInput);
        });
    }
    group.finish();
}

criterion_group!(benches, records, checks, folds);
criterion_main!(benches);
