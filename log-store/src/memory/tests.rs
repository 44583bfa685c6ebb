use super::*;
use crate::{Append, LogStore, StoreError};
use futures_util::FutureExt;
use types::{
    Body, DeviceCursor, DeviceId, Epoch, Generation, LogId, Lsn, Offset, PartitionId, Record, StateUpdate,
    StoreId, UserId,
};

const PARTITION: PartitionId = PartitionId::new(0);

fn store() -> MemoryStore {
    MemoryStore::new(StoreId::from_bytes([1; 16]))
}

fn batch(lsn: u64) -> Append {
    let record = Record {
        lsn: Lsn::new(lsn),
        epoch: Epoch::FIRST,
        generation: Generation::FIRST,
        log: LogId::group([1; 16]),
        accepted_at_ms: lsn,
        body: Body::Update(StateUpdate::Cursors(vec![DeviceCursor::read(
            UserId::new("alice").expect("a valid name"),
            DeviceId::new(1),
            Offset::new(lsn),
            lsn,
        )])),
    };
    Append { partition: PARTITION, obeys: Epoch::FIRST, records: vec![record] }
}

async fn last_lsn(store: &MemoryStore) -> u64 {
    store.end(PARTITION).await.expect("open").last.lsn.get()
}

#[tokio::test]
async fn a_change_is_seen_and_answered_only_at_its_sync() {
    let store = store();
    store.hold_syncs();
    let mut acks: Vec<_> = (1..=3).map(|lsn| store.append(batch(lsn))).collect();
    assert_eq!((store.pending(), last_lsn(&store).await), (3, 0));
    assert_eq!(store.release(2), 2);
    assert_eq!(last_lsn(&store).await, 2);
    assert!(acks[2].as_mut().now_or_never().is_none());
    store.resume_syncs();
    for (ack, lsn) in acks.into_iter().zip(1..) {
        assert_eq!(ack.await.expect("durable").lsn, Lsn::new(lsn));
    }
}

#[tokio::test]
async fn a_crash_loses_what_the_test_says_and_acks_nothing() {
    for (survive, left) in [(Survive::Nothing, 1), (Survive::Oldest(2), 3), (Survive::Everything, 5)] {
        let store = store();
        store.append(batch(1)).await.expect("synced at once");
        store.hold_syncs();
        let acks: Vec<_> = (2..=5).map(|lsn| store.append(batch(lsn))).collect();
        store.crash(survive);
        for ack in acks {
            assert!(ack.await.expect_err("never acked").is_indeterminate());
        }
        assert!(matches!(store.end(PARTITION).await, Err(StoreError::Closed { .. })));
        let reopened = store.reopen().expect("the store has crashed");
        assert_eq!(last_lsn(&reopened).await, left);
        assert!(matches!(store.canary().await, Err(StoreError::Closed { .. })), "an old handle is closed");
    }
}

#[tokio::test]
async fn a_failed_sync_closes_the_store() {
    let store = store();
    store.fail_next_sync(Survive::Everything);
    let error = store.append(batch(1)).await.expect_err("the sync failed");
    assert!(error.is_indeterminate());
    assert!(matches!(store.canary().await, Err(StoreError::Closed { .. })));
    assert_eq!(last_lsn(&store.reopen().expect("it is closed")).await, 1);
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers() {
    let store = store();
    store.set_full(true);
    let error = store.append(batch(1)).await.expect_err("no room");
    assert!(error.is_retryable() && !error.is_indeterminate());
    store.set_full(false);
    store.append(batch(1)).await.expect("there is room again");
}

#[tokio::test]
async fn an_open_store_is_not_opened_twice() {
    let store = store();
    assert!(matches!(store.reopen(), Err(StoreError::InUse { .. })));
    store.close().await;
    store.reopen().expect("it was closed");
}
