//! What accounts tell chats: their users are gone, or take nothing of each other.

use super::{memberships::registered_world, *};
use crate::service::{Detail, Glance};
use types::{
    Effect, EffectAct, EffectTarget,
    account::AccountChange,
    chat::{ChatChange, MemberChange},
};

fn said(by: &str, cause: u64, chat: LogId, act: EffectAct) -> Effect {
    let cause = Position::new(Generation::FIRST, EPOCH, Offset::new(cause));
    let target = EffectTarget { log: chat, stretch: Generation::ZERO };
    Effect { cause_log: LogId::account(&user(by)), cause, target, act }
}

impl World {
    fn told(&mut self, effect: Effect) {
        let ticket = self.take(effect.clone());
        self.replicate();
        assert_eq!(self.handed.get(&ticket), Some(&Handed::Effected), "{effect:?}");
    }

    fn state_of(&self, id: LogId) -> LogState {
        let mut state = LogState::default();
        for record in self.store.iter().filter(|record| record.log == id) {
            state.apply(record).expect("it follows");
        }
        state
    }

    /// What becomes of a message in a chat.
    fn says(&mut self, chat: LogId, number: u8, by: &str) -> Result<(), Code> {
        let write = write(chat, number, message(number), AckPolicy::Replicated, None);
        let ticket = self.append(Write { sender: user(by), ..write });
        self.load_all();
        self.replicate();
        match self.answered.get(&ticket) {
            Some(Ok(_)) => Ok(()),
            Some(Err(WriteError::Refused(refusal))) => Err(refusal.code),
            other => panic!("not answered: {other:?}"),
        }
    }
}

/// A direct chat of alice and bob.
fn with_direct() -> (World, LogId) {
    let mut world = World::with_chat();
    let direct = LogId::direct(&user("alice"), &user("bob"));
    world.append(write(direct, 7, created(), AckPolicy::Replicated, None));
    world.load_all();
    world.replicate();
    (world, direct)
}

#[test]
fn a_closed_account_tells_its_chats_and_those_that_hear_of_it_too_late() {
    let mut world = registered_world();
    let joined = |number| {
        let target = EffectTarget { log: LogId::account(&user("alice")), stretch: Generation::ZERO };
        Effect { cause_log: log(number), target, ..said("alice", 1, log(1), EffectAct::Joined) }
    };
    world.told(joined(3));
    world.told(joined(4));
    let closed = EntryBody::Account(Box::new(AccountChange::Closed));
    let ticket = world.append(write(LogId::account(&user("alice")), 2, closed, AckPolicy::Home, None));
    world.sync(usize::MAX);
    world.time(50);
    assert_eq!(world.effects, [], "the end is durable here only");
    world.replicate();
    let cause = world.ok(ticket).position;
    let gone = |number| Effect { cause, ..said("alice", 0, log(number), EffectAct::Gone) };
    assert_eq!(world.effects, [gone(3), gone(4)]);
    world.told(joined(5));
    world.time(50);
    assert_eq!(world.effects, [gone(3), gone(4), gone(5)]);
    for effect in world.effects.clone() {
        world.answer_effect(&effect, EffectOutcome::Done);
    }
    world.replicate();
    world.time(60_000);
    assert_eq!((world.effects.len(), world.core.effects_pending()), (3, 0));
}

#[test]
fn who_is_gone_leaves_a_group_by_an_entry_once() {
    let mut world = World::with_chat();
    world.follow(log(1));
    for _ in 0..2 {
        world.told(said("alice", 4, log(1), EffectAct::Gone));
    }
    world.told(said("stranger", 4, log(1), EffectAct::Gone));
    let state = world.state_of(log(1));
    assert_eq!(state.head.offset, Offset::new(2), "one entry behind the first");
    let entry = world.store.last().and_then(Record::entry).expect("an entry");
    let gone = vec![MemberChange { user: user("alice"), role: None }];
    assert_eq!(entry.body, EntryBody::Chat(Box::new(ChatChange::Members(gone))));
    assert_eq!((&entry.sender, entry.device), (&user("alice"), DeviceId::new(0)));
    let roles: Vec<_> = state.members.iter().map(|(user, member)| (user.as_str(), member.role)).collect();
    assert_eq!(roles, [("bob", MemberRole::Owner)], "and a chat that has members has an owner");
    assert_eq!(world.published.get(&log(1)), Some(&2), "sessions are told");
}

#[test]
fn a_direct_chat_with_who_is_gone_stays_and_takes_nothing_more() {
    let (mut world, direct) = with_direct();
    assert_eq!(world.says(direct, 1, "alice"), Ok(()));
    world.told(said("bob", 4, direct, EffectAct::Gone));
    assert_eq!(world.says(direct, 2, "alice"), Err(Code::UnknownAccount));
    assert_eq!(world.says(direct, 3, "bob"), Err(Code::Forbidden));
    let state = world.state_of(direct);
    let glance = Glance::of(direct, &state, &user("alice"), Detail::Heads).expect("it is hers");
    assert_eq!((glance.with, glance.members), (Some(user("bob")), 1));
}

#[test]
fn who_is_blocked_writes_nothing_into_the_direct_chat_until_unblocked() {
    let (mut world, direct) = with_direct();
    assert_eq!(world.says(direct, 1, "alice"), Ok(()));
    world.told(said("bob", 4, direct, EffectAct::Blocked));
    assert_eq!(world.says(direct, 2, "alice"), Err(Code::Forbidden));
    assert_eq!(world.says(direct, 3, "bob"), Ok(()));
    world.told(said("bob", 5, direct, EffectAct::Unblocked));
    let before = world.store.len();
    world.told(said("bob", 4, direct, EffectAct::Blocked));
    assert_eq!(world.store.len(), before, "what is sent again late is dropped");
    assert_eq!(world.says(direct, 4, "alice"), Ok(()));
    world.told(said("stranger", 9, direct, EffectAct::Blocked));
    assert_eq!(world.says(direct, 5, "alice"), Ok(()));
}

#[test]
fn blocking_is_for_direct_chats_and_neither_is_for_a_stretch() {
    let (mut world, direct) = with_direct();
    let of_stretch = |effect: Effect| {
        let target = EffectTarget { stretch: Generation::FIRST, ..effect.target };
        Effect { target, ..effect }
    };
    for effect in [
        said("bob", 4, log(1), EffectAct::Blocked),
        of_stretch(said("bob", 4, direct, EffectAct::Blocked)),
        of_stretch(said("bob", 4, direct, EffectAct::Gone)),
    ] {
        let ticket = world.take(effect.clone());
        let refused = matches!(world.answered.get(&ticket), Some(Err(WriteError::Refused(_))));
        assert!(refused, "{effect:?}: {:?}", world.answered.get(&ticket));
    }
}
