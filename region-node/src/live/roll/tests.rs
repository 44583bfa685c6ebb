use super::*;
use crate::bus::bus_sink;
use proptest::prelude::{Strategy, prop, prop_assert, prop_assert_eq, proptest};

const TTL_MS: u64 = 30_000;
const PARTITION: PartitionId = PartitionId::new(1);
const EPOCH: Epoch = Epoch::new(2);
const NOTHING: [bool; 0] = [];

fn user() -> UserId {
    UserId::new("bob").expect("a valid name")
}

fn node(number: u64) -> NodeId {
    NodeId::new(&format!("node-{number}")).expect("a valid name")
}

fn sink() -> SinkId {
    bus_sink(1).0.id()
}

fn online(device: u64) -> Beat {
    Beat { online: vec![(user(), DeviceId::new(device))], ..Beat::default() }
}

fn gone(device: u64) -> Beat {
    Beat { gone: vec![(user(), DeviceId::new(device))], ..Beat::default() }
}

fn watched() -> Beat {
    Beat { watched: vec![user()], ..Beat::default() }
}

/// A home that has listened for long, and the sink of who watches bob.
struct World {
    roll: Roll,
    watcher: SinkId,
    node: SinkId,
}

impl World {
    fn new() -> Self {
        let mut world = Self { roll: Roll::new(TTL_MS), watcher: sink(), node: sink() };
        assert_eq!(world.watch(0), NOTHING, "it has not listened yet");
        assert_eq!(world.tick(TTL_MS - 1), NOTHING);
        assert_eq!(world.watch(TTL_MS - 1), NOTHING, "nor told once it watches on");
        assert_eq!(world.tick(TTL_MS), [false]);
        world
    }

    fn watch(&mut self, now_ms: u64) -> Vec<bool> {
        self.say(now_ms, 9, self.watcher, watched())
    }

    fn beat(&mut self, now_ms: u64, number: u64, beat: Beat) -> Vec<bool> {
        self.say(now_ms, number, self.node, beat)
    }

    fn say(&mut self, now_ms: u64, number: u64, sink: SinkId, beat: Beat) -> Vec<bool> {
        let mut told = Vec::new();
        let clocks = (now_ms, 1_000_000 + now_ms);
        self.roll.beat(clocks, (PARTITION, EPOCH), (&node(number), sink), beat, &mut told);
        self.to_watcher(told)
    }

    fn tick(&mut self, now_ms: u64) -> Vec<bool> {
        let mut told = Vec::new();
        self.roll.tick(now_ms, &mut told);
        self.to_watcher(told)
    }

    fn to_watcher(&self, told: Vec<Telling>) -> Vec<bool> {
        assert!(told.iter().all(|(sink, _)| *sink == self.watcher));
        told.into_iter().map(|(_, seen)| seen.online).collect()
    }
}

#[test]
fn who_comes_is_told_at_once_and_who_goes_a_moment_later() {
    let mut world = World::new();
    let now_ms = TTL_MS + 1_000;
    assert_eq!(world.beat(now_ms, 1, online(1)), [true]);
    assert_eq!(world.beat(now_ms + 10, 1, online(1)), NOTHING, "that is no news");
    assert_eq!(world.beat(now_ms + 20, 1, gone(1)), NOTHING);
    assert_eq!(world.tick(now_ms + 19 + GRACE_MS), NOTHING);
    assert_eq!(world.tick(now_ms + 20 + GRACE_MS), [false]);
}

#[test]
fn who_changes_nodes_or_has_another_device_stays_online() {
    let mut world = World::new();
    let now_ms = TTL_MS + 1_000;
    assert_eq!(world.beat(now_ms, 1, online(1)), [true]);
    assert_eq!(world.beat(now_ms, 1, gone(1)), NOTHING);
    assert_eq!(world.beat(now_ms + GRACE_MS - 1, 2, online(1)), NOTHING);
    assert_eq!(world.beat(now_ms + GRACE_MS, 1, online(2)), NOTHING);
    assert_eq!(world.beat(now_ms + GRACE_MS, 2, gone(1)), NOTHING);
    assert_eq!(world.tick(now_ms + 3 * GRACE_MS), NOTHING);
}

#[test]
fn users_of_a_node_that_is_silent_are_offline_after_the_ttl() {
    let mut world = World::new();
    let now_ms = TTL_MS + 1_000;
    assert_eq!(world.beat(now_ms, 1, online(1)), [true]);
    world.watch(now_ms);
    assert_eq!(world.tick(now_ms + TTL_MS - 1), NOTHING);
    world.watch(now_ms + TTL_MS - 1);
    assert_eq!(world.tick(now_ms + TTL_MS), [false]);
}

#[test]
fn a_home_that_has_just_taken_over_calls_nobody_offline() {
    let mut world = World { roll: Roll::new(TTL_MS), watcher: sink(), node: sink() };
    world.watch(0);
    assert_eq!(world.beat(100, 1, online(1)), [true]);
    assert_eq!(world.beat(200, 1, gone(1)), NOTHING);
    world.watch(TTL_MS - 1);
    assert_eq!(world.tick(TTL_MS - 1), NOTHING, "another device may be there");
    assert_eq!(world.tick(TTL_MS), [false]);
    world.roll.keep(|_| Some(Epoch::new(3)));
    assert!(world.roll.is_empty(), "what was known in another epoch is nothing now");
}

#[test]
fn who_watches_no_longer_is_forgotten() {
    let mut world = World::new();
    let watcher = world.watcher;
    world.say(TTL_MS, 9, watcher, Beat { unwatched: vec![user()], ..Beat::default() });
    assert_eq!(world.beat(TTL_MS + 1, 1, online(1)), NOTHING);
    world.tick(3 * TTL_MS);
    assert_eq!(world.roll.users, 0);
}

#[derive(Debug, Clone)]
enum Step {
    Beats { node: u64, device: u64 },
    Goes { node: u64, device: u64 },
    Passes(u64),
}

fn step() -> impl Strategy<Value = Step> {
    proptest::prop_oneof![
        3 => (0_u64..3, 0_u64..2).prop_map(|(node, device)| Step::Beats { node, device }),
        2 => (0_u64..3, 0_u64..2).prop_map(|(node, device)| Step::Goes { node, device }),
        4 => (1_u64..12_000).prop_map(Step::Passes),
    ]
}

proptest! {
    #[test]
    fn watchers_are_told_of_changes_only_and_in_time(steps in prop::collection::vec(step(), 0..80)) {
        let mut world = World::new();
        let (mut now_ms, mut last) = (TTL_MS, false);
        let mut until: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        for step in steps {
            let told = match step {
                Step::Beats { node, device } => {
                    until.insert((node, device), now_ms + TTL_MS);
                    world.beat(now_ms, node, online(device))
                }
                Step::Goes { node, device } => {
                    if let Some(until_ms) = until.get_mut(&(node, device)) {
                        *until_ms = (now_ms + GRACE_MS).min(*until_ms);
                    }
                    world.beat(now_ms, node, gone(device))
                }
                Step::Passes(ms) => {
                    now_ms += ms;
                    let mut told = world.watch(now_ms);
                    told.extend(world.tick(now_ms));
                    told
                }
            };
            for online in told {
                prop_assert!(online != last, "no news");
                last = online;
            }
            until.retain(|_, until_ms| now_ms < *until_ms);
            prop_assert_eq!(last, !until.is_empty());
        }
    }
}
