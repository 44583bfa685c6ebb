//! Entries and refusals as clients see them.

use crate::{
    Malformed,
    account::client_account_change,
    chat::{about_to_client, client_chat_change, role_name},
    client,
};
use types::{AckPolicy, Body, EntryBody, PositionToken, Record, Refusal, RegionId};

/// An entry as clients see it; a record that is no entry is none.
pub fn client_entry(record: &Record) -> Option<client::Entry> {
    let (Body::Entry(entry), Some(position)) = (&record.body, record.position()) else { return None };
    let body = match &entry.body {
        EntryBody::Created { members, ack_policy, allowed_regions } => {
            client::entry::Body::Created(client::Created {
                members: members
                    .iter()
                    .map(|(user, role)| client::Member {
                        user: user.to_string(),
                        role: role_name(*role).to_owned(),
                    })
                    .collect(),
                ack_policy: ack_policy_to_client(*ack_policy).into(),
                allowed_regions: allowed_regions.iter().map(RegionId::to_string).collect(),
            })
        }
        EntryBody::Message { ciphertext } => client::entry::Body::Ciphertext(ciphertext.clone()),
        EntryBody::Deleted { offsets } => client::entry::Body::Deleted(client::Deleted {
            offsets: offsets.iter().map(|offset| offset.get()).collect(),
        }),
        EntryBody::Account(change) => client::entry::Body::Account(client_account_change(change)),
        EntryBody::Chat(change) => client::entry::Body::Chat(client_chat_change(change)),
        EntryBody::Erased { .. } => client::entry::Body::Erased(client::Erased {}),
    };
    let (kind, refers_to) = entry.about.as_deref().map(about_to_client).unwrap_or_default();
    Some(client::Entry {
        position: PositionToken::seal(record.log, position).into(),
        offset: entry.offset.get(),
        sender: entry.sender.to_string(),
        device: entry.device.get(),
        message_id: entry.message_id.to_string(),
        accepted_at_ms: record.accepted_at_ms,
        expires_at_ms: entry.expires_at_ms,
        salvaged: entry.salvaged,
        kind,
        refers_to,
        body: Some(body),
    })
}

/// A refusal as clients see it.
pub fn client_error(refusal: &Refusal) -> client::Error {
    client::Error {
        code: refusal.code.as_str().to_owned(),
        message: refusal.message.clone(),
        retryable: refusal.is_retryable(),
        indeterminate: refusal.is_indeterminate(),
        retry_after_ms: refusal.retry_after_ms,
        ..client::Error::default()
    }
}

/// The wire's word for an ack policy.
pub const fn ack_policy_to_client(policy: AckPolicy) -> client::AckPolicy {
    match policy {
        AckPolicy::Home => client::AckPolicy::Home,
        AckPolicy::Replicated => client::AckPolicy::Replicated,
    }
}

/// A client's ack policy; unset means `home`.
///
/// # Errors
/// [`Malformed`] for a number that is not known.
pub fn ack_policy_from_client(number: i32) -> Result<AckPolicy, Malformed> {
    // The client protocol and the log share the numbers; `record` holds the one table.
    crate::record::ack_policy(number)
}
