//! Each command by itself, and generated sequences of all of them.

mod emergency;
mod generated;
mod moving;
mod names;
mod rehome;

use super::*;
use crate::testing::{Directory, REGIONS, home, member, node, region, registration};
use types::{
    Epoch, Generation, LogId, Lsn, Offset, PartitionId, PartitionState, PinSegment, RegionId, RegionStatus,
    Replica,
};

const P0: PartitionId = PartitionId::new(0);

/// Partition 0 prefers ap-south and is homed there; all three nodes are in sync.
fn in_sync() -> Directory {
    let mut directory = Directory::born(&REGIONS, 1);
    for (name, store) in [("ap-south-1", 1), ("eu-west-1", 2), ("us-east-1", 3)] {
        directory.register(name, store);
    }
    let first = FirstHome { partition: P0, home: home("ap-south-1", 1) };
    assert_eq!(directory.run(Command::AssignHomes(vec![first])), Ok(Answer::Applied(1)));
    let copies = [("eu-west-1", 2), ("us-east-1", 3)]
        .map(|(name, store)| NewReplica { partition: P0, replica: member(name, store) });
    assert_eq!(directory.run(Command::AddReplicas(copies.to_vec())), Ok(Answer::Applied(2)));
    let isr = vec![member("ap-south-1", 1), member("eu-west-1", 2), member("us-east-1", 3)];
    assert_eq!(directory.run(propose(&directory, isr, vec![])), Ok(Answer::IsrVersion(2)));
    directory
}

fn propose(directory: &Directory, isr: Vec<Replica>, lost: Vec<Replica>) -> Command {
    let row = directory.row(0);
    Command::ProposeIsr(IsrProposal {
        partition: P0,
        epoch: row.epoch,
        home: row.home.clone().expect("homed"),
        isr_version: row.isr_version,
        isr,
        lost,
        watermark: Lsn::ZERO,
    })
}

fn promotion(directory: &Directory, name: &str, incarnation: u64, start_lsn: u64) -> Promotion {
    Promotion {
        partition: P0,
        epoch: directory.row(0).epoch,
        home: home(name, incarnation),
        start_lsn: Lsn::new(start_lsn),
    }
}

#[test]
fn a_bump_ends_homes_and_a_promotion_names_the_next_at_a_higher_epoch() {
    let mut directory = in_sync();
    let before = directory.row(0).clone();
    assert_eq!(directory.run(Command::Bump(vec![home("ap-south-1", 1)])), Ok(Answer::Applied(1)));
    let row = directory.row(0);
    assert_eq!((row.state, row.epoch), (PartitionState::FailingOver, before.epoch));
    assert_eq!(row.waiting, [home("ap-south-1", 1)]);
    let down = directory.view.region(&region("ap-south")).expect("there");
    assert_eq!(down.status, RegionStatus::Down);

    let next = promotion(&directory, "us-east-1", 1, 8);
    assert_eq!(directory.run(Command::Promote(vec![next])), Ok(Answer::Applied(1)));
    let row = directory.row(0);
    assert_eq!((row.state, row.epoch, row.start_lsn()), (PartitionState::Homed, Epoch::new(2), Lsn::new(8)));
    assert_eq!(row.isr, [member("eu-west-1", 2), member("us-east-1", 3)]);
    assert!(row.lost.is_empty() && row.isr_version > before.isr_version);
    assert_eq!(row.waiting, [home("ap-south-1", 1)], "inherited");

    assert_eq!(directory.run(Command::ClearWaiting(vec![home("ap-south-1", 1)])), Ok(Answer::Applied(1)));
    assert!(directory.row(0).waiting.is_empty());
}

#[test]
fn a_dead_member_without_which_one_region_remains_stays_as_lost() {
    let mut directory = in_sync();
    let two = vec![member("ap-south-1", 1), member("us-east-1", 3)];
    directory.run(propose(&directory, two.clone(), vec![])).expect("two regions remain");
    directory.run(Command::Bump(vec![home("ap-south-1", 1)])).expect("bumped");
    directory.run(Command::Promote(vec![promotion(&directory, "us-east-1", 1, 5)])).expect("promoted");
    assert_eq!((&directory.row(0).isr, directory.row(0).lost.as_slice()), (&two, &two[..1]));

    // While it is lost it cannot be promoted, whatever it claims to hold.
    directory.register("ap-south-1", 1);
    directory.run(Command::Bump(vec![home("us-east-1", 1)])).expect("bumped");
    let lost = promotion(&directory, "ap-south-1", 3, 9);
    assert_eq!(directory.run(Command::Promote(vec![lost])), Ok(Answer::Applied(0)));
}

