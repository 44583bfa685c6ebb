//! Whether a write may be appended to its log: the rules of Hearth's chats, as pure functions.

mod account;
pub(crate) mod chat;

use crate::service::Write;
use log_store::fold::LogState;
use std::collections::BTreeMap;
use types::{
    AckPolicy, Class, Code, DedupKey, EntryBody, LogId, LogKind, MemberRole, Offset, Refusal, RegionId,
    UserId, chat::MessageKind, limits,
};

/// When a deletion for which there was no room should be tried again, in ms.
pub(super) const PENDING_RETRY_MS: u64 = 2_000;

/// What a write does to its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It becomes the log's next entry.
    Append,
    /// It creates what is there already, with the same members and policy: the first entry answers it.
    AlreadyCreated,
    /// A deletion that is put back: it becomes the next entry once its targets are found.
    Restore,
}

/// Judges a write against the state of its log; `None`: the log has no record.
pub(super) fn judge(
    write: &Write,
    state: Option<&LogState>,
    now_ms: u64,
    members_max: usize,
) -> Result<Verdict, Refusal> {
    if write.salvage.is_some() && write.expires_at_ms.is_some_and(|at_ms| at_ms <= now_ms) {
        let message = format!("the time of message {} in {} is over", write.message_id, write.log);
        return Err(Refusal::new(Code::Expired, message));
    }
    if write.log.kind() == LogKind::Account && !matches!(write.body, EntryBody::Account(_)) {
        let message = format!("{} is an account, and takes nothing but changes of it", write.log);
        return Err(Refusal::new(Code::BadRequest, message));
    }
    match (&write.body, state) {
        (EntryBody::Account(change), state) => account::judge(write, change, state),
        (EntryBody::Chat(change), state) => chat::judge(write, change, state, now_ms, members_max),
        (EntryBody::Created { .. }, _) if write.salvage.is_some() => {
            let message = format!("the creation of {} was never acked, and is not put back", write.log);
            Err(Refusal::new(Code::BadRequest, message))
        }
        (EntryBody::Erased { .. }, Some(state)) if write.salvage.is_some() => {
            role_of(write.log, state, &write.sender).map(|_| Verdict::Append)
        }
        (EntryBody::Deleted { .. }, Some(state)) if write.salvage.is_some() => {
            deleter(write, state).map(|()| Verdict::Restore)
        }
        (EntryBody::Created { members, ack_policy, allowed_regions }, state) => {
            let wanted = well_formed(write, members, allowed_regions)?;
            chat::has_room(write.log, wanted.len(), members_max)?;
            match state {
                None => Ok(Verdict::Append),
                Some(state)
                    if has_roles(state, &wanted)
                        && state.ack_policy == *ack_policy
                        && state.allowed_regions == *allowed_regions =>
                {
                    Ok(Verdict::AlreadyCreated)
                }
                Some(_) => Err(Refusal::new(
                    Code::ChatExists,
                    format!("chat {} exists with other members or another policy", write.log),
                )),
            }
        }
        (EntryBody::Erased { .. }, _) => {
            Err(Refusal::new(Code::BadRequest, "an erased body cannot be written"))
        }
        (_, None) => Err(unknown_chat(write.log)),
        (EntryBody::Message { ciphertext }, Some(state)) => {
            writer(write, state)?;
            let bytes = ciphertext.len();
            if bytes > limits::BODY_MAX_BYTES {
                let most = limits::BODY_MAX_BYTES;
                let message = format!("the body has {bytes} bytes, and {most} is the most");
                return Err(Refusal::new(Code::TooLarge, message));
            }
            Ok(Verdict::Append)
        }
        (EntryBody::Deleted { offsets }, Some(state)) => deletable(write, state, offsets),
    }
}

/// The refusal of whoever names a log that has no record.
pub(crate) fn unknown_chat(log: LogId) -> Refusal {
    Refusal::new(Code::UnknownChat, format!("there is no chat {log}"))
}

/// The role of a user in a log.
///
/// # Errors
/// `forbidden` for who is no member.
pub(crate) fn role_of(log: LogId, state: &LogState, user: &UserId) -> Result<MemberRole, Refusal> {
    let no_member = || Refusal::new(Code::Forbidden, format!("{user} is no member of chat {log}"));
    if log.kind() == LogKind::Account {
        return if LogId::account(user) == log { Ok(MemberRole::Owner) } else { Err(no_member()) };
    }
    state.members.get(user).map(|member| member.role).ok_or_else(no_member)
}

/// Up to where a user reads a log; `None`: all of it.
///
/// # Errors
/// `forbidden` for who is no member, and was none of late.
pub(crate) fn reads_until(log: LogId, state: &LogState, user: &UserId) -> Result<Option<Offset>, Refusal> {
    match role_of(log, state, user) {
        Ok(_) => Ok(None),
        Err(refusal) => state.left_at(user).map(Some).ok_or(refusal),
    }
}

fn has_roles(state: &LogState, wanted: &BTreeMap<UserId, MemberRole>) -> bool {
    let roles = state.members.iter().map(|(user, member)| (user, &member.role));
    roles.eq(wanted)
}

