//! Appends: order, density, atomicity, dedup, bounds.

use crate::{
    Bed,
    writer::{PARTITION, Writer, all, log, message_id, rename},
};
use futures_util::future::join_all;
use log_store::{Append, AppendError};
use types::{
    Body, EntryBody, Epoch, Generation, Lsn, Offset, PartitionId, PartitionPosition, Record, limits,
};

pub(crate) async fn batches_under_way_take_effect_in_the_order_of_the_calls(bed: impl Bed) {
    let (store, mut writer) = (bed.store(), Writer::new(PARTITION));
    let acks: Vec<_> = (0..500)
        .map(|at| {
            let record = writer.message(log(at as u8 % 7));
            store.append(writer.batch(vec![record]))
        })
        .collect();
    // Polled in the other direction, they still take effect as they were called.
    for (at, ack) in acks.into_iter().enumerate().rev() {
        assert_eq!(ack.await, Ok(PartitionPosition::new(Epoch::FIRST, Lsn::new(at as u64 + 1))));
    }
    let lsns: Vec<u64> = all(&*store, PARTITION).await.iter().map(|record| record.lsn.get()).collect();
    assert_eq!(lsns, (1..=500).collect::<Vec<_>>());
}

pub(crate) async fn behind_a_refused_batch_there_is_a_gap(bed: impl Bed) {
    let (store, mut writer) = (bed.store(), Writer::new(PARTITION));
    let first = writer.message(log(1));
    let mut repeated = writer.message(log(1));
    rename(&mut repeated, message_id(&first));
    let behind = writer.message(log(2));
    let acks = join_all([
        store.append(writer.batch(vec![first])),
        store.append(writer.batch(vec![repeated])),
        store.append(writer.batch(vec![behind])),
    ])
    .await;
    assert_eq!(acks[0], Ok(PartitionPosition::new(Epoch::FIRST, Lsn::new(1))));
    assert_eq!(acks[1], Err(AppendError::Duplicate { log: log(1), lsn: Lsn::new(2) }));
    let gap = AppendError::Gap { partition: PARTITION, expected: Lsn::new(2), found: Lsn::new(3) };
    assert_eq!(acks[2], Err(gap));
}

pub(crate) async fn one_bad_record_refuses_the_whole_batch(bed: impl Bed) {
    let (store, mut writer) = (bed.store(), Writer::new(PARTITION));
    let mut records: Vec<Record> = (0..9).map(|at| writer.message(log(at % 3))).collect();
    let twin = message_id(&records[1]);
    rename(&mut records[4], twin);
    let refusal = store.append(writer.batch(records.clone())).await.expect_err("an id stands twice");
    assert_eq!(refusal, AppendError::Duplicate { log: log(1), lsn: Lsn::new(5) });
    assert!(!refusal.is_indeterminate());
    assert_eq!(store.end(PARTITION).await, Ok(Default::default()));
    assert_eq!(store.logs(PARTITION, None, 10).await, Ok(vec![]));
    let key = records[0].entry().expect("an entry").dedup_key();
    assert_eq!(store.find(PARTITION, log(0), &key).await, Ok(None));
    rename(&mut records[4], types::MessageId::from_bytes([255; 16]));
    store.append(writer.batch(records.clone())).await.expect("it is good now");
    assert_eq!(all(&*store, PARTITION).await, records);
}

pub(crate) async fn a_batch_follows_the_end_of_its_partition(bed: impl Bed) {
    let (store, mut writer) = (bed.store(), Writer::new(PARTITION));
    let held = writer.fill(&*store, log(1), 2).await;
    let gap = |expected, found| {
        Err(AppendError::Gap { partition: PARTITION, expected: Lsn::new(expected), found: Lsn::new(found) })
    };
    assert_eq!(writer.write(&*store, held).await, gap(3, 1), "it is there already");
    let (third, fourth, fifth) = (writer.message(log(2)), writer.message(log(2)), writer.message(log(3)));
    assert_eq!(writer.write(&*store, vec![fourth]).await, gap(3, 4));
    assert_eq!(writer.write(&*store, vec![third.clone(), fifth]).await, gap(4, 5), "a hole inside");
    writer.write(&*store, vec![third]).await.expect("it follows");
}

