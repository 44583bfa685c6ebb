//! Planned moves and drains, command by command.

use super::*;
use types::{MoveCause, MoveId};

const FIRST: MoveId = MoveId::new(1);

fn begin(directory: &mut Directory, name: &str, cause: MoveCause) -> Result<Answer, Refusal> {
    let target =
        directory.view.node(&node(name)).map_or(home(name, 1), |row| home(name, row.incarnation.get()));
    directory.run(Command::BeginMove(NewMove { partition: P0, target, cause, by: "ann".into() }))
}

fn finish(directory: &mut Directory, id: MoveId, seal: u64) -> Result<Answer, Refusal> {
    let epoch = directory.row(0).epoch;
    directory.run(Command::FinishMove(SealedMove { partition: P0, id, epoch, seal: Lsn::new(seal) }))
}

fn abort(directory: &mut Directory, id: Option<MoveId>) -> Result<Answer, Refusal> {
    let (by, why) = ("ann".into(), "she said so".into());
    directory.run(Command::AbortMove(AbortedMove { partition: P0, id, by, why }))
}

fn move_error(result: Result<Answer, Refusal>) -> MoveError {
    match result {
        Err(Refusal::Move(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_move_leads_to_the_target_at_the_next_epoch_behind_the_seal() {
    let mut directory = in_sync();
    let before = directory.row(0).clone();
    assert_eq!(begin(&mut directory, "us-east-1", MoveCause::Operator), Ok(Answer::Moving(FIRST)));
    let row = directory.row(0);
    assert_eq!((row.state, row.epoch, &row.home), (PartitionState::Draining, before.epoch, &before.home));
    assert_eq!(finish(&mut directory, FIRST, 40), Ok(Answer::Done));
    let row = directory.row(0);
    assert_eq!((row.state, row.epoch, row.start_lsn()), (PartitionState::Homed, Epoch::new(2), Lsn::new(41)));
    assert_eq!(row.home, Some(home("us-east-1", 1)));
    assert_eq!(
        (&row.isr, row.waiting.len()),
        (&before.isr, 0),
        "the source stays a member; nobody is waited for"
    );
    assert!(row.isr_version > before.isr_version && row.stays);
    assert_eq!(move_error(finish(&mut directory, FIRST, 40)), MoveError::Over { partition: P0, id: FIRST });
    assert_eq!(move_error(abort(&mut directory, None)), MoveError::NotMoving(P0));
}

#[test]
fn where_an_operator_has_put_a_partition_counts_no_more_once_it_has_failed_over() {
    let mut directory = in_sync();
    begin(&mut directory, "us-east-1", MoveCause::Operator).expect("begun");
    finish(&mut directory, FIRST, 40).expect("moved");
    directory.run(Command::Bump(vec![home("us-east-1", 1)])).expect("a boot");
    assert!(directory.row(0).stays);
    let next = promotion(&directory, "eu-west-1", 1, 50);
    assert_eq!(directory.run(Command::Promote(vec![next])), Ok(Answer::Applied(1)));
    assert!(!directory.row(0).stays, "it goes home by itself");
}

#[test]
fn a_move_that_is_given_up_raises_the_epoch_and_a_late_seal_changes_nothing() {
    let mut directory = in_sync();
    begin(&mut directory, "us-east-1", MoveCause::Drain).expect("begun");
    let other = MoveId::new(9);
    assert_eq!(move_error(abort(&mut directory, Some(other))), MoveError::Over { partition: P0, id: other });
    assert_eq!(abort(&mut directory, Some(FIRST)), Ok(Answer::Done));
    let row = directory.row(0);
    assert_eq!((row.state, row.epoch), (PartitionState::Homed, Epoch::new(2)));
    assert_eq!((&row.home, row.moving.is_none()), (&Some(home("ap-south-1", 1)), true));
    assert_eq!(move_error(finish(&mut directory, FIRST, 40)), MoveError::Over { partition: P0, id: FIRST });
}

#[test]
fn only_a_living_member_in_sync_whose_region_takes_homes_is_a_target() {
    let mut directory = in_sync();
    let why = |result| match move_error(result) {
        MoveError::Target { why, .. } => why,
        other => panic!("{other}"),
    };
    assert_eq!(why(begin(&mut directory, "ap-south-1", MoveCause::Operator)), "it is homed there");
    assert_eq!(why(begin(&mut directory, "mars-1", MoveCause::Operator)), "there is no such node");
    let two = vec![member("ap-south-1", 1), member("eu-west-1", 2)];
    directory.run(propose(&directory, two, vec![])).expect("us-east has left");
    assert_eq!(why(begin(&mut directory, "us-east-1", MoveCause::Operator)), "it is not in sync");
    directory
        .run(Command::Drain(RegionWish { region: region("eu-west"), by: "ann".into() }))
        .expect("drained");
    assert_eq!(why(begin(&mut directory, "eu-west-1", MoveCause::Operator)), "its region takes no homes");
    directory
        .run(Command::Undrain(RegionWish { region: region("eu-west"), by: "ann".into() }))
        .expect("back");
    directory.register("eu-west-1", 2);
    let stale = NewMove {
        partition: P0,
        target: home("eu-west-1", 1),
        cause: MoveCause::Operator,
        by: String::new(),
    };
    assert_eq!(why(directory.run(Command::BeginMove(stale))), "its boot is over");
    begin(&mut directory, "eu-west-1", MoveCause::Operator).expect("begun");
    let again = move_error(begin(&mut directory, "eu-west-1", MoveCause::Operator));
    assert_eq!(again, MoveError::UnderWay { partition: P0, target: node("eu-west-1"), id: FIRST });
}

#[test]
fn a_target_that_has_gone_or_left_the_set_does_not_become_home() {
    for leaves in [false, true] {
        let mut directory = in_sync();
        begin(&mut directory, "us-east-1", MoveCause::Drain).expect("begun");
        if leaves {
            let two = vec![member("ap-south-1", 1), member("eu-west-1", 2)];
            directory.run(propose(&directory, two, vec![])).expect("the source still proposes");
        } else {
            directory.run(Command::Bump(vec![home("us-east-1", 1)])).expect("bumped");
        }
        assert!(matches!(move_error(finish(&mut directory, FIRST, 40)), MoveError::Target { .. }));
        assert_eq!(abort(&mut directory, Some(FIRST)), Ok(Answer::Done));
    }
}

#[test]
fn the_end_of_the_source_ends_the_move_and_is_waited_for() {
    for reboots in [false, true] {
        let mut directory = in_sync();
        begin(&mut directory, "us-east-1", MoveCause::Operator).expect("begun");
        if reboots {
            directory.register("ap-south-1", 1);
        } else {
            directory.run(Command::Bump(vec![home("ap-south-1", 1)])).expect("bumped");
        }
        let row = directory.row(0);
        assert_eq!((row.state, row.moving.is_none()), (PartitionState::FailingOver, true));
        assert_eq!(row.waiting, [home("ap-south-1", 1)]);
        assert_eq!(
            move_error(finish(&mut directory, FIRST, 40)),
            MoveError::Over { partition: P0, id: FIRST }
        );
        directory.run(Command::Promote(vec![promotion(&directory, "us-east-1", 1, 41)])).expect("promoted");
        assert_eq!(move_error(begin(&mut directory, "eu-west-1", MoveCause::Drain)), MoveError::Waiting(P0));
    }
}

#[test]
fn what_is_no_seal_of_the_epoch_in_force_finishes_nothing() {
    let mut directory = in_sync();
    begin(&mut directory, "us-east-1", MoveCause::Operator).expect("begun");
    for (epoch, seal) in [(2, 40), (0, 40), (1, 0)] {
        let sealed = SealedMove { partition: P0, id: FIRST, epoch: Epoch::new(epoch), seal: Lsn::new(seal) };
        let refusal = move_error(directory.run(Command::FinishMove(sealed)));
        assert!(matches!(refusal, MoveError::NotItsSeal { .. }), "{refusal}");
    }
}

#[test]
fn a_region_stays_drained_while_it_is_off_and_the_last_one_is_not_drained() {
    let mut directory = in_sync();
    let wish = |name: &str| RegionWish { region: region(name), by: "ann".into() };
    let status =
        |directory: &Directory, name: &str| directory.view.region(&region(name)).expect("there").status;
    for name in ["eu-west", "us-east", "us-east"] {
        assert_eq!(directory.run(Command::Drain(wish(name))), Ok(Answer::Done));
    }
    let last = RegionError::Last(region("ap-south"));
    assert_eq!(directory.run(Command::Drain(wish("ap-south"))), Err(Refusal::Region(last)));
    assert!(matches!(
        directory.run(Command::Drain(wish("mars"))),
        Err(Refusal::Region(RegionError::Unknown { .. }))
    ));
    directory.run(Command::Bump(vec![home("us-east-1", 1)])).expect("bumped");
    directory.register("us-east-1", 3);
    assert_eq!(status(&directory, "us-east"), RegionStatus::Draining);
    directory.run(Command::Bump(vec![home("eu-west-1", 1)])).expect("bumped");
    directory.run(Command::Undrain(wish("eu-west"))).expect("undrained");
    assert_eq!(status(&directory, "eu-west"), RegionStatus::Down, "nobody is there");
    directory.run(Command::Undrain(wish("us-east"))).expect("undrained");
    assert_eq!(status(&directory, "us-east"), RegionStatus::Active);
}

#[test]
fn failback_is_switched_per_region_or_for_all() {
    let mut directory = in_sync();
    let set =
        |region: Option<RegionId>, on| Command::SetFailback(FailbackWish { region, on, by: "ann".into() });
    let off = |directory: &Directory| directory.view.regions().filter(|row| row.failback_off).count();
    directory.run(set(Some(region("eu-west")), false)).expect("one");
    assert_eq!(off(&directory), 1);
    directory.run(set(None, false)).expect("all");
    assert_eq!(off(&directory), 3);
    directory.run(set(None, true)).expect("all");
    assert_eq!(off(&directory), 0);
}
