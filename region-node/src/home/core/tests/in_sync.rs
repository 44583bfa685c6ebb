//! The in-sync set: who leaves, who stays, and what its lag does to those who write.

use super::*;

/// A chat whose two followers are both in sync.
fn with_both() -> World {
    let mut world = World::with_chat();
    world.report(1, 1);
    world.time(50);
    world.directory(Directory::Accepts);
    assert_eq!(world.committed.isr.len(), 3);
    world
}

fn renewed(world: &mut World, ms: u64) {
    for _ in 0..ms / 50 {
        world.lease_until_ms = world.now.boot_ms + TTL_MS;
        world.time(50);
    }
}

/// A message whose ack is asked for at home.
fn say(world: &mut World, number: u8) -> Ticket {
    let ticket = world.append(write(log(1), number, message(number), AckPolicy::Home, None));
    world.load_all();
    world.sync(1);
    ticket
}

#[test]
fn a_follower_that_lags_leaves_and_comes_back_when_it_has_caught_up() {
    let mut world = with_both();
    say(&mut world, 1);
    world.report(1, 1);
    renewed(&mut world, ISR_LAG_MS + 100);
    world.directory(Directory::Accepts);
    assert!(!world.committed.isr.contains(&replica(1)), "{:?}", world.committed);
    assert_eq!(world.core.view(world.now).at_risk, 0, "the one that keeps up is enough");
    world.report(0, 1);
    renewed(&mut world, 100);
    world.directory(Directory::Accepts);
    assert!(world.committed.isr.contains(&replica(1)), "{:?}", world.committed);
}

#[test]
fn one_that_reports_before_the_row_names_it_joins_when_it_does() {
    let mut world = World::with_chat();
    let whole = row(false, &world.committed);
    let mut without = whole.clone();
    without.membership.replicas.remove(&replica(2));
    world.say(Input::Row(without));
    world.report(1, 1);
    renewed(&mut world, 100);
    assert!(world.proposals.is_empty(), "it is no replica");
    world.say(Input::Row(whole));
    renewed(&mut world, 100);
    world.directory(Directory::Accepts);
    assert!(world.committed.isr.contains(&replica(2)), "{:?}", world.committed);
}

#[test]
fn a_follower_that_is_farther_away_joins_a_partition_that_is_always_written_to() {
    let mut world = World::with_chat();
    for number in 1..200_u8 {
        say(&mut world, number);
        // The member has it at once, the joiner always one message later.
        world.report(0, 1);
        let lacks = world.store.len() as u64 - world.held[1];
        world.report(1, lacks.saturating_sub(1));
        renewed(&mut world, 50);
        world.directory(Directory::Accepts);
        if world.committed.isr.contains(&replica(2)) {
            return;
        }
    }
    panic!("it never joined: {:?}", world.committed);
}

#[test]
fn a_joiner_that_does_not_come_is_not_awaited_for_long() {
    let mut world = World::with_chat();
    say(&mut world, 1);
    world.report(0, 1);
    world.report(1, 1);
    renewed(&mut world, 50);
    let mut waited_ms = 0;
    let ticket = world.append(write(log(1), 2, message(2), AckPolicy::Replicated, None));
    world.load_all();
    world.sync(1);
    world.report(0, 1);
    while !world.answered.contains_key(&ticket) {
        renewed(&mut world, 50);
        waited_ms += 50;
        assert!(waited_ms <= 2_500, "the watermark waits for {waited_ms} ms");
    }
}

#[test]
fn the_last_other_region_stays_however_it_lags() {
    let mut world = World::with_chat();
    say(&mut world, 1);
    renewed(&mut world, 10 * ISR_LAG_MS);
    assert!(world.proposals.is_empty());
    assert_eq!(world.committed.isr.len(), 2);
}

