//! The pure parts that every append passes: encoding, the check, the fold.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use log_store::{
    Append, StoreError,
    check::{Checker, Ends},
    fold::LogState,
};
use std::hint::black_box;
use types::{
    Body, DedupKey, DeviceId, Entry, EntryBody, Epoch, Generation, LogId, Lsn, MessageId, Offset,
    PartitionId, PartitionPosition, Position, Record, UserId,
};

const BODY_BYTES: usize = 400;
const BATCH: u64 = 256;
const LOGS: u64 = 32;

fn message(lsn: u64, log: u64, offset: u64) -> Record {
    Record {
        lsn: Lsn::new(lsn),
        epoch: Epoch::FIRST,
        generation: Generation::FIRST,
        log: LogId::group(u128::from(log).to_be_bytes()),
        accepted_at_ms: 1_780_000_000_000,
        body: Body::Entry(Entry {
            offset: Offset::new(offset),
            sender: UserId::new("alice").expect("a valid name"),
            device: DeviceId::new(1),
            message_id: MessageId::from_bytes(u128::from(lsn).to_be_bytes()),
            expires_at_ms: None,
            body: EntryBody::Message { ciphertext: vec![lsn as u8; BODY_BYTES].into() },
        }),
    }
}

/// A partition that is empty.
struct Empty;

impl Ends for Empty {
    fn fence(&self) -> Epoch {
        Epoch::ZERO
    }

    fn last(&self) -> PartitionPosition {
        PartitionPosition::ZERO
    }

    fn head(&mut self, _: &LogId) -> Result<Position, StoreError> {
        Ok(Position::START)
    }

    fn holds(&mut self, _: &LogId, _: &DedupKey) -> Result<bool, StoreError> {
        Ok(false)
    }
}

fn records(c: &mut Criterion) {
    let record = message(1, 1, 1);
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
        records: (0..records).map(|at| message(at + 1, at % LOGS, at / LOGS + 1)).collect(),
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
    let records: Vec<Record> = (1..=BATCH).map(|lsn| message(lsn, 1, lsn)).collect();
    let mut group = c.benchmark_group("fold");
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("apply", |b| {
        b.iter_batched_ref(
            LogState::default,
            |state| records.iter().for_each(|record| state.apply(black_box(record)).expect("it follows")),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, records, checks, folds);
criterion_main!(benches);
