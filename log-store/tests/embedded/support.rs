//! Records to write, and a picture of what a store serves that can be compared.

use bytes::Bytes;
use log_store::{
    Append, Archive, Deduped, LogStore, PartitionEnd, Scan,
    embedded::{Config, EmbeddedStore},
    files::cut::CutFiles,
    fold::LogState,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::Arc,
};
use types::{
    Body, DeviceCursor, DeviceId, Entry, EntryBody, Epoch, Generation, LogId, Lsn, MemberRole, MessageId,
    Offset, PartitionId, Record, StateUpdate, UserId,
};

/// Small segments and a fold after every few records, so that little work crosses many borders.
pub(crate) fn small() -> Config {
    Config { segment_bytes: 4096, fold_records: 8, fold_interval_ms: 60_000, ..Config::default() }
}

pub(crate) fn open(files: &CutFiles, config: Config) -> Arc<EmbeddedStore> {
    EmbeddedStore::open_on(Arc::new(files.clone()), config).expect("the store opens")
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::new(name).expect("a valid name")
}

pub(crate) fn log(number: u8) -> LogId {
    LogId::group([number; 16])
}

pub(crate) const fn partition(number: u32) -> PartitionId {
    PartitionId::new(number)
}

/// An entry; its message id is made of log, offset and epoch.
pub(crate) fn entry(lsn: u64, epoch: u64, log: LogId, offset: u64, body: EntryBody) -> Record {
    let mut id = *log.key();
    id[..8].copy_from_slice(&offset.to_be_bytes());
    id[8] = epoch as u8;
    let entry = Entry {
        offset: Offset::new(offset),
        sender: user("alice"),
        device: DeviceId::new(1),
        message_id: MessageId::from_bytes(id),
        expires_at_ms: None,
        salvaged: false,
        about: None,
        body,
    };
    record(lsn, epoch, log, Body::Entry(entry))
}

pub(crate) fn message(lsn: u64, epoch: u64, log: LogId, offset: u64, text: &str) -> Record {
    let ciphertext = Bytes::copy_from_slice(text.as_bytes());
    entry(lsn, epoch, log, offset, EntryBody::Message { ciphertext })
}

pub(crate) fn expiring(mut record: Record, at_ms: u64) -> Record {
    if let Body::Entry(entry) = &mut record.body {
        entry.expires_at_ms = Some(at_ms);
    }
    record
}

pub(crate) fn created(lsn: u64, epoch: u64, log: LogId) -> Record {
    let members = vec![(user("alice"), MemberRole::Owner), (user("bob"), MemberRole::Member)];
    let body =
        EntryBody::Created { members, ack_policy: types::AckPolicy::Home, allowed_regions: Vec::new() };
    entry(lsn, epoch, log, 1, body)
}

pub(crate) fn deleted(lsn: u64, epoch: u64, log: LogId, offset: u64, targets: &[u64]) -> Record {
    let offsets = targets.iter().copied().map(Offset::new).collect();
    entry(lsn, epoch, log, offset, EntryBody::Deleted { offsets })
}

pub(crate) fn cursor(lsn: u64, epoch: u64, log: LogId, up_to: u64) -> Record {
    let cursor = DeviceCursor::read(user("bob"), DeviceId::new(2), Offset::new(up_to), lsn);
    record(lsn, epoch, log, Body::Update(StateUpdate::Cursors(vec![cursor])))
}

fn record(lsn: u64, epoch: u64, log: LogId, body: Body) -> Record {
    Record {
        lsn: Lsn::new(lsn),
        epoch: Epoch::new(epoch),
        generation: Generation::FIRST,
        log,
        accepted_at_ms: 1_000 + lsn,
        body,
    }
}

pub(crate) fn batch(partition: PartitionId, obeys: u64, records: Vec<Record>) -> Append {
    Append { partition, obeys: Epoch::new(obeys), records }
}

/// Appends messages to one log of a partition, from an LSN on.
pub(crate) async fn fill(
    store: &dyn LogStore,
    to: PartitionId,
    log: LogId,
    lsns: std::ops::RangeInclusive<u64>,
) {
    for lsn in lsns {
        let record = message(lsn, 1, log, lsn, &format!("message {lsn} of {to}"));
        store.append(batch(to, 1, vec![record])).await.expect("it follows");
    }
}

