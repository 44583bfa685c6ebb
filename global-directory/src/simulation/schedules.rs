//! Generated faults, with the checks of the simulation after every step.

use super::World;
use crate::testing::REGIONS;
use proptest::prelude::*;

const NODES: [&str; 4] = ["ap-south-1", "eu-west-1", "us-east-1", "us-east-2"];

#[derive(Debug, Clone)]
enum Fault {
    Kill(usize),
    Boot(usize),
    Pause(usize, bool),
    CutOff(usize, bool),
    Link(usize, usize, bool),
    StopDirectory(bool),
    RestartDirectory,
    Delay(u64),
    Drain(usize, bool),
    Move(u32, usize),
}

fn fault() -> impl Strategy<Value = Fault> {
    let node = 0..NODES.len();
    prop_oneof![
        3 => node.clone().prop_map(Fault::Kill),
        4 => node.clone().prop_map(Fault::Boot),
        4 => (node.clone(), any::<bool>()).prop_map(|(node, on)| Fault::Pause(node, on)),
        4 => (node.clone(), any::<bool>()).prop_map(|(node, on)| Fault::CutOff(node, on)),
        4 => (node.clone(), node, any::<bool>()).prop_map(|(a, b, on)| Fault::Link(a, b, on)),
        1 => any::<bool>().prop_map(Fault::StopDirectory),
        1 => Just(Fault::RestartDirectory),
        2 => (0..1_800u64).prop_map(Fault::Delay),
        2 => (0..REGIONS.len(), any::<bool>()).prop_map(|(region, on)| Fault::Drain(region, on)),
        3 => (0..6u32, 0..REGIONS.len()).prop_map(|(partition, region)| Fault::Move(partition, region)),
    ]
}

fn inject(world: &mut World, fault: &Fault) {
    match *fault {
        Fault::Kill(node) => world.node(NODES[node]).is_up = false,
        Fault::Boot(node) => world.boot(NODES[node]),
        Fault::Pause(node, on) => world.node(NODES[node]).is_paused = on,
        Fault::CutOff(node, on) => world.node(NODES[node]).is_cut_off = on,
        Fault::Link(a, b, on) => world.link(NODES[a], NODES[b], on),
        Fault::StopDirectory(on) => world.stop_directory(on),
        Fault::RestartDirectory => world.restart_directory(),
        Fault::Delay(ms) => world.delay_ms = ms,
        Fault::Drain(region, on) => world.drain(REGIONS[region], on),
        Fault::Move(partition, region) => world.wish(partition, REGIONS[region]),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn whatever_fails_nothing_replicated_is_lost_and_no_two_homes_ack(
        faults in prop::collection::vec((fault(), 0..4_000u64), 1..30)
    ) {
        let mut world = World::new(&REGIONS, true);
        for name in NODES {
            world.boot(name);
        }
        world.run_ms(3_000);
        for (fault, then_ms) in &faults {
            inject(&mut world, fault);
            world.run_ms(*then_ms);
        }
        // Everything heals: everything comes back.
        world.stop_directory(false);
        world.delay_ms = 50;
        for (index, name) in NODES.iter().enumerate() {
            world.node(name).is_paused = false;
            world.node(name).is_cut_off = false;
            for other in &NODES[..index] {
                world.link(name, other, false);
            }
        }
        for name in NODES {
            world.boot(name);
        }
        for region in REGIONS {
            world.drain(region, false);
        }
        world.run_until(60_000, "everything is whole again", World::is_whole);
    }
}
