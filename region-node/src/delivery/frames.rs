//! Entries as the frames that sessions share.

use crate::edge::frame::SharedFrame;
use proto::client::{self, server_frame::Frame};
use types::{EntryBody, LogId, Position, PositionToken, Record};

/// Entries that go into one frame, in bytes; a frame is closed by the entry that passes this.
const FRAME_ENTRIES_BYTES: usize = 16 * 1024;
/// What an entry takes beside its body, at most, in any encoding.
const ENTRY_BYTES: usize = 512;

/// A frame, and the last entry in it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) frame: SharedFrame,
    pub(super) reaches: Position,
}

/// Entries of one log that follow each other, as frames of bounded size.
pub(super) fn frames<'a>(log: LogId, records: impl Iterator<Item = &'a Record>) -> Vec<Shared> {
    let mut frames = Vec::new();
    let mut entries = Vec::new();
    let mut bytes = 0;
    let mut reaches = Position::START;
    for record in records {
        let (Some(entry), Some(position)) = (proto::client_entry(record), record.position()) else {
            continue;
        };
        if bytes >= FRAME_ENTRIES_BYTES {
            frames.push(shared(log, std::mem::take(&mut entries), reaches));
            bytes = 0;
        }
        bytes += bytes_of(record);
        entries.push(entry);
        reaches = position;
    }
    if !entries.is_empty() {
        frames.push(shared(log, entries, reaches));
    }
    frames
}

fn shared(log: LogId, entries: Vec<client::Entry>, reaches: Position) -> Shared {
    let entries = client::Entries { log: log.to_string(), entries };
    Shared { frame: SharedFrame::new(Frame::Entries(entries)), reaches }
}

/// What a record's entry takes in a frame, about.
pub(super) fn bytes_of(record: &Record) -> usize {
    match record.entry().map(|entry| &entry.body) {
        Some(EntryBody::Message { ciphertext }) => ENTRY_BYTES + ciphertext.len(),
        Some(EntryBody::Chat(change)) => ENTRY_BYTES + proto::encode_chat_change(change).len(),
        _ => ENTRY_BYTES,
    }
}

pub(crate) fn token(log: LogId, position: Position) -> String {
    if position == Position::START { String::new() } else { PositionToken::seal(log, position).into() }
}
