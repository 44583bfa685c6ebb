//! Chats tell the accounts of their members, and accounts take it in.

use super::{accounts::registered, *};
use types::{Effect, EffectAct, EffectTarget, StateUpdate};

fn account_of(number: u8) -> UserId {
    UserId::of_account([number; 16])
}

fn told(of: &UserId) -> EffectTarget {
    EffectTarget { log: LogId::account(of), stretch: Generation::ZERO }
}

#[test]
fn a_chat_tells_its_members_that_have_accounts_once_it_is_replicated() {
    let (owner, other) = (account_of(1), account_of(2));
    let members = vec![
        (owner.clone(), MemberRole::Owner),
        (other.clone(), MemberRole::Member),
        (user("dev"), MemberRole::Member),
    ];
    let terms = EntryBody::Created { members, ack_policy: AckPolicy::Home, allowed_regions: Vec::new() };
    let mut world = World::with_chat();
    let creation = Write { sender: owner.clone(), ..write(log(3), 9, terms, AckPolicy::Replicated, None) };
    let ticket = world.append(creation);
    world.load_all();
    world.sync(usize::MAX);
    world.time(50);
    assert_eq!(world.effects, [], "the chat is durable here only");
    world.replicate();
    world.time(50);
    let cause = world.ok(ticket).position;
    let effect = |of: &UserId| Effect { cause_log: log(3), cause, target: told(of), act: EffectAct::Joined };
    let mut sent = world.effects.clone();
    sent.sort_by_key(|effect| effect.target);
    let mut expected = vec![effect(&owner), effect(&other)];
    expected.sort_by_key(|effect| effect.target);
    assert_eq!(sent, expected);
    for effect in &sent {
        world.answer_effect(effect, EffectOutcome::Done);
    }
    world.replicate();
    world.time(60_000);
    assert_eq!((world.effects.len(), world.core.effects_pending()), (2, 0));
}

fn membership(chat: LogId, cause: u64, act: EffectAct) -> Effect {
    let cause = Position::new(Generation::FIRST, EPOCH, Offset::new(cause));
    Effect { cause_log: chat, cause, target: told(&user("alice")), act }
}

pub(super) fn registered_world() -> World {
    let mut world = World::with_chat();
    let body = EntryBody::Account(Box::new(registered()));
    world.append(write(LogId::account(&user("alice")), 1, body, AckPolicy::Home, None));
    world.load_all();
    world.replicate();
    world
}

#[test]
fn an_account_knows_the_chats_that_have_told_it_each_once() {
    let mut world = registered_world();
    let before = world.store.len();
    for effect in [
        membership(log(3), 1, EffectAct::Joined),
        membership(log(4), 1, EffectAct::Joined),
        membership(log(3), 5, EffectAct::Left),
        // Sent again by a home that has not heard the answer.
        membership(log(3), 1, EffectAct::Joined),
    ] {
        let ticket = world.take(effect.clone());
        world.replicate();
        assert_eq!(world.handed.get(&ticket), Some(&Handed::Effected), "{effect:?}");
    }
    assert_eq!(world.store.len(), before + 3, "what comes again is no record");
    let mut state = LogState::default();
    let id = LogId::account(&user("alice"));
    for record in world.store.iter().filter(|record| record.log == id) {
        state.apply(record).expect("it follows");
    }
    let account = state.account.expect("it is registered");
    assert_eq!(account.open.as_ref().expect("open").joined, BTreeSet::from([log(4)]));
    let updates = world
        .store
        .iter()
        .filter(|record| matches!(record.body, types::Body::Update(StateUpdate::Effect(_))));
    assert_eq!(updates.count(), 3);
}

#[test]
fn only_a_chat_tells_only_an_account() {
    let mut world = registered_world();
    let joined = membership(log(3), 1, EffectAct::Joined);
    for effect in [
        Effect { cause_log: LogId::account(&user("bob")), ..joined.clone() },
        Effect { target: EffectTarget { log: log(1), stretch: Generation::ZERO }, ..joined.clone() },
        Effect { target: EffectTarget { stretch: Generation::FIRST, ..joined.target }, ..joined },
    ] {
        let ticket = world.take(effect.clone());
        let refused = matches!(world.answered.get(&ticket), Some(Err(WriteError::Refused(_))));
        assert!(refused, "{effect:?}: {:?}", world.answered.get(&ticket));
    }
}

#[test]
fn an_account_that_has_ended_is_not_told_of_chats_that_were_left_and_answers() {
    let mut world = registered_world();
    let closed = EntryBody::Account(Box::new(types::account::AccountChange::Closed));
    world.append(write(LogId::account(&user("alice")), 2, closed, AckPolicy::Home, None));
    world.replicate();
    let before = world.store.len();
    let ticket = world.take(membership(log(3), 1, EffectAct::Left));
    world.replicate();
    assert_eq!(world.handed.get(&ticket), Some(&Handed::Effected));
    assert_eq!(world.store.len(), before);
}
