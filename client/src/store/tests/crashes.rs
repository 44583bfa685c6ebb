//! A kept session that dies anywhere: the driver's and the app's parts are played here, step by step, with the
//! session core, the ledger and a store as they are.
//!
//! A message is said once its row is committed. The app takes events, and at some time saves what it has made of
//! them and confirms; it can die between the two, too.

use super::*;
use crate::{
    Config, Event, From,
    session::{Input, Output, SessionCore},
    testing::{Fault, Model},
};
use proto::client as wire;
use std::collections::{HashSet, VecDeque};
use types::Code;

const SETTLE_ROUNDS: usize = 1_000;

#[derive(Debug, Clone)]
enum Step {
    Say(u8),
    Other(u8),
    Exchange,
    Cut,
    FailOver(u8),
    Replicate(u8),
    Fault(Fault),
    Wait(u16),
    Take(u8),
    Save,
    Confirm,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let fault = prop_oneof![
        Just(Fault::Refuse(Code::HomeUnavailable)),
        Just(Fault::WriteButDoubt),
        Just(Fault::DoubtOnly),
    ];
    prop_oneof![
        5 => (1u8..6).prop_map(Step::Say),
        3 => (1u8..4).prop_map(Step::Other),
        12 => Just(Step::Exchange),
        2 => Just(Step::Cut),
        2 => (0u8..4).prop_map(Step::FailOver),
        5 => (1u8..9).prop_map(Step::Replicate),
        1 => fault.prop_map(Step::Fault),
        5 => (1u16..2_000).prop_map(Step::Wait),
        8 => (1u8..30).prop_map(Step::Take),
        2 => Just(Step::Save),
        5 => Just(Step::Confirm),
        2 => Just(Step::Crash),
    ]
}

/// What an app makes of its events.
#[derive(Debug, Clone, Default)]
struct View {
    shown: Vec<(MessageId, Position)>,
    replicated: HashSet<MessageId>,
}

struct World {
    now_ms: u64,
    log: LogId,
    model: Model,
    store: MemoryStore,
    core: SessionCore,
    ledger: Ledger,
    session: Option<u64>,
    opening: bool,
    down: VecDeque<wire::ServerFrame>,
    /// Events that the app has not taken.
    events: VecDeque<Event>,
    view: View,
    saved: View,
    /// The outcomes that the app was told in this life.
    told: HashSet<MessageId>,
    /// Those that it has confirmed in any.
    confirmed: HashSet<MessageId>,
    said: Vec<MessageId>,
    messages: u64,
    lives: u64,
}

fn config() -> Config {
    Config::new(["ws://one"], user(), DEVICE)
}

fn body() -> wire::entry::Body {
    wire::entry::Body::Ciphertext("body".into())
}

impl World {
    fn new() -> Self {
        let mut model = Model::new();
        model.hold_replication = true;
        model.append(log(1), "bob", 1, &MessageId::from_bytes([9; 16]).to_string(), body());
        let mut world = Self {
            now_ms: 0,
            log: log(1),
            model,
            store: MemoryStore::new(),
            core: SessionCore::new(config(), Snapshot::default(), 0),
            ledger: Ledger::new(&Snapshot::default(), 64),
            session: None,
            opening: false,
            down: VecDeque::new(),
            events: VecDeque::new(),
            view: View::default(),
            saved: View::default(),
            told: HashSet::new(),
            confirmed: HashSet::new(),
            said: Vec::new(),
            messages: 0,
            lives: 0,
        };
        world.live();
        world
    }

    /// A process begins.
    fn live(&mut self) {
        self.lives += 1;
        let snapshot = self.store.load(&user(), DEVICE).expect("loaded");
        self.ledger = Ledger::new(&snapshot, config().bounds.timeline_entries);
        self.core = SessionCore::new(config(), snapshot, self.lives);
        self.view = self.saved.clone();
        self.told.clear();
        self.tell(Input::Start);
        self.keep(Change::Follow { log: self.log, position: Position::start(), offset: 0 });
        self.tell(Input::Follow { log: self.log, from: From::Start });
    }

    fn keep(&mut self, change: Change) {
        self.store.commit(&[change]).expect("kept");
    }

    fn tell(&mut self, input: Input) {
        let mut out = Vec::new();
        self.core.handle(self.now_ms, input, &mut out);
        for output in out {
            match output {
                Output::Connect { .. } => self.opening = true,
                Output::Disconnect => self.disconnect(),
                Output::Frame(frame) => {
                    let session = self.session.expect("frames need a connection");
                    self.model.frame(session, frame);
                }
                Output::Event(event) => self.events.push_back(event),
                Output::Answer { .. } => {}
            }
        }
    }

    fn disconnect(&mut self) {
        self.opening = false;
        self.down.clear();
        if let Some(session) = self.session.take() {
            self.model.disconnect(session);
        }
    }

