//! A place in a chat, as clients hold it.

use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

/// An opaque position token: stored and sent back unread. Two entries of one chat never share one, so
/// equal tokens mean the same entry, also across failovers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Position(Arc<str>);

impl Position {
    /// Before the first entry of any chat.
    pub fn start() -> Self {
        Self("".into())
    }

    /// Whether this is [`Position::start`].
    pub fn is_start(&self) -> bool {
        self.0.is_empty()
    }

    /// The token's text, as it stands on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Position {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Position {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<Position> for String {
    fn from(position: Position) -> String {
        position.0.as_ref().to_owned()
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
