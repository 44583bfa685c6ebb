//! Reads: order, bounds, and what is derived.

use crate::{
    Bed,
    writer::{PARTITION, Writer, all, log},
};
use log_store::{Deduped, LogStore, ReadError, Scan, fold::LogState};
use types::{AckPolicy, DedupKey, LogId, Lsn, MessageId, Offset, Record};

const ALL_BYTES: usize = usize::MAX;

async fn offsets(store: &dyn LogStore, scan: Scan, max_entries: usize, max_bytes: usize) -> Vec<u64> {
    let page = store.read_log(PARTITION, log(1), scan, max_entries, max_bytes, 0).await.expect("readable");
    page.iter().map(|record| record.entry().expect("only entries").offset.get()).collect()
}

pub(crate) async fn a_partition_is_read_in_order_within_bounds(bed: impl Bed) {
    let (store, mut writer) = (bed.store(), Writer::new(PARTITION));
    let mut records = Vec::new();
    for at in 0..30 {
        let batch = vec![writer.message_of(log(at % 4), usize::from(at) * 50), writer.cursor(log(at % 4), 1)];
        writer.write(&*store, batch.clone()).await.expect("the records follow");
        records.extend(batch);
    }
    assert_eq!(all(&*store, PARTITION).await, records);
    for (from, max) in [(1, 1), (1, 7), (13, 20), (60, 5), (41, 1_000)] {
        let page = store.read_partition(PARTITION, Lsn::new(from), max, ALL_BYTES).await.expect("readable");
        let at = from as usize - 1;
        assert_eq!(page, records[at..records.len().min(at + max)]);
        let encoded = store.read_encoded(PARTITION, Lsn::new(from), max, ALL_BYTES).await.expect("readable");
        assert_eq!(encoded.len(), page.len());
        for (encoded, record) in encoded.into_iter().zip(page) {
            assert_eq!(encoded.position, record.partition_position());
            assert_eq!(proto::decode_record(encoded.bytes), Ok(record));
        }
    }
    for max_bytes in [500, 2_000, 5_000] {
        let (mut from, mut read) = (1, Vec::new());
        while from <= 60 {
            let page =
                store.read_partition(PARTITION, Lsn::new(from), 1_000, max_bytes).await.expect("readable");
            let bytes: usize = page.iter().map(|record| proto::encode_record(record).len()).sum();
            assert!(bytes <= max_bytes || page.len() == 1, "{bytes} bytes where {max_bytes} are the most");
            from += page.len() as u64;
            read.extend(page);
        }
        assert_eq!(read, records);
    }
}

pub(crate) async fn a_log_is_read_in_both_directions(bed: impl Bed) {
    let (store, mut writer) = (bed.store(), Writer::new(PARTITION));
    for _ in 0..10 {
        let batch = vec![writer.message(log(1)), writer.cursor(log(1), 1), writer.message(log(2))];
        writer.write(&*store, batch).await.expect("the records follow");
    }
    let after = |offset| Scan::After(Offset::new(offset));
    let before = |offset| Scan::Before(Offset::new(offset));
    for (scan, max, expected) in [
        (after(0), 3, vec![1, 2, 3]),
        (after(8), 3, vec![9, 10]),
        (after(10), 3, vec![]),
        (after(u64::MAX), 3, vec![]),
        (before(u64::MAX), 3, vec![10, 9, 8]),
        (before(11), 2, vec![10, 9]),
        (before(10), 2, vec![9, 8]),
        (before(3), 9, vec![2, 1]),
        (before(1), 9, vec![]),
        (before(0), 9, vec![]),
    ] {
        assert_eq!(offsets(&*store, scan, max, ALL_BYTES).await, expected, "{scan:?}, at most {max}");
    }
    let unknown = store.read_log(PARTITION, log(99), after(0), 9, ALL_BYTES, 0).await;
    assert_eq!(unknown, Ok(vec![]));
}

pub(crate) async fn a_page_holds_at_least_one_record(bed: impl Bed) {
    let (store, mut writer) = (bed.store(), Writer::new(PARTITION));
    let batch = vec![writer.message_of(log(1), 9_000), writer.message_of(log(1), 10)];
    writer.write(&*store, batch.clone()).await.expect("the records follow");
    for (max_records, max_bytes) in [(5, 0), (5, 100), (1, ALL_BYTES), (0, ALL_BYTES)] {
        let page = store.read_partition(PARTITION, Lsn::FIRST, max_records, max_bytes).await;
        assert_eq!(page, Ok(vec![batch[0].clone()]));
        let scan = Scan::After(Offset::ZERO);
        assert_eq!(offsets(&*store, scan, max_records, max_bytes).await, [1]);
    }
    assert_eq!(offsets(&*store, Scan::Before(Offset::new(3)), 5, 0).await, [2]);
}

