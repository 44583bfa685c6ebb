//! The session core against a model of the server, with faults in any order: what the app is told stays true.
//!
//! The connection is two queues that a step moves on or drops. Writes that were on the wire when it dropped
//! can still reach the server later, as from a node that had parked them.

use client::{
    Config, Event, From, Snapshot,
    session::{Input, Output, SessionCore},
    testing::{Fault, Model},
};
use proptest::prelude::*;
use proto::client::{self as wire, client_frame::Frame};
use std::collections::{HashMap, HashSet, VecDeque};
use types::{Code, DeviceId, LogId, MessageId, UserId};

const OWN_DEVICE: u64 = 7;
const SETTLE_ROUNDS: usize = 3_000;

#[derive(Debug, Clone)]
enum Step {
    Say(u8),
    Up(u8),
    Down(u8),
    Cut,
    Late(u8),
    Other(u8),
    FailOver(u8),
    Replicate(u8),
    Fault(Fault),
    PositionFault(Code),
    Wait(u16),
    FallBehind,
    /// The server sends the session away, and closes later if it is still there.
    GoAway {
        after_ms: u16,
        within_ms: u16,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let fault = prop_oneof![
        Just(Fault::Refuse(Code::HomeUnavailable)),
        Just(Fault::Refuse(Code::Overloaded)),
        Just(Fault::Refuse(Code::Indeterminate)),
        Just(Fault::Refuse(Code::Internal)),
        Just(Fault::WriteButDoubt),
        Just(Fault::DoubtOnly),
    ];
    let position_fault = prop_oneof![Just(Code::NotReady), Just(Code::Internal), Just(Code::PositionUnknown)];
    prop_oneof![
        6 => (1u8..8).prop_map(Step::Say),
        10 => (1u8..10).prop_map(Step::Up),
        10 => (1u8..10).prop_map(Step::Down),
        2 => Just(Step::Cut),
        2 => (1u8..6).prop_map(Step::Late),
        3 => (1u8..4).prop_map(Step::Other),
        2 => (0u8..6).prop_map(Step::FailOver),
        4 => (1u8..8).prop_map(Step::Replicate),
        2 => fault.prop_map(Step::Fault),
        2 => position_fault.prop_map(Step::PositionFault),
        6 => (1u16..3_000).prop_map(Step::Wait),
        1 => Just(Step::FallBehind),
        2 => (0u16..600, 1u16..1_000).prop_map(|(after_ms, within_ms)| Step::GoAway { after_ms, within_ms }),
        1 => Just(Step::Restart),
    ]
}

struct Connection {
    session: u64,
    up: VecDeque<wire::ClientFrame>,
    down: VecDeque<wire::ServerFrame>,
    is_welcomed: bool,
    /// Sent away: by when it is to have gone.
    away_until_ms: u64,
}

/// What an app makes of the events.
#[derive(Default)]
struct App {
    shown: Vec<(MessageId, String)>,
    undone: HashSet<MessageId>,
    known: HashSet<MessageId>,
    forgot: bool,
    replicated: HashMap<MessageId, u64>,
    said: Vec<MessageId>,
}

struct World {
    now_ms: u64,
    model: Model,
    core: SessionCore,
    connection: Option<Connection>,
    opening: bool,
    parked: VecDeque<wire::Send>,
    app: App,
    log: LogId,
    messages: u64,
    seed: u64,
}

fn user() -> UserId {
    UserId::new("alice").expect("a valid name")
}

fn config() -> Config {
    let mut config = Config::new(["ws://one", "ws://two"], user(), DeviceId::new(OWN_DEVICE));
    config.bounds.window = 8;
    config
}

impl World {
    fn new(seed: u64) -> Self {
        let log = LogId::group([1; 16]);
        let mut model = Model::new();
        model.hold_replication = true;
        model.append(log, "bob", 1, &message(u64::MAX).to_string(), body());
        let core = SessionCore::new(config(), Snapshot::default(), seed);
        let mut world = Self {
            now_ms: 0,
            model,
            core,
            connection: None,
            opening: false,
            parked: VecDeque::new(),
            app: App::default(),
            log,
            messages: 0,
            seed,
        };
        world.tell(Input::Start);
        world.tell(Input::Follow { log, from: From::Start });
        world
    }

