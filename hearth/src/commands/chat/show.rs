//! How entries read.

use super::people::People;
use crate::commands::screen::Line;
use client::{ChatChange, Entry, EntryBody, MemberRole, Message, MessageKind, SettingsChange};
use types::UserId;

/// What is shown of an entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// Somebody said something.
    Line(Line),
    /// Something happened.
    Note(String),
    Nothing,
}

/// What an entry reads like; `name` says what somebody is called.
pub(super) fn entry(entry: &Entry, name: impl Fn(&UserId) -> String) -> Shown {
    let text = match &entry.body {
        EntryBody::Message(body) => {
            let refers_to = entry.refers_to.as_ref().map(|to| to.offset);
            said(entry.kind, refers_to, &String::from_utf8_lossy(body))
        }
        EntryBody::Erased => "(deleted)".to_owned(),
        EntryBody::Deleted(offsets) => {
            let numbers: Vec<String> = offsets.iter().map(|offset| format!("[{offset}]")).collect();
            return Shown::Note(format!("{} deleted {}", name(&entry.sender), numbers.join(" ")));
        }
        EntryBody::Changed(of) => return changed(&entry.sender, of, name),
        _ => return Shown::Nothing,
    };
    let text = if entry.salvaged { format!("{text} (came back after a failover)") } else { text };
    Shown::Line(Line { sender: name(&entry.sender), text, number: Some(entry.offset) })
}

/// A message, with what it refers to.
pub(super) fn said(kind: MessageKind, refers_to: Option<u64>, body: &str) -> String {
    let to = match refers_to {
        None | Some(0) => String::new(),
        Some(offset) => format!(" [{offset}]"),
    };
    match (kind, refers_to) {
        (MessageKind::Text, None) => body.to_owned(),
        (MessageKind::Text, Some(_)) => format!("(to{to}) {body}"),
        (MessageKind::Reaction, _) => format!("(feels about{to}) {body}"),
        (MessageKind::Edit, _) => format!("(now says{to}) {body}"),
        (MessageKind::Media, _) => format!("(media) {body}"),
        (MessageKind::System, _) => format!("(system) {body}"),
    }
}

/// An own message that was just written.
pub(super) fn own(message: &Message, text: &str) -> String {
    said(message.kind, message.refers_to.as_ref().map(|to| to.offset), text)
}

fn changed(sender: &UserId, change: &ChatChange, name: impl Fn(&UserId) -> String) -> Shown {
    let by = name(sender);
    Shown::Note(match change {
        ChatChange::Members(changes) => {
            let told = changes.iter().map(|(user, role)| match (user == sender, role) {
                (true, None) => format!("{by} left"),
                (false, None) => format!("{by} removed {}", name(user)),
                (_, Some(MemberRole::Member)) => format!("{by} made {} a member", name(user)),
                (_, Some(role)) => format!("{by} made {} {}", name(user), proto::role_name(*role)),
            });
            told.collect::<Vec<_>>().join(", ")
        }
        ChatChange::Settings(change) => format!("{by} changed {}", settings(change)),
        ChatChange::InviteMade { .. } => format!("{by} made an invite"),
        ChatChange::InviteRevoked(_) => format!("{by} took an invite back"),
        ChatChange::Joined(_) => format!("{by} came by an invite"),
        _ => return Shown::Nothing,
    })
}

fn settings(change: &SettingsChange) -> String {
    let mut told = Vec::new();
    if let Some(name) = &change.name {
        told.push(format!("the name to {}", String::from_utf8_lossy(name)));
    }
    if change.avatar.is_some() {
        told.push("the picture".to_owned());
    }
    match change.expiry_ms {
        None => {}
        Some(0) => told.push("messages to stay for good".to_owned()),
        Some(ms) => told.push(format!("messages to stay for {} s", ms.div_ceil(1_000))),
    }
    if let Some(role) = change.inviters {
        told.push(format!("who may invite to {}", proto::role_name(role)));
    }
    if let Some(role) = change.writers {
        told.push(format!("who may write to {}", proto::role_name(role)));
    }
    told.join(", ")
}

impl People {
    /// [`entry`] by the names that are known here.
    pub(super) fn show(&self, of: &Entry) -> Shown {
        entry(of, |user| self.name(user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::{EntryKey, Reference};
    use types::{DeviceId, MessageId};

    fn user(name: &str) -> UserId {
        UserId::new(name).expect("a valid name")
    }

    fn said_by_ann(body: EntryBody) -> Entry {
        Entry {
            position: "token".into(),
            offset: 9,
            sender: user("ann"),
            device: DeviceId::new(1),
            message_id: MessageId::from_bytes([1; 16]),
            accepted_at_ms: 0,
            expires_at_ms: None,
            salvaged: false,
            kind: MessageKind::Text,
            refers_to: None,
            body,
        }
    }

    #[test]
    fn an_entry_reads_like_what_happened() {
        let read = |entry: &Entry| match self::entry(entry, UserId::to_string) {
            Shown::Line(line) => line.text,
            Shown::Note(note) => note,
            Shown::Nothing => String::new(),
        };
        let mut reaction = said_by_ann(EntryBody::Message("+1".into()));
        reaction.kind = MessageKind::Reaction;
        reaction.refers_to = Some(Reference {
            key: EntryKey { sender: user("ben"), device: DeviceId::new(2), message_id: reaction.message_id },
            offset: 4,
        });
        assert_eq!(read(&reaction), "(feels about [4]) +1");
        let changes = vec![
            (user("ann"), None),
            (user("ben"), None),
            (user("cem"), Some(MemberRole::Admin)),
            (user("dan"), Some(MemberRole::Member)),
        ];
        assert_eq!(
            read(&said_by_ann(EntryBody::Changed(ChatChange::Members(changes)))),
            "ann left, ann removed ben, ann made cem admin, ann made dan a member"
        );
        assert_eq!(read(&said_by_ann(EntryBody::Deleted(vec![3, 4]))), "ann deleted [3] [4]");
        let settings = SettingsChange { expiry_ms: Some(1_500), ..Default::default() };
        let settings = EntryBody::Changed(ChatChange::Settings(settings));
        assert_eq!(read(&said_by_ann(settings)), "ann changed messages to stay for 2 s");
    }
}
