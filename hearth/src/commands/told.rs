//! What happens in a chat as JSON, one object a line. Fields are added, never renamed.

use client::{Entry, EntryBody, Event, Reached, Receipt};
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
        // Something that a newer library tells.
        _ => json!({ "event": "unknown" }),
    }
}

fn receipt(receipt: &Receipt) -> Value {
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
        _ => "unknown",
    }
    .into();
    if entry.salvaged {
        line["salvaged"] = true.into();
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
        _ => {}
    }
    line
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
