//! What only an operator may do.

use super::*;

/// The home is dead, and the one copy that was in sync has lost its data: nobody may be promoted.
fn stuck() -> Directory {
    let mut directory = in_sync();
    let two = vec![member("ap-south-1", 1), member("eu-west-1", 2)];
    directory.run(propose(&directory, two, vec![])).expect("two regions remain");
    directory.run(Command::Bump(vec![home("ap-south-1", 1)])).expect("a boot");
    directory.register("eu-west-1", 9);
    directory
}

fn promotion_of(directory: &Directory, name: &str, store: u8, start_lsn: u64) -> UnsafePromotion {
    UnsafePromotion {
        partition: P0,
        epoch: directory.row(0).epoch,
        home: home(name, 1),
        replica: member(name, store),
        start_lsn: Lsn::new(start_lsn),
        by: "ann".into(),
    }
}

#[test]
fn a_copy_that_is_not_in_sync_becomes_home_by_an_operators_word_only() {
    let mut directory = stuck();
    let by_rule = promotion(&directory, "us-east-1", 1, 5);
    assert_eq!(directory.run(Command::Promote(vec![by_rule])), Ok(Answer::Applied(0)));
    let by_word = promotion_of(&directory, "us-east-1", 3, 5);
    assert_eq!(directory.run(Command::PromoteUnsafe(by_word)), Ok(Answer::Done));
    let row = directory.row(0);
    assert_eq!((row.state, row.epoch, row.start_lsn()), (PartitionState::Homed, Epoch::new(2), Lsn::new(5)));
    let former = [member("ap-south-1", 1), member("eu-west-1", 2)];
    assert_eq!(row.lost, former, "none of them counts");
    assert_eq!(row.isr, [&former[..], &[member("us-east-1", 3)]].concat());
    assert!(directory.events().iter().any(|what| what.starts_with("UNSAFE PROMOTION of us-east-1")));
}

#[test]
fn a_partition_that_has_a_home_and_a_node_without_a_copy_are_refused() {
    let mut directory = in_sync();
    let homed = promotion_of(&directory, "us-east-1", 3, 5);
    let refused = directory.run(Command::PromoteUnsafe(homed));
    assert!(matches!(refused, Err(Refusal::Emergency(EmergencyError::NotStuck { .. }))), "{refused:?}");
    let mut directory = stuck();
    for (name, store) in [("us-east-1", 8), ("nowhere-1", 3), ("ap-south-1", 1)] {
        let promotion = promotion_of(&directory, name, store, 5);
        let refused = directory.run(Command::PromoteUnsafe(promotion));
        assert!(matches!(refused, Err(Refusal::Emergency(EmergencyError::NoCopy { .. }))), "{refused:?}");
    }
}

#[test]
fn one_region_is_enough_where_an_operator_says_so_and_it_is_recorded() {
    let mut directory = in_sync();
    let wish =
        |until_ms| Command::AllowAlone(AloneWish { region: region("us-east"), until_ms, by: "ann".into() });
    for until_ms in [1_800_000_000_000, 0] {
        assert_eq!(directory.run(wish(until_ms)), Ok(Answer::Done));
        assert_eq!(directory.view.region(&region("us-east")).expect("there").alone_until_ms, until_ms);
    }
    let said: Vec<String> = directory.events();
    assert!(said.iter().any(|what| what.starts_with("ONE REGION IS ENOUGH in us-east until 1800000000000")));
    assert!(said.iter().any(|what| what.starts_with("ONE REGION IS NOT ENOUGH any more in us-east")));
    let nowhere = Command::AllowAlone(AloneWish { region: region("nowhere"), until_ms: 5, by: "ann".into() });
    assert!(matches!(directory.run(nowhere), Err(Refusal::Emergency(EmergencyError::UnknownRegion(_)))));
}
