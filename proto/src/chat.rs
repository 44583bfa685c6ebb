//! Chats: what their logs say beside messages, and what that adds up to. A client is sent what [`client`] makes of it.

mod client;

pub(crate) use client::{about_to_client, client_chat_change};
pub use client::{kind_name, parse_kind, parse_role, role_name};

use crate::{
    convert::{Malformed, device, message_id, require, user},
    log::{self, chat_change::Change},
    record::{bounded, role},
};
use bytes::Bytes;
use prost::Message as _;
use types::{
    DedupKey, MemberRole, Offset, UserId,
    account::MediaId,
    chat::{
        About, Chat, ChatChange, INVITES_MAX, Invite, InviteHash, LEFT_MAX, MEMBER_CHANGES_MAX, Member,
        MemberChange, MessageKind, NAME_MAX_BYTES, NewInvite, Reference, Settings, SettingsChange,
    },
};

/// Encodes what the changes of a chat add up to. It is never empty.
pub fn encode_chat(chat: &Chat) -> Bytes {
    log::Chat::from(chat).encode_to_vec().into()
}

/// Decodes what the changes of a chat add up to.
///
/// # Errors
/// [`Malformed`] when the bytes are none, or it is outside its bounds.
pub fn decode_chat(bytes: &[u8]) -> Result<Chat, Malformed> {
    let wire = log::Chat::decode(bytes);
    wire.map_err(|error| Malformed::Undecodable(error.to_string()))?.try_into()
}

/// Encodes one change.
pub fn encode_chat_change(change: &ChatChange) -> Bytes {
    log::ChatChange::from(change).encode_to_vec().into()
}

impl From<&About> for log::About {
    fn from(about: &About) -> Self {
        Self { kind: about.kind as i32, refers_to: about.refers_to.as_ref().map(Into::into) }
    }
}

impl TryFrom<log::About> for About {
    type Error = Malformed;
    fn try_from(wire: log::About) -> Result<Self, Malformed> {
        let known = MessageKind::ALL.into_iter().find(|kind| *kind as i32 == wire.kind);
        let kind = known.ok_or_else(|| Malformed::value("about.kind", wire.kind, "it is not known"))?;
        Ok(Self { kind, refers_to: wire.refers_to.map(TryInto::try_into).transpose()? })
    }
}

impl From<&Reference> for log::Reference {
    fn from(reference: &Reference) -> Self {
        Self { offset: reference.offset.get(), ..(&reference.key).into() }
    }
}

impl From<&DedupKey> for log::Reference {
    fn from(key: &DedupKey) -> Self {
        Self {
            sender: key.sender.to_string(),
            device: key.device.get(),
            message_id: Bytes::copy_from_slice(key.message_id.as_bytes()),
            offset: 0,
        }
    }
}

impl TryFrom<log::Reference> for Reference {
    type Error = Malformed;
    fn try_from(wire: log::Reference) -> Result<Self, Malformed> {
        let key = DedupKey {
            sender: user("reference.sender", &wire.sender)?,
            device: device(wire.device),
            message_id: message_id("reference.message_id", &wire.message_id)?,
        };
        Ok(Self { key, offset: Offset::new(wire.offset) })
    }
}

impl From<&ChatChange> for log::ChatChange {
    fn from(change: &ChatChange) -> Self {
        let named = |hash: &InviteHash| log::ChatInviteName { hash: hash_bytes(hash) };
        let change = match change {
            ChatChange::Members(changes) => {
                let change = |MemberChange { user, role }: &MemberChange| log::ChatMemberChange {
                    user: user.to_string(),
                    role: role.map_or(0, |role| role as u32),
                };
                Change::Members(log::ChatMembers { changes: changes.iter().map(change).collect() })
            }
            ChatChange::Settings(change) => Change::Settings(change.into()),
            ChatChange::InviteMade(NewInvite { hash, lifetime_ms, uses_max }) => {
                let (hash, lifetime_ms, uses_max) = (hash_bytes(hash), *lifetime_ms, *uses_max);
                Change::InviteMade(log::ChatNewInvite { hash, lifetime_ms, uses_max })
            }
            ChatChange::InviteRevoked(hash) => Change::InviteRevoked(named(hash)),
            ChatChange::Joined(hash) => Change::Joined(named(hash)),
        };
        Self { change: Some(change) }
    }
}

