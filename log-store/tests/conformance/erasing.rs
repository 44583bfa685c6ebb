//! Deletion and expiry: bodies that must be gone.

use crate::{
    Bed,
    writer::{PARTITION, Writer, all, log, message_id, rename, user},
};
use log_store::{LogStore, Replicated, Scan, erase, fold::LogState};
use types::{
    Body, DeviceId, EntryBody, Epoch, LogId, Lsn, Offset, PartitionId, Record, Username,
    account::{
        About, AccountChange, AccountStanding, DeviceName, DisplayName, Names, NewDevice, PasswordHash,
        Profile, Registration, TokenHash,
    },
};

async fn entries(store: &dyn LogStore, now_ms: u64) -> Vec<Record> {
    let scan = Scan::After(Offset::ZERO);
    store.read_log(PARTITION, log(1), scan, usize::MAX, usize::MAX, now_ms).await.expect("readable")
}

fn erased(mut record: Record) -> Record {
    assert!(erase::erase(&mut record), "it had a body");
    record
}

pub(crate) async fn a_deleted_body_is_gone_at_once(mut bed: impl Bed) {
    let mut writer = Writer::new(PARTITION);
    let messages = writer.fill(&*bed.store(), log(1), 4).await;
    let other = writer.fill(&*bed.store(), log(2), 4).await;
    let deletion = writer.deleted(log(1), &[1, 3]);
    writer.write(&*bed.store(), vec![deletion.clone()]).await.expect("it follows");
    let [one, two, three, four] = <[Record; 4]>::try_from(messages).expect("four");
    let key = one.entry().expect("an entry").dedup_key();
    let hash = one.entry().expect("an entry").body.hash();
    let of_log = [erased(one), two, erased(three), four, deletion];
    let of_partition = [&of_log[..4], &other[..], &of_log[4..]].concat();
    for _ in 0..2 {
        assert_eq!(entries(&*bed.store(), 0).await, of_log);
        assert_eq!(all(&*bed.store(), PARTITION).await, of_partition);
        let found = bed.store().find(PARTITION, log(1), &key).await.expect("open").expect("it stands");
        assert_eq!(found.hash, hash, "a retry is still recognised");
        bed.reopen().await;
    }
}

pub(crate) async fn an_expired_body_is_gone_at_its_time(bed: impl Bed) {
    let (store, mut writer) = (bed.store(), Writer::new(PARTITION));
    let (short, long) = (writer.expiring(log(1), 5_000), writer.expiring(log(1), 9_000));
    writer.write(&*store, vec![short.clone(), long.clone()]).await.expect("the records follow");
    assert_eq!(entries(&*store, 4_999).await, [short.clone(), long.clone()]);
    assert_eq!(entries(&*store, 5_000).await, [erased(short.clone()), long.clone()]);
    assert_eq!(entries(&*store, u64::MAX).await, [erased(short), erased(long)]);
}

pub(crate) async fn a_reclaimed_body_stays_gone(mut bed: impl Bed) {
    let mut writer = Writer::new(PARTITION);
    let records = vec![
        writer.expiring(log(1), 5_000),
        writer.message(log(1)),
        writer.message(log(1)),
        writer.deleted(log(1), &[2]),
        writer.cursor(log(1), 1),
        writer.created(log(2), &["alice"]),
    ];
    writer.write(&*bed.store(), records.clone()).await.expect("the records follow");
    let state = bed.store().log_state(PARTITION, log(1)).await;
    let reclaimed = bed.store().reclaim(5_000).await.expect("a working disk");
    assert_eq!(reclaimed.bodies, 2);
    assert_eq!(bed.store().reclaim(5_000).await.expect("a working disk").bodies, 0, "nothing is due twice");
    let mut expected = records.clone();
    expected[0] = erased(records[0].clone());
    expected[1] = erased(records[1].clone());
    for _ in 0..2 {
        assert_eq!(all(&*bed.store(), PARTITION).await, expected);
        assert_eq!(entries(&*bed.store(), 0).await, expected[..4]);
        assert_eq!(bed.store().log_state(PARTITION, log(1)).await, state);
        bed.reopen().await;
    }
    let more = writer.fill(&*bed.store(), log(1), 2).await;
    bed.reopen().await;
    assert_eq!(all(&*bed.store(), PARTITION).await, [&expected[..], &more[..]].concat());
}

