//! Nodes that are about to end.

use super::World;
use crate::{
    controller::leaving,
    simulation::moves::{settled, whole},
};
use types::Home;

impl World {
    /// A node says that it is about to end: how many homes it has, and how many of them could go.
    fn leave(&mut self, name: &str) -> (usize, usize) {
        let node = types::NodeId::new(name).expect("a valid name");
        let incarnation = self.view().node(&node).expect("a row").incarnation;
        let (home, now_ms) = (Home { node, incarnation }, self.now_ms);
        self.state.leave(&home, now_ms).expect("the boot is the current one");
        self.state.look(|view, leases| leaving(view, leases, now_ms, &home))
    }

    /// Goes on saying so until nothing can be given away any more; how long that took.
    fn leave_until_done(&mut self, name: &str) -> u64 {
        let began_ms = self.now_ms;
        while self.leave(name).1 > 0 {
            self.run_ms(100);
            assert!(self.now_ms < began_ms + 10_000, "{name} is not rid of its homes");
        }
        self.now_ms - began_ms
    }
}

#[test]
fn a_node_that_is_about_to_end_gives_its_homes_away_and_gets_none() {
    let mut world = whole();
    let took_ms = world.leave_until_done("us-east-1");
    assert_eq!(world.leave("us-east-1"), (0, 0), "after {took_ms} ms");
    assert!(world.view().partitions().all(|row| row.waiting.is_empty()), "nobody is waited for");
    // The next one does not give it any, either.
    while world.leave("ap-south-1").1 > 0 {
        world.leave("us-east-1");
        world.run_ms(100);
        assert!(world.now_ms < 120_000, "it is not rid of its homes");
    }
    assert_eq!(world.homes_in("eu-west"), 6);
    assert!(world.pages.is_empty(), "{:?}", world.pages);
}

#[test]
fn where_everybody_is_about_to_end_nobody_waits() {
    let mut world = whole();
    for name in ["ap-south-1", "eu-west-1"] {
        world.leave(name);
    }
    assert_eq!(world.leave("us-east-1"), (2, 0));
    assert_eq!(world.leave("ap-south-1").1, 0);
}

#[test]
fn a_node_that_does_not_end_after_all_has_homes_again() {
    let mut world = whole();
    world.settings.failback.on = true;
    world.restart_directory();
    world.leave_until_done("us-east-1");
    world.run_until(60_000, "they come back", |world| world.homes_in("us-east") == 2);
    assert!(settled(&world));
}
