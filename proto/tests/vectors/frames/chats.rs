//! Examples of what is said of chats beside messages.

use super::{AT_MS, FIRST, SECOND, answer, log, token};
use proto::client::{
    ChangeMembers, ChangeSettings, ChatChange, ChatInfo, ChatMember, DeleteMessages, Invite, InviteMade,
    InviteName, InvitesPage, JoinChat, MakeInvite, MemberChange, MemberChanges, MembersPage, ReadChat,
    ReadInvites, ReadMembers, Reference, Removed, RevokeInvite, ServerFrame, SettingsChange,
    chat_change::Change, client_frame::Frame as Ask, entry, server_frame::Frame as Say,
};

const INVITE: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";

pub(super) fn reference() -> Reference {
    Reference { sender: "alice".to_owned(), device: 7_301, message_id: FIRST.to_owned(), offset: 2 }
}

fn members() -> Vec<MemberChange> {
    let change = |user: &str, role: &str| MemberChange { user: user.to_owned(), role: role.to_owned() };
    vec![change("carol", "admin"), change("bob", "")]
}

fn settings() -> SettingsChange {
    SettingsChange {
        name: Some(b"sealed".to_vec().into()),
        avatar: Some("picture-1".to_owned()),
        expiry_ms: Some(86_400_000),
        inviters: Some("member".to_owned()),
        writers: Some("admin".to_owned()),
    }
}

pub(super) fn asked() -> Vec<(&'static str, Ask)> {
    let (log, message_id) = (|| log().to_string(), || SECOND.to_owned());
    let secret = || vec![7; 16].into();
    vec![
        (
            "change members",
            Ask::ChangeMembers(ChangeMembers { log: log(), message_id: message_id(), changes: members() }),
        ),
        (
            "change the terms",
            Ask::ChangeSettings(ChangeSettings {
                log: log(),
                message_id: message_id(),
                change: Some(settings()),
            }),
        ),
        (
            "make an invite",
            Ask::MakeInvite(MakeInvite {
                log: log(),
                message_id: message_id(),
                secret: secret(),
                lifetime_ms: 86_400_000,
                uses_max: 3,
            }),
        ),
        (
            "revoke an invite",
            Ask::RevokeInvite(RevokeInvite {
                log: log(),
                message_id: message_id(),
                invite: INVITE.to_owned(),
            }),
        ),
        (
            "join by an invite",
            Ask::JoinChat(JoinChat { log: log(), message_id: message_id(), secret: secret() }),
        ),
        (
            "delete a message",
            Ask::DeleteMessages(DeleteMessages {
                log: log(),
                message_id: message_id(),
                messages: vec![reference()],
            }),
        ),
        ("read a chat", Ask::ReadChat(ReadChat { log: log() })),
        ("read members", Ask::ReadMembers(ReadMembers { log: log(), after: "bob".to_owned(), limit: 20 })),
        ("read invites", Ask::ReadInvites(ReadInvites { log: log() })),
    ]
}

pub(super) fn answers() -> Vec<(&'static str, ServerFrame)> {
    let log = || log().to_string();
    let info = ChatInfo {
        log: log(),
        name: b"sealed".to_vec().into(),
        avatar: "picture-1".to_owned(),
        expiry_ms: 86_400_000,
        inviters: "admin".to_owned(),
        writers: "member".to_owned(),
        members: 2,
        role: "owner".to_owned(),
        created_at_ms: AT_MS,
    };
    let member = ChatMember { user: "alice".to_owned(), role: "owner".to_owned(), joined_at: 1 };
    let invite = Invite {
        invite: INVITE.to_owned(),
        made_by: "alice".to_owned(),
        expires_at_ms: AT_MS,
        uses_max: 3,
        uses: 1,
    };
    vec![
        answer("removed", 0, Say::Removed(Removed { log: log(), position: token(9), offset: 9 })),
        answer("chat info", 16, Say::ChatInfo(info)),
        answer(
            "members page",
            17,
            Say::MembersPage(MembersPage { log: log(), members: vec![member], at_end: true }),
        ),
        answer("invites page", 18, Say::InvitesPage(InvitesPage { log: log(), invites: vec![invite] })),
    ]
}

/// An entry of every kind of change.
pub(super) fn changes() -> Vec<entry::Body> {
    let name = || InviteName { invite: INVITE.to_owned() };
    let made = InviteMade { invite: INVITE.to_owned(), lifetime_ms: 86_400_000, uses_max: 3 };
    let changes = [
        Change::Members(MemberChanges { changes: members() }),
        Change::Settings(settings()),
        Change::InviteMade(made),
        Change::InviteRevoked(name()),
        Change::Joined(name()),
    ];
    changes.map(|change| entry::Body::Chat(ChatChange { change: Some(change) })).into()
}