pub(crate) async fn an_account_that_has_ended_leaves_only_its_end(mut bed: impl Bed) {
    let mut writer = Writer::new(PARTITION);
    let account = LogId::account(&user("alice"));
    let change = |change: AccountChange| EntryBody::Account(Box::new(change));
    let records = vec![
        writer.entry(account, change(registered())),
        writer.entry(account, change(AccountChange::Blocked(user("bob")))),
        writer.entry(account, change(AccountChange::Closed)),
        writer.message(log(1)),
    ];
    writer.write(&*bed.store(), records.clone()).await.expect("the records follow");
    let state = bed.store().log_state(PARTITION, account).await.expect("open").expect("it is there");
    assert_eq!(state.account.as_ref().map(|account| account.standing), Some(AccountStanding::Closed));
    let mut expected = records.clone();
    expected[0] = erased(records[0].clone());
    expected[1] = erased(records[1].clone());
    assert_eq!(bed.store().reclaim(0).await.expect("a working disk").bodies, 2);
    for _ in 0..2 {
        assert_eq!(all(&*bed.store(), PARTITION).await, expected);
        assert_eq!(bed.store().log_state(PARTITION, account).await.expect("open"), Some(state.clone()));
        bed.reopen().await;
    }
    let mut refilled = LogState::default();
    expected[..3].iter().for_each(|record| refilled.apply(record).expect("it follows"));
    assert_eq!(refilled, *state, "a copy that is filled from what is left comes to the same");
}

fn registered() -> AccountChange {
    let name = |text: &str| DisplayName::new(text).expect("valid");
    AccountChange::Registered(Box::new(Registration {
        names: Names { username: Username::new("alice").expect("valid"), phone: None },
        password: PasswordHash::new("$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA").expect("valid"),
        profile: Profile { display_name: name("Alice"), about: About::empty(), avatar: None },
        device: NewDevice {
            device: DeviceId::new(1),
            name: DeviceName::new("phone").expect("valid"),
            token: TokenHash([7; 32]),
        },
    }))
}

pub(crate) async fn only_messages_are_erased(mut bed: impl Bed) {
    let mut writer = Writer::new(PARTITION);
    let mut created = writer.created(log(1), &["alice", "bob"]);
    if let Body::Entry(entry) = &mut created.body {
        entry.expires_at_ms = Some(1);
    }
    let message = writer.message(log(1));
    let deletion = writer.deleted(log(1), &[1, 2]);
    let of_deletion = writer.deleted(log(1), &[3]);
    let records = vec![created, message, deletion, of_deletion];
    writer.write(&*bed.store(), records.clone()).await.expect("the records follow");
    let state = bed.store().log_state(PARTITION, log(1)).await.expect("open").expect("a log");
    assert_eq!(bed.store().reclaim(u64::MAX).await.expect("a working disk").bodies, 1);
    bed.reopen().await;
    let mut expected = records;
    expected[1] = erased(expected[1].clone());
    assert_eq!(entries(&*bed.store(), u64::MAX).await, expected);
    assert_eq!(bed.store().log_state(PARTITION, log(1)).await, Ok(Some(state)));
}

