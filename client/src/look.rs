//! What a chat is now, as a member is told.

use crate::chat::role;
use bytes::Bytes;
use proto::client as wire;
use types::{IdError, LogId, MemberRole, UserId};

/// A chat at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatInfo {
    /// The name that an app has made unreadable; empty: none.
    pub name: Bytes,
    /// A media id; none: no picture.
    pub avatar: Option<String>,
    /// How long messages stay, in ms; none: for good.
    pub expiry_ms: Option<u64>,
    /// The lowest role that may add members and make invites.
    pub inviters: MemberRole,
    /// The lowest role that may write messages.
    pub writers: MemberRole,
    /// How many members there are.
    pub members: u32,
    /// What this user is in it.
    pub role: MemberRole,
    /// When it began, by the home's clock, ms since 1970.
    pub created_at_ms: u64,
}

impl From<wire::ChatInfo> for ChatInfo {
    fn from(info: wire::ChatInfo) -> Self {
        Self {
            name: info.name,
            avatar: Some(info.avatar).filter(|avatar| !avatar.is_empty()),
            expiry_ms: Some(info.expiry_ms).filter(|ms| *ms != 0),
            inviters: role(&info.inviters),
            writers: role(&info.writers),
            members: info.members,
            role: role(&info.role),
            created_at_ms: info.created_at_ms,
        }
    }
}

/// A page of members, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembersPage {
    /// In order.
    pub members: Vec<ChatMember>,
    /// There are no more.
    pub at_end: bool,
}

/// Who is in a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatMember {
    /// Who.
    pub user: UserId,
    /// As what.
    pub role: MemberRole,
    /// The offset of the entry by which the user came.
    pub joined_at: u64,
}

impl TryFrom<wire::MembersPage> for MembersPage {
    type Error = IdError;
    fn try_from(page: wire::MembersPage) -> Result<Self, IdError> {
        let member = |member: wire::ChatMember| {
            let (user, role) = (UserId::new(&member.user)?, role(&member.role));
            Ok(ChatMember { user, role, joined_at: member.joined_at })
        };
        let members = page.members.into_iter().map(member).collect::<Result<_, IdError>>()?;
        Ok(Self { members, at_end: page.at_end })
    }
}

/// An invite that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invite {
    /// What it is revoked by; it opens nothing.
    pub name: String,
    /// Who made it.
    pub made_by: UserId,
    /// Until when it can be used, ms since 1970.
    pub expires_at_ms: u64,
    /// By how many users.
    pub uses_max: u32,
    /// How many have come by it.
    pub uses: u32,
}

pub(crate) fn invites(page: wire::InvitesPage) -> Result<Vec<Invite>, IdError> {
    let invite = |invite: wire::Invite| {
        let made_by = UserId::new(&invite.made_by)?;
        let wire::Invite { invite: name, expires_at_ms, uses_max, uses, .. } = invite;
        Ok(Invite { name, made_by, expires_at_ms, uses_max, uses })
    };
    page.invites.into_iter().map(invite).collect()
}

pub(crate) fn read_members(log: LogId, after: Option<&UserId>, limit: u32) -> wire::ReadMembers {
    let after = after.map(UserId::to_string).unwrap_or_default();
    wire::ReadMembers { log: log.to_string(), after, limit }
}
