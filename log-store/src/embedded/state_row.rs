//! A log's folded state as a row: its versions at the partition's checkpoints, oldest first.
//!
//! The state cannot be folded backwards, so a truncation starts from the newest version at or before a
//! checkpoint below the cut.

mod effects;

use super::rows::Cursor;
use crate::{
    cursors::Cursors,
    devices::Devices,
    fold::{EraBegin, LogState},
};
use std::{collections::BTreeMap, sync::Arc};
use types::{
    AckPolicy, DeviceCursor, DeviceId, DeviceMark, Epoch, Generation, Lsn, Mark, Marks, MemberRole,
    MessageId, Offset, PartitionPosition, Position, RegionId, UserId, chat::Member,
};

/// One version: the log's last LSN in it, and the encoded state.
pub(crate) type Version<'a> = (Lsn, &'a [u8]);

/// Splits a row into its versions, oldest first.
pub(crate) fn versions(row: &[u8]) -> Option<Vec<Version<'_>>> {
    let mut cursor = Cursor(row);
    let mut versions = Vec::new();
    while !cursor.0.is_empty() {
        let lsn = Lsn::new(cursor.u64()?);
        let bytes = cursor.u32()? as usize;
        versions.push((lsn, cursor.bytes(bytes)?));
    }
    Some(versions)
}

/// Puts a row together.
pub(crate) fn row<'a>(versions: impl IntoIterator<Item = Version<'a>>) -> Vec<u8> {
    let mut row = Vec::new();
    for (lsn, bytes) in versions {
        row.extend_from_slice(&lsn.get().to_le_bytes());
        row.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        row.extend_from_slice(bytes);
    }
    row
}

/// The newest state in a row.
pub(crate) fn newest(row: &[u8]) -> Option<LogState> {
    decode(versions(row)?.last()?.1)
}

pub(crate) fn encode(state: &LogState) -> Vec<u8> {
    let mut into = Vec::with_capacity(128);
    let number = |into: &mut Vec<u8>, number: u64| into.extend_from_slice(&number.to_le_bytes());
    number(&mut into, state.eras.len() as u64);
    for era in &state.eras {
        into.extend_from_slice(&era.generation.get().to_le_bytes());
        number(&mut into, era.epoch.get());
        number(&mut into, era.first_offset.get());
    }
    into.extend_from_slice(&state.head.generation.get().to_le_bytes());
    number(&mut into, state.head.epoch.get());
    number(&mut into, state.head.offset.get());
    into.extend_from_slice(&state.sealed.get().to_le_bytes());
    into.extend_from_slice(&state.imported.get().to_le_bytes());
    number(&mut into, state.elsewhere.len() as u64);
    for (first, last) in &state.elsewhere {
        number(&mut into, first.get());
        number(&mut into, last.get());
    }
    number(&mut into, state.last.epoch.get());
    number(&mut into, state.last.lsn.get());
    number(&mut into, state.created_at_ms);
    number(&mut into, state.head_at_ms);
    number(&mut into, state.accepted_at_ms);
    into.push(state.ack_policy as u8);
    number(&mut into, state.members.len() as u64);
    for (user, member) in &*state.members {
        text(&mut into, user.as_str());
        into.push(member.role as u8);
        number(&mut into, member.joined_at.get());
        number(&mut into, member.changed_at.get());
    }
    number(&mut into, state.allowed_regions.len() as u64);
    for region in &state.allowed_regions {
        text(&mut into, region.as_str());
    }
    number(&mut into, state.cursors.len() as u64);
    for (user, device, marks) in state.cursors.iter() {
        text(&mut into, user.as_str());
        number(&mut into, device.get());
        for mark in [marks.delivered, marks.read] {
            number(&mut into, mark.offset.get());
            number(&mut into, mark.at_ms);
        }
        into.push(u8::from(marks.hides_read));
    }
    put_devices(&mut into, &state.devices);
    effects::put(&mut into, state);
    put_blob(&mut into, &state.account.as_deref().map(proto::encode_account).unwrap_or_default());
    put_blob(&mut into, &state.chat.as_deref().map(proto::encode_chat).unwrap_or_default());
    into
}

