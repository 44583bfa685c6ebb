//! How a log leaves the partition, and how it comes.

use super::*;
use types::{Import, Refusal, RehomeId};

pub(super) const ELSEWHERE: PartitionId = PartitionId::new(9);

impl World {
    /// The pin grows.
    pub(super) fn pin(&mut self, log: LogId, generation: u32, partition: PartitionId, first: u64) {
        let mut segments = self.segments(log);
        let (generation, first_offset) = (Generation::new(generation), Offset::new(first));
        segments.push(PinSegment { generation, partition, first_offset });
        self.pins.insert(log, segments);
    }

    pub(super) fn rehome(&mut self, log: LogId, step: RehomingStep) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        let deadline_ms = self.now.boot_ms + 10_000;
        self.say(Input::Rehome(Box::new(Rehoming { ticket, log, deadline_ms, step })));
        self.load_all();
        ticket
    }

    pub(super) fn seal(&mut self, log: LogId, generation: u32) -> Ticket {
        let (rehome, generation) = (RehomeId::new(1), Generation::new(generation));
        self.rehome(log, RehomingStep::Seal { rehome, generation, held_in: vec![region(0), region(1)] })
    }

    pub(super) fn import(&mut self, log: LogId, generation: u32, import: Import) -> Ticket {
        let (generation, import) = (Generation::new(generation), Box::new(import));
        self.rehome(log, RehomingStep::Import { generation, import })
    }

    /// Writes a message under a pin of a generation, up to its answer or to what it waits for.
    pub(super) fn say_in(&mut self, generation: u32, number: u8) -> Ticket {
        let generation = Generation::new(generation);
        let said = Write { generation, ..write(log(1), number, message(number), AckPolicy::Home, None) };
        let ticket = self.append(said);
        self.load_all();
        ticket
    }

    pub(super) fn replicate(&mut self) {
        self.sync(usize::MAX);
        self.report(0, u64::MAX / 2);
    }

    pub(super) fn sealed(&self, ticket: Ticket) -> Import {
        match self.handed.get(&ticket) {
            Some(Handed::Sealed(import)) => (**import).clone(),
            other => panic!("not sealed: {other:?}"),
        }
    }

    pub(super) fn closed_at(&self, ticket: Ticket) -> u32 {
        match self.answered.get(&ticket) {
            Some(Err(WriteError::NotHome(not_home))) => not_home.closed.get(),
            other => panic!("not sent on: {other:?}"),
        }
    }

    /// What another partition hands over that went on with the chat up to an offset.
    fn handed_over(head: u64) -> Import {
        let mut world = World::with_chat();
        world.say_in(1, 1);
        let ticket = world.seal(log(1), 1);
        world.replicate();
        let mut import = world.sealed(ticket);
        import.head.offset = Offset::new(head);
        import
    }
}

#[test]
fn a_seal_is_answered_once_it_is_replicated_and_nothing_is_written_behind_it() {
    let mut world = World::with_chat();
    let before = world.say_in(1, 1);
    let seal = world.seal(log(1), 1);
    let late = world.say_in(1, 2);
    assert_eq!(world.closed_at(late), 1, "the writer looks for another place at once");
    world.sync(usize::MAX);
    world.ok(before);
    assert!(world.handed.is_empty(), "it is durable here only");
    world.replicate();
    let import = world.sealed(seal);
    assert_eq!(import.head, world.ok(before).position);
    let retry = world.say_in(1, 1);
    assert_eq!(world.ok(retry).position, import.head, "what is in the log is still answered");
    let again = world.seal(log(1), 1);
    world.load_all();
    world.say(Input::Tick);
    assert_eq!(world.sealed(again), import);
    assert_eq!(world.store.len(), 3, "the chat, a message, one seal");
}

#[test]
fn a_sealed_log_tells_its_followers_where_it_went_once_the_pin_says_so() {
    let mut world = World::with_chat();
    world.follow(log(1));
    world.seal(log(1), 1);
    world.replicate();
    world.time(50);
    world.load_all();
    assert_eq!(world.moved, [], "it is under way");
    world.pin(log(1), 2, ELSEWHERE, 2);
    world.time(50);
    world.load_all();
    assert_eq!(world.moved, [(log(1), Generation::new(2))]);
    let lost = world.say_in(2, 5);
    assert_eq!(world.closed_at(lost), 1, "a pin that is not this partition's is no pin");
}

#[test]
fn a_re_homing_that_is_given_up_goes_on_in_the_next_generation() {
    let mut world = World::with_chat();
    world.seal(log(1), 1);
    world.replicate();
    world.pin(log(1), 2, PARTITION, 1);
    let stale = world.say_in(1, 1);
    assert_eq!(world.closed_at(stale), 1);
    let next = world.say_in(2, 1);
    world.replicate();
    let position = world.ok(next).position;
    assert_eq!((position.generation, position.offset), (Generation::new(2), Offset::new(2)));
    // A seal that was asked for before it was given up does no harm.
    let late = world.seal(log(1), 1);
    assert!(matches!(world.answered[&late], Err(WriteError::Refused(_))));
    let more = world.say_in(2, 2);
    world.replicate();
    world.ok(more);
}