    fn tell(&mut self, input: Input) {
        let mut out = Vec::new();
        self.core.handle(self.now_ms, input, &mut out);
        for output in out {
            match output {
                Output::Connect { .. } => self.opening = true,
                Output::Disconnect => {
                    self.check_leaving();
                    self.drop_connection();
                }
                Output::Frame(frame) => {
                    let connection = self.connection.as_mut().expect("frames need a connection");
                    connection.up.push_back(frame);
                }
                Output::Event(event) => self.app.hear(event, &self.model, self.log),
                Output::Answer { .. } => {}
            }
        }
        self.collect();
    }

    fn collect(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.down.extend(self.model.take(connection.session));
        }
    }

    /// Whoever is sent away leaves nothing unanswered behind while there is time.
    fn check_leaving(&self) {
        let Some(connection) = self.connection.as_ref().filter(|it| self.now_ms < it.away_until_ms) else {
            return;
        };
        let unheard = connection.up.iter().filter(|frame| matches!(frame.frame, Some(Frame::Send(_))));
        let unread = connection
            .down
            .iter()
            .filter(|frame| matches!(frame.frame, Some(wire::server_frame::Frame::Sent(_))));
        assert_eq!((unheard.count(), unread.count()), (0, 0), "it leaves with writes unanswered");
    }

    fn drop_connection(&mut self) {
        self.opening = false;
        if let Some(connection) = self.connection.take() {
            self.model.disconnect(connection.session);
            self.parked.extend(connection.up.into_iter().filter_map(|frame| match frame.frame {
                Some(Frame::Send(send)) => Some(send),
                _ => None,
            }));
        }
    }

    fn up(&mut self, count: usize) {
        for _ in 0..count {
            let Some(connection) = &mut self.connection else { return };
            let Some(frame) = connection.up.pop_front() else { return };
            self.model.frame(connection.session, frame);
            self.collect();
        }
    }

    fn down(&mut self, count: usize) {
        for _ in 0..count {
            let frame = self.connection.as_mut().and_then(|connection| connection.down.pop_front());
            let Some(frame) = frame else { return };
            if let Some(wire::server_frame::Frame::GoAway(away)) = &frame.frame {
                let connection = self.connection.as_mut().expect("it carried the frame");
                connection
                    .is_welcomed
                    .then(|| connection.away_until_ms = self.now_ms + u64::from(away.within_ms));
            }
            if let (Some(wire::server_frame::Frame::Welcome(_)), Some(connection)) =
                (&frame.frame, &mut self.connection)
            {
                connection.is_welcomed = true;
            }
            self.tell(Input::Frame(frame));
        }
    }

    fn wait(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        loop {
            if self.opening {
                self.opening = false;
                let session = self.model.connect();
                self.connection = Some(Connection {
                    session,
                    up: VecDeque::new(),
                    down: VecDeque::new(),
                    is_welcomed: false,
                    away_until_ms: 0,
                });
                self.tell(Input::Connected);
            }
            match self.core.wake_ms().filter(|wake_ms| *wake_ms <= until_ms) {
                Some(wake_ms) => self.now_ms = self.now_ms.max(wake_ms),
                None => break,
            }
            self.tell(Input::Tick);
        }
        self.now_ms = until_ms;
    }

    fn late(&mut self, count: usize) {
        for _ in 0..count {
            let Some(send) = self.parked.pop_front() else { return };
            self.model.late_write("alice", OWN_DEVICE, send);
        }
        self.collect();
    }

