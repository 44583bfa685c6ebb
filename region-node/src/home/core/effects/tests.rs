//! Effects against a model of their targets: whatever is lost, repeated, late or begun anew, each is taken once and
//! in order, and none is forgotten.

use super::*;
use proptest::prelude::*;
use types::{Body, EffectAct, Epoch, Import, Offset, Record, RehomeId, StateUpdate};

const CHAT: LogId = LogId::group([7; 16]);
const NOW_MS: u64 = 1_000;

fn cause(offset: u64) -> Position {
    Position::new(Generation::new(3), Epoch::FIRST, Offset::new(offset))
}

fn target(stretch: u32) -> EffectTarget {
    EffectTarget { log: CHAT, stretch: Generation::new(stretch) }
}

fn pending(lsn: u64, offset: u64, stretch: u32) -> Pending {
    let act = EffectAct::Erase { offsets: vec![Offset::new(offset)] };
    (Lsn::new(lsn), PendingEffect { cause: cause(offset), target: target(stretch), act })
}

/// A state that is written here, with these effects pending.
fn state(effects: Vec<Pending>) -> LogState {
    LogState { head: cause(99), effects: Arc::new(effects), ..LogState::default() }
}

fn taken(state: &LogState) -> Effects {
    let mut effects = Effects::default();
    effects.take_state(CHAT, Some(state));
    effects
}

fn causes(effects: &[Effect]) -> Vec<(u32, u64)> {
    effects.iter().map(|effect| (effect.target.stretch.get(), effect.cause.offset.get())).collect()
}

#[test]
fn an_effect_is_sent_only_once_its_cause_is_replicated_and_one_at_a_time() {
    let mut effects = taken(&state(vec![pending(5, 50, 1), pending(6, 60, 1), pending(6, 60, 2)]));
    assert_eq!(causes(&effects.send(NOW_MS, Lsn::new(4))), []);
    assert_eq!(causes(&effects.send(NOW_MS, Lsn::new(5))), [(1, 50)]);
    assert_eq!(causes(&effects.send(NOW_MS, Lsn::new(6))), [(2, 60)], "the other target waits for nobody");
    effects.answered(NOW_MS, CHAT, target(1), cause(50), EffectOutcome::Done);
    assert_eq!(causes(&effects.send(NOW_MS, Lsn::new(6))), [], "it is noted first");
    assert_eq!(effects.done(), [(CHAT, Generation::new(3), target(1), cause(50))]);
    effects.take_state(CHAT, Some(&state(vec![pending(6, 60, 1), pending(6, 60, 2)])));
    assert_eq!(causes(&effects.send(NOW_MS, Lsn::new(6))), [(1, 60)]);
}

#[test]
fn what_fails_is_sent_again_with_growing_pauses_and_a_late_answer_changes_nothing() {
    let mut effects = taken(&state(vec![pending(5, 50, 1)]));
    let mut now_ms = NOW_MS;
    for failure in 0..12_u32 {
        assert_eq!(causes(&effects.send(now_ms, Lsn::new(9))), [(1, 50)], "try {failure}");
        effects.answered(now_ms, CHAT, target(1), cause(49), EffectOutcome::Done);
        effects.answered(now_ms, CHAT, target(1), cause(50), EffectOutcome::Again);
        let pause_ms = (PAUSE_MIN_MS << failure).min(PAUSE_MAX_MS);
        assert_eq!(causes(&effects.send(now_ms + pause_ms - 1, Lsn::new(9))), []);
        now_ms += pause_ms;
    }
    effects.answered(now_ms, CHAT, target(1), cause(50), EffectOutcome::Done);
    assert_eq!(effects.done(), [], "nothing is under way");
}

#[test]
fn a_log_that_is_sealed_or_only_imported_sends_nothing_until_its_pin_names_this_partition() {
    let mut sealed = state(vec![pending(5, 50, 1)]);
    sealed.sealed = Generation::new(3);
    let mut effects = Effects::default();
    assert!(effects.take_state(CHAT, Some(&sealed)), "the pin has to be read");
    assert_eq!(causes(&effects.send(NOW_MS, Lsn::new(9))), []);
    effects.written_here(CHAT, Generation::new(4));
    assert_eq!(causes(&effects.send(NOW_MS, Lsn::new(9))), [(1, 50)], "the re-homing was given up");
    effects.forget(CHAT);
    assert!(effects.is_empty(), "it went on elsewhere");
}

