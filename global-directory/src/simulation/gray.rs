//! Failures that renewals do not tell: canaries between the nodes, and what follows from them.

use super::{RENEW_MS, SILENCE_MS, World};
use crate::{
    command::{Command, EmergencyError, FailOverWish, Refusal},
    controller::Brake,
    testing::{node, region},
};
use std::collections::BTreeMap;
use types::{Home, NodeId, PartitionState};

impl World {
    /// Every node tries every node of other regions; what is acked is acked at once.
    pub(super) fn send_canaries(&mut self) {
        let view = &self.directory.view;
        let live = || view.nodes().filter(|row| row.live);
        for observer in live() {
            for watched in live().filter(|watched| watched.region != observer.region) {
                let home = Home { node: watched.node.clone(), incarnation: watched.incarnation };
                let link = (observer.node.clone(), watched.node.clone());
                let is_acked = self.nodes[&watched.node].is_leased(self.now_ms) && !self.cut.contains(&link);
                let key = (observer.node.clone(), home);
                if is_acked || !self.nodes[&observer.node].is_running() {
                    self.failing_since_ms.remove(&key);
                } else {
                    self.failing_since_ms.entry(key).or_insert(self.now_ms);
                }
            }
        }
    }

    /// What an observer tells with its renewal.
    pub(super) fn observed(&self, observer: &NodeId) -> BTreeMap<Home, u64> {
        let own = self.view().node(observer).map(|row| &row.region);
        let watched = self.view().nodes().filter(|row| row.live && Some(&row.region) != own);
        let told = watched.map(|row| {
            let home = Home { node: row.node.clone(), incarnation: row.incarnation };
            let since_ms = self.failing_since_ms.get(&(observer.clone(), home.clone()));
            (home, since_ms.map_or(0, |since_ms| (self.now_ms - since_ms).max(1)))
        });
        told.collect()
    }

    /// Cuts a node off from all nodes of other regions, or ends that; it goes on to renew.
    fn isolate(&mut self, name: &str, is_cut: bool) {
        let own = self.view().node(&node(name)).expect("registered").region.clone();
        let others = self.view().nodes().filter(|row| row.region != own).map(|row| row.node.to_string());
        for other in others.collect::<Vec<_>>() {
            self.link(name, &other, is_cut);
        }
    }
}

/// Regions of one node each, everything in sync and leased for long.
fn whole(regions: &[&str]) -> World {
    let mut world = World::new(regions, true);
    for region in regions {
        world.boot(&format!("{region}-1"));
    }
    let copies = regions.len().min(crate::bounds::REPLICATION_FACTOR);
    world.run_until(20_000, "everything in sync", |world| {
        all_served(world) && world.view().partitions().all(|row| row.isr.len() == copies)
    });
    world.run_ms(5_000);
    world
}

const THREE: [&str; 3] = ["ap-south", "eu-west", "us-east"];
const FIVE: [&str; 5] = ["ap-south", "eu-west", "sa-east", "us-east", "us-west"];

fn homes(world: &World, name: &str) -> usize {
    let rows = world.view().partitions().filter(|row| row.has_home());
    rows.filter(|row| row.home.as_ref().is_some_and(|home| home.node == node(name))).count()
}

fn all_served(world: &World) -> bool {
    world.view().partitions().all(|row| row.state == PartitionState::Homed && row.waiting.is_empty())
}

fn bumps(world: &World) -> usize {
    world.directory.events().iter().filter(|event| event.starts_with("bumped")).count()
}

#[test]
fn a_region_that_renews_and_acks_nothing_is_failed_over_once_and_gets_nothing_while_it_lasts() {
    let mut world = whole(&THREE);
    world.isolate("us-east-1", true);
    let bumped = world.run_until(8_000, "the verdict", |world| homes(world, "us-east-1") == 0);
    assert!((SILENCE_MS..=SILENCE_MS + RENEW_MS + 500).contains(&bumped), "{bumped} ms");
    let told = world.directory.events();
    let told = told.iter().find(|event| event.starts_with("no canary was acked by us-east-1"));
    assert!(told.is_some_and(|told| told.ends_with("as seen from ap-south, eu-west")), "{told:?}");
    // Its renewal is refused, and it registers anew.
    world.boot("us-east-1");
    world.run_until(8_000, "served elsewhere", all_served);
    world.set(|settings| settings.failback.on = true);
    world.run_ms(30_000);
    assert_eq!(
        (homes(&world, "us-east-1"), bumps(&world)),
        (0, 1),
        "it has nothing that could be taken away"
    );
    assert!(world.pages.is_empty(), "{:?}", world.pages);

    world.isolate("us-east-1", false);
    world.run_until(60_000, "its partitions are back, by planned moves", |world| {
        world.is_whole() && homes(world, "us-east-1") == 2
    });
    assert_eq!(bumps(&world), 1);
}

