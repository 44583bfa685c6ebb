//! What is deleted in an earlier partition of a chat: sent by the home of the chat, taken by that of the partition.

use super::{rehoming::ELSEWHERE, *};
use types::{Effect, EffectAct, EffectTarget, Import, RehomeId, StateUpdate};

const CHAT_HEAD: u64 = 10;

/// A home of the chat that was written elsewhere up to [`CHAT_HEAD`].
fn later_home() -> World {
    let mut world = World::with_chat();
    let mut elsewhere = World::with_chat();
    elsewhere.append(write(log(2), 0, created(), AckPolicy::Home, None));
    elsewhere.load_all();
    let import = elsewhere.export(log(2));
    world.pin(log(2), 2, PARTITION, CHAT_HEAD + 1);
    world.import(log(2), 2, import);
    world.replicate();
    world.time(50);
    world.load_all();
    world
}

impl World {
    /// What another partition hands over where the chat has grown.
    fn export(&mut self, id: LogId) -> Import {
        let ticket = self.rehome(
            id,
            RehomingStep::Seal { rehome: RehomeId::new(1), generation: Generation::FIRST, held_in: vec![] },
        );
        self.replicate();
        let mut import = self.sealed(ticket);
        import.head.offset = Offset::new(CHAT_HEAD);
        import
    }

    fn delete(&mut self, number: u8, offsets: &[u64]) -> Ticket {
        let body = EntryBody::Deleted { offsets: offsets.iter().copied().map(Offset::new).collect() };
        let generation = Generation::new(2);
        let ticket =
            self.append(Write { generation, ..write(log(2), number, body, AckPolicy::Replicated, None) });
        self.load_all();
        ticket
    }

    pub(super) fn answer_effect(&mut self, effect: &Effect, outcome: EffectOutcome) {
        let Effect { cause_log, cause, target, .. } = *effect;
        self.say(Input::EffectAnswered { log: cause_log, target, cause, outcome });
    }

    pub(super) fn take(&mut self, effect: Effect) -> Ticket {
        self.next_ticket += 1;
        let (ticket, deadline_ms) = (Ticket(self.next_ticket), self.now.boot_ms + 4_000);
        self.say(Input::Effect(Box::new(Arrival { ticket, effect, deadline_ms })));
        self.load_all();
        ticket
    }

    fn updates(&self) -> Vec<&StateUpdate> {
        let update = |record: &'_ Record| matches!(record.body, types::Body::Update(_));
        let updates = self.store.iter().filter(|record| update(record));
        updates
            .filter_map(|record| match &record.body {
                types::Body::Update(update) => Some(update),
                types::Body::Entry(_) => None,
            })
            .collect()
    }
}

#[test]
fn what_lies_in_an_earlier_partition_is_erased_there_once_the_deletion_is_replicated() {
    let mut world = later_home();
    let ticket = world.delete(1, &[3, 4]);
    world.sync(usize::MAX);
    assert_eq!(world.effects, [], "the deletion is durable here only");
    world.replicate();
    let cause = world.ok(ticket).position;
    let [effect] = &world.effects.clone()[..] else { panic!("one effect, not {:?}", world.effects) };
    let target = EffectTarget { log: log(2), stretch: Generation::FIRST };
    assert_eq!((effect.cause_log, effect.cause, effect.target), (log(2), cause, target));
    assert_eq!(effect.act, EffectAct::Erase { offsets: vec![Offset::new(3), Offset::new(4)] });
    world.answer_effect(effect, EffectOutcome::Again);
    world.time(50);
    assert_eq!(world.effects.len(), 1, "there is a pause");
    world.time(60);
    assert_eq!(world.effects.len(), 2);
    world.answer_effect(effect, EffectOutcome::Done);
    world.replicate();
    assert_eq!(world.updates().last(), Some(&&StateUpdate::EffectDone { target, cause }));
    world.time(60_000);
    assert_eq!((world.effects.len(), world.core.effects_pending()), (2, 0));
}

#[test]
fn a_home_that_may_not_act_sends_no_effect() {
    for reason in 0..3 {
        let mut world = later_home();
        world.delete(1, &[3]);
        world.sync(usize::MAX);
        match reason {
            0 => world.row(true),
            1 => world.begin_move(MoveId::new(5)),
            _ => world.lease_until_ms = 0,
        }
        world.replicate();
        world.time(50);
        assert_eq!(world.effects, [], "{reason}");
        if reason == 0 {
            world.row(false);
            world.time(50);
            assert_eq!(world.effects.len(), 1);
        }
    }
}

