//! Names of things. Every name that people choose is checked here, once, with its bounds.

use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr, sync::Arc};
use uuid::Uuid;

/// A text is no valid name of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} is not valid: {why}")]
pub struct IdError {
    /// Which kind of name.
    pub what: &'static str,
    /// The offending text, cut to 80 characters.
    pub text: String,
    /// The rule it breaks.
    pub why: &'static str,
}

impl IdError {
    fn new(what: &'static str, text: &str, why: &'static str) -> Self {
        Self { what, text: text.chars().take(80).collect(), why }
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max_bytes:literal, $rule:literal, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The longest name, in bytes.
            pub const MAX_BYTES: usize = $max_bytes;

            /// Checks a name.
            ///
            /// # Errors
            /// [`IdError`] names the rule that the text breaks.
            pub fn new(text: &str) -> Result<Self, IdError> {
                let allowed: fn(char) -> bool = $allowed;
                if text.is_empty() {
                    return Err(IdError::new($what, text, "it is empty"));
                }
                if text.len() > $max_bytes {
                    return Err(IdError::new($what, text, concat!("it is longer than ", $max_bytes, " bytes")));
                }
                if !text.starts_with(|first: char| first.is_ascii_alphanumeric()) || !text.chars().all(allowed) {
                    return Err(IdError::new($what, text, $rule));
                }
                Ok(Self(text.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }
    };
}

name! {
    /// A region, for example `us-east`: a failure domain.
    RegionId, "region", 32, "only a-z, 0-9 and '-' are allowed, and it starts with a letter or digit",
    |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
}
name! {
    /// A node, for example `us-east-1`; stable over its restarts.
    NodeId, "node", 48, "only a-z, 0-9 and '-' are allowed, and it starts with a letter or digit",
    |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
}
name! {
    /// A user.
    UserId, "user", 64, "only letters, digits, '.', '_' and '-' are allowed, and it starts with a letter or digit",
    |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// What the ids of users with an account begin with.
const ACCOUNT_PREFIX: &str = "u";
/// The characters behind it: 16 bytes as base32.
const ACCOUNT_KEY_CHARS: usize = 26;

impl UserId {
    /// The user of an account, by the 16 bytes that were drawn for it.
    pub fn of_account(key: [u8; 16]) -> Self {
        Self(format!("{ACCOUNT_PREFIX}{}", BASE32_NOPAD.encode(&key).to_ascii_lowercase()).into())
    }

    /// Whether it is the id of a user with an account. In development mode users are who they say, and have none.
    pub fn is_of_account(&self) -> bool {
        self.as_str().strip_prefix(ACCOUNT_PREFIX).is_some_and(|key| {
            key.len() == ACCOUNT_KEY_CHARS
                && key.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'))
        })
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $repr:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name($repr);

        impl $name {
            /// Wraps a raw number.
            pub const fn new(value: $repr) -> Self {
                Self(value)
            }

            /// The raw number.
            pub const fn get(self) -> $repr {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A partition, numbered from 0; the number of partitions is fixed when a deployment is born.
    PartitionId, u32
}
number! {
    /// One of a user's devices. Chosen by the device, unique for its user.
    DeviceId, u64
}
number! {
    /// One planned move of a partition, numbered by the directory from 1.
    MoveId, u64
}
number! {
    /// One re-homing of a log, numbered by the directory from 1.
    RehomeId, u64
}
number! {
    /// One boot of a node, given out by the directory; a later boot has a higher one. 0 is none.
    Incarnation, u64
}

impl Incarnation {
    /// The incarnation of the next boot, held at the largest value.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps 16 bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The 16 bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = IdError;
            fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
                let bytes = <[u8; 16]>::try_from(bytes)
                    .map_err(|_| IdError::new($what, &format!("of {} bytes", bytes.len()), "it needs 16 bytes"))?;
                Ok(Self::from_bytes(bytes))
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::try_parse(text).map(Self).map_err(|_| IdError::new($what, text, "it is no UUID"))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

uuid_id! {
    /// The client's name for one message; with the log and the sending device it makes a retry safe.
    MessageId, "message id"
}
uuid_id! {
    /// One store: drawn when the store is made, so that a replaced disk is never taken for the old one.
    StoreId, "store id"
}
uuid_id! {
    /// One directory command; repeating it answers what the first one answered.
    RequestId, "request id"
}

/// What a log belongs to. Ordered like its byte in an encoded id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogKind {
    /// What one user's devices share; its id is derived from the user.
    Account,
    /// A chat of two users; its id is derived from them.
    Direct,
    /// A chat with a list of members.
    Group,
    /// What concerns a partition as a whole. No user has it, reads it or names it.
    Partition,
}

impl LogKind {
    const fn tag(self) -> u8 {
        match self {
            Self::Direct => b'd',
            Self::Group => b'g',
            Self::Account => b'a',
            Self::Partition => b'p',
        }
    }

    const fn from_tag(tag: u8) -> Option<Self> {
        match tag {
            b'd' => Some(Self::Direct),
            b'g' => Some(Self::Group),
            b'a' => Some(Self::Account),
            b'p' => Some(Self::Partition),
            _ => None,
        }
    }
}

/// One log: a chat or an account. Text: `d_`, `g_` or `a_` and 26 base32 characters (RFC 4648, lower case).
/// A partition's own log is shown as `p_`, and no text is taken for it: users name logs by text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogId {
    kind: LogKind,
    key: [u8; 16],
}

impl LogId {
    /// The bytes of an encoded id.
    pub const BYTES: usize = 17;

    /// The one direct chat of two users, whoever of them opens it.
    pub fn direct(a: &UserId, b: &UserId) -> Self {
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        Self { kind: LogKind::Direct, key: derive(b"hearth direct", &[low.as_str(), high.as_str()]) }
    }

    /// A group chat, from an id that its creator drew.
    pub const fn group(key: [u8; 16]) -> Self {
        Self { kind: LogKind::Group, key }
    }

    /// A user's account log.
    pub fn account(user: &UserId) -> Self {
        Self { kind: LogKind::Account, key: derive(b"hearth account", &[user.as_str()]) }
    }

    /// A partition's own log: each partition has one, and all have this id.
    pub const fn partition() -> Self {
        Self { kind: LogKind::Partition, key: [0; 16] }
    }

    /// What the log belongs to.
    pub const fn kind(&self) -> LogKind {
        self.kind
    }

    /// The 16 bytes behind the kind.
    pub const fn key(&self) -> &[u8; 16] {
        &self.key
    }

    /// One byte of kind, then the key.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0] = self.kind.tag();
        bytes[1..].copy_from_slice(&self.key);
        bytes
    }
}

fn derive(domain: &[u8], parts: &[&str]) -> [u8; 16] {
    let mut hash = Sha256::new_with_prefix(domain);
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let mut key = [0; 16];
    key.copy_from_slice(&hash.finalize()[..16]);
    key
}

impl TryFrom<&[u8]> for LogId {
    type Error = IdError;
    fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
        let wrong = |why| IdError::new("log id", &format!("of {} bytes", bytes.len()), why);
        let bytes: &[u8; Self::BYTES] = bytes.try_into().map_err(|_| wrong("it needs 17 bytes"))?;
        let kind = LogKind::from_tag(bytes[0]).ok_or_else(|| wrong("its kind is unknown"))?;
        let mut key = [0; 16];
        key.copy_from_slice(&bytes[1..]);
        Ok(Self { kind, key })
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.kind.tag() as char, BASE32_NOPAD.encode(&self.key).to_ascii_lowercase())
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogId({self})")
    }
}

impl FromStr for LogId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = |why| IdError::new("log id", text, why);
        let (kind, key) = text.split_once('_').ok_or_else(|| wrong("it has no '_'"))?;
        let kind = match kind.as_bytes() {
            [tag] => LogKind::from_tag(*tag).filter(|kind| *kind != LogKind::Partition),
            _ => None,
        }
        .ok_or_else(|| wrong("it does not start with d_, g_ or a_"))?;
        if key.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(wrong("it has upper-case letters"));
        }
        let key = BASE32_NOPAD
            .decode(key.to_ascii_uppercase().as_bytes())
            .map_err(|_| wrong("it is no base32"))?
            .try_into()
            .map_err(|_| wrong("it needs 26 characters behind the '_'"))?;
        Ok(Self { kind, key })
    }
}