impl TryFrom<log::ChatChange> for ChatChange {
    type Error = Malformed;
    fn try_from(wire: log::ChatChange) -> Result<Self, Malformed> {
        let named = |wire: &log::ChatInviteName| invite_hash("chat.invite", &wire.hash);
        Ok(match require("chat.change", wire.change)? {
            Change::Members(members) => {
                bounded("chat.members", members.changes.len(), MEMBER_CHANGES_MAX)?;
                let change = |wire: log::ChatMemberChange| {
                    let role = (wire.role != 0).then(|| member_role("chat.member.role", wire.role));
                    Ok(MemberChange { user: user("chat.member", &wire.user)?, role: role.transpose()? })
                };
                Self::Members(members.changes.into_iter().map(change).collect::<Result<_, Malformed>>()?)
            }
            Change::Settings(change) => Self::Settings(change.try_into()?),
            Change::InviteMade(wire) => Self::InviteMade(NewInvite {
                hash: invite_hash("chat.invite", &wire.hash)?,
                lifetime_ms: wire.lifetime_ms,
                uses_max: wire.uses_max,
            }),
            Change::InviteRevoked(wire) => Self::InviteRevoked(named(&wire)?),
            Change::Joined(wire) => Self::Joined(named(&wire)?),
        })
    }
}

impl From<&SettingsChange> for log::ChatSettingsChange {
    fn from(change: &SettingsChange) -> Self {
        let SettingsChange { name, avatar, expiry_ms, inviters, writers } = change;
        Self {
            name: name.clone(),
            avatar: avatar.as_ref().map(|avatar| media_text(avatar.as_ref())),
            expiry_ms: *expiry_ms,
            inviters: inviters.map(|role| role as u32),
            writers: writers.map(|role| role as u32),
        }
    }
}

impl TryFrom<log::ChatSettingsChange> for SettingsChange {
    type Error = Malformed;
    fn try_from(wire: log::ChatSettingsChange) -> Result<Self, Malformed> {
        bounded("chat.name", wire.name.as_ref().map_or(0, Bytes::len), NAME_MAX_BYTES)?;
        let role = |field, number: Option<u32>| number.map(|number| member_role(field, number)).transpose();
        Ok(Self {
            name: wire.name,
            avatar: wire.avatar.map(|avatar| media(&avatar)).transpose()?,
            expiry_ms: wire.expiry_ms,
            inviters: role("chat.inviters", wire.inviters)?,
            writers: role("chat.writers", wire.writers)?,
        })
    }
}

impl From<&Chat> for log::Chat {
    fn from(chat: &Chat) -> Self {
        let Settings { name, avatar, expiry_ms, inviters, writers } = &chat.settings;
        let settings = log::ChatSettings {
            name: name.clone(),
            avatar: media_text(avatar.as_ref()),
            expiry_ms: *expiry_ms,
            inviters: *inviters as u32,
            writers: *writers as u32,
        };
        let left =
            |(user, at): (&UserId, &Offset)| log::ChatLeft { user: user.to_string(), offset: at.get() };
        let invite = |(hash, invite): (&InviteHash, &Invite)| log::ChatInvite {
            hash: hash_bytes(hash),
            made_by: invite.made_by.to_string(),
            expires_at_ms: invite.expires_at_ms,
            uses_max: invite.uses_max,
            uses: invite.uses,
        };
        Self {
            settings: Some(settings),
            left: chat.left.iter().map(left).collect(),
            invites: chat.invites.iter().map(invite).collect(),
            blocked_by: chat.blocked_by.iter().map(UserId::to_string).collect(),
            request_of: chat.request_of.as_ref().map(UserId::to_string).unwrap_or_default(),
        }
    }
}

