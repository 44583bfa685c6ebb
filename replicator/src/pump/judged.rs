//! Only what the home said of the very tail that the follower has now is handed on.

use super::{Fetched, Followed, Input, Output, Pump, Reply, Route, Say};
use crate::pump::words::Outcome;
use std::time::Instant;
use types::{Epoch, Lsn, NodeId, PartitionPosition};

const EPOCH: Epoch = Epoch::new(5);

fn at(epoch: u64, lsn: u64) -> PartitionPosition {
    PartitionPosition::new(Epoch::new(epoch), Lsn::new(lsn))
}

/// A pump that has asked the home about a follower whose last record is `last`.
fn asked(last: PartitionPosition, now: Instant) -> Pump {
    let (mut pump, mut out) = (Pump::new(1_000), Vec::new());
    let route = Route { home: NodeId::new("home").expect("a valid name"), epoch: EPOCH };
    for input in [
        Input::Route { route: Some(route), up: false },
        Input::FollowUp,
        Input::FetchUp,
        Input::Follow(Followed { fence: EPOCH, last, outcome: Outcome::Done }),
    ] {
        pump.handle(now, input, &mut out);
    }
    let asks = |output: &Output| matches!(output, Output::ToHome(fetch) if fetch.last == last);
    assert!(out.iter().any(asks), "{out:?}");
    pump
}

/// What the pump has the follower cut off when the home calls it diverged.
fn cut(pump: &mut Pump, now: Instant, judged: Option<PartitionPosition>) -> Option<PartitionPosition> {
    let mut out = Vec::new();
    let reply = Reply::Diverged { common: at(4, 10), judged };
    pump.handle(now, Input::Fetch(Fetched { epoch: EPOCH, reply }), &mut out);
    out.iter().find_map(|output| match output {
        Output::ToFollower { say: Say::Truncate { judged, .. }, .. } => Some(*judged),
        _ => None,
    })
}

#[test]
fn what_was_said_of_an_earlier_tail_is_not_handed_on() {
    let now = Instant::now();
    let mut pump = asked(at(5, 15), now);
    assert_eq!(cut(&mut pump, now, Some(at(4, 15))), None, "the follower was cut and filled since");
    assert_eq!(cut(&mut pump, now, Some(at(5, 14))), None);
    assert_eq!(cut(&mut pump, now, Some(at(5, 15))), Some(at(5, 15)));
}

#[test]
fn a_home_that_does_not_say_what_it_judged_is_asked_by_the_follower() {
    let now = Instant::now();
    let mut pump = asked(at(4, 15), now);
    assert_eq!(cut(&mut pump, now, None), Some(at(4, 15)), "the follower compares");
}