/// What a store serves of one partition, whether or not due bodies have been taken off the disk yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) end: PartitionEnd,
    pub(crate) records: Vec<Record>,
    pub(crate) logs: BTreeMap<LogId, LogPicture>,
}

/// A log's state, its entries, and what stands under their message ids.
pub(crate) type LogPicture = (Arc<LogState>, Vec<Record>, Vec<Option<Deduped>>);

/// Looks at a partition through every read there is, and checks what must hold of any store.
pub(crate) async fn picture(store: &dyn LogStore, of: PartitionId) -> Picture {
    let end = store.end(of).await.expect("it is open");
    let mut records = read_all(store, of).await;
    let folded = fresh_fold(&records);
    let mut logs = BTreeMap::new();
    let listed = store.logs(of, None, usize::MAX).await.expect("they can be read");
    assert_eq!(listed.iter().collect::<BTreeSet<_>>(), folded.keys().collect(), "the logs of {of}");
    for log in listed {
        let state = store.log_state(of, log).await.expect("it can be read").expect("it has records");
        assert_eq!(*state, folded[&log], "the state of {log} is the fold of its records");
        let scan = Scan::After(Offset::ZERO);
        let entries = store.read_log(of, log, scan, usize::MAX, usize::MAX, u64::MAX).await;
        let entries = entries.expect("they can be read");
        let mut found = Vec::new();
        for (at, record) in entries.iter().enumerate() {
            let entry = record.entry().expect("an entry");
            assert_eq!(entry.offset.get(), at as u64 + 1, "offsets are dense");
            found.push(store.find(of, log, &entry.dedup_key()).await.expect("it can be read"));
            assert_eq!(found[at].map(|found| found.lsn), Some(record.lsn), "the message id is known");
        }
        logs.insert(log, (state, entries, found));
    }
    records.iter_mut().for_each(forget_expiring);
    Picture { end, records, logs }
}

/// Whether an expired body is still there depends on when the disk was last cleaned.
fn forget_expiring(record: &mut Record) {
    if record.entry().is_some_and(|entry| entry.expires_at_ms.is_some()) {
        log_store::erase::erase(record);
    }
}

pub(crate) async fn read_all(store: &dyn LogStore, of: PartitionId) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    loop {
        let from = Lsn::new(records.len() as u64 + 1);
        let page = store.read_partition(of, from, 7, usize::MAX).await.expect("it can be read");
        if page.is_empty() {
            return records;
        }
        for record in page {
            assert_eq!(record.lsn.get(), records.len() as u64 + 1, "LSNs are dense");
            records.push(record);
        }
    }
}

fn fresh_fold(records: &[Record]) -> BTreeMap<LogId, LogState> {
    let mut states: BTreeMap<LogId, LogState> = BTreeMap::new();
    for record in records {
        states.entry(record.log).or_default().apply(record).expect("it follows");
    }
    states
}

/// The archives and what is in them, without bodies.
pub(crate) async fn archives(store: &dyn LogStore) -> Vec<(Archive, Vec<Record>)> {
    let mut all = Vec::new();
    for archive in store.archives().await.expect("they can be read") {
        let read = store.read_archive(archive.id, Lsn::FIRST, usize::MAX, usize::MAX).await;
        let mut records = read.expect("it can be read");
        for record in &mut records {
            log_store::erase::erase(record);
        }
        all.push((archive, records));
    }
    all
}

/// A folder for the fold, in memory where that can be had: what is tested are the segments.
pub(crate) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a scratch folder")
}

/// Copies a folder with all that is in it. What was only set aside in a file stays so.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("it can be made");
    for entry in std::fs::read_dir(from).expect("it can be listed") {
        let entry = entry.expect("it can be listed");
        let (target, meta) = (to.join(entry.file_name()), entry.metadata().expect("it is there"));
        if meta.is_dir() {
            copy(&entry.path(), &target);
        } else if meta.blocks() == 0 {
            let file = std::fs::File::create(target).expect("it can be made");
            file.set_len(meta.len()).expect("it can be lengthened");
        } else {
            std::fs::copy(entry.path(), target).expect("it can be copied");
        }
    }
}
