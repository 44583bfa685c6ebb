//! Generated histories: each operation on model and engine, and after each the whole store compared.

mod operations;

use crate::{
    Bed,
    model::{Expected, Model},
    writer::{log, user},
};
use log_store::{Append, AppendError, ArchiveId, LogStore, Scan, fold::LogState};
use operations::*;
use proptest::{
    prelude::{Just, prop_oneof},
    test_runner::{Config, TestRunner},
};
use std::{collections::HashMap, sync::Arc};
use types::{
    AckPolicy, Body, BodyHash, DedupKey, DeviceCursor, DeviceId, Entry, EntryBody, Epoch, EraBegin,
    Generation, Lsn, MemberRole, MessageId, Offset, PartitionId, Position, Record, RehomeId, StateUpdate,
};

/// Runs generated histories, as many as the bed or `PROPTEST_CASES` says; on a failure the shortest one
/// that still fails is printed.
pub(crate) fn agree_with_the_model<B: Bed>() {
    let config = match std::env::var_os("PROPTEST_CASES") {
        Some(_) => Config::default(),
        None => Config { cases: B::HISTORIES, ..Config::default() },
    };
    let config = Config { failure_persistence: None, ..config };
    let devices = prop_oneof![2 => Just(DEVICES_FEW), 1 => Just(DEVICES_MANY)];
    let histories = (devices, proptest::collection::vec(operation(), 1..40));
    let outcome = TestRunner::new(config).run(&histories, |(devices, history)| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut run = Run::<B>::new(devices).await;
            for operation in history {
                let rewinds = matches!(operation, Operation::Truncate { .. } | Operation::Reopen);
                let new_ids_from = run.ids + 1;
                run.step(operation).await;
                run.compare(if rewinds { 1 } else { new_ids_from }).await;
            }
            run.compare(1).await;
        });
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

struct Run<B> {
    bed: B,
    model: Model,
    /// The engine's names of the model's archives.
    names: Vec<ArchiveId>,
    /// How many devices write.
    devices: u64,
    /// How many message ids were drawn.
    ids: u64,
    /// The lowest epoch that a home may write in after a cut: an (epoch, LSN) names one record for good.
    epochs_from: HashMap<PartitionId, Epoch>,
}

impl<B: Bed> Run<B> {
    async fn new(devices: u64) -> Self {
        let (model, bed) = (Model::default(), B::create().await);
        Self { bed, model, names: Vec::new(), devices, ids: 0, epochs_from: HashMap::new() }
    }

    fn store(&self) -> Arc<dyn LogStore> {
        self.bed.store()
    }

