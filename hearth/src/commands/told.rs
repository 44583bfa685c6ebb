//! What happens in a chat as JSON, one object a line. Fields are added, never renamed.

use client::{
    ChatChange, Entry, EntryBody, Event, MessageKind, Presence, Reached, Receipt, Reference,
    account::ListedChat,
};
use serde_json::{Value, json};
use types::{AckPolicy, LogId};

/// An event as a line.
pub(super) fn event(event: &Event) -> Value {
    match event {
        Event::Connected { edge, region, node, one_region } => json!({
            "event": "connected", "edge": edge, "region": region, "node": node, "one_region": one_region,
        }),
        Event::Disconnected { reason, retry_in_ms } => {
            json!({ "event": "disconnected", "reason": reason, "retry_in_ms": retry_in_ms })
        }
        Event::Following { log, position, offset } => json!({
            "event": "following", "log": log, "position": position.as_str(), "offset": offset,
        }),
        Event::Entry { log, entry: of } => entry("entry", *log, of),
        Event::Moved { log, entry: of } => entry("moved", *log, of),
        Event::Diverged { log, common_offset, undone, forgotten } => json!({
            "event": "diverged", "log": log, "common_offset": common_offset,
            "undone": undone, "forgotten": forgotten,
        }),
        Event::Accepted { log, message_id } => {
            json!({ "event": "queued", "log": log, "message_id": message_id })
        }
        Event::Home { log, message_id, position, offset, last } => json!({
            "event": "home", "log": log, "message_id": message_id,
            "position": position.as_str(), "offset": offset, "last": last,
        }),
        Event::Replicated { log, message_id, position, offset } => json!({
            "event": "replicated", "log": log, "message_id": message_id,
            "position": position.as_str(), "offset": offset,
        }),
        Event::ReplicatedUpTo { log, offset } => {
            json!({ "event": "replicated_up_to", "log": log, "offset": offset })
        }
        Event::Failed { log, message_id, error } => json!({
            "event": "failed", "log": log, "message_id": message_id, "error": error.to_string(),
            "retryable": error.is_retryable(), "indeterminate": error.is_indeterminate(),
        }),
        Event::Unfollowed { log, error } => {
            json!({ "event": "unfollowed", "log": log, "code": error.code, "error": error.message })
        }
        Event::Ended { error } => json!({ "event": "ended", "code": error.code, "error": error.message }),
        Event::Receipts { log, receipts } => json!({
            "event": "receipts", "log": log, "receipts": receipts.iter().map(receipt).collect::<Vec<_>>(),
        }),
        Event::Typing { log, user, ttl_ms } => {
            json!({ "event": "typing", "log": log, "user": user, "ttl_ms": ttl_ms })
        }
        Event::Presence(Presence { user, online, last_seen_ms }) => json!({
            "event": "presence", "user": user, "online": online, "last_seen_ms": last_seen_ms,
        }),
        // Something that a newer library tells.
        _ => json!({ "event": "unknown" }),
    }
}

/// How far a user has come.
pub(super) fn receipt(receipt: &Receipt) -> Value {
    let place = |place: &Reached| json!({ "position": place.position.as_str(), "offset": place.offset, "at_ms": place.at_ms });
    let (delivered, read) = (receipt.delivered.as_ref().map(place), receipt.read.as_ref().map(place));
    json!({ "user": receipt.user, "delivered": delivered, "read": read })
}

/// An entry as a line: `text` where the body is text, `bytes` otherwise.
pub(super) fn entry(event: &str, log: LogId, entry: &Entry) -> Value {
    let mut line = json!({
        "event": event,
        "log": log,
        "offset": entry.offset,
        "position": entry.position.as_str(),
        "sender": entry.sender,
        "device": entry.device.get().to_string(),
        "message_id": entry.message_id,
        "accepted_at_ms": entry.accepted_at_ms,
    });
    line["kind"] = match &entry.body {
        EntryBody::Message(_) => "message",
        EntryBody::Created { .. } => "created",
        EntryBody::Deleted(_) => "deleted",
        EntryBody::Erased => "erased",
        EntryBody::Changed(_) => "changed",
        _ => "unknown",
    }
    .into();
    if entry.salvaged {
        line["salvaged"] = true.into();
    }
    if entry.kind != MessageKind::Text {
        line["message_kind"] = proto::kind_name(entry.kind).into();
    }
    if let Some(Reference { key, offset }) = &entry.refers_to {
        line["refers_to"] = json!({
            "sender": key.sender, "device": key.device.get().to_string(), "message_id": key.message_id,
            "offset": offset,
        });
    }
    if let Some(at_ms) = entry.expires_at_ms {
        line["expires_at_ms"] = at_ms.into();
    }
    match &entry.body {
        EntryBody::Created { ack, .. } => {
            line["ack"] = if *ack == AckPolicy::Replicated { "replicated" } else { "home" }.into();
        }
        EntryBody::Message(body) => match std::str::from_utf8(body) {
            Ok(text) => line["text"] = text.into(),
            Err(_) => line["bytes"] = body.to_vec().into(),
        },
        EntryBody::Deleted(offsets) => line["offsets"] = offsets.clone().into(),
        EntryBody::Changed(of) => line["change"] = change(of),
        _ => {}
    }
    line
}

fn change(change: &ChatChange) -> Value {
    match change {
        ChatChange::Members(changes) => {
            let role = |role: Option<client::MemberRole>| role.map(proto::role_name);
            let member = |(user, to): &(types::UserId, _)| json!({ "user": user, "role": role(*to) });
            json!({ "what": "members", "members": changes.iter().map(member).collect::<Vec<_>>() })
        }
        ChatChange::Settings(of) => json!({
            "what": "settings", "avatar": of.avatar, "expiry_ms": of.expiry_ms,
            "name": of.name.as_ref().map(|name| String::from_utf8_lossy(name)),
            "inviters": of.inviters.map(proto::role_name), "writers": of.writers.map(proto::role_name),
        }),
        ChatChange::InviteMade { invite, lifetime_ms, uses_max } => json!({
            "what": "invite_made", "invite": invite, "lifetime_ms": lifetime_ms, "uses_max": uses_max,
        }),
        ChatChange::InviteRevoked(invite) => json!({ "what": "invite_revoked", "invite": invite }),
        ChatChange::Joined(invite) => json!({ "what": "joined", "invite": invite }),
        _ => json!({ "what": "unknown" }),
    }
}

/// A chat of the user's list.
pub(super) fn listed(chat: &ListedChat, name: &str) -> Value {
    json!({
        "log": chat.log, "name": name, "with": chat.with, "members": chat.members,
        "head_offset": chat.head_offset, "head_at_ms": chat.head_at_ms, "read_offset": chat.read_offset,
        "unread": chat.unread, "unread_is_more": chat.unread_is_more,
        "muted_until_ms": chat.muted_until_ms, "archived": chat.archived, "pinned": chat.pinned,
        "last": chat.last.as_ref().map(|last| entry("last", chat.log, last)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::MessageId;

    #[test]
    fn a_line_names_what_happened() {
        let log = LogId::group([1; 16]);
        let message_id = MessageId::from_bytes([2; 16]);
        let line = event(&Event::Replicated { log, message_id, position: "token".into(), offset: 7 });
        assert_eq!(line["event"], "replicated");
        assert_eq!(line["message_id"], message_id.to_string());
        assert_eq!((&line["position"], &line["offset"]), (&json!("token"), &json!(7)));
        assert!(!line.to_string().contains('\n'));
    }
}
