//! The opaque form of a position at an API.
//!
//! A token carries the entry's own (generation, epoch, offset) and a check over them and the log, so
//! that a token of another chat, a mistyped one or a made-up one is told apart from one that a failover
//! has undone. It is no capability: who may read a log is decided by membership alone.

use crate::{Epoch, Generation, LogId, Offset, Position};
use data_encoding::BASE64URL_NOPAD;
use std::fmt;

const VERSION: u8 = 1;
const BYTES: usize = 1 + 4 + 8 + 8 + 4 + 4;

/// Why a text is no position token of this log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It was not made by Hearth, or was changed on its way.
    #[error("position token {token:?} is malformed: {why}")]
    Malformed {
        /// The text, cut to 80 characters.
        token: String,
        /// What is wrong.
        why: &'static str,
    },
    /// It belongs to another log.
    #[error("position token {token:?} belongs to another chat than {log}")]
    OtherLog {
        /// The text.
        token: String,
        /// The log that was asked for.
        log: LogId,
    },
}

/// A position as clients hold it: about 40 characters of base64url, to be stored and sent back unread.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PositionToken(String);

impl PositionToken {
    /// The longest text that is looked at.
    pub const MAX_BYTES: usize = 64;

    /// The token of a position in `log`.
    pub fn seal(log: LogId, position: Position) -> Self {
        let mut bytes = [0; BYTES];
        bytes[0] = VERSION;
        bytes[1..5].copy_from_slice(&position.generation.get().to_be_bytes());
        bytes[5..13].copy_from_slice(&position.epoch.get().to_be_bytes());
        bytes[13..21].copy_from_slice(&position.offset.get().to_be_bytes());
        bytes[21..25].copy_from_slice(&log_check(log).to_be_bytes());
        let check = crc32c::crc32c(&bytes[..25]);
        bytes[25..].copy_from_slice(&check.to_be_bytes());
        Self(BASE64URL_NOPAD.encode(&bytes))
    }

    /// The position in `log` that a text stands for; the empty text is the start.
    ///
    /// # Errors
    /// [`TokenError`] tells a made-up token from one of another log.
    pub fn open(log: LogId, text: &str) -> Result<Position, TokenError> {
        let malformed = |why| TokenError::Malformed { token: text.chars().take(80).collect(), why };
        if text.is_empty() {
            return Ok(Position::START);
        }
        if text.len() > Self::MAX_BYTES {
            return Err(malformed("it is too long"));
        }
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| malformed("it is no base64url"))?;
        let bytes: [u8; BYTES] = bytes.try_into().map_err(|_| malformed("its length is wrong"))?;
        if bytes[0] != VERSION {
            return Err(malformed("its version is unknown"));
        }
        if crc32c::crc32c(&bytes[..25]) != number(&bytes[25..]) as u32 {
            return Err(malformed("its check does not match"));
        }
        if log_check(log) != number(&bytes[21..25]) as u32 {
            return Err(TokenError::OtherLog { token: text.to_owned(), log });
        }
        Ok(Position {
            generation: Generation::new(number(&bytes[1..5]) as u32),
            epoch: Epoch::new(number(&bytes[5..13])),
            offset: Offset::new(number(&bytes[13..21])),
        })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn log_check(log: LogId) -> u32 {
    crc32c::crc32c(&log.to_bytes())
}

fn number(big_endian: &[u8]) -> u64 {
    big_endian.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

impl fmt::Display for PositionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<PositionToken> for String {
    fn from(token: PositionToken) -> String {
        token.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LOG: LogId = LogId::group([1; 16]);

    proptest! {
        #[test]
        fn a_token_opens_to_the_position_it_was_sealed_from(g: u32, e: u64, o: u64) {
            let position = Position::new(Generation::new(g), Epoch::new(e), Offset::new(o));
            let token = PositionToken::seal(LOG, position);
            prop_assert_eq!(PositionToken::open(LOG, token.as_str()), Ok(position));
            let other = PositionToken::open(LogId::group([2; 16]), token.as_str());
            let refused = matches!(other, Err(TokenError::OtherLog { .. }));
            prop_assert!(refused);
        }

        #[test]
        fn a_changed_token_never_opens(o: u64, at in 0usize..38, with in "[A-Za-z0-9_-]") {
            let token = PositionToken::seal(LOG, Position::new(Generation::FIRST, Epoch::FIRST, Offset::new(o)));
            let mut text = token.as_str().to_owned();
            prop_assume!(text[at..=at] != with);
            text.replace_range(at..=at, &with);
            prop_assert!(PositionToken::open(LOG, &text).is_err());
        }

        #[test]
        fn any_text_is_answered(text in ".{0,100}") {
            let _ = PositionToken::open(LOG, &text);
        }
    }

    #[test]
    fn the_empty_text_is_the_start() {
        assert_eq!(PositionToken::open(LOG, ""), Ok(Position::START));
    }
}
