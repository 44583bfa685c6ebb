//! Records: the same bytes on disk, between home and follower, and on the bus.

mod cursor;
mod decode;
mod effect;
mod encode;
mod fields;
mod import;

use crate::{
    convert::{Malformed, device, id, log_id, message_id, require, user},
    log,
};
use bytes::Bytes;
use prost::Message as _;
use types::{
    AckPolicy, Body, BodyHash, Entry, EntryBody, Epoch, Generation, Lsn, MemberRole, MoveId, Offset, Record,
    RegionId, RehomeId, StateUpdate, limits,
};

pub use import::{decode_import, encode_import};

/// Encodes a record.
pub fn encode_record(record: &Record) -> Bytes {
    match &record.body {
        Body::Entry(entry) => encode::record_of_entry(record, entry).into(),
        Body::Update(_) => log::Record::from(record).encode_to_vec().into(),
    }
}

/// Decodes a record; message bodies share the memory of `bytes`.
///
/// # Errors
/// [`Malformed`] when the bytes are no record, or one outside its bounds.
pub fn decode_record(bytes: Bytes) -> Result<Record, Malformed> {
    match decode::message(&bytes) {
        Some(message) => Ok(message),
        None => decode_any(bytes),
    }
}

fn decode_any(bytes: Bytes) -> Result<Record, Malformed> {
    log::Record::decode(bytes).map_err(|error| Malformed::Undecodable(error.to_string()))?.try_into()
}

impl From<&Record> for log::Record {
    fn from(record: &Record) -> Self {
        let body = match &record.body {
            Body::Entry(entry) => log::record::Body::Entry(entry.into()),
            Body::Update(update) => log::record::Body::Update(update.into()),
        };
        Self {
            lsn: record.lsn.get(),
            epoch: record.epoch.get(),
            generation: record.generation.get(),
            log: Bytes::copy_from_slice(&record.log.to_bytes()),
            accepted_at_ms: record.accepted_at_ms,
            body: Some(body),
        }
    }
}

impl TryFrom<log::Record> for Record {
    type Error = Malformed;
    fn try_from(wire: log::Record) -> Result<Self, Malformed> {
        let body = match require("record.body", wire.body)? {
            log::record::Body::Entry(entry) => Body::Entry(entry.try_into()?),
            log::record::Body::Update(update) => Body::Update(update.try_into()?),
        };
        Ok(Self {
            lsn: Lsn::new(wire.lsn),
            epoch: Epoch::new(wire.epoch),
            generation: Generation::new(wire.generation),
            log: log_id("record.log", &wire.log)?,
            accepted_at_ms: wire.accepted_at_ms,
            body,
        })
    }
}

impl From<&Entry> for log::Entry {
    fn from(entry: &Entry) -> Self {
        Self {
            offset: entry.offset.get(),
            sender: entry.sender.to_string(),
            device: entry.device.get(),
            message_id: Bytes::copy_from_slice(entry.message_id.as_bytes()),
            expires_at_ms: entry.expires_at_ms,
            salvaged: entry.salvaged,
            about: entry.about.as_deref().map(Into::into),
            body: Some((&entry.body).into()),
        }
    }
}

impl TryFrom<log::Entry> for Entry {
    type Error = Malformed;
    fn try_from(wire: log::Entry) -> Result<Self, Malformed> {
        Ok(Self {
            offset: Offset::new(wire.offset),
            sender: user("entry.sender", &wire.sender)?,
            device: device(wire.device),
            message_id: message_id("entry.message_id", &wire.message_id)?,
            expires_at_ms: wire.expires_at_ms,
            salvaged: wire.salvaged,
            about: wire.about.map(|about| about.try_into().map(Box::new)).transpose()?,
            body: require("entry.body", wire.body)?.try_into()?,
        })
    }
}

