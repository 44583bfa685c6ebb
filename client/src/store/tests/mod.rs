//! Every store does what the one in memory does; and what a kept session promises holds wherever it dies.

mod crashes;
mod files;

use super::*;
use crate::{EntryKey, Reference};
use proptest::prelude::*;

fn user() -> UserId {
    UserId::new("alice").expect("a valid name")
}

const DEVICE: DeviceId = DeviceId::new(7);

fn log(number: u8) -> LogId {
    LogId::group([number; 16])
}

fn message(number: u8) -> MessageId {
    MessageId::from_bytes([number; 16])
}

fn queue(of: u8, number: u8, body: Vec<u8>) -> Change {
    let message_of = |body: Vec<u8>| match number % 3 {
        0 => {
            let key = EntryKey { sender: user(), device: DEVICE, message_id: message(number + 1) };
            Message::reaction(Reference { key, offset: of.into() }, body)
        }
        1 => Message::media(body),
        _ => body.into(),
    };
    Change::Queue { log: log(of), message_id: message(number), message: message_of(body) }
}

fn change() -> impl Strategy<Value = Change> {
    let position = || (0u64..9).prop_map(|offset| (offset, Position::from(format!("a.{offset}"))));
    let key =
        (0u8..9).prop_map(|number| EntryKey { sender: user(), device: DEVICE, message_id: message(number) });
    let undone = prop::option::of(prop::collection::vec(key, 0..3));
    prop_oneof![
        4 => (0u8..3, 0u8..9, prop::collection::vec(any::<u8>(), 0..5_000))
            .prop_map(|(of, number, body)| queue(of, number, body)),
        2 => (0u8..3, 0u8..9)
            .prop_map(|(of, number)| Change::Settle { log: log(of), message_id: message(number) }),
        2 => (0u8..3, position()).prop_map(|(of, (offset, position))| {
            Change::Follow { log: log(of), position, offset }
        }),
        3 => (0u8..3, prop::collection::vec(position(), 1..4), undone)
            .prop_map(|(of, positions, undone)| Change::Stand { log: log(of), positions, undone }),
        1 => (0u8..3).prop_map(|of| Change::Unfollow { log: log(of) }),
    ]
}
