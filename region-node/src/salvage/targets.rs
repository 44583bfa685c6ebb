//! What an archived deletion deletes, by message id: its offsets are those of a history that is undone.
//!
//! What stood at an offset when the archive was made stands in one of three places, looked through in this
//! order: the archive itself, below the deletion; an archive that was made later of what was then left, below
//! all that was cut before; the log as it stands, below all that was ever cut since.

use log_store::{Archive, LogStore, ReadError, Scan};
use proto::node as wire;
use std::collections::{BTreeMap, BTreeSet};
use types::{Body, Entry, EntryBody, LogId, Lsn, Offset, PartitionId, Record, limits};

/// Records that are looked through at once.
const CHUNK: usize = 1_024;
const CHUNK_BYTES: usize = 4 * 1024 * 1024;

/// What the deletions in one page delete together, at most; of one deletion there may be as many.
const PAGE_MAX_TARGETS: usize = 8 * limits::DELETED_OFFSETS_MAX;

/// Entries by their place in the history that an archive ends.
type Places = BTreeMap<(LogId, Offset), Option<wire::SalvageTarget>>;

/// How many of the records, one at least, fit into a page with what they delete.
pub(super) fn fit(records: &[Record]) -> usize {
    let mut targets = 0;
    let fits = |record: &&Record| {
        targets += deleted(record).map_or(0, <[Offset]>::len);
        targets <= PAGE_MAX_TARGETS
    };
    records.iter().take_while(fits).count().max(1)
}

/// What each deletion among the records of an archive deletes.
pub(super) async fn of(
    store: &dyn LogStore,
    archive: &Archive,
    records: &[Record],
) -> Result<BTreeMap<Lsn, Vec<wire::SalvageTarget>>, ReadError> {
    let deletions = || records.iter().filter_map(|record| Some((record, deleted(record)?)));
    let mut places: Places = deletions()
        .flat_map(|(record, offsets)| offsets.iter().map(|offset| ((record.log, *offset), None)))
        .collect();
    if places.is_empty() {
        return Ok(BTreeMap::new());
    }
    fill(store, archive, &mut places).await?;
    let targets = deletions().map(|(record, offsets)| {
        let of_record = offsets.iter().filter_map(|offset| places.get(&(record.log, *offset))?.clone());
        (record.lsn, of_record.collect())
    });
    Ok(targets.collect())
}

async fn fill(store: &dyn LogStore, archive: &Archive, places: &mut Places) -> Result<(), ReadError> {
    fill_from(store, archive, Lsn::new(u64::MAX), places).await?;
    let mut cut = archive.first.lsn;
    for later in store.archives().await? {
        if later.partition == archive.partition && later.id > archive.id && later.first.lsn < cut {
            fill_from(store, &later, cut, places).await?;
            cut = later.first.lsn;
        }
    }
    fill_from_log(store, archive.partition, cut, places).await
}

/// Finds what an archive holds below an LSN.
async fn fill_from(
    store: &dyn LogStore,
    archive: &Archive,
    below: Lsn,
    places: &mut Places,
) -> Result<(), ReadError> {
    let mut next = archive.first.lsn;
    while next <= archive.last.lsn && next < below && places.values().any(Option::is_none) {
        let records = store.read_archive(archive.id, next, CHUNK, CHUNK_BYTES).await?;
        let Some(last) = records.last().map(|record| record.lsn) else { return Ok(()) };
        for record in records.iter().filter(|record| record.lsn < below) {
            take(record, places);
        }
        next = last.plus(1);
    }
    Ok(())
}

/// Finds what the logs hold below an LSN.
async fn fill_from_log(
    store: &dyn LogStore,
    partition: PartitionId,
    below: Lsn,
    places: &mut Places,
) -> Result<(), ReadError> {
    let missing: BTreeSet<(LogId, Offset)> =
        places.iter().filter(|(_, target)| target.is_none()).map(|(place, _)| *place).collect();
    for (log, offset) in missing {
        let found = store.read_log(partition, log, Scan::After(offset.prev()), 1, 0, 0).await?;
        if let Some(record) = found.first().filter(|record| record.lsn < below) {
            take(record, places);
        }
    }
    Ok(())
}

fn take(record: &Record, places: &mut Places) {
    let Body::Entry(entry) = &record.body else { return };
    if let Some(place @ None) = places.get_mut(&(record.log, entry.offset)) {
        *place = is_message(entry).then(|| target(entry));
    }
}

fn deleted(record: &Record) -> Option<&[Offset]> {
    match &record.entry()?.body {
        EntryBody::Deleted { offsets } => Some(offsets),
        _ => None,
    }
}

/// Only bodies of messages are erased.
const fn is_message(entry: &Entry) -> bool {
    matches!(entry.body, EntryBody::Message { .. } | EntryBody::Erased { .. })
}

fn target(entry: &Entry) -> wire::SalvageTarget {
    wire::SalvageTarget {
        sender: entry.sender.to_string(),
        device: entry.device.get(),
        message_id: bytes::Bytes::copy_from_slice(entry.message_id.as_bytes()),
        hash: bytes::Bytes::copy_from_slice(&entry.body.hash().0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{DeviceId, Epoch, Generation, MessageId, UserId};

    fn deletion(lsn: u64, targets: usize) -> Record {
        let entry = Entry {
            offset: Offset::new(10_000 + lsn),
            sender: UserId::new("alice").expect("a valid name"),
            device: DeviceId::new(1),
            message_id: MessageId::from_bytes([0; 16]),
            expires_at_ms: None,
            salvaged: false,
            about: None,
            body: EntryBody::Deleted { offsets: (1..=targets as u64).map(Offset::new).collect() },
        };
        Record {
            lsn: Lsn::new(lsn),
            epoch: Epoch::FIRST,
            generation: Generation::FIRST,
            log: LogId::group([1; 16]),
            accepted_at_ms: 0,
            body: Body::Entry(entry),
        }
    }

    #[test]
    fn a_page_with_what_its_deletions_delete_can_be_sent() {
        let records: Vec<Record> = (1..=256).map(|lsn| deletion(lsn, limits::DELETED_OFFSETS_MAX)).collect();
        let fit = fit(&records);
        let target = wire::SalvageTarget {
            sender: "a".repeat(UserId::MAX_BYTES),
            device: u64::MAX,
            message_id: vec![0; 16].into(),
            hash: vec![0; 16].into(),
        };
        let bytes = prost::Message::encoded_len(&target) * limits::DELETED_OFFSETS_MAX * fit;
        assert!(fit > 1 && bytes < limits::WIRE_MESSAGE_MAX_BYTES / 2, "{fit} records, {bytes} bytes");
        assert_eq!(super::fit(&[deletion(1, limits::DELETED_OFFSETS_MAX)]), 1);
    }
}
