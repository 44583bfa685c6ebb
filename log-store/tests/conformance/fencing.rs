//! Fences: who is still obeyed.

use crate::{
    Bed,
    writer::{PARTITION, Writer, all, log},
};
use log_store::{Append, AppendError, EpochBegin, PartitionEnd, TailError};
use types::{Epoch, Lsn, PartitionId, PartitionPosition};

pub(crate) async fn a_fence_refuses_what_is_below_it_only(bed: impl Bed) {
    let (store, mut writer) = (bed.store(), Writer::new(PARTITION));
    let held = writer.fill(&*store, log(1), 2).await;
    store.fence(PARTITION, Epoch::new(5)).await.expect("a fence");

    let mut stale = writer.at_epoch(4);
    let record = stale.message(log(1));
    let refusal = stale.write(&*store, vec![record]).await.expect_err("below the fence");
    let (obeys, fence) = (Epoch::new(4), Epoch::new(5));
    assert_eq!(refusal, AppendError::Fenced { partition: PARTITION, obeys, fence });
    assert!(!refusal.is_indeterminate() && !refusal.is_retryable());
    assert_eq!(all(&*store, PARTITION).await, held);

    let mut at_the_fence = writer.at_epoch(5);
    at_the_fence.fill(&*store, log(1), 1).await;
    let mut above = at_the_fence.at_epoch(6);
    above.fill(&*store, log(1), 1).await;
    assert_eq!(store.end(PARTITION).await.expect("open").fence, fence, "an append raises no fence");

    let mut copied = above.at_epoch(6);
    let record = copied.message(log(1));
    let below = Append { obeys: Epoch::new(4), ..copied.batch(vec![record]) };
    let refusal = store.append(below).await;
    // Records above what is obeyed are no valid batch; either refusal keeps them out.
    assert!(matches!(refusal, Err(AppendError::Fenced { .. } | AppendError::Invalid { .. })), "{refusal:?}");
}

pub(crate) async fn a_fence_never_goes_down(bed: impl Bed) {
    let store = bed.store();
    for (epoch, fence) in [(0, 0), (3, 3), (2, 3), (3, 3), (0, 3), (7, 7)] {
        let end = store.fence(PARTITION, Epoch::new(epoch)).await.expect("no error, whatever the epoch");
        assert_eq!(end, PartitionEnd { fence: Epoch::new(fence), ..PartitionEnd::default() });
        assert_eq!(store.end(PARTITION).await, Ok(end));
    }
}

pub(crate) async fn a_fence_answers_the_end_it_closes(bed: impl Bed) {
    let (store, mut writer) = (bed.store(), Writer::new(PARTITION));
    let acks: Vec<_> = (0..200)
        .map(|_| {
            let record = writer.message(log(1));
            store.append(writer.batch(vec![record]))
        })
        .collect();
    let end = store.fence(PARTITION, Epoch::new(2)).await.expect("a fence");
    let begin = EpochBegin { epoch: Epoch::FIRST, first_lsn: Lsn::FIRST };
    assert_eq!(end.epochs, [begin]);
    let mut acked = PartitionPosition::ZERO;
    for ack in acks {
        match ack.await {
            Ok(durable) => acked = acked.max(durable),
            Err(refusal) => assert!(!refusal.is_indeterminate(), "{refusal}"),
        }
    }
    assert_eq!(end.last, acked, "what was appended before is in the end or was refused");
    let late = writer.message(log(1));
    let refusal = writer.write(&*store, vec![late]).await;
    assert!(matches!(refusal, Err(AppendError::Fenced { .. })), "{refusal:?}");
    assert_eq!(store.end(PARTITION).await, Ok(end));
}

pub(crate) async fn a_fence_holds_for_tails_too(bed: impl Bed) {
    let (store, mut writer) = (bed.store(), Writer::new(PARTITION));
    writer.fill(&*store, log(1), 3).await;
    let from = Lsn::new(2);
    store.archive_tail(PARTITION, Epoch::new(1), from).await.expect("obeyed").expect("a tail");
    store.fence(PARTITION, Epoch::new(2)).await.expect("a fence");
    let (obeys, fence) = (Epoch::FIRST, Epoch::new(2));
    let fenced = TailError::Fenced { partition: PARTITION, obeys, fence };
    assert_eq!(store.archive_tail(PARTITION, obeys, from).await, Err(fenced.clone()));
    assert_eq!(store.truncate(PARTITION, obeys, from).await, Err(fenced));
    assert_eq!(all(&*store, PARTITION).await.len(), 3);
    store.truncate(PARTITION, fence, from).await.expect("the fence itself is obeyed");
    assert_eq!(all(&*store, PARTITION).await.len(), 1);
}

pub(crate) async fn a_fence_outlives_the_opening(mut bed: impl Bed) {
    let mut writer = Writer::new(PARTITION);
    writer.fill(&*bed.store(), log(1), 1).await;
    bed.store().fence(PARTITION, Epoch::new(8)).await.expect("a fence");
    bed.reopen().await;
    let stale = writer.message(log(1));
    let refusal = writer.write(&*bed.store(), vec![stale]).await;
    assert!(matches!(refusal, Err(AppendError::Fenced { .. })), "{refusal:?}");
    assert_eq!(bed.store().end(PARTITION).await.expect("open").fence, Epoch::new(8));
}

pub(crate) async fn partitions_are_those_with_a_record_or_a_fence(mut bed: impl Bed) {
    let store = bed.store();
    assert_eq!(store.partitions().await, Ok(vec![]));
    Writer::new(PartitionId::new(9)).fill(&*store, log(1), 1).await;
    store.fence(PartitionId::new(4), Epoch::new(1)).await.expect("a fence");
    assert_eq!(store.end(PartitionId::new(70)).await, Ok(PartitionEnd::default()));
    let both = vec![PartitionId::new(4), PartitionId::new(9)];
    assert_eq!(store.partitions().await, Ok(both.clone()));
    drop(store);
    bed.reopen().await;
    assert_eq!(bed.store().partitions().await, Ok(both));
}
