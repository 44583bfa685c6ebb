//! The fold of a log, as it goes from one partition to the next.

use super::{ack_policy, bounded, effect};
use crate::{
    chat,
    convert::{Malformed, device, id, message_id, require, user},
    log,
};
use bytes::Bytes;
use prost::Message as _;
use std::sync::Arc;
use types::{
    DeviceMark, Epoch, EraBegin, Generation, Import, MessageId, Offset, RegionId, RehomeId, account::Account,
    chat::Chat, limits,
};

/// Encodes a fold, to be handed on.
pub fn encode_import(import: &Import) -> Bytes {
    log::LogImported::from(import).encode_to_vec().into()
}

/// Decodes a fold.
///
/// # Errors
/// [`Malformed`] when the bytes are none, or it is outside its bounds.
pub fn decode_import(bytes: &Bytes) -> Result<Import, Malformed> {
    bounded("log_imported", bytes.len(), limits::IMPORT_MAX_BYTES)?;
    let wire = log::LogImported::decode(&bytes[..]);
    wire.map_err(|error| Malformed::Undecodable(error.to_string()))?.try_into()
}

impl From<&Import> for log::LogImported {
    fn from(import: &Import) -> Self {
        Self {
            rehome: import.rehome.get(),
            head: Some(import.head.into()),
            eras: import.eras.iter().map(Into::into).collect(),
            created_at_ms: import.created_at_ms,
            head_at_ms: import.head_at_ms,
            accepted_at_ms: import.accepted_at_ms,
            members: import.members.iter().map(|(user, member)| chat::wire_member(user, *member)).collect(),
            ack_policy: import.ack_policy as i32,
            allowed_regions: import.allowed_regions.iter().map(RegionId::to_string).collect(),
            cursors: import.cursors.iter().map(Into::into).collect(),
            devices: import.devices.iter().map(Into::into).collect(),
            devices_floor: id_bytes(import.devices_floor),
            effects: import.effects.iter().map(Into::into).collect(),
            causes: import.causes.iter().map(effect::wire_cause).collect(),
            account: import.account.as_deref().map(Into::into),
            chat: import.chat.as_deref().map(Into::into),
        }
    }
}

impl TryFrom<log::LogImported> for Import {
    type Error = Malformed;
    fn try_from(wire: log::LogImported) -> Result<Self, Malformed> {
        bounded("log_imported", wire.encoded_len(), limits::IMPORT_MAX_BYTES)?;
        let region = |region: &String| id("log_imported.allowed_regions", RegionId::new(region));
        Ok(Self {
            rehome: RehomeId::new(wire.rehome),
            head: require("log_imported.head", wire.head)?.into(),
            eras: wire.eras.into_iter().map(Into::into).collect(),
            created_at_ms: wire.created_at_ms,
            head_at_ms: wire.head_at_ms,
            accepted_at_ms: wire.accepted_at_ms,
            members: wire.members.iter().map(chat::member).collect::<Result<_, Malformed>>()?,
            ack_policy: ack_policy(wire.ack_policy)?,
            allowed_regions: wire.allowed_regions.iter().map(region).collect::<Result<_, Malformed>>()?,
            cursors: wire.cursors.iter().map(TryInto::try_into).collect::<Result<_, Malformed>>()?,
            devices: wire.devices.into_iter().map(TryInto::try_into).collect::<Result<_, Malformed>>()?,
            devices_floor: message_id("log_imported.devices_floor", &wire.devices_floor)?,
            effects: wire.effects.into_iter().map(effect::pending).collect::<Result<_, _>>()?,
            causes: wire.causes.into_iter().map(effect::cause).collect::<Result<_, _>>()?,
            account: wire.account.map(Account::try_from).transpose()?.map(Arc::new),
            chat: wire.chat.map(Chat::try_from).transpose()?.map(Arc::new),
        })
    }
}

impl From<&EraBegin> for log::EraBegin {
    fn from(era: &EraBegin) -> Self {
        Self {
            generation: era.generation.get(),
            epoch: era.epoch.get(),
            first_offset: era.first_offset.get(),
        }
    }
}

impl From<log::EraBegin> for EraBegin {
    fn from(wire: log::EraBegin) -> Self {
        Self {
            generation: Generation::new(wire.generation),
            epoch: Epoch::new(wire.epoch),
            first_offset: Offset::new(wire.first_offset),
        }
    }
}

impl From<&DeviceMark> for log::DeviceMark {
    fn from(mark: &DeviceMark) -> Self {
        Self {
            sender: mark.sender.to_string(),
            device: mark.device.get(),
            latest: id_bytes(mark.latest),
            highest: id_bytes(mark.highest),
            offset: mark.offset.get(),
        }
    }
}

impl TryFrom<log::DeviceMark> for DeviceMark {
    type Error = Malformed;
    fn try_from(wire: log::DeviceMark) -> Result<Self, Malformed> {
        Ok(Self {
            sender: user("device_mark.sender", &wire.sender)?,
            device: device(wire.device),
            latest: message_id("device_mark.latest", &wire.latest)?,
            highest: message_id("device_mark.highest", &wire.highest)?,
            offset: Offset::new(wire.offset),
        })
    }
}

fn id_bytes(id: MessageId) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}
