use super::*;
use crate::peer::Channel;
use proptest::prelude::{Strategy, prop, prop_assert, prop_assert_eq, proptest};
use types::{Epoch, NodeId, Offset, Position};

const LOG: LogId = LogId::group([1; 16]);

fn at(offset: u64) -> Position {
    match offset {
        0 => Position::START,
        offset => Position::new(Generation::FIRST, Epoch::FIRST, Offset::new(offset)),
    }
}

fn cursor(device: u64, delivered: u64, read: u64) -> Cursor {
    let reached = Reached { delivered: at(delivered), read: at(read), hides_read: false };
    Cursor { user: UserId::new("alice").expect("a valid name"), device: DeviceId::new(device), reached }
}

fn route(channel: u64, epoch: u64) -> Route {
    let node = NodeId::new("eu-west-1").expect("a valid name");
    Route { node, channel: Channel(channel), epoch: Epoch::new(epoch) }
}

fn way(channel: u64, epoch: u64) -> Way {
    let (generation, partition, first_offset) = (Generation::FIRST, PartitionId::new(4), Offset::FIRST);
    Way::To(PinSegment { generation, partition, first_offset }, route(channel, epoch))
}

fn sent(outgoing: &mut Outgoing, now_ms: u64, way: &Way) -> Vec<Output> {
    let mut out = Vec::new();
    outgoing.send(now_ms, |_| way.clone(), &mut out);
    out
}

/// The number and the cursors of the one request.
#[track_caller]
fn asked(mut out: Vec<Output>) -> (u64, Vec<Cursor>) {
    match (out.pop(), out.is_empty()) {
        (Some(Output::Ask { number, mut logs, .. }), true) if logs.len() == 1 => {
            (number, logs.remove(0).cursors)
        }
        other => panic!("one request for one log, not {other:?}"),
    }
}

#[test]
fn of_a_device_only_the_furthest_is_sent() {
    let mut outgoing = Outgoing::default();
    for (delivered, read) in [(3, 1), (7, 0), (5, 4)] {
        assert!(outgoing.say(0, LOG, cursor(1, delivered, read)));
    }
    let (_, cursors) = asked(sent(&mut outgoing, 0, &way(1, 1)));
    assert_eq!(cursors, [cursor(1, 7, 4)]);
    assert_eq!(sent(&mut outgoing, 60, &way(1, 1)), [], "one request at a time");
}

#[test]
fn what_was_taken_is_said_again_to_another_home_and_then_forgotten() {
    let mut outgoing = Outgoing::default();
    outgoing.say(0, LOG, cursor(1, 7, 4));
    let (number, _) = asked(sent(&mut outgoing, 0, &way(1, 1)));
    outgoing.answered(10, (number, LOG), Ok(()), &mut Vec::new());
    outgoing.look(100, |_| way(1, 1));
    assert_eq!(sent(&mut outgoing, 100, &way(1, 1)), []);
    outgoing.look(200, |_| Way::Closed);
    outgoing.look(300, |_| way(2, 2));
    let (number, cursors) = asked(sent(&mut outgoing, 300, &way(2, 2)));
    assert_eq!(cursors, [cursor(1, 7, 4)]);
    outgoing.answered(310, (number, LOG), Ok(()), &mut Vec::new());
    outgoing.look(310 + KEEP_MS - 1, |_| way(2, 2));
    assert!(!outgoing.is_empty());
    outgoing.look(310 + KEEP_MS, |_| way(2, 2));
    assert!(outgoing.is_empty());
}

#[test]
fn nothing_is_forgotten_while_its_home_cannot_be_reached() {
    let mut outgoing = Outgoing::default();
    outgoing.say(0, LOG, cursor(1, 7, 4));
    let (number, _) = asked(sent(&mut outgoing, 0, &way(1, 1)));
    outgoing.answered(10, (number, LOG), Ok(()), &mut Vec::new());
    outgoing.look(10 * KEEP_MS, |_| Way::Closed);
    outgoing.look(10 * KEEP_MS + 1, |_| way(3, 2));
    let (_, cursors) = asked(sent(&mut outgoing, 10 * KEEP_MS + 1, &way(3, 2)));
    assert_eq!(cursors, [cursor(1, 7, 4)]);
}

