//! How a pin grows.

use super::*;
use crate::bounds;
use types::RehomeId;

const LOG: LogId = LogId::group([7; 16]);

fn pinned() -> Directory {
    let mut directory = in_sync();
    for (partition, name) in [(1, "eu-west-1"), (2, "us-east-1")] {
        let first = FirstHome { partition: PartitionId::new(partition), home: home(name, 1) };
        assert_eq!(directory.run(Command::AssignHomes(vec![first])), Ok(Answer::Applied(1)));
    }
    let wish = PinWish { log: LOG, region: region("ap-south"), allowed_regions: vec![] };
    assert_eq!(directory.run(Command::Pin(vec![wish])), Ok(Answer::Applied(1)));
    directory
}

fn begin(directory: &mut Directory, to: &str) -> Result<Answer, Refusal> {
    let new = NewRehome { log: LOG, region: region(to), by: "ops".into(), follows: None };
    directory.run(Command::BeginRehome(new))
}

fn finish(directory: &mut Directory, id: u64, first: u64) -> Result<Answer, Refusal> {
    let first_offset = Offset::new(first);
    directory.run(Command::FinishRehome(ImportedRehome { log: LOG, id: RehomeId::new(id), first_offset }))
}

fn abort(directory: &mut Directory, id: Option<u64>) -> Result<Answer, Refusal> {
    let id = id.map(RehomeId::new);
    let aborted = AbortedRehome { log: LOG, id, by: "ops".into(), why: "a test".into() };
    directory.run(Command::AbortRehome(aborted))
}

fn segments(directory: &Directory) -> Vec<(u32, u32, u64)> {
    let pin = directory.pin_of(LOG).expect("it is pinned");
    let numbers = |at: &PinSegment| (at.generation.get(), at.partition.get(), at.first_offset.get());
    pin.segments.iter().map(numbers).collect()
}

#[test]
fn a_pin_grows_once_for_each_re_homing_whatever_becomes_of_it() {
    let mut directory = pinned();
    assert_eq!(begin(&mut directory, "ap-south"), Ok(Answer::Applied(0)), "it is there");
    assert_eq!(begin(&mut directory, "eu-west"), Ok(Answer::Applied(1)));
    assert_eq!(begin(&mut directory, "eu-west"), Ok(Answer::Applied(1)), "the same one");
    let other = begin(&mut directory, "us-east");
    assert_eq!(other, Err(RehomeError::UnderWay(LOG, PartitionId::new(1)).into()));
    assert_eq!(segments(&directory), [(1, 0, 1)], "it is written where it was");
    assert_eq!(finish(&mut directory, 1, 11), Ok(Answer::Done));
    let over: Refusal = RehomeError::Over(LOG, RehomeId::new(1)).into();
    assert_eq!(finish(&mut directory, 1, 11), Err(over.clone()));
    assert_eq!(abort(&mut directory, Some(1)), Err(over));
    assert_eq!(segments(&directory), [(1, 0, 1), (2, 1, 11)]);

    assert_eq!(begin(&mut directory, "us-east"), Ok(Answer::Applied(1)));
    let back = finish(&mut directory, 2, 10);
    assert_eq!(back, Err(RehomeError::GoesBack(LOG, Offset::new(10)).into()));
    assert_eq!(abort(&mut directory, None), Ok(Answer::Done));
    assert_eq!(finish(&mut directory, 2, 12), Err(RehomeError::Over(LOG, RehomeId::new(2)).into()));
    assert_eq!(abort(&mut directory, None), Err(RehomeError::NotMoving(LOG).into()));
    assert_eq!(segments(&directory), [(1, 0, 1), (2, 1, 11), (3, 1, 11)], "it stays, one generation on");

    assert_eq!(begin(&mut directory, "ap-south"), Ok(Answer::Applied(1)));
    assert_eq!(finish(&mut directory, 3, 20), Ok(Answer::Done));
    assert_eq!(segments(&directory)[3], (4, 0, 20), "and comes back");
}

#[test]
fn a_re_homing_needs_a_home_on_both_sides() {
    let mut directory = pinned();
    let unpinned = LogId::group([8; 16]);
    let new = NewRehome { log: unpinned, region: region("eu-west"), by: String::new(), follows: None };
    let refused = directory.run(Command::BeginRehome(new));
    assert_eq!(refused, Err(RehomeError::Unpinned(unpinned).into()));
    directory.run(Command::Bump(vec![home("eu-west-1", 1)])).expect("bumped");
    let refused = begin(&mut directory, "eu-west");
    assert!(matches!(refused, Err(Refusal::Rehome(_))), "{refused:?}");
    directory.run(Command::Bump(vec![home("ap-south-1", 1)])).expect("bumped");
    let refused = begin(&mut directory, "us-east");
    assert_eq!(refused, Err(RehomeError::NotHomed(P0, LOG).into()));
}

