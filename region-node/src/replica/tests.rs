use super::*;
use crate::follower::{self, Ask, Batch, Outcome, Request};
use bytes::Bytes;
use futures_util::StreamExt as _;
use log_store::{Append, memory::MemoryStore};
use tokio_util::sync::CancellationToken;
use types::{
    AckPolicy, Body, DeviceId, Entry, EntryBody, MemberRole, MessageId, NodeId, PartitionPosition, RehomeId,
    StateUpdate, StoreId,
};

const PARTITION: PartitionId = PartitionId::new(3);

fn user(name: &str) -> UserId {
    UserId::new(name).expect("a valid name")
}

fn chat() -> LogId {
    LogId::direct(&user("alice"), &user("bob"))
}

fn at(epoch: u64, offset: u64) -> Position {
    Position::new(Generation::FIRST, Epoch::new(epoch), Offset::new(offset))
}

/// Entry `number` of the chat, which is record `number` of the partition too.
fn record(number: u64, epoch: u64) -> Record {
    let members = vec![(user("alice"), MemberRole::Member), (user("bob"), MemberRole::Member)];
    let body = match number {
        1 => EntryBody::Created { members, ack_policy: AckPolicy::Home, allowed_regions: vec![] },
        _ => EntryBody::Message { ciphertext: Bytes::from(number.to_string()) },
    };
    Record {
        lsn: Lsn::new(number),
        epoch: Epoch::new(epoch),
        generation: Generation::FIRST,
        log: chat(),
        accepted_at_ms: number,
        body: Body::Entry(Entry {
            offset: Offset::new(number),
            sender: user("alice"),
            device: DeviceId::new(1),
            message_id: MessageId::from_bytes([number as u8; 16]),
            expires_at_ms: None,
            salvaged: false,
            about: None,
            body,
        }),
    }
}

/// A follower with five entries of epoch 1 and five of epoch 3, replicated up to the eighth.
async fn follower() -> NodeReplicas {
    let store = Arc::new(MemoryStore::new(StoreId::from_bytes([1; 16])));
    let records = (1..=10).map(|number| record(number, if number <= 5 { 1 } else { 3 })).collect();
    let append = Append { partition: PARTITION, obeys: Epoch::new(3), records };
    store.append(append).await.expect("it is appended");
    store.fence(PARTITION, Epoch::new(3)).await.expect("it is fenced");
    let followers = Followers::new(store.clone(), CancellationToken::new());
    let identity = Arc::new(Identity::new(NodeId::new("node-a").expect("a valid name")));
    NodeReplicas { store, open: Arc::default(), followers, view: Arc::default(), identity }
}

async fn heartbeat(replicas: &NodeReplicas) {
    let (reply, mut answered) = follower::replies();
    let end = Some(PartitionPosition::new(Epoch::new(3), Lsn::new(10)));
    let request = Request::Batch(Batch { records: vec![], encoded: vec![], watermark: Lsn::new(8), end });
    let ask = Ask { partition: PARTITION, epoch: Epoch::new(3), request: Ok(request), reply, room: None };
    replicas.followers.ask(vec![ask]).await;
    assert_eq!(answered.next().await.expect("an answer").outcome, Ok(Outcome::Done));
}

async fn read(replicas: &NodeReplicas, who: &str, from: ReadFrom) -> Result<Vec<u64>, ReadRefusal> {
    let page = replicas.read(PARTITION, chat(), &user(who), from, 3).await?;
    Ok(page.records.iter().filter_map(Record::entry).map(|entry| entry.offset.get()).collect())
}

#[tokio::test]
async fn a_follower_serves_nothing_before_it_is_matched() {
    let replicas = follower().await;
    assert!(!replicas.serves(PARTITION));
    let refusal = read(&replicas, "bob", ReadFrom::Before(None)).await;
    assert!(matches!(refusal, Err(ReadRefusal::NotHere(_))));
    heartbeat(&replicas).await;
    assert!(replicas.serves(PARTITION));
    assert_eq!(read(&replicas, "bob", ReadFrom::Before(None)).await, Ok(vec![8, 9, 10]));
}

#[tokio::test]
async fn pages_go_both_ways_and_know_their_end() {
    let replicas = follower().await;
    heartbeat(&replicas).await;
    assert_eq!(read(&replicas, "bob", ReadFrom::After(Position::START)).await, Ok(vec![1, 2, 3]));
    assert_eq!(read(&replicas, "bob", ReadFrom::After(at(3, 8))).await, Ok(vec![9, 10]));
    assert_eq!(read(&replicas, "bob", ReadFrom::Before(Some(at(1, 3)))).await, Ok(vec![1, 2]));
    let bob = user("bob");
    let page = |from| replicas.read(PARTITION, chat(), &bob, from, 3);
    assert!(page(ReadFrom::Before(Some(at(1, 3)))).await.expect("a page").at_end);
    assert!(!page(ReadFrom::Before(None)).await.expect("a page").at_end);
    assert!(page(ReadFrom::After(at(3, 7))).await.expect("a page").at_end);
    assert!(!page(ReadFrom::After(at(3, 6))).await.expect("a page").at_end);
}

