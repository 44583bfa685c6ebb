//! What the controller does in the situations it was built for, with the times it takes.

use super::{Plant, RENEW_MS, SILENCE_MS, TTL_MS, World};
use crate::testing::{REGIONS, node, region};
use types::{Epoch, PartitionState, RegionStatus};

const NODES: [&str; 3] = ["ap-south-1", "eu-west-1", "us-east-1"];

/// Three regions with a node each, everything in sync.
fn whole(automatic_failover: bool) -> World {
    let mut world = World::new(&REGIONS, automatic_failover);
    for name in NODES {
        world.boot(name);
    }
    world.run_until(10_000, "everything in sync", World::is_whole);
    world.run_ms(2_000);
    world
}

fn homes(world: &World, name: &str) -> usize {
    let is_home = |row: &&types::PartitionRow| {
        row.state == PartitionState::Homed && row.home.as_ref().is_some_and(|home| home.node == node(name))
    };
    world.view().partitions().filter(is_home).count()
}

fn all_served(world: &World) -> bool {
    world.view().partitions().all(|row| row.state == PartitionState::Homed && row.waiting.is_empty())
}

#[test]
fn a_dead_region_is_served_again_within_the_target_at_any_moment_of_its_renewals() {
    for phase in 0..10 {
        let mut world = whole(true);
        world.run_ms(phase * RENEW_MS / 10);
        world.node("us-east-1").is_up = false;
        let homed = world.run_until(8_000, "new homes", |world| {
            world.view().partitions().all(|row| row.state == PartitionState::Homed)
                && homes(world, "us-east-1") == 0
        });
        let open = homed + world.run_until(8_000, "no more waiting", all_served);
        assert!(homed <= SILENCE_MS + 300, "homed after {homed} ms");
        assert!(open <= 5_000, "open after {open} ms");
        let status = world.view().region(&region("us-east")).expect("there").status;
        assert_eq!(status, RegionStatus::Down);
        assert!(world.pages.is_empty(), "{:?}", world.pages);
    }
}

#[test]
fn a_follower_that_cannot_be_reached_holds_a_failover_up_for_one_timeout_only() {
    let mut world = whole(true);
    // It renews, and answers no fence: the directory's calls to it are lost.
    world.node("us-east-1").is_up = false;
    world.run_until(4_000, "the bump", |world| homes(world, "us-east-1") == 0);
    world.node("eu-west-1").is_paused = true;
    let homed = world.run_until(2_000, "new homes", |world| homes(world, "ap-south-1") == 4);
    assert!(homed <= 1_500, "{homed} ms");
}

#[test]
fn two_silent_regions_stop_automatic_failover_until_one_is_back() {
    let mut world = whole(true);
    for name in ["us-east-1", "eu-west-1"] {
        world.node(name).is_paused = true;
    }
    world.run_ms(10_000);
    assert_eq!(world.view().nodes().filter(|row| row.live).count(), 3, "nobody was judged");
    assert_eq!(
        world.pages,
        [
            "automatic failover has stopped: nodes of 2 regions are silent or failing at once: eu-west, us-east; this ends when one of them is back, or when an operator says which is lost (hearth admin fail-over REGION)"
        ]
    );
    world.node("eu-west-1").is_paused = false;
    world
        .run_until(8_000, "us-east failed over", |world| all_served(world) && homes(world, "us-east-1") == 0);
}

#[test]
fn a_second_region_waits_for_the_failover_of_the_first() {
    let mut world = whole(true);
    // It renews half an interval behind the first, and is heard once more while that one is not.
    world.run_until(RENEW_MS, "half an interval", |world| world.now_ms % RENEW_MS == RENEW_MS / 2);
    world.boot("eu-west-1");
    world.run_until(10_000, "everything in sync", World::is_whole);
    world.run_until(2 * RENEW_MS, "renewals were sent", |world| world.now_ms % RENEW_MS == 100);
    world.node("us-east-1").is_up = false;
    world.run_ms(RENEW_MS * 3 / 2 + 100);
    world.node("eu-west-1").is_up = false;
    world.run_until(5_000, "the second is silent too", |world| !world.pages.is_empty());
    assert_eq!(
        world.pages,
        [
            "automatic failover has stopped: region eu-west is silent or failing while the failover of region us-east is under way"
        ]
    );
    world.run_until(10_000, "both failed over", |world| homes(world, "ap-south-1") == 6);
    for row in world.view().partitions().filter(|row| row.preferred == region("eu-west")) {
        let lost: Vec<_> = row.lost.iter().map(|member| member.node.as_str()).collect();
        assert_eq!(
            lost,
            ["eu-west-1"],
            "us-east has left before; one region is left: the last to go stays, as lost"
        );
    }
}

#[test]
fn a_directory_that_hears_nobody_judges_nobody() {
    let mut world = whole(true);
    for name in NODES {
        world.node(name).is_cut_off = true;
    }
    world.run_ms(20_000);
    assert_eq!(world.view().nodes().filter(|row| row.live).count(), 3);
    for name in NODES {
        world.node(name).is_cut_off = false;
    }
    world.run_ms(2_000);
    assert!(all_served(&world) && world.is_whole());
    assert_eq!(world.pages.len(), 1, "{:?}", world.pages);
}

#[test]
fn a_directory_that_stood_still_judges_nobody_by_that_time() {
    for restarts in [false, true] {
        let mut world = whole(true);
        let before = world.view().clone();
        world.stop_directory(true);
        world.run_ms(30_000);
        if restarts {
            world.restart_directory();
        }
        world.stop_directory(false);
        world.run_ms(10_000);
        assert_eq!(*world.view(), before);
        assert!(world.pages.is_empty(), "{:?}", world.pages);
    }
}