#[test]
fn a_repeated_request_answers_what_the_first_did() {
    let mut directory = pinned();
    let request = directory.next_request();
    let new = Command::BeginRehome(NewRehome {
        log: LOG,
        region: region("eu-west"),
        by: String::new(),
        follows: None,
    });
    assert_eq!(directory.run_as(request, new.clone()), Ok(Answer::Applied(1)));
    assert_eq!(abort(&mut directory, None), Ok(Answer::Done));
    assert_eq!(directory.run_as(request, new), Ok(Answer::Applied(1)));
    assert_eq!(
        abort(&mut directory, None),
        Err(RehomeError::NotMoving(LOG).into()),
        "nothing was begun again"
    );
}

fn follow(directory: &mut Directory, log: LogId, to: &str, follow: Follow) -> Result<Answer, Refusal> {
    let new = NewRehome { log, region: region(to), by: "following".into(), follows: Some(follow) };
    directory.run(Command::BeginRehome(new))
}

fn said_by(home: Home) -> Follow {
    Follow { home, generation: Generation::FIRST, allowed_regions: vec![] }
}

#[test]
fn a_log_follows_at_its_own_homes_word_only_and_not_while_that_is_switched_off() {
    let mut directory = pinned();
    let stranger = follow(&mut directory, LOG, "eu-west", said_by(home("eu-west-1", 1)));
    assert!(matches!(stranger, Err(Refusal::Rehome(RehomeError::NotItsHome(..)))), "{stranger:?}");
    let early = Follow { generation: Generation::new(2), ..said_by(home("ap-south-1", 1)) };
    let early = follow(&mut directory, LOG, "eu-west", early);
    assert!(matches!(early, Err(Refusal::Rehome(RehomeError::NotItsHome(..)))), "{early:?}");

    let switch = |on| Command::SetFollowing(FollowingWish { on, by: "ops".into() });
    assert_eq!(directory.run(switch(false)), Ok(Answer::Done));
    let off = follow(&mut directory, LOG, "eu-west", said_by(home("ap-south-1", 1)));
    assert_eq!(off, Err(RehomeError::FollowingOff.into()));
    assert_eq!(directory.run(switch(true)), Ok(Answer::Done));
    let begun = follow(&mut directory, LOG, "eu-west", said_by(home("ap-south-1", 1)));
    assert_eq!(begun, Ok(Answer::Applied(1)));
    assert_eq!(finish(&mut directory, 1, 11), Ok(Answer::Done));
    assert_eq!(segments(&directory), [(1, 0, 1), (2, 1, 11)]);
}

#[test]
fn a_log_follows_only_to_a_partition_that_stays_within_its_residency() {
    let mut directory = pinned();
    let allowed_regions = vec![region("ap-south"), region("eu-west")];
    let wish = Follow { allowed_regions, ..said_by(home("ap-south-1", 1)) };
    let refused = follow(&mut directory, LOG, "eu-west", wish);
    assert_eq!(
        refused,
        Err(RehomeError::NoPartition(region("eu-west")).into()),
        "it is held in us-east, too"
    );
    let all = Follow { allowed_regions: REGIONS.map(region).to_vec(), ..said_by(home("ap-south-1", 1)) };
    assert_eq!(follow(&mut directory, LOG, "eu-west", all), Ok(Answer::Applied(1)));
}

#[test]
fn so_many_logs_follow_at_a_time_and_operators_have_room_beside_them() {
    let mut directory = pinned();
    for number in 0..=bounds::FOLLOWS_AT_ONCE {
        let log = LogId::group([100 + number as u8; 16]);
        let wish = PinWish { log, region: region("ap-south"), allowed_regions: vec![] };
        assert_eq!(directory.run(Command::Pin(vec![wish])), Ok(Answer::Applied(1)));
        let begun = follow(&mut directory, log, "eu-west", said_by(home("ap-south-1", 1)));
        match number < bounds::FOLLOWS_AT_ONCE {
            true => assert_eq!(begun, Ok(Answer::Applied(1))),
            false => assert_eq!(begun, Err(RehomeError::TooMany(bounds::FOLLOWS_AT_ONCE).into())),
        }
    }
    assert_eq!(begin(&mut directory, "eu-west"), Ok(Answer::Applied(1)));
}