impl TryFrom<log::Chat> for Chat {
    type Error = Malformed;
    fn try_from(wire: log::Chat) -> Result<Self, Malformed> {
        bounded("chat.left", wire.left.len(), LEFT_MAX)?;
        bounded("chat.invites", wire.invites.len(), INVITES_MAX)?;
        bounded("chat.blocked_by", wire.blocked_by.len(), 2)?;
        let blocked_by = wire.blocked_by.iter().map(|name| user("chat.blocked_by", name));
        let settings = require("chat.settings", wire.settings)?;
        bounded("chat.name", settings.name.len(), NAME_MAX_BYTES)?;
        let left = |left: log::ChatLeft| Ok((user("chat.left.user", &left.user)?, Offset::new(left.offset)));
        let invite = |wire: log::ChatInvite| {
            let made_by = user("chat.invite.made_by", &wire.made_by)?;
            let log::ChatInvite { expires_at_ms, uses_max, uses, .. } = wire;
            let invite = Invite { made_by, expires_at_ms, uses_max, uses };
            Ok((invite_hash("chat.invite", &wire.hash)?, invite))
        };
        Ok(Self {
            settings: Settings {
                name: settings.name,
                avatar: media(&settings.avatar)?,
                expiry_ms: settings.expiry_ms,
                inviters: member_role("chat.inviters", settings.inviters)?,
                writers: member_role("chat.writers", settings.writers)?,
            },
            left: wire.left.into_iter().map(left).collect::<Result<_, Malformed>>()?,
            invites: wire.invites.into_iter().map(invite).collect::<Result<_, Malformed>>()?,
            blocked_by: blocked_by.collect::<Result<_, Malformed>>()?,
            request_of: match wire.request_of.as_str() {
                "" => None,
                name => Some(user("chat.request_of", name)?),
            },
        })
    }
}

/// A member in a fold. One who has been there from the first entry on says no more than a role.
pub fn wire_member(user: &UserId, member: Member) -> log::Member {
    let unless_first = |at: Offset| if at == Offset::FIRST { 0 } else { at.get() };
    log::Member {
        user: user.to_string(),
        role: member.role as i32,
        joined_at: unless_first(member.joined_at),
        changed_at: unless_first(member.changed_at),
    }
}

/// A member of a fold.
///
/// # Errors
/// [`Malformed`] when the name or the role is none.
pub fn member(wire: &log::Member) -> Result<(UserId, Member), Malformed> {
    let at = |number: u64| Offset::new(number.max(1));
    let (joined_at, changed_at) = (at(wire.joined_at), at(wire.changed_at));
    Ok((user("member.user", &wire.user)?, Member { role: role(wire.role)?, joined_at, changed_at }))
}

fn member_role(field: &'static str, number: u32) -> Result<MemberRole, Malformed> {
    let unknown = || Malformed::value(field, number, "it is not known");
    role(i32::try_from(number).map_err(|_| unknown())?).map_err(|_| unknown())
}

fn hash_bytes(hash: &InviteHash) -> Bytes {
    Bytes::copy_from_slice(&hash.0)
}

fn invite_hash(field: &'static str, bytes: &[u8]) -> Result<InviteHash, Malformed> {
    let wrong = |_| Malformed::value(field, format!("{} bytes", bytes.len()), "it needs 32 bytes");
    bytes.try_into().map(InviteHash).map_err(wrong)
}

fn media_text(media: Option<&MediaId>) -> String {
    media.map(|media| media.as_str().to_owned()).unwrap_or_default()
}

/// A picture; empty: none.
fn media(text: &str) -> Result<Option<MediaId>, Malformed> {
    if text.is_empty() {
        return Ok(None);
    }
    MediaId::new(text).map(Some).map_err(|error| Malformed::value("chat.avatar", "no media id", error.why))
}

#[cfg(test)]
mod tests;
