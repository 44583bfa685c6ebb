//! The cores that every message passes at its node: the home, and the feed of the sessions.

mod support;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use region_node::FanOut;
use std::hint::black_box;
use support::{Home, record};
use types::Record;

const BURST: u64 = 16;

fn fan_out(c: &mut Criterion) {
    let mut group = c.benchmark_group("feed");
    for burst in [1, BURST] {
        let records: Vec<Record> = (1..=burst).map(record).collect();
        for sessions in [1, 100, 1_024] {
            group.throughput(Throughput::Elements(burst * sessions));
            group.bench_function(BenchmarkId::new(format!("burst of {burst}"), sessions), |b| {
                b.iter_batched_ref(
                    || FanOut::new(sessions),
                    |feed| assert_eq!(feed.publish(black_box(&records)) as u64, burst * sessions),
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("begin with 2 sessions", |b| b.iter_with_large_drop(|| FanOut::new(black_box(2))));
    group.finish();
}

fn home(c: &mut Criterion) {
    let mut group = c.benchmark_group("home");
    for burst in [1, BURST] {
        group.throughput(Throughput::Elements(burst));
        group.bench_function(BenchmarkId::new("burst", burst), |b| {
            let mut home = Home::new();
            b.iter(|| assert_eq!(home.burst(black_box(burst)) as u64, burst));
        });
    }
    group.finish();
}

criterion_group!(benches, fan_out, home);
criterion_main!(benches);