impl TryFrom<String> for LogId {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<LogId> for String {
    fn from(log: LogId) -> String {
        log.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).expect("a valid name")
    }

    #[test]
    fn both_users_of_a_direct_chat_derive_the_same_log() {
        let ab = LogId::direct(&user("alice"), &user("bob"));
        assert_eq!(ab, LogId::direct(&user("bob"), &user("alice")));
        assert_ne!(ab, LogId::direct(&user("alice"), &user("bobby")));
        assert_ne!(LogId::direct(&user("a"), &user("bc")), LogId::direct(&user("ab"), &user("c")));
    }

    #[test]
    fn a_log_id_survives_text_and_bytes() {
        for log in [LogId::direct(&user("a"), &user("b")), LogId::group([7; 16]), LogId::account(&user("a"))]
        {
            assert_eq!(log.to_string().parse(), Ok(log));
            assert_eq!(LogId::try_from(&log.to_bytes()[..]), Ok(log));
        }
    }

    #[test]
    fn log_ids_are_ordered_like_their_bytes() {
        let mut logs = [
            LogId::group([0; 16]),
            LogId::account(&user("a")),
            LogId::direct(&user("a"), &user("b")),
            LogId::group([9; 16]),
            LogId::account(&user("b")),
        ];
        logs.sort();
        assert!(logs.is_sorted_by_key(LogId::to_bytes));
    }

    #[test]
    fn a_bad_log_id_names_the_rule() {
        for (text, why) in [
            ("", "it has no '_'"),
            ("x_aaaaaaaaaaaaaaaaaaaaaaaaaa", "it does not start with d_, g_ or a_"),
            ("g_aaa1", "it is no base32"),
            ("g_aaaa", "it needs 26 characters behind the '_'"),
        ] {
            assert_eq!(LogId::from_str(text).expect_err("not valid").why, why, "{text}");
        }
    }

    #[test]
    fn names_are_bounded_and_plain() {
        assert!(RegionId::new("us-east").is_ok());
        assert!(RegionId::new("US").is_err());
        assert!(RegionId::new("-us").is_err());
        assert!(UserId::new("").is_err());
        assert!(UserId::new(&"x".repeat(65)).is_err());
        assert!(UserId::new("a/b").is_err());
    }
}
