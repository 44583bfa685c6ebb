//! Entries as bytes, without a copy of their names and ids on the way: every message is encoded by each
//! store that holds it. The bytes are those of the generated code.

use super::fields::{entry, record};
use crate::log;
use bytes::BufMut;
use prost::Message as _;
use prost::encoding::{
    WireType, encode_key, encode_varint, encoded_len_varint, fixed64, key_len, message, uint32, uint64,
};
use types::{Entry, EntryBody, LogId, Record};

/// Encodes a record that is an entry.
pub(super) fn record_of_entry(of: &Record, body: &Entry) -> Vec<u8> {
    let other = match &body.body {
        EntryBody::Message { .. } => None,
        other => Some(log::entry::Body::from(other)),
    };
    let about = body.about.as_deref().map(log::About::from);
    let entry_bytes = entry_len(body, other.as_ref(), about.as_ref());
    let mut into = Vec::with_capacity(record_len(of, entry_bytes));
    number(record::LSN, of.lsn.get(), &mut into);
    number(record::EPOCH, of.epoch.get(), &mut into);
    if of.generation.get() != 0 {
        uint32::encode(record::GENERATION, &of.generation.get(), &mut into);
    }
    blob(record::LOG, &of.log.to_bytes(), &mut into);
    number(record::ACCEPTED_AT_MS, of.accepted_at_ms, &mut into);
    begin(record::ENTRY, entry_bytes, &mut into);
    put_entry(body, other.as_ref(), about.as_ref(), &mut into);
    into
}

fn record_len(of: &Record, entry_bytes: usize) -> usize {
    number_len(record::LSN, of.lsn.get())
        + number_len(record::EPOCH, of.epoch.get())
        + number_len(record::GENERATION, of.generation.get().into())
        + blob_len(record::LOG, LogId::BYTES)
        + number_len(record::ACCEPTED_AT_MS, of.accepted_at_ms)
        + nested_len(record::ENTRY, entry_bytes)
}

fn put_entry(body: &Entry, other: Option<&log::entry::Body>, about: Option<&log::About>, into: &mut Vec<u8>) {
    number(entry::OFFSET, body.offset.get(), into);
    blob(entry::SENDER, body.sender.as_str().as_bytes(), into);
    if body.device.get() != 0 {
        fixed64::encode(entry::DEVICE, &body.device.get(), into);
    }
    blob(entry::MESSAGE_ID, body.message_id.as_bytes(), into);
    if let Some(at_ms) = body.expires_at_ms {
        uint64::encode(entry::EXPIRES_AT_MS, &at_ms, into);
    }
    match (&body.body, other) {
        (EntryBody::Message { ciphertext }, _) => {
            begin(entry::MESSAGE, blob_len(entry::CIPHERTEXT, ciphertext.len()), into);
            blob(entry::CIPHERTEXT, ciphertext, into);
        }
        (_, Some(other)) => other.encode(into),
        (_, None) => {}
    }
    number(entry::SALVAGED, body.salvaged.into(), into);
    if let Some(about) = about {
        message::encode(entry::ABOUT, about, into);
    }
}

fn entry_len(body: &Entry, other: Option<&log::entry::Body>, about: Option<&log::About>) -> usize {
    let device = if body.device.get() == 0 { 0 } else { key_len(entry::DEVICE) + 8 };
    let expires = body.expires_at_ms.map_or(0, |at_ms| uint64::encoded_len(entry::EXPIRES_AT_MS, &at_ms));
    let said = match (&body.body, other) {
        (EntryBody::Message { ciphertext }, _) => {
            nested_len(entry::MESSAGE, blob_len(entry::CIPHERTEXT, ciphertext.len()))
        }
        (_, other) => other.map_or(0, log::entry::Body::encoded_len),
    };
    number_len(entry::OFFSET, body.offset.get())
        + blob_len(entry::SENDER, body.sender.as_str().len())
        + device
        + blob_len(entry::MESSAGE_ID, body.message_id.as_bytes().len())
        + expires
        + said
        + number_len(entry::SALVAGED, body.salvaged.into())
        + about.map_or(0, |about| nested_len(entry::ABOUT, about.encoded_len()))
}

/// A number; its default is left out.
fn number(field: u32, number: u64, into: &mut Vec<u8>) {
    if number != 0 {
        uint64::encode(field, &number, into);
    }
}

fn number_len(field: u32, number: u64) -> usize {
    if number == 0 { 0 } else { uint64::encoded_len(field, &number) }
}

/// Bytes or text; none are left out.
fn blob(field: u32, bytes: &[u8], into: &mut Vec<u8>) {
    if !bytes.is_empty() {
        begin(field, bytes.len(), into);
        into.put_slice(bytes);
    }
}

fn blob_len(field: u32, bytes: usize) -> usize {
    if bytes == 0 { 0 } else { nested_len(field, bytes) }
}

/// What stands before so many bytes of a field.
fn begin(field: u32, bytes: usize, into: &mut Vec<u8>) {
    encode_key(field, WireType::LengthDelimited, into);
    encode_varint(bytes as u64, into);
}

fn nested_len(field: u32, bytes: usize) -> usize {
    key_len(field) + encoded_len_varint(bytes as u64) + bytes
}