    async fn step(&mut self, operation: Operation) {
        match operation {
            Operation::Append { partition, epochs_up, fault, bodies } => {
                let append = self.batch(PartitionId::new(partition), epochs_up, fault, bodies);
                self.append(append).await;
            }
            Operation::Crowd { partition, log, messages } => {
                let bodies = vec![(log, Said::Message { bytes: 3 }); messages];
                let append = self.batch(PartitionId::new(partition), 0, Fault::None, bodies);
                self.append(append).await;
            }
            Operation::CopyBack { nth } if !self.names.is_empty() => {
                let tail = &self.model.archives[nth % self.names.len()];
                let partition = tail.partition;
                let records = tail.records.iter().map(|held| held.record.clone());
                let end = self.model.partitions[&partition].end();
                let records: Vec<Record> = records.filter(|record| record.lsn > end.last.lsn).collect();
                let epochs = records.iter().map(|record| record.epoch);
                let obeys = epochs.max().unwrap_or_default().max(end.fence);
                self.append(Append { partition, obeys, records }).await;
            }
            Operation::CopyBack { .. } => {}
            Operation::Fence { partition, epochs } => {
                let partition = PartitionId::new(partition);
                let fence = self.model.partition(partition).end().fence.get();
                let epoch = Epoch::new(fence.saturating_add_signed(epochs.into()));
                let expected = self.model.partition(partition).raise_fence(epoch);
                assert_eq!(self.store().fence(partition, epoch).await, Ok(expected));
            }
            Operation::Archive { partition, records, obeys } => {
                let (partition, obeys, from) = self.tail(partition, records, obeys);
                let expected = self.model.archive_tail(partition, obeys, from);
                let answer = self.store().archive_tail(partition, obeys, from).await;
                assert_eq!(
                    answer.clone().map(|archive| archive.is_some()),
                    expected.clone().map(|tail| tail.is_some())
                );
                if let (Ok(Some(archive)), Ok(Some(tail))) = (answer, expected)
                    && !self.names.contains(&archive.id)
                {
                    self.names.push(archive.id);
                    self.model.archives.push(tail);
                }
            }
            Operation::Truncate { partition, records, obeys } => {
                let (partition, obeys, from) = self.tail(partition, records, obeys);
                let last = self.model.partition(partition).last();
                let expected = self.model.truncate(partition, obeys, from);
                if expected.as_ref().is_ok_and(|end| end.last != last) {
                    let epochs_from = self.epochs_from.entry(partition).or_default();
                    *epochs_from = last.epoch.plus(1).max(*epochs_from);
                }
                assert_eq!(self.store().truncate(partition, obeys, from).await, expected);
            }
            Operation::Discard { nth } if !self.names.is_empty() => {
                let nth = nth % self.names.len();
                self.model.archives.remove(nth);
                self.store().discard_archive(self.names.remove(nth)).await.expect("it is there");
            }
            Operation::Discard { .. } => {}
            Operation::Reclaim { now_ms } => {
                self.model.reclaim(now_ms);
                self.store().reclaim(now_ms).await.expect("a working disk");
            }
            Operation::Canary => self.store().canary().await.expect("a working disk"),
            Operation::Reopen => self.bed.reopen().await,
        }
    }

    async fn append(&mut self, append: Append) {
        let (expected, answer) = (self.model.append(&append), self.store().append(append).await);
        match (&expected, &answer) {
            // What a rule says in words is the engine's own.
            (Err(AppendError::Invalid { .. }), Err(AppendError::Invalid { .. })) => {}
            _ => assert_eq!(answer, expected),
        }
    }

    fn tail(&mut self, partition: u32, records: u64, obeys: Obeys) -> (PartitionId, Epoch, Lsn) {
        let partition = PartitionId::new(partition);
        let end = self.model.partition(partition).end();
        let obeys = match obeys {
            Obeys::TheFence => end.fence,
            Obeys::Below => end.fence.prev(),
            Obeys::Above => end.fence.plus(1),
        };
        (partition, obeys, Lsn::new((end.last.lsn.get() + 1).saturating_sub(records)))
    }

    fn batch(
        &mut self,
        partition: PartitionId,
        epochs_up: u64,
        fault: Fault,
        bodies: Vec<(u8, Said)>,
    ) -> Append {
        let end = self.model.partition(partition).end();
        let epochs_from = self.epochs_from.get(&partition).copied().unwrap_or(Epoch::FIRST);
        let epoch = end.last.epoch.max(epochs_from).plus(epochs_up);
        let mut obeys = epoch.max(end.fence);
        let mut logs = [0, 1, 2].map(|at| self.model.partition(partition).state(log(at)).unwrap_or_default());
        let mut records = Vec::new();
        for (at, said) in bodies {
            let lsn = end.last.lsn.plus(1 + records.len() as u64);
            let state = &mut logs[usize::from(at)];
            let (generation, body) = self.body(state, said);
            let accepted_at_ms = 1_000 + lsn.get();
            let record = Record { lsn, epoch, generation, log: log(at), accepted_at_ms, body };
            // Where it does not follow, all must refuse it.
            let _ = state.apply(&record);
            records.push(record);
        }
        let middle = records.len() / 2;
        let last = records.len() - 1;
        match fault {
            Fault::None => {}
            Fault::BelowTheFence => obeys = end.fence.prev(),
            Fault::EpochGoesBack => records[last].epoch = end.last.epoch.prev(),
            Fault::EpochAboveObeyed => records[last].epoch = obeys.plus(1),
            Fault::LsnGap => records[middle].lsn = records[middle].lsn.plus(1),
            Fault::OffsetGap => {
                if let Body::Entry(entry) = &mut records[middle].body {
                    entry.offset = entry.offset.plus(1);
                }
            }
            Fault::ClosedGeneration => {
                records[middle].generation = Generation::new(records[middle].generation.get() - 1);
            }
            Fault::Empty => records.clear(),
        }
        Append { partition, obeys, records }
    }

