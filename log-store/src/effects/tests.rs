//! What closes and blocks causes elsewhere, whatever is erased behind it.

use super::*;
use crate::erase;
use types::{
    Body, DeviceId, Entry, EntryBody, Epoch, MessageId, Record, StateUpdate, Username,
    account::{
        About, DeviceName, DisplayName, Names, NewDevice, PasswordHash, Profile, Registration, TokenHash,
    },
};

fn alice() -> UserId {
    UserId::new("alice").expect("valid")
}

fn chat(number: u8) -> LogId {
    LogId::group([number; 16])
}

fn registered() -> AccountChange {
    let device = NewDevice {
        device: DeviceId::new(1),
        name: DeviceName::new("phone").expect("valid"),
        token: TokenHash([1; 32]),
    };
    AccountChange::Registered(Box::new(Registration {
        names: Names { username: Username::new("alice").expect("valid"), phone: None },
        password: PasswordHash::new("$argon2id$x").expect("a PHC string"),
        profile: Profile {
            display_name: DisplayName::new("Alice").expect("valid"),
            about: About::empty(),
            avatar: None,
        },
        device,
    }))
}

/// An account log, record by record.
#[derive(Default)]
struct Log {
    records: Vec<Record>,
    state: LogState,
    head: u64,
}

impl Log {
    fn push(&mut self, body: Body) {
        let record = Record {
            lsn: Lsn::new(self.records.len() as u64 + 1),
            epoch: Epoch::FIRST,
            generation: Generation::FIRST,
            log: LogId::account(&alice()),
            accepted_at_ms: 1,
            body,
        };
        self.state.apply(&record).expect("it follows");
        self.records.push(record);
    }

    fn change(&mut self, change: AccountChange) {
        self.head += 1;
        self.push(Body::Entry(Entry {
            offset: Offset::new(self.head),
            sender: alice(),
            device: DeviceId::new(1),
            message_id: MessageId::from_bytes([self.head as u8; 16]),
            expires_at_ms: None,
            salvaged: false,
            about: None,
            body: EntryBody::Account(Box::new(change)),
        }));
    }

    fn told(&mut self, number: u8, cause: u64, act: EffectAct) {
        let target = EffectTarget { log: LogId::account(&alice()), stretch: Generation::ZERO };
        let cause = Position::new(Generation::FIRST, Epoch::FIRST, Offset::new(cause));
        let effect = Effect { cause_log: chat(number), cause, target, act };
        self.push(Body::Update(StateUpdate::Effect(Box::new(effect))));
    }

    fn done(&mut self, (_, effect): &Pending) {
        let (target, cause) = (effect.target, effect.cause);
        self.push(Body::Update(StateUpdate::EffectDone { target, cause }));
    }

    fn pending(&self) -> Vec<(LogId, EffectAct)> {
        self.state.effects.iter().map(|(_, effect)| (effect.target.log, effect.act.clone())).collect()
    }
}

#[test]
fn a_closed_account_leaves_all_its_chats_some_at_a_time() {
    let mut log = Log::default();
    log.change(registered());
    for number in 0..150 {
        log.told(number, 1, EffectAct::Joined);
    }
    log.told(7, 2, EffectAct::Left);
    assert_eq!(log.pending(), []);
    log.change(AccountChange::Closed);
    let mut left = BTreeSet::new();
    while let Some(first) = log.state.effects.first().cloned() {
        assert!(log.state.effects.len() <= limits::LEAVING_AT_ONCE);
        assert_eq!((first.1.act.clone(), first.1.cause), (EffectAct::Gone, log.state.head));
        assert!(left.insert(first.1.target.log), "each once");
        log.done(&first);
    }
    assert_eq!(left, (0..150).filter(|number| *number != 7).map(chat).collect());
    let account = log.state.account.as_deref().expect("it was one");
    assert_eq!(*account, Account { standing: AccountStanding::Closed, ..Account::default() });
    // One that has heard of it too late is left as well.
    log.told(7, 9, EffectAct::Joined);
    assert_eq!(log.pending(), [(chat(7), EffectAct::Gone)]);
}

#[test]
fn what_an_account_caused_folds_alike_when_its_bodies_are_erased() {
    let mut log = Log::default();
    log.change(registered());
    for number in 0..100 {
        log.told(number, 1, EffectAct::Joined);
    }
    log.change(AccountChange::Blocked(UserId::new("bob").expect("valid")));
    log.told(5, 2, EffectAct::Left);
    log.change(AccountChange::Closed);
    for _ in 0..3 {
        let first = log.state.effects[0].clone();
        log.done(&first);
    }
    let mut again = LogState::default();
    let erased = erase::erased_by(&log.records[103]).into_owned();
    assert_eq!(erased.len(), 2);
    for mut record in log.records.clone() {
        if record.position().is_some_and(|position| erased.contains(&position.offset)) {
            assert!(erase::erase(&mut record));
        }
        again.apply(&record).expect("it follows");
    }
    assert_eq!(again, log.state);
}

#[test]
fn blocking_is_told_to_the_direct_chat_in_order() {
    let mut log = Log::default();
    let bob = UserId::new("bob").expect("valid");
    log.change(registered());
    log.change(AccountChange::Blocked(bob.clone()));
    log.change(AccountChange::Unblocked(bob.clone()));
    log.change(AccountChange::Blocked(alice()));
    let direct = LogId::direct(&alice(), &bob);
    assert_eq!(log.pending(), [(direct, EffectAct::Blocked), (direct, EffectAct::Unblocked)]);
    let last = log.state.effects[1].clone();
    log.done(&last);
    assert_eq!(log.pending(), []);
}
