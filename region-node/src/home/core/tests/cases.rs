//! One promise after the other.

use super::{
    generated::{Event, run},
    *,
};
use types::Refusal;

#[test]
fn a_home_ack_waits_for_the_sync() {
    let mut world = World::with_chat();
    let ticket = world.append(write(log(1), 1, message(1), AckPolicy::Home, None));
    world.load_all();
    assert!(!world.answered.contains_key(&ticket));
    world.sync(1);
    assert_eq!(world.ok(ticket).ack, AckPolicy::Home);
    assert_eq!(world.core.view(world.now).at_risk, 1);
    world.report(0, 1);
    assert_eq!(world.core.view(world.now).at_risk, 0);
}

#[test]
fn a_lapsed_lease_holds_the_acks_until_it_is_renewed() {
    let mut world = World::with_chat();
    let ticket = world.append(write(log(1), 1, message(1), AckPolicy::Home, None));
    world.load_all();
    world.now.boot_ms = world.lease_until_ms;
    world.sync(1);
    assert!(!world.answered.contains_key(&ticket));
    let late = world.append(write(log(1), 2, message(2), AckPolicy::Home, None));
    assert!(matches!(world.answered[&late], Err(WriteError::NotHome(NotHome { moving: true, .. }))));
    world.lease_until_ms = world.now.boot_ms + TTL_MS;
    world.time(1);
    assert_eq!(world.ok(ticket).position.offset.get(), 2);
}

#[test]
fn a_refused_lease_makes_all_that_is_under_way_indeterminate() {
    let mut world = World::with_chat();
    let durable = world.append(write(log(1), 1, message(1), AckPolicy::Replicated, None));
    world.load_all();
    world.sync(1);
    let written = world.append(write(log(1), 2, message(2), AckPolicy::Home, None));
    world.load_all();
    let queued = world.append(write(log(2), 3, message(3), AckPolicy::Home, None));
    world.say(Input::Stop(EndReason::LeaseRefused));
    for ticket in [durable, written] {
        assert!(matches!(world.answered[&ticket], Err(WriteError::Indeterminate { .. })));
    }
    assert!(matches!(world.answered[&queued], Err(WriteError::NotHome(_))));
}

#[test]
fn a_fenced_store_proves_what_was_not_written() {
    let mut world = World::with_chat();
    let ticket = world.append(write(log(1), 1, message(1), AckPolicy::Home, None));
    world.load_all();
    world.say(Input::AppendFailed { first: Lsn::new(2), failure: Failure::Fenced });
    assert!(matches!(world.answered[&ticket], Err(WriteError::NotHome(NotHome { moving: true, .. }))));
    assert!(world.core.has_ended());
}

#[test]
fn a_former_home_is_waited_for_and_then_all_is_acked_at_once() {
    let mut world = World::with_chat();
    world.row(true);
    let ticket = world.append(write(log(1), 1, message(1), AckPolicy::Home, None));
    world.load_all();
    world.sync(1);
    assert!(!world.answered.contains_key(&ticket));
    world.row(false);
    assert_eq!(world.ok(ticket).ack, AckPolicy::Home);
}

#[test]
fn a_retry_is_answered_by_the_original_and_another_body_is_refused() {
    let mut world = World::with_chat();
    let first = world.append(write(log(1), 1, message(1), AckPolicy::Home, None));
    let retry = world.append(write(log(1), 1, message(1), AckPolicy::Home, None));
    let other = world.append(write(log(1), 1, message(9), AckPolicy::Home, None));
    world.load_all();
    assert_eq!(world.refused(other), Code::MessageIdReused);
    assert!(!world.answered.contains_key(&retry), "the original is not durable yet");
    world.sync(1);
    assert_eq!(world.ok(first).position, world.ok(retry).position);
}

#[test]
fn a_message_whose_predecessor_is_missing_is_out_of_order() {
    let mut world = World::with_chat();
    let early = world.append(write(log(1), 2, message(2), AckPolicy::Home, Some(1)));
    world.load_all();
    assert_eq!(world.refused(early), Code::OutOfOrder);
    world.append(write(log(1), 1, message(1), AckPolicy::Home, None));
    let again = world.append(write(log(1), 2, message(2), AckPolicy::Home, Some(1)));
    world.load_all();
    world.sync(2);
    assert_eq!(world.ok(again).position.offset.get(), 3);
}