    fn body(&mut self, state: &LogState, said: Said) -> (Generation, Body) {
        let (standing, offset) = (state.standing(), state.head.offset.plus(1));
        let generation = standing.head.generation.max(standing.closed().plus(1));
        let sender = user("alice");
        let message = |bytes: usize, seed: u64| {
            let bytes: Vec<u8> = (0..bytes as u64).map(|at| (at * 7 + seed) as u8).collect();
            EntryBody::Message { ciphertext: bytes.into() }
        };
        self.ids += 1;
        let (mut id, mut expires_at_ms) = (self.ids, None);
        let body = match said {
            Said::Cursor { offset } => {
                let cursor = DeviceCursor::read(sender, self.key(id).device, Offset::new(offset), self.ids);
                return (generation, Body::Update(StateUpdate::Cursors(vec![cursor])));
            }
            Said::Sealed => {
                return (
                    generation,
                    Body::Update(StateUpdate::LogSealed { rehome: RehomeId::new(self.ids) }),
                );
            }
            Said::Imported { entries } => return imported(state, entries, RehomeId::new(self.ids)),
            Said::Message { bytes } => message(bytes, id),
            Said::Expiring { at_ms } => {
                expires_at_ms = Some(at_ms);
                message(40, id)
            }
            Said::Created => {
                let members = vec![(user(&format!("user{id}")), MemberRole::Owner)];
                EntryBody::Created { members, ack_policy: AckPolicy::Home, allowed_regions: Vec::new() }
            }
            Said::Deleted { back } => {
                let at = offset.get();
                let mut offsets: Vec<u64> = back.iter().filter_map(|back| at.checked_sub(*back)).collect();
                offsets.retain(|offset| *offset > 0);
                offsets.sort_unstable();
                offsets.dedup();
                match offsets.is_empty() {
                    true => message(5, id),
                    false => EntryBody::Deleted { offsets: offsets.into_iter().map(Offset::new).collect() },
                }
            }
            Said::Erased => EntryBody::Erased { hash: BodyHash([id as u8; 16]) },
            Said::Again { id: drawn } => {
                id = drawn;
                message(30, drawn)
            }
        };
        let key = self.key(id);
        let (device, message_id) = (key.device, key.message_id);
        let salvaged = false;
        (
            generation,
            Body::Entry(Entry {
                offset,
                sender,
                device,
                message_id,
                expires_at_ms,
                salvaged,
                about: None,
                body,
            }),
        )
    }

    /// The name of a message: each id is always of the same device.
    fn key(&self, id: u64) -> DedupKey {
        let message_id = MessageId::from_bytes(u128::from(id).to_be_bytes());
        DedupKey { sender: user("alice"), device: DeviceId::new(1 + id % self.devices), message_id }
    }