pub(crate) async fn past_the_end_there_is_nothing_or_a_refusal(bed: impl Bed) {
    let (store, mut writer) = (bed.store(), Writer::new(PARTITION));
    assert_eq!(store.read_partition(PARTITION, Lsn::FIRST, 9, 9).await, Ok(vec![]), "never written");
    writer.fill(&*store, log(1), 3).await;
    assert_eq!(store.read_partition(PARTITION, Lsn::new(4), 9, 9).await, Ok(vec![]));
    let (from, end) = (Lsn::new(5), Lsn::new(3));
    let refusal = store.read_partition(PARTITION, from, 9, 9).await;
    assert_eq!(refusal, Err(ReadError::PastEnd { partition: PARTITION, from, end }));
    assert_eq!(store.log_state(PARTITION, log(9)).await, Ok(None));
}

pub(crate) async fn logs_are_listed_in_pages(mut bed: impl Bed) {
    let mut writer = Writer::new(PARTITION);
    let mut ids: Vec<LogId> = [200, 3, 90, 41, 7].map(log).to_vec();
    let direct = LogId::direct(&crate::writer::user("alice"), &crate::writer::user("bob"));
    let account = LogId::account(&crate::writer::user("alice"));
    ids.extend([direct, account]);
    for log in &ids {
        writer.fill(&*bed.store(), *log, 2).await;
    }
    ids.sort();
    for _ in 0..2 {
        let store = bed.store();
        assert_eq!(store.logs(PARTITION, None, 100).await, Ok(ids.clone()));
        assert_eq!(store.logs(PARTITION, None, 2).await, Ok(ids[..2].to_vec()));
        assert_eq!(store.logs(PARTITION, Some(ids[1]), 3).await, Ok(ids[2..5].to_vec()));
        assert_eq!(store.logs(PARTITION, ids.last().copied(), 3).await, Ok(vec![]));
        drop(store);
        bed.reopen().await;
    }
}

pub(crate) async fn the_state_is_the_fold_of_the_records(mut bed: impl Bed) {
    let mut writer = Writer::new(PARTITION);
    let mut fresh = LogState::default();
    let mut later = writer.clone();
    for epoch in [1, 2, 5] {
        later = later.at_epoch(epoch);
        let records = vec![
            later.created(log(1), &["alice", "bob"]),
            later.message(log(1)),
            later.cursor(log(1), epoch),
            later.cursor(log(1), 1),
        ];
        later.write(&*bed.store(), records.clone()).await.expect("the records follow");
        records.iter().for_each(|record| fresh.apply(record).expect("the records follow"));
        for _ in 0..2 {
            let state = bed.store().log_state(PARTITION, log(1)).await.expect("readable").expect("a log");
            assert_eq!(*state, fresh);
            bed.reopen().await;
        }
    }
    assert_eq!(fresh.ack_policy, AckPolicy::Replicated);
    assert_eq!((fresh.eras.len(), fresh.members.len(), fresh.cursors.len()), (3, 2, 1));
    writer = later;
    let other: Vec<Record> = writer.fill(&*bed.store(), log(2), 1).await;
    assert_eq!(other[0].lsn, Lsn::new(13));
    let state = bed.store().log_state(PARTITION, log(1)).await.expect("readable").expect("a log");
    assert_eq!(*state, fresh, "another log's record changes nothing");
}

pub(crate) async fn a_message_id_is_found_with_its_position(mut bed: impl Bed) {
    let mut writer = Writer::new(PARTITION);
    let records = writer.fill(&*bed.store(), log(1), 3).await;
    for _ in 0..2 {
        for record in &records {
            let entry = record.entry().expect("an entry");
            let found = bed.store().find(PARTITION, log(1), &entry.dedup_key()).await;
            let expected = Deduped {
                position: record.position().expect("an entry"),
                lsn: record.lsn,
                hash: entry.body.hash(),
                accepted_at_ms: record.accepted_at_ms,
            };
            assert_eq!(found, Ok(Some(expected)));
            assert_eq!(bed.store().find(PARTITION, log(2), &entry.dedup_key()).await, Ok(None));
            let other = DedupKey { message_id: MessageId::from_bytes([9; 16]), ..entry.dedup_key() };
            assert_eq!(bed.store().find(PARTITION, log(1), &other).await, Ok(None));
        }
        bed.reopen().await;
    }
}