#[test]
fn what_has_moved_waits_for_a_later_pin() {
    let mut outgoing = Outgoing::default();
    outgoing.say(0, LOG, cursor(1, 7, 4));
    let (number, _) = asked(sent(&mut outgoing, 0, &way(1, 1)));
    let mut out = Vec::new();
    outgoing.answered(10, (number, LOG), Err(Refused::Moved(Generation::FIRST)), &mut out);
    assert_eq!(out, [Output::Resolve(LOG, Generation::FIRST)]);
    assert_eq!(sent(&mut outgoing, 11, &way(1, 1)), []);
    assert_eq!(asked(sent(&mut outgoing, 10 + AGAIN_MS, &way(1, 1))).1, [cursor(1, 7, 4)]);
}

#[test]
fn what_finds_no_home_for_long_is_given_up() {
    let mut outgoing = Outgoing::default();
    outgoing.say(0, LOG, cursor(1, 7, 4));
    outgoing.look(GIVE_UP_MS - 1, |_| Way::Closed);
    assert!(!outgoing.is_empty());
    outgoing.look(GIVE_UP_MS, |_| Way::Closed);
    assert!(outgoing.is_empty());
}

#[test]
fn it_is_bounded() {
    let mut outgoing = Outgoing::default();
    for device in 0..CURSORS_MAX as u64 {
        assert!(outgoing.say(0, LOG, cursor(device, 1, 0)));
    }
    assert!(!outgoing.say(0, LOG, cursor(u64::MAX, 1, 0)));
}

#[derive(Debug, Clone)]
enum Step {
    Says(u64, u64, u64),
    Passes(u64),
    /// The home takes all that is under way, or none of it.
    Answers(bool),
    /// It loses what it took lately, and is another one.
    Fails,
}

fn step() -> impl Strategy<Value = Step> {
    proptest::prop_oneof![
        4 => (0_u64..3, 0_u64..30, 0_u64..30).prop_map(|(device, delivered, read)| Step::Says(device, delivered, read)),
        3 => (1_u64..2_000).prop_map(Step::Passes),
        3 => proptest::bool::weighted(0.8).prop_map(Step::Answers),
        1 => proptest::prelude::Just(Step::Fails),
    ]
}

proptest! {
    #[test]
    fn a_home_that_fails_costs_nothing_that_was_said(steps in prop::collection::vec(step(), 0..80)) {
        let mut outgoing = Outgoing::default();
        let (mut now_ms, mut epoch) = (0, 1);
        let mut said: BTreeMap<u64, Reached> = BTreeMap::new();
        // What the home has, and when it took it: what is older than KEEP_MS is replicated.
        let mut home: Vec<(u64, Cursor)> = Vec::new();
        let mut under_way: Option<(u64, Vec<Cursor>)> = None;
        let quiet = [Step::Answers(true), Step::Passes(1_000)];
        for step in steps.into_iter().chain(quiet.into_iter().cycle().take(12)) {
            match step {
                Step::Says(device, delivered, read) => {
                    let cursor = cursor(device, delivered, read);
                    said.entry(device).or_default().raise(cursor.reached);
                    prop_assert!(outgoing.say(now_ms, LOG, cursor));
                }
                Step::Passes(ms) => {
                    now_ms += ms;
                    outgoing.look(now_ms, |_| way(epoch, epoch));
                }
                Step::Answers(is_taken) => {
                    let Some((number, cursors)) = under_way.take() else { continue };
                    if is_taken {
                        home.extend(cursors.into_iter().map(|cursor| (now_ms, cursor)));
                    }
                    let answer = if is_taken { Ok(()) } else { Err(Refused::Later) };
                    outgoing.answered(now_ms, (number, LOG), answer, &mut Vec::new());
                }
                Step::Fails => {
                    epoch += 1;
                    home.retain(|(taken_ms, _)| now_ms >= taken_ms + KEEP_MS);
                    if let Some((number, _)) = under_way.take() {
                        outgoing.answered(now_ms, (number, LOG), Err(Refused::Later), &mut Vec::new());
                    }
                }
            }
            let out = sent(&mut outgoing, now_ms, &way(epoch, epoch));
            if !out.is_empty() {
                prop_assert!(under_way.is_none());
                under_way = Some(asked(out));
            }
        }
        let mut has: BTreeMap<u64, Reached> = BTreeMap::new();
        for (_, cursor) in home {
            has.entry(cursor.device.get()).or_default().raise(cursor.reached);
        }
        said.retain(|_, reached| *reached != Reached::default());
        has.retain(|_, reached| *reached != Reached::default());
        prop_assert_eq!(has, said);
    }
}
