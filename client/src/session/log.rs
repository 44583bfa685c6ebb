//! One log of a session: following it, and the outbox of its messages.
//!
//! ```text
//!   Detached ──▶ FindingEnd ──▶ Subscribing ──▶ Live
//!      ▲  ▲           │           │    ▲         │
//!      │  └─ Waiting ◀┴───────────┘    └─────────┘  behind, gap, conflict, other common
//!      └── connection lost (from anywhere)
//! ```
//!
//! Invariant: messages go out only while the log is `Live`, that is after the own position was checked,
//! so that an answer's position is always compared with the order that it belongs to.

use super::{
    Cx, Request,
    outbox::{Outbox, State},
    search::{Next, Search},
    timeline::{Advance, Agreement, Cut, Step, Timeline},
};
use crate::{Entry, Event, Position, Refused, SendError};
use proto::client::{self as wire, client_frame::Frame, resumed::Answer};
use types::{Code, LogId, chat::MessageKind};

/// Where to begin to follow a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// Its first entry.
    Start,
    /// Its newest entry: only what is written from now on.
    End,
    /// Behind an entry that the app has.
    After {
        /// The entry's position.
        position: Position,
        /// The entry's offset.
        offset: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Detached,
    FindingEnd,
    Subscribing { request: u64, asked: u64 },
    Waiting { until_ms: u64 },
    Live,
}

pub(super) struct LogSession {
    pub(super) id: LogId,
    pub(super) stage: Stage,
    pub(super) timeline: Option<Timeline>,
    pub(super) outbox: Outbox,
    /// Gone once the outbox is empty; the app hears nothing more but of its messages.
    pub(super) closing: bool,
    /// In the session's list of logs that may have something to send.
    pub(super) listed: bool,
    pub(super) send_after_ms: u64,
    pub(super) progress_ms: u64,
    pub(super) stall_timer: bool,
    /// Messages and bytes that have left the outbox and are not yet given back to the session.
    pub(super) freed: (usize, usize),
    /// For the last own position that stands.
    search: Option<Search>,
    follow_attempts: u32,
    send_attempts: u32,
}

impl LogSession {
    pub(super) fn new(id: LogId, timeline: Option<Timeline>) -> Self {
        Self {
            id,
            stage: Stage::Detached,
            timeline,
            outbox: Outbox::default(),
            closing: false,
            listed: false,
            send_after_ms: 0,
            progress_ms: 0,
            stall_timer: false,
            freed: (0, 0),
            search: None,
            follow_attempts: 0,
            send_attempts: 0,
        }
    }

    pub(super) fn connection_lost(&mut self) {
        self.stage = Stage::Detached;
        self.search = None;
        self.send_after_ms = 0;
        self.outbox.connection_lost();
    }

    /// Begins to follow, or again.
    pub(super) fn attach(&mut self, cx: &mut Cx) {
        self.search = None;
        match &self.timeline {
            Some(timeline) => {
                let (position, offset) = (timeline.end_position().clone(), timeline.end());
                self.subscribe(position, offset, cx);
            }
            None => {
                self.stage = Stage::FindingEnd;
                let from = Some(wire::read_history::From::Before(String::new()));
                let read = wire::ReadHistory { log: self.id.to_string(), from, limit: 1 };
                cx.ask(Request::FindEnd { log: self.id }, Frame::ReadHistory(read));
            }
        }
    }

    fn subscribe(&mut self, position: Position, offset: u64, cx: &mut Cx) {
        let subscribe = wire::Subscribe { log: self.id.to_string(), position: position.into() };
        let request = cx.ask(Request::Subscribe { log: self.id }, Frame::Subscribe(subscribe));
        self.stage = Stage::Subscribing { request, asked: offset };
    }

    /// The cursor that stands for this log in Hello.
    pub(super) fn greet(&mut self, request: u64) -> Option<wire::LogCursor> {
        let timeline = self.timeline.as_ref()?;
        self.stage = Stage::Subscribing { request, asked: timeline.end() };
        Some(wire::LogCursor {
            log: self.id.to_string(),
            position: timeline.end_position().as_str().to_owned(),
        })
    }

    fn wait(&mut self, after_ms: Option<u64>, cx: &mut Cx) {
        let until_ms = cx.now_ms + cx.wait_ms(self.follow_attempts, after_ms);
        self.follow_attempts += 1;
        self.stage = Stage::Waiting { until_ms };
        cx.wake_log(self.id, until_ms);
    }