fn put_devices(into: &mut Vec<u8>, devices: &Devices) {
    into.extend_from_slice(devices.floor.as_bytes());
    into.extend_from_slice(&(devices.known.len() as u64).to_le_bytes());
    for known in &devices.known {
        text(into, known.sender.as_str());
        into.extend_from_slice(&known.device.get().to_le_bytes());
        into.extend_from_slice(known.latest.as_bytes());
        into.extend_from_slice(known.highest.as_bytes());
        into.extend_from_slice(&known.offset.get().to_le_bytes());
    }
}

/// Accounts and chats always say something: no bytes are none.
fn put_blob(into: &mut Vec<u8>, bytes: &[u8]) {
    into.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    into.extend_from_slice(bytes);
}

/// Names are at most 64 bytes long.
fn text(into: &mut Vec<u8>, text: &str) {
    into.push(text.len() as u8);
    into.extend_from_slice(text.as_bytes());
}

pub(crate) fn decode(bytes: &[u8]) -> Option<LogState> {
    let mut cursor = Cursor(bytes);
    let mut state = LogState::default();
    for _ in 0..cursor.u64()? {
        state.eras.push(EraBegin {
            generation: Generation::new(cursor.u32()?),
            epoch: Epoch::new(cursor.u64()?),
            first_offset: Offset::new(cursor.u64()?),
        });
    }
    let generation = Generation::new(cursor.u32()?);
    state.head = Position::new(generation, Epoch::new(cursor.u64()?), Offset::new(cursor.u64()?));
    state.sealed = Generation::new(cursor.u32()?);
    state.imported = Generation::new(cursor.u32()?);
    for _ in 0..cursor.u64()? {
        state.elsewhere.push((Offset::new(cursor.u64()?), Offset::new(cursor.u64()?)));
    }
    state.last = PartitionPosition::new(Epoch::new(cursor.u64()?), Lsn::new(cursor.u64()?));
    state.created_at_ms = cursor.u64()?;
    state.head_at_ms = cursor.u64()?;
    state.accepted_at_ms = cursor.u64()?;
    state.ack_policy = match cursor.u8()? {
        1 => AckPolicy::Home,
        2 => AckPolicy::Replicated,
        _ => return None,
    };
    let members = (0..cursor.u64()?).map(|_| Some((user(&mut cursor)?, member(&mut cursor)?)));
    state.members = Arc::new(members.collect::<Option<BTreeMap<_, _>>>()?);
    for _ in 0..cursor.u64()? {
        state.allowed_regions.push(RegionId::new(read_text(&mut cursor)?).ok()?);
    }
    let cursors = (0..cursor.u64()?).map(|_| {
        let (user, device) = (user(&mut cursor)?, DeviceId::new(cursor.u64()?));
        Some(DeviceCursor { user, device, marks: marks(&mut cursor)? })
    });
    state.cursors = Arc::new(cursors.collect::<Option<Cursors>>()?);
    state.devices = Arc::new(devices(&mut cursor)?);
    (state.effects, state.causes) =
        (Arc::new(effects::pending(&mut cursor)?), Arc::new(effects::causes(&mut cursor)?));
    state.account = read_blob(&mut cursor, |bytes| proto::decode_account(bytes).ok())?;
    state.chat = read_blob(&mut cursor, |bytes| proto::decode_chat(bytes).ok())?;
    cursor.0.is_empty().then_some(state)
}

fn devices(cursor: &mut Cursor<'_>) -> Option<Devices> {
    let floor = message_id(cursor)?;
    let known = (0..cursor.u64()?).map(|_| {
        Some(DeviceMark {
            sender: user(cursor)?,
            device: DeviceId::new(cursor.u64()?),
            latest: message_id(cursor)?,
            highest: message_id(cursor)?,
            offset: Offset::new(cursor.u64()?),
        })
    });
    Some(Devices { known: known.collect::<Option<Vec<_>>>()?, floor })
}

fn read_blob<T>(cursor: &mut Cursor<'_>, decode: impl FnOnce(&[u8]) -> Option<T>) -> Option<Option<Arc<T>>> {
    let len = cursor.u32()? as usize;
    match cursor.bytes(len)? {
        [] => Some(None),
        bytes => decode(bytes).map(|it| Some(Arc::new(it))),
    }
}

fn member(cursor: &mut Cursor<'_>) -> Option<Member> {
    Some(Member {
        role: role(cursor.u8()?)?,
        joined_at: Offset::new(cursor.u64()?),
        changed_at: Offset::new(cursor.u64()?),
    })
}

