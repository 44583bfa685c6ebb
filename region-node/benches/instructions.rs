//! What is counted in instructions: see `benches/instructions.sh` at the root.

mod support;

use region_node::FanOut;
use std::hint::black_box;
use support::{Home, record};
use types::Record;

const BURST: u64 = 16;

/// A name, and what runs it so many times.
type Workload = (&'static str, fn(u64));

const WORKLOADS: &[Workload] = &[
    ("feed-entry-to-1", |times| feed(times, 1, 1)),
    ("feed-burst-of-16-to-100", |times| feed(times, BURST, 100)),
    ("home-message", |times| home(times, 1)),
    ("home-burst-of-16", |times| home(times, BURST)),
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (name, times) = (arguments.next(), arguments.next().and_then(|times| times.parse().ok()));
    match (WORKLOADS.iter().find(|(known, _)| Some(*known) == name.as_deref()), times) {
        (Some((_, run)), Some(times)) => run(times),
        _ => WORKLOADS.iter().for_each(|(known, _)| println!("{known}")),
    }
}

/// The making of the records is counted too.
fn feed(times: u64, burst: u64, sessions: u64) {
    let mut feed = FanOut::new(sessions);
    for nth in 0..times {
        let records: Vec<Record> = (nth * burst + 1..=(nth + 1) * burst).map(record).collect();
        assert_eq!(feed.publish(black_box(&records)) as u64, burst * sessions);
    }
}

/// The making of the writes is counted too.
fn home(times: u64, burst: u64) {
    let mut home = Home::new();
    for _ in 0..times {
        assert_eq!(home.burst(black_box(burst)) as u64, burst);
    }
}
