//! The feed against a home that fails over, a bus that loses, and sessions that come and go.

mod bursts;
mod cases;

use super::feed::{Feed, FillId, Input, Output, SessionId};
use crate::{
    bus::Published,
    peer::Channel,
    router::Route,
    service::{LocateAnswer, NotHome, ReadRefusal, Subscribed},
};
use bytes::Bytes;
use log_store::{fold::LogState, locate::locate};
use proptest::prelude::*;
use std::{collections::BTreeMap, collections::VecDeque, sync::Arc};
use types::{
    Body, DeviceId, Entry, EntryBody, Epoch, Generation, LogId, Lsn, MessageId, NodeId, Offset, PartitionId,
    PinSegment, Position, Record, UserId,
};

const LOG: LogId = LogId::group([1; 16]);
const PARTITION: PartitionId = PartitionId::new(0);
const PIN: PinSegment =
    PinSegment { generation: Generation::FIRST, partition: PARTITION, first_offset: Offset::FIRST };

/// The log at its home.
#[derive(Debug, Default, Clone)]
struct Log {
    records: Vec<Record>,
    state: LogState,
}

impl Log {
    fn append(&mut self, epoch: Epoch) -> Published {
        let previous_era = self.state.head.era();
        let record = Record {
            lsn: Lsn::new(self.records.len() as u64 + 1),
            epoch,
            generation: Generation::FIRST,
            log: LOG,
            accepted_at_ms: 0,
            body: Body::Entry(Entry {
                offset: self.state.head.offset.plus(1),
                sender: user(),
                device: DeviceId::new(1),
                message_id: MessageId::from_bytes([0; 16]),
                expires_at_ms: None,
                salvaged: false,
                about: None,
                body: EntryBody::Message { ciphertext: Bytes::from_static(b"x") },
            }),
        };
        self.state.apply(&record).expect("it follows");
        self.records.push(record.clone());
        Published { record, previous_era }
    }

    fn cut(&mut self, keep: usize) {
        let records: Vec<Record> = self.records.drain(..keep.min(self.records.len())).collect();
        *self = Self::default();
        for record in records {
            self.state.apply(&record).expect("it follows");
            self.records.push(record);
        }
    }
}

fn user() -> UserId {
    UserId::new("alice").expect("a valid name")
}

fn at(epoch: u64, offset: u64) -> Position {
    Position::new(Generation::FIRST, Epoch::new(epoch), Offset::new(offset))
}

fn route(epoch: u64) -> Arc<Route> {
    let node = NodeId::new("eu-west-1").expect("a valid name");
    Arc::new(Route { node, channel: Channel(epoch), epoch: Epoch::new(epoch) })
}

#[derive(Debug, Clone)]
enum Step {
    Append,
    /// The next events of the bus arrive together, or the next one is lost.
    Bus {
        count: usize,
        is_lost: bool,
    },
    Lag,
    Join {
        session: u64,
        at: prop::sample::Index,
        is_stale: bool,
        at_end: bool,
    },
    Leave {
        session: u64,
    },
    /// A session's queue takes so many more entries and then is full.
    Overflow {
        session: u64,
        takes: usize,
    },
    /// Something that was asked is answered.
    Answer {
        which: prop::sample::Index,
        fails: bool,
    },
    FailOver {
        undone: u64,
    },
    Tick,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Append),
        8 => (1usize..12, prop::bool::weighted(0.1))
            .prop_map(|(count, is_lost)| Step::Bus { count, is_lost }),
        1 => Just(Step::Lag),
        3 => (0u64..4, any::<prop::sample::Index>(), any::<bool>(), any::<bool>())
            .prop_map(|(session, at, is_stale, at_end)| Step::Join { session, at, is_stale, at_end }),
        1 => (0u64..4).prop_map(|session| Step::Leave { session }),
        1 => (0u64..4, 0usize..4).prop_map(|(session, takes)| Step::Overflow { session, takes }),
        10 => (any::<prop::sample::Index>(), prop::bool::weighted(0.1))
            .prop_map(|(which, fails)| Step::Answer { which, fails }),
        1 => (0u64..6).prop_map(|undone| Step::FailOver { undone }),
        3 => Just(Step::Tick),
    ]
}

#[derive(Debug)]
enum Asked {
    Subscribe(Arc<Route>),
    Fill { after: Position, to: Vec<(SessionId, FillId)> },
    Check(Position),
}

enum Event {
    Published(Arc<Published>),
    Replicated(Position),
}

struct Model {
    feed: Feed,
    log: Log,
    epoch: Epoch,
    now_ms: u64,
    bus: VecDeque<Event>,
    is_subscribed: bool,
    asked: Vec<Asked>,
    /// What each session holds, oldest first.
    sessions: BTreeMap<u64, Vec<Position>>,
    overflowing: Option<(u64, usize)>,
    told_behind: BTreeMap<u64, Position>,
    lost_on_the_bus: bool,
}