#[test]
fn a_restart_in_the_middle_of_a_failover_goes_on_and_waits_anew() {
    let mut world = whole(true);
    world.node("us-east-1").is_up = false;
    world.run_until(4_000, "the bump", |world| homes(world, "us-east-1") == 0);
    world.restart_directory();
    world.run_until(3_000, "new homes", |world| {
        world.view().partitions().all(|row| row.state == PartitionState::Homed)
    });
    let waited = world.run_until(8_000, "no more waiting", all_served);
    assert!(waited > TTL_MS, "its stamps were lost: it waits from its start, {waited} ms");
}

#[test]
fn one_region_alone_is_never_bumped_and_gets_its_homes_back_after_a_reboot() {
    let mut world = World::new(&["us-east"], true);
    world.boot("us-east-1");
    world.run_until(10_000, "homed", all_served);
    world.node("us-east-1").is_paused = true;
    world.run_ms(6_000);
    assert_eq!(homes(&world, "us-east-1"), 2);
    assert_eq!(
        world.pages,
        [
            "automatic failover has stopped: nodes of region us-east are silent or failing, and none of their partitions has an in-sync replica elsewhere"
        ]
    );
    world.boot("us-east-1");
    world.run_until(8_000, "homed again", all_served);
    assert_eq!(homes(&world, "us-east-1"), 2);
    assert!(world.view().partitions().all(|row| row.epoch == Epoch::new(2)));
}

#[test]
fn partitions_whose_in_sync_set_is_gone_wait_for_it_and_say_so() {
    let mut world = whole(true);
    world.node("us-east-1").is_up = false;
    world.run_until(12_000, "us-east failed over", |world| {
        all_served(world) && homes(world, "us-east-1") == 0
    });
    world.node("eu-west-1").is_up = false;
    world.run_until(12_000, "eu-west failed over", |world| {
        all_served(world) && homes(world, "ap-south-1") == 6
    });
    // What ap-south-1 holds alone, the others having been listed as lost.
    let alone: Vec<_> = world.view().partitions().filter(|row| row.isr.len() == row.lost.len() + 1).collect();
    let alone: Vec<_> = alone.into_iter().map(|row| row.partition).collect();
    assert!(alone.len() >= 2, "{alone:?}");
    world.node("ap-south-1").is_up = false;
    world.run_ms(10_000);
    world.boot("us-east-1");
    world.boot("eu-west-1");
    world.run_ms(10_000);
    let homeless = world.view().partitions().filter(|row| row.state == PartitionState::FailingOver);
    assert_eq!(homeless.map(|row| row.partition).collect::<Vec<_>>(), alone);
    let said = format!("{} partitions have no home", alone.len());
    assert!(world.pages.iter().any(|page| page.starts_with(&said)), "{:?}", world.pages);
    world.boot("ap-south-1");
    world.run_until(20_000, "everything in sync again", World::is_whole);
}

#[test]
fn a_node_that_is_back_is_a_follower_and_joins_by_the_home() {
    let mut world = whole(true);
    world.node("us-east-1").is_up = false;
    world.run_until(12_000, "failed over", |world| all_served(world) && homes(world, "us-east-1") == 0);
    world.boot("us-east-1");
    world.run_until(5_000, "in sync again", World::is_whole);
    assert_eq!(homes(&world, "us-east-1"), 0, "homes come back by planned moves only");
    let back = world.replica_of("us-east-1");
    assert!(world.view().partitions().all(|row| row.isr.contains(&back)));
}

#[test]
fn with_automatic_failover_off_silence_ends_nothing() {
    let mut world = whole(false);
    let before = world.view().clone();
    world.node("us-east-1").is_up = false;
    world.run_ms(20_000);
    assert_eq!(*world.view(), before);
    world.boot("us-east-1");
    world.run_until(8_000, "homed again", World::is_whole);
    assert_eq!(homes(&world, "us-east-1"), 2);
}

/// The home is alive and serves on; only the directory does not hear it, and the followers do or do not.
fn cut_off_home(followers_too: bool, plant: Option<Plant>) {
    let mut world = whole(true);
    if let Some(plant) = plant {
        world.plant(plant);
    }
    world.node("us-east-1").is_cut_off = true;
    for other in ["ap-south-1", "eu-west-1"] {
        world.link("us-east-1", other, followers_too);
    }
    world.run_until(12_000, "failed over", |world| all_served(world) && homes(world, "us-east-1") == 0);
    world.run_ms(2_000);
    world.node("us-east-1").is_cut_off = false;
    for other in ["ap-south-1", "eu-west-1"] {
        world.link("us-east-1", other, false);
    }
    world.boot("us-east-1");
    world.run_until(12_000, "in sync again", World::is_whole);
}

#[test]
fn a_home_that_serves_on_unheard_does_no_harm() {
    cut_off_home(false, None);
    cut_off_home(true, None);
}

#[test]
#[should_panic(expected = "P2")]
fn planted_a_home_that_forgets_to_wait_is_caught() {
    cut_off_home(true, Some(Plant::ForgetsToWait));
}

#[test]
#[should_panic(expected = "an epoch begins where the directory says")]
fn planted_a_fence_that_is_not_kept_is_caught() {
    cut_off_home(false, Some(Plant::KeepsNoFence));
}

#[test]
#[should_panic(expected = "P3")]
fn planted_a_follower_that_is_counted_unmatched_is_caught() {
    cut_off_home(false, Some(Plant::CountsWhatWasSent));
}