pub(crate) async fn an_entry_follows_the_head_of_its_log(bed: impl Bed) {
    let (store, mut writer) = (bed.store(), Writer::new(PARTITION));
    let at_offset = |mut record: Record, offset: u64| {
        if let Body::Entry(entry) = &mut record.body {
            entry.offset = Offset::new(offset);
        }
        record
    };
    writer.fill(&*store, log(1), 2).await;
    let next = writer.message(log(1));
    for wrong in [0, 1, 2, 4, u64::MAX] {
        let refusal = writer.write(&*store, vec![at_offset(next.clone(), wrong)]).await;
        let (expected, found) = (Offset::new(3), Offset::new(wrong));
        assert_eq!(refusal, Err(AppendError::OffsetGap { log: log(1), expected, found }));
    }
    let second_of_new_log = at_offset(Record { log: log(2), ..next.clone() }, 2);
    let refusal = writer.write(&*store, vec![second_of_new_log]).await;
    let (expected, found) = (Offset::FIRST, Offset::new(2));
    assert_eq!(refusal, Err(AppendError::OffsetGap { log: log(2), expected, found }));
    let hole_inside = at_offset(writer.message(log(1)), 5);
    let refusal = writer.write(&*store, vec![next.clone(), hole_inside]).await;
    let (expected, found) = (Offset::new(4), Offset::new(5));
    assert_eq!(refusal, Err(AppendError::OffsetGap { log: log(1), expected, found }));
    writer.write(&*store, vec![next]).await.expect("it follows");
}

pub(crate) async fn updates_have_no_offset(bed: impl Bed) {
    let (store, mut writer) = (bed.store(), Writer::new(PARTITION));
    let records = vec![
        writer.message(log(1)),
        writer.cursor(log(1), 1),
        writer.message(log(1)),
        writer.cursor(log(2), 7),
        writer.message(log(2)),
    ];
    writer.write(&*store, records.clone()).await.expect("offsets are dense over the entries");
    assert_eq!(all(&*store, PARTITION).await, records);
    let scan = log_store::Scan::After(Offset::ZERO);
    let entries = store.read_log(PARTITION, log(1), scan, 9, usize::MAX, 0).await.expect("readable");
    assert_eq!(entries, [records[0].clone(), records[2].clone()]);
}

pub(crate) async fn a_seal_takes_an_lsn_and_nothing_else(mut bed: impl Bed) {
    let mut writer = Writer::new(PARTITION);
    let before = writer.message(log(1));
    let seal = writer.seal();
    let mut next = writer.at_epoch(2);
    let behind = next.message(log(1));
    writer.write(&*bed.store(), vec![before.clone()]).await.expect("it is the first");
    let sealed = writer.write(&*bed.store(), vec![seal.clone()]).await;
    assert_eq!(sealed, Ok(PartitionPosition::new(Epoch::FIRST, Lsn::new(2))));
    bed.reopen().await;
    let store = bed.store();
    next.write(&*store, vec![behind.clone()]).await.expect("the next epoch goes on behind it");
    assert_eq!(all(&*store, PARTITION).await, [before.clone(), seal.clone(), behind.clone()]);
    let scan = log_store::Scan::After(Offset::ZERO);
    let entries = store.read_log(PARTITION, log(1), scan, 9, usize::MAX, 0).await.expect("readable");
    assert_eq!(entries, [before, behind]);
    let scan = log_store::Scan::After(Offset::ZERO);
    let entries = store.read_log(PARTITION, seal.log, scan, 9, usize::MAX, 0).await.expect("readable");
    assert_eq!(entries, [], "it is no entry");
}

pub(crate) async fn a_message_id_stands_once_in_its_log(mut bed: impl Bed) {
    let mut writer = Writer::new(PARTITION);
    let first = writer.fill(&*bed.store(), log(1), 1).await.remove(0);
    bed.reopen().await;
    let store = bed.store();
    let mut retry = writer.message(log(1));
    rename(&mut retry, message_id(&first));
    let duplicate = Err(AppendError::Duplicate { log: log(1), lsn: Lsn::new(2) });
    assert_eq!(writer.write(&*store, vec![retry.clone()]).await, duplicate);

    let mut of_other_device = retry.clone();
    if let Body::Entry(entry) = &mut of_other_device.body {
        entry.device = types::DeviceId::new(2);
    }
    writer.write(&*store, vec![of_other_device]).await.expect("another device draws its own ids");
    let mut in_other_log = writer.message(log(2));
    rename(&mut in_other_log, message_id(&first));
    writer.write(&*store, vec![in_other_log]).await.expect("another log has its own ids");
}

