//! Divergent tails: written aside, then cut.

use crate::{
    Bed,
    writer::{PARTITION, Writer, all, log, message_id, rename},
};
use log_store::{ArchiveId, LogStore, ReadError, RefusedEntry, Salvage, Settle, StoreError, TailError};
use types::{Epoch, Lsn, PartitionPosition, Record};

const EPOCH: Epoch = Epoch::FIRST;

async fn archived(store: &dyn LogStore, archive: ArchiveId) -> Vec<Record> {
    store.read_archive(archive, Lsn::FIRST, usize::MAX, usize::MAX).await.expect("a readable archive")
}

async fn archive(store: &dyn LogStore, from: u64) -> log_store::Archive {
    store.archive_tail(PARTITION, EPOCH, Lsn::new(from)).await.expect("obeyed").expect("a tail")
}

pub(crate) async fn only_an_archived_tail_is_cut(bed: impl Bed) {
    let (store, mut writer) = (bed.store(), Writer::new(PARTITION));
    let records = writer.fill(&*store, log(1), 6).await;
    let refused = |lsn| Err(TailError::NotArchived { partition: PARTITION, lsn: Lsn::new(lsn) });
    assert_eq!(store.truncate(PARTITION, EPOCH, Lsn::new(4)).await, refused(4));
    archive(&*store, 5).await;
    assert_eq!(store.truncate(PARTITION, EPOCH, Lsn::new(4)).await, refused(4), "5 and 6 only");
    let late = writer.fill(&*store, log(1), 1).await;
    assert_eq!(store.truncate(PARTITION, EPOCH, Lsn::new(5)).await, refused(7), "written since");
    assert_eq!(all(&*store, PARTITION).await, [&records[..], &late[..]].concat());
    archive(&*store, 4).await;
    let end = store.truncate(PARTITION, EPOCH, Lsn::new(5)).await.expect("a part of it");
    assert_eq!(end.last, PartitionPosition::new(EPOCH, Lsn::new(4)));
    assert_eq!(store.truncate(PARTITION, EPOCH, Lsn::new(5)).await, Ok(end), "nothing is left to cut");
    assert_eq!(all(&*store, PARTITION).await, records[..4]);
}

pub(crate) async fn an_archive_holds_the_tail_as_it_was(bed: impl Bed) {
    let (store, mut writer) = (bed.store(), Writer::new(PARTITION));
    assert_eq!(store.archive_tail(PARTITION, EPOCH, Lsn::FIRST).await, Ok(None), "never written");
    let first = writer.fill(&*store, log(1), 3).await;
    let mut second = writer.at_epoch(2);
    let tail = second.fill(&*store, log(2), 4).await;
    assert_eq!(store.archive_tail(PARTITION, EPOCH, Lsn::new(8)).await, Ok(None), "past the end");
    let known = archive(&*store, 3).await;
    assert_eq!((known.partition, known.records), (PARTITION, 5));
    assert_eq!((known.first, known.last), (first[2].partition_position(), tail[3].partition_position()));
    let expected = [&first[2..], &tail[..]].concat();
    assert_eq!(archived(&*store, known.id).await, expected);
    assert_eq!(store.archives().await, Ok(vec![known.clone()]));

    let page = store.read_archive(known.id, Lsn::new(5), 2, usize::MAX).await;
    assert_eq!(page, Ok(expected[2..4].to_vec()));
    let page = store.read_archive(known.id, Lsn::new(5), 9, 0).await;
    assert_eq!(page, Ok(expected[2..3].to_vec()), "at least one");
    assert_eq!(store.read_archive(known.id, Lsn::new(8), 9, 9).await, Ok(vec![]));
    store.truncate(PARTITION, Epoch::new(2), Lsn::new(3)).await.expect("archived");
    assert_eq!(archived(&*store, known.id).await, expected, "cutting leaves it whole");
    let unknown = ArchiveId(known.id.0 + 1);
    let refusal = ReadError::Store(StoreError::UnknownArchive { archive: unknown });
    assert_eq!(store.read_archive(unknown, Lsn::FIRST, 9, 9).await, Err(refusal));
}

pub(crate) async fn archiving_again_answers_the_same_records(bed: impl Bed) {
    let (store, mut writer) = (bed.store(), Writer::new(PARTITION));
    let records = writer.fill(&*store, log(1), 4).await;
    let once = archive(&*store, 2).await;
    let again = archive(&*store, 2).await;
    assert_eq!((again.first, again.last, again.records), (once.first, once.last, once.records));
    assert_eq!(archived(&*store, again.id).await, records[1..]);
}

