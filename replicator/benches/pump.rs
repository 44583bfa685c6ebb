//! What the pump costs per batch: taken from the home, handed to the follower, answered and reported.

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use replicator::bench::Carried;
use std::hint::black_box;

fn carry(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pump");
    for count in [1, 16, 256] {
        let records = vec![Bytes::from(vec![7; 500]); count];
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("batches of {count}"), |bencher| {
            let mut carried = Carried::streaming();
            assert_eq!(carried.carry(&records), 2, "the batch is handed on, and its end reported");
            bencher.iter(|| black_box(carried.carry(black_box(&records))));
        });
    }
    group.finish();
}

criterion_group!(benches, carry);
criterion_main!(benches);
