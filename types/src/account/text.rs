//! The texts and secrets of an account, each with its bounds.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A text is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is not valid: {why}")]
pub struct TextError {
    /// Which kind of text.
    pub what: &'static str,
    /// The rule it breaks.
    pub why: &'static str,
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $what:literal, $min:literal ..= $max:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The longest, in bytes of UTF-8.
            pub const MAX_BYTES: usize = $max;

            /// Checks a text. Blanks around it do not count.
            ///
            /// # Errors
            /// [`TextError`] names the rule that it breaks.
            pub fn new(text: &str) -> Result<Self, TextError> {
                let text = text.trim();
                let wrong = |why| Err(TextError { what: $what, why });
                if text.is_empty() && $min > 0 {
                    return wrong("it is empty");
                }
                if text.len() > $max {
                    return wrong(concat!("it is longer than ", $max, " bytes"));
                }
                if text.chars().any(is_unseen) {
                    return wrong("it holds a control character");
                }
                Ok(Self(text.to_owned()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = TextError;
            fn try_from(text: String) -> Result<Self, TextError> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> String {
                text.0
            }
        }
    };
}

/// Control characters, and those that turn the direction of the text around them: a name must not dress up as
/// another one (Unicode TR 36, bidirectional spoofing).
fn is_unseen(it: char) -> bool {
    it.is_control() || matches!(it, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

text! {
    /// How a user wants to be called, or calls a contact.
    DisplayName, "the display name", 1..=128
}
text! {
    /// What a user says of themselves; may be empty.
    About, "the text about the user", 0..=512
}
text! {
    /// What a user calls one of their devices.
    DeviceName, "the device's name", 1..=64
}

impl About {
    /// Nothing said.
    pub const fn empty() -> Self {
        Self(String::new())
    }
}

/// A picture or file, as the media store names it; nothing looks into it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MediaId(String);

impl MediaId {
    /// The longest, in bytes.
    pub const MAX_BYTES: usize = 64;

    /// Checks an id: letters, digits, `-` and `_`.
    ///
    /// # Errors
    /// [`TextError`] names the rule that it breaks.
    pub fn new(text: &str) -> Result<Self, TextError> {
        let wrong = |why| Err(TextError { what: "the media id", why });
        if text.is_empty() || text.len() > Self::MAX_BYTES {
            return wrong("it has not 1 to 64 characters");
        }
        if !text.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_')) {
            return wrong("only letters, digits, '-' and '_' are allowed");
        }
        Ok(Self(text.to_owned()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for MediaId {
    type Error = TextError;
    fn try_from(text: String) -> Result<Self, TextError> {
        Self::new(&text)
    }
}

impl From<MediaId> for String {
    fn from(id: MediaId) -> String {
        id.0
    }
}

/// What a password hashes to, with how it was hashed (PHC string format). Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// The longest, in bytes.
    pub const MAX_BYTES: usize = 256;

    /// Takes a PHC string.
    ///
    /// # Errors
    /// [`TextError`] where it is none.
    pub fn new(text: &str) -> Result<Self, TextError> {
        let is_one = text.starts_with('$') && text.len() <= Self::MAX_BYTES && text.is_ascii();
        if is_one {
            Ok(Self(text.to_owned()))
        } else {
            Err(TextError { what: "the password's hash", why: "it is no PHC string" })
        }
    }

    /// The PHC string, for who verifies a password.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// SHA-256 of a refresh token. The token has 256 random bits, so that no salt and no slow hash are needed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash(pub [u8; 32]);

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_trimmed_bounded_and_seen() {
        assert_eq!(DisplayName::new("  Ana María 🌻 ").expect("valid").as_str(), "Ana María 🌻");
        let why = |text: &str| DisplayName::new(text).expect_err("not valid").why;
        assert_eq!(why("   "), "it is empty");
        assert_eq!(why(&"é".repeat(65)), "it is longer than 128 bytes");
        assert_eq!(why("ana\u{7}"), "it holds a control character");
        assert_eq!(why("ana\u{202e}nimda"), "it holds a control character");
        assert_eq!(About::new("").expect("may be empty"), About::empty());
    }

    #[test]
    fn no_secret_is_shown() {
        let password =
            PasswordHash::new("$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA").expect("a PHC string");
        let shown = format!("{password:?} {:?}", TokenHash([0x5a; 32]));
        assert_eq!(shown, "PasswordHash(…) TokenHash(…)");
    }
}