    fn fresh(&mut self) -> MessageId {
        self.messages += 1;
        message(self.messages)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Say(count) => {
                for _ in 0..count {
                    let message_id = self.fresh();
                    self.app.said.push(message_id);
                    self.tell(Input::Send { log: self.log, message_id, message: "body".into() });
                }
            }
            Step::Up(count) => self.up(count.into()),
            Step::Down(count) => self.down(count.into()),
            Step::Cut => {
                if self.connection.is_some() {
                    self.drop_connection();
                    self.tell(Input::Disconnected { reason: "cut".to_owned() });
                }
            }
            Step::Late(count) => self.late(count.into()),
            Step::Other(count) => {
                for _ in 0..count {
                    let id = self.fresh().to_string();
                    self.model.append(self.log, "bob", 1, &id, body());
                }
            }
            Step::FailOver(keep) => self.model.fail_over(keep.into()),
            Step::Replicate(count) => {
                let to = self.model.replicated(self.log) + u64::from(count);
                self.model.replicate(self.log, to);
            }
            Step::Fault(fault) => self.model.faults.push_back(fault),
            Step::PositionFault(code) => self.model.position_faults.push_back(code),
            Step::Wait(ms) => self.wait(ms.into()),
            Step::GoAway { after_ms, within_ms } => {
                if let Some(connection) = &mut self.connection {
                    let away = wire::GoAway {
                        within_ms: within_ms.into(),
                        reason: "the node is going down".to_owned(),
                        addresses: vec!["ws://three".to_owned()],
                        reconnect_after_ms: after_ms.into(),
                    };
                    let frame = Some(wire::server_frame::Frame::GoAway(away));
                    connection.down.push_back(wire::ServerFrame { request_id: 0, frame });
                }
            }
            Step::FallBehind => self.model.fall_behind(self.log),
            Step::Restart => {
                let snapshot = self.core.snapshot();
                self.drop_connection();
                self.seed += 1;
                self.core = SessionCore::new(config(), snapshot, self.seed);
                self.tell(Input::Start);
                self.tell(Input::Follow { log: self.log, from: From::Start });
            }
        }
        self.collect();
    }

    /// No more faults: everything that is due happens, until nothing is left to happen.
    fn settle(&mut self) {
        self.model.faults.clear();
        self.model.position_faults.clear();
        self.late(usize::MAX);
        for _ in 0..SETTLE_ROUNDS {
            self.model.replicate(self.log, u64::MAX);
            self.collect();
            self.up(usize::MAX);
            self.down(usize::MAX);
            if self.core.outbox_size().0 == 0 && self.app.shown.len() == self.model.entries(self.log).len() {
                return;
            }
            self.wait(50);
        }
        panic!(
            "it does not settle: {:?} in the outbox, {} of {} entries shown",
            self.core.outbox_size(),
            self.app.shown.len(),
            self.model.entries(self.log).len()
        );
    }

    fn check(&self) {
        let entries = self.model.entries(self.log);
        let truth: Vec<_> =
            entries.iter().map(|entry| (entry.message_id.clone(), entry.position.clone())).collect();
        let shown: Vec<_> =
            self.app.shown.iter().map(|(id, position)| (id.to_string(), position.clone())).collect();
        assert_eq!(shown, truth, "the app shows what the log holds");
        let own: Vec<String> = entries
            .iter()
            .filter(|entry| entry.device == OWN_DEVICE)
            .map(|entry| entry.message_id.clone())
            .collect();
        let said: Vec<String> = self.app.said.iter().map(MessageId::to_string).collect();
        assert_eq!(own, said, "every message is in the log, once, in the order of its saying");
        for (id, offset) in &self.app.replicated {
            assert_eq!(entries[*offset as usize - 1].message_id, id.to_string(), "replicated is final");
        }
    }
}

