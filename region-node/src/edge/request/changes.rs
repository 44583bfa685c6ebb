//! Changes that clients ask of a chat, checked: each becomes one entry.

use super::{Message, bad, log, message_id, user};
use crate::service::Beside;
use bytes::Bytes;
use proto::client;
use types::{
    AckPolicy, Code, DedupKey, DeviceId, EntryBody, LogId, MemberRole, Offset, Refusal,
    account::MediaId,
    chat::{
        About, ChatChange, INVITE_LIFETIME_MAX_MS, InviteHash, MEMBER_CHANGES_MAX, MemberChange, MessageKind,
        NAME_MAX_BYTES, NewInvite, Reference, SECRET_BYTES, SettingsChange,
    },
    limits,
};

/// How long an invite can be used where its maker does not say, in ms.
const INVITE_LIFETIME_DEFAULT_MS: u64 = 7 * 24 * 3_600_000;

fn change(log: LogId, id: &str, body: EntryBody, beside: Beside) -> Result<Message, Refusal> {
    Ok(Message {
        log,
        message_id: message_id("message_id", id)?,
        after: None,
        body,
        ack: AckPolicy::Replicated,
        deadline_ms: limits::DEADLINE_DEFAULT_MS,
        beside,
    })
}

fn chat_change(log: LogId, id: &str, of: ChatChange) -> Result<Message, Refusal> {
    change(log, id, EntryBody::Chat(Box::new(of)), Beside::default())
}

/// What a message is beside its body; `None`: a text that refers to nothing.
pub(super) fn about(kind: &str, refers_to: Option<client::Reference>) -> Result<Option<Box<About>>, Refusal> {
    let kind = proto::parse_kind("kind", kind).map_err(bad)?;
    let refers_to = refers_to.map(|wire| reference("refers_to", &wire)).transpose()?;
    if kind.needs_reference() && refers_to.is_none() {
        let kind = proto::kind_name(kind);
        return Err(bad(format_args!("field refers_to is missing, and a message of kind {kind} needs it")));
    }
    let about = About { kind, refers_to };
    let says_nothing = about.kind == MessageKind::Text && about.refers_to.is_none();
    Ok((!says_nothing).then(|| Box::new(about)))
}

fn reference(field: &str, wire: &client::Reference) -> Result<Reference, Refusal> {
    let sender = user(&format!("{field}.sender"), &wire.sender)?;
    let id = message_id(&format!("{field}.message_id"), &wire.message_id)?;
    Ok(Reference::new(sender, DeviceId::new(wire.device), id, Offset::new(wire.offset)))
}

pub(crate) fn members(wire: &client::ChangeMembers) -> Result<Message, Refusal> {
    let log = log(&wire.log)?;
    let count = wire.changes.len();
    if count == 0 || count > MEMBER_CHANGES_MAX {
        let code = if count == 0 { Code::BadRequest } else { Code::TooLarge };
        let why = format!("field changes names {count} users, not 1 to {MEMBER_CHANGES_MAX}");
        return Err(Refusal::new(code, why));
    }
    let one = |wire: &client::MemberChange| {
        Ok(MemberChange { user: user("changes.user", &wire.user)?, role: role("changes.role", &wire.role)? })
    };
    let changes = wire.changes.iter().map(one).collect::<Result<_, Refusal>>()?;
    chat_change(log, &wire.message_id, ChatChange::Members(changes))
}

/// A role by its name; empty: none.
fn role(field: &'static str, name: &str) -> Result<Option<MemberRole>, Refusal> {
    if name.is_empty() {
        return Ok(None);
    }
    proto::parse_role(field, name).map(Some).map_err(bad)
}

pub(crate) fn settings(wire: client::ChangeSettings) -> Result<Message, Refusal> {
    let log = log(&wire.log)?;
    let client::SettingsChange { name, avatar, expiry_ms, inviters, writers } =
        wire.change.unwrap_or_default();
    if let Some(bytes) = name.as_ref().map(Bytes::len).filter(|bytes| *bytes > NAME_MAX_BYTES) {
        let why = format!("field name has {bytes} bytes, and {NAME_MAX_BYTES} are allowed");
        return Err(Refusal::new(Code::TooLarge, why));
    }
    let lowest = |field, name: Option<String>| match name.as_deref() {
        None => Ok(None),
        Some(name) => proto::parse_role(field, name).map(Some).map_err(bad),
    };
    let change = SettingsChange {
        name,
        avatar: avatar.as_deref().map(picture).transpose()?,
        expiry_ms,
        inviters: lowest("inviters", inviters)?,
        writers: lowest("writers", writers)?,
    };
    chat_change(log, &wire.message_id, ChatChange::Settings(change))
}

/// A picture; empty: none.
fn picture(text: &str) -> Result<Option<MediaId>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    MediaId::new(text).map(Some).map_err(|error| bad(format_args!("field avatar: {error}")))
}

