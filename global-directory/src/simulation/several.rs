//! Regions of several nodes: where homes and copies lie, and what the death, the return, the coming and the
//! retirement of one of them does.

use super::{REPLACE_MS, SILENCE_MS, World};
use crate::{
    command::{Command, NodeRetirement, Refusal, RegionWish, RegisterError},
    testing::{REGIONS, node, region},
};
use std::collections::BTreeSet;
use types::{NodeId, PartitionId, PartitionRow, PartitionState, Retirement};

const PARTITIONS: u32 = 8;

/// Three regions of two nodes, everything in sync.
fn whole() -> World {
    let mut world = World::with_partitions(&REGIONS, PARTITIONS, true);
    for name in REGIONS {
        for number in 1..=2 {
            world.boot(&format!("{name}-{number}"));
        }
    }
    world.run_until(20_000, "everything in sync", World::is_settled);
    world.run_ms(2_000);
    world
}

fn homes(world: &World, name: &str) -> BTreeSet<PartitionId> {
    let is_home = |row: &&PartitionRow| {
        row.state == PartitionState::Homed && row.home.as_ref().is_some_and(|home| home.node == node(name))
    };
    world.view().partitions().filter(is_home).map(|row| row.partition).collect()
}

fn copies(world: &World, name: &str) -> BTreeSet<PartitionId> {
    let holds = |row: &&PartitionRow| row.replicas.iter().any(|copy| copy.node == node(name));
    world.view().partitions().filter(holds).map(|row| row.partition).collect()
}

fn is_served(world: &World) -> bool {
    world.view().partitions().all(|row| row.state == PartitionState::Homed && row.waiting.is_empty())
}

/// What has stopped automatic failover so far.
fn brakes(world: &World) -> Vec<&str> {
    let is_brake = |page: &&str| page.starts_with("automatic failover has stopped");
    world.pages.iter().map(String::as_str).filter(is_brake).collect()
}

fn retire(name: &str) -> Command {
    Command::RetireNode(NodeRetirement { node: node(name), keep: false, by: "ann".into() })
}

fn wish(name: &str) -> RegionWish {
    RegionWish { region: region(name), by: "ann".into() }
}

fn retirement(world: &World, name: &str) -> Retirement {
    world.view().node(&node(name)).expect("registered").retirement
}

#[test]
fn the_partitions_of_a_region_spread_over_its_nodes() {
    let world = whole();
    for name in REGIONS {
        let both = [1, 2].map(|number| homes(&world, &format!("{name}-{number}")).len());
        assert_eq!(both[0] + both[1], PARTITIONS as usize);
        assert!(both.iter().all(|count| *count > 0), "{name}: {both:?}");
        let both = [1, 2].map(|number| copies(&world, &format!("{name}-{number}")).len());
        assert_eq!(both[0] + both[1], 3 * PARTITIONS as usize, "each region has one copy of each");
        assert!(both.iter().all(|count| *count >= 6), "{name}: {both:?}");
    }
}

#[test]
fn a_dead_node_loses_its_own_homes_only() {
    let mut world = whole();
    let (dead, sister) = (homes(&world, "us-east-1"), homes(&world, "us-east-2"));
    world.node("us-east-1").is_up = false;
    let open = world
        .run_until(8_000, "served again", |world| is_served(world) && homes(world, "us-east-1").is_empty());
    assert!(open <= 5_200, "{open} ms");
    assert_eq!(homes(&world, "us-east-2"), sister, "the other node keeps what it has");
    let moved = ["ap-south-1", "ap-south-2", "eu-west-1", "eu-west-2"].map(|name| homes(&world, name));
    assert!(dead.iter().all(|partition| moved.iter().any(|homes| homes.contains(partition))));
    assert_eq!(brakes(&world), [""; 0]);
}

#[test]
fn what_a_dead_node_held_goes_to_its_sister_and_comes_back_with_it() {
    let mut world = whole();
    let before = copies(&world, "us-east-1");
    world.node("us-east-1").is_up = false;
    world.run_ms(REPLACE_MS - 2_000);
    assert_eq!(copies(&world, "us-east-1"), before, "not at once");
    world.run_until(60_000, "the sister holds it all", |world| {
        copies(world, "us-east-1").is_empty() && world.is_whole()
    });
    assert_eq!(copies(&world, "us-east-2").len(), 3 * PARTITIONS as usize);
    assert!(
        world.view().partitions().all(|row| row.away.len() == usize::from(before.contains(&row.partition)))
    );

    world.boot("us-east-1");
    assert_eq!(copies(&world, "us-east-1"), before, "it is matched before anything of it is given up");
    world.run_until(60_000, "as it was", World::is_settled);
    assert_eq!(copies(&world, "us-east-1"), before);
}