#[test]
fn new_messages_ask_the_store_for_nothing() {
    let mut world = World::with_chat();
    for number in 1..100 {
        let after = (number > 1).then(|| number - 1);
        world.append(write(log(1), number, message(number), AckPolicy::Home, after));
        assert!(world.loads.is_empty(), "message {number} was looked up");
    }
    world.sync(100);
    assert_eq!(world.answered.len(), 100);
}

#[test]
fn an_id_below_its_devices_highest_is_looked_up() {
    let mut world = World::with_chat();
    let high = world.append(write(log(1), 200, message(1), AckPolicy::Home, None));
    let low = world.append(write(log(1), 100, message(2), AckPolicy::Home, None));
    assert_eq!(world.loads.len(), 1);
    let follows_neither = world.append(write(log(1), 201, message(3), AckPolicy::Home, Some(150)));
    world.load_all();
    world.sync(3);
    assert_eq!(world.ok(high).position.offset.get() + 1, world.ok(low).position.offset.get());
    assert_eq!(world.refused(follows_neither), Code::OutOfOrder);
}

#[test]
fn nothing_is_replicated_while_one_region_holds_it() {
    let mut world = World::new();
    let ticket = world.append(write(log(1), 0, created(), AckPolicy::Home, None));
    world.load_all();
    world.sync(1);
    world.time(50);
    assert!(!world.answered.contains_key(&ticket));
    world.report(0, 1);
    assert!(!world.answered.contains_key(&ticket), "the follower is not in sync yet");
    world.time(50);
    world.directory(Directory::AcceptsUnheard);
    assert!(!world.answered.contains_key(&ticket), "the set that is known to be in force has one region");
    world.row(false);
    assert_eq!(world.ok(ticket).ack, AckPolicy::Replicated);
}

#[test]
fn an_unheard_join_counts_for_the_watermark() {
    let mut world = World::with_chat();
    world.report(1, 1);
    world.time(50);
    world.directory(Directory::AcceptsUnheard);
    let ticket = world.append(write(log(1), 1, message(1), AckPolicy::Replicated, None));
    world.load_all();
    world.sync(1);
    world.report(0, 1);
    assert!(!world.answered.contains_key(&ticket), "the second follower may be in sync");
    world.report(1, 1);
    assert_eq!(world.ok(ticket).ack, AckPolicy::Replicated);
}

#[test]
fn a_follower_that_obeys_another_epoch_does_not_count() {
    let mut world = World::with_chat();
    let ticket = world.append(write(log(1), 1, message(1), AckPolicy::Replicated, None));
    world.load_all();
    world.sync(1);
    let last = PartitionPosition::new(EPOCH, Lsn::new(2));
    world.say(Input::Report { replica: replica(1), obeys: Epoch::new(2), last });
    assert!(!world.answered.contains_key(&ticket));
}

#[test]
fn a_laggard_leaves_only_while_two_regions_stay() {
    let mut world = World::with_chat();
    world.report(1, 1);
    world.time(50);
    world.directory(Directory::Accepts);
    assert_eq!(world.committed.isr.len(), 3);
    world.append(write(log(1), 1, message(1), AckPolicy::Home, None));
    world.load_all();
    world.sync(1);
    world.report(0, 1);
    world.lease_until_ms = u64::MAX;
    world.time(ISR_LAG_MS + 100);
    world.directory(Directory::Accepts);
    assert_eq!(world.committed.isr, BTreeSet::from([replica(0), replica(1)]));
    world.append(write(log(1), 2, message(2), AckPolicy::Home, None));
    world.load_all();
    world.sync(1);
    world.time(ISR_LAG_MS + 100);
    world.directory(Directory::Accepts);
    assert_eq!(world.committed.isr.len(), 2, "one region is never enough");
    assert!(world.committed.lost.is_empty(), "what only lags is still there");
}

#[test]
fn who_is_no_member_may_not_write() {
    let mut world = World::with_chat();
    let mut stranger = write(log(1), 1, message(1), AckPolicy::Home, None);
    stranger.sender = user("mallory");
    let forbidden = world.append(stranger);
    let unknown = world.append(write(log(2), 1, message(1), AckPolicy::Home, None));
    let mut other = write(log(1), 5, created(), AckPolicy::Home, None);
    other.body = EntryBody::Created {
        members: vec![(user("alice"), MemberRole::Owner)],
        ack_policy: AckPolicy::Home,
        allowed_regions: vec![],
    };
    let exists = world.append(other);
    let again = world.append(write(log(1), 6, created(), AckPolicy::Home, None));
    world.load_all();
    assert_eq!(world.refused(forbidden), Code::Forbidden);
    assert_eq!(world.refused(unknown), Code::UnknownChat);
    assert_eq!(world.refused(exists), Code::ChatExists);
    assert_eq!(world.ok(again).position.offset, Offset::FIRST);
}