#[test]
fn a_boot_ends_the_homes_of_the_one_before_and_is_no_proof_of_its_end() {
    let mut directory = in_sync();
    let again = directory.register("ap-south-1", 1);
    assert_eq!(again, home("ap-south-1", 2));
    let row = directory.row(0);
    assert_eq!(
        (row.state, row.waiting.as_slice()),
        (PartitionState::FailingOver, &[home("ap-south-1", 1)][..])
    );
    assert_eq!(row.isr.len(), 3, "it still holds what it held");
    directory.run(Command::Promote(vec![promotion(&directory, "ap-south-1", 2, 1)])).expect("promoted");
    assert_eq!(directory.row(0).home, Some(again));
    assert_eq!(directory.row(0).isr.len(), 3);
}

#[test]
fn another_store_is_another_replica() {
    let mut directory = in_sync();
    directory.register("eu-west-1", 9);
    let row = directory.row(0);
    assert!(
        row.replicas.contains(&member("eu-west-1", 9)) && !row.replicas.contains(&member("eu-west-1", 2))
    );
    assert_eq!(row.isr, [member("ap-south-1", 1), member("us-east-1", 3)]);
    directory.register("us-east-1", 8);
    let row = directory.row(0);
    assert_eq!(row.isr, [member("ap-south-1", 1), member("us-east-1", 3)], "two regions, always");
    assert_eq!(row.lost, [member("us-east-1", 3)]);

    // The new store may join in place of the lost one.
    let isr = vec![member("ap-south-1", 1), member("us-east-1", 8)];
    directory.run(propose(&directory, isr.clone(), vec![])).expect("accepted");
    assert_eq!((&directory.row(0).isr, directory.row(0).lost.len()), (&isr, 0));
}

#[test]
fn a_home_that_lost_its_store_and_was_alone_leaves_nobody_to_promote() {
    let mut directory = Directory::born(&["us-east"], 1);
    directory.register("us-east-1", 1);
    let first = FirstHome { partition: P0, home: home("us-east-1", 1) };
    directory.run(Command::AssignHomes(vec![first])).expect("homed");
    directory.register("us-east-1", 2);
    let row = directory.row(0);
    assert_eq!((&row.isr, &row.lost), (&vec![member("us-east-1", 1)], &vec![member("us-east-1", 1)]));
    let refill = promotion(&directory, "us-east-1", 2, 1);
    assert_eq!(directory.run(Command::Promote(vec![refill])), Ok(Answer::Applied(0)));
}

#[test]
fn a_bumped_follower_leaves_each_in_sync_set_that_spans_two_regions_without_it() {
    let mut directory = in_sync();
    let before = directory.row(0).clone();
    directory.run(Command::Bump(vec![home("eu-west-1", 1)])).expect("bumped");
    let row = directory.row(0);
    assert_eq!((row.state, &row.home), (PartitionState::Homed, &before.home));
    assert_eq!(row.isr, [member("ap-south-1", 1), member("us-east-1", 3)]);
    assert!(row.isr_version > before.isr_version);

    let before = directory.row(0).clone();
    directory.run(Command::Bump(vec![home("us-east-1", 1)])).expect("bumped");
    assert_eq!(directory.row(0), &before, "the last follower stays: it may be all that is left to promote");
}

#[test]
fn a_bump_is_all_or_nothing() {
    let mut directory = in_sync();
    let before = directory.view.clone();
    let boots = vec![home("ap-south-1", 1), home("eu-west-1", 7)];
    let refusal = directory.run(Command::Bump(boots)).expect_err("eu-west-1 is in incarnation 1");
    assert_eq!(refusal.to_string(), "node eu-west-1 was to be bumped in incarnation 7, and has 1");
    assert_eq!(directory.view, before);
}