#[test]
fn homes_that_went_to_a_sister_come_back_to_a_node_that_was_away_for_long() {
    let mut world = whole();
    world.set(|settings| settings.failback.on = true);
    let before = ["us-east-1", "us-east-2"].map(|name| homes(&world, name));
    world.node("us-east-1").is_up = false;
    world.run_until(120_000, "its sister is home of it all", |world| {
        homes(world, "us-east-2").len() == PARTITIONS as usize && world.is_whole()
    });
    world.boot("us-east-1");
    world.run_until(120_000, "as it was", |world| {
        ["us-east-1", "us-east-2"].map(|name| homes(world, name)) == before && world.is_settled()
    });
}

#[test]
fn a_node_that_joins_gets_its_share_of_the_homes_only_where_there_is_failback() {
    let mut world = whole();
    world.boot("us-east-3");
    world.run_ms(20_000);
    assert!(homes(&world, "us-east-3").is_empty() && world.is_settled());
    world.set(|settings| settings.failback.on = true);
    world.run_until(120_000, "it has a share", |world| {
        !homes(world, "us-east-3").is_empty() && world.is_settled()
    });
    let homes_of_region: usize =
        [1, 2, 3].map(|number| homes(&world, &format!("us-east-{number}")).len()).iter().sum();
    assert_eq!(homes_of_region, PARTITIONS as usize, "all stay in their region");
}

#[test]
fn a_new_node_takes_its_share_of_the_copies_a_few_at_a_time() {
    let mut world = whole();
    world.boot("us-east-3");
    world.run_ms(3_000);
    assert_eq!(copies(&world, "us-east-3").len(), 0, "it has to stay for a while");
    let mut most = 0;
    for _ in 0..600 {
        world.run_ms(50);
        let filling = world.view().partitions().filter(|row| {
            let new = row.replicas.iter().find(|copy| copy.node == node("us-east-3"));
            new.is_some_and(|copy| !row.isr.contains(copy))
        });
        most = most.max(filling.count());
    }
    assert!((1..=2).contains(&most), "{most} at a time");
    let share = copies(&world, "us-east-3").len();
    assert!((3..=12).contains(&share), "{share} of 24");
    let homes_of_region: usize =
        [1, 2].map(|number| homes(&world, &format!("us-east-{number}")).len()).iter().sum();
    assert_eq!(homes_of_region, PARTITIONS as usize, "homes move by planned moves only");
}

#[test]
fn nodes_of_two_regions_may_die_at_once_while_their_regions_are_heard() {
    let mut world = whole();
    world.node("us-east-1").is_up = false;
    world.node("eu-west-2").is_up = false;
    world.run_until(9_000, "served again", |world| {
        is_served(world) && homes(world, "us-east-1").is_empty() && homes(world, "eu-west-2").is_empty()
    });
    assert_eq!(brakes(&world), [""; 0]);
}

#[test]
fn two_nodes_of_one_region_are_one_region_and_fall_in_one_step() {
    let mut world = whole();
    world.node("us-east-1").is_up = false;
    world.run_ms(700);
    world.node("us-east-2").is_up = false;
    let live = |world: &World, name: &str| world.view().node(&node(name)).expect("there").live;
    world.run_until(8_000, "the bump", |world| !live(world, "us-east-1"));
    assert!(!live(&world, "us-east-2"), "both in one step");
    world.run_until(8_000, "served again", is_served);
    assert_eq!(brakes(&world), [""; 0]);
}

#[test]
fn a_node_of_a_healthy_region_that_dies_during_a_regions_failover_does_not_wait_for_it() {
    let mut world = whole();
    for name in ["us-east-1", "us-east-2"] {
        world.node(name).is_up = false;
    }
    world.run_ms(1_500);
    world.node("eu-west-1").is_up = false;
    let bumped = |world: &World, name: &str| !world.view().node(&node(name)).expect("there").live;
    world.run_until(8_000, "the region's bump", |world| bumped(world, "us-east-1"));
    let after = world.run_until(8_000, "the node's bump", |world| bumped(world, "eu-west-1"));
    assert!(after <= SILENCE_MS, "{after} ms");
    world.run_until(10_000, "served again", is_served);
    assert_eq!(brakes(&world), [""; 0]);
}

