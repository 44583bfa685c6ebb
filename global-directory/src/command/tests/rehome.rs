//! How a pin grows.

use super::*;
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
    let new = NewRehome { log: LOG, region: region(to), by: "ops".into() };
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
    let new = NewRehome { log: unpinned, region: region("eu-west"), by: String::new() };
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
    let new = Command::BeginRehome(NewRehome { log: LOG, region: region("eu-west"), by: String::new() });
    assert_eq!(directory.run_as(request, new.clone()), Ok(Answer::Applied(1)));
    assert_eq!(abort(&mut directory, None), Ok(Answer::Done));
    assert_eq!(directory.run_as(request, new), Ok(Answer::Applied(1)));
    assert_eq!(
        abort(&mut directory, None),
        Err(RehomeError::NotMoving(LOG).into()),
        "nothing was begun again"
    );
}
