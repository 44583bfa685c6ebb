//! What is put back from archives, beside the outboxes that send the same.

use super::*;

fn entries(world: &World) -> Vec<&types::Entry> {
    world.store.iter().filter_map(Record::entry).collect()
}

/// Everything is written, and replicated to the first follower.
fn replicate(world: &mut World) {
    world.load_all();
    world.sync(10);
    world.report(0, 10);
}

#[test]
fn a_salvaged_message_is_marked_and_acked_when_it_is_replicated() {
    let mut world = World::with_chat();
    let ticket = world.append(salvaged(log(1), 5, 5, &[]));
    world.load_all();
    world.sync(1);
    assert!(!world.answered.contains_key(&ticket), "durable here is not enough");
    world.report(0, 1);
    assert_eq!(world.ok(ticket).ack, AckPolicy::Replicated);
    assert!(entries(&world)[1].salvaged);
}

#[test]
fn outbox_and_salvage_together_write_a_message_once() {
    let mut world = World::with_chat();
    let first = world.append(salvaged(log(1), 5, 5, &[]));
    let resent = world.append(write(log(1), 5, message(5), AckPolicy::Home, None));
    let sent = world.append(write(log(1), 6, message(6), AckPolicy::Home, Some(5)));
    let again = world.append(salvaged(log(1), 6, 6, &[]));
    replicate(&mut world);
    assert_eq!(world.ok(first).position, world.ok(resent).position);
    assert_eq!(world.ok(sent).position, world.ok(again).position);
    let marks: Vec<bool> = entries(&world).iter().map(|entry| entry.salvaged).collect();
    assert_eq!(marks, [false, true, false]);
}

#[test]
fn a_late_id_neither_blocks_nor_passes_for_its_successor() {
    let mut world = World::with_chat();
    world.append(write(log(1), 9, message(9), AckPolicy::Home, None));
    world.append(salvaged(log(1), 5, 5, &[]));
    let next = world.append(write(log(1), 10, message(10), AckPolicy::Home, Some(9)));
    let lost = world.append(write(log(1), 7, message(7), AckPolicy::Home, Some(6)));
    replicate(&mut world);
    assert_eq!(world.ok(next).position.offset.get(), 4);
    assert_eq!(world.refused(lost), Code::OutOfOrder);
}

#[test]
fn an_expired_message_and_one_of_a_former_member_are_refused_for_good() {
    let mut world = World::with_chat();
    let at_ms = Some(world.now.wall_ms);
    let expired = world.append(Write { expires_at_ms: at_ms, ..salvaged(log(1), 5, 5, &[]) });
    let stranger = world.append(Write { sender: user("mallory"), ..salvaged(log(1), 6, 6, &[]) });
    let gone = world.append(salvaged(log(2), 7, 7, &[]));
    let creation = world.append(Write { body: created(), ..salvaged(log(2), 8, 8, &[]) });
    world.load_all();
    assert_eq!(world.refused(expired), Code::Expired);
    assert_eq!(world.refused(stranger), Code::Forbidden);
    assert_eq!(world.refused(gone), Code::UnknownChat);
    assert_eq!(world.refused(creation), Code::BadRequest);
    assert_eq!(world.store.len(), 1);
}

#[test]
fn a_message_that_is_there_is_settled_even_when_its_time_is_over() {
    let mut world = World::with_chat();
    let resent = world.append(write(log(1), 5, message(5), AckPolicy::Home, None));
    let at_ms = Some(world.now.wall_ms);
    let found = world.append(Write { expires_at_ms: at_ms, ..salvaged(log(1), 5, 5, &[]) });
    replicate(&mut world);
    assert_eq!(world.ok(found).position, world.ok(resent).position);
}

#[test]
fn a_deletion_deletes_its_messages_where_they_stand_now() {
    let mut world = World::with_chat();
    for number in [3, 4, 5] {
        world.append(write(log(1), number, message(number), AckPolicy::Home, None));
    }
    let deletion = world.append(salvaged(log(1), 200, 0, &[5, 3]));
    replicate(&mut world);
    let entries = entries(&world);
    assert_eq!(world.ok(deletion).position.offset.get(), 5);
    assert_eq!(entries[4].body, EntryBody::Deleted { offsets: vec![Offset::new(2), Offset::new(4)] });
}

#[test]
fn a_deletion_holds_for_a_message_that_comes_later() {
    let mut world = World::with_chat();
    let deletion = world.append(salvaged(log(1), 200, 0, &[5]));
    let resent = world.append(write(log(1), 5, message(5), AckPolicy::Home, None));
    let other = world.append(salvaged(log(1), 5, 5, &[]));
    let repeated = world.append(salvaged(log(1), 200, 0, &[5]));
    replicate(&mut world);
    let place = world.ok(resent).position;
    assert_eq!((place.offset.get(), world.ok(other).position), (2, place));
    assert_eq!(world.ok(repeated).position, world.ok(deletion).position);
    let entries = entries(&world);
    assert_eq!(entries[1].body, EntryBody::Erased { hash: message(5).hash() });
    assert_eq!(entries[2].body, EntryBody::Deleted { offsets: vec![Offset::new(2)] });
    assert_eq!(entries.len(), 3);
}

#[test]
fn only_who_may_delete_now_deletes() {
    let mut world = World::with_chat();
    world.append(write(log(1), 5, message(5), AckPolicy::Home, None));
    let member = world.append(Write { sender: user("bob"), ..salvaged(log(1), 200, 0, &[5]) });
    world.load_all();
    assert_eq!(world.refused(member), Code::Forbidden);
}

#[test]
fn salvage_leaves_room_for_those_who_write_now() {
    let mut world = World::with_chat();
    for number in 1..=PENDING_MAX / 4 {
        let mut write = salvaged(log(1), 1, 1, &[]);
        write.message_id = MessageId::from_bytes((number as u128).to_be_bytes());
        world.append(write);
    }
    let salvage = world.append(salvaged(log(1), 250, 0, &[]));
    let live = world.append(write(log(1), 251, message(1), AckPolicy::Home, None));
    assert_eq!(world.refused(salvage), Code::Overloaded);
    world.load_all();
    world.sync(PENDING_MAX);
    assert_eq!(world.ok(live).ack, AckPolicy::Home);
}
