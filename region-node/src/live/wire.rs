//! Between what nodes say to each other about what is live, and the terms of this module.

use super::{
    board::{Cursor, Reached},
    event::{LiveEvent, Receipt, Said},
    outgoing::{OfLog, Refused},
    receipts::{Asked, Page},
    roll::{Beat, Seen},
};
use crate::{bus::BusEvent, peer::wire as peer, service::ReadRefusal};
use bytes::Bytes;
use proto::{
    Malformed, log as records,
    node::{self, peer_reply::Reply, peer_request::Request},
};
use std::sync::Arc;
use types::{DeviceCursor, DeviceId, Generation, LogId, NodeId, PartitionId, Position, UserId, limits};

/// Cursors that one request may bring.
const CURSORS_MAX: usize = 16_384;

fn log_bytes(log: LogId) -> Bytes {
    Bytes::copy_from_slice(&log.to_bytes())
}

fn user(field: &'static str, text: &str) -> Result<UserId, Malformed> {
    peer::named(field, UserId::new(text))
}

fn said(position: Position) -> Option<records::Position> {
    (position != Position::START).then(|| position.into())
}

fn position(wire: Option<records::Position>) -> Position {
    wire.map_or(Position::START, Into::into)
}

pub(super) fn take_request(logs: &[OfLog]) -> Request {
    let cursor = |cursor: &Cursor| node::ReachedCursor {
        user: cursor.user.to_string(),
        device: cursor.device.get(),
        delivered: said(cursor.reached.delivered),
        read: said(cursor.reached.read),
        hides_read: cursor.reached.hides_read,
    };
    let of_log = |of: &OfLog| node::CursorsOfLog {
        partition: of.partition.get(),
        generation: of.generation.get(),
        log: log_bytes(of.log),
        cursors: of.cursors.iter().map(cursor).collect(),
    };
    Request::TakeCursors(node::TakeCursors { logs: logs.iter().map(of_log).collect() })
}

pub(crate) fn take(wire: &node::TakeCursors) -> Result<Vec<OfLog>, Malformed> {
    let count = wire.logs.iter().map(|of| of.cursors.len()).sum::<usize>();
    if count > CURSORS_MAX || wire.logs.len() > CURSORS_MAX {
        return Err(Malformed::Value {
            field: "take_cursors",
            value: format!("{count} cursors"),
            why: "it is over its limit",
        });
    }
    let cursor = |cursor: &node::ReachedCursor| {
        let (delivered, read) = (position(cursor.delivered), position(cursor.read));
        Ok(Cursor {
            user: user("reached_cursor.user", &cursor.user)?,
            device: DeviceId::new(cursor.device),
            reached: Reached { delivered, read, hides_read: cursor.hides_read },
        })
    };
    let of_log = |of: &node::CursorsOfLog| {
        Ok(OfLog {
            partition: PartitionId::new(of.partition),
            generation: Generation::new(of.generation),
            log: proto::log_id("cursors_of_log.log", &of.log)?,
            cursors: of.cursors.iter().map(cursor).collect::<Result<_, Malformed>>()?,
        })
    };
    wire.logs.iter().map(of_log).collect()
}

pub(crate) fn taken_reply(not_taken: &[(LogId, Refused)]) -> Reply {
    let not_taken = not_taken.iter().map(|(log, refused)| node::CursorsNotTaken {
        log: log_bytes(*log),
        closed_generation: match refused {
            Refused::Moved(closed) => closed.get(),
            Refused::Later => 0,
        },
    });
    Reply::CursorsTaken(node::CursorsTaken { not_taken: not_taken.collect() })
}

/// What was not taken; `None` where the answer is none.
pub(super) fn taken(reply: Reply) -> Option<Vec<(LogId, Refused)>> {
    let Reply::CursorsTaken(taken) = reply else { return None };
    let refused = |not_taken: node::CursorsNotTaken| {
        let log = proto::log_id("cursors_not_taken.log", &not_taken.log).ok()?;
        Some(match not_taken.closed_generation {
            0 => (log, Refused::Later),
            closed => (log, Refused::Moved(Generation::new(closed))),
        })
    };
    taken.not_taken.into_iter().map(refused).collect()
}

