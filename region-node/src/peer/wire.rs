//! Between what nodes say to each other and the terms of [`crate::service`].

mod account;
mod find;
mod glance;

pub(crate) use account::{AccountAsked, account, account_asked, account_reply, account_request};
pub(crate) use find::{find, find_request, found, found_reply};
pub(crate) use glance::{
    COUNTS_MAX, GLANCES_MAX, GlanceAsked, glance_asked, glance_reply, glance_request, glanced,
};

use crate::service::{
    Acked, Beside, ChatState, LocateAnswer, NotHome, Page, ReadFrom, ReadRefusal, Subscribed, Write,
    WriteError,
};
use bytes::Bytes;
use log_store::{Deduped, locate::Located};
use proto::{Malformed, log, node, node::peer_reply::Reply, node::peer_request::Request};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use types::{
    AckPolicy, BodyHash, Code, DedupKey, DeviceId, Effect, EntryBody, Epoch, Generation, IdError, LogId, Lsn,
    NodeId, Offset, PartitionId, Position, Record, Refusal, RegionId, UserId,
    chat::{About, Reference},
    limits,
};

/// A peer's read.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) log: LogId,
    pub(crate) partition: PartitionId,
    pub(crate) user: UserId,
}

pub(crate) fn named<T>(field: &'static str, parsed: Result<T, IdError>) -> Result<T, Malformed> {
    parsed.map_err(|source| Malformed::Id { field, source })
}

fn log_bytes(log: LogId) -> Bytes {
    Bytes::copy_from_slice(&log.to_bytes())
}

pub(crate) fn append_request(write: &Write) -> Request {
    let Beside { about, deletes } = &write.beside;
    let body = match proto::log::entry::Body::from(&write.body) {
        proto::log::entry::Body::Created(created) => Some(node::append::Body::Created(created)),
        proto::log::entry::Body::Message(message) => Some(node::append::Body::Message(message)),
        // The home finds out which offsets those are.
        proto::log::entry::Body::Deleted(_) if !deletes.is_empty() => None,
        proto::log::entry::Body::Deleted(deleted) => Some(node::append::Body::Deleted(deleted)),
        proto::log::entry::Body::Account(change) => Some(node::append::Body::Account(change)),
        proto::log::entry::Body::Chat(change) => Some(node::append::Body::Chat(change)),
        // Nobody writes an erased body: it only comes to be in a store. The peer refuses it by name.
        proto::log::entry::Body::Erased(_) => None,
    };
    let left = write.deadline.saturating_duration_since(Instant::now());
    Request::Append(node::Append {
        log: log_bytes(write.log),
        partition: write.partition.get(),
        generation: write.generation.get(),
        epoch_hint: write.epoch_hint.get(),
        sender: write.sender.to_string(),
        device: write.device.get(),
        message_id: Bytes::copy_from_slice(write.message_id.as_bytes()),
        body,
        ack: write.ack as i32,
        deadline_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX),
        traceparent: String::new(),
        expires_at_ms: write.expires_at_ms,
        after_message_id: write
            .after
            .map_or_else(Bytes::new, |after| Bytes::copy_from_slice(after.as_bytes())),
        about: about.as_deref().map(Into::into),
        deletes: deletes.iter().map(Into::into).collect(),
    })
}

/// A write that a peer forwards, which stands in the region `origin`.
pub(crate) fn write(append: node::Append, origin: Option<&RegionId>) -> Result<Write, Malformed> {
    let deadline_ms = u64::from(append.deadline_ms).min(limits::DEADLINE_MAX_MS);
    let after = match append.after_message_id.as_ref() {
        [] => None,
        bytes => Some(proto::message_id("append.after_message_id", bytes)?),
    };
    let beside = beside(append.about, append.deletes)?;
    let body = match append.body {
        None if !beside.deletes.is_empty() => EntryBody::Deleted { offsets: Vec::new() },
        body => proto::entry_body(body)?,
    };
    Ok(Write {
        log: proto::log_id("append.log", &append.log)?,
        partition: PartitionId::new(append.partition),
        generation: Generation::new(append.generation),
        epoch_hint: Epoch::new(append.epoch_hint),
        sender: named("append.sender", UserId::new(&append.sender))?,
        device: DeviceId::new(append.device),
        message_id: proto::message_id("append.message_id", &append.message_id)?,
        after,
        body,
        expires_at_ms: append.expires_at_ms,
        ack: proto::ack_policy(append.ack)?,
        deadline: Instant::now() + Duration::from_millis(deadline_ms),
        origin: origin.cloned(),
        salvage: None,
        beside,
    })
}

