//! The few protobuf fields that a load generator writes and reads, at a fraction of a full codec's cost.
//!
//! A `Send` is written field by field straight into the connection's buffer. Of what comes back, only what
//! the books need is looked at: which request an ack answers, and the bodies of entries, in place. Both are
//! tested against the full codec.

use uuid::Uuid;

// Field numbers of proto/proto/hearth/client/v1/client.proto.
const FRAME_REQUEST_ID: u32 = 1;
const CLIENT_SEND: u32 = 6;
const SEND_LOG: u32 = 1;
const SEND_MESSAGE_ID: u32 = 2;
const SEND_CIPHERTEXT: u32 = 3;
const SEND_ACK: u32 = 4;
const SERVER_SENT: u32 = 5;
const SERVER_ENTRIES: u32 = 7;
const SERVER_DIVERGED: u32 = 9;
const SERVER_BEHIND: u32 = 10;
const SERVER_GO_AWAY: u32 = 12;
const SERVER_ERROR: u32 = 13;
const ENTRIES_ENTRY: u32 = 2;
const ENTRY_CIPHERTEXT: u32 = 9;

/// A message to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SendFrame<'a> {
    pub(crate) request_id: u64,
    pub(crate) log: &'a str,
    pub(crate) message_id: Uuid,
    pub(crate) body_bytes: usize,
    /// `AckPolicy` as a number.
    pub(crate) ack: i32,
}

impl SendFrame<'_> {
    /// Bytes of the whole `ClientFrame`.
    pub(super) fn encoded_bytes(&self) -> usize {
        let send = self.send_bytes();
        2 + varint_bytes(self.request_id) - 1 + field_bytes(send)
    }

    fn send_bytes(&self) -> usize {
        let id = uuid::fmt::Hyphenated::LENGTH;
        field_bytes(self.log.len()) + field_bytes(id) + field_bytes(self.body_bytes) + 2
    }

    /// Appends the `ClientFrame`; `body` appends the message's body.
    pub(super) fn put(&self, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
        put_varint(out, u64::from(FRAME_REQUEST_ID << 3));
        put_varint(out, self.request_id);
        put_length(out, CLIENT_SEND, self.send_bytes());
        put_length(out, SEND_LOG, self.log.len());
        out.extend_from_slice(self.log.as_bytes());
        put_length(out, SEND_MESSAGE_ID, uuid::fmt::Hyphenated::LENGTH);
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        out.extend_from_slice(self.message_id.hyphenated().encode_lower(&mut text).as_bytes());
        put_length(out, SEND_CIPHERTEXT, self.body_bytes);
        body(out);
        out.extend_from_slice(&[(SEND_ACK << 3) as u8, self.ack as u8]);
    }
}