#[test]
fn a_log_that_rests_is_published_on_from_where_it_stood() {
    let mut world = World::with_chat();
    world.follow(log(1));
    for _ in 0..10 {
        run(&mut world, Event::Quiet);
    }
    world.follow(log(1));
    assert!(world.loads.is_empty(), "where it stands is known");
    let ticket = world.append(write(log(1), 1, message(1), AckPolicy::Home, None));
    assert_eq!(world.loads.len(), 1, "its state is not");
    world.load_all();
    world.sync(1);
    assert_eq!(world.ok(ticket).position.offset.get(), 2);
    assert_eq!(world.published[&log(1)], 2);
}

#[test]
fn a_write_whose_deadline_passes_behind_a_look_up_is_refused_and_was_never_begun() {
    let mut world = World::new();
    let overdue = world.append(write(log(1), 1, message(1), AckPolicy::Home, None));
    assert!(!world.loads.is_empty(), "it waits for the store");
    world.time(30_000);
    assert!(!world.answered.contains_key(&overdue), "its deadline has not passed");
    world.time(30_000);
    assert_eq!(world.refused(overdue), Code::HomeUnavailable);
    world.load_all();
    assert!(world.writing.is_empty(), "nothing of it is written later");
}

#[test]
fn a_store_that_cannot_tell_refuses_nothing_for_good() {
    let mut world = World::with_chat();
    let ticket = world.append(write(log(2), 1, message(1), AckPolicy::Home, None));
    let (id, as_of, _) = world.loads.pop_front().expect("the log is looked at");
    let closed = Err(Refusal::new(Code::Internal, "the store is closed"));
    world.say(Input::Loaded { log: id, as_of, loaded: Box::new(closed) });
    let answer = world.answered.get(&ticket);
    assert!(matches!(answer, Some(Err(WriteError::NotHome(not_home))) if not_home.moving), "{answer:?}");
}

#[test]
fn nothing_is_acked_at_home_before_the_chat_itself_is_replicated() {
    let mut world = World::with_chat();
    let created = world.append(write(log(2), 0, created(), AckPolicy::Home, None));
    let said = world.append(write(log(2), 1, message(1), AckPolicy::Home, None));
    let repeated = world.append(write(log(2), 1, message(1), AckPolicy::Home, None));
    let elsewhere = world.append(write(log(1), 2, message(2), AckPolicy::Home, None));
    world.load_all();
    world.sync(9);
    assert_eq!(world.ok(elsewhere).ack, AckPolicy::Home, "the other chat does not wait");
    for ticket in [created, said, repeated] {
        assert!(!world.answered.contains_key(&ticket));
    }
    world.report(0, 9);
    for ticket in [created, said, repeated] {
        assert_eq!(world.ok(ticket).ack, AckPolicy::Replicated);
    }
    let later = world.append(write(log(2), 3, message(3), AckPolicy::Home, None));
    world.sync(1);
    assert_eq!(world.ok(later).ack, AckPolicy::Home);
}

#[test]
fn what_waits_for_its_log_to_be_loaded_counts_by_its_bytes() {
    let mut world = World::new();
    let large = || EntryBody::Message { ciphertext: Bytes::from(vec![7; 64 * 1024]) };
    let mut tickets = Vec::new();
    for number in 0..=255 {
        tickets.push(world.append(write(log(number), number, large(), AckPolicy::Home, None)));
    }
    let refused = tickets.iter().filter(|ticket| world.answered.contains_key(ticket)).count();
    assert!(refused > 190, "only {refused} of 16 MB are refused");
    assert_eq!(world.refused(tickets[255]), Code::Overloaded);
    world.load_all();
    let ticket = world.append(write(log(1), 1, created(), AckPolicy::Home, None));
    world.load_all();
    assert!(!world.answered.contains_key(&ticket), "there is room again: none of them had a chat");
}