pub(crate) async fn epochs_never_go_back(bed: impl Bed) {
    let (store, mut first) = (bed.store(), Writer::new(PARTITION));
    first.fill(&*store, log(1), 1).await;
    let mut third = first.at_epoch(3);
    third.fill(&*store, log(1), 1).await;

    let mut stale = third.at_epoch(2);
    let record = stale.message(log(1));
    let obeying_a_later_home = Append { obeys: Epoch::new(3), ..stale.batch(vec![record.clone()]) };
    let refusal = store.append(obeying_a_later_home).await;
    assert!(matches!(refusal, Err(AppendError::Invalid { .. })), "{refusal:?}");

    let above = Record { epoch: Epoch::new(4), ..record.clone() };
    let refusal = store.append(third.batch(vec![above])).await;
    assert!(matches!(refusal, Err(AppendError::Invalid { .. })), "above what is obeyed: {refusal:?}");

    let mut third_again = third.clone();
    let back_inside = vec![third_again.message(log(2)), Record { lsn: Lsn::new(4), ..record.clone() }];
    let refusal = store.append(third.batch(back_inside)).await;
    assert!(matches!(refusal, Err(AppendError::Invalid { .. })), "back inside the batch: {refusal:?}");

    let copied = Record { epoch: Epoch::new(3), ..record };
    let from_a_later_home = Append { obeys: Epoch::new(9), ..third.batch(vec![copied]) };
    store.append(from_a_later_home).await.expect("a follower copies older epochs");
    let epochs = store.end(PARTITION).await.expect("open").epochs;
    let begins: Vec<_> = epochs.iter().map(|begin| (begin.epoch.get(), begin.first_lsn.get())).collect();
    assert_eq!(begins, [(1, 1), (3, 2)]);
}

pub(crate) async fn generations_never_go_back(bed: impl Bed) {
    let (store, mut writer) = (bed.store(), Writer::new(PARTITION));
    let of_generation = |number, record| Record { generation: Generation::new(number), ..record };
    let moved_in = vec![writer.message(log(1)), of_generation(3, writer.message(log(1)))];
    writer.write(&*store, moved_in).await.expect("a generation may rise");
    let mut other = writer.clone();
    for record in [writer.clone().message(log(1)), writer.clone().cursor(log(1), 1)] {
        let refusal = writer.write(&*store, vec![of_generation(2, record.clone())]).await;
        assert!(matches!(refusal, Err(AppendError::Invalid { .. })), "{refusal:?}");
        let behind = Record { lsn: Lsn::new(4), ..of_generation(2, record) };
        let refusal = writer.write(&*store, vec![other.clone().message(log(2)), behind]).await;
        assert!(matches!(refusal, Err(AppendError::Invalid { .. })), "{refusal:?}");
    }
    let elsewhere = of_generation(1, other.message(log(2)));
    other.write(&*store, vec![elsewhere]).await.expect("each log has its own generations");
}

pub(crate) async fn a_batch_keeps_its_bounds(bed: impl Bed) {
    let (store, writer) = (bed.store(), Writer::new(PARTITION));
    let invalid = |records: Vec<Record>, rule: &'static str| {
        let (append, store) = (writer.batch(records), store.clone());
        async move {
            let refusal = store.append(append).await;
            assert!(matches!(refusal, Err(AppendError::Invalid { .. })), "{rule}: {refusal:?}");
        }
    };
    let mut next = writer.clone();
    invalid(vec![], "no record").await;
    invalid(vec![next.message_of(log(1), limits::BODY_MAX_BYTES + 1)], "a body over its limit").await;
    let mut next = writer.clone();
    let too_many: Vec<Record> = (0..=limits::BATCH_MAX_RECORDS).map(|_| next.message(log(1))).collect();
    invalid(too_many.clone(), "too many records").await;
    let mut next = writer.clone();
    let wide: Vec<Record> = (0..16).map(|_| next.message_of(log(1), limits::BODY_MAX_BYTES)).collect();
    invalid(wide, "too many bytes").await;
    for (offsets, rule) in [
        (vec![], "nothing to delete"),
        (vec![0], "the offset zero"),
        (vec![1, 1], "an offset twice"),
        (vec![2, 1], "offsets that go back"),
        (vec![3], "its own offset"),
    ] {
        let mut next = writer.clone();
        let before = [next.message(log(1)), next.message(log(1))];
        invalid([&before[..], &[next.deleted(log(1), &offsets)]].concat(), rule).await;
    }
    let mut next = writer.clone();
    invalid(vec![Record { generation: Generation::ZERO, ..next.message(log(1)) }], "generation zero").await;
    let mut next = writer.clone();
    invalid(vec![Record { epoch: Epoch::ZERO, ..next.message(log(1)) }], "epoch zero").await;

    let full = too_many[..limits::BATCH_MAX_RECORDS].to_vec();
    store.append(writer.batch(full.clone())).await.expect("a full batch");
    assert_eq!(all(&*store, PARTITION).await, full);
}

