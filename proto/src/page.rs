//! Pages of history as JSON, written from the records as they were read: what the generated code would make
//! of a [`client::HistoryPage`], without one.

mod base64;

use crate::{client, client_entry};
use std::io::Write as _;
use types::{Body, Entry, EntryBody, LogId, PositionToken, Record};
use uuid::Uuid;

/// What an entry takes beside its body, at most as a rule.
const ENTRY_BYTES: usize = 256;

/// A page of a log's history, its records in offset order, as the message that clients are answered with.
pub fn history_page(log: LogId, records: &[Record], at_end: bool) -> client::HistoryPage {
    let entries = records.iter().filter_map(client_entry).collect();
    client::HistoryPage { log: log.to_string(), entries, at_end }
}

/// The same page as JSON.
///
/// # Errors
/// What the JSON encoder refuses, which is nothing that an entry can hold.
pub fn history_page_json(log: LogId, records: &[Record], at_end: bool) -> serde_json::Result<Vec<u8>> {
    let mut into = Vec::with_capacity(records.iter().map(json_bytes).sum::<usize>() + ENTRY_BYTES);
    into.extend_from_slice(b"{\"log\":\"");
    push(&mut into, log);
    into.push(b'"');
    let mut before = ",\"entries\":[";
    for record in records {
        let Some(entry) = record.entry() else { continue };
        into.extend_from_slice(before.as_bytes());
        before = ",";
        match &entry.body {
            EntryBody::Message { ciphertext } if entry.about.is_none() => {
                message(&mut into, record, entry, ciphertext);
            }
            _ => serde_json::to_writer(&mut into, &client_entry(record))?,
        }
    }
    if before == "," {
        into.push(b']');
    }
    into.extend_from_slice(if at_end { b",\"atEnd\":true}" } else { b"}" });
    Ok(into)
}

fn json_bytes(record: &Record) -> usize {
    match &record.body {
        Body::Entry(Entry { body: EntryBody::Message { ciphertext }, .. }) => {
            ENTRY_BYTES + ciphertext.len().div_ceil(3) * 4
        }
        _ => 2 * ENTRY_BYTES,
    }
}

/// No name, id or token holds a character that JSON would escape.
fn message(into: &mut Vec<u8>, record: &Record, entry: &Entry, ciphertext: &[u8]) {
    let position = record.position().unwrap_or_default();
    into.extend_from_slice(b"{\"position\":\"");
    into.extend_from_slice(PositionToken::seal(record.log, position).as_str().as_bytes());
    into.extend_from_slice(b"\",\"offset\":\"");
    push(into, entry.offset.get());
    into.extend_from_slice(b"\",\"sender\":\"");
    into.extend_from_slice(entry.sender.as_str().as_bytes());
    if entry.device.get() != 0 {
        into.extend_from_slice(b"\",\"device\":\"");
        push(into, entry.device.get());
    }
    into.extend_from_slice(b"\",\"messageId\":\"");
    let mut id = Uuid::encode_buffer();
    let id = Uuid::from_bytes_ref(entry.message_id.as_bytes()).hyphenated().encode_lower(&mut id);
    into.extend_from_slice(id.as_bytes());
    if record.accepted_at_ms != 0 {
        into.extend_from_slice(b"\",\"acceptedAtMs\":\"");
        push(into, record.accepted_at_ms);
    }
    if let Some(at_ms) = entry.expires_at_ms {
        into.extend_from_slice(b"\",\"expiresAtMs\":\"");
        push(into, at_ms);
    }
    let before =
        if entry.salvaged { "\",\"salvaged\":true,\"ciphertext\":\"" } else { "\",\"ciphertext\":\"" };
    into.extend_from_slice(before.as_bytes());
    base64::append(ciphertext, into);
    into.extend_from_slice(b"\"}");
}

fn push(into: &mut Vec<u8>, what: impl std::fmt::Display) {
    write!(into, "{what}").expect("memory takes all that is written");
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use types::chat::{About, MessageKind};
    use types::{
        AckPolicy, BodyHash, DeviceId, Epoch, Generation, Lsn, MemberRole, MessageId, Offset, UserId,
    };

    fn record(offset: u64, device: u64, expires_at_ms: Option<u64>, body: EntryBody) -> Record {
        let kind = MessageKind::Media;
        Record {
            lsn: Lsn::new(offset),
            epoch: Epoch::new(3),
            generation: Generation::FIRST,
            log: LogId::group([3; 16]),
            accepted_at_ms: offset * 7 - 7,
            body: Body::Entry(Entry {
                offset: Offset::new(offset),
                sender: UserId::new("al.i_c-e").expect("a valid name"),
                device: DeviceId::new(device),
                message_id: MessageId::from_bytes([5; 16]),
                expires_at_ms,
                salvaged: offset.is_multiple_of(2),
                about: offset.is_multiple_of(7).then(|| Box::new(About { kind, refers_to: None })),
                body,
            }),
        }
    }

    #[test]
    fn a_page_is_written_as_the_generated_code_would() {
        let message = |bytes: &'static [u8]| EntryBody::Message { ciphertext: Bytes::from_static(bytes) };
        let members = vec![(UserId::new("bob").expect("a valid name"), MemberRole::Owner)];
        let created =
            EntryBody::Created { members, ack_policy: AckPolicy::Home, allowed_regions: Vec::new() };
        let records = [
            record(1, 1, None, created),
            record(2, u64::MAX, None, message(b"sealed")),
            record(3, 0, Some(0), message(b"")),
            record(4, 9, Some(1_800_000_000_000), message(&[0xFF; 100])),
            record(5, 1, None, EntryBody::Deleted { offsets: vec![Offset::new(1)] }),
            record(6, 1, None, EntryBody::Erased { hash: BodyHash([1; 16]) }),
            record(7, 1, None, message(b"seen")),
        ];
        for (records, at_end) in [(&records[..], true), (&records[1..], false), (&[], true)] {
            let log = LogId::group([3; 16]);
            let generated = serde_json::to_string(&history_page(log, records, at_end));
            let written = history_page_json(log, records, at_end).expect("it is encoded");
            assert_eq!(String::from_utf8(written), Ok(generated.expect("it is encoded")));
        }
    }
}