pub(crate) async fn cutting_rewinds_all_that_was_derived(mut bed: impl Bed) {
    let mut writer = Writer::new(PARTITION);
    let kept = vec![
        writer.created(log(1), &["alice"]),
        writer.message(log(1)),
        writer.message(log(1)),
        writer.cursor(log(1), 1),
    ];
    writer.write(&*bed.store(), kept.clone()).await.expect("the records follow");
    let state = bed.store().log_state(PARTITION, log(1)).await.expect("open");
    let mut later = writer.at_epoch(2);
    let cut = vec![
        later.message(log(1)),
        later.created(log(1), &["mallory", "bob"]),
        later.cursor(log(1), 3),
        later.deleted(log(1), &[2, 4]),
        later.message(log(2)),
    ];
    later.write(&*bed.store(), cut.clone()).await.expect("the records follow");
    let tail = bed.store().archive_tail(PARTITION, Epoch::new(2), Lsn::new(5)).await;
    let tail = tail.expect("obeyed").expect("a tail");
    let end = bed.store().truncate(PARTITION, Epoch::new(2), Lsn::new(5)).await.expect("archived");
    assert_eq!(end.epochs.len(), 1, "the epoch that was cut is gone");

    for _ in 0..2 {
        let store = bed.store();
        assert_eq!(store.end(PARTITION).await, Ok(end.clone()));
        assert_eq!(store.log_state(PARTITION, log(1)).await, Ok(state.clone()));
        assert_eq!(store.log_state(PARTITION, log(2)).await, Ok(None));
        assert_eq!(store.logs(PARTITION, None, 9).await, Ok(vec![log(1)]));
        for record in cut.iter().filter(|record| record.entry().is_some()) {
            let key = record.entry().expect("an entry").dedup_key();
            assert_eq!(store.find(PARTITION, record.log, &key).await, Ok(None));
        }
        let records = all(&*store, PARTITION).await;
        assert_eq!(records.len(), kept.len());
        assert_eq!(records[2], kept[2], "a body that nothing deleted is there");
        assert_eq!(archived(&*store, tail.id).await.len(), cut.len());
        drop(store);
        bed.reopen().await;
    }
}

pub(crate) async fn a_cut_tail_gives_way_to_another_epoch(mut bed: impl Bed) {
    let mut writer = Writer::new(PARTITION);
    let shared = writer.fill(&*bed.store(), log(1), 2).await;
    let mut successor = writer.at_epoch(2);
    let cut = writer.fill(&*bed.store(), log(1), 3).await;
    let tail = archive(&*bed.store(), 3).await;
    bed.store().truncate(PARTITION, EPOCH, Lsn::new(3)).await.expect("archived");

    let mut resent = successor.message(log(1));
    rename(&mut resent, message_id(&cut[0]));
    successor.write(&*bed.store(), vec![resent.clone()]).await.expect("its first place was undone");
    let more = successor.fill(&*bed.store(), log(1), 4).await;
    let expected = [&shared[..], &[resent.clone()], &more[..]].concat();
    let refused = bed.store().truncate(PARTITION, Epoch::new(2), Lsn::new(3)).await;
    let lsn = Lsn::new(3);
    assert_eq!(refused, Err(TailError::NotArchived { partition: PARTITION, lsn }), "another epoch's records");
    for _ in 0..2 {
        assert_eq!(all(&*bed.store(), PARTITION).await, expected);
        assert_eq!(archived(&*bed.store(), tail.id).await, cut);
        let key = resent.entry().expect("an entry").dedup_key();
        let found = bed.store().find(PARTITION, log(1), &key).await.expect("open").expect("it stands");
        assert_eq!(Some(found.position), resent.position());
        bed.reopen().await;
    }
}

pub(crate) async fn a_whole_partition_can_be_cut(mut bed: impl Bed) {
    let mut writer = Writer::new(PARTITION);
    let mut again = writer.at_epoch(2);
    writer.fill(&*bed.store(), log(1), 3).await;
    archive(&*bed.store(), 1).await;
    let end = bed.store().truncate(PARTITION, EPOCH, Lsn::FIRST).await.expect("archived");
    assert_eq!(end, Default::default());
    bed.reopen().await;
    assert_eq!(all(&*bed.store(), PARTITION).await, []);
    let records = again.fill(&*bed.store(), log(1), 2).await;
    bed.reopen().await;
    assert_eq!(all(&*bed.store(), PARTITION).await, records);
}

pub(crate) async fn a_discarded_archive_protects_nothing(mut bed: impl Bed) {
    let mut writer = Writer::new(PARTITION);
    writer.fill(&*bed.store(), log(1), 3).await;
    let known = archive(&*bed.store(), 2).await;
    bed.store().discard_archive(known.id).await.expect("it is there");
    for _ in 0..2 {
        let store = bed.store();
        assert_eq!(store.archives().await, Ok(vec![]));
        let unknown = StoreError::UnknownArchive { archive: known.id };
        assert_eq!(store.discard_archive(known.id).await, Err(unknown.clone()));
        let read = store.read_archive(known.id, Lsn::FIRST, 9, 9).await;
        assert_eq!(read, Err(ReadError::Store(unknown)));
        let lsn = Lsn::new(2);
        let refused = store.truncate(PARTITION, EPOCH, lsn).await;
        assert_eq!(refused, Err(TailError::NotArchived { partition: PARTITION, lsn }));
        drop(store);
        bed.reopen().await;
    }
    let next = archive(&*bed.store(), 2).await;
    assert!(next.id > known.id, "a name is used once");
}