#[tokio::test]
async fn positions_that_were_undone_or_are_not_known_are_told_apart() {
    let replicas = follower().await;
    heartbeat(&replicas).await;
    let undone = read(&replicas, "bob", ReadFrom::After(at(1, 7))).await;
    assert_eq!(undone, Err(ReadRefusal::Diverged { common: at(1, 5) }));
    assert_eq!(read(&replicas, "bob", ReadFrom::After(at(3, 11))).await, Err(ReadRefusal::Ahead));
    assert_eq!(read(&replicas, "bob", ReadFrom::After(at(4, 7))).await, Err(ReadRefusal::Ahead));
    let located = replicas.locate(PARTITION, chat(), &user("bob"), at(3, 9)).await.expect("located");
    assert_eq!((located.located, located.head), (Located::Continue, at(3, 10)));
    assert_eq!(located.replicated, at(3, 8));
}

#[tokio::test]
async fn only_members_read() {
    let replicas = follower().await;
    heartbeat(&replicas).await;
    let refusal = read(&replicas, "mallory", ReadFrom::Before(None)).await;
    assert!(matches!(refusal, Err(ReadRefusal::Refused(refusal)) if refusal.code == Code::Forbidden));
    let unknown =
        replicas.read(PARTITION, LogId::group([9; 16]), &user("bob"), ReadFrom::Before(None), 3).await;
    assert!(matches!(unknown, Err(ReadRefusal::Refused(refusal)) if refusal.code == Code::UnknownChat));
}

#[tokio::test]
async fn a_store_that_cannot_be_read_is_worth_another_try() {
    let replicas = follower().await;
    heartbeat(&replicas).await;
    replicas.store.close().await;
    for answer in [
        read(&replicas, "bob", ReadFrom::Before(None)).await.map(drop),
        replicas.locate(PARTITION, chat(), &user("bob"), at(3, 9)).await.map(drop),
    ] {
        let refused = answer.expect_err("it is closed");
        assert!(matches!(&refused, ReadRefusal::Refused(refusal) if refusal.is_retryable()), "{refused:?}");
    }
}

#[tokio::test]
async fn a_sealed_stretch_is_told_only_by_a_copy_that_was_matched() {
    let replicas = follower().await;
    let sealed = StateUpdate::LogSealed { rehome: RehomeId::new(1) };
    let seal = Record { lsn: Lsn::new(11), body: Body::Update(sealed), ..record(10, 3) };
    let append = Append { partition: PARTITION, obeys: Epoch::new(3), records: vec![seal] };
    replicas.store.append(append).await.expect("it is appended");
    let key = record(7, 3).entry().expect("an entry").dedup_key();
    for is_matched in [false, true] {
        let from = ReadFrom::After(at(3, 6));
        let page = replicas.read_stretch(PARTITION, chat(), Generation::FIRST, from, 3).await;
        let found = replicas.find(PARTITION, chat(), Generation::FIRST, &key).await;
        if is_matched {
            assert_eq!(page.expect("a page").records.len(), 3);
            assert!(found.expect("an answer").is_some());
        } else {
            assert!(matches!(page, Err(ReadRefusal::NotHere(_))), "{page:?}");
            assert!(matches!(found, Err(ReadRefusal::NotHere(_))), "{found:?}");
            heartbeat(&replicas).await;
        }
    }
}

#[tokio::test]
async fn a_page_of_a_log_that_was_cut_while_it_was_read_is_none() {
    let replicas = follower().await;
    let store = &*replicas.store;
    let judged = store.log_state(PARTITION, chat()).await.expect("readable").expect("a chat");
    let scan = Scan::After(Offset::new(10));
    page(store, PARTITION, chat(), &judged, Scan::After(Offset::new(9)), 5).await.expect("nothing was cut");
    store.archive_tail(PARTITION, Epoch::new(4), Lsn::new(9)).await.expect("it is archived");
    store.truncate(PARTITION, Epoch::new(4), Lsn::new(9)).await.expect("it is cut");
    let records = (9..=12).map(|number| {
        let mut again = record(number, 4);
        if let Body::Entry(entry) = &mut again.body {
            entry.message_id = MessageId::from_bytes([100 + number as u8; 16]);
        }
        again
    });
    let append = Append { partition: PARTITION, obeys: Epoch::new(4), records: records.collect() };
    store.append(append).await.expect("it is appended");
    let answer = page(store, PARTITION, chat(), &judged, scan, 5).await;
    assert!(matches!(&answer, Err(ReadRefusal::Refused(refusal)) if refusal.is_retryable()), "{answer:?}");
}