#[test]
fn an_imported_log_is_written_only_where_the_pin_says_so() {
    let mut world = World::with_chat();
    let import = World::handed_over(40);
    let chat = log(3);
    world.pins.insert(
        chat,
        vec![PinSegment { generation: Generation::FIRST, partition: ELSEWHERE, first_offset: Offset::FIRST }],
    );
    let ticket = world.import(chat, 2, import.clone());
    assert!(world.handed.is_empty());
    world.replicate();
    assert_eq!(world.handed[&ticket], Handed::Imported);
    let say = |world: &mut World, number| {
        let generation = Generation::new(2);
        let said = Write { generation, ..write(chat, number, message(number), AckPolicy::Home, None) };
        let ticket = world.append(said);
        world.load_all();
        world.replicate();
        ticket
    };
    let early = say(&mut world, 7);
    assert!(matches!(world.answered[&early], Err(WriteError::NotHome(_))), "the pin is read, not believed");
    world.pin(chat, 2, PARTITION, 41);
    let first = say(&mut world, 8);
    assert_eq!(world.ok(first).position, Position::new(Generation::new(2), EPOCH, Offset::new(41)));
    let opened = world.append(Write {
        generation: Generation::new(2),
        message_id: MessageId::from_bytes([200; 16]),
        ..write(chat, 0, created(), AckPolicy::Home, None)
    });
    world.load_all();
    assert_eq!(world.ok(opened).position.offset, Offset::FIRST, "its first entry is elsewhere");
    let again = world.import(chat, 2, import);
    world.say(Input::Tick);
    assert_eq!(world.handed[&again], Handed::Imported, "asked again, answered alike");
}

#[test]
fn an_old_message_id_is_found_in_the_partition_before() {
    let mut world = World::with_chat();
    let import = World::handed_over(40);
    let chat = log(3);
    world.pin(chat, 2, PARTITION, 41);
    world.import(chat, 2, import);
    world.replicate();
    let old = Write { generation: Generation::new(2), ..write(chat, 0, message(0), AckPolicy::Home, None) };
    let ticket = world.append(old.clone());
    while let Some((log, as_of, need)) = world.loads.pop_front() {
        let position = Position::new(Generation::FIRST, Epoch::new(5), Offset::new(17));
        let found = Deduped { position, lsn: Lsn::ZERO, hash: old.body.hash(), accepted_at_ms: 9 };
        let pin = need.pin.then(|| Ok(Some(Pin { log, segments: world.segments(log) })));
        let found = need.keys.iter().map(|key| (key.clone(), Some(found))).collect();
        let loaded = Loaded { pin, found, ..Loaded::default() };
        world.say(Input::Loaded { log, as_of, loaded: Box::new(Ok(loaded)) });
    }
    assert_eq!(
        (world.ok(ticket).position.offset, world.ok(ticket).ack),
        (Offset::new(17), AckPolicy::Replicated)
    );
    let ticket =
        world.append(Write { message_id: MessageId::from_bytes([0; 16]), device: DeviceId::new(9), ..old });
    while let Some((log, as_of, need)) = world.loads.pop_front() {
        let why = Refusal::new(Code::HomeUnavailable, "a test");
        let failed = need.keys.iter().map(|key| (key.clone(), why.clone())).collect();
        let pin = need.pin.then(|| Ok(Some(Pin { log, segments: world.segments(log) })));
        let loaded = Loaded { pin, failed, ..Loaded::default() };
        world.say(Input::Loaded { log, as_of, loaded: Box::new(Ok(loaded)) });
    }
    assert_eq!(world.refused(ticket), Code::HomeUnavailable, "nobody could tell: nothing is written");
}

#[test]
fn a_log_may_not_leave_for_where_it_may_not_be_held() {
    let mut world = World::new();
    let EntryBody::Created { members, ack_policy, .. } = created() else { panic!("it creates") };
    let body = EntryBody::Created { members, ack_policy, allowed_regions: vec![region(0)] };
    world.append(write(log(1), 0, body, AckPolicy::Home, None));
    world.load_all();
    world.replicate();
    let seal = world.seal(log(1), 1);
    assert_eq!(world.refused(seal), Code::Forbidden);
    let unknown = world.seal(log(7), 1);
    assert_eq!(world.refused(unknown), Code::UnknownChat);
}

#[test]
fn a_seal_that_found_no_room_is_written_again() {
    let mut world = World::with_chat();
    let seal = world.seal(log(1), 1);
    world.no_room();
    assert_eq!(world.refused(seal), Code::Overloaded);
    let written = world.say_in(1, 1);
    world.replicate();
    world.ok(written);
    let seal = world.seal(log(1), 1);
    world.replicate();
    assert_eq!(world.sealed(seal).head, world.ok(written).position);
}