fn beside(about: Option<log::About>, deletes: Vec<log::Reference>) -> Result<Beside, Malformed> {
    if deletes.len() > limits::DELETED_OFFSETS_MAX {
        let value = format!("{} long", deletes.len());
        return Err(Malformed::Value { field: "append.deletes", value, why: "it is over its limit" });
    }
    let key = |wire| Reference::try_from(wire).map(|reference| reference.key);
    Ok(Beside {
        about: about.map(|about| About::try_from(about).map(Box::new)).transpose()?,
        deletes: deletes.into_iter().map(key).collect::<Result<_, _>>()?,
    })
}

pub(crate) fn refused(refusal: &Refusal) -> Reply {
    Reply::Refused(node::Refused {
        code: refusal.code.as_str().to_owned(),
        message: refusal.message.clone(),
        retry_after_ms: refusal.retry_after_ms,
        retryable: refusal.is_retryable(),
    })
}

fn refusal(refused: node::Refused) -> Refusal {
    // A code of a newer peer is told as one that asks for the same, with its text.
    let unknown = if refused.retryable { Code::NotReady } else { Code::Internal };
    let code = refused.code.parse().unwrap_or(unknown);
    Refusal { code, message: refused.message, retry_after_ms: refused.retry_after_ms }
}

pub(crate) fn malformed(error: &Malformed) -> Reply {
    refused(&Refusal::new(Code::BadRequest, error.to_string()))
}

pub(crate) fn not_home(not_home: &NotHome) -> Reply {
    Reply::NotHome(node::NotHome {
        partition: not_home.partition.get(),
        epoch: not_home.epoch.get(),
        home: not_home.home.as_ref().map(NodeId::to_string).unwrap_or_default(),
        moving: not_home.moving,
        closed_generation: not_home.closed.get(),
    })
}

fn not_home_from(wire: &node::NotHome) -> NotHome {
    NotHome {
        partition: PartitionId::new(wire.partition),
        epoch: Epoch::new(wire.epoch),
        home: NodeId::new(&wire.home).ok(),
        moving: wire.moving,
        closed: Generation::new(wire.closed_generation),
    }
}

pub(crate) fn append_reply(result: &Result<Acked, WriteError>) -> Reply {
    match result {
        Ok(acked) => Reply::Appended(node::Appended {
            position: Some(acked.position.into()),
            accepted_at_ms: acked.accepted_at_ms,
            ack: acked.ack as i32,
            epoch: acked.epoch.get(),
        }),
        Err(WriteError::NotHome(error)) => not_home(error),
        Err(WriteError::Refused(error)) => refused(error),
        Err(WriteError::Moved { partition, epoch }) => {
            Reply::Moved(node::Moved { partition: partition.get(), epoch: epoch.get() })
        }
        Err(WriteError::Indeterminate { why }) => refused(&Refusal::new(Code::Indeterminate, *why)),
    }
}

