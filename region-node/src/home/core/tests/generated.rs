//! No order of events breaks a promise: drawn at random, and shrunk.

use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
pub(super) enum Event {
    Create(u8),
    Send {
        log: u8,
        message: u8,
        text: u8,
        ack: AckPolicy,
        after: Option<u8>,
    },
    Salvage {
        log: u8,
        message: u8,
        targets: Vec<u8>,
    },
    Load,
    Sync(usize),
    NoRoom,
    Report(usize, u64),
    Directory(Directory),
    Time(u64),
    /// Long enough for logs to rest, and for message ids to be forgotten.
    Quiet,
    Follow(u8),
    Renew,
    Row(bool),
    Move,
}

fn event() -> impl Strategy<Value = Event> {
    let ack = prop_oneof![Just(AckPolicy::Home), Just(AckPolicy::Replicated)];
    let send = (1..3_u8, 1..12_u8, 0..2_u8, ack, proptest::option::weighted(0.3, 1..12_u8));
    prop_oneof![
        2 => (1..3_u8).prop_map(Event::Create),
        8 => send.prop_map(|(log, message, text, ack, after)| {
            // One text for most ids, so that most repetitions are true ones.
            let text = if text == 0 { message } else { text };
            Event::Send { log, message, text, ack, after }
        }),
        3 => (1..3_u8, 1..12_u8).prop_map(|(log, message)| Event::Salvage { log, message, targets: vec![] }),
        1 => (1..3_u8, 200..204_u8, proptest::collection::vec(1..12_u8, 1..4))
            .prop_map(|(log, message, targets)| Event::Salvage { log, message, targets }),
        6 => Just(Event::Load),
        5 => (1..3_usize).prop_map(Event::Sync),
        1 => Just(Event::NoRoom),
        5 => (0..2_usize, 0..4_u64).prop_map(|(follower, more)| Event::Report(follower, more)),
        3 => prop_oneof![
            Just(Directory::Accepts), Just(Directory::AcceptsUnheard), Just(Directory::Refuses)
        ].prop_map(Event::Directory),
        3 => (0..2_500_u64).prop_map(Event::Time),
        1 => Just(Event::Quiet),
        1 => (1..3_u8).prop_map(Event::Follow),
        3 => Just(Event::Renew),
        1 => any::<bool>().prop_map(Event::Row),
    ]
}

/// Events, in the middle of which the partition may be moved away.
fn events(most: usize) -> impl Strategy<Value = Vec<Event>> {
    let moved = proptest::option::of(any::<proptest::sample::Index>());
    (proptest::collection::vec(event(), 1..most), moved).prop_map(|(mut events, moved)| {
        if let Some(at) = moved {
            events.insert(at.index(events.len()), Event::Move);
        }
        events
    })
}

pub(super) fn run(world: &mut World, event: Event) {
    match event {
        Event::Create(number) => {
            world.append(write(log(number), 100 + number, created(), AckPolicy::Home, None));
        }
        Event::Send { log: number, message: id, text, ack, after } => {
            world.append(write(log(number), id, message(text), ack, after));
        }
        Event::Salvage { log: number, message: id, targets } => {
            world.append(salvaged(log(number), id, id, &targets));
        }
        Event::Load => world.load(),
        Event::Sync(batches) => world.sync(batches),
        Event::NoRoom => world.no_room(),
        Event::Report(follower, more) => world.report(follower, more),
        Event::Directory(answer) => world.directory(answer),
        Event::Time(ms) => world.time(ms),
        Event::Quiet => {
            world.lease_until_ms = world.now.boot_ms + 20_000 + TTL_MS;
            world.time(20_000);
        }
        Event::Follow(number) => world.follow(log(number)),
        Event::Renew => {
            world.lease_until_ms = world.now.boot_ms + TTL_MS;
            world.say(Input::Tick);
        }
        Event::Row(waiting) => world.row(waiting),
        Event::Move => world.begin_move(MoveId::new(1)),
    }
}

fn check_log(world: &World) {
    let mut seen = HashSet::new();
    let mut offsets: HashMap<LogId, u64> = HashMap::new();
    let sealed = world.store.last().is_some_and(|last| last.sealed_by().is_some());
    for record in &world.store[..world.store.len() - usize::from(sealed)] {
        let entry = record.entry().expect("only entries are written");
        assert!(seen.insert((record.log, entry.dedup_key())), "one entry a message id");
        let offset = offsets.entry(record.log).or_default();
        *offset += 1;
        assert_eq!(entry.offset.get(), *offset, "offsets are dense");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_events_breaks_a_promise(events in events(150)) {
        let mut world = World::new();
        world.follow(log(1));
        for event in events {
            run(&mut world, event);
        }
        check_log(&world);
        // When it is over, everyone has been answered.
        world.say(Input::Stop(EndReason::RowMoved));
        prop_assert!(world.asked.keys().all(|ticket| world.answered.contains_key(ticket)));
    }

    #[test]
    fn once_all_is_well_everyone_is_acked(events in events(100)) {
        let mut world = World::new();
        for event in events {
            run(&mut world, event);
        }
        world.row(false);
        for _ in 0..40 {
            world.load_all();
            world.sync(100);
            world.report(0, 1_000);
            world.report(1, 1_000);
            world.directory(Directory::Accepts);
            run(&mut world, Event::Renew);
            world.time(500);
        }
        check_log(&world);
        prop_assert!(world.asked.keys().all(|ticket| world.answered.contains_key(ticket)));
        prop_assert_eq!(world.core.view(world.now).at_risk, 0);
        prop_assert_eq!(world.core.pending_bytes, 0);
        prop_assert_eq!(world.is_sealed(), world.moving.is_some());
    }
}
