//! Planned moves in the simulation: what the controller asks for, and what comes of it.

use super::{Call, Plant, World};
use crate::{
    bounds,
    command::{Answer, Command, RegionWish},
    controller::{Input, MoveAction, MoveInput, Wish, WishError},
    testing::{REGIONS, node, region},
};
use types::{Epoch, MoveId, NodeId, PartitionId, PartitionState};

impl World {
    pub(super) fn take_move(&mut self, action: MoveAction) {
        let there_ms = self.now_ms + self.delay_ms;
        match action {
            MoveAction::Survey(node) => {
                let until_ms = self.now_ms + bounds::SURVEY_TIMEOUT_MS;
                self.calls.push((there_ms, Call::Survey { node: node.node, until_ms }));
            }
            MoveAction::Begin(_, new) => {
                self.calls.push((self.now_ms, Call::Move(Command::BeginMove(new))));
            }
            MoveAction::AwaitSeal { node, partition, epoch, id } => {
                let until_ms = self.now_ms + bounds::MOVE_TIMEOUT_MS;
                let call = Call::AwaitSeal { node: node.node, partition, epoch, id, until_ms };
                self.calls.push((there_ms, call));
            }
            MoveAction::End(command) => self.calls.push((self.now_ms, Call::Move(command))),
            MoveAction::Answer(_, result) => self.told.push(result),
        }
    }

    pub(super) fn submit_move(&mut self, command: Command) {
        let begins = match &command {
            Command::BeginMove(new) => Some(new.partition),
            _ => None,
        };
        let answer = self.try_submit(command);
        if let Some(partition) = begins {
            let result = match answer {
                Ok(Answer::Moving(id)) => Ok(id),
                other => Err(WishError::NotBegun { partition, why: format!("{other:?}") }),
            };
            self.control(Input::Moving(MoveInput::Begun(partition, result)));
        }
    }

    pub(super) fn survey(&mut self, name: NodeId, until_ms: u64) {
        let node = &self.nodes[&name];
        let stands = node.reaches_directory().then(|| node.stands());
        let at_ms = if stands.is_some() { self.now_ms + self.delay_ms } else { until_ms };
        self.calls.push((at_ms, Call::Answer(Input::Moving(MoveInput::Surveyed(name, stands)))));
    }

    pub(super) fn await_seal(
        &mut self,
        name: NodeId,
        partition: PartitionId,
        epoch: Epoch,
        id: MoveId,
        until_ms: u64,
    ) {
        let node = &self.nodes[&name];
        let store = types::StoreId::from_bytes([node.store; 16]);
        let seal = node.reaches_directory().then(|| node.seal(partition, epoch)).flatten();
        if seal.is_none() && self.now_ms < until_ms {
            let call = Call::AwaitSeal { node: name, partition, epoch, id, until_ms };
            self.calls.push((self.now_ms + super::STEP_MS, call));
            return;
        }
        let seal = seal.map(|seal| (seal, store));
        let answer = Input::Moving(MoveInput::Sealed { partition, id, seal });
        self.calls.push((self.now_ms + self.delay_ms, Call::Answer(answer)));
    }

    /// Who hands a partition over to whom.
    pub(super) fn hands(&self, partition: PartitionId) -> Option<(PartitionId, NodeId, NodeId)> {
        let row = self.view().partition(partition)?;
        Some((partition, row.home.as_ref()?.node.clone(), row.moving.as_ref()?.target.node.clone()))
    }

    pub(super) fn wish(&mut self, partition: u32, to: &str) {
        let request = self.directory.next_request();
        let (partition, region) = (PartitionId::new(partition), region(to));
        let wish = Wish { call: 1, request, partition, region, by: "ann".into() };
        self.control(Input::Moving(MoveInput::Wished(wish)));
    }

    pub(super) fn drain(&mut self, name: &str, on: bool) {
        let wish = RegionWish { region: region(name), by: "ann".into() };
        let _last = self.try_submit(if on { Command::Drain(wish) } else { Command::Undrain(wish) });
    }

    pub(super) fn homes_in(&self, name: &str) -> usize {
        let is_there = |row: &&types::PartitionRow| {
            let home = row.home.as_ref().and_then(|home| self.view().node(&home.node));
            home.is_some_and(|node| node.region == region(name))
        };
        self.view().partitions().filter(is_there).count()
    }

    fn state_of(&self, partition: u32) -> PartitionState {
        self.view().partition(PartitionId::new(partition)).expect("it exists").state
    }

    fn home_of(&self, partition: u32) -> NodeId {
        let row = self.view().partition(PartitionId::new(partition)).expect("it exists");
        row.home.as_ref().expect("homed").node.clone()
    }
}