pub(crate) async fn encoded_records_are_one_for_each_record(bed: impl Bed) {
    let (store, mut writer) = (bed.store(), Writer::new(PARTITION));
    let records = vec![writer.message(log(1)), writer.message(log(1)), writer.message(log(1))];
    let encoded: Vec<_> = records.iter().map(proto::encode_record).collect();
    let too_many = [&encoded[..], &encoded[..1]].concat();
    for wrong in [Vec::new(), encoded[..2].to_vec(), too_many] {
        let count = wrong.len();
        let refusal = store.append_encoded(writer.batch(records.clone()), wrong).await;
        assert!(matches!(refusal, Err(AppendError::Invalid { .. })), "{count} encoded: {refusal:?}");
    }
    assert_eq!(all(&*store, PARTITION).await, []);
    store.append_encoded(writer.batch(records.clone()), encoded).await.expect("the records follow");
    assert_eq!(all(&*store, PARTITION).await, records);
}

pub(crate) async fn the_largest_bodies_come_back_whole(mut bed: impl Bed) {
    let mut writer = Writer::new(PARTITION);
    let mut records = Vec::new();
    for bytes in [0, 1, 4_095, 4_096, 4_097, 65_535, limits::BODY_MAX_BYTES] {
        let record = writer.message_of(log(1), bytes);
        writer.write(&*bed.store(), vec![record.clone()]).await.expect("within the limit");
        records.push(record);
    }
    let together: Vec<Record> = (0..14).map(|_| writer.message_of(log(2), limits::BODY_MAX_BYTES)).collect();
    writer.write(&*bed.store(), together.clone()).await.expect("within the limit of a batch");
    records.extend(together);
    assert_eq!(all(&*bed.store(), PARTITION).await, records);
    bed.reopen().await;
    assert_eq!(all(&*bed.store(), PARTITION).await, records);
}

pub(crate) async fn partitions_do_not_share_logs(bed: impl Bed) {
    let store = bed.store();
    let (mut one, mut two) = (Writer::new(PartitionId::new(0)), Writer::new(PartitionId::new(u32::MAX)));
    let first = one.fill(&*store, log(1), 3).await;
    let mut moved = two.message(log(1));
    rename(&mut moved, message_id(&first[0]));
    two.write(&*store, vec![moved.clone()]).await.expect("each partition counts for itself");
    assert_eq!(all(&*store, one.partition).await, first);
    assert_eq!(all(&*store, two.partition).await, [moved]);
    assert_eq!(store.partitions().await, Ok(vec![one.partition, two.partition]));
}

pub(crate) async fn batches_of_many_tasks_and_partitions_all_land(bed: impl Bed) {
    let tasks = (0..16).map(|partition| {
        let store = bed.store();
        tokio::spawn(async move {
            let mut writer = Writer::new(PartitionId::new(partition));
            for round in 0..20 {
                let body = |writer: &mut Writer| {
                    let record =
                        writer.entry(log(round), EntryBody::Message { ciphertext: vec![round; 100].into() });
                    store.append(writer.batch(vec![record]))
                };
                let acks: Vec<_> = (0..10).map(|_| body(&mut writer)).collect();
                for ack in join_all(acks).await {
                    ack.expect("the records follow");
                }
            }
        })
    });
    for task in join_all(tasks).await {
        task.expect("no task fails");
    }
    for partition in (0..16).map(PartitionId::new) {
        let records = all(&*bed.store(), partition).await;
        assert!(records.iter().map(|record| record.lsn.get()).eq(1..=200), "partition {partition}");
    }
}
