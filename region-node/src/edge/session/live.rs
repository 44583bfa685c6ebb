//! What a session says and asks of what is live: receipts, and who is typing.

use super::{Output, Session, about, refuse};
use crate::{
    delivery::{client_presence, token},
    edge::request,
    live::{Page, Receipt, Seen, not_followed},
};
use proto::client::{self, server_frame::Frame};
use types::{Code, DeviceId, LogId, Mark, Offset, Position, Refusal, UserId};

/// Chats in one frame of cursors.
pub(super) const MARKS_MAX: usize = 256;
/// Users that one session may watch.
pub(super) const WATCHED_MAX: usize = 256;

impl Session {
    pub(super) fn mark(
        &self,
        id: u64,
        user: &UserId,
        device: DeviceId,
        marks: &client::MarkCursors,
        out: &mut Vec<Output>,
    ) {
        if marks.logs.len() > MARKS_MAX {
            let why =
                format!("{} chats in one frame of cursors, and {MARKS_MAX} are allowed", marks.logs.len());
            return refuse(id, Refusal::new(Code::TooLarge, why), out);
        }
        for mark in &marks.logs {
            match request::reached(mark).and_then(|reached| self.followed_log(reached)) {
                Ok((log, reached)) => out.push(Output::Mark { log, user: user.clone(), device, reached }),
                Err(refusal) => about(id, refusal.into(), &mark.log, "", out),
            }
        }
    }

    pub(super) fn typing(
        &self,
        id: u64,
        user: UserId,
        device: DeviceId,
        typing: &client::Typing,
        out: &mut Vec<Output>,
    ) {
        match request::log(&typing.log).and_then(|log| self.followed_log((log, ()))) {
            Ok((log, ())) => out.push(Output::Typing { log, user, device }),
            Err(refusal) => about(id, refusal.into(), &typing.log, "", out),
        }
    }

    pub(super) fn read_receipts(
        &mut self,
        id: u64,
        user: UserId,
        read: client::ReadReceipts,
        out: &mut Vec<Output>,
    ) {
        let log = read.log.clone();
        match request::receipts(user, &read) {
            Ok(asked) => {
                if self.may_read(id, out) {
                    out.push(Output::ReadReceipts { request_id: id, asked });
                }
            }
            Err(refusal) => about(id, refusal.into(), &log, "", out),
        }
    }

    pub(super) fn watch(
        &mut self,
        id: u64,
        watcher: UserId,
        watch: &client::WatchPresence,
        out: &mut Vec<Output>,
    ) {
        let (users, chat) = match request::watched(watch) {
            Ok(watched) => watched,
            Err(refusal) => return about(id, refusal.into(), &watch.log, "", out),
        };
        if watch.stop {
            self.watched.retain(|watched| !users.contains(watched));
            return out.push(Output::Unwatch(users));
        }
        let more = users.iter().filter(|user| !self.watched.contains(*user)).count();
        if self.watched.len() + more > WATCHED_MAX {
            let why = format!("this session would watch more than {WATCHED_MAX} users");
            return about(id, Refusal::new(Code::TooLarge, why).into(), &watch.log, "", out);
        }
        if self.may_read(id, out) {
            self.watched.extend(users.iter().cloned());
            out.push(Output::Watch { request_id: id, watcher, users, chat });
        }
    }

    /// Only what is followed was found to be the user's.
    fn followed_log<T>(&self, (log, said): (LogId, T)) -> Result<(LogId, T), Refusal> {
        if self.followed.contains_key(&log) { Ok((log, said)) } else { Err(not_followed(log)) }
    }
}

/// What is known of users, as the watching client is told.
pub(super) fn presence(known: &[(UserId, Option<Seen>)]) -> Frame {
    let user = |(user, seen): &(UserId, Option<Seen>)| match seen {
        Some(seen) => client_presence(seen),
        None => client::UserPresence { user: user.to_string(), ..client::UserPresence::default() },
    };
    Frame::Presence(client::Presence { users: known.iter().map(user).collect() })
}

/// How far a member has come, as clients are told.
pub(crate) fn client_receipt(log: LogId, receipt: &Receipt) -> client::Receipt {
    let mark = |mark: Mark, position: Position| {
        (mark.offset > Offset::ZERO).then(|| client::ReceiptMark {
            position: token(log, position),
            offset: mark.offset.get(),
            at_ms: mark.at_ms,
        })
    };
    client::Receipt {
        user: receipt.user.to_string(),
        delivered: mark(receipt.marks.delivered, receipt.delivered),
        read: mark(receipt.marks.read, receipt.read),
    }
}

/// A page of them.
pub(crate) fn receipts_page(log: LogId, page: &Page) -> client::ReceiptsPage {
    let receipts = page.receipts.iter().map(|receipt| client_receipt(log, receipt)).collect();
    client::ReceiptsPage { log: log.to_string(), receipts, at_end: page.at_end }
}