impl App {
    fn hear(&mut self, event: Event, model: &Model, log: LogId) {
        match event {
            Event::Entry { entry, .. } => {
                let first = self.known.insert(entry.message_id);
                assert!(first || self.forgot, "{} is shown twice", entry.message_id);
                self.undone.remove(&entry.message_id);
                self.show(&entry);
            }
            Event::Moved { entry, .. } => {
                assert!(self.undone.remove(&entry.message_id), "{} was not undone", entry.message_id);
                self.show(&entry);
            }
            Event::Diverged { common_offset, undone, forgotten, .. } => {
                let cut: Vec<_> = self.shown.drain(common_offset as usize..).map(|(id, _)| id).collect();
                if !forgotten {
                    assert_eq!(cut, undone, "exactly what was shown is undone");
                }
                self.forgot |= forgotten;
                self.undone.extend(cut);
            }
            Event::Replicated { message_id, offset, position, .. } => {
                assert!(offset <= model.replicated(log), "told too early");
                let entry = &model.entries(log)[offset as usize - 1];
                assert_eq!(
                    (&entry.message_id, entry.position.as_str()),
                    (&message_id.to_string(), position.as_str())
                );
                let first = self.replicated.insert(message_id, offset).is_none();
                assert!(first, "{message_id} becomes replicated twice");
            }
            Event::Failed { message_id, error, .. } => panic!("{message_id} failed: {error}"),
            Event::Unfollowed { error, .. } | Event::Ended { error } => panic!("given up: {error}"),
            _ => {}
        }
    }

    fn show(&mut self, entry: &client::Entry) {
        self.shown.push((entry.message_id, entry.position.to_string()));
        assert_eq!(entry.offset, self.shown.len() as u64, "offsets are dense");
    }
}

fn message(number: u64) -> MessageId {
    MessageId::from_bytes(u128::from(number).to_be_bytes())
}

fn body() -> wire::entry::Body {
    wire::entry::Body::Ciphertext("body".into())
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_repeated_or_reordered(steps in prop::collection::vec(step(), 1..120), seed: u64) {
        let mut world = World::new(seed);
        for step in steps {
            world.step(step);
        }
        world.settle();
        world.check();
    }
}

#[test]
fn a_message_to_one_chat_too_many_is_told_to_have_failed() {
    let mut core = SessionCore::new(config(), Snapshot::default(), 1);
    let mut out = Vec::new();
    let numbered = |number: u64| LogId::group(u128::from(number).to_be_bytes());
    for number in 0..types::limits::SESSION_LOGS_MAX as u64 {
        core.handle(0, Input::Follow { log: numbered(number), from: From::End }, &mut out);
    }
    out.clear();
    let (log, message_id) = (numbered(u64::MAX), message(1));
    core.handle(0, Input::Send { log, message_id, message: "body".into() }, &mut out);
    let failed = |output: &Output| match output {
        Output::Event(Event::Failed { message_id: failed, error, .. }) => {
            *failed == message_id && error.is_retryable()
        }
        _ => false,
    };
    assert!(out.iter().any(failed), "{} other outputs", out.len());
    assert_eq!(core.outbox_size().0, 0);
}

#[test]
fn a_server_that_cannot_read_is_not_asked_in_a_tight_loop() {
    let mut world = World::new(1);
    world.wait(1);
    world.up(usize::MAX);
    world.down(usize::MAX);
    world.up(usize::MAX);
    world.down(usize::MAX);
    let mut asked = 0;
    for _ in 0..20 {
        world.model.fall_behind(world.log);
        world.collect();
        world.down(usize::MAX);
        let up = &world.connection.as_ref().expect("it stands").up;
        asked += up.iter().filter(|frame| matches!(frame.frame, Some(Frame::Subscribe(_)))).count();
        world.up(usize::MAX);
        world.down(usize::MAX);
    }
    assert!((1..=3).contains(&asked), "asked {asked} times in no time");
    world.settle();
}