#[test]
fn only_so_many_are_under_way() {
    let of_log = |number: u8| LogId::group([number; 16]);
    let mut effects = Effects::default();
    for number in 0..=SENT_MAX as u8 {
        effects.take_state(of_log(number), Some(&state(vec![pending(1, 50, 1)])));
    }
    assert_eq!(effects.send(NOW_MS, Lsn::new(9)).len(), SENT_MAX);
    assert_eq!(effects.send(NOW_MS, Lsn::new(9)).len(), 0);
    effects.answered(NOW_MS, of_log(0), target(1), cause(50), EffectOutcome::Done);
    assert_eq!(effects.send(NOW_MS, Lsn::new(9)).len(), 1);
}

/// What happens to a chat with two earlier stretches, its home, and the homes of those.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// A deletion of something in a stretch is written.
    Delete(u8),
    /// Everything that is written becomes replicated.
    Replicate,
    /// Time passes, and what may be sent is.
    Send,
    /// A message on the way arrives, and its answer too, or is lost on the way back.
    Deliver { at: prop::sample::Index, again: bool, answered: bool },
    /// What is on the way is lost.
    Lose(prop::sample::Index),
    /// What is done is noted in the log.
    Note,
    /// The home dies: what is not replicated is gone, and another one reads the fold.
    FailOver,
    /// The chat is re-homed with what is pending.
    Rehome,
}

fn event() -> impl Strategy<Value = Event> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        3 => (1..3_u8).prop_map(Event::Delete),
        3 => Just(Event::Replicate),
        4 => Just(Event::Send),
        5 => (index(), any::<bool>(), any::<bool>())
            .prop_map(|(at, again, answered)| Event::Deliver { at, again, answered }),
        1 => index().prop_map(Event::Lose),
        3 => Just(Event::Note),
        1 => Just(Event::FailOver),
        1 => Just(Event::Rehome),
    ]
}

/// The chat's log with its home, the stretches, and what is on the way between them.
struct World {
    /// The fold, and as much of it as is replicated.
    state: LogState,
    replicated: LogState,
    effects: Effects,
    /// The deletions that are replicated: none of them may ever be forgotten.
    promised: Vec<(u32, u64)>,
    unpromised: Vec<(u32, u64)>,
    on_the_way: Vec<Effect>,
    stretches: BTreeMap<u32, LogState>,
    applied: Vec<(u32, u64)>,
    now_ms: u64,
    offset: u64,
    generation: u32,
}

impl World {
    fn new() -> Self {
        let mut state =
            LogState { elsewhere: vec![(Offset::new(1), Offset::new(200))], ..LogState::default() };
        let era = |generation, first| types::EraBegin {
            generation: Generation::new(generation),
            epoch: Epoch::FIRST,
            first_offset: Offset::new(first),
        };
        state.eras = vec![era(1, 1), era(2, 101), era(3, 201)];
        state.head = Position::new(Generation::new(3), Epoch::FIRST, Offset::new(201));
        let stretch = |last: u64, generation| LogState {
            head: Position::new(Generation::new(generation), Epoch::FIRST, Offset::new(last)),
            sealed: Generation::new(generation),
            ..LogState::default()
        };
        Self {
            replicated: state.clone(),
            effects: taken(&state),
            state,
            promised: Vec::new(),
            unpromised: Vec::new(),
            on_the_way: Vec::new(),
            stretches: BTreeMap::from([(1, stretch(100, 1)), (2, stretch(200, 2))]),
            applied: Vec::new(),
            now_ms: NOW_MS,
            offset: 201,
            generation: 3,
        }
    }

    fn record(&self, body: Body) -> Record {
        Record {
            lsn: self.state.last.lsn.plus(1),
            epoch: Epoch::FIRST,
            generation: Generation::new(self.generation),
            log: CHAT,
            accepted_at_ms: 0,
            body,
        }
    }

