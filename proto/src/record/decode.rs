//! Messages from bytes, without the generated types between: every page, copy and replay decodes them.
//!
//! Only what [`super::encode`] makes of a text that refers to nothing is read here: known fields in ascending order,
//! in their bounds. For all else the answer is `None`, and the generated code decodes it or says what is wrong.

use super::fields::{entry, record};
use bytes::Bytes;
use prost::encoding::{WireType, decode_varint};
use types::{
    Body, DeviceId, Entry, EntryBody, Epoch, Generation, LogId, Lsn, MessageId, Offset, Record, UserId,
    limits,
};

/// Decodes a record that is a message; its body shares the memory of `bytes`.
pub(super) fn message(bytes: &Bytes) -> Option<Record> {
    let mut fields = Fields::of(bytes);
    let decoded = Record {
        lsn: Lsn::new(fields.number(record::LSN)?),
        epoch: Epoch::new(fields.number(record::EPOCH)?),
        generation: Generation::new(fields.number(record::GENERATION)?.try_into().ok()?),
        log: LogId::try_from(fields.blob(record::LOG)?).ok()?,
        accepted_at_ms: fields.number(record::ACCEPTED_AT_MS)?,
        body: Body::Entry(message_entry(bytes, Fields::of(fields.blob(record::ENTRY)?))?),
    };
    fields.rest.is_empty().then_some(decoded)
}

fn message_entry(bytes: &Bytes, mut fields: Fields<'_>) -> Option<Entry> {
    let offset = Offset::new(fields.number(entry::OFFSET)?);
    let sender = UserId::new(std::str::from_utf8(fields.blob(entry::SENDER)?).ok()?).ok()?;
    let device = DeviceId::new(fields.fixed64(entry::DEVICE)?);
    let message_id = MessageId::try_from(fields.blob(entry::MESSAGE_ID)?).ok()?;
    let expires_at_ms = fields.optional_number(entry::EXPIRES_AT_MS)?;
    let mut said = Fields::of(fields.required_blob(entry::MESSAGE)?);
    let ciphertext = said.blob(entry::CIPHERTEXT)?;
    let salvaged = fields.number(entry::SALVAGED)? != 0;
    if !fields.rest.is_empty() || !said.rest.is_empty() || ciphertext.len() > limits::BODY_MAX_BYTES {
        return None;
    }
    let body = EntryBody::Message { ciphertext: bytes.slice_ref(ciphertext) };
    Some(Entry { offset, sender, device, message_id, expires_at_ms, salvaged, about: None, body })
}

/// Fields in ascending order, as far as they are not yet read.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn of(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    /// Whether this field comes next; if so, what follows its key is next. All fields have numbers below 16,
    /// and so keys of one byte.
    fn begins(&mut self, field: u32, wire_type: WireType) -> Option<bool> {
        let Some((key, behind)) = self.rest.split_first() else { return Some(false) };
        let key = u32::from(*key);
        if key == field << 3 | wire_type as u32 {
            self.rest = behind;
            return Some(true);
        }
        (key >> 3 > field).then_some(false)
    }

    fn varint(&mut self) -> Option<u64> {
        match self.rest.split_first() {
            Some((byte, behind)) if *byte < 0x80 => {
                self.rest = behind;
                Some(u64::from(*byte))
            }
            _ => decode_varint(&mut self.rest).ok(),
        }
    }

    fn optional_number(&mut self, field: u32) -> Option<Option<u64>> {
        if self.begins(field, WireType::Varint)? { self.varint().map(Some) } else { Some(None) }
    }

    /// A number; 0 where it was left out.
    fn number(&mut self, field: u32) -> Option<u64> {
        self.optional_number(field).map(Option::unwrap_or_default)
    }

    fn fixed64(&mut self, field: u32) -> Option<u64> {
        if !self.begins(field, WireType::SixtyFourBit)? {
            return Some(0);
        }
        let (number, behind) = self.rest.split_first_chunk()?;
        self.rest = behind;
        Some(u64::from_le_bytes(*number))
    }

    /// Bytes, text or a message; none where they were left out.
    fn blob(&mut self, field: u32) -> Option<&'a [u8]> {
        if self.begins(field, WireType::LengthDelimited)? { self.length_delimited() } else { Some(&[]) }
    }

    fn required_blob(&mut self, field: u32) -> Option<&'a [u8]> {
        if self.begins(field, WireType::LengthDelimited)? { self.length_delimited() } else { None }
    }

    fn length_delimited(&mut self) -> Option<&'a [u8]> {
        let bytes = self.varint()?;
        let (blob, behind) = self.rest.split_at_checked(usize::try_from(bytes).ok()?)?;
        self.rest = behind;
        Some(blob)
    }
}
