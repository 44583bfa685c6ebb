//! Glances at chats, from the node that has a copy to the one that asks.

use super::{log_bytes, named, not_home_from, read_refused, refusal, unreadable};
use crate::{
    live::{ChatReceipts, ReceiptsSum, wire as live},
    service::{Detail, Glance, ReadRefusal},
};
use proto::{Malformed, node, node::peer_reply::Reply, node::peer_request::Request};
use std::collections::BTreeMap;
use types::{LogId, Offset, PartitionId, UserId};

/// Chats that one question is about, at the most.
pub(crate) const GLANCES_MAX: usize = 256;
/// The same where unread messages are counted.
pub(crate) const COUNTS_MAX: usize = 64;

/// A question of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GlanceAsked {
    pub(crate) partition: PartitionId,
    pub(crate) user: UserId,
    pub(crate) logs: Vec<LogId>,
    pub(crate) count: bool,
    /// What is known of the receipts of those of which they are wanted.
    pub(crate) receipts: BTreeMap<LogId, ReceiptsSum>,
}

impl GlanceAsked {
    /// What is wanted.
    pub(crate) const fn detail(&self) -> Detail<'_> {
        if self.count { Detail::Unread } else { Detail::Receipts(&self.receipts) }
    }
}

pub(crate) fn glance_request(asked: &GlanceAsked) -> Request {
    Request::Glance(node::Glance {
        partition: asked.partition.get(),
        user: asked.user.to_string(),
        logs: asked.logs.iter().copied().map(log_bytes).collect(),
        count: asked.count,
        receipts: asked
            .receipts
            .iter()
            .map(|(log, sum)| node::ReceiptsKnown { log: log_bytes(*log), sum: sum.get() })
            .collect(),
    })
}

pub(crate) fn glance_asked(wire: &node::Glance) -> Result<GlanceAsked, Malformed> {
    let most = if wire.count { COUNTS_MAX } else { GLANCES_MAX };
    let asked = wire.logs.len().max(wire.receipts.len());
    if asked > most {
        let value = asked.to_string();
        return Err(Malformed::Value { field: "glance.logs", value, why: "they are too many" });
    }
    let logs = wire.logs.iter().map(|log| proto::log_id("glance.logs", log)).collect::<Result<_, _>>()?;
    Ok(GlanceAsked {
        partition: PartitionId::new(wire.partition),
        user: named("glance.user", UserId::new(&wire.user))?,
        logs,
        count: wire.count,
        receipts: wire.receipts.iter().map(known).collect::<Result<_, Malformed>>()?,
    })
}

fn known(wire: &node::ReceiptsKnown) -> Result<(LogId, ReceiptsSum), Malformed> {
    Ok((proto::log_id("receipts_known.log", &wire.log)?, ReceiptsSum::new(wire.sum)))
}

pub(crate) fn glance_reply(answer: &Result<Vec<Glance>, ReadRefusal>) -> Reply {
    let chat = |glance: &Glance| node::ChatGlance {
        log: log_bytes(glance.log),
        head: Some(glance.head.into()),
        head_at_ms: glance.head_at_ms,
        read_offset: glance.read.get(),
        members: u32::try_from(glance.members).unwrap_or(u32::MAX),
        with: glance.with.as_ref().map(UserId::to_string).unwrap_or_default(),
        is_request: glance.is_request,
        unread: u32::try_from(glance.unread).unwrap_or(u32::MAX),
        receipts: glance.receipts.as_ref().map(|seen| node::ReceiptsSeen {
            sum: seen.sum.get(),
            cursors: seen.receipts.iter().map(live::member_cursor).collect(),
        }),
    };
    match answer {
        Ok(glances) => Reply::Glanced(node::Glanced { chats: glances.iter().map(chat).collect() }),
        Err(error) => read_refused(error),
    }
}

pub(crate) fn glanced(reply: Reply) -> Result<Vec<Glance>, ReadRefusal> {
    match reply {
        Reply::Glanced(wire) => wire.chats.iter().map(|chat| glance(chat).map_err(unreadable)).collect(),
        Reply::NotHome(wire) => Err(not_home_from(&wire).into()),
        Reply::Refused(wire) => Err(refusal(wire).into()),
        _ => Err(unreadable("it answers something else")),
    }
}

fn glance(wire: &node::ChatGlance) -> Result<Glance, Malformed> {
    let with = (!wire.with.is_empty()).then(|| named("chat_glance.with", UserId::new(&wire.with)));
    Ok(Glance {
        log: proto::log_id("chat_glance.log", &wire.log)?,
        head: wire.head.ok_or(Malformed::Missing { field: "chat_glance.head" })?.into(),
        head_at_ms: wire.head_at_ms,
        read: Offset::new(wire.read_offset),
        members: wire.members as usize,
        with: with.transpose()?,
        is_request: wire.is_request,
        unread: wire.unread as usize,
        receipts: wire.receipts.as_ref().map(receipts).transpose()?,
    })
}

fn receipts(wire: &node::ReceiptsSeen) -> Result<ChatReceipts, Malformed> {
    let receipts = wire.cursors.iter().map(live::receipt).collect::<Result<_, _>>()?;
    Ok(ChatReceipts { sum: ReceiptsSum::new(wire.sum), receipts })
}