const NODES: [&str; 3] = ["ap-south-1", "eu-west-1", "us-east-1"];

pub(super) fn whole() -> World {
    let mut world = World::new(&REGIONS, true);
    for name in NODES {
        world.boot(name);
    }
    world.run_until(20_000, "everything in sync", World::is_whole);
    world.run_ms(2_000);
    world
}

/// Partition 0 is homed in ap-south, and on its way to us-east.
fn moving() -> World {
    let mut world = whole();
    assert_eq!(world.home_of(0), node("ap-south-1"));
    world.wish(0, "us-east");
    world.run_until(1_000, "begun", |world| world.state_of(0) == PartitionState::Draining);
    world
}

pub(super) fn settled(world: &World) -> bool {
    world.view().partitions().all(|row| row.state == PartitionState::Homed && row.waiting.is_empty())
}

#[test]
fn a_wish_moves_a_partition_and_nobody_is_waited_for() {
    let mut world = moving();
    let took = world.run_until(2_000, "moved", |world| world.home_of(0) == node("us-east-1"));
    assert!(took <= 300, "{took} ms");
    assert!(matches!(world.told[..], [Ok(_)]), "{:?}", world.told);
    world.run_ms(10_000);
    assert_eq!(world.home_of(0), node("us-east-1"), "what an operator moved stays");
    assert!(world.is_whole());
}

#[test]
fn what_cannot_be_moved_is_told_at_once() {
    let mut world = whole();
    world.wish(0, "ap-south");
    world.wish(99, "us-east");
    world.drain("us-east", true);
    world.wish(0, "us-east");
    let told: Vec<String> =
        world.told.iter().map(|told| told.as_ref().expect_err("refused").to_string()).collect();
    assert_eq!(
        told,
        [
            "partition 0 cannot move to ap-south-1: it is homed there",
            "partition 99 does not exist",
            "partition 0 cannot move to us-east-1: its region takes no homes",
        ]
    );
}

#[test]
fn a_move_waits_a_while_for_a_target_that_does_not_tell_how_it_stands() {
    let mut world = whole();
    world.node("us-east-1").is_paused = true;
    world.wish(0, "us-east");
    world.run_ms(1_500);
    assert!(world.told.is_empty() && world.state_of(0) == PartitionState::Homed);
    world.node("us-east-1").is_paused = false;
    world.run_until(2_000, "moved", |world| world.home_of(0) == node("us-east-1"));
    world.node("eu-west-1").is_cut_off = true;
    world.wish(0, "eu-west");
    world.run_until(7_000, "told", |world| world.told.len() == 2);
    assert!(
        matches!(world.told[1], Err(WishError::Unheard { .. } | WishError::NotBegun { .. })),
        "{:?}",
        world.told
    );
}

#[test]
fn a_drained_region_is_left_evenly_is_safe_to_power_off_and_gets_its_homes_back() {
    let mut world = World::with_partitions(&REGIONS, 8, true);
    for name in NODES {
        world.boot(name);
    }
    world.run_until(20_000, "everything in sync", World::is_whole);
    let power_off = |world: &World| crate::controller::power_off(world.view(), &region("us-east"));
    assert!(!power_off(&world).is_safe());
    assert_eq!(crate::controller::dry_run(world.view(), &region("us-east")).len(), 8);
    world.drain("us-east", true);
    world.run_until(10_000, "drained", |world| world.homes_in("us-east") == 0);
    assert_eq!((world.homes_in("ap-south"), world.homes_in("eu-west")), (12, 12));
    world.run_until(2_000, "safe", |world| power_off(world).is_safe());
    world.node("us-east-1").is_up = false;
    world.run_ms(12_000);
    assert!(settled(&world) && world.pages.is_empty(), "{:?}", world.pages);
    world.boot("us-east-1");
    world.settings.failback.on = true;
    world.restart_directory();
    world.run_ms(2 * super::COOLDOWN_MS);
    assert_eq!(world.homes_in("us-east"), 0, "it stays drained");
    world.drain("us-east", false);
    world.run_until(60_000, "homes come back", |world| world.homes_in("us-east") == 8);
    world.run_until(10_000, "everything in sync", World::is_whole);
}