/// What became of a forwarded write. An answer that cannot be read leaves it open.
pub(crate) fn append_outcome(reply: Reply) -> Result<Acked, WriteError> {
    match reply {
        Reply::Appended(appended) => {
            let ack = proto::ack_policy(appended.ack).unwrap_or(AckPolicy::Home);
            let position =
                appended.position.ok_or(WriteError::Indeterminate { why: "the ack has no position" })?;
            Ok(Acked {
                position: position.into(),
                accepted_at_ms: appended.accepted_at_ms,
                ack,
                epoch: Epoch::new(appended.epoch),
            })
        }
        Reply::NotHome(wire) => Err(not_home_from(&wire).into()),
        Reply::Moved(wire) => Err(WriteError::Moved {
            partition: PartitionId::new(wire.partition),
            epoch: Epoch::new(wire.epoch),
        }),
        // It says that the write may be repeated, and not that it was not written.
        Reply::Refused(wire) if wire.retryable && wire.code.parse::<Code>().is_err() => {
            Err(WriteError::Indeterminate { why: "the home refused for a reason that is not known here" })
        }
        Reply::Refused(wire) => match refusal(wire) {
            Refusal { code: Code::Indeterminate, .. } => {
                Err(WriteError::Indeterminate { why: "the home does not know" })
            }
            refusal => Err(refusal.into()),
        },
        _ => Err(WriteError::Indeterminate { why: "the home answered something else" }),
    }
}

pub(crate) fn read_request(asked: &Asked, from: ReadFrom, limit: usize, generation: Generation) -> Request {
    let (after, before) = match from {
        ReadFrom::After(position) => (Some(position.into()), None),
        ReadFrom::Before(position) => (None, position.map(Into::into)),
    };
    Request::Read(node::Read {
        log: log_bytes(asked.log),
        partition: asked.partition.get(),
        user: asked.user.to_string(),
        after,
        before,
        limit: u32::try_from(limit).unwrap_or(u32::MAX),
        generation: generation.get(),
    })
}

pub(crate) fn read(wire: node::Read) -> Result<(Asked, ReadFrom, usize, Generation), Malformed> {
    let asked = Asked {
        log: proto::log_id("read.log", &wire.log)?,
        partition: PartitionId::new(wire.partition),
        user: named("read.user", UserId::new(&wire.user))?,
    };
    let from = match (wire.after, wire.before) {
        (Some(after), _) => ReadFrom::After(after.into()),
        (None, before) => ReadFrom::Before(before.map(Into::into)),
    };
    let limit = usize::try_from(wire.limit).unwrap_or(usize::MAX).clamp(1, limits::PAGE_MAX_ENTRIES);
    Ok((asked, from, limit, Generation::new(wire.generation)))
}

pub(crate) fn locate_request(asked: &Asked, position: Position, any_copy: bool) -> Request {
    Request::Locate(node::Locate {
        log: log_bytes(asked.log),
        partition: asked.partition.get(),
        user: asked.user.to_string(),
        position: Some(position.into()),
        any_copy,
    })
}

/// Who asks for which position, and whether any copy may answer.
pub(crate) fn locate(wire: node::Locate) -> Result<(Asked, Position, bool), Malformed> {
    let asked = Asked {
        log: proto::log_id("locate.log", &wire.log)?,
        partition: PartitionId::new(wire.partition),
        user: named("locate.user", UserId::new(&wire.user))?,
    };
    Ok((asked, wire.position.map_or(Position::START, Into::into), wire.any_copy))
}

pub(crate) fn read_refused(refusal: &ReadRefusal) -> Reply {
    match refusal {
        ReadRefusal::NotHere(error) => not_home(error),
        ReadRefusal::Refused(error) => refused(error),
        ReadRefusal::Ahead => Reply::Located(node::Located {
            answer: node::located::Answer::Ahead.into(),
            ..node::Located::default()
        }),
        ReadRefusal::Diverged { common } => Reply::Located(node::Located {
            answer: node::located::Answer::Diverged.into(),
            common: Some((*common).into()),
            ..node::Located::default()
        }),
    }
}

pub(crate) fn page_reply(result: &Result<Page, ReadRefusal>) -> Reply {
    match result {
        Ok(page) => Reply::Page(node::Page {
            records: page.records.iter().map(Into::into).collect(),
            at_end: page.at_end,
            generation: page.generation.get(),
            closed_generation: page.closed.get(),
            until_offset: page.until.map_or(0, Offset::get),
        }),
        Err(error) => read_refused(error),
    }
}