pub(crate) fn invite(wire: &client::MakeInvite) -> Result<Message, Refusal> {
    let log = log(&wire.log)?;
    let lifetime_ms = match wire.lifetime_ms {
        0 => INVITE_LIFETIME_DEFAULT_MS,
        ms if ms > INVITE_LIFETIME_MAX_MS => {
            let max = INVITE_LIFETIME_MAX_MS;
            return Err(bad(format_args!("field lifetime_ms is {ms}, and {max} is the longest")));
        }
        ms => ms,
    };
    let uses_max = if wire.uses_max == 0 { limits::MEMBERS_MAX as u32 } else { wire.uses_max };
    let new = NewInvite { hash: secret(log, &wire.secret)?, lifetime_ms, uses_max };
    chat_change(log, &wire.message_id, ChatChange::InviteMade(new))
}

fn secret(log: LogId, secret: &[u8]) -> Result<InviteHash, Refusal> {
    if !SECRET_BYTES.contains(&secret.len()) {
        let (bytes, min, max) = (secret.len(), SECRET_BYTES.start(), SECRET_BYTES.end());
        return Err(bad(format_args!("field secret has {bytes} bytes, not {min} to {max}")));
    }
    Ok(InviteHash::of(log, secret))
}

pub(crate) fn revocation(wire: &client::RevokeInvite) -> Result<Message, Refusal> {
    let log = log(&wire.log)?;
    let hash = InviteHash::parse(&wire.invite).ok_or_else(|| bad("field invite names no invite"))?;
    chat_change(log, &wire.message_id, ChatChange::InviteRevoked(hash))
}

pub(crate) fn joining(wire: &client::JoinChat) -> Result<Message, Refusal> {
    let log = log(&wire.log)?;
    chat_change(log, &wire.message_id, ChatChange::Joined(secret(log, &wire.secret)?))
}

pub(crate) fn deletion(wire: &client::DeleteMessages) -> Result<Message, Refusal> {
    let log = log(&wire.log)?;
    let count = wire.messages.len();
    if count == 0 || count > limits::DELETED_OFFSETS_MAX {
        let code = if count == 0 { Code::BadRequest } else { Code::TooLarge };
        let max = limits::DELETED_OFFSETS_MAX;
        return Err(Refusal::new(code, format!("field messages names {count} messages, not 1 to {max}")));
    }
    let key = |wire: &client::Reference| reference("messages", wire).map(|reference| reference.key);
    let deletes = wire.messages.iter().map(key).collect::<Result<Vec<DedupKey>, _>>()?;
    let body = EntryBody::Deleted { offsets: Vec::new() };
    change(log, &wire.message_id, body, Beside { about: None, deletes })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0192c1de-1111-7000-8000-000000000001";

    fn chat() -> String {
        LogId::group([1; 16]).to_string()
    }

    #[test]
    fn a_reaction_and_an_edit_need_what_they_refer_to() {
        for kind in ["reaction", "edit"] {
            let refusal = about(kind, None).expect_err("it refers to nothing");
            assert!(refusal.message.contains("refers_to") && refusal.message.contains(kind), "{refusal}");
        }
        assert_eq!(about("", None), Ok(None));
        assert_eq!(about("text", None), Ok(None));
        let media = about("media", None).expect("it is valid").expect("it says something");
        assert_eq!((media.kind, media.refers_to), (MessageKind::Media, None));
        assert_eq!(about("shout", None).map_err(|refusal| refusal.code), Err(Code::BadRequest));
        let reply = client::Reference { sender: "bob".into(), device: 7, message_id: ID.into(), offset: 3 };
        let told = about("", Some(reply)).expect("it is valid").expect("it replies");
        assert_eq!(
            told.refers_to.map(|to| (to.key.sender.to_string(), to.offset.get())),
            Some(("bob".into(), 3))
        );
    }

    #[test]
    fn bounds_are_told_with_both_numbers() {
        let (log, message_id) = (chat(), ID.to_owned());
        let refused = [
            members(&client::ChangeMembers {
                log: log.clone(),
                message_id: message_id.clone(),
                changes: vec![client::MemberChange::default(); MEMBER_CHANGES_MAX + 1],
            }),
            settings(client::ChangeSettings {
                log: log.clone(),
                message_id: message_id.clone(),
                change: Some(client::SettingsChange {
                    name: Some(vec![0; 257].into()),
                    ..Default::default()
                }),
            }),
            deletion(&client::DeleteMessages {
                log,
                message_id,
                messages: vec![client::Reference::default(); 257],
            }),
        ];
        for refusal in refused.map(|answer| answer.expect_err("over a bound")) {
            assert_eq!(refusal.code, Code::TooLarge);
            assert!(refusal.message.contains("257") && refusal.message.contains("256"), "{refusal}");
        }
    }

    #[test]
    fn a_short_secret_makes_no_invite_and_opens_nothing() {
        let secret = Bytes::from_static(b"15 bytes, short");
        let (log, message_id) = (chat(), ID.to_owned());
        let make = client::MakeInvite {
            log: log.clone(),
            message_id: message_id.clone(),
            secret: secret.clone(),
            ..Default::default()
        };
        assert!(invite(&make).is_err_and(|refusal| refusal.message.contains("15 bytes, not 16 to 64")));
        assert!(joining(&client::JoinChat { log, message_id, secret }).is_err());
    }
}