    pub(super) fn end_found(&mut self, page: wire::HistoryPage, cx: &mut Cx) {
        if self.stage != Stage::FindingEnd {
            return;
        }
        let (offset, position) = page
            .entries
            .last()
            .map_or((0, Position::start()), |entry| (entry.offset, entry.position.as_str().into()));
        self.timeline = Some(Timeline::new(offset, position, cx.config.bounds.timeline_entries));
        self.attach(cx);
    }

    /// # Errors
    /// The log cannot be followed, ever.
    pub(super) fn follow_refused(&mut self, error: Refused, cx: &mut Cx) -> Result<(), Refused> {
        match &mut self.timeline {
            // All that we know of the order is in doubt: it is read anew, and the outbox stays.
            Some(timeline) if error.known() == Some(Code::PositionUnknown) && timeline.end() > 0 => {
                let cut = timeline.cut_to(0);
                self.undone(cut, cx);
            }
            _ if error.is_final() => return Err(error),
            _ => {}
        }
        self.wait(error.retry_after_ms, cx);
        Ok(())
    }

    /// # Errors
    /// The log cannot be followed, ever.
    pub(super) fn resumed(
        &mut self,
        request: u64,
        answer: Option<Answer>,
        cx: &mut Cx,
    ) -> Result<(), Refused> {
        let Stage::Subscribing { request: asked_by, asked } = self.stage else { return Ok(()) };
        if request != asked_by && request != 0 {
            return Ok(());
        }
        let Some(timeline) = &mut self.timeline else { return Ok(()) };
        match answer {
            Some(Answer::Continue(here)) => {
                if let Some(search) = &mut self.search {
                    search.stands(timeline.place_at(asked));
                    if self.search_on(cx) {
                        return Ok(());
                    }
                }
                self.live(cx);
                self.replicated(here.replicated.into(), here.replicated_offset, cx);
                Ok(())
            }
            Some(Answer::Diverged(diverged)) => {
                if let Some(search) = &mut self.search {
                    search.undone(timeline.place_at(asked));
                }
                self.stage = Stage::Live;
                self.diverged(diverged, cx);
                Ok(())
            }
            Some(Answer::Error(error)) => self.follow_refused(error.into(), cx),
            None => {
                self.wait(None, cx);
                Ok(())
            }
        }
    }

    fn live(&mut self, cx: &mut Cx) {
        self.stage = Stage::Live;
        self.progress_ms = cx.now_ms;
        self.tell_following(cx);
    }

    /// The app wants the chat after all: it goes on from where the session has read it to meanwhile.
    pub(super) fn open_again(&mut self, cx: &mut Cx) {
        if std::mem::take(&mut self.closing) && self.stage == Stage::Live {
            self.tell_following(cx);
        }
    }

    fn tell_following(&mut self, cx: &mut Cx) {
        let Some(timeline) = &self.timeline else { return };
        if !self.closing {
            cx.event(Event::Following {
                log: self.id,
                position: timeline.end_position().clone(),
                offset: timeline.end(),
            });
        }
    }

    pub(super) fn diverged(&mut self, diverged: wire::Diverged, cx: &mut Cx) {
        let (Stage::Live, Some(timeline)) = (self.stage, &mut self.timeline) else { return };
        match timeline.diverge(&diverged.common.into(), diverged.common_offset) {
            Agreement::Common(cut) => {
                self.search = None;
                self.undone(cut, cx);
                self.live(cx);
            }
            Agreement::Undone { place } => {
                self.search.get_or_insert(Search::below(place)).undone(place);
                if !self.search_on(cx) {
                    // The server goes on from where it was asked last; it is to go on from here.
                    self.attach(cx);
                }
            }
        }
    }

    /// Asks for the next place of the search; `false`: it has ended, and what does not stand is cut off.
    fn search_on(&mut self, cx: &mut Cx) -> bool {
        let (Some(search), Some(timeline)) = (&mut self.search, &mut self.timeline) else { return false };
        match search.next() {
            Next::Ask(place) => {
                let (offset, position) = timeline.place(place);
                self.subscribe(position, offset, cx);
                true
            }
            Next::Found(place) => {
                self.search = None;
                let cut = timeline.cut_to(timeline.place(place).0);
                self.undone(cut, cx);
                false
            }
        }
    }

