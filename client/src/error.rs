//! What can go wrong, per operation. Each error answers whether trying again can help, and whether the
//! write may have happened.

use crate::{ConfigError, Position, StoreError};
use proto::client as wire;
use types::Code;

/// The server said no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refused {
    /// The stable code, as it stood on the wire; see [`Refused::known`].
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// The same request can succeed later without being changed.
    pub retryable: bool,
    /// The write may have happened.
    pub indeterminate: bool,
    /// When a repetition makes sense, in ms from then.
    pub retry_after_ms: Option<u64>,
    /// With code `diverged`: up to where history is shared.
    pub common: Option<Position>,
}

impl Refused {
    /// The code, where this version of the SDK knows it.
    pub fn known(&self) -> Option<Code> {
        self.code.parse().ok()
    }

    /// Nothing will change about it. A defect and a broken store are no last word: another copy, or the same
    /// node later, may answer otherwise.
    pub(crate) fn is_final(&self) -> bool {
        !self.retryable && self.known() != Some(Code::Internal)
    }
}

impl From<wire::Error> for Refused {
    fn from(error: wire::Error) -> Self {
        Self {
            code: error.code,
            message: error.message,
            retryable: error.retryable,
            indeterminate: error.indeterminate,
            retry_after_ms: error.retry_after_ms,
            common: error.common.map(Position::from),
        }
    }
}

/// A chat could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The server said no.
    #[error("the chat could not be opened: {0}")]
    Refused(Refused),
    /// No answer within [`crate::Timing::call_timeout_ms`]. Opening again is safe.
    #[error("the chat could not be opened: no answer within {waited_ms} ms")]
    TimedOut {
        /// How long it was tried.
        waited_ms: u64,
        /// The last refusal that was worth trying again.
        last: Option<Refused>,
    },
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
}

/// A message could not be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The outbox is full: too much has been accepted that is not replicated yet. Nothing was accepted.
    #[error("the outbox is full: {messages} messages, {bytes} bytes (limits {messages_max}, {bytes_max})")]
    OutboxFull {
        /// Messages in it.
        messages: usize,
        /// Bytes of bodies in it.
        bytes: usize,
        /// The most messages.
        messages_max: usize,
        /// The most bytes of bodies.
        bytes_max: usize,
    },
    /// The body is over the limit. Nothing was accepted.
    #[error("the message has {bytes} bytes, over the limit of {bytes_max}")]
    TooLarge {
        /// Of this body.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The server refused the message for good.
    #[error("the message was refused: {0}")]
    Refused(Refused),
    /// The server refused the whole session for good while the message was in its outbox; a store keeps it.
    #[error("the session was refused: {0}")]
    Ended(Refused),
    /// The store of this client has failed: the message is not sent in this run, and may or may not be in the next.
    #[error("the message could not be kept: {0}")]
    NotKept(StoreError),
    /// The deployment has one region, so that nothing is ever replicated. The message is at home.
    #[error("nothing is ever replicated in a deployment of one region")]
    OneRegion,
    /// The client was closed while the message was in its outbox; a snapshot or a store holds it.
    #[error("the client is closed; the message may or may not be in the chat")]
    Closed,
}

/// A chat could not be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The server said no.
    #[error("the chat could not be changed: {0}")]
    Refused(Refused),
    /// No answer within [`crate::Timing::call_timeout_ms`]. It may have happened; to repeat it under its id is safe
    /// ([`crate::Chat::change_as`]).
    #[error("no answer within {waited_ms} ms: the chat may or may not have been changed")]
    TimedOut {
        /// How long it was tried.
        waited_ms: u64,
        /// The last refusal that was worth trying again.
        last: Option<Refused>,
    },
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
}

/// A chat could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LookError {
    /// The server said no.
    #[error("the chat could not be looked at: {0}")]
    Refused(Refused),
    /// No answer within [`crate::Timing::call_timeout_ms`].
    #[error("the chat could not be looked at: no answer within {waited_ms} ms")]
    TimedOut {
        /// How long it was tried.
        waited_ms: u64,
        /// The last refusal that was worth trying again.
        last: Option<Refused>,
    },
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
}

/// A client that is kept could not be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// The settings are wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// History could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// The position was undone by a failover.
    #[error("the position was undone by a failover; history is shared up to {common}")]
    Diverged {
        /// Up to where history is shared: read on from here.
        common: Position,
    },
    /// The server said no.
    #[error("history could not be read: {0}")]
    Refused(Refused),
    /// No answer within [`crate::Timing::call_timeout_ms`].
    #[error("history could not be read: no answer within {waited_ms} ms")]
    TimedOut {
        /// How long it was tried.
        waited_ms: u64,
        /// The last refusal that was worth trying again.
        last: Option<Refused>,
    },
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
}

macro_rules! answers {
    ($error:ident, $self:ident, retryable: $retryable:expr, indeterminate: $indeterminate:expr) => {
        impl $error {
            /// Whether the same call can succeed later without being changed.
            pub fn is_retryable(&$self) -> bool {
                match $self {
                    Self::Refused(refused) => refused.retryable,
                    other => $retryable(other),
                }
            }

            /// Whether the write may have happened; repeating it under its message id is safe.
            pub fn is_indeterminate(&$self) -> bool {
                match $self {
                    Self::Refused(refused) => refused.indeterminate,
                    other => $indeterminate(other),
                }
            }
        }
    };
}

answers!(OpenError, self,
    retryable: |error: &Self| matches!(error, Self::TimedOut { .. }),
    indeterminate: |error: &Self| matches!(error, Self::TimedOut { .. } | Self::Closed));
answers!(SendError, self,
    retryable: |error: &Self| matches!(error, Self::OutboxFull { .. }),
    indeterminate: |error: &Self| matches!(error, Self::Closed | Self::Ended(_) | Self::NotKept(_)));
answers!(ControlError, self,
    retryable: |error: &Self| matches!(error, Self::TimedOut { .. }),
    indeterminate: |error: &Self| matches!(error, Self::TimedOut { .. } | Self::Closed));
answers!(LookError, self,
    retryable: |error: &Self| matches!(error, Self::TimedOut { .. }),
    indeterminate: |_: &Self| false);
answers!(HistoryError, self,
    retryable: |error: &Self| matches!(error, Self::TimedOut { .. }),
    indeterminate: |_: &Self| false);
