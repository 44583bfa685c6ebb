//! Opening and closing: what stays, and what is answered afterwards.

use crate::{
    Bed,
    writer::{PARTITION, Writer, all, log},
};
use futures_util::future::join_all;
use log_store::{AppendError, ReadError, Scan, StoreError, TailError};
use types::{Epoch, Lsn, Offset};

pub(crate) async fn what_was_acked_is_there_after_reopening(mut bed: impl Bed) {
    let mut writer = Writer::new(PARTITION);
    let id = bed.store().id();
    let mut records = Vec::new();
    for _ in 0..3 {
        let batch =
            vec![writer.created(log(0), &["alice"]), writer.message(log(1)), writer.cursor(log(1), 1)];
        writer.write(&*bed.store(), batch.clone()).await.expect("the records follow");
        records.extend(batch);
        let (end, state) = (
            bed.store().end(PARTITION).await.expect("open"),
            bed.store().log_state(PARTITION, log(1)).await.expect("open"),
        );
        bed.reopen().await;
        assert_eq!(bed.store().id(), id);
        assert_eq!(all(&*bed.store(), PARTITION).await, records);
        assert_eq!(bed.store().end(PARTITION).await, Ok(end));
        assert_eq!(bed.store().log_state(PARTITION, log(1)).await, Ok(state));
    }
}

pub(crate) async fn a_closed_store_answers_closed(bed: impl Bed) {
    let (store, mut writer) = (bed.store(), Writer::new(PARTITION));
    let held = writer.fill(&*store, log(1), 1).await.remove(0);
    store.close().await;
    store.close().await;
    let key = held.entry().expect("an entry").dedup_key();
    let (epoch, from) = (Epoch::FIRST, Lsn::FIRST);
    let closed = |error: &StoreError| matches!(error, StoreError::Closed { .. });
    let read_closed = |error: &ReadError| matches!(error, ReadError::Store(error) if closed(error));
    let tail_closed = |error: &TailError| matches!(error, TailError::Store(error) if closed(error));

    let next = writer.message(log(1));
    let refusal = writer.write(&*store, vec![next]).await.expect_err("closed");
    assert!(matches!(&refusal, AppendError::Store(error) if closed(error)), "{refusal:?}");
    assert!(store.fence(PARTITION, epoch).await.is_err_and(|error| closed(&error)));
    assert!(store.end(PARTITION).await.is_err_and(|error| closed(&error)));
    assert!(store.partitions().await.is_err_and(|error| closed(&error)));
    assert!(store.archives().await.is_err_and(|error| closed(&error)));
    assert!(store.canary().await.is_err_and(|error| closed(&error)));
    assert!(store.reclaim(0).await.is_err_and(|error| closed(&error)));
    assert!(store.discard_archive(log_store::ArchiveId(1)).await.is_err_and(|error| closed(&error)));
    assert!(store.archive_tail(PARTITION, epoch, from).await.is_err_and(|error| tail_closed(&error)));
    assert!(store.truncate(PARTITION, epoch, from).await.is_err_and(|error| tail_closed(&error)));
    assert!(store.read_partition(PARTITION, from, 1, 1).await.is_err_and(|error| read_closed(&error)));
    let scan = Scan::After(Offset::ZERO);
    assert!(store.read_log(PARTITION, log(1), scan, 1, 1, 0).await.is_err_and(|error| read_closed(&error)));
    assert!(store.log_state(PARTITION, log(1)).await.is_err_and(|error| read_closed(&error)));
    assert!(store.logs(PARTITION, None, 1).await.is_err_and(|error| read_closed(&error)));
    assert!(store.find(PARTITION, log(1), &key).await.is_err_and(|error| read_closed(&error)));
}

pub(crate) async fn closing_ends_what_is_under_way(mut bed: impl Bed) {
    let (store, mut writer) = (bed.store(), Writer::new(PARTITION));
    let acks: Vec<_> = (0..300)
        .map(|_| {
            let record = writer.message(log(1));
            store.append(writer.batch(vec![record]))
        })
        .collect();
    store.close().await;
    let acked = join_all(acks).await.iter().take_while(|ack| ack.is_ok()).count();
    drop(store);
    bed.reopen().await;
    let held = all(&*bed.store(), PARTITION).await.len();
    assert!(held >= acked, "{acked} were acked, and {held} are there");
}

pub(crate) async fn a_canary_leaves_no_trace(mut bed: impl Bed) {
    let mut writer = Writer::new(PARTITION);
    let records = writer.fill(&*bed.store(), log(1), 1).await;
    for _ in 0..3 {
        bed.store().canary().await.expect("the disk writes");
    }
    assert_eq!(bed.store().partitions().await, Ok(vec![PARTITION]));
    bed.reopen().await;
    assert_eq!(all(&*bed.store(), PARTITION).await, records);
    assert_eq!(bed.store().partitions().await, Ok(vec![PARTITION]));
}
