//! Cursors: how far the app says that it has come in each chat.
//!
//! ```text
//!   set ──► untold ──at most every half a second, once the chat is followed──► told ──connection lost──► untold
//! ```
//!
//! Nobody answers a cursor. So all of them are told again on each connection: a home that was lost before it had
//! written one has it back by that.

use super::{Output, SessionCore, Timer, log::Stage};
use crate::{Event, Position, Receipt};
use proto::client::{self as wire, client_frame::Frame};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};
use types::LogId;

/// How often cursors are told at most, in ms.
const TELL_EVERY_MS: u64 = 500;
/// Chats in one frame.
const FRAME_LOGS_MAX: usize = 128;

/// An entry that was reached.
type Place = (u64, Position);

#[derive(Debug, Clone, Default)]
struct Cursors {
    delivered: Option<Place>,
    read: Option<Place>,
}

/// See the module. At most as many chats are in it as a session follows.
#[derive(Debug, Default)]
pub(super) struct Marks {
    logs: BTreeMap<LogId, Cursors>,
    untold: BTreeSet<LogId>,
    told_ms: Option<u64>,
    /// A timer is set.
    is_due: bool,
}

impl Marks {
    pub(super) fn connection_lost(&mut self) {
        self.untold = self.logs.keys().copied().collect();
        self.told_ms = None;
    }

    pub(super) fn forget(&mut self, log: LogId) {
        self.logs.remove(&log);
        self.untold.remove(&log);
    }

    /// What stood behind an offset was undone: it was not reached.
    fn cut(&mut self, log: LogId, common_offset: u64) {
        let Some(cursors) = self.logs.get_mut(&log) else { return };
        for place in [&mut cursors.delivered, &mut cursors.read] {
            place.take_if(|(offset, _)| *offset > common_offset);
        }
    }
}

/// Moves forward; whether it did.
fn raise(place: &mut Option<Place>, to: Option<Place>) -> bool {
    let is_raised = to.as_ref().is_some_and(|(to, _)| place.as_ref().is_none_or(|(offset, _)| offset < to));
    if is_raised {
        *place = to;
    }
    is_raised
}

impl SessionCore {
    pub(super) fn mark(&mut self, now_ms: u64, log: LogId, delivered: Option<Place>, read: Option<Place>) {
        if !self.logs.contains_key(&log) {
            return;
        }
        let cursors = self.marks.logs.entry(log).or_default();
        if raise(&mut cursors.delivered, delivered) | raise(&mut cursors.read, read) {
            self.marks.untold.insert(log);
            self.marks_soon(now_ms);
        }
    }

    /// Cursors that wait are told as soon as they may be.
    pub(super) fn marks_soon(&mut self, now_ms: u64) {
        if !self.marks.untold.is_empty() && !self.marks.is_due {
            self.marks.is_due = true;
            let at_ms = self.marks.told_ms.map_or(now_ms, |told_ms| told_ms + TELL_EVERY_MS);
            self.timers.push(Reverse((at_ms.max(now_ms), Timer::Marks)));
        }
    }

    pub(super) fn tick_marks(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        self.marks.is_due = false;
        if !self.link.is_live() || self.link.is_leaving() {
            return;
        }
        let logs = &self.logs;
        let is_followed = |log: &LogId| logs.get(log).is_some_and(|log| log.stage == Stage::Live);
        let ready: Vec<LogId> = self.marks.untold.iter().copied().filter(is_followed).collect();
        for some in ready.chunks(FRAME_LOGS_MAX) {
            let logs = some.iter().filter_map(|log| {
                self.marks.untold.remove(log);
                let Cursors { delivered, read } = self.marks.logs.get(log)?.clone();
                let token = |place: Option<Place>| place.map_or_else(String::new, |(_, at)| at.into());
                Some(wire::LogMark { log: log.to_string(), delivered: token(delivered), read: token(read) })
            });
            let frame = Frame::MarkCursors(wire::MarkCursors { logs: logs.collect() });
            out.push(Output::Frame(wire::ClientFrame { request_id: 0, frame: Some(frame) }));
            self.marks.told_ms = Some(now_ms);
        }
    }

    pub(super) fn marks_diverged(&mut self, log: &str, common_offset: u64) {
        if let Ok(log) = log.parse() {
            self.marks.cut(log, common_offset);
        }
    }

    pub(super) fn typing(&mut self, log: LogId, out: &mut Vec<Output>) {
        if self.link.is_live() && self.logs.get(&log).is_some_and(|log| log.stage == Stage::Live) {
            let frame = Some(Frame::Typing(wire::Typing { log: log.to_string() }));
            out.push(Output::Frame(wire::ClientFrame { request_id: 0, frame }));
        }
    }

    /// Tells the app of what is live; what cannot be read is passed over.
    pub(super) fn receipts_told(&self, told: wire::Receipts, out: &mut Vec<Output>) {
        let Ok(log) = told.log.parse() else { return };
        let receipts: Vec<Receipt> =
            told.receipts.into_iter().filter_map(|receipt| receipt.try_into().ok()).collect();
        out.push(Output::Event(Event::Receipts { log, receipts }));
    }

    pub(super) fn typing_seen(&self, seen: &wire::TypingSeen, out: &mut Vec<Output>) {
        if let (Ok(log), Ok(user)) = (seen.log.parse(), types::UserId::new(&seen.user)) {
            out.push(Output::Event(Event::Typing { log, user, ttl_ms: seen.ttl_ms }));
        }
    }
}
