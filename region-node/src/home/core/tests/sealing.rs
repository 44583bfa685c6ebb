//! How an epoch ends by a planned move.

use super::*;

const MOVE: MoveId = MoveId::new(5);

fn is_moving(answer: Option<&Result<Acked, WriteError>>) -> bool {
    matches!(answer, Some(Err(WriteError::NotHome(NotHome { moving: true, .. }))))
}

fn seal_of(world: &World) -> Option<MoveId> {
    world.writing.back().and_then(|records| records.last()?.sealed_by())
}

#[test]
fn seal_is_written_once_the_last_home_reply_has_left() {
    let mut world = World::with_chat();
    let under_way = world.append(write(log(1), 1, message(1), AckPolicy::Home, None));
    world.load_all();
    let waits_for_the_store = world.append(write(log(2), 2, created(), AckPolicy::Home, None));
    world.begin_move(MOVE);
    let late = world.append(write(log(1), 3, message(3), AckPolicy::Home, None));
    assert!(is_moving(world.answered.get(&waits_for_the_store)), "it was not begun");
    assert!(is_moving(world.answered.get(&late)));
    assert_eq!(seal_of(&world), None, "a reply is owed");
    world.sync(1);
    assert_eq!(world.ok(under_way).ack, AckPolicy::Home);
    assert_eq!(seal_of(&world), Some(MOVE));
    world.sync(1);
    assert_eq!(world.store.last().and_then(Record::sealed_by), Some(MOVE));
    assert!(world.writing.is_empty(), "nothing follows SEAL");
}

#[test]
fn a_home_with_nothing_under_way_seals_at_once() {
    let mut world = World::with_chat();
    world.begin_move(MOVE);
    assert_eq!(seal_of(&world), Some(MOVE));
    let before = world.sequenced;
    world.row(false);
    assert_eq!(world.sequenced, before, "a row that says it again changes nothing");
}

#[test]
fn replicated_acks_go_on_behind_seal_and_the_rest_is_moved() {
    let mut world = World::with_chat();
    let first = world.append(write(log(1), 1, message(1), AckPolicy::Replicated, None));
    world.load_all();
    world.sync(1);
    let second = world.append(write(log(1), 2, message(2), AckPolicy::Replicated, None));
    world.load_all();
    world.begin_move(MOVE);
    world.sync(1);
    world.sync(1);
    assert_eq!(world.store.last().and_then(Record::sealed_by), Some(MOVE), "no home reply is owed");
    world.report(0, 1);
    assert_eq!(world.ok(first).ack, AckPolicy::Replicated);
    world.say(Input::Stop(EndReason::RowMoved));
    let moved = WriteError::Moved { partition: PARTITION, epoch: EPOCH };
    assert_eq!(world.answered.get(&second), Some(&Err(moved)));
}

#[test]
fn a_home_without_a_lease_does_not_seal() {
    let mut world = World::with_chat();
    let ticket = world.append(write(log(1), 1, message(1), AckPolicy::Home, None));
    world.load_all();
    world.now.boot_ms = world.lease_until_ms;
    world.sync(1);
    world.begin_move(MOVE);
    assert_eq!(seal_of(&world), None);
    world.lease_until_ms = world.now.boot_ms + TTL_MS;
    world.time(1);
    assert_eq!(world.ok(ticket).ack, AckPolicy::Home);
    assert_eq!(seal_of(&world), Some(MOVE));
}

#[test]
fn a_seal_that_found_no_room_is_written_again() {
    let mut world = World::with_chat();
    world.begin_move(MOVE);
    world.no_room();
    assert_eq!(seal_of(&world), Some(MOVE));
    world.sync(1);
    assert_eq!(world.store.len(), 2);
}

#[test]
fn a_home_that_opens_while_it_is_moved_begins_nothing() {
    let mut world = World::new();
    let committed = world.committed.clone();
    let open = Open {
        effect_logs: Vec::new(),
        partition: PARTITION,
        epoch: EPOCH,
        me: replica(0),
        end: PartitionEnd { fence: EPOCH, ..PartitionEnd::default() },
        start_lsn: Lsn::FIRST,
        watermark: Lsn::ZERO,
        row: Row { moving: Some(MOVE), ..row(false, &committed) },
        isr_lag_ms: ISR_LAG_MS,
        isr_pressure_ms: ISR_PRESSURE_MS,
        follow_when: follow_when(),
        members_max: MEMBERS_MAX,
    };
    world.core = Core::new(open, world.now);
    let ticket = world.append(write(log(1), 1, message(1), AckPolicy::Home, None));
    assert!(is_moving(world.answered.get(&ticket)));
}
