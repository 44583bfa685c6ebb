//! WebSocket framing (RFC 6455) of whole messages, with no I/O: what a client writes and reads.

use std::ops::Range;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opcode {
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    const fn code(self) -> u8 {
        match self {
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    const fn of(code: u8) -> Option<Self> {
        match code {
            2 => Some(Self::Binary),
            8 => Some(Self::Close),
            9 => Some(Self::Ping),
            10 => Some(Self::Pong),
            _ => None,
        }
    }
}

/// What no server of ours sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a fragmented message")]
    Fragmented,
    #[error("a masked frame")]
    Masked,
    #[error("a frame with opcode {0}")]
    Opcode(u8),
    #[error("a frame of {0} bytes")]
    TooLong(u64),
}

/// A frame at the front of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) opcode: Opcode,
    pub(super) payload: Range<usize>,
}

/// Longer than anything that a server may send.
const PAYLOAD_MAX_BYTES: u64 = types::limits::WIRE_MESSAGE_MAX_BYTES as u64;
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;

/// The first frame of `bytes`; `None`: it is not complete.
pub(super) fn first_frame(bytes: &[u8]) -> Result<Option<Found>, FrameError> {
    let &[first, second, ..] = bytes else { return Ok(None) };
    if first & FINAL == 0 || first & 0x0f == 0 {
        return Err(FrameError::Fragmented);
    }
    let opcode = Opcode::of(first & 0x0f).ok_or(FrameError::Opcode(first & 0x0f))?;
    if second & MASKED != 0 {
        return Err(FrameError::Masked);
    }
    let extended = |width: usize| bytes.get(2..2 + width);
    let (length, at) = match second {
        126 => match extended(2) {
            Some(length) => (length.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)), 4),
            None => return Ok(None),
        },
        127 => match extended(8) {
            Some(length) => (length.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)), 10),
            None => return Ok(None),
        },
        short => (u64::from(short), 2),
    };
    if length > PAYLOAD_MAX_BYTES {
        return Err(FrameError::TooLong(length));
    }
    let end = at + length as usize;
    Ok((end <= bytes.len()).then_some(Found { opcode, payload: at..end }))
}

/// Appends one frame of `length` bytes, which `payload` appends; they are masked where they lie.
pub(super) fn put_frame(
    out: &mut Vec<u8>,
    opcode: Opcode,
    mask: [u8; 4],
    length: usize,
    payload: impl FnOnce(&mut Vec<u8>),
) {
    out.push(FINAL | opcode.code());
    match length {
        0..126 => out.push(MASKED | length as u8),
        126..=0xffff => {
            out.push(MASKED | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(MASKED | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    let begin = out.len();
    payload(out);
    debug_assert_eq!(out.len() - begin, length, "the payload is as long as was said");
    apply_mask(&mut out[begin..], mask);
}

fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let twice = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ twice).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_tungstenite::tungstenite::{
        Message,
        protocol::{Role, WebSocket},
    };

    fn of(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 7) as u8).collect()
    }

    #[test]
    fn a_server_of_the_standard_reads_what_is_put() {
        for length in [0, 1, 7, 125, 126, 500, 65_535, 65_536, 70_001] {
            let mut out = Vec::new();
            put_frame(&mut out, Opcode::Binary, [1, 2, 3, 250], length, |out| out.extend(of(length)));
            let mut server = WebSocket::from_raw_socket(std::io::Cursor::new(out), Role::Server, None);
            let message = server.read().expect("a message");
            assert_eq!(message, Message::binary(of(length)), "{length} bytes");
        }
    }

    #[test]
    fn what_a_server_of_the_standard_writes_is_found_once_it_is_whole() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let mut server = WebSocket::from_raw_socket(std::io::Cursor::new(Vec::new()), Role::Server, None);
            server.send(Message::binary(of(length))).expect("it is written");
            let bytes = server.get_ref().get_ref();
            assert_eq!(first_frame(&bytes[..bytes.len() - 1]), Ok(None));
            let found = first_frame(bytes).expect("well-formed").expect("whole");
            assert_eq!((found.opcode, &bytes[found.payload]), (Opcode::Binary, &of(length)[..]));
        }
    }

    #[test]
    fn what_no_server_sends_is_refused() {
        assert_eq!(first_frame(&[0x02, 0x00]), Err(FrameError::Fragmented));
        assert_eq!(first_frame(&[0x82, 0x81, 0, 0, 0, 0, 0]), Err(FrameError::Masked));
        assert_eq!(first_frame(&[0x83, 0x00]), Err(FrameError::Opcode(3)));
        let long = [0x82, 127, 1, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(first_frame(&long), Err(FrameError::TooLong(1 << 56)));
    }
}