    fn undone(&mut self, cut: Cut, cx: &mut Cx) {
        let Some(timeline) = &self.timeline else { return };
        self.outbox.undone_behind(timeline.end());
        if (!cut.undone.is_empty() || cut.forgotten) && !self.closing {
            cx.event(Event::Diverged {
                log: self.id,
                common_offset: timeline.end(),
                undone: cut.undone.into_iter().map(|key| key.message_id).collect(),
                forgotten: cut.forgotten,
            });
        }
    }

    /// Not every entry was sent to us.
    pub(super) fn behind(&mut self, cx: &mut Cx) {
        if self.stage == Stage::Live {
            self.ask_anew(cx);
        }
    }

    /// A wait keeps a server that answers wrongly, or cannot read, from being asked in a tight loop.
    fn ask_anew(&mut self, cx: &mut Cx) {
        if self.follow_attempts > 2 {
            return self.wait(None, cx);
        }
        self.follow_attempts += 1;
        self.attach(cx);
    }

    pub(super) fn entries(&mut self, entries: Vec<wire::Entry>, cx: &mut Cx) {
        for entry in entries {
            let (Stage::Live, Some(timeline)) = (self.stage, &mut self.timeline) else { return };
            let entry = match Entry::try_from(entry) {
                Ok(entry) => entry,
                Err(error) => return cx.broken(error.to_string()),
            };
            match timeline.take(&entry) {
                Step::Known => {}
                Step::New => self.read(entry, false, cx),
                Step::Moved => self.read(entry, true, cx),
                Step::Gap | Step::Conflict => self.ask_anew(cx),
            }
        }
        if let Some(timeline) = &mut self.timeline {
            let advance = timeline.replicate_ahead();
            self.advance(advance, cx);
        }
        self.leave(cx);
    }

    fn read(&mut self, entry: Entry, moved: bool, cx: &mut Cx) {
        self.follow_attempts = 0;
        let own = entry.device == cx.config.device && entry.sender == cx.config.user;
        if own && let Some(message) = self.outbox.get_mut(&entry.message_id) {
            if !matches!(message.state, State::Over { .. }) {
                message.state = State::InLog { offset: entry.offset, position: entry.position.clone() };
            }
            self.progress_ms = cx.now_ms;
            self.tell_home(&entry.message_id, entry.position.clone(), entry.offset, cx);
        }
        if self.closing {
            return;
        }
        cx.event(match moved {
            true => Event::Moved { log: self.id, entry },
            false => Event::Entry { log: self.id, entry },
        });
    }

    fn tell_home(&mut self, id: &types::MessageId, position: Position, offset: u64, cx: &mut Cx) {
        let log = self.id;
        if let Some(message) = self.outbox.get_mut(id) {
            if !message.told_home {
                message.told_home = true;
                cx.event(Event::Home { log, message_id: *id, position, offset, last: cx.one_region });
            }
            if cx.one_region {
                message.state = State::Over { in_log: true };
            }
        }
    }

    pub(super) fn replicated(&mut self, position: Position, offset: u64, cx: &mut Cx) {
        let (Stage::Live, Some(timeline)) = (self.stage, &mut self.timeline) else { return };
        let advance = timeline.replicate(position, offset);
        self.advance(advance, cx);
        self.leave(cx);
    }

    fn advance(&mut self, advance: Advance, cx: &mut Cx) {
        match advance {
            Advance::Nothing => {}
            Advance::To(offset) => {
                self.progress_ms = cx.now_ms;
                if !self.closing {
                    cx.event(Event::ReplicatedUpTo { log: self.id, offset });
                }
            }
            Advance::Conflict => self.behind(cx),
        }
    }

    /// Gives what is settled out of the outbox.
    pub(super) fn leave(&mut self, cx: &mut Cx) {
        let Some(timeline) = &self.timeline else { return };
        for left in self.outbox.leave(timeline.replicated(), timeline.end()) {
            self.freed.0 += 1;
            self.freed.1 += left.bytes;
            if let Some((offset, position)) = left.replicated {
                cx.event(Event::Replicated { log: self.id, message_id: left.id, position, offset });
            }
        }
    }

