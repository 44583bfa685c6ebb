//! The load: messages of random bytes, written as homes write them.

use crate::args::Args;
use anyhow::Result;
use bytes::Bytes;
use hdrhistogram::Histogram;
use log_store::{Append, LogStore};
use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng};
use std::{collections::VecDeque, sync::Arc, time::Instant};
use types::{
    Body, DeviceId, Entry, EntryBody, Epoch, Generation, LogId, Lsn, MessageId, Offset, PartitionId, Record,
    UserId,
};

/// Random bytes from which bodies are cut: making them must not be what is measured.
const RANDOM_BYTES: usize = 16 << 20;
const NOW_MS: u64 = 1_780_000_000_000;

/// Bytes that no compression makes smaller.
pub(crate) fn random_bytes() -> Bytes {
    let mut bytes = vec![0; RANDOM_BYTES];
    SmallRng::seed_from_u64(7).fill_bytes(&mut bytes);
    bytes.into()
}

/// The log of a number, and the partition that it is pinned to.
pub(crate) fn log(args: &Args, number: u64) -> (PartitionId, LogId) {
    let mut key = [0; 16];
    // Spread like hashes, so that neighbours in time are no neighbours in the index.
    key[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    (PartitionId::new((number % u64::from(args.partitions)) as u32), LogId::group(key))
}

/// One partition's home: it knows what comes next, and keeps a window of appends under way.
pub(crate) struct Home {
    partition: PartitionId,
    logs: Vec<(LogId, Offset)>,
    lsn: Lsn,
    rng: SmallRng,
    random: Bytes,
    sender: UserId,
    body_bytes: usize,
    batch: usize,
}

impl Home {
    pub(crate) fn all(args: &Args, random: &Bytes) -> Vec<Self> {
        let home = |partition: u32| {
            let is_pinned = |number: &u64| number % u64::from(args.partitions) == u64::from(partition);
            let numbers = (0..args.logs).filter(is_pinned);
            Self {
                partition: PartitionId::new(partition),
                logs: numbers.map(|number| (log(args, number).1, Offset::ZERO)).collect(),
                lsn: Lsn::ZERO,
                rng: SmallRng::seed_from_u64(partition.into()),
                random: random.clone(),
                sender: UserId::new("alice").expect("a valid name"),
                body_bytes: args.body_bytes,
                batch: args.batch,
            }
        };
        (0..args.partitions).map(home).collect()
    }

    fn next_append(&mut self) -> Append {
        let records = (0..self.batch).map(|_| self.next_record()).collect();
        Append { partition: self.partition, obeys: Epoch::FIRST, records }
    }

    fn next_record(&mut self) -> Record {
        let at = self.rng.random_range(0..self.logs.len());
        let (log, head) = &mut self.logs[at];
        *head = head.plus(1);
        self.lsn = self.lsn.plus(1);
        let from = self.rng.random_range(0..self.random.len() - self.body_bytes);
        let accepted_at_ms = NOW_MS + self.lsn.get();
        Record {
            lsn: self.lsn,
            epoch: Epoch::FIRST,
            generation: Generation::FIRST,
            log: *log,
            accepted_at_ms,
            body: Body::Entry(Entry {
                offset: *head,
                sender: self.sender.clone(),
                device: DeviceId::new(1),
                message_id: message_id(accepted_at_ms, self.rng.random()),
                expires_at_ms: None,
                salvaged: false,
                about: None,
                body: EntryBody::Message { ciphertext: self.random.slice(from..from + self.body_bytes) },
            }),
        }
    }

    /// Keeps `window` appends under way as long as `goes_on` says so, then ends those.
    pub(crate) async fn write(
        mut self,
        store: Arc<dyn LogStore>,
        window: usize,
        mut goes_on: impl FnMut(u64) -> bool,
        mut took: impl FnMut(Instant),
    ) -> Result<u64> {
        let mut under_way = VecDeque::with_capacity(window);
        let mut records = 0;
        loop {
            while under_way.len() < window && goes_on(records) {
                let append = self.next_append();
                records += append.records.len() as u64;
                under_way.push_back((Instant::now(), store.append(append)));
            }
            let Some((begun, ack)) = under_way.pop_front() else { return Ok(records) };
            ack.await?;
            took(begun);
        }
    }
}

/// A message id as the devices draw them: a time before random bits.
fn message_id(at_ms: u64, random: u128) -> MessageId {
    MessageId::from_bytes((u128::from(at_ms) << 80 | random >> 48).to_be_bytes())
}

/// Merges what each home counted.
pub(crate) fn merge(all: impl IntoIterator<Item = Histogram<u64>>) -> Histogram<u64> {
    let mut merged = crate::report::latencies();
    for one in all {
        merged += one;
    }
    merged
}
