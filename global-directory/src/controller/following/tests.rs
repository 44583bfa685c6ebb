//! When a log may go, and when it may not.

use super::*;
use crate::{
    command::{Command, RegionWish},
    testing::{Directory, REGIONS, region},
};

const SETTINGS: FollowSettings =
    FollowSettings { on: true, cooldown_ms: 600_000, per_minute: 60, region_per_minute: 30 };

fn log(number: u32) -> LogId {
    let mut key = [0; 16];
    key[..4].copy_from_slice(&number.to_be_bytes());
    LogId::group(key)
}

fn born() -> Directory {
    let mut directory = Directory::born(&REGIONS, 1);
    for (number, name) in ["ap-south-1", "eu-west-1", "us-east-1"].into_iter().enumerate() {
        directory.register(name, number as u8 + 1);
    }
    directory
}

#[test]
fn a_log_that_went_stays_for_a_while() {
    let (view, mut follows) = (born().view, Follows::new(SETTINGS));
    assert_eq!(follows.admit(1_000, &view, log(1), &region("eu-west")), Ok(()));
    follows.gone(1_000, log(1));
    let cooling = NotNow::Cooling { ago_ms: 5_000, left_ms: 595_000 };
    assert_eq!(follows.admit(6_000, &view, log(1), &region("us-east")), Err(cooling.clone()));
    assert_eq!(cooling.retry_after_ms(), 595_000);
    assert_eq!(follows.admit(6_000, &view, log(2), &region("us-east")), Ok(()), "others may go");
    assert_eq!(follows.admit(601_000, &view, log(1), &region("us-east")), Ok(()), "and so may it, later");
}

#[test]
fn they_go_at_a_rate_to_a_region_and_all_together() {
    let (view, mut follows) = (born().view, Follows::new(SETTINGS));
    let mut went = BTreeMap::new();
    for now_ms in (0..120_000).step_by(50) {
        for (number, name) in REGIONS.iter().enumerate() {
            let log = log(now_ms as u32 * 3 + number as u32);
            if follows.admit(now_ms, &view, log, &region(name)).is_ok() {
                *went.entry(*name).or_insert(0) += 1;
            }
        }
    }
    let all: u32 = went.values().sum();
    assert!((120..=130).contains(&all), "{went:?}");
    assert!(went.values().all(|count| *count <= 65), "{went:?}");
}

#[test]
fn nothing_goes_while_something_fails_over_nor_where_no_homes_are_taken() {
    let (mut directory, mut follows) = (born(), Follows::new(SETTINGS));
    let wish = RegionWish { region: region("eu-west"), by: "ops".into() };
    directory.run(Command::Drain(wish)).expect("drained");
    let closed = Err(NotNow::Closed(region("eu-west")));
    assert_eq!(follows.admit(0, &directory.view, log(1), &region("eu-west")), closed);
    let nowhere = region("nowhere");
    assert_eq!(follows.admit(0, &directory.view, log(1), &nowhere), Err(NotNow::Closed(nowhere)));
    assert_eq!(follows.admit(0, &directory.view, log(1), &region("us-east")), Ok(()));

    let first = crate::command::FirstHome {
        partition: types::PartitionId::new(0),
        home: crate::testing::home("ap-south-1", 1),
    };
    directory.run(Command::AssignHomes(vec![first])).expect("homed");
    directory.run(Command::Bump(vec![crate::testing::home("ap-south-1", 1)])).expect("bumped");
    assert_eq!(follows.admit(0, &directory.view, log(2), &region("us-east")), Err(NotNow::Restless));
    let mut off = Follows::new(FollowSettings { on: false, ..SETTINGS });
    assert_eq!(off.admit(0, &directory.view, log(2), &region("us-east")), Err(NotNow::Off));
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut follows = Follows::new(SETTINGS);
    for number in 0..bounds::FOLLOWS_REMEMBERED_MAX as u32 + 10 {
        follows.gone(1, log(number));
    }
    assert_eq!(follows.order.len(), bounds::FOLLOWS_REMEMBERED_MAX);
    assert_eq!(follows.gone_ms.len(), bounds::FOLLOWS_REMEMBERED_MAX);
}