#[test]
fn failback_waits_for_the_cooldown_and_can_be_switched_off() {
    let mut world = whole();
    world.settings.failback.on = true;
    world.restart_directory();
    world.node("us-east-1").is_up = false;
    world.run_until(12_000, "failed over", |world| settled(world) && world.homes_in("us-east") == 0);
    world.boot("us-east-1");
    let off = |on| {
        let by = "ann".into();
        Command::SetFailback(crate::command::FailbackWish { region: None, on, by })
    };
    world.try_submit(off(false)).expect("off");
    world.run_ms(3 * super::COOLDOWN_MS);
    assert_eq!(world.homes_in("us-east"), 0);
    world.try_submit(off(true)).expect("on");
    world.run_until(5_000, "back", |world| world.homes_in("us-east") == 2);
}

#[test]
fn the_death_of_the_source_at_any_step_is_a_failover() {
    for steps in 0..8 {
        let mut world = whole();
        world.wish(0, "us-east");
        world.run_ms(steps * super::STEP_MS);
        world.node("ap-south-1").is_up = false;
        world
            .run_until(15_000, "served elsewhere", |world| settled(world) && world.homes_in("ap-south") == 0);
        world.boot("ap-south-1");
        world.run_until(15_000, "everything in sync", World::is_whole);
    }
}

#[test]
fn the_death_of_the_target_at_any_step_leaves_the_source_or_is_a_failover() {
    for steps in 0..8 {
        let mut world = whole();
        world.wish(0, "us-east");
        world.run_ms(steps * super::STEP_MS);
        world.node("us-east-1").is_up = false;
        world.run_until(15_000, "served elsewhere", |world| settled(world) && world.homes_in("us-east") == 0);
        world.boot("us-east-1");
        world.run_until(15_000, "everything in sync", World::is_whole);
    }
}

#[test]
fn a_restart_of_the_directory_at_any_step_ends_the_move_one_way_or_the_other() {
    for steps in 0..8 {
        let mut world = whole();
        world.wish(0, "us-east");
        world.run_ms(steps * super::STEP_MS);
        world.restart_directory();
        world.run_until(5_000, "settled", settled);
        world.run_until(15_000, "everything in sync", World::is_whole);
    }
}

#[test]
fn a_source_that_hears_nothing_of_its_move_goes_on_in_the_next_epoch() {
    let mut world = whole();
    world.node("ap-south-1").is_cut_off = true;
    // What it says of itself was asked before.
    let new = crate::command::NewMove {
        partition: PartitionId::new(0),
        target: types::Home { node: node("us-east-1"), incarnation: types::Incarnation::new(1) },
        cause: types::MoveCause::Operator,
        by: "ann".into(),
    };
    world.try_submit(Command::BeginMove(new)).expect("begun");
    world.run_until(2_900, "given up", |world| world.state_of(0) == PartitionState::Homed);
    world.node("ap-south-1").is_cut_off = false;
    world.run_ms(3_000);
    assert_eq!(world.home_of(0), node("ap-south-1"));
    assert!(world.is_whole());
}

#[test]
fn a_target_that_cannot_be_fed_gives_the_move_up_in_time() {
    let mut world = whole();
    world.link("ap-south-1", "us-east-1", true);
    world.wish(0, "us-east");
    world.run_until(1_000, "begun", |world| world.state_of(0) == PartitionState::Draining);
    let took = world.run_until(5_000, "given up", |world| world.state_of(0) == PartitionState::Homed);
    assert!(took <= bounds::MOVE_TIMEOUT_MS + 500, "{took} ms");
    assert_eq!(world.home_of(0), node("ap-south-1"));
    world.link("ap-south-1", "us-east-1", false);
    world.run_until(15_000, "everything in sync", World::is_whole);
}

/// The source is cut off from the directory right after it has sealed.
fn cut_off_behind_seal(plant: Option<Plant>) {
    let mut world = moving();
    if let Some(plant) = plant {
        world.plant(plant);
    }
    world.run_ms(super::STEP_MS);
    world.node("ap-south-1").is_cut_off = true;
    world.run_until(2_000, "moved", |world| world.home_of(0) == node("us-east-1"));
    world.run_ms(2_000);
}

#[test]
fn a_source_that_does_not_hear_of_its_successor_does_no_harm() {
    cut_off_behind_seal(None);
}

#[test]
#[should_panic(expected = "P2")]
fn planted_acks_behind_the_seal_are_caught() {
    cut_off_behind_seal(Some(Plant::AcksBehindSeal));
}

#[test]
#[should_panic(expected = "P8")]
fn planted_a_target_that_does_not_hold_the_seal_is_caught() {
    let mut world = whole();
    world.plant(Plant::SaysItHoldsSeal);
    world.link("ap-south-1", "us-east-1", true);
    world.run_ms(1_000);
    world.wish(0, "us-east");
    world.run_ms(5_000);
    world.link("ap-south-1", "us-east-1", false);
    world.run_ms(5_000);
}