const fn varint_bytes(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// A field of so many bytes: its tag, its length, itself. All tags used here are one byte.
const fn field_bytes(length: usize) -> usize {
    1 + varint_bytes(length as u64) + length
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_length(out: &mut Vec<u8>, field: u32, length: usize) {
    put_varint(out, u64::from(field << 3 | 2));
    put_varint(out, length as u64);
}

/// What a server frame says, as far as a load generator cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said<'a> {
    /// A message was acked.
    Sent,
    /// Entries of a followed chat.
    Entries(Entries<'a>),
    /// Something was refused: an encoded `Error`.
    Refused(&'a [u8]),
    /// The session did not keep up.
    Behind,
    /// A failover undid something.
    Diverged,
    /// The server goes down.
    GoAway,
    /// Anything else.
    Other,
}

/// An encoded `Entries`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entries<'a>(&'a [u8]);

/// Bytes that are no frame of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server sent no frame of the protocol")]
pub(crate) struct Malformed;

/// Which request a `ServerFrame` answers, and what it says.
pub(crate) fn peek(frame: &[u8]) -> Result<(u64, Said<'_>), Malformed> {
    let (mut request_id, mut said) = (0, Said::Other);
    let mut fields = Fields(frame);
    while let Some(field) = fields.next()? {
        match field {
            Field::Varint(FRAME_REQUEST_ID, value) => request_id = value,
            Field::Bytes(SERVER_SENT, _) => said = Said::Sent,
            Field::Bytes(SERVER_ENTRIES, bytes) => said = Said::Entries(Entries(bytes)),
            Field::Bytes(SERVER_ERROR, bytes) => said = Said::Refused(bytes),
            Field::Bytes(SERVER_BEHIND, _) => said = Said::Behind,
            Field::Bytes(SERVER_DIVERGED, _) => said = Said::Diverged,
            Field::Bytes(SERVER_GO_AWAY, _) => said = Said::GoAway,
            _ => {}
        }
    }
    Ok((request_id, said))
}

impl<'a> Entries<'a> {
    /// Hands over the body of each message among the entries, in order.
    pub(crate) fn each_body<E: From<Malformed>>(
        self,
        mut take: impl FnMut(&'a [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut entries = Fields(self.0);
        while let Some(field) = entries.next()? {
            let Field::Bytes(ENTRIES_ENTRY, entry) = field else { continue };
            let mut parts = Fields(entry);
            while let Some(part) = parts.next()? {
                if let Field::Bytes(ENTRY_CIPHERTEXT, body) = part {
                    take(body)?;
                }
            }
        }
        Ok(())
    }
}

/// The fields of an encoded message.
struct Fields<'a>(&'a [u8]);

enum Field<'a> {
    Varint(u32, u64),
    Bytes(u32, &'a [u8]),
    Fixed,
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<Field<'a>>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| Malformed)?;
        Ok(Some(match tag & 7 {
            0 => Field::Varint(number, self.varint()?),
            1 => self.take(8).map(|_| Field::Fixed)?,
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Field::Bytes(number, self.take(length)?)
            }
            5 => self.take(4).map(|_| Field::Fixed)?,
            _ => return Err(Malformed),
        }))
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(Malformed)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use proto::client::{self, ClientFrame, Entry, ServerFrame, client_frame, entry, server_frame};

    #[test]
    fn a_send_is_what_the_full_codec_reads() {
        for (request_id, body_bytes) in [(1, 0), (127, 16), (128, 400), (u64::MAX - 1, 70_000)] {
            let body: Vec<u8> = (0..body_bytes).map(|at| at as u8).collect();
            let (log, message_id) = ("d2abcdefghijklmnopqrstuvwxyz", Uuid::from_u128(7 << 100 | 5));
            let frame = SendFrame { request_id, log, message_id, body_bytes, ack: 2 };
            let mut out = Vec::new();
            frame.put(&mut out, |out| out.extend_from_slice(&body));
            assert_eq!(out.len(), frame.encoded_bytes());
            let send = client::Send {
                log: log.to_owned(),
                message_id: message_id.to_string(),
                ciphertext: body.into(),
                ack: client::AckPolicy::Replicated.into(),
                ..client::Send::default()
            };
            let expected = ClientFrame { request_id, frame: Some(client_frame::Frame::Send(send)) };
            assert_eq!(ClientFrame::decode(&out[..]), Ok(expected));
        }
    }

    fn encoded(request_id: u64, frame: server_frame::Frame) -> Vec<u8> {
        ServerFrame { request_id, frame: Some(frame) }.encode_to_vec()
    }

    #[test]
    fn what_the_full_codec_writes_is_told_apart() {
        let sent = client::Sent { offset: 9, position: "p".to_owned(), ..client::Sent::default() };
        assert_eq!(peek(&encoded(300, server_frame::Frame::Sent(sent))), Ok((300, Said::Sent)));
        let error = client::Error { code: "overloaded".to_owned(), ..client::Error::default() };
        let bytes = encoded(7, server_frame::Frame::Error(error.clone()));
        let Ok((7, Said::Refused(bytes))) = peek(&bytes) else { panic!("no refusal") };
        assert_eq!(client::Error::decode(bytes), Ok(error));
        let unasked = [
            (server_frame::Frame::Behind(client::Behind::default()), Said::Behind),
            (server_frame::Frame::Diverged(client::Diverged::default()), Said::Diverged),
            (server_frame::Frame::GoAway(client::GoAway::default()), Said::GoAway),
            (server_frame::Frame::Pong(client::Pong { nonce: 1 }), Said::Other),
            (server_frame::Frame::Replicated(client::Replicated::default()), Said::Other),
        ];
        for (frame, said) in unasked {
            assert_eq!(peek(&encoded(0, frame)), Ok((0, said)));
        }
    }

    #[test]
    fn the_bodies_of_messages_are_found_and_nothing_else() {
        let entry = |body| Entry { device: 5, offset: 3, expires_at_ms: Some(4), body, ..Entry::default() };
        let message = |body: &[u8]| entry(Some(entry::Body::Ciphertext(body.to_vec().into())));
        let created = entry(Some(entry::Body::Created(client::Created::default())));
        let entries = vec![created, message(b"one"), message(b""), entry(None), message(&[7; 500])];
        let entries = client::Entries { log: "log".to_owned(), entries };
        let bytes = encoded(0, server_frame::Frame::Entries(entries));
        let Ok((0, Said::Entries(entries))) = peek(&bytes) else { panic!("no entries") };
        let mut bodies = Vec::new();
        let taken: Result<(), Malformed> = entries.each_body(|body| {
            bodies.push(body.to_vec());
            Ok(())
        });
        assert_eq!((taken, bodies), (Ok(()), vec![b"one".to_vec(), vec![], vec![7; 500]]));
    }

    #[test]
    fn cut_bytes_are_no_frame() {
        let sent = client::Sent { log: "log".to_owned(), ..client::Sent::default() };
        let bytes = encoded(1, server_frame::Frame::Sent(sent));
        assert_eq!(peek(&bytes[..bytes.len() - 1]), Err(Malformed));
        assert_eq!(peek(&[0xff; 12]), Err(Malformed));
    }
}