pub(crate) fn member_cursor(receipt: &Receipt) -> node::MemberCursor {
    let cursor = DeviceCursor { user: receipt.user.clone(), device: DeviceId::new(0), marks: receipt.marks };
    node::MemberCursor {
        cursor: Some((&cursor).into()),
        delivered: said(receipt.delivered),
        read: said(receipt.read),
    }
}

pub(crate) fn receipt(wire: &node::MemberCursor) -> Result<Receipt, Malformed> {
    let cursor = wire.cursor.as_ref().ok_or(Malformed::Missing { field: "member_cursor.cursor" })?;
    let DeviceCursor { user, marks, .. } = cursor.try_into()?;
    Ok(Receipt { user, marks, delivered: position(wire.delivered), read: position(wire.read) })
}

pub(super) fn read_request(partition: PartitionId, asked: &Asked) -> Request {
    Request::ReadCursors(node::ReadCursors {
        partition: partition.get(),
        log: log_bytes(asked.log),
        user: asked.user.to_string(),
        offset: asked.offset.get(),
        after_user: asked.after.as_ref().map(UserId::to_string).unwrap_or_default(),
        limit: u32::try_from(asked.limit).unwrap_or(u32::MAX),
    })
}

pub(crate) fn read(wire: &node::ReadCursors) -> Result<(PartitionId, Asked), Malformed> {
    let after = match wire.after_user.as_str() {
        "" => None,
        name => Some(user("read_cursors.after_user", name)?),
    };
    let asked = Asked {
        log: proto::log_id("read_cursors.log", &wire.log)?,
        user: user("read_cursors.user", &wire.user)?,
        offset: types::Offset::new(wire.offset),
        after,
        limit: usize::try_from(wire.limit).unwrap_or(usize::MAX).clamp(1, limits::PAGE_MAX_ENTRIES),
    };
    Ok((PartitionId::new(wire.partition), asked))
}

pub(crate) fn page_reply(page: &Result<Page, ReadRefusal>) -> Reply {
    match page {
        Ok(page) => Reply::CursorsPage(node::CursorsPage {
            cursors: page.receipts.iter().map(member_cursor).collect(),
            at_end: page.at_end,
            closed_generation: page.closed.get(),
        }),
        Err(refusal) => peer::read_refused(refusal),
    }
}

pub(super) fn page(reply: Reply) -> Result<Page, ReadRefusal> {
    let Reply::CursorsPage(wire) = reply else { return Err(peer::read_refusal(reply)) };
    let receipts = wire.cursors.iter().map(receipt).collect::<Result<_, _>>().map_err(peer::unreadable)?;
    Ok(Page { receipts, at_end: wire.at_end, closed: Generation::new(wire.closed_generation) })
}

pub(super) fn typing_request(partition: PartitionId, log: LogId, user: &UserId, device: DeviceId) -> Request {
    Request::Typing(user_typing(partition, log, user, device))
}

fn user_typing(partition: PartitionId, log: LogId, user: &UserId, device: DeviceId) -> node::UserTyping {
    let (log, partition) = (log_bytes(log), partition.get());
    node::UserTyping { log, partition, user: user.to_string(), device: device.get() }
}

pub(crate) fn typing(wire: &node::UserTyping) -> Result<(PartitionId, LogId, UserId, DeviceId), Malformed> {
    let log = proto::log_id("user_typing.log", &wire.log)?;
    let user = user("user_typing.user", &wire.user)?;
    Ok((PartitionId::new(wire.partition), log, user, DeviceId::new(wire.device)))
}

/// An event of the bus on its way to a subscriber.
pub(crate) fn event_reply(event: &LiveEvent) -> Reply {
    match &event.said {
        Said::Receipts { receipts, own_only } => Reply::Receipts(node::LiveReceipts {
            log: log_bytes(event.log),
            cursors: receipts.iter().map(member_cursor).collect(),
            own_only: *own_only,
        }),
        Said::Typing { user, device } => {
            Reply::Typing(user_typing(PartitionId::new(0), event.log, user, *device))
        }
        Said::Chats => Reply::ChatsChanged(node::ChatsChanged { log: log_bytes(event.log) }),
    }
}

