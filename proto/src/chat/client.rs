//! Chats as their members see them: roles and kinds by name, and of an invite's secret only what it is named by.

use crate::{
    client::{self, chat_change::Change},
    convert::Malformed,
};
use types::{
    MemberRole,
    chat::{About, ChatChange, InviteHash, MemberChange, MessageKind, NewInvite, Reference, SettingsChange},
};

/// The name of a role.
pub const fn role_name(role: MemberRole) -> &'static str {
    match role {
        MemberRole::Member => "member",
        MemberRole::Admin => "admin",
        MemberRole::Owner => "owner",
    }
}

/// A role by its name.
///
/// # Errors
/// [`Malformed`] names the field and what may stand there.
pub fn parse_role(field: &'static str, text: &str) -> Result<MemberRole, Malformed> {
    let known = [MemberRole::Member, MemberRole::Admin, MemberRole::Owner];
    known.into_iter().find(|role| role_name(*role) == text).ok_or_else(|| {
        Malformed::value(field, format!("{:?}", cut(text)), "it is none of member, admin and owner")
    })
}

/// The name of a kind of message.
pub const fn kind_name(kind: MessageKind) -> &'static str {
    match kind {
        MessageKind::Text => "text",
        MessageKind::Media => "media",
        MessageKind::System => "system",
        MessageKind::Reaction => "reaction",
        MessageKind::Edit => "edit",
    }
}

/// A kind of message by its name; empty: text.
///
/// # Errors
/// [`Malformed`] names the field and what may stand there.
pub fn parse_kind(field: &'static str, text: &str) -> Result<MessageKind, Malformed> {
    if text.is_empty() {
        return Ok(MessageKind::Text);
    }
    MessageKind::ALL.into_iter().find(|kind| kind_name(*kind) == text).ok_or_else(|| {
        let why = "it is none of text, media, system, reaction and edit";
        Malformed::value(field, format!("{:?}", cut(text)), why)
    })
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

/// What a message is beside its body: its kind, left out where it is text, and what it refers to.
pub(crate) fn about_to_client(about: &About) -> (String, Option<client::Reference>) {
    let kind = if about.kind == MessageKind::Text { "" } else { kind_name(about.kind) };
    (kind.to_owned(), about.refers_to.as_ref().map(reference))
}

fn reference(reference: &Reference) -> client::Reference {
    client::Reference {
        sender: reference.key.sender.to_string(),
        device: reference.key.device.get(),
        message_id: reference.key.message_id.to_string(),
        offset: reference.offset.get(),
    }
}

/// A change as members see it.
pub(crate) fn client_chat_change(change: &ChatChange) -> client::ChatChange {
    let named = |hash: &InviteHash| client::InviteName { invite: hash.to_string() };
    let change = match change {
        ChatChange::Members(changes) => {
            let change = |MemberChange { user, role }: &MemberChange| client::MemberChange {
                user: user.to_string(),
                role: role.map(role_name).unwrap_or_default().to_owned(),
            };
            Change::Members(client::MemberChanges { changes: changes.iter().map(change).collect() })
        }
        ChatChange::Settings(change) => Change::Settings(settings(change)),
        ChatChange::InviteMade(NewInvite { hash, lifetime_ms, uses_max }) => {
            Change::InviteMade(client::InviteMade {
                invite: hash.to_string(),
                lifetime_ms: *lifetime_ms,
                uses_max: *uses_max,
            })
        }
        ChatChange::InviteRevoked(hash) => Change::InviteRevoked(named(hash)),
        ChatChange::Joined(hash) => Change::Joined(named(hash)),
    };
    client::ChatChange { change: Some(change) }
}

fn settings(change: &SettingsChange) -> client::SettingsChange {
    let SettingsChange { name, avatar, expiry_ms, inviters, writers } = change;
    let role = |role: &Option<MemberRole>| role.map(|role| role_name(role).to_owned());
    client::SettingsChange {
        name: name.clone(),
        avatar: avatar
            .as_ref()
            .map(|avatar| avatar.as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default()),
        expiry_ms: *expiry_ms,
        inviters: role(inviters),
        writers: role(writers),
    }
}
