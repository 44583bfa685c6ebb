//! What is counted in instructions: see `benches/instructions.sh` at the root.

use bytes::Bytes;
use prost::Message as _;
use std::hint::black_box;
use types::{
    Body, DeviceId, Entry, EntryBody, Epoch, Generation, LogId, Lsn, MessageId, Offset, Record, UserId,
};

const LOG: LogId = LogId::group([3; 16]);

/// A name, and what runs it so many times.
type Workload = (&'static str, fn(u64));

const WORKLOADS: &[Workload] = &[("page-of-50-as-json", json), ("page-of-50-as-protobuf", protobuf)];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (name, times) = (arguments.next(), arguments.next().and_then(|times| times.parse().ok()));
    match (WORKLOADS.iter().find(|(known, _)| Some(*known) == name.as_deref()), times) {
        (Some((_, run)), Some(times)) => run(times),
        _ => WORKLOADS.iter().for_each(|(known, _)| println!("{known}")),
    }
}

fn json(times: u64) {
    let page = page();
    for _ in 0..times {
        black_box(proto::history_page_json(LOG, black_box(&page), false)).expect("it is encoded");
    }
}

fn protobuf(times: u64) {
    let page = page();
    for _ in 0..times {
        black_box(proto::history_page(LOG, black_box(&page), false).encode_to_vec());
    }
}

fn page() -> Vec<Record> {
    let sender = UserId::new("alice").expect("a valid name");
    let record = |offset: u64| Record {
        lsn: Lsn::new(offset),
        epoch: Epoch::FIRST,
        generation: Generation::FIRST,
        log: LOG,
        accepted_at_ms: 1_780_000_000_000 + offset,
        body: Body::Entry(Entry {
            offset: Offset::new(offset),
            sender: sender.clone(),
            device: DeviceId::new(1),
            message_id: MessageId::from_bytes(u128::from(offset).to_be_bytes()),
            expires_at_ms: None,
            salvaged: false,
            about: None,
            body: EntryBody::Message { ciphertext: Bytes::from(vec![offset as u8; 400]) },
        }),
    };
    (1..=50).map(record).collect()
}