    pub(super) fn send_next(&mut self, cx: &mut Cx) -> bool {
        if self.stage != Stage::Live || cx.now_ms < self.send_after_ms {
            return false;
        }
        let Some((message, after)) = self.outbox.take_next() else { return false };
        let ack = if message.definite { wire::AckPolicy::Replicated } else { wire::AckPolicy::Home };
        let content = &message.content;
        let kind = if content.kind == MessageKind::Text { "" } else { proto::kind_name(content.kind) };
        let send = wire::Send {
            log: self.id.to_string(),
            message_id: message.id.to_string(),
            ciphertext: content.body.clone(),
            ack: ack.into(),
            deadline_ms: cx.config.timing.write_deadline_ms,
            after_message_id: after.map(|id| id.to_string()).unwrap_or_default(),
            kind: kind.to_owned(),
            refers_to: content.refers_to.clone().map(Into::into),
        };
        let request = Request::Send { log: self.id, message_id: message.id };
        cx.ask(request, Frame::Send(send));
        true
    }

    pub(super) fn sent(&mut self, id: &types::MessageId, sent: wire::Sent, cx: &mut Cx) {
        self.outbox.answered();
        self.send_attempts = 0;
        self.progress_ms = cx.now_ms;
        let Some(message) = self.outbox.get_mut(id) else { return };
        let position = Position::from(sent.position);
        let certain = sent.ack == i32::from(wire::AckPolicy::Replicated);
        if certain && !matches!(message.state, State::Over { .. }) {
            message.state = State::Over { in_log: true };
            self.tell_home(id, position.clone(), sent.offset, cx);
            cx.event(Event::Replicated { log: self.id, message_id: *id, position, offset: sent.offset });
        } else if message.state == State::InFlight {
            message.state = State::Home { offset: sent.offset };
            self.tell_home(id, position, sent.offset, cx);
        }
        self.leave(cx);
    }

    pub(super) fn send_refused(&mut self, id: &types::MessageId, error: Refused, cx: &mut Cx) {
        self.outbox.answered();
        let Some(message) = self.outbox.get_mut(id) else { return };
        if message.state != State::InFlight {
            return;
        }
        if error.is_final() {
            message.state = State::Over { in_log: false };
            let error = SendError::Refused(error);
            cx.event(Event::Failed { log: self.id, message_id: *id, error });
            return self.leave(cx);
        }
        let sure = message.is_asked_again();
        self.outbox.requeue(id);
        if sure {
            return;
        }
        let wait_ms = cx.wait_ms(self.send_attempts, error.retry_after_ms);
        self.send_after_ms = self.send_after_ms.max(cx.now_ms + wait_ms);
        cx.wake_log(self.id, self.send_after_ms);
        if error.known() != Some(Code::OutOfOrder) {
            self.send_attempts += 1;
            return;
        }
        // The home misses a message that we believed to be there: the order must have changed under us.
        if self.outbox.believed_before(id) {
            self.send_attempts += 1;
            self.behind(cx);
        }
    }

    /// Ends the log: its messages fail with `error`.
    pub(super) fn fail(&mut self, error: &SendError, cx: &mut Cx) {
        for message in self.outbox.clear() {
            self.freed.0 += 1;
            self.freed.1 += message.content.body.len();
            if !matches!(message.state, State::Over { .. }) {
                cx.event(Event::Failed { log: self.id, message_id: message.id, error: error.clone() });
            }
        }
    }

    /// A wait of this log may be over.
    pub(super) fn tick(&mut self, cx: &mut Cx) {
        if let Stage::Waiting { until_ms } = self.stage
            && cx.now_ms >= until_ms
        {
            self.attach(cx);
        }
    }

    /// Where nothing has moved for long, asks again, wanting sure answers.
    pub(super) fn resend_stalled(&mut self, cx: &mut Cx) {
        let stall_ms = cx.config.timing.stall_ms;
        if self.stage == Stage::Live && !self.outbox.is_empty() && cx.now_ms >= self.progress_ms + stall_ms {
            self.progress_ms = cx.now_ms;
            self.outbox.stalled();
        }
    }

    pub(super) fn push(&mut self, cx: &mut Cx, id: types::MessageId, content: crate::Message) {
        if self.outbox.is_empty() {
            self.progress_ms = cx.now_ms;
        }
        self.outbox.push(id, content);
        cx.event(Event::Accepted { log: self.id, message_id: id });
    }
}