#[test]
fn a_directory_that_loses_its_links_judges_nobody_whoever_was_heard_last() {
    let mut world = whole();
    // Out of step with each other: somebody is always the first to be silent for too long.
    let names: Vec<NodeId> = world.view().nodes().map(|row| row.node.clone()).collect();
    for name in &names {
        world.boot(name.as_str());
        world.run_ms(150);
    }
    world.run_until(20_000, "everything in sync", World::is_whole);
    for name in &names {
        world.node(name.as_str()).is_cut_off = true;
    }
    world.run_ms(20_000);
    assert!(world.view().nodes().all(|row| row.live));
    assert!(brakes(&world).iter().all(|why| why.contains("regions are silent or failing at once")));
    assert!(!brakes(&world).is_empty());
}

#[test]
fn a_failover_that_needs_more_room_than_there_is_stops() {
    let mut world = whole();
    world.set(|settings| settings.homes_per_node_max = 5);
    for name in ["us-east-1", "us-east-2"] {
        world.node(name).is_up = false;
    }
    world.run_ms(10_000);
    assert!(world.view().nodes().all(|row| row.live));
    assert!(world.pages[0].contains("there is room for 4 of their 8 homes only"), "{:?}", world.pages);
    world.set(|settings| settings.homes_per_node_max = 8);
    world.run_until(10_000, "served again", |world| is_served(world) && homes(world, "us-east-1").is_empty());
}

#[test]
fn a_node_that_retires_gives_its_copies_away_and_is_refused_then() {
    let mut world = whole();
    // Homes leave by planned moves; here its region fails over once, and it comes back without any.
    world.node("us-east-1").is_up = false;
    world.run_until(9_000, "failed over", |world| is_served(world) && homes(world, "us-east-1").is_empty());
    world.boot("us-east-1");
    world.run_until(20_000, "in sync", World::is_whole);
    world.order(retire("us-east-1")).expect("taken");
    world.order(retire("us-east-1")).expect("again");
    world.run_until(60_000, "retired", |world| retirement(world, "us-east-1") == Retirement::Retired);
    assert!(world.is_settled() && copies(&world, "us-east-1").is_empty());
    let again = world.order(Command::Register(crate::testing::registration("us-east-1", 1)));
    assert_eq!(again, Err(Refusal::Register(RegisterError::Retired { node: node("us-east-1") })));
}

#[test]
fn a_home_that_retires_gives_its_partitions_to_others_by_planned_moves() {
    let mut world = whole();
    assert!(!homes(&world, "us-east-1").is_empty());
    world.order(retire("us-east-1")).expect("taken");
    world.run_until(20_000, "moved away", |world| homes(world, "us-east-1").is_empty());
    world.run_until(60_000, "retired", |world| retirement(world, "us-east-1") == Retirement::Retired);
    assert!(world.is_settled() && copies(&world, "us-east-1").is_empty());
    assert_eq!(copies(&world, "us-east-2").len(), 3 * PARTITIONS as usize, "all of it is in sync elsewhere");
    assert!(world.view().partitions().all(|row| row.waiting.is_empty()), "nobody was bumped");
}

#[test]
fn a_node_that_was_to_retire_may_stay_after_all() {
    let mut world = whole();
    world.order(retire("us-east-1")).expect("taken");
    world.run_ms(100);
    assert_eq!(retirement(&world, "us-east-1"), Retirement::Retiring);
    let keep = NodeRetirement { node: node("us-east-1"), keep: true, by: "ann".into() };
    world.order(Command::RetireNode(keep)).expect("it stays");
    world.run_ms(60_000);
    assert_eq!(retirement(&world, "us-east-1"), Retirement::Serving);
    assert!(!copies(&world, "us-east-1").is_empty() && world.is_settled());
}

#[test]
fn a_region_is_added_takes_copies_and_retires_again() {
    let mut world = World::with_partitions(&REGIONS[..2], PARTITIONS, true);
    for name in ["ap-south-1", "eu-west-1"] {
        world.boot(name);
    }
    world.run_until(10_000, "in sync", World::is_settled);
    world.order(Command::AddRegion(wish("us-east"))).expect("added");
    world.order(Command::AddRegion(wish("us-east"))).expect("again");
    world.boot("us-east-1");
    world.run_until(30_000, "three copies of each", World::is_settled);
    assert_eq!(copies(&world, "us-east-1").len(), 2 * PARTITIONS as usize);

    world.order(Command::RetireRegion(wish("us-east"))).expect("taken");
    world.run_until(60_000, "retired", |world| {
        world.view().region(&region("us-east")).expect("there").retirement == Retirement::Retired
    });
    assert!(copies(&world, "us-east-1").is_empty());
    assert!(world.view().partitions().all(|row| row.isr.len() == 2 && row.state == PartitionState::Homed));
    let last = world.order(Command::RetireRegion(wish("ap-south"))).expect_err("two regions stay");
    assert_eq!(
        last.to_string(),
        "region ap-south is one of the last two that serve: nothing would be replicated without it"
    );
}