#[test]
fn a_proposal_is_refused_unless_it_is_made_by_the_home_on_top_of_what_is_in_force() {
    let mut directory = in_sync();
    let [ap, eu, us] = [member("ap-south-1", 1), member("eu-west-1", 2), member("us-east-1", 3)];
    let shrunk = propose(&directory, vec![ap.clone(), eu.clone()], vec![]);
    directory.run(shrunk.clone()).expect("accepted");
    let moved = directory.run(shrunk.clone()).expect_err("the version has moved on");
    assert_eq!(moved.to_string(), "partition 0 has moved on: isr version is 3, and the proposal has 2");
    let refused = |directory: &mut Directory, isr: Vec<Replica>, lost: Vec<Replica>, why: &str| {
        let command = propose(directory, isr, lost);
        let refusal = directory.run(command).expect_err(why);
        assert!(refusal.to_string().contains(why), "{refusal}");
    };
    refused(&mut directory, vec![ap.clone()], vec![], "would span ap-south only");
    refused(
        &mut directory,
        vec![eu.clone(), us.clone()],
        vec![],
        "ap-south-1 is the home and not in the set",
    );
    refused(&mut directory, vec![ap.clone(), eu.clone(), eu.clone()], vec![], "named twice");
    refused(&mut directory, vec![ap.clone(), member("eu-west-1", 7)], vec![], "no replica with that store");
    refused(&mut directory, vec![ap.clone(), eu.clone()], vec![us.clone()], "without being in the set");
    refused(&mut directory, vec![ap.clone(), eu.clone()], vec![ap.clone()], "the home and listed as lost");
    refused(&mut directory, vec![ap.clone(), eu.clone(), us.clone()], vec![us], "cannot join as lost");

    let grown = propose(&directory, vec![ap, eu], vec![]);
    directory.run(Command::Bump(vec![home("ap-south-1", 1)])).expect("bumped");
    let over = directory.run(grown).expect_err("its boot is over");
    assert!(over.to_string().contains("home is failing over"), "{over}");
}

#[test]
fn a_stale_promotion_changes_nothing() {
    let mut directory = in_sync();
    let alive = promotion(&directory, "eu-west-1", 1, 3);
    assert_eq!(directory.run(Command::Promote(vec![alive])), Ok(Answer::Applied(0)), "it has a home");
    directory.run(Command::Bump(vec![home("ap-south-1", 1)])).expect("bumped");
    let good = promotion(&directory, "eu-west-1", 1, 3);
    let other_boot = Promotion { home: home("eu-west-1", 2), ..good.clone() };
    let other_epoch = Promotion { epoch: Epoch::new(7), ..good.clone() };
    let cut_short = Promotion { start_lsn: Lsn::ZERO, ..good.clone() };
    let not_live = Promotion { home: home("ap-south-1", 2), ..good.clone() };
    let stale = vec![other_boot, other_epoch, cut_short, not_live];
    assert_eq!(directory.run(Command::Promote(stale)), Ok(Answer::Applied(0)));
    assert_eq!(directory.run(Command::Promote(vec![good.clone(), good])), Ok(Answer::Applied(1)));
}

#[test]
fn only_a_boot_that_is_over_can_be_waited_out() {
    let mut directory = in_sync();
    directory.run(Command::Bump(vec![home("ap-south-1", 1)])).expect("bumped");
    let live = vec![home("ap-south-1", 2), home("us-east-1", 1)];
    assert_eq!(directory.run(Command::ClearWaiting(live)), Ok(Answer::Applied(0)));
}

#[test]
fn a_log_is_pinned_once_where_its_creator_is() {
    let mut directory = in_sync();
    let log = LogId::group([1; 16]);
    let wish = |region_name: &str| PinWish { log, region: region(region_name), allowed_regions: vec![] };
    assert_eq!(directory.run(Command::Pin(vec![wish("ap-south"), wish("us-east")])), Ok(Answer::Applied(1)));
    assert_eq!(directory.run(Command::Pin(vec![wish("us-east")])), Ok(Answer::Applied(0)));
    let segment = PinSegment { generation: Generation::FIRST, partition: P0, first_offset: Offset::FIRST };
    assert_eq!(directory.pin_of(log).expect("pinned").segments, [segment]);
}