impl From<&EntryBody> for log::entry::Body {
    fn from(body: &EntryBody) -> Self {
        match body {
            EntryBody::Created { members, ack_policy, allowed_regions } => Self::Created(log::Created {
                members: members
                    .iter()
                    .map(|(user, role)| log::Member {
                        user: user.to_string(),
                        role: *role as i32,
                        ..log::Member::default()
                    })
                    .collect(),
                ack_policy: *ack_policy as i32,
                allowed_regions: allowed_regions.iter().map(RegionId::to_string).collect(),
            }),
            EntryBody::Account(change) => Self::Account((&**change).into()),
            EntryBody::Chat(change) => Self::Chat((&**change).into()),
            EntryBody::Message { ciphertext } => {
                Self::Message(log::Message { ciphertext: ciphertext.clone() })
            }
            EntryBody::Deleted { offsets } => {
                Self::Deleted(log::Deleted { offsets: offsets.iter().map(|offset| offset.get()).collect() })
            }
            EntryBody::Erased { hash } => Self::Erased(log::Erased { hash: Bytes::copy_from_slice(&hash.0) }),
        }
    }
}

impl TryFrom<log::entry::Body> for EntryBody {
    type Error = Malformed;
    fn try_from(wire: log::entry::Body) -> Result<Self, Malformed> {
        match wire {
            log::entry::Body::Created(created) => created.try_into(),
            log::entry::Body::Account(change) => Ok(Self::Account(Box::new(change.try_into()?))),
            log::entry::Body::Chat(change) => Ok(Self::Chat(Box::new(change.try_into()?))),
            log::entry::Body::Message(message) => message.try_into(),
            log::entry::Body::Deleted(deleted) => deleted.try_into(),
            log::entry::Body::Erased(erased) => {
                let hash = erased.hash.as_ref().try_into().map_err(|_| {
                    Malformed::value(
                        "erased.hash",
                        format!("{} bytes", erased.hash.len()),
                        "it needs 16 bytes",
                    )
                })?;
                Ok(Self::Erased { hash: BodyHash(hash) })
            }
        }
    }
}

impl TryFrom<log::Created> for EntryBody {
    type Error = Malformed;
    fn try_from(wire: log::Created) -> Result<Self, Malformed> {
        bounded("created.members", wire.members.len(), limits::MEMBERS_MAX)?;
        bounded("created.allowed_regions", wire.allowed_regions.len(), limits::REGIONS_MAX)?;
        let members = wire
            .members
            .into_iter()
            .map(|member| Ok((user("member.user", &member.user)?, role(member.role)?)))
            .collect::<Result<_, Malformed>>()?;
        let allowed_regions = wire
            .allowed_regions
            .iter()
            .map(|region| id("created.allowed_regions", RegionId::new(region)))
            .collect::<Result<_, Malformed>>()?;
        Ok(Self::Created { members, ack_policy: ack_policy(wire.ack_policy)?, allowed_regions })
    }
}

impl TryFrom<log::Message> for EntryBody {
    type Error = Malformed;
    fn try_from(wire: log::Message) -> Result<Self, Malformed> {
        bounded("message.ciphertext", wire.ciphertext.len(), limits::BODY_MAX_BYTES)?;
        Ok(Self::Message { ciphertext: wire.ciphertext })
    }
}

impl TryFrom<log::Deleted> for EntryBody {
    type Error = Malformed;
    fn try_from(wire: log::Deleted) -> Result<Self, Malformed> {
        bounded("deleted.offsets", wire.offsets.len(), limits::DELETED_OFFSETS_MAX)?;
        if wire.offsets.first().is_none_or(|first| *first == 0) || !wire.offsets.is_sorted_by(|a, b| a < b) {
            let value = format!("{:?}", wire.offsets);
            return Err(Malformed::value("deleted.offsets", value, "they ascend from 1, without repeats"));
        }
        Ok(Self::Deleted { offsets: wire.offsets.into_iter().map(Offset::new).collect() })
    }
}

/// The body of a forwarded write.
///
/// # Errors
/// [`Malformed`] when it is missing or outside its bounds.
pub fn entry_body(wire: Option<crate::node::append::Body>) -> Result<EntryBody, Malformed> {
    use crate::node::append::Body as Wire;
    match require("append.body", wire)? {
        Wire::Created(created) => created.try_into(),
        Wire::Message(message) => message.try_into(),
        Wire::Deleted(deleted) => deleted.try_into(),
        Wire::Account(change) => Ok(EntryBody::Account(Box::new(change.try_into()?))),
        Wire::Chat(change) => Ok(EntryBody::Chat(Box::new(change.try_into()?))),
    }
}