fn message_id(cursor: &mut Cursor<'_>) -> Option<MessageId> {
    MessageId::try_from(cursor.bytes(16)?).ok()
}

fn read_text<'a>(cursor: &mut Cursor<'a>) -> Option<&'a str> {
    let bytes = cursor.u8()?;
    std::str::from_utf8(cursor.bytes(usize::from(bytes))?).ok()
}

fn user(cursor: &mut Cursor<'_>) -> Option<UserId> {
    UserId::new(read_text(cursor)?).ok()
}

const fn role(byte: u8) -> Option<MemberRole> {
    match byte {
        1 => Some(MemberRole::Member),
        2 => Some(MemberRole::Admin),
        3 => Some(MemberRole::Owner),
        _ => None,
    }
}

fn marks(cursor: &mut Cursor<'_>) -> Option<Marks> {
    let delivered = mark(cursor)?;
    Some(Marks { delivered, read: mark(cursor)?, hides_read: cursor.u8()? != 0 })
}

fn mark(cursor: &mut Cursor<'_>) -> Option<Mark> {
    let offset = Offset::new(cursor.u64()?);
    Some(Mark { offset, at_ms: cursor.u64()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::account::{Account, AccountStanding};
    use types::chat::{Chat, Invite, InviteHash, Settings};
    use types::{EffectAct, EffectTarget, LogId, PendingEffect};

    #[test]
    fn a_state_survives_its_row() {
        let alice = UserId::new("alice").expect("a valid name");
        let position = Position::new(Generation::new(2), Epoch::new(3), Offset::new(4));
        let effect = PendingEffect {
            cause: position,
            target: EffectTarget { log: LogId::group([9; 16]), stretch: Generation::FIRST },
            act: EffectAct::Erase { offsets: vec![Offset::FIRST, Offset::new(3)] },
        };
        let invite = Invite { made_by: alice.clone(), expires_at_ms: 7, uses_max: 3, uses: 1 };
        let chat = Chat {
            settings: Settings { name: "sealed".into(), expiry_ms: 9, ..Settings::default() },
            left: [(UserId::new("bob").expect("a valid name"), Offset::new(3))].into(),
            invites: [(InviteHash([6; 32]), invite)].into(),
            blocked_by: [UserId::new("bob").expect("a valid name")].into(),
            request_of: Some(alice.clone()),
        };
        let state = LogState {
            eras: vec![EraBegin {
                generation: Generation::FIRST,
                epoch: Epoch::new(3),
                first_offset: Offset::FIRST,
            }],
            head: position,
            sealed: Generation::FIRST,
            imported: Generation::new(2),
            elsewhere: vec![(Offset::new(2), Offset::new(3))],
            created_at_ms: 5,
            head_at_ms: 6,
            last: PartitionPosition::new(Epoch::new(3), Lsn::new(9)),
            accepted_at_ms: 17,
            members: Arc::new([(alice.clone(), Member::since(MemberRole::Owner, Offset::new(4)))].into()),
            ack_policy: AckPolicy::Replicated,
            allowed_regions: vec![RegionId::new("us-east").expect("a valid name")],
            cursors: Arc::new(
                [DeviceCursor::read(alice.clone(), DeviceId::new(1), Offset::new(2), 6)]
                    .into_iter()
                    .collect(),
            ),
            devices: Arc::new(Devices {
                known: vec![DeviceMark {
                    sender: alice,
                    device: DeviceId::new(1),
                    latest: MessageId::from_bytes([1; 16]),
                    highest: MessageId::from_bytes([2; 16]),
                    offset: Offset::new(4),
                }],
                floor: MessageId::from_bytes([3; 16]),
            }),
            effects: Arc::new(vec![(Lsn::new(8), effect)]),
            causes: Arc::new([((LogId::group([9; 16]), Generation::FIRST), position)].into()),
            account: Some(Arc::new(Account {
                standing: AccountStanding::Voided,
                leaving: [LogId::group([3; 16])].into(),
                ..Account::default()
            })),
            chat: Some(Arc::new(chat)),
        };
        let default = encode(&LogState::default());
        let row = row([(Lsn::new(1), &default[..]), (Lsn::new(9), &encode(&state)[..])]);
        assert_eq!(newest(&row), Some(state));
        assert_eq!(versions(&row).expect("two versions")[0].0, Lsn::new(1));
        assert_eq!(versions(&row[..row.len() - 1]), None);
    }
}