pub(crate) fn located_reply(result: &Result<LocateAnswer, ReadRefusal>) -> Reply {
    let answer = match result {
        Ok(answer) => answer,
        Err(error) => return read_refused(error),
    };
    let (kind, common) = match answer.located {
        Located::Continue => (node::located::Answer::Continue, None),
        Located::Diverged { common } => (node::located::Answer::Diverged, Some(common.into())),
        Located::Ahead => (node::located::Answer::Ahead, None),
    };
    Reply::Located(node::Located {
        answer: kind.into(),
        common,
        head: Some(answer.head.into()),
        replicated: Some(answer.replicated.into()),
        generation: answer.generation.get(),
        epoch: answer.epoch.get(),
        closed_generation: answer.closed.get(),
        until_offset: answer.until.map_or(0, Offset::get),
    })
}

pub(crate) fn unreadable(what: impl std::fmt::Display) -> ReadRefusal {
    Refusal::new(Code::NotReady, format!("a peer's answer cannot be read: {what}")).into()
}

/// The refusals that both kinds of read share.
pub(crate) fn read_refusal(reply: Reply) -> ReadRefusal {
    match reply {
        Reply::NotHome(wire) => not_home_from(&wire).into(),
        Reply::Refused(wire) => refusal(wire).into(),
        Reply::Located(wire) if wire.answer() == node::located::Answer::Ahead => ReadRefusal::Ahead,
        Reply::Located(wire) => match wire.common {
            Some(common) => ReadRefusal::Diverged { common: common.into() },
            None => unreadable("it has no common position"),
        },
        _ => unreadable("it answers something else"),
    }
}

pub(crate) fn page(reply: Reply) -> Result<Page, ReadRefusal> {
    let Reply::Page(wire) = reply else { return Err(read_refusal(reply)) };
    let records =
        wire.records.into_iter().map(Record::try_from).collect::<Result<_, _>>().map_err(unreadable)?;
    let (generation, closed) = (Generation::new(wire.generation), Generation::new(wire.closed_generation));
    let until = until(wire.until_offset);
    Ok(Page { records, at_end: wire.at_end, generation, closed, until })
}

pub(crate) fn located(reply: Reply) -> Result<LocateAnswer, ReadRefusal> {
    let wire = match reply {
        Reply::Located(wire) if wire.head.is_some() => wire,
        other => return Err(read_refusal(other)),
    };
    let located = match (wire.answer(), wire.common) {
        (node::located::Answer::Continue, _) => Located::Continue,
        (node::located::Answer::Diverged, Some(common)) => Located::Diverged { common: common.into() },
        (node::located::Answer::Ahead, _) => Located::Ahead,
        _ => return Err(unreadable("it is no answer to a position")),
    };
    Ok(LocateAnswer {
        located,
        head: wire.head.map_or(Position::START, Into::into),
        replicated: wire.replicated.map_or(Position::START, Into::into),
        generation: Generation::new(wire.generation),
        epoch: Epoch::new(wire.epoch),
        closed: Generation::new(wire.closed_generation),
        until: until(wire.until_offset),
    })
}

pub(crate) fn chat_request(asked: &Asked) -> Request {
    Request::ReadChat(node::ReadChat {
        log: log_bytes(asked.log),
        partition: asked.partition.get(),
        user: asked.user.to_string(),
    })
}

pub(crate) fn chat(wire: &node::ReadChat) -> Result<Asked, Malformed> {
    Ok(Asked {
        log: proto::log_id("read_chat.log", &wire.log)?,
        partition: PartitionId::new(wire.partition),
        user: named("read_chat.user", UserId::new(&wire.user))?,
    })
}

pub(crate) fn chat_reply(result: &Result<ChatState, ReadRefusal>) -> Reply {
    match result {
        Ok(state) => Reply::ChatState(node::ChatState {
            members: state.members.iter().map(|(user, member)| proto::wire_member(user, *member)).collect(),
            chat: state.chat.as_deref().map(Into::into),
            created_at_ms: state.created_at_ms,
            generation: state.generation.get(),
            closed_generation: state.closed.get(),
        }),
        Err(error) => read_refused(error),
    }
}