#[test]
fn a_log_follows_homes_and_where_there_are_none_the_preference() {
    let mut directory = in_sync();
    directory.run(Command::Bump(vec![home("ap-south-1", 1)])).expect("bumped");
    let pin = |directory: &mut Directory, key: u8, region_name: &str| {
        let log = LogId::group([key; 16]);
        let wish = PinWish { log, region: region(region_name), allowed_regions: vec![] };
        directory.run(Command::Pin(vec![wish])).expect("pinned");
        directory.pin_of(log).expect("pinned").segments[0].partition
    };
    assert_eq!(pin(&mut directory, 1, "ap-south"), P0, "it prefers ap-south, though it has no home");
    directory.run(Command::Promote(vec![promotion(&directory, "us-east-1", 1, 1)])).expect("promoted");
    assert_eq!(pin(&mut directory, 2, "us-east"), P0, "homed there now; its own is vacant");
    assert_eq!(pin(&mut directory, 3, "eu-west"), PartitionId::new(1), "vacant, but preferred");
}

#[test]
fn a_restricted_log_gets_a_restricted_partition_or_a_refusal() {
    let mut directory = in_sync();
    let log = LogId::group([1; 16]);
    let wish = |allowed: &[&str]| {
        let allowed_regions = allowed.iter().map(|name| region(name)).collect();
        Command::Pin(vec![PinWish { log, region: region("ap-south"), allowed_regions }])
    };
    let refusal = directory.run(wish(&["ap-south", "eu-west"])).expect_err("every partition may be anywhere");
    assert!(refusal.to_string().contains("may be held in ap-south, eu-west only"), "{refusal}");
    assert_eq!(directory.pin_of(log), None);
    let refusal = directory.run(wish(&["mars"])).expect_err("no such region");
    assert_eq!(refusal.to_string(), "region mars is not one of this deployment's");
    assert_eq!(directory.run(wish(&REGIONS)), Ok(Answer::Applied(1)), "all regions are no restriction");
}

#[test]
fn a_node_cannot_change_its_region_or_join_an_unknown_one() {
    let mut directory = in_sync();
    let mut wanted = registration("us-east-1", 3);
    wanted.region = region("eu-west");
    let refusal = directory.run(Command::Register(wanted)).expect_err("it is of us-east");
    assert_eq!(refusal.to_string(), "node us-east-1 is of region us-east, and region eu-west claims it");
    let refusal = directory.run(Command::Register(registration("mars-1", 3))).expect_err("no such region");
    assert!(refusal.to_string().contains("ap-south, eu-west, us-east"), "{refusal}");
    assert_eq!(directory.view.node(&node("mars-1")), None);
}

#[test]
fn a_deployment_is_the_one_that_was_born() {
    let directory = in_sync();
    let again = |regions: &[&str], partitions_per_region| {
        let regions = regions.iter().map(|name| region(name)).collect();
        let deployment = Deployment { regions, partitions_per_region };
        let mut answer = None;
        crate::kv::Kv::write(&directory.kv, &mut |tx| {
            answer = Some(found(tx, &deployment, 0));
            Ok(())
        })
        .expect("committed");
        answer.expect("it ran")
    };
    assert!(!again(&["us-east", "eu-west", "ap-south"], 1).expect("the same, in another order"));
    let error = again(&REGIONS, 2).expect_err("another number");
    assert!(error.to_string().contains("is 2, and this deployment was born with 1"), "{error}");
    let error = again(&["us-east"], 1).expect_err("other regions");
    assert!(error.to_string().contains("[\"us-east\"]"), "{error}");
}

#[test]
fn answers_are_remembered_up_to_a_number_and_an_age() {
    let mut directory = in_sync();
    let first = directory.next_request();
    let register = Command::Register(registration("us-east-1", 3));
    let answer = directory.run_as(first, register.clone()).expect("registered");
    assert_eq!(directory.run_as(first, register.clone()), Ok(answer));
    let at = |at_ms: u64, request: RequestId| {
        let envelope = Envelope { request, at_ms, command: register.clone() };
        let mut answer = None;
        crate::kv::Kv::write(&directory.kv, &mut |tx| {
            answer = Some(execute(tx, &envelope).expect("carried out").answer);
            Ok(())
        })
        .expect("committed");
        answer.expect("it ran")
    };
    let late = crate::bounds::REMEMBERED_MS + 1;
    let other = |number: u64| RequestId::from_bytes((u128::MAX - u128::from(number)).to_be_bytes());
    for number in 0..8 {
        at(late, other(number));
    }
    assert_eq!(at(late, first), answer, "a clock that is ahead makes nothing old by itself");
    for number in 8..8 + crate::bounds::REMEMBERED_MIN {
        at(late, other(number));
    }
    assert_ne!(at(late, first), answer, "it is a new command by now");
}