/// An ack policy from its number; unset means `home`.
///
/// # Errors
/// [`Malformed`] for a number that is not known.
pub fn ack_policy(number: i32) -> Result<AckPolicy, Malformed> {
    match log::AckPolicy::try_from(number) {
        Ok(log::AckPolicy::Unspecified | log::AckPolicy::Home) => Ok(AckPolicy::Home),
        Ok(log::AckPolicy::Replicated) => Ok(AckPolicy::Replicated),
        Err(_) => Err(Malformed::value("ack_policy", number, "it is not known")),
    }
}

pub(crate) fn role(number: i32) -> Result<MemberRole, Malformed> {
    match log::Role::try_from(number) {
        Ok(log::Role::Member) => Ok(MemberRole::Member),
        Ok(log::Role::Admin) => Ok(MemberRole::Admin),
        Ok(log::Role::Owner) => Ok(MemberRole::Owner),
        Ok(log::Role::Unspecified) | Err(_) => {
            Err(Malformed::value("member.role", number, "it is not known"))
        }
    }
}

pub(crate) fn bounded(field: &'static str, len: usize, max: usize) -> Result<(), Malformed> {
    if len > max {
        Err(Malformed::value(field, format!("{len} long"), "it is over its limit"))
    } else {
        Ok(())
    }
}

impl From<&StateUpdate> for log::StateUpdate {
    fn from(update: &StateUpdate) -> Self {
        let update = match update {
            StateUpdate::LogSealed { rehome } => {
                log::state_update::Update::LogSealed(log::LogSealed { rehome: rehome.get() })
            }
            StateUpdate::LogImported(import) => {
                log::state_update::Update::LogImported(log::LogImported::from(&**import))
            }
            StateUpdate::Cursors(cursors) => {
                log::state_update::Update::Cursors(cursor::wire_cursors(cursors))
            }
            StateUpdate::Effect(effect) => log::state_update::Update::Effect((&**effect).into()),
            StateUpdate::EffectDone { target, cause } => {
                log::state_update::Update::EffectDone(log::EffectDone {
                    target: Some(target.into()),
                    cause: Some((*cause).into()),
                })
            }
            StateUpdate::Seal { move_id } => {
                log::state_update::Update::Seal(log::Seal { move_id: move_id.get() })
            }
        };
        Self { update: Some(update) }
    }
}