    /// Compares all that can be read; of the message ids those from `all_ids_from` on.
    async fn compare(&mut self, all_ids_from: u64) {
        let store = self.store();
        let held = self.model.partitions.iter().filter(|(_, log)| log.end() != Default::default());
        let held: Vec<PartitionId> = held.map(|(partition, _)| *partition).collect();
        assert_eq!(store.partitions().await, Ok(held));
        for (partition, model) in &self.model.partitions {
            let partition = *partition;
            assert_eq!(store.end(partition).await, Ok(model.end()));
            let records = store.read_partition(partition, Lsn::FIRST, usize::MAX, usize::MAX).await;
            let records = records.expect("readable");
            admits(&model.served(), &records);
            encoded_alike(&*store, partition, &records).await;
            let logs: Vec<_> = model.logs().into_iter().collect();
            assert_eq!(store.logs(partition, None, usize::MAX).await, Ok(logs));
            for log in (0..LOGS).map(log) {
                let state = store.log_state(partition, log).await.expect("readable");
                assert_eq!(state.as_deref(), model.state(log).as_ref());
                for (scan, now_ms) in [(Scan::After(Offset::new(1)), 0), (Scan::Before(Offset::new(5)), 50)] {
                    let page = store.read_log(partition, log, scan, 4, usize::MAX, now_ms).await;
                    let expected = model.scan(log, scan, now_ms);
                    admits(&expected[..expected.len().min(4)], &page.expect("readable"));
                }
                let devices = state.map(|state| state.devices.clone()).unwrap_or_default();
                for key in (all_ids_from..=self.ids).map(|id| self.key(id)) {
                    let found = model.find(log, &key);
                    assert_eq!(store.find(partition, log, &key).await, Ok(found));
                    let DedupKey { sender, device, message_id } = &key;
                    assert!(found.is_none() || !devices.is_new(sender, *device, *message_id));
                    assert!(found.is_some() || !devices.is_latest(sender, *device, *message_id));
                }
            }
        }
        let archives = store.archives().await.expect("open");
        assert_eq!(archives.iter().map(|archive| archive.id).collect::<Vec<_>>(), self.names);
        for (archive, tail) in archives.iter().zip(&self.model.archives) {
            assert_eq!((archive.partition, archive.records), (tail.partition, tail.records.len() as u64));
            let records = store.read_archive(archive.id, Lsn::FIRST, usize::MAX, usize::MAX).await;
            admits(&tail.served(), &records.expect("readable"));
        }
    }
}

/// The log comes back, with entries that were written in another partition.
fn imported(state: &LogState, entries: u64, rehome: RehomeId) -> (Generation, Body) {
    let mut import = state.export(rehome);
    let away = state.standing().generation().plus(1);
    if entries > 0 {
        let first_offset = state.head.offset.plus(1);
        import.eras.push(EraBegin { generation: away, epoch: Epoch::new(9), first_offset });
        import.head = Position::new(away, Epoch::new(9), state.head.offset.plus(entries));
    }
    (away.plus(1), Body::Update(StateUpdate::LogImported(Box::new(import))))
}

/// Whether the records of a partition are the same when they are read encoded, at once and in pages.
async fn encoded_alike(store: &dyn LogStore, partition: PartitionId, records: &[Record]) {
    for (max_records, max_bytes) in [(usize::MAX, usize::MAX), (40, 2_000)] {
        let mut read = Vec::new();
        while read.len() < records.len() {
            let from = records[read.len()].lsn;
            let page = store.read_encoded(partition, from, max_records, max_bytes).await.expect("readable");
            let bytes: usize = page.iter().map(|encoded| encoded.bytes.len()).sum();
            assert!(!page.is_empty() && page.len() <= max_records, "{} records", page.len());
            assert!(bytes <= max_bytes || page.len() == 1, "{bytes} bytes where {max_bytes} are the most");
            read.extend(page);
        }
        assert_eq!(read.len(), records.len());
        for (encoded, record) in read.into_iter().zip(records) {
            assert_eq!(encoded.position, record.partition_position());
            assert_eq!(proto::decode_record(encoded.bytes).as_ref(), Ok(record));
        }
    }
}

fn admits(expected: &[(Record, Expected)], served: &[Record]) {
    assert_eq!(served.len(), expected.len());
    for ((record, expected), served) in expected.iter().zip(served) {
        assert!(expected.admits(record, served), "{served:?} was served for {record:?}, {expected:?}");
    }
}
