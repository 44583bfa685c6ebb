//! Each rule by itself, and bounds under any sequence.

use super::*;
use proptest::prelude::*;
use types::account::{About, DeviceName, DisplayName, Names, PasswordHash, Profile, TokenHash};
use types::{LogId, UserId, Username};

fn device(id: u64) -> NewDevice {
    let name = DeviceName::new("phone").expect("valid");
    NewDevice { device: DeviceId::new(id), name, token: TokenHash([id as u8; 32]) }
}

fn registered() -> AccountChange {
    let names = Names { username: Username::new("alice").expect("valid"), phone: None };
    let display_name = DisplayName::new("Alice").expect("valid");
    AccountChange::Registered(Box::new(Registration {
        names,
        password: PasswordHash::new("$argon2id$x").expect("a PHC string"),
        profile: Profile { display_name, about: About::empty(), avatar: None },
        device: device(1),
    }))
}

fn user(name: &str) -> UserId {
    UserId::new(name).expect("valid")
}

fn open() -> Account {
    let mut account = Account::default();
    apply(&mut account, &registered(), 10).expect("it begins");
    account
}

#[test]
fn an_account_begins_once() {
    for (first, second) in [(registered(), AccountChange::Voided), (AccountChange::Voided, registered())] {
        let mut account = Account::default();
        apply(&mut account, &first, 1).expect("it begins");
        let before = account.clone();
        assert_eq!(apply(&mut account, &second, 2), Err(Misfit::Begun));
        assert_eq!(account, before);
    }
    assert_eq!(apply(&mut Account::default(), &AccountChange::Closed, 1), Err(Misfit::NotOpen));
}

#[test]
fn what_has_ended_holds_nothing_and_stays_so() {
    let mut account = open();
    apply(&mut account, &AccountChange::Closed, 20).expect("it is open");
    assert_eq!(account, Account { standing: AccountStanding::Closed, ..Account::default() });
    assert_eq!(apply(&mut account, &registered(), 30), Err(Misfit::Begun));
    assert_eq!(apply(&mut account, &AccountChange::DeviceAdded(device(2)), 30), Err(Misfit::NotOpen));
}

#[test]
fn a_token_is_renewed_from_the_one_that_counts() {
    let mut account = open();
    let id = DeviceId::new(1);
    let renewed = |before: u8, token: u8| AccountChange::TokenRenewed {
        device: id,
        token: TokenHash([token; 32]),
        before: TokenHash([before; 32]),
    };
    apply(&mut account, &renewed(1, 5), 20).expect("it is the one");
    assert_eq!(apply(&mut account, &renewed(1, 6), 30), Err(Misfit::TokenMoved(id)), "two at a time");
    let device = &account.open.as_ref().expect("open").devices[&id];
    assert_eq!((device.added_at_ms, device.token_at_ms), (10, 20));
    assert_eq!((device.token, device.token_before), (TokenHash([5; 32]), Some(TokenHash([1; 32]))));
}

#[test]
fn a_revoked_device_is_gone() {
    let mut account = open();
    apply(&mut account, &AccountChange::DeviceAdded(device(2)), 20).expect("there is room");
    let both = vec![DeviceId::new(1), DeviceId::new(9)];
    apply(&mut account, &AccountChange::DevicesRevoked(both), 30).expect("what is not there is passed over");
    let left: Vec<u64> = account.open.as_ref().expect("open").devices.keys().map(|id| id.get()).collect();
    assert_eq!(left, [2]);
    let name = DeviceName::new("tablet").expect("valid");
    let gone = DeviceId::new(1);
    let renamed = AccountChange::DeviceRenamed { device: gone, name };
    assert_eq!(apply(&mut account, &renamed, 40), Err(Misfit::UnknownDevice(gone)));
}

#[test]
fn every_list_is_bounded_and_what_is_in_it_can_be_changed_when_it_is_full() {
    let mut account = open();
    let many = |max: usize| (0..max).map(|index| user(&format!("u{index}")));
    for who in many(CONTACTS_MAX) {
        apply(&mut account, &AccountChange::ContactSet { user: who, name: None }, 20).expect("room");
    }
    for who in many(BLOCKED_MAX) {
        apply(&mut account, &AccountChange::Blocked(who), 20).expect("room");
    }
    for id in 2..=DEVICES_MAX as u64 {
        apply(&mut account, &AccountChange::DeviceAdded(device(id)), 20).expect("room");
    }
    let mut too_many = |change| match apply(&mut account, &change, 30) {
        Err(Misfit::TooMany { what, max }) => (what, max),
        other => panic!("{other:?}"),
    };
    let one_more = AccountChange::ContactSet { user: user("more"), name: None };
    assert_eq!(too_many(one_more), ("contacts", CONTACTS_MAX));
    assert_eq!(too_many(AccountChange::Blocked(user("more"))), ("blocked users", BLOCKED_MAX));
    assert_eq!(too_many(AccountChange::DeviceAdded(device(99))), ("devices", DEVICES_MAX));
    let name = Some(DisplayName::new("Bob").expect("valid"));
    apply(&mut account, &AccountChange::ContactSet { user: user("u0"), name }, 40).expect("it is there");
    apply(&mut account, &AccountChange::Blocked(user("u0")), 40).expect("it is there");
}

#[test]
fn a_chat_of_which_nothing_is_said_takes_no_room() {
    let mut account = open();
    let chat = LogId::group([1; 16]);
    let muted = ChatMarks { muted_until_ms: 99, ..ChatMarks::default() };
    apply(&mut account, &AccountChange::ChatMarked { chat, marks: muted }, 20).expect("room");
    assert_eq!(account.open.as_ref().expect("open").chats[&chat], muted);
    apply(&mut account, &AccountChange::ChatMarked { chat, marks: ChatMarks::default() }, 30).expect("room");
    assert!(account.open.as_ref().expect("open").chats.is_empty());
}

fn any_change() -> impl Strategy<Value = AccountChange> {
    let id = (0..40u64).prop_map(DeviceId::new);
    prop_oneof![
        8 => (0..40u64).prop_map(|id| AccountChange::DeviceAdded(device(id))),
        4 => proptest::collection::vec(id, 0..3).prop_map(AccountChange::DevicesRevoked),
        4 => (0..40u64, 0..40u8, 0..40u8).prop_map(|(id, before, token)| AccountChange::TokenRenewed {
            device: DeviceId::new(id), token: TokenHash([token; 32]), before: TokenHash([before; 32]),
        }),
        1 => Just(registered()),
        1 => Just(AccountChange::Voided),
        1 => Just(AccountChange::Closed),
    ]
}

proptest! {
    #[test]
    fn what_is_refused_changes_nothing_and_no_bound_is_passed(
        changes in proptest::collection::vec(any_change(), 0..80)
    ) {
        let mut account = Account::default();
        let mut ended = false;
        for change in changes {
            let before = account.clone();
            let applied = apply(&mut account, &change, 1);
            prop_assert_eq!(applied.is_err() && before != account, false);
            prop_assert_eq!(account.open.is_some(), account.standing == AccountStanding::Open);
            prop_assert!(account.open.as_ref().is_none_or(|open| open.devices.len() <= DEVICES_MAX));
            prop_assert!(!(ended && applied.is_ok()), "what has ended stays so");
            ended = matches!(account.standing, AccountStanding::Voided | AccountStanding::Closed);
        }
    }
}