impl TryFrom<log::StateUpdate> for StateUpdate {
    type Error = Malformed;
    fn try_from(wire: log::StateUpdate) -> Result<Self, Malformed> {
        match require("update", wire.update)? {
            log::state_update::Update::Seal(seal) => Ok(Self::Seal { move_id: MoveId::new(seal.move_id) }),
            log::state_update::Update::LogSealed(sealed) => {
                Ok(Self::LogSealed { rehome: RehomeId::new(sealed.rehome) })
            }
            log::state_update::Update::LogImported(import) => {
                Ok(Self::LogImported(Box::new(import.try_into()?)))
            }
            log::state_update::Update::Effect(wire) => Ok(Self::Effect(Box::new(wire.try_into()?))),
            log::state_update::Update::EffectDone(wire) => Ok(Self::EffectDone {
                target: effect::target(wire.target)?,
                cause: require("effect_done.cause", wire.cause)?.into(),
            }),
            log::state_update::Update::Cursors(wire) => Ok(Self::Cursors(cursor::cursors(&wire)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::chat::{About, MessageKind, Reference};
    use types::{DeviceId, LogId, MessageId, UserId};

    fn message(body: Bytes) -> Record {
        Record {
            lsn: Lsn::new(9),
            epoch: Epoch::new(2),
            generation: Generation::FIRST,
            log: LogId::group([3; 16]),
            accepted_at_ms: 1_700_000_000_000,
            body: Body::Entry(Entry {
                offset: Offset::new(4),
                sender: UserId::new("alice").expect("a valid name"),
                device: DeviceId::new(u64::MAX),
                message_id: MessageId::from_bytes([5; 16]),
                expires_at_ms: Some(0),
                salvaged: true,
                about: None,
                body: EntryBody::Message { ciphertext: body },
            }),
        }
    }

    #[test]
    fn a_record_survives_its_bytes() {
        let record = message(Bytes::from_static(b"sealed"));
        assert_eq!(decode_record(encode_record(&record)), Ok(record));
    }

    #[test]
    fn a_message_is_decoded_as_the_generated_code_would() {
        let whole = encode_record(&message(vec![7; 300].into()));
        assert!(decode::message(&whole).is_some());
        for at in 0..whole.len() {
            for changed in [0, 1, 0x7F, 0x80, 0xFF, whole[at] ^ 1, whole[at] ^ 8, whole[at] ^ 0x80] {
                let mut bytes = whole.to_vec();
                bytes[at] = changed;
                assert_as_generated(bytes.into());
            }
            assert_as_generated(whole.slice(..at));
            assert_as_generated([&whole[..at], &whole[..]].concat().into());
        }
        let mut bodiless = log::Record::from(&message(Bytes::new()));
        if let Some(log::record::Body::Entry(entry)) = &mut bodiless.body {
            entry.body = None;
        }
        assert!(decode_record(bodiless.encode_to_vec().into()).is_err());
    }

    fn assert_as_generated(bytes: Bytes) {
        if let Some(decoded) = decode::message(&bytes) {
            assert_eq!(Ok(decoded), decode_any(bytes));
        }
    }

    #[test]
    fn entries_are_encoded_as_the_generated_code_would() {
        let mut records = vec![message(Bytes::new()), message(vec![7; 300].into())];
        let bodies = [
            EntryBody::Created {
                members: vec![(UserId::new("bob").expect("a valid name"), MemberRole::Owner)],
                ack_policy: AckPolicy::Replicated,
                allowed_regions: vec![RegionId::new("us-east").expect("a valid name")],
            },
            EntryBody::Deleted { offsets: vec![Offset::new(1), Offset::new(300)] },
            EntryBody::Erased { hash: BodyHash([4; 16]) },
        ];
        for body in bodies {
            let mut record = message(Bytes::new());
            let Body::Entry(entry) = &mut record.body else { continue };
            entry.body = body;
            (entry.device, entry.expires_at_ms) = (DeviceId::new(0), None);
            records.push(record.clone());
            (record.lsn, record.generation, record.accepted_at_ms) = (Lsn::ZERO, Generation::new(0), 0);
            records.push(record);
        }
        for mut record in records.clone() {
            let Body::Entry(entry) = &mut record.body else { continue };
            let (sender, id) = (entry.sender.clone(), MessageId::from_bytes([6; 16]));
            let refers_to = Some(Reference::new(sender, DeviceId::new(2), id, Offset::new(2)));
            entry.about = Some(Box::new(About { kind: MessageKind::Edit, refers_to }));
            assert_eq!(decode_record(encode_record(&record)), Ok(record.clone()));
            records.push(record);
        }
        for record in records {
            assert_eq!(encode_record(&record), log::Record::from(&record).encode_to_vec(), "{record:?}");
        }
    }

    #[test]
    fn a_body_over_the_limit_is_refused_by_name() {
        let record = message(vec![0; limits::BODY_MAX_BYTES + 1].into());
        let error = decode_record(encode_record(&record)).expect_err("too large");
        assert_eq!(error.to_string(), "field message.ciphertext is 65537 long: it is over its limit");
    }

    #[test]
    fn a_field_of_a_newer_writer_is_ignored() {
        let record = message(Bytes::from_static(b"sealed"));
        let mut bytes = encode_record(&record).to_vec();
        // Field 2000, length-delimited, 3 bytes.
        prost::encoding::encode_key(2000, prost::encoding::WireType::LengthDelimited, &mut bytes);
        bytes.extend_from_slice(&[3, 1, 2, 3]);
        assert_eq!(decode_record(bytes.into()), Ok(record));
    }
}
