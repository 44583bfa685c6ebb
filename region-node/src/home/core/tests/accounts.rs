//! Accounts are logs like any other, with rules of their own.

use super::*;
use types::{
    Username,
    account::{
        About, AccountChange, DeviceName, DisplayName, Names, NewDevice, PasswordHash, Profile, Registration,
        TokenHash,
    },
};

fn device(id: u64) -> NewDevice {
    let name = DeviceName::new("phone").expect("valid");
    NewDevice { device: DeviceId::new(id), name, token: TokenHash([id as u8; 32]) }
}

pub(super) fn registered() -> AccountChange {
    let display_name = DisplayName::new("Alice").expect("valid");
    AccountChange::Registered(Box::new(Registration {
        names: Names { username: Username::new("alice").expect("valid"), phone: None },
        password: PasswordHash::new("$argon2id$x").expect("a PHC string"),
        profile: Profile { display_name, about: About::empty(), avatar: None },
        device: device(1),
    }))
}

fn change(number: u8, change: AccountChange) -> Write {
    let body = EntryBody::Account(Box::new(change));
    write(LogId::account(&user("alice")), number, body, AckPolicy::Home, None)
}

/// A home of nothing yet, and what it answers to a write that is brought to its end.
fn asked(world: &mut World, write: Write) -> Ticket {
    let ticket = world.append(write);
    world.load_all();
    world.sync(1);
    ticket
}

#[test]
fn a_change_of_an_account_is_acked_only_when_it_is_replicated() {
    let mut world = World::with_chat();
    let ticket = asked(&mut world, change(1, registered()));
    assert!(!world.answered.contains_key(&ticket), "it is durable at home, and that is not enough");
    world.report(0, 1);
    assert_eq!(world.ok(ticket).ack, AckPolicy::Replicated);
}

#[test]
fn a_registration_and_a_voiding_that_race_leave_one_of_them() {
    for (first, second) in [(registered(), AccountChange::Voided), (AccountChange::Voided, registered())] {
        let mut world = World::with_chat();
        let won = world.append(change(1, first.clone()));
        let lost = world.append(change(2, second));
        world.load_all();
        world.sync(1);
        world.report(0, 1);
        assert_eq!(world.ok(won).position.offset, Offset::FIRST);
        assert_eq!(world.refused(lost), Code::AccountExists);
        let again = asked(&mut world, change(1, first));
        assert_eq!(world.ok(again).position.offset, Offset::FIRST, "a retry finds it");
    }
}

#[test]
fn an_account_is_changed_in_its_users_name_only_and_takes_no_message() {
    let mut world = World::with_chat();
    asked(&mut world, change(1, registered()));
    let stranger = Write { sender: user("bob"), ..change(2, AccountChange::Closed) };
    let forbidden = asked(&mut world, stranger);
    assert_eq!(world.refused(forbidden), Code::Forbidden);
    for body in [message(1), created(), EntryBody::Deleted { offsets: vec![Offset::FIRST] }] {
        let ticket = asked(&mut world, Write { body, ..change(3, AccountChange::Closed) });
        assert_eq!(world.refused(ticket), Code::BadRequest);
    }
    let in_a_chat = asked(&mut world, Write { log: log(1), ..change(4, AccountChange::Closed) });
    assert_eq!(world.refused(in_a_chat), Code::Forbidden);
}

#[test]
fn what_a_change_does_not_fit_is_named() {
    let mut world = World::with_chat();
    let early = asked(&mut world, change(1, AccountChange::DeviceAdded(device(2))));
    assert_eq!(world.refused(early), Code::UnknownAccount);
    asked(&mut world, change(2, registered()));
    let name = DeviceName::new("tablet").expect("valid");
    let renamed = AccountChange::DeviceRenamed { device: DeviceId::new(9), name };
    let unknown = asked(&mut world, change(3, renamed));
    assert_eq!(world.refused(unknown), Code::UnknownDevice);
    let stale = AccountChange::TokenRenewed {
        device: DeviceId::new(1),
        token: TokenHash([7; 32]),
        before: TokenHash([8; 32]),
    };
    let conflict = asked(&mut world, change(4, stale));
    assert_eq!(world.refused(conflict), Code::Conflict);
}

#[test]
fn of_what_was_never_acked_only_a_revocation_is_put_back() {
    let mut world = World::with_chat();
    asked(&mut world, change(1, registered()));
    let put_back = |number, what| Write { salvage: Some(Salvaged::default()), ..change(number, what) };
    let added = asked(&mut world, put_back(2, AccountChange::DeviceAdded(device(2))));
    assert_eq!(world.refused(added), Code::BadRequest);
    let revoked = AccountChange::DevicesRevoked(vec![DeviceId::new(1)]);
    let ticket = asked(&mut world, put_back(3, revoked));
    world.report(0, 2);
    assert_eq!(world.ok(ticket).position.offset.get(), 2);
}
