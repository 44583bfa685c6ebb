//! One frame of a segment.
//!
//! ```text
//!  0        4        8        12       16                24 25 26   28         32
//!  ├────────┼────────┼────────┼────────┼─────────────────┼──┼──┼────┼──────────┼── … ──┤ 0-7 zeros
//!  │ crc32c │ length │ segment│ origin │      group      │k │f │"HL"│ partition│payload│
//! ```
//!
//! All numbers are little-endian. The checksum covers everything behind it, payload included. `origin`
//! is the place in the segment at which the frame was *first* written: rewriting a segment moves frames
//! and keeps their origin, so whatever points at a frame by (segment, origin) stays valid. Groups are
//! numbered without a gap over the whole store; flag 1 marks the last frame of one. A frame begins at a
//! multiple of 8.

use types::PartitionId;

/// The bytes before the payload.
pub(crate) const HEADER_BYTES: usize = 32;
const ALIGN: usize = 8;
const MAGIC: [u8; 2] = *b"HL";
const LAST_OF_GROUP: u8 = 1;
/// The largest payload that a reader believes in: a full body and its envelope, with room to spare.
const PAYLOAD_MAX_BYTES: usize = 4 * 1024 * 1024;

/// What a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Record = 1,
    Fence = 2,
    Archive = 3,
    Discard = 4,
    Truncate = 5,
    /// Says nothing: a canary, or the end of a store that was closed in order.
    Canary = 6,
    /// A step of an archive's salvage.
    Settle = 7,
}

impl Kind {
    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Record,
            2 => Self::Fence,
            3 => Self::Archive,
            4 => Self::Discard,
            5 => Self::Truncate,
            6 => Self::Canary,
            7 => Self::Settle,
            _ => return None,
        })
    }
}

/// Where a frame was first written; the name by which everything points at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Location {
    pub(crate) segment: u32,
    pub(crate) origin: u32,
}

/// What stands before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) location: Location,
    pub(crate) group: u64,
    pub(crate) kind: Kind,
    pub(crate) ends_group: bool,
    pub(crate) partition: PartitionId,
    pub(crate) payload_bytes: usize,
}

impl Header {
    /// The bytes from this frame's begin to the next one's.
    pub(crate) const fn stride(&self) -> usize {
        stride(self.payload_bytes)
    }
}

/// The bytes from a frame's begin to the next one's.
pub(crate) const fn stride(payload_bytes: usize) -> usize {
    (HEADER_BYTES + payload_bytes).next_multiple_of(ALIGN)
}

/// Appends a frame; `payload` may not be longer than [`PAYLOAD_MAX_BYTES`].
pub(crate) fn put(into: &mut Vec<u8>, header: &Header, payload: &[u8]) {
    debug_assert!(payload.len() <= PAYLOAD_MAX_BYTES && header.payload_bytes == payload.len());
    let begin = into.len();
    into.extend_from_slice(&[0; 4]);
    into.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    into.extend_from_slice(&header.location.segment.to_le_bytes());
    into.extend_from_slice(&header.location.origin.to_le_bytes());
    into.extend_from_slice(&header.group.to_le_bytes());
    into.push(header.kind as u8);
    into.push(if header.ends_group { LAST_OF_GROUP } else { 0 });
    into.extend_from_slice(&MAGIC);
    into.extend_from_slice(&header.partition.get().to_le_bytes());
    into.extend_from_slice(payload);
    seal(&mut into[begin..]);
    into.resize(begin + stride(payload.len()), 0);
}

/// Marks the frame at `begin` as the last of its group.
pub(crate) fn end_group(bytes: &mut [u8], begin: usize) {
    let payload = u32_at(bytes, begin + 4) as usize;
    let frame = &mut bytes[begin..begin + HEADER_BYTES + payload];
    frame[25] |= LAST_OF_GROUP;
    seal(frame);
}

fn seal(frame: &mut [u8]) {
    let crc = crc32c::crc32c(&frame[4..]);
    frame[..4].copy_from_slice(&crc.to_le_bytes());
}

/// What is wrong with bytes that should be a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The bytes end before the frame does; that many are needed.
    Short(usize),
    /// Zeros: nothing was written here.
    Empty,
    /// Not a frame, or not what was written.
    Bad(&'static str),
}

/// Reads the header without believing it: the checksum is not looked at.
pub(crate) fn peek(bytes: &[u8]) -> Result<Header, Fault> {
    if bytes.len() < HEADER_BYTES {
        return Err(Fault::Short(HEADER_BYTES));
    }
    if bytes[..HEADER_BYTES].iter().all(|byte| *byte == 0) {
        return Err(Fault::Empty);
    }
    if bytes[26..28] != MAGIC {
        return Err(Fault::Bad("no frame begins here"));
    }
    let payload_bytes = u32_at(bytes, 4) as usize;
    if payload_bytes > PAYLOAD_MAX_BYTES {
        return Err(Fault::Bad("the frame's length is impossible"));
    }
    let kind = Kind::from_byte(bytes[24]).ok_or(Fault::Bad("the frame's kind is unknown"))?;
    let mut group = [0; 8];
    group.copy_from_slice(&bytes[16..24]);
    Ok(Header {
        location: Location { segment: u32_at(bytes, 8), origin: u32_at(bytes, 12) },
        group: u64::from_le_bytes(group),
        kind,
        ends_group: bytes[25] & LAST_OF_GROUP != 0,
        partition: PartitionId::new(u32_at(bytes, 28)),
        payload_bytes,
    })
}

/// Reads a frame and checks it; the payload is `bytes[HEADER_BYTES..][..payload_bytes]`.
pub(crate) fn check(bytes: &[u8]) -> Result<Header, Fault> {
    let header = peek(bytes)?;
    let end = HEADER_BYTES + header.payload_bytes;
    if bytes.len() < end {
        return Err(Fault::Short(end));
    }
    if crc32c::crc32c(&bytes[4..end]) != u32_at(bytes, 0) {
        return Err(Fault::Bad("the checksum does not match"));
    }
    Ok(header)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let header = Header {
            location: Location { segment: 3, origin: 64 },
            group: 9,
            kind: Kind::Record,
            ends_group: false,
            partition: PartitionId::new(5),
            payload_bytes: payload.len(),
        };
        let mut bytes = Vec::new();
        put(&mut bytes, &header, payload);
        bytes
    }

    #[test]
    fn a_frame_survives_its_bytes_and_ends_aligned() {
        let mut bytes = frame(b"payload");
        assert_eq!(bytes.len() % ALIGN, 0);
        end_group(&mut bytes, 0);
        let header = check(&bytes).expect("it is whole");
        assert!(header.ends_group);
        assert_eq!((header.location.origin, header.group, header.payload_bytes), (64, 9, 7));
    }

    #[test]
    fn each_flipped_bit_is_noticed() {
        let bytes = frame(b"payload");
        for bit in 0..(HEADER_BYTES + 7) * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&flipped).is_err(), "bit {bit}");
        }
    }
}
