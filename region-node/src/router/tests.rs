//! The lanes against homes that answer, refuse, lose and forget as they like.

use super::core::{Input, LaneKey, Lanes, Output, Route, Routes, Submission, Ticket};
use crate::{
    peer::Channel,
    service::{Acked, NotHome, WriteError},
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use types::{
    AckPolicy, Code, DeviceId, Epoch, Generation, LogId, MessageId, NodeId, Offset, PartitionId, PinSegment,
    Position, Refusal, UserId,
};

const PARTITION: PartitionId = PartitionId::new(0);
const PARKED_MAX: usize = 20;
const DEADLINE_MS: u64 = 1_000;

#[derive(Debug, Clone)]
enum Step {
    Submit {
        lane: u8,
    },
    Resolve,
    Answer {
        which: prop::sample::Index,
        how: How,
    },
    NotSent {
        which: prop::sample::Index,
    },
    Route {
        is_open: bool,
        raise: bool,
        reconnect: bool,
    },
    /// The partition is about to move, or is not any more.
    Move {
        is_under_way: bool,
    },
    Wait {
        ms: u64,
    },
}

#[derive(Debug, Clone, Copy)]
enum How {
    Acked,
    Forbidden,
    Overloaded,
    Unknown,
    NotHome { ahead: bool },
    Moved,
}

fn step() -> impl Strategy<Value = Step> {
    let how = prop_oneof![
        4 => Just(How::Acked),
        1 => Just(How::Forbidden),
        1 => Just(How::Overloaded),
        2 => Just(How::Unknown),
        2 => any::<bool>().prop_map(|ahead| How::NotHome { ahead }),
        1 => Just(How::Moved),
    ];
    prop_oneof![
        6 => (0u8..2).prop_map(|lane| Step::Submit { lane }),
        2 => Just(Step::Resolve),
        6 => (any::<prop::sample::Index>(), how).prop_map(|(which, how)| Step::Answer { which, how }),
        1 => any::<prop::sample::Index>().prop_map(|which| Step::NotSent { which }),
        2 => (any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(is_open, raise, reconnect)| Step::Route { is_open, raise, reconnect }),
        2 => any::<bool>().prop_map(|is_under_way| Step::Move { is_under_way }),
        3 => (1u64..400).prop_map(|ms| Step::Wait { ms }),
    ]
}

#[derive(Debug)]
struct Place {
    epoch: Epoch,
    channel: u64,
    is_open: bool,
    is_moving: bool,
}

impl Routes for Place {
    fn route(&self, _: PartitionId) -> Option<Route> {
        let node = NodeId::new("eu-west-1").expect("a valid name");
        let is_home = self.is_open && !self.is_moving;
        is_home.then_some(Route { node, channel: Channel(self.channel), epoch: self.epoch })
    }

    fn next(&self, _: PartitionId) -> Option<Route> {
        let node = NodeId::new("ap-south-1").expect("a valid name");
        self.is_moving.then_some(Route { node, channel: Channel(self.channel), epoch: self.epoch.plus(1) })
    }

    fn epoch(&self, _: PartitionId) -> Epoch {
        self.epoch
    }
}

/// What the test knows of a write.
#[derive(Debug, Default)]
struct Fate {
    lane: u8,
    /// It left and was not proven unwritten since.
    may_be_written: bool,
    is_finished: bool,
}

struct Model {
    lanes: Lanes<u64, u64>,
    place: Place,
    now_ms: u64,
    fates: Vec<Fate>,
    /// Under way, in the order of sending: ticket, write, route.
    under_way: Vec<(Ticket, u64, Route)>,
    unresolved: BTreeSet<u8>,
}

fn key(lane: u8) -> LaneKey {
    let sender = UserId::new("alice").expect("a valid name");
    LaneKey { log: LogId::group([lane; 16]), sender, device: DeviceId::new(1) }
}

fn pin() -> PinSegment {
    PinSegment { generation: Generation::FIRST, partition: PARTITION, first_offset: Offset::FIRST }
}

impl Model {
    fn new() -> Self {
        Self {
            lanes: Lanes::new(PARKED_MAX),
            place: Place { epoch: Epoch::FIRST, channel: 1, is_open: true, is_moving: false },
            now_ms: 0,
            fates: Vec::new(),
            under_way: Vec::new(),
            unresolved: BTreeSet::new(),
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Submit { lane } => self.submit(lane),
            Step::Resolve => {
                for lane in std::mem::take(&mut self.unresolved) {
                    self.handle(Input::Resolved(key(lane), Ok(pin())));
                }
            }
            Step::Answer { which, how } => {
                if !self.under_way.is_empty() {
                    self.answer(which.index(self.under_way.len()), how);
                }
            }
            Step::NotSent { which } => {
                // Only what was sent last can be found not to have left.
                let lane = which.index(2) as u8;
                let last =
                    self.under_way.iter().rposition(|(_, write, _)| self.fates[*write as usize].lane == lane);
                if let Some(at) = last
                    && !self.fates[self.under_way[at].1 as usize].may_be_written
                {
                    let (ticket, _, _) = self.under_way.remove(at);
                    self.handle(Input::NotSent(ticket));
                }
            }
            Step::Move { is_under_way } => {
                self.place.is_moving = is_under_way;
                self.handle(Input::RoutesChanged);
            }
            Step::Route { is_open, raise, reconnect } => {
                self.place.is_open = is_open;
                if raise {
                    self.place.is_moving = false;
                    self.place.epoch = self.place.epoch.next().expect("a small number");
                }
                if reconnect {
                    self.place.channel += 1;
                    for (ticket, write, _) in std::mem::take(&mut self.under_way) {
                        self.fates[write as usize].may_be_written = true;
                        self.handle(Input::Answered(
                            ticket,
                            Err(WriteError::Indeterminate { why: "broken" }),
                        ));
                    }
                }
                self.handle(Input::RoutesChanged);
            }
            Step::Wait { ms } => {
                self.now_ms += ms;
                self.handle(Input::Tick);
            }
        }
    }

    fn submit(&mut self, lane: u8) {
        let write = self.fates.len() as u64;
        self.fates.push(Fate { lane, ..Fate::default() });
        self.handle(Input::Submit(Submission {
            lane: key(lane),
            pin: None,
            message_id: MessageId::from_bytes([0; 16]),
            after: None,
            deadline_ms: self.now_ms + DEADLINE_MS,
            write,
            reply: write,
        }));
    }

    fn answer(&mut self, at: usize, how: How) {
        let (ticket, write, _) = self.under_way.remove(at);
        let refused = |code| Err(WriteError::Refused(Refusal::new(code, "refused")));
        let outcome = match how {
            How::Acked => Ok(Acked {
                position: Position::START,
                accepted_at_ms: 0,
                ack: AckPolicy::Home,
                epoch: self.place.epoch,
            }),
            How::Forbidden => refused(Code::Forbidden),
            How::Overloaded => refused(Code::Overloaded),
            How::Unknown => {
                self.fates[write as usize].may_be_written = true;
                Err(WriteError::Indeterminate { why: "a test" })
            }
            How::Moved => {
                self.fates[write as usize].may_be_written = true;
                Err(WriteError::Moved { partition: PARTITION, epoch: self.place.epoch })
            }
            How::NotHome { ahead } => Err(WriteError::NotHome(NotHome {
                partition: PARTITION,
                epoch: if ahead { self.place.epoch.plus(1) } else { self.place.epoch },
                home: None,
                moving: false,
                closed: Generation::ZERO,
            })),
        };
        self.handle(Input::Answered(ticket, outcome));
    }

    fn handle(&mut self, input: Input<u64, u64>) {
        let mut outputs = Vec::new();
        self.lanes.handle(self.now_ms, input, &self.place, &mut outputs);
        for output in outputs {
            match output {
                Output::Resolve(lane, _) => {
                    self.unresolved.extend((0..2).filter(|number| key(*number) == lane));
                }
                Output::Send { ticket, route, write, .. } => self.sent(ticket, route, write),
                Output::Finish { reply, result } => self.finished(reply, result),
            }
        }
        assert!(self.lanes.parked() <= PARKED_MAX + self.under_way.len() + self.fates.len());
    }

    fn sent(&mut self, ticket: Ticket, route: Route, write: u64) {
        let lane = self.fates[write as usize].lane;
        assert!(!self.fates[write as usize].is_finished, "a finished write is sent again");
        // What is under way to a home that has a successor was taken back, its fate open.
        let fates = &mut self.fates;
        self.under_way.retain(|(_, other, old)| {
            let fate = &mut fates[*other as usize];
            let is_taken_back = fate.lane == lane && old.epoch < route.epoch;
            fate.may_be_written |= is_taken_back;
            !is_taken_back
        });
        for (_, other, old) in &self.under_way {
            if self.fates[*other as usize].lane == lane {
                assert!(*other < write, "write {write} overtaken by {other}");
                assert_eq!(*old, route, "two homes have writes of one lane");
            }
        }
        let overtaken = (0..write).find(|earlier| {
            let fate = &self.fates[*earlier as usize];
            fate.lane == lane
                && !fate.is_finished
                && !self.under_way.iter().any(|(_, other, _)| other == earlier)
        });
        assert_eq!(overtaken, None, "write {write} leaves before an earlier one");
        self.under_way.push((ticket, write, route));
    }

    fn finished(&mut self, write: u64, result: Result<Acked, Refusal>) {
        let was_under_way = self.under_way.iter().any(|(_, other, _)| *other == write);
        self.under_way.retain(|(_, other, _)| *other != write);
        let fate = &mut self.fates[write as usize];
        assert!(!fate.is_finished, "write {write} is finished twice");
        fate.is_finished = true;
        if let Err(refusal) = result {
            let may_be_written = fate.may_be_written || was_under_way;
            match refusal.code {
                Code::HomeUnavailable => assert!(!may_be_written, "write {write} may be in the log"),
                Code::Overloaded => assert!(!fate.may_be_written, "write {write} may be in the log"),
                Code::Indeterminate => assert!(may_be_written, "write {write} is in no log"),
                _ => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_write_overtakes_and_each_ends_once(steps in prop::collection::vec(step(), 1..120)) {
        let mut model = Model::new();
        for step in steps {
            model.take(step);
        }
        model.now_ms += DEADLINE_MS;
        model.handle(Input::Tick);
        let open: BTreeMap<usize, &Fate> =
            model.fates.iter().enumerate().filter(|(_, fate)| !fate.is_finished).collect();
        prop_assert!(open.is_empty(), "past its deadline: {open:?}");
        prop_assert!(model.lanes.is_idle());
        prop_assert_eq!(model.lanes.parked(), 0);
    }
}

#[test]
fn a_lane_without_room_refuses_and_goes_on() {
    let mut model = Model::new();
    model.place.is_open = false;
    for _ in 0..PARKED_MAX + 5 {
        model.submit(0);
    }
    assert_eq!(model.lanes.parked(), PARKED_MAX);
    assert_eq!(model.fates.iter().filter(|fate| fate.is_finished).count(), 5);
    model.take(Step::Resolve);
    model.place.is_open = true;
    model.handle(Input::RoutesChanged);
    assert_eq!(model.under_way.len(), PARKED_MAX);
}

#[test]
fn a_moved_write_is_asked_for_at_the_next_home_as_soon_as_there_is_one() {
    let mut model = Model::new();
    model.submit(0);
    model.take(Step::Resolve);
    model.place.is_open = false;
    model.answer(0, How::Moved);
    model.submit(0);
    model.take(Step::Wait { ms: 20 });
    assert!(model.under_way.is_empty(), "both wait, in their order");
    model.take(Step::Route { is_open: true, raise: true, reconnect: false });
    let sent: Vec<u64> = model.under_way.iter().map(|(_, write, _)| *write).collect();
    assert_eq!(sent, [0, 1], "no wait behind the route");
    model.answer(0, How::Acked);
    assert!(model.fates[0].is_finished);
}

#[test]
fn writes_leave_for_the_home_that_is_to_come_and_are_not_asked_twice_when_it_is() {
    let mut model = Model::new();
    model.submit(0);
    model.take(Step::Resolve);
    model.take(Step::Move { is_under_way: true });
    model.submit(0);
    assert_eq!(model.under_way.len(), 1, "not before the present home has answered what it has");
    model.answer(0, How::NotHome { ahead: false });
    let sent: Vec<(u64, &str)> =
        model.under_way.iter().map(|(_, write, route)| (*write, route.node.as_str())).collect();
    assert_eq!(sent, [(0, "ap-south-1"), (1, "ap-south-1")]);
    assert!(model.under_way.iter().all(|(_, _, route)| route.epoch == Epoch::FIRST.plus(1)));
    // All that it holds comes out at once, and that fails nothing.
    model.answer(1, How::Overloaded);
    model.answer(0, How::Acked);
    assert!(model.fates[0].is_finished && !model.fates[1].is_finished);
}

#[test]
fn one_that_is_not_to_be_home_after_all_is_not_asked_without_a_pause() {
    let mut model = Model::new();
    model.take(Step::Move { is_under_way: true });
    model.submit(0);
    model.take(Step::Resolve);
    assert_eq!(model.under_way.len(), 1);
    model.answer(0, How::NotHome { ahead: false });
    assert!(model.under_way.is_empty(), "it waits");
    model.take(Step::Wait { ms: 60 });
    assert_eq!(model.under_way.len(), 1, "and asks again");
    model.answer(0, How::NotHome { ahead: false });
    // The move was given up: the former home has it, in the next epoch.
    model.take(Step::Route { is_open: true, raise: true, reconnect: false });
    assert_eq!(model.under_way[0].2.node.as_str(), "eu-west-1");
}

#[test]
fn a_moved_write_that_nobody_answers_is_of_unknown_outcome() {
    let mut model = Model::new();
    model.submit(0);
    model.take(Step::Resolve);
    model.answer(0, How::Moved);
    model.place.is_open = false;
    model.take(Step::Wait { ms: DEADLINE_MS });
    assert!(model.fates[0].is_finished && model.fates[0].may_be_written);
}

#[test]
fn what_has_waited_is_not_failed_by_all_coming_out_at_once() {
    let mut model = Model::new();
    model.place.is_open = false;
    model.submit(0);
    model.take(Step::Resolve);
    model.submit(0);
    model.take(Step::Route { is_open: true, raise: true, reconnect: false });
    assert_eq!(model.under_way.len(), 2);
    model.answer(1, How::Overloaded);
    model.answer(0, How::Overloaded);
    assert!(model.fates.iter().all(|fate| !fate.is_finished), "a pause fails no write");
    model.take(Step::Wait { ms: 200 });
    let sent: Vec<u64> = model.under_way.iter().map(|(_, write, _)| *write).collect();
    assert_eq!(sent, [0, 1], "in their order");
    model.answer(0, How::Acked);
    model.answer(0, How::Acked);
    model.submit(0);
    model.take(Step::Resolve);
    model.answer(0, How::Overloaded);
    assert!(model.fates[2].is_finished, "who has not waited is told");
}

#[test]
fn writes_wait_for_a_directory_that_cannot_be_reached_until_their_deadline() {
    let mut model = Model::new();
    model.submit(0);
    for _ in 0..3 {
        assert_eq!(std::mem::take(&mut model.unresolved), BTreeSet::from([0]));
        let unreachable = Refusal::new(Code::DirectoryUnavailable, "no answer");
        model.handle(Input::Resolved(key(0), Err(unreachable)));
        model.submit(0);
        assert!(model.unresolved.is_empty(), "not at once");
        model.take(Step::Wait { ms: 200 });
    }
    assert!(model.fates.iter().all(|fate| !fate.is_finished));
    model.take(Step::Resolve);
    assert_eq!(model.under_way.len(), 4);
    model.submit(1);
    model.handle(Input::Resolved(key(1), Err(Refusal::new(Code::UnknownChat, "there is no such chat"))));
    assert!(model.fates[4].is_finished, "a last word is one");
}