#[test]
fn an_observer_that_reaches_nobody_judges_nobody() {
    let mut world = whole(&THREE);
    let before: Vec<_> = world.view().partitions().map(|row| (row.epoch, row.home.clone())).collect();
    // What it sends is lost; others reach it.
    for other in ["eu-west-1", "us-east-1"] {
        world.cut.insert((node("ap-south-1"), node(other)));
    }
    world.run_ms(20_000);
    let after: Vec<_> = world.view().partitions().map(|row| (row.epoch, row.home.clone())).collect();
    assert_eq!(after, before);
    assert!(world.pages.is_empty(), "{:?}", world.pages);
}

#[test]
fn canaries_that_are_switched_off_end_nothing() {
    let mut world = whole(&THREE);
    world.set(|settings| settings.canary_failover = false);
    world.isolate("us-east-1", true);
    world.run_ms(20_000);
    assert_eq!((homes(&world, "us-east-1"), bumps(&world)), (2, 0));
}

#[test]
fn a_new_leader_counts_only_what_it_was_told_itself() {
    let mut world = whole(&THREE);
    world.isolate("us-east-1", true);
    world.run_ms(SILENCE_MS - 500);
    world.restart_directory();
    world.run_ms(SILENCE_MS - 100);
    assert_eq!(homes(&world, "us-east-1"), 2, "what was told before it began counts for nothing");
    world.run_until(3_000, "the verdict", |world| homes(world, "us-east-1") == 0);
}

#[test]
fn two_regions_that_fail_at_once_stop_automatic_failover_until_one_is_well() {
    let mut world = whole(&FIVE);
    for name in ["us-east-1", "eu-west-1"] {
        world.isolate(name, true);
    }
    world.run_ms(15_000);
    assert_eq!(bumps(&world), 0);
    let brake = Brake::SeveralRegions(vec![region("eu-west"), region("us-east")]);
    assert_eq!(world.controller.brake(), Some(&brake));
    assert_eq!(world.pages, [format!("automatic failover has stopped: {brake}")]);
    world.isolate("eu-west-1", false);
    world.link("eu-west-1", "us-east-1", true);
    world.run_until(8_000, "the other is failed over", |world| homes(world, "us-east-1") == 0);
    assert_eq!((homes(&world, "eu-west-1"), bumps(&world)), (2, 1));
}

#[test]
fn a_second_region_that_fails_waits_for_the_failover_of_the_first() {
    let mut world = whole(&FIVE);
    world.isolate("us-east-1", true);
    world.run_until(8_000, "the verdict", |world| homes(world, "us-east-1") == 0);
    world.boot("us-east-1");
    world.node("eu-west-1").is_up = false;
    world.run_until(5_000, "the second is suspect", |world| world.controller.brake().is_some());
    let brake = Brake::UnderWay { suspect: region("eu-west"), under_way: region("us-east") };
    assert_eq!(world.controller.brake(), Some(&brake), "although the first has registered anew");
    world.run_until(15_000, "both are failed over", |world| {
        all_served(world) && homes(world, "eu-west-1") == 0
    });
}

#[test]
fn an_operator_says_which_of_two_silent_regions_is_lost() {
    let mut world = whole(&THREE);
    for name in ["us-east-1", "eu-west-1"] {
        world.node(name).is_up = false;
    }
    world.run_ms(10_000);
    assert!(matches!(world.controller.brake(), Some(Brake::SeveralRegions(_))));
    let wish = |name: &str| Command::FailOver(FailOverWish { region: region(name), by: "olga".into() });
    world.order(wish("us-east")).expect("taken");
    let again = world.order(wish("us-east")).expect_err("nothing is left to be failed over");
    assert_eq!(again, Refusal::Emergency(EmergencyError::NothingLive(region("us-east"))));
    world.run_until(20_000, "the other one follows by itself", |world| homes(world, "ap-south-1") == 6);
    assert!(world.directory.events().iter().any(|event| event.contains("region us-east is failed over")));
}