/// Who writes a message may; and edits only what is the user's own.
fn writer(write: &Write, state: &LogState) -> Result<(), Refusal> {
    if write.salvage.is_some() {
        return role_of(write.log, state, &write.sender).map(drop);
    }
    chat::allow(write.log, state, &write.sender, chat::Act::Write)?;
    chat::reaches(write.log, state, &write.sender)?;
    let Some(about) = write.beside.about.as_deref() else { return Ok(()) };
    match &about.refers_to {
        None if about.kind.needs_reference() => {
            let message = format!("a message to chat {} needs to say what it refers to", write.log);
            Err(Refusal::new(Code::BadRequest, message))
        }
        Some(refers_to) if about.kind == MessageKind::Edit && refers_to.key.sender != write.sender => {
            let author = &refers_to.key.sender;
            let message = format!("{} may not edit what {author} wrote in chat {}", write.sender, write.log);
            Err(Refusal::new(Code::Forbidden, message))
        }
        _ => Ok(()),
    }
}

/// Which promise a write is acked with.
pub(super) fn due(write: &Write, policy: AckPolicy, one_region: bool) -> AckPolicy {
    let wanted = write.body.class() == Class::Control
        || write.ack == AckPolicy::Replicated
        || policy == AckPolicy::Replicated;
    if wanted && !one_region { AckPolicy::Replicated } else { AckPolicy::Home }
}

fn well_formed(
    write: &Write,
    members: &[(UserId, MemberRole)],
    allowed_regions: &[RegionId],
) -> Result<BTreeMap<UserId, MemberRole>, Refusal> {
    let log = write.log;
    if members.len() > limits::MEMBERS_MAX || allowed_regions.len() > limits::REGIONS_MAX {
        let (members, regions) = (members.len(), allowed_regions.len());
        let message = format!("chat {log} would have {members} members and {regions} allowed regions");
        return Err(Refusal::new(Code::TooLarge, message));
    }
    let wanted: BTreeMap<UserId, MemberRole> = members.iter().cloned().collect();
    if wanted.len() != members.len() {
        return Err(Refusal::new(Code::BadRequest, format!("a member of chat {log} is named twice")));
    }
    match log.kind() {
        LogKind::Direct => {
            let mut users = wanted.keys();
            let pair = (users.next(), users.next(), users.next());
            let (Some(a), Some(b), None) = pair else {
                let message = format!("direct chat {log} needs two members, not {}", wanted.len());
                return Err(Refusal::new(Code::BadRequest, message));
            };
            if LogId::direct(a, b) != log {
                let message = format!("direct chat {log} is not that of {a} and {b}");
                return Err(Refusal::new(Code::BadRequest, message));
            }
        }
        LogKind::Group => {}
        LogKind::Account => {
            return Err(Refusal::new(Code::BadRequest, format!("{log} is an account, not a chat")));
        }
        LogKind::Partition => {
            return Err(Refusal::new(
                Code::BadRequest,
                format!("{log} belongs to a partition, and is no chat"),
            ));
        }
    }
    if !wanted.contains_key(&write.sender) {
        let message = format!("{} is not among the members of chat {log}", write.sender);
        return Err(Refusal::new(Code::Forbidden, message));
    }
    Ok(wanted)
}

fn deleter(write: &Write, state: &LogState) -> Result<(), Refusal> {
    let own = |key: &DedupKey| key.sender == write.sender;
    let is_own = match &write.salvage {
        None => !write.beside.deletes.is_empty() && write.beside.deletes.iter().all(own),
        Some(salvaged) => salvaged.targets.iter().all(|target| own(&target.key)),
    };
    if is_own {
        return role_of(write.log, state, &write.sender).map(drop);
    }
    chat::allow(write.log, state, &write.sender, chat::Act::DeleteOthers)
}

/// The refusal of a deletion in earlier partitions of a chat that already wait for too many.
pub(super) fn too_much_pending(log: LogId) -> Refusal {
    let message =
        format!("too much that was deleted in earlier partitions of chat {log} is not erased there yet");
    Refusal::new(Code::Overloaded, message).retry_after_ms(PENDING_RETRY_MS)
}

fn deletable(write: &Write, state: &LogState, offsets: &[Offset]) -> Result<Verdict, Refusal> {
    let log = write.log;
    deleter(write, state)?;
    let bad = |why: &str| Err(Refusal::new(Code::BadRequest, format!("the deletion in chat {log} {why}")));
    if offsets.is_empty() || offsets.len() > limits::DELETED_OFFSETS_MAX {
        return bad("names no offset, or too many");
    }
    if !offsets.is_sorted_by(|a, b| a < b) || offsets[0].is_zero() {
        return bad("names offsets that do not ascend from 1");
    }
    if offsets.last().is_some_and(|last| *last > state.head.offset) {
        return bad("names an offset that is not there");
    }
    if !state.has_room_to_erase(log, offsets) {
        return Err(too_much_pending(log));
    }
    Ok(Verdict::Append)
}