#[test]
fn a_set_that_lags_slows_its_writers_and_then_refuses_them() {
    let mut world = World::with_chat();
    say(&mut world, 1);
    renewed(&mut world, ISR_PRESSURE_MS + 100);
    assert_eq!(world.core.view(world.now).pressure, Pressure::Slow);
    let slowed = say(&mut world, 2);
    assert!(!world.answered.contains_key(&slowed), "it is durable, and waits");
    renewed(&mut world, 1_000);
    assert_eq!(world.ok(slowed).ack, AckPolicy::Home);
    renewed(&mut world, ISR_PRESSURE_MS);
    let refused = say(&mut world, 3);
    assert_eq!(world.refused(refused), Code::Overloaded);
    let safe = world.append(write(log(1), 4, message(4), AckPolicy::Replicated, None));
    let again = world.append(write(log(1), 2, message(2), AckPolicy::Home, None));
    world.load_all();
    world.sync(1);
    assert_eq!(world.ok(again).position, world.ok(slowed).position, "a retry of what is there is answered");
    world.report(0, 10);
    assert_eq!(world.ok(safe).ack, AckPolicy::Replicated);
    renewed(&mut world, 50);
    assert_eq!(world.core.view(world.now).pressure, Pressure::None);
    let free = say(&mut world, 5);
    assert_eq!(world.ok(free).ack, AckPolicy::Home);
}

#[test]
fn a_slowed_message_that_is_replicated_is_acked_at_once() {
    let mut world = World::with_chat();
    say(&mut world, 1);
    renewed(&mut world, ISR_PRESSURE_MS + 100);
    let slowed = say(&mut world, 2);
    world.report(0, 10);
    assert_eq!(world.ok(slowed).ack, AckPolicy::Replicated);
}

#[test]
fn a_dead_member_and_a_lost_one_throttle_nobody() {
    for is_lost in [false, true] {
        let mut world = World::with_chat();
        let mut row = row(false, &world.committed);
        match is_lost {
            true => {
                row.membership.set.lost.insert(replica(1));
                row.membership.set.version += 1;
            }
            false => drop(row.membership.dead.insert(replica(1))),
        }
        world.say(Input::Row(row));
        say(&mut world, 1);
        renewed(&mut world, 10 * ISR_PRESSURE_MS);
        assert_eq!(world.core.view(world.now).pressure, Pressure::None);
        let ticket = say(&mut world, 2);
        assert_eq!(world.ok(ticket).ack, AckPolicy::Home);
    }
}

#[test]
fn one_region_is_enough_only_while_an_operator_says_so() {
    let mut world = World::with_chat();
    let alone = |world: &World, for_ms: u64| {
        let mut row = row(false, &world.committed);
        row.membership.alone_until_ms = world.now.wall_ms + for_ms;
        Input::Row(row)
    };
    let ticket = world.append(write(log(1), 1, message(1), AckPolicy::Replicated, None));
    world.load_all();
    world.sync(1);
    renewed(&mut world, 2 * ISR_LAG_MS);
    assert!(!world.answered.contains_key(&ticket));
    world.say(alone(&world, 1_000));
    renewed(&mut world, 100);
    let proposal = world.proposals.pop_front().expect("the member is given up");
    assert_eq!(proposal.lost, BTreeSet::from([replica(1)]));
    let version = world.committed.version + 1;
    world.committed = IsrSet { isr: proposal.isr, lost: proposal.lost, version };
    // The world holds acks to two regions; this one is for the operator to answer for.
    world.held[0] = world.store.len() as u64;
    world.say(Input::Proposed { number: proposal.number, outcome: ProposalOutcome::Accepted(version) });
    assert_eq!(world.ok(ticket).ack, AckPolicy::Replicated);
    renewed(&mut world, 1_000);
    let late = world.append(write(log(1), 2, message(2), AckPolicy::Replicated, None));
    world.load_all();
    world.sync(1);
    renewed(&mut world, 100);
    assert!(!world.answered.contains_key(&late), "it is over");
}
