//! What is said of chats beside messages.

use proto::client as wire;
use types::{IdError, MemberRole, UserId};

/// A chat changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChatChange {
    /// Users came, went (`None`) or got another role. Who went by their own entry has left.
    Members(Vec<(UserId, Option<MemberRole>)>),
    /// Its name, picture or terms are others; what is `None` stayed.
    Settings(SettingsChange),
    /// Whoever knows a secret may join.
    InviteMade {
        /// What the invite is named by.
        invite: String,
        /// How long it can be used from this entry's time on, in ms.
        lifetime_ms: u64,
        /// By how many users.
        uses_max: u32,
    },
    /// Nobody joins by this invite any more.
    InviteRevoked(String),
    /// The sender came by this invite.
    Joined(String),
    /// Something that a newer server knows.
    Unknown,
}

/// What of a chat is to be different; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettingsChange {
    /// The name, made unreadable by the app; at most 256 bytes, empty: none.
    pub name: Option<bytes::Bytes>,
    /// A media id; empty: none.
    pub avatar: Option<String>,
    /// How long messages stay, in ms; 0: for good.
    pub expiry_ms: Option<u64>,
    /// The lowest role that may add members and make invites.
    pub inviters: Option<MemberRole>,
    /// The lowest role that may write messages.
    pub writers: Option<MemberRole>,
}

/// A role of a newer server is the lowest one.
pub(crate) fn role(name: &str) -> MemberRole {
    proto::parse_role("role", name).unwrap_or(MemberRole::Member)
}

impl TryFrom<wire::ChatChange> for ChatChange {
    type Error = IdError;
    fn try_from(wire: wire::ChatChange) -> Result<Self, IdError> {
        use wire::chat_change::Change;
        Ok(match wire.change {
            Some(Change::Members(members)) => {
                let change = |change: &wire::MemberChange| {
                    let to = (!change.role.is_empty()).then(|| role(&change.role));
                    Ok((UserId::new(&change.user)?, to))
                };
                Self::Members(members.changes.iter().map(change).collect::<Result<_, IdError>>()?)
            }
            Some(Change::Settings(change)) => Self::Settings(SettingsChange {
                name: change.name,
                avatar: change.avatar,
                expiry_ms: change.expiry_ms,
                inviters: change.inviters.as_deref().map(role),
                writers: change.writers.as_deref().map(role),
            }),
            Some(Change::InviteMade(made)) => Self::InviteMade {
                invite: made.invite,
                lifetime_ms: made.lifetime_ms,
                uses_max: made.uses_max,
            },
            Some(Change::InviteRevoked(named)) => Self::InviteRevoked(named.invite),
            Some(Change::Joined(named)) => Self::Joined(named.invite),
            None => Self::Unknown,
        })
    }
}

impl From<SettingsChange> for wire::SettingsChange {
    fn from(change: SettingsChange) -> Self {
        let name = |role: Option<MemberRole>| role.map(|role| proto::role_name(role).to_owned());
        Self {
            name: change.name,
            avatar: change.avatar,
            expiry_ms: change.expiry_ms,
            inviters: name(change.inviters),
            writers: name(change.writers),
        }
    }
}
