//! The refusals that clients see, with their stable codes.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $variant:ident = $text:literal,)*) => {
        /// A stable name for one kind of refusal. Codes are added, never renamed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Code { $($(#[doc = $doc])* $variant,)* }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as it stands on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// What it says, in a sentence for people.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),*).trim_ascii(),)* }
            }
        }
    };
}

codes! {
    /// A frame or request body that cannot be read.
    BadRequest = "bad_request",
    /// The peer speaks a protocol version that is not known here.
    UnsupportedVersion = "unsupported_version",
    /// Nobody has said who this is.
    Unauthenticated = "unauthenticated",
    /// The access token has ended: the refresh token gets another one.
    TokenExpired = "token_expired",
    /// The name or the password is wrong; nobody is told which.
    BadCredentials = "bad_credentials",
    /// The device was logged out: it has to log in again.
    DeviceRevoked = "device_revoked",
    /// Another user has the name.
    NameTaken = "name_taken",
    /// The user is no member of the chat, or lacks the role.
    Forbidden = "forbidden",
    /// There is no such chat.
    UnknownChat = "unknown_chat",
    /// The chat exists with other members or another policy.
    ChatExists = "chat_exists",
    /// The user has an account already, or had one.
    AccountExists = "account_exists",
    /// There is no such account, or it is not in use.
    UnknownAccount = "unknown_account",
    /// The account has no such device.
    UnknownDevice = "unknown_device",
    /// It was changed meanwhile: look again.
    Conflict = "conflict",
    /// There is no such message in the chat.
    UnknownMessage = "unknown_message",
    /// There is no such invite, or it can't be used any more.
    UnknownInvite = "unknown_invite",
    /// No region has this name.
    UnknownRegion = "unknown_region",
    /// A body, frame or list is over its limit.
    TooLarge = "too_large",
    /// A position token that was not made by Hearth.
    PositionMalformed = "position_malformed",
    /// A position token of another chat.
    PositionOfOtherChat = "position_of_other_chat",
    /// A position that this chat has never given out.
    PositionUnknown = "position_unknown",
    /// The position was undone by a failover; `common` says up to where history is shared.
    Diverged = "diverged",
    /// This replica does not hold the position yet.
    Behind = "behind",
    /// The time of the body was over before it was written.
    Expired = "expired",
    /// The message id was used before, with another body.
    MessageIdReused = "message_id_reused",
    /// The device's previous message, which this one names, is not in the log; nothing was written.
    OutOfOrder = "out_of_order",
    /// More is under way than this session, user or node may have.
    Overloaded = "overloaded",
    /// The user, the device or the address asks for this too often; nothing was done.
    RateLimited = "rate_limited",
    /// The chat has no home that can be reached just now; nothing was written.
    HomeUnavailable = "home_unavailable",
    /// The write may or may not be in the log; repeating it with the same message id is safe.
    Indeterminate = "indeterminate",
    /// The directory cannot be reached, and this needs it; nothing was written.
    DirectoryUnavailable = "directory_unavailable",
    /// The node is going down or is not ready.
    NotReady = "not_ready",
    /// A defect or a damaged store; the message says which.
    Internal = "internal",
}

impl Code {
    /// Whether the same request can succeed later without being changed.
    pub const fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::Behind
                | Self::OutOfOrder
                | Self::Overloaded
                | Self::RateLimited
                | Self::HomeUnavailable
                | Self::Indeterminate
                | Self::DirectoryUnavailable
                | Self::NotReady
        )
    }

    /// Whether the write may have happened.
    pub const fn is_indeterminate(self) -> bool {
        matches!(self, Self::Indeterminate)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Code {
    type Err = UnknownCode;
    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.as_str() == text)
            .ok_or_else(|| UnknownCode(text.to_owned()))
    }
}

/// A code that a newer peer knows and this one does not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown error code {0:?}")]
pub struct UnknownCode(String);

/// A request was refused: what a client is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// The stable code.
    pub code: Code,
    /// A sentence for people, naming the offending value.
    pub message: String,
    /// When a repetition makes sense, in ms from now.
    pub retry_after_ms: Option<u64>,
}

impl Refusal {
    /// A refusal without a time to wait.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after_ms: None }
    }

    /// The same refusal with the time after which a repetition makes sense.
    #[must_use]
    pub fn retry_after_ms(mut self, retry_after_ms: u64) -> Self {
        self.retry_after_ms = Some(retry_after_ms);
        self
    }

    /// See [`Code::is_retryable`].
    pub const fn is_retryable(&self) -> bool {
        self.code.is_retryable()
    }

    /// See [`Code::is_indeterminate`].
    pub const fn is_indeterminate(&self) -> bool {
        self.code.is_indeterminate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_from_its_text() {
        for code in Code::ALL {
            assert_eq!(code.as_str().parse(), Ok(*code));
            assert_eq!(serde_json::to_value(code).expect("plain text"), code.as_str());
            assert!(code.meaning().ends_with('.') && !code.meaning().starts_with(' '), "{code}");
        }
    }

    #[test]
    fn an_indeterminate_write_may_always_be_repeated() {
        assert!(Code::ALL.iter().all(|code| !code.is_indeterminate() || code.is_retryable()));
    }
}