pub(crate) fn chat_state(reply: Reply) -> Result<ChatState, ReadRefusal> {
    let Reply::ChatState(wire) = reply else { return Err(read_refusal(reply)) };
    let members = wire.members.iter().map(proto::member).collect::<Result<_, _>>().map_err(unreadable)?;
    let chat = wire.chat.map(|chat| chat.try_into().map(Arc::new)).transpose().map_err(unreadable)?;
    Ok(ChatState {
        members: Arc::new(members),
        chat,
        created_at_ms: wire.created_at_ms,
        generation: Generation::new(wire.generation),
        closed: Generation::new(wire.closed_generation),
    })
}

fn until(offset: u64) -> Option<Offset> {
    (offset != 0).then(|| Offset::new(offset))
}

pub(crate) fn subscribe_request(partition: PartitionId, log: LogId) -> Request {
    Request::Subscribe(node::BusSubscribe { log: log_bytes(log), partition: partition.get() })
}

pub(crate) fn unsubscribe_request(log: LogId) -> Request {
    Request::Unsubscribe(node::BusUnsubscribe { log: log_bytes(log) })
}

pub(crate) fn subscribed_reply(result: &Result<Subscribed, NotHome>) -> Reply {
    match result {
        Ok(subscribed) => Reply::Subscribed(node::Subscribed {
            head: Some(subscribed.head.into()),
            replicated: Some(subscribed.replicated.into()),
            epoch: subscribed.epoch.get(),
            generation: subscribed.generation.get(),
        }),
        Err(error) => not_home(error),
    }
}

/// The answer to a subscription.
///
/// # Errors
/// The generation up to which the log is not written there any more; zero where it is only to be tried again.
pub(crate) fn subscribed(reply: Reply) -> Result<Subscribed, Generation> {
    let wire = match reply {
        Reply::Subscribed(wire) => wire,
        Reply::NotHome(wire) => return Err(Generation::new(wire.closed_generation)),
        _ => return Err(Generation::ZERO),
    };
    Ok(Subscribed {
        head: wire.head.map_or(Position::START, Into::into),
        replicated: wire.replicated.map_or(Position::START, Into::into),
        epoch: Epoch::new(wire.epoch),
        generation: Generation::new(wire.generation),
    })
}

pub(crate) fn effect_request(partition: PartitionId, effect: &Effect) -> Request {
    Request::Effect(node::TakeEffect { partition: partition.get(), effect: Some(effect.into()) })
}

pub(crate) fn effect(wire: node::TakeEffect) -> Result<(PartitionId, Effect), Malformed> {
    let effect = wire.effect.ok_or(Malformed::Missing { field: "take_effect.effect" })?;
    Ok((PartitionId::new(wire.partition), effect.try_into()?))
}

pub(crate) fn effect_reply(result: Result<(), WriteError>) -> Reply {
    match result {
        Ok(()) => Reply::EffectTaken(node::EffectTaken {}),
        Err(error) => append_reply(&Err(error)),
    }
}

/// What became of an effect at another home.
pub(crate) fn effect_outcome(reply: Reply) -> Result<(), WriteError> {
    match reply {
        Reply::EffectTaken(_) => Ok(()),
        other => append_outcome(other).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_of_a_newer_peer_asks_for_what_the_peer_says() {
        let refused = |retryable| {
            let code = "a_code_of_tomorrow".to_owned();
            Reply::Refused(node::Refused { code, retryable, ..node::Refused::default() })
        };
        assert!(matches!(append_outcome(refused(true)), Err(WriteError::Indeterminate { .. })));
        assert!(matches!(append_outcome(refused(false)),
            Err(WriteError::Refused(refusal)) if refusal.code == Code::Internal));
        assert!(matches!(page(refused(true)),
            Err(ReadRefusal::Refused(refusal)) if refusal.is_retryable()));
    }
}
