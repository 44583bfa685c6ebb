//! Whether users are there.

use proto::client::{self as wire, user_presence::State};
use types::{IdError, UserId};

/// What is known of a user who is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// Who.
    pub user: UserId,
    /// Whether on some device; none: nobody knows just now, or the user does not show it. What was told before holds.
    pub online: Option<bool>,
    /// When last, ms since 1970; none: not known, or not shown.
    pub last_seen_ms: Option<u64>,
}

impl TryFrom<wire::UserPresence> for Presence {
    type Error = IdError;
    fn try_from(presence: wire::UserPresence) -> Result<Self, IdError> {
        let online = match presence.state() {
            State::Online => Some(true),
            State::Offline => Some(false),
            State::Unspecified => None,
        };
        Ok(Self { user: UserId::new(&presence.user)?, online, last_seen_ms: presence.last_seen_ms })
    }
}
