//! What a chat log says beside its messages: who is in it, in which role, and on which terms.
//!
//! Each change is one entry. What the changes add up to, [`Member`]s and [`Chat`], is folded from them.

mod digest;

use crate::{DedupKey, DeviceId, LogId, MemberRole, MessageId, Offset, UserId, account::MediaId};
use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// The most members that one entry adds, removes or gives another role.
pub const MEMBER_CHANGES_MAX: usize = 256;
/// The most of those who left last that are remembered: they read up to where they left.
pub const LEFT_MAX: usize = 256;
/// The most invites of one chat at a time.
pub const INVITES_MAX: usize = 64;
/// The longest name of a group, in bytes. It is ciphertext: nothing looks into it.
pub const NAME_MAX_BYTES: usize = 256;
/// The longest that an invite can be used, in ms.
pub const INVITE_LIFETIME_MAX_MS: u64 = 366 * 24 * 3_600_000;
/// The shortest and the longest time after which a chat lets its messages expire, in ms.
pub const EXPIRY_MS: std::ops::RangeInclusive<u64> = 1_000..=10 * 366 * 24 * 3_600_000;
/// The shortest and the longest secret of an invite, in bytes.
pub const SECRET_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

/// What a message is beside its body, in the open. The server sees it, and keeps it when the body is erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Which kind of message.
    pub kind: MessageKind,
    /// What it replies to, reacts to or edits.
    pub refers_to: Option<Reference>,
}

/// Kinds of message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MessageKind {
    /// Something said.
    #[default]
    Text = 1,
    /// Something shown: a reference to media.
    Media = 2,
    /// Something that an app wants told, by nobody's hand.
    System = 3,
    /// What a member feels about another message.
    Reaction = 4,
    /// What a message of the same author says from now on.
    Edit = 5,
}

impl MessageKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Text, Self::Media, Self::System, Self::Reaction, Self::Edit];

    /// Whether it is nothing without the message that it refers to.
    pub const fn needs_reference(self) -> bool {
        matches!(self, Self::Reaction | Self::Edit)
    }
}

/// Another message of the same log, by what makes it one message: it is the same wherever a failover puts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Which.
    pub key: DedupKey,
    /// Where it stood when it was referred to; zero: its writer did not know.
    pub offset: Offset,
}

impl Reference {
    /// A message of a device.
    pub const fn new(sender: UserId, device: DeviceId, message_id: MessageId, offset: Offset) -> Self {
        Self { key: DedupKey { sender, device, message_id }, offset }
    }
}

/// One change of a chat. All are control: acked when they are `replicated`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChatChange {
    /// Users come, go or get another role. Who goes by its own entry leaves.
    Members(Vec<MemberChange>),
    /// The chat has another name, picture or terms.
    Settings(SettingsChange),
    /// Whoever knows a secret may join.
    InviteMade(NewInvite),
    /// Nobody joins by it any more.
    InviteRevoked(InviteHash),
    /// The sender came by an invite.
    Joined(InviteHash),
}

/// What becomes of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberChange {
    /// Who.
    pub user: UserId,
    /// The role from now on; `None`: the user is no member any more.
    pub role: Option<MemberRole>,
}

/// What is to be different; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettingsChange {
    /// The name, ciphertext; empty: none.
    pub name: Option<Bytes>,
    /// The picture; `Some(None)`: none.
    pub avatar: Option<Option<MediaId>>,
    /// How long messages stay, in ms; zero: for good.
    pub expiry_ms: Option<u64>,
    /// Who may add members and make invites: those of at least this role.
    pub inviters: Option<MemberRole>,
    /// Who may write messages: those of at least this role.
    pub writers: Option<MemberRole>,
}

/// An invite to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewInvite {
    /// What its secret hashes to.
    pub hash: InviteHash,
    /// How long it can be used, in ms from when it is accepted; at most [`INVITE_LIFETIME_MAX_MS`].
    pub lifetime_ms: u64,
    /// By how many users; at least 1.
    pub uses_max: u32,
}

/// SHA-256 of an invite's secret, and the name by which the invite is revoked. The secret is random, so that no
/// salt and no slow hash are needed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InviteHash(pub [u8; 32]);

impl InviteHash {
    /// What a secret of a log hashes to; the same secret is another invite elsewhere.
    pub fn of(log: LogId, secret: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(log.to_bytes());
        hash.update(secret);
        Self(hash.finalize().into())
    }

    /// The hash from its text.
    pub fn parse(text: &str) -> Option<Self> {
        BASE64URL_NOPAD.decode(text.as_bytes()).ok()?.try_into().ok().map(Self)
    }
}

impl fmt::Display for InviteHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

impl fmt::Debug for InviteHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InviteHash({self})")
    }
}

/// A member as the log's entries tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// What the member may do.
    pub role: MemberRole,
    /// The entry by which the user came.
    pub joined_at: Offset,
    /// The last entry that said something of the member.
    pub changed_at: Offset,
}

impl Member {
    /// A member from an entry on.
    pub const fn since(role: MemberRole, offset: Offset) -> Self {
        Self { role, joined_at: offset, changed_at: offset }
    }
}

/// What a chat's changes add up to beside its members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chat {
    /// Its terms.
    pub settings: Settings,
    /// Those who left last, at most [`LEFT_MAX`], with the last entry that each of them reads.
    pub left: BTreeMap<UserId, Offset>,
    /// The invites that were neither revoked nor used up, at most [`INVITES_MAX`].
    pub invites: BTreeMap<InviteHash, Invite>,
    /// In a direct chat, who of the two takes nothing of the other.
    pub blocked_by: BTreeSet<UserId>,
    /// Who has opened a direct chat, until the other one has written something.
    pub request_of: Option<UserId>,
}

/// The terms of a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Ciphertext, at most [`NAME_MAX_BYTES`]; empty: none.
    pub name: Bytes,
    /// The picture.
    pub avatar: Option<MediaId>,
    /// How long messages stay from when they are accepted, in ms; zero: for good.
    pub expiry_ms: u64,
    /// Who may add members and make invites: those of at least this role.
    pub inviters: MemberRole,
    /// Who may write messages: those of at least this role.
    pub writers: MemberRole,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: Bytes::new(),
            avatar: None,
            expiry_ms: 0,
            inviters: MemberRole::Admin,
            writers: MemberRole::Member,
        }
    }
}

/// An invite that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invite {
    /// Who made it.
    pub made_by: UserId,
    /// Until when it can be used, in ms since 1970.
    pub expires_at_ms: u64,
    /// By how many users.
    pub uses_max: u32,
    /// How many of them have come.
    pub uses: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_another_invite_in_another_chat() {
        let (here, there) = (LogId::group([1; 16]), LogId::group([2; 16]));
        let hash = InviteHash::of(here, b"a secret of 16 b");
        assert_ne!(hash, InviteHash::of(there, b"a secret of 16 b"));
        assert_eq!(InviteHash::parse(&hash.to_string()), Some(hash));
        assert_eq!(InviteHash::parse("AAAA"), None);
    }
}