    fn update(&mut self, update: StateUpdate) {
        let record = self.record(Body::Update(update));
        self.state.apply(&record).expect("it follows");
        self.effects.take_state(CHAT, Some(&self.state));
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Delete(stretch) => self.delete(stretch),
            Event::Replicate => {
                self.replicated = self.state.clone();
                self.promised.append(&mut self.unpromised);
            }
            Event::Send => {
                self.now_ms += REFUSED_PAUSE_MAX_MS;
                let sent = self.effects.send(self.now_ms, self.replicated.last.lsn);
                self.on_the_way.extend(sent);
            }
            Event::Deliver { .. } | Event::Lose(_) if self.on_the_way.is_empty() => {}
            Event::Deliver { at, again, answered } => self.deliver(at, again, answered),
            Event::Lose(at) => {
                let lost = self.on_the_way.remove(at.index(self.on_the_way.len()));
                self.effects.answered(self.now_ms, CHAT, lost.target, lost.cause, EffectOutcome::Again);
            }
            Event::Note => {
                for (_, _, target, cause) in self.effects.done() {
                    self.update(StateUpdate::EffectDone { target, cause });
                }
            }
            Event::FailOver => {
                self.state = self.replicated.clone();
                self.unpromised.clear();
                self.effects = Effects::new(vec![CHAT]);
                assert_eq!(self.effects.read(self.now_ms), [CHAT]);
                self.effects.take_state(CHAT, Some(&self.state));
                self.effects.written_here(CHAT, Generation::new(self.generation));
            }
            Event::Rehome => self.rehome(),
        }
    }

    fn delete(&mut self, stretch: u8) {
        self.offset += 1;
        let first = u64::from(stretch - 1) * 100 + 1;
        let entry = types::Entry {
            offset: self.state.head.offset.plus(1),
            sender: types::UserId::new("alice").expect("a valid name"),
            device: types::DeviceId::new(1),
            message_id: types::MessageId::from_bytes([0; 16]),
            expires_at_ms: None,
            salvaged: false,
            about: None,
            body: types::EntryBody::Deleted { offsets: vec![Offset::new(first + self.offset % 100)] },
        };
        let at = entry.offset.get();
        let record = self.record(Body::Entry(entry));
        self.state.apply(&record).expect("it follows");
        self.effects.take_state(CHAT, Some(&self.state));
        self.unpromised.push((stretch.into(), at));
    }

    fn deliver(&mut self, at: prop::sample::Index, again: bool, answered: bool) {
        let at = at.index(self.on_the_way.len());
        let effect = if again { self.on_the_way[at].clone() } else { self.on_the_way.remove(at) };
        self.take(effect, answered);
    }

    fn take(&mut self, effect: Effect, answered: bool) {
        let number = effect.target.stretch.get();
        let record = self.state_record();
        let stretch = self.stretches.get_mut(&number).expect("it is one of them");
        if !stretch.has_taken(&effect) {
            let named = (number, effect.cause.offset.get());
            assert!(self.promised.contains(&named), "{named:?} is not replicated");
            let before = self.applied.iter().rev().find(|(of, _)| *of == number);
            assert!(before.is_none_or(|(_, before)| *before < named.1), "{named:?} comes behind {before:?}");
            let record = Record {
                lsn: stretch.last.lsn.plus(1),
                generation: stretch.sealed,
                body: Body::Update(StateUpdate::Effect(Box::new(effect.clone()))),
                ..record
            };
            stretch.apply(&record).expect("a sealed log takes it");
            self.applied.push(named);
        }
        let outcome = if answered { EffectOutcome::Done } else { EffectOutcome::Again };
        self.effects.answered(self.now_ms, CHAT, effect.target, effect.cause, outcome);
    }

    fn state_record(&self) -> Record {
        self.record(Body::Update(StateUpdate::LogSealed { rehome: RehomeId::new(1) }))
    }

    /// Seals the log, and goes on with its fold where another partition has imported it.
    fn rehome(&mut self) {
        self.update(StateUpdate::LogSealed { rehome: RehomeId::new(1) });
        self.replicated = self.state.clone();
        self.promised.append(&mut self.unpromised);
        let import: Import = self.state.export(RehomeId::new(1));
        self.generation += 1;
        self.state = LogState::default();
        self.effects = Effects::default();
        self.update(StateUpdate::LogImported(Box::new(import)));
        self.replicated = self.state.clone();
        self.effects.written_here(CHAT, Generation::new(self.generation));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn each_promised_effect_is_taken_once_and_in_order(events in prop::collection::vec(event(), 1..80)) {
        let mut world = World::new();
        for event in events {
            world.step(event);
        }
        // In the end everybody is well for long enough.
        for _ in 0..400 {
            for event in [Event::Replicate, Event::Send] {
                world.step(event);
            }
            while !world.on_the_way.is_empty() {
                let effect = world.on_the_way.remove(0);
                world.take(effect, true);
            }
            world.step(Event::Note);
        }
        prop_assert!(world.state.effects.is_empty(), "still pending: {:?}", world.state.effects);
        let mut promised = world.promised.clone();
        promised.sort_unstable();
        let mut applied = world.applied.clone();
        applied.sort_unstable();
        prop_assert_eq!(applied, promised);
    }
}