#[test]
fn a_successor_sends_what_its_fold_has_pending() {
    let mut before = later_home();
    before.delete(1, &[3]);
    before.replicate();
    let [effect] = &before.effects[..] else { panic!("one effect") };
    let mut successor = World::of(vec![log(2)], before.store.clone());
    successor.pins = before.pins.clone();
    successor.time(50);
    successor.load_all();
    successor.time(50);
    assert_eq!(successor.effects, [], "nobody else holds it in this epoch");
    successor.report(0, u64::MAX / 2);
    successor.time(50);
    successor.directory(Directory::Accepts);
    successor.time(50);
    assert_eq!(successor.effects, std::slice::from_ref(effect));
}

#[test]
fn what_the_store_had_no_room_for_is_sent_and_noted_again() {
    let mut world = later_home();
    world.delete(1, &[3]);
    world.replicate();
    let effect = world.effects[0].clone();
    world.answer_effect(&effect, EffectOutcome::Done);
    assert_eq!(world.core.effects_pending(), 0, "it is noted, as far as this home knows");
    world.no_room();
    world.time(50);
    world.load_all();
    world.time(50);
    assert_eq!(world.effects.len(), 2, "it was not");
    world.answer_effect(&effect, EffectOutcome::Done);
    world.replicate();
    assert_eq!(world.core.effects_pending(), 0);
}

#[test]
fn deletions_are_refused_while_too_many_wait() {
    let mut world = later_home();
    let all: Vec<u64> = (1..=CHAT_HEAD).collect();
    let room = types::limits::EFFECT_OFFSETS_MAX / all.len();
    for number in 1..=room {
        let ticket = world.delete(number as u8, &all);
        world.replicate();
        world.ok(ticket);
    }
    let refused = world.delete(room as u8 + 1, &all);
    assert_eq!(world.refused(refused), Code::Overloaded);
    let here = world.delete(room as u8 + 2, &[CHAT_HEAD + 1]);
    world.replicate();
    world.ok(here);
    for _ in 0..room {
        let effect = world.effects.last().expect("one is under way").clone();
        world.answer_effect(&effect, EffectOutcome::Done);
        world.replicate();
    }
    let ticket = world.delete(room as u8 + 3, &all);
    world.replicate();
    world.ok(ticket);
}

/// A home of the chat's earlier partition, where it is sealed.
fn earlier_home() -> World {
    let mut world = World::with_chat();
    for number in 1..=3 {
        world.say_in(1, number);
    }
    world.seal(log(1), 1);
    world.replicate();
    world.pin(log(1), 2, ELSEWHERE, 5);
    world.time(50);
    world.load_all();
    world
}

fn erasure(cause: u64, offsets: &[u64]) -> Effect {
    let offsets = offsets.iter().copied().map(Offset::new).collect();
    Effect {
        cause_log: log(1),
        cause: Position::new(Generation::new(2), Epoch::FIRST, Offset::new(cause)),
        target: EffectTarget { log: log(1), stretch: Generation::FIRST },
        act: EffectAct::Erase { offsets },
    }
}

#[test]
fn a_sealed_log_takes_an_effect_once_and_answers_when_it_is_replicated() {
    let mut world = earlier_home();
    let before = world.store.len();
    let ticket = world.take(erasure(9, &[2]));
    world.sync(usize::MAX);
    assert_eq!(world.handed.get(&ticket), None, "it is durable here only");
    let repeated = world.take(erasure(9, &[2]));
    assert_eq!(world.handed.get(&repeated), None, "the first is not replicated either");
    world.replicate();
    let late = world.take(erasure(8, &[3]));
    world.say(Input::Tick);
    for ticket in [ticket, repeated, late] {
        assert_eq!(world.handed.get(&ticket), Some(&Handed::Effected));
    }
    assert_eq!(world.store.len(), before + 1, "one record");
    let write = world.say_in(1, 9);
    assert_eq!(world.closed_at(write), 1, "and still nobody writes there");
}

#[test]
fn an_effect_on_what_does_not_lie_here_is_refused() {
    let mut world = earlier_home();
    for effect in [
        erasure(9, &[5]),
        Effect { target: EffectTarget { log: log(1), stretch: Generation::new(2) }, ..erasure(9, &[2]) },
        Effect { target: EffectTarget { log: log(3), stretch: Generation::FIRST }, ..erasure(9, &[2]) },
    ] {
        let ticket = world.take(effect.clone());
        assert!(matches!(world.answered.get(&ticket), Some(Err(WriteError::Refused(_)))), "{effect:?}");
    }
}