pub(crate) async fn an_archived_body_is_reclaimed_too(mut bed: impl Bed) {
    let mut writer = Writer::new(PARTITION);
    let mut successor = writer.at_epoch(2);
    let tail = vec![
        writer.expiring(log(1), 5_000),
        writer.message(log(1)),
        writer.message(log(1)),
        writer.deleted(log(1), &[2]),
        writer.message(log(1)),
    ];
    writer.write(&*bed.store(), tail.clone()).await.expect("the records follow");
    let store = bed.store();
    let archive = store.archive_tail(PARTITION, Epoch::FIRST, Lsn::FIRST).await.expect("obeyed");
    let archive = archive.expect("a tail").id;
    store.truncate(PARTITION, Epoch::FIRST, Lsn::FIRST).await.expect("archived");
    // The third message is sent again and deleted where it stands now.
    let mut resent = successor.message(log(1));
    crate::writer::rename(&mut resent, crate::writer::message_id(&tail[2]));
    let deletion = successor.deleted(log(1), &[1]);
    successor.write(&*store, vec![resent, deletion]).await.expect("the records follow");
    store.reclaim(5_000).await.expect("a working disk");
    drop(store);
    for _ in 0..2 {
        let held = bed.store().read_archive(archive, Lsn::FIRST, 9, usize::MAX).await.expect("readable");
        for (record, was) in held.iter().zip(&tail).take(3) {
            assert_eq!(record, &erased(was.clone()));
        }
        assert_eq!(held[3..], tail[3..]);
        let live = entries(&*bed.store(), 0).await;
        assert!(
            matches!(&live[0].body, Body::Entry(entry) if matches!(entry.body, EntryBody::Erased { .. }))
        );
        bed.reopen().await;
    }
}

pub(crate) async fn what_may_yet_come_back_stays_on_disk(bed: impl Bed) {
    let (store, mut writer) = (bed.store(), Writer::new(PARTITION));
    let messages = writer.fill(&*store, log(1), 2).await;
    let deletion = writer.deleted(log(1), &[1]);
    writer.write(&*store, vec![deletion.clone()]).await.expect("it follows");
    let replicated = |lsn: Lsn| {
        let mut replicated = Replicated::nothing();
        replicated.known.insert(PARTITION, lsn);
        replicated
    };
    store.note_replicated(replicated(deletion.lsn.prev()));
    assert_eq!(store.reclaim(0).await.expect("a working disk").bodies, 0);
    assert_eq!(all(&*store, PARTITION).await[0], messages[0], "it is copied whole");
    let encoded = store.read_encoded(PARTITION, Lsn::FIRST, 1, usize::MAX).await.expect("readable");
    assert_eq!(proto::decode_record(encoded[0].bytes.clone()).as_ref(), Ok(&messages[0]));
    let page = store.read_log(PARTITION, log(1), Scan::After(Offset::ZERO), 1, usize::MAX, 0).await;
    assert!(erase::is_erased(&page.expect("readable")[0]), "no reader sees it");
    store.note_replicated(replicated(deletion.lsn));
    assert!(erase::is_erased(&all(&*store, PARTITION).await[0]));
    assert_eq!(store.reclaim(0).await.expect("a working disk").bodies, 1);
}

pub(crate) async fn an_archived_body_is_reclaimed_where_its_log_went_on_elsewhere(bed: impl Bed) {
    let (store, mut writer) = (bed.store(), Writer::new(PARTITION));
    writer.fill(&*store, log(1), 1).await;
    let undone = writer.fill(&*store, log(1), 1).await.remove(0);
    let archived = store.archive_tail(PARTITION, writer.epoch, undone.lsn).await.expect("it is archived");
    store.truncate(PARTITION, writer.epoch, undone.lsn).await.expect("it is cut");
    let mut elsewhere = Writer::new(PartitionId::new(77));
    let mut again = elsewhere.message(log(1));
    rename(&mut again, message_id(&undone));
    elsewhere.write(&*store, vec![again]).await.expect("it follows");
    let held = || async {
        let archive = archived.as_ref().expect("a tail").id;
        let page = store.read_archive(archive, undone.lsn, 1, usize::MAX).await.expect("readable");
        erase::has_body(&page[0])
    };
    store.reclaim(0).await.expect("a working disk");
    assert!(held().await);
    let deletion = elsewhere.deleted(log(1), &[1]);
    elsewhere.write(&*store, vec![deletion]).await.expect("it follows");
    store.reclaim(0).await.expect("a working disk");
    assert!(!held().await);
}