/// An event of the bus that has come; `None` where the reply is none of something live.
pub(crate) fn event(reply: &Reply) -> Result<Option<BusEvent>, Malformed> {
    let event = match reply {
        Reply::Receipts(wire) => {
            let receipts = wire.cursors.iter().map(receipt).collect::<Result<_, _>>()?;
            let said = Said::Receipts { receipts, own_only: wire.own_only };
            LiveEvent { log: proto::log_id("receipts.log", &wire.log)?, said }
        }
        Reply::Typing(wire) => {
            let (_, log, user, device) = typing(wire)?;
            LiveEvent { log, said: Said::Typing { user, device } }
        }
        Reply::ChatsChanged(wire) => {
            LiveEvent { log: proto::log_id("chats_changed.log", &wire.log)?, said: Said::Chats }
        }
        Reply::Presence(wire) => {
            let seen = wire.users.iter().map(seen_from).collect::<Result<_, _>>()?;
            return Ok(Some(BusEvent::Presence(Arc::new(seen))));
        }
        _ => return Ok(None),
    };
    Ok(Some(BusEvent::Live(Arc::new(event))))
}

pub(super) fn beat_request(node: &NodeId, beats: &[(PartitionId, Beat)]) -> Request {
    let devices = |devices: &[(UserId, DeviceId)]| {
        let device = |(user, device): &(UserId, DeviceId)| node::UserDevice {
            user: user.to_string(),
            device: device.get(),
        };
        devices.iter().map(device).collect()
    };
    let users = |users: &[UserId]| users.iter().map(UserId::to_string).collect();
    let of_partition = |(partition, beat): &(PartitionId, Beat)| node::BeatOfPartition {
        partition: partition.get(),
        online: devices(&beat.online),
        gone: devices(&beat.gone),
        watched: users(&beat.watched),
        unwatched: users(&beat.unwatched),
    };
    let partitions = beats.iter().map(of_partition).collect();
    Request::Beat(node::PresenceBeat { node: node.to_string(), partitions })
}

pub(crate) fn beat(wire: &node::PresenceBeat) -> Result<(NodeId, Vec<(PartitionId, Beat)>), Malformed> {
    let devices = |devices: &[node::UserDevice]| -> Result<Vec<_>, Malformed> {
        let device =
            |wire: &node::UserDevice| Ok((user("beat.user", &wire.user)?, DeviceId::new(wire.device)));
        devices.iter().map(device).collect()
    };
    let users = |users: &[String]| -> Result<Vec<_>, Malformed> {
        users.iter().map(|name| user("beat.user", name)).collect()
    };
    let of_partition = |wire: &node::BeatOfPartition| {
        let (online, gone) = (devices(&wire.online)?, devices(&wire.gone)?);
        let (watched, unwatched) = (users(&wire.watched)?, users(&wire.unwatched)?);
        Ok((PartitionId::new(wire.partition), Beat { online, gone, watched, unwatched }))
    };
    let node = peer::named("beat.node", NodeId::new(&wire.node))?;
    Ok((node, wire.partitions.iter().map(of_partition).collect::<Result<_, Malformed>>()?))
}

pub(crate) fn beat_reply(not_home: &[PartitionId]) -> Reply {
    Reply::BeatTaken(node::BeatTaken { not_home: not_home.iter().map(|partition| partition.get()).collect() })
}

/// Of which partitions the receiver is not home; `None` where the answer is none.
pub(super) fn beat_taken(reply: Reply) -> Option<Vec<PartitionId>> {
    let Reply::BeatTaken(taken) = reply else { return None };
    Some(taken.not_home.into_iter().map(PartitionId::new).collect())
}

/// What watchers are told, on its way to them.
pub(crate) fn presence_reply(seen: &[Seen]) -> Reply {
    let user = |seen: &Seen| node::SeenUser {
        user: seen.user.to_string(),
        online: seen.online,
        last_seen_ms: seen.last_seen_ms,
    };
    Reply::Presence(node::PresenceSeen { users: seen.iter().map(user).collect() })
}

fn seen_from(wire: &node::SeenUser) -> Result<Seen, Malformed> {
    let user = user("presence.user", &wire.user)?;
    Ok(Seen { user, online: wire.online, last_seen_ms: wire.last_seen_ms })
}
