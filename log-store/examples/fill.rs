//! Appends records to partitions of a store that no process has open, as their home would have: something
//! for followers to catch up on once the deployment starts again.
//!
//! ```text
//! hearth up --dir DIR …                                     (once, then stopped)
//! cargo run --release -p log-store --example fill -- STORE_DIR FIRST_PARTITION PARTITIONS RECORDS
//! ```

use anyhow::{Context as _, Result};
use bytes::Bytes;
use log_store::{
    Append, LogStore,
    embedded::{Config, EmbeddedStore},
};
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::SmallRng};
use std::{collections::VecDeque, time::Instant};
use types::{
    Body, DeviceId, Entry, EntryBody, Generation, LogId, Lsn, MessageId, Offset, PartitionId, Record, UserId,
};

const BODY_BYTES: usize = 400;
const BATCH_RECORDS: u64 = 256;
const LOGS_PER_PARTITION: u64 = 100;
/// Appends under way.
const WINDOW: usize = 64;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().context("the first argument is the folder of the store")?;
    let mut number = || -> Result<u64> { Ok(arguments.next().context("three numbers follow")?.parse()?) };
    let (first, partitions, records) = (number()?, number()?, number()?);
    let store = EmbeddedStore::open(folder.as_ref(), Config::default())?;
    let mut random = SmallRng::seed_from_u64(first);
    let mut bytes = vec![0; 1 << 20];
    random.fill_bytes(&mut bytes);
    let bytes = Bytes::from(bytes);
    let begun = Instant::now();
    let mut under_way = VecDeque::new();
    for partition in (first..first + partitions).map(|number| PartitionId::new(number as u32)) {
        let end = store.end(partition).await?;
        let (obeys, mut lsn) = (end.fence.max(types::Epoch::FIRST), end.last.lsn);
        let mut logs: Vec<(LogId, Offset)> =
            (0..LOGS_PER_PARTITION).map(|_| (LogId::group(random.random()), Offset::ZERO)).collect();
        let target = lsn.get() + records / partitions;
        while lsn.get() < target {
            let count = BATCH_RECORDS.min(target - lsn.get());
            let record = |_| {
                let log = random.random_range(0..logs.len());
                let from = random.random_range(0..bytes.len() - BODY_BYTES);
                logs[log].1 = logs[log].1.plus(1);
                lsn = Lsn::new(lsn.get() + 1);
                Record {
                    lsn,
                    epoch: obeys,
                    generation: Generation::FIRST,
                    log: logs[log].0,
                    accepted_at_ms: 1_780_000_000_000 + lsn.get(),
                    body: Body::Entry(Entry {
                        offset: logs[log].1,
                        sender: UserId::new("alice").expect("a valid name"),
                        device: DeviceId::new(7),
                        message_id: MessageId::from_bytes(random.random()),
                        expires_at_ms: None,
                        salvaged: false,
                        about: None,
                        body: EntryBody::Message { ciphertext: bytes.slice(from..from + BODY_BYTES) },
                    }),
                }
            };
            let records = (0..count).map(record).collect();
            under_way.push_back(store.append(Append { partition, obeys, records }));
            if under_way.len() >= WINDOW
                && let Some(oldest) = under_way.pop_front()
            {
                oldest.await?;
            }
        }
    }
    for append in under_way {
        append.await?;
    }
    store.close().await;
    println!("{records} records in {:.1} s", begun.elapsed().as_secs_f64());
    Ok(())
}