impl Model {
    fn new() -> Self {
        let mut log = Log::default();
        log.append(Epoch::FIRST);
        Self {
            feed: Feed::new(PIN),
            log,
            epoch: Epoch::FIRST,
            now_ms: 0,
            bus: VecDeque::new(),
            is_subscribed: false,
            asked: Vec::new(),
            sessions: BTreeMap::new(),
            overflowing: None,
            told_behind: BTreeMap::new(),
            lost_on_the_bus: false,
        }
    }

    fn route(&self) -> Arc<Route> {
        route(self.epoch.get())
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Append => {
                let published = Arc::new(self.log.append(self.epoch));
                if self.is_subscribed {
                    let position = self.log.state.head;
                    self.bus.push_back(Event::Published(published));
                    self.bus.push_back(Event::Replicated(position));
                }
            }
            // What a sink drops is told by a lag behind what it kept.
            Step::Bus { is_lost: true, .. } if self.bus.pop_front().is_some() => self.lost_on_the_bus = true,
            Step::Bus { .. } if self.bus.is_empty() => self.lag(),
            Step::Bus { count, .. } => self.burst(count),
            Step::Lag => self.lag(),
            Step::Join { session, at, is_stale, at_end } => self.join(session, at, is_stale, at_end),
            Step::Leave { session } => {
                self.sessions.remove(&session);
                self.handle(Input::Leave(SessionId(session)));
            }
            Step::Overflow { session, takes } => self.overflowing = Some((session, takes)),
            Step::Answer { which, fails } => {
                if !self.asked.is_empty() {
                    let asked = self.asked.remove(which.index(self.asked.len()));
                    self.answer(asked, fails);
                }
            }
            Step::FailOver { undone } => {
                let keep = self.log.records.len().saturating_sub(undone as usize).max(1);
                self.log.cut(keep);
                self.epoch = self.epoch.plus(1);
                self.is_subscribed = false;
                self.handle(Input::Route(Some(self.route())));
            }
            Step::Tick => self.tick(),
        }
    }

    /// Events that arrive together: the entries first, then the last tick.
    fn burst(&mut self, count: usize) {
        let mut published = Vec::new();
        let mut replicated = None;
        for event in self.bus.drain(..count.min(self.bus.len())) {
            match event {
                Event::Published(entry) => published.push(entry),
                Event::Replicated(position) => replicated = replicated.max(Some(position)),
            }
        }
        self.handle(Input::Published(published));
        if let Some(position) = replicated {
            self.handle(Input::Replicated(position));
        }
    }

    fn lag(&mut self) {
        if std::mem::take(&mut self.lost_on_the_bus) {
            self.handle(Input::Lagged);
        }
    }

    fn tick(&mut self) {
        self.now_ms += 250;
        self.handle(Input::Route(Some(self.route())));
        self.handle(Input::Tick);
    }

    fn join(&mut self, session: u64, at: prop::sample::Index, is_stale: bool, at_end: bool) {
        let offset = at.index(self.log.records.len() + 1);
        let held: Vec<Position> = self.log.records[..offset].iter().filter_map(Record::position).collect();
        let position = held.last().copied().unwrap_or(Position::START);
        self.sessions.insert(session, held);
        self.told_behind.remove(&session);
        let epoch = if is_stale { Epoch::new(self.epoch.get() - 1) } else { self.epoch };
        let checked = (Generation::FIRST, epoch);
        let session = SessionId(session);
        self.handle(Input::Join { session, position, checked, at_end });
    }

    fn answer(&mut self, asked: Asked, fails: bool) {
        let gone = || NotHome {
            partition: PARTITION,
            epoch: self.epoch,
            home: None,
            moving: false,
            closed: Generation::ZERO,
        };
        match asked {
            Asked::Subscribe(route) => {
                let is_right = route == self.route() && !fails;
                if is_right {
                    self.is_subscribed = true;
                }
                let subscribed = is_right.then_some(Subscribed {
                    head: self.log.state.head,
                    replicated: self.log.state.head,
                    epoch: self.epoch,
                    generation: Generation::FIRST,
                });
                self.handle(Input::Subscribed(route, subscribed));
                self.handle(Input::Route(Some(self.route())));
            }
            Asked::Check(position) => {
                let answer = if fails { Err(gone().into()) } else { Ok(self.located(position)) };
                self.handle(Input::Checked(position, answer));
            }
            Asked::Fill { after, to } => self.fill(after, &to, fails),
        }
    }

    fn located(&self, position: Position) -> LocateAnswer {
        LocateAnswer {
            located: locate(&self.log.state, (Generation::FIRST, self.epoch), position),
            head: self.log.state.head,
            replicated: self.log.state.head,
            generation: Generation::FIRST,
            epoch: self.epoch,
            closed: Generation::ZERO,
            until: None,
        }
    }

    fn fill(&mut self, after: Position, to: &[(SessionId, FillId)], fails: bool) {
        let stands = after == Position::START || self.log.state.position_at(after.offset) == Some(after);
        for &(session, fill) in to {
            if !self.feed.awaits(session, fill) {
                continue;
            }
            if fails || !stands {
                let why = ReadRefusal::Diverged { common: Position::START };
                self.handle(Input::NotFilled { session, fill, why });
                continue;
            }
            let page: Vec<Position> = self.log.records[after.offset.get() as usize..]
                .iter()
                .take(3)
                .filter_map(Record::position)
                .collect();
            let reached = page.last().copied().unwrap_or(after);
            let at_end = reached.offset == self.log.state.head.offset;
            for position in page {
                self.give(session, position);
            }
            self.handle(Input::Filled { session, fill, to: reached, at_end });
        }
    }

    /// A session gets an entry: it must be the next one.
    fn give(&mut self, session: SessionId, position: Position) {
        let Some(held) = self.sessions.get_mut(&session.0) else { return };
        assert!(!self.told_behind.contains_key(&session.0), "an entry after Behind");
        let last = held.last().map_or(Offset::ZERO, |last| last.offset);
        assert_eq!(position.offset, last.plus(1), "session {} at {last} gets {position}", session.0);
        held.push(position);
    }

    fn handle(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut outputs = Vec::new();
            self.feed.handle(self.now_ms, input, &mut outputs);
            for output in outputs {
                inputs.extend(self.act(output));
            }
        }
    }

    fn act(&mut self, output: Output) -> Vec<Input> {
        let mut inputs = Vec::new();
        match output {
            Output::SubscribeAt(route) => self.asked.push(Asked::Subscribe(route)),
            Output::Unsubscribe(route, _) => {
                if route == self.route() {
                    self.is_subscribed = false;
                }
            }
            Output::Deliver { entries, after, to } => {
                for session in to {
                    inputs.extend(self.hand(session, &entries, after));
                }
            }
            Output::Fill { after, to, .. } => self.asked.push(Asked::Fill { after, to }),
            Output::Check { position, .. } => self.asked.push(Asked::Check(position)),
            Output::Diverged { session, common } => {
                if let Some(held) = self.sessions.get_mut(&session.0) {
                    held.truncate(common.offset.get() as usize);
                    // A client whose own entry is another one asks again from there; it is made to agree.
                    if held.last().is_some_and(|last| *last != common) {
                        *held = self.log.records[..common.offset.get() as usize]
                            .iter()
                            .filter_map(Record::position)
                            .collect();
                    }
                }
            }
            Output::Replicated { position, has, to, .. } => {
                for session in to {
                    if self.told_behind.contains_key(&session.0) {
                        continue;
                    }
                    let held = &self.sessions[&session.0];
                    let is_held = held.last().is_some_and(|last| last.offset >= position.offset);
                    assert!(is_held || position == Position::START, "a tick before its entry");
                    assert_eq!(held.last().copied().unwrap_or(Position::START), has);
                }
            }
            Output::Behind { session, position } => {
                let held = self.sessions.remove(&session.0).unwrap_or_default();
                assert_eq!(held.last().copied().unwrap_or(Position::START), position);
            }
            Output::Drop => self.feed = Feed::new(PIN),
        }
        inputs
    }

    /// Entries for a session, which stands at `after`; its queue may be full in the middle of them.
    fn hand(&mut self, session: SessionId, entries: &[Arc<Published>], after: Position) -> Option<Input> {
        if self.told_behind.contains_key(&session.0) {
            return None;
        }
        let held = self.sessions.get(&session.0).and_then(|held| held.last().copied());
        assert_eq!(held.unwrap_or(Position::START), after, "session {}", session.0);
        let mut has = after;
        for entry in entries {
            if let Some((full, takes)) = &mut self.overflowing
                && *full == session.0
            {
                if *takes == 0 {
                    self.overflowing = None;
                    self.told_behind.insert(session.0, has);
                    return Some(Input::Overflowed { session, has });
                }
                *takes -= 1;
            }
            has = entry.record.position().expect("entries are published");
            self.give(session, has);
        }
        None
    }

    /// Everything is answered and nothing is lost any more.
    fn calm_down(&mut self) {
        self.overflowing = None;
        for _ in 0..200 {
            self.burst(usize::MAX);
            self.lag();
            let asked: Vec<Asked> = self.asked.drain(..).collect();
            let is_calm = asked.is_empty() && !self.feed.is_restless();
            for asked in asked {
                self.answer(asked, false);
            }
            if is_calm && self.asked.is_empty() {
                return;
            }
            self.tick();
        }
        assert!(self.sessions.is_empty(), "the feed never calms down: {:?}", self.feed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_session_ends_with_the_log(steps in prop::collection::vec(step(), 1..150)) {
        let mut model = Model::new();
        model.handle(Input::Route(Some(model.route())));
        for step in steps {
            model.take(step);
        }
        model.calm_down();
        let log: Vec<Position> = model.log.records.iter().filter_map(Record::position).collect();
        for (session, held) in &model.sessions {
            prop_assert_eq!(held, &log, "session {}", session);
        }
    }
}