pub(crate) async fn an_archive_outlives_the_opening(mut bed: impl Bed) {
    let mut writer = Writer::new(PARTITION);
    let records = writer.fill(&*bed.store(), log(1), 4).await;
    let known = archive(&*bed.store(), 3).await;
    bed.reopen().await;
    assert_eq!(bed.store().archives().await, Ok(vec![known.clone()]));
    bed.store().truncate(PARTITION, EPOCH, Lsn::new(3)).await.expect("archived before");
    bed.reopen().await;
    assert_eq!(archived(&*bed.store(), known.id).await, records[2..]);
    assert_eq!(all(&*bed.store(), PARTITION).await, records[..2]);
}

fn step(archive: ArchiveId, after: u64, through: u64, refused: &[u64]) -> Settle {
    let reason = |lsn: &u64| format!("forbidden: record {lsn} has no place any more");
    Settle {
        archive,
        after: Lsn::new(after),
        through: Lsn::new(through),
        salvaged: through - after.max(2) - refused.len() as u64,
        refused: refused
            .iter()
            .map(|lsn| RefusedEntry { lsn: Lsn::new(*lsn), reason: reason(lsn) })
            .collect(),
        at_ms: through * 1_000,
    }
}

fn lsns(refused: &[RefusedEntry]) -> Vec<u64> {
    refused.iter().map(|refused| refused.lsn.get()).collect()
}

pub(crate) async fn a_salvage_goes_on_step_by_step(mut bed: impl Bed) {
    let mut writer = Writer::new(PARTITION);
    writer.fill(&*bed.store(), log(1), 8).await;
    let id = archive(&*bed.store(), 3).await.id;
    assert_eq!(archive(&*bed.store(), 3).await.salvage, Salvage::default());

    let first = step(id, 0, 5, &[4]);
    let known = bed.store().settle_archive(first.clone()).await.expect("the next step");
    assert_eq!((known.settled, known.salvaged, known.refused, known.at_ms), (Lsn::new(5), 2, 1, 5_000));
    assert_eq!(bed.store().settle_archive(first).await, Ok(known.clone()), "a step counts once");
    let early = step(id, 7, 8, &[8]);
    assert_eq!(bed.store().settle_archive(early).await, Ok(known.clone()), "a step that is not due is none");
    let beyond = step(id, 5, 9, &[]);
    assert_eq!(bed.store().settle_archive(beyond).await, Ok(known.clone()), "there is no ninth record");

    bed.reopen().await;
    assert_eq!(archive(&*bed.store(), 3).await.salvage, known, "the same records are as far as they were");
    let last = bed.store().settle_archive(step(id, 5, 8, &[6, 8])).await.expect("the next step");
    assert_eq!((last.settled, last.salvaged, last.refused), (Lsn::new(8), 3, 3));
    bed.reopen().await;
    let known = bed.store().archives().await.expect("open").remove(0);
    assert!(known.is_settled());
    assert_eq!(known.salvage, last);

    let listed = bed.store().refused_entries(id, Lsn::ZERO, 9).await.expect("listed");
    assert_eq!(lsns(&listed), [4, 6, 8]);
    assert_eq!(listed[1].reason, "forbidden: record 6 has no place any more");
    let page = bed.store().refused_entries(id, Lsn::new(4), 1).await.expect("listed");
    assert_eq!(lsns(&page), [6]);
}

pub(crate) async fn a_discarded_archive_lists_nothing(bed: impl Bed) {
    let (store, mut writer) = (bed.store(), Writer::new(PARTITION));
    writer.fill(&*store, log(1), 4).await;
    let id = archive(&*store, 3).await.id;
    store.settle_archive(step(id, 0, 4, &[3])).await.expect("the next step");
    store.discard_archive(id).await.expect("it is there");
    let refusal = StoreError::UnknownArchive { archive: id };
    assert_eq!(store.settle_archive(step(id, 0, 4, &[])).await, Err(refusal.clone()));
    assert_eq!(store.refused_entries(id, Lsn::ZERO, 9).await, Err(ReadError::Store(refusal)));
    let another = archive(&*store, 3).await;
    assert_ne!(another.id, id);
    assert_eq!(another.salvage, Salvage::default());
    assert_eq!(store.refused_entries(another.id, Lsn::ZERO, 9).await, Ok(vec![]));
}