    fn exchange(&mut self) {
        if self.opening {
            self.opening = false;
            self.session = Some(self.model.connect());
            self.tell(Input::Connected);
        }
        loop {
            if let Some(session) = self.session {
                let frames = self.model.take(session);
                self.down.extend(frames);
            }
            let Some(frame) = self.down.pop_front() else { return };
            self.tell(Input::Frame(frame));
        }
    }

    fn wait(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        while let Some(wake_ms) = self.core.wake_ms().filter(|wake_ms| *wake_ms <= until_ms) {
            self.now_ms = self.now_ms.max(wake_ms);
            self.tell(Input::Tick);
            self.exchange();
        }
        self.now_ms = until_ms;
    }

    fn take(&mut self, count: usize) {
        for _ in 0..count {
            let Some(event) = self.events.pop_front() else { return };
            self.ledger.hear(&event);
            self.hear(event);
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Following { offset, position, .. } => {
                let here = (offset as usize).checked_sub(1).map(|at| &self.view.shown[at].1);
                assert_eq!(here.cloned().unwrap_or(Position::start()), position, "it runs ahead of the app");
                self.view.shown.truncate(offset as usize);
            }
            Event::Entry { entry, .. } | Event::Moved { entry, .. } => {
                self.view.shown.push((entry.message_id, entry.position));
                assert_eq!(entry.offset, self.view.shown.len() as u64, "offsets are dense");
            }
            Event::Diverged { common_offset, .. } => self.view.shown.truncate(common_offset as usize),
            Event::Replicated { message_id, .. } => {
                assert!(!self.confirmed.contains(&message_id), "{message_id} is told after it was confirmed");
                self.view.replicated.insert(message_id);
                self.told.insert(message_id);
            }
            Event::Failed { message_id, error, .. } => panic!("{message_id} failed: {error}"),
            Event::Unfollowed { error, .. } | Event::Ended { error } => panic!("given up: {error}"),
            _ => {}
        }
    }

    fn confirm(&mut self) {
        self.saved = self.view.clone();
        let changes = self.ledger.changes();
        self.store.commit(&changes).expect("kept");
        self.confirmed.extend(self.told.drain());
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Say(count) => {
                for _ in 0..count {
                    self.messages += 1;
                    let message_id = MessageId::from_bytes(u128::from(self.messages).to_be_bytes());
                    self.said.push(message_id);
                    self.keep(Change::Queue { log: self.log, message_id, message: "body".into() });
                    self.tell(Input::Send { log: self.log, message_id, message: "body".into() });
                }
            }
            Step::Other(count) => {
                for _ in 0..count {
                    self.messages += 1;
                    let id = MessageId::from_bytes(u128::from(self.messages).to_be_bytes());
                    self.model.append(self.log, "bob", 1, &id.to_string(), body());
                }
            }
            Step::Exchange => self.exchange(),
            Step::Cut => {
                if self.session.is_some() {
                    self.disconnect();
                    self.tell(Input::Disconnected { reason: "cut".to_owned() });
                }
            }
            Step::FailOver(keep) => self.model.fail_over(keep.into()),
            Step::Replicate(count) => {
                let to = self.model.replicated(self.log) + u64::from(count);
                self.model.replicate(self.log, to);
            }
            Step::Fault(fault) => self.model.faults.push_back(fault),
            Step::Wait(ms) => self.wait(ms.into()),
            Step::Take(count) => self.take(count.into()),
            Step::Save => self.saved = self.view.clone(),
            Step::Confirm => self.confirm(),
            Step::Crash => {
                self.disconnect();
                self.events.clear();
                self.live();
            }
        }
    }

    fn settle(&mut self) {
        self.model.faults.clear();
        for _ in 0..SETTLE_ROUNDS {
            self.model.replicate(self.log, u64::MAX);
            self.exchange();
            self.take(usize::MAX);
            if self.core.outbox_size().0 == 0 && self.view.shown.len() == self.model.entries(self.log).len() {
                return;
            }
            self.wait(50);
        }
        panic!("it does not settle: {:?} in the outbox", self.core.outbox_size());
    }

    fn check(&mut self) {
        let entries = self.model.entries(self.log);
        let truth: Vec<_> = entries.iter().map(|entry| entry.position.clone()).collect();
        let shown: Vec<_> = self.view.shown.iter().map(|(_, position)| position.to_string()).collect();
        assert_eq!(shown, truth, "the app shows what the log holds");
        let own = entries.iter().filter(|entry| entry.device == DEVICE.get());
        let own: Vec<String> = own.map(|entry| entry.message_id.clone()).collect();
        let said: Vec<String> = self.said.iter().map(MessageId::to_string).collect();
        assert_eq!(own, said, "every message is in the log, once, in the order of its saying");
        assert_eq!(self.view.replicated.len(), said.len(), "the app hears what became of each");
        self.confirm();
        let kept = self.store.snapshot();
        assert_eq!(kept.outbox, []);
        let stands = kept.logs[0].positions.last().expect("it stands somewhere").0;
        assert_eq!(stands, truth.len() as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn wherever_it_dies_it_goes_on(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.settle();
        world.check();
    }
}
