use super::*;
use crate::{
    command::{Command, Promotion},
    testing::{Directory, home},
};
use types::{Epoch, Lsn, PartitionId};

/// Publishes what the last command did.
fn publish(state: &State, directory: &Directory, from_version: u64, registered: Option<&Home>, now_ms: u64) {
    let view = &directory.view;
    let delta = PlacementDelta {
        from_version,
        to_version: view.version(),
        regions: view.regions().cloned().collect(),
        nodes: view.nodes().cloned().collect(),
        partitions: view.partitions().cloned().collect(),
    };
    state.publish(delta, registered, now_ms);
}

#[test]
fn a_bumped_boot_is_refused_for_good_and_its_last_stamp_is_what_is_waited_for() {
    let mut directory = Directory::born(&["eu-west", "us-east"], 1);
    let us = directory.register("us-east-1", 1);
    let first = crate::command::FirstHome { partition: PartitionId::new(1), home: us.clone() };
    directory.run(Command::AssignHomes(vec![first])).expect("homed");
    let state = State::new(directory.view.clone(), 1_000, 0);
    assert_eq!(state.renew(&us, 500), Ok(()));
    let before = directory.view.version();
    directory.run(Command::Bump(vec![us.clone()])).expect("bumped");
    // Committed and not published yet: what is acknowledged now is stamped too.
    assert_eq!(state.renew(&us, 700), Ok(()));
    publish(&state, &directory, before, None, 800);
    let error = state.renew(&us, 900).expect_err("its boot is over");
    assert_eq!(error.to_string(), "incarnation 1 of node us-east-1 is over: 2 is current");
    let error = state.renew(&home("us-east-1", 2), 900).expect_err("nobody booted with it");
    assert_eq!(error.to_string(), "incarnation 2 of node us-east-1 is over: 2 is current");
    state.look(|_, leases| {
        assert!(!leases.is_waited_out(&us, 1_899));
        assert!(leases.is_waited_out(&us, 1_900));
    });
}

#[test]
fn a_restart_presumes_that_everyone_renewed_just_now_and_those_waited_for_too() {
    let mut directory = Directory::born(&["eu-west", "us-east"], 1);
    let us = directory.register("us-east-1", 1);
    let first = crate::command::FirstHome { partition: PartitionId::new(1), home: us.clone() };
    directory.run(Command::AssignHomes(vec![first])).expect("homed");
    let again = directory.register("us-east-1", 1);
    let next = Promotion {
        partition: PartitionId::new(1),
        epoch: Epoch::FIRST,
        home: again.clone(),
        start_lsn: Lsn::FIRST,
    };
    directory.run(Command::Promote(vec![next])).expect("promoted");
    let state = State::new(directory.view.clone(), 1_000, 10_000);
    state.look(|_, leases| {
        for boot in [&us, &again] {
            assert_eq!(leases.silent_ms(boot, 10_200), Some(200));
            assert!(!leases.heard_within(boot, 1_000, 10_200), "nobody has spoken yet");
        }
    });
    let before = directory.view.version();
    directory.run(Command::ClearWaiting(vec![us.clone()])).expect("cleared");
    publish(&state, &directory, before, None, 11_200);
    state.look(|_, leases| assert_eq!(leases.silent_ms(&us, 11_300), None, "nobody asks for it any more"));
}
