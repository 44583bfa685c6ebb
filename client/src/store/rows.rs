//! How rows stand in a file: protobuf messages of their own, so that a later version can add to them.

use super::LogSnapshot;
use crate::{EntryKey, Message, Position, Reference, session::MessageSnapshot};
use bytes::Bytes;
use prost::Message as _;
use types::{DeviceId, LogId, MessageId, UserId, limits};

/// A row that says nothing that could have been written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("a row cannot be read: {0}")]
    Row(#[from] prost::DecodeError),
    #[error("a row names {0}")]
    Name(#[from] types::IdError),
    #[error("a message id of {0} bytes")]
    MessageId(usize),
    #[error("a message of {0} bytes")]
    Body(usize),
    #[error("a chat without a position")]
    NoPosition,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MessageRow {
    #[prost(bytes = "vec", tag = "1")]
    log: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    message_id: Vec<u8>,
    #[prost(bytes = "bytes", tag = "3")]
    body: Bytes,
    /// Empty: a text.
    #[prost(string, tag = "4")]
    kind: String,
    #[prost(message, optional, tag = "5")]
    refers_to: Option<ReferenceRow>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ReferenceRow {
    #[prost(message, required, tag = "1")]
    key: KeyRow,
    #[prost(uint64, tag = "2")]
    offset: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PositionsRow {
    #[prost(message, repeated, tag = "1")]
    positions: Vec<PositionRow>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PositionRow {
    #[prost(uint64, tag = "1")]
    offset: u64,
    #[prost(string, tag = "2")]
    token: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct UndoneRow {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<KeyRow>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyRow {
    #[prost(string, tag = "1")]
    sender: String,
    #[prost(fixed64, tag = "2")]
    device: u64,
    #[prost(bytes = "vec", tag = "3")]
    message_id: Vec<u8>,
}

/// The key of a chat's rows.
pub(super) fn log_key(log: LogId) -> Vec<u8> {
    log.to_bytes().to_vec()
}

pub(super) fn read_log_key(bytes: &[u8]) -> Result<LogId, Unreadable> {
    Ok(LogId::try_from(bytes)?)
}

pub(super) fn message(log: LogId, message_id: MessageId, message: &Message) -> Vec<u8> {
    let MessageSnapshot { kind, refers_to, .. } = MessageSnapshot::new(log, message_id, message);
    let refers_to = refers_to.map(|Reference { key, offset }| ReferenceRow { key: key_row(&key), offset });
    let message_id = message_id.as_bytes().to_vec();
    MessageRow { log: log_key(log), message_id, body: message.body.clone(), kind, refers_to }.encode_to_vec()
}

pub(super) fn read_message(bytes: &[u8]) -> Result<MessageSnapshot, Unreadable> {
    let row = MessageRow::decode(bytes)?;
    if row.body.len() > limits::BODY_MAX_BYTES {
        return Err(Unreadable::Body(row.body.len()));
    }
    Ok(MessageSnapshot {
        log: read_log_key(&row.log)?,
        message_id: read_message_id(&row.message_id)?,
        body: row.body.to_vec(),
        kind: row.kind,
        refers_to: row.refers_to.map(read_reference).transpose()?,
    })
}

pub(super) fn positions(positions: &[(u64, Position)]) -> Vec<u8> {
    let row = |(offset, position): &(u64, Position)| PositionRow {
        offset: *offset,
        token: position.as_str().to_owned(),
    };
    PositionsRow { positions: positions.iter().map(row).collect() }.encode_to_vec()
}

pub(super) fn read_positions(bytes: &[u8]) -> Result<Vec<(u64, Position)>, Unreadable> {
    let rows = PositionsRow::decode(bytes)?.positions;
    if rows.is_empty() {
        return Err(Unreadable::NoPosition);
    }
    Ok(rows.into_iter().map(|row| (row.offset, Position::from(row.token))).collect())
}

pub(super) fn undone(keys: &[EntryKey]) -> Vec<u8> {
    UndoneRow { entries: keys.iter().map(key_row).collect() }.encode_to_vec()
}

fn key_row(key: &EntryKey) -> KeyRow {
    KeyRow {
        sender: key.sender.to_string(),
        device: key.device.get(),
        message_id: key.message_id.as_bytes().to_vec(),
    }
}

pub(super) fn read_undone(bytes: &[u8]) -> Result<Vec<EntryKey>, Unreadable> {
    UndoneRow::decode(bytes)?.entries.iter().map(read_key).collect()
}

fn read_key(row: &KeyRow) -> Result<EntryKey, Unreadable> {
    Ok(EntryKey {
        sender: UserId::new(&row.sender)?,
        device: DeviceId::new(row.device),
        message_id: read_message_id(&row.message_id)?,
    })
}

fn read_reference(row: ReferenceRow) -> Result<Reference, Unreadable> {
    Ok(Reference { key: read_key(&row.key)?, offset: row.offset })
}

fn read_message_id(bytes: &[u8]) -> Result<MessageId, Unreadable> {
    let bytes: [u8; 16] = bytes.try_into().map_err(|_| Unreadable::MessageId(bytes.len()))?;
    Ok(MessageId::from_bytes(bytes))
}

/// A chat as its rows say.
pub(super) fn log(key: &[u8], positions: &[u8], undone: Option<&[u8]>) -> Result<LogSnapshot, Unreadable> {
    Ok(LogSnapshot {
        log: read_log_key(key)?,
        positions: read_positions(positions)?,
        undone: undone.map(read_undone).transpose()?.unwrap_or_default(),
    })
}
