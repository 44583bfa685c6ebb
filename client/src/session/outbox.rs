//! The messages of one log that are not replicated yet, in the order in which the app sent them.
//!
//! ```text
//!            sent           home ack          seen in the log        replicated
//!   Queued ───────▶ InFlight ───────▶ Home ───────────────▶ InLog ─────────────▶ (left)
//!     ▲                │                │                     │
//!     └────────────────┴────────────────┴─────────────────────┘
//!      refused for now, reconnect     undone, never seen
//! ```
//!
//! Invariants: messages leave from the front only; one that is refused for now stops those behind it
//! until nothing of the log is in flight, so that they are sent again in order; each names the one before
//! it, so that the home keeps that order even where its answers are lost.

use crate::Position;
use std::collections::{HashMap, VecDeque};
use types::MessageId;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Queued,
    InFlight,
    /// The home has answered; whether the entry stands in the order that we read is not known yet.
    Home {
        offset: u64,
    },
    /// Read back from the log at this place.
    InLog {
        offset: u64,
        position: Position,
    },
    /// Replicated for certain, or refused for good; waits for those before it.
    Over {
        in_log: bool,
    },
}

pub(super) struct Message {
    pub(super) id: MessageId,
    pub(super) content: crate::Message,
    pub(super) state: State,
    /// Its answer is wanted at `replicated`, because the log that we read cannot show it any more.
    pub(super) definite: bool,
    /// The app knows that it is home.
    pub(super) told_home: bool,
    /// What it was before it was sent again to be sure; it is that again when nothing sure is answered.
    believed: Option<State>,
}

impl Message {
    /// It counts as written, and was sent again only to be sure.
    pub(super) const fn is_asked_again(&self) -> bool {
        self.believed.is_some()
    }
}

/// A message that became replicated.
pub(super) struct Left {
    pub(super) id: MessageId,
    pub(super) bytes: usize,
    /// Where it stands, unless that was told before.
    pub(super) replicated: Option<(u64, Position)>,
}

#[derive(Default)]
pub(super) struct Outbox {
    queue: VecDeque<Message>,
    index: HashMap<MessageId, u64>,
    /// The sequence number of the front.
    first: u64,
    /// Where the next look for a queued message begins.
    next: u64,
    in_flight: usize,
    draining: bool,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn messages(&self) -> impl Iterator<Item = &Message> {
        self.queue.iter()
    }

    pub(super) fn contains(&self, id: &MessageId) -> bool {
        self.index.contains_key(id)
    }

    pub(super) fn push(&mut self, id: MessageId, content: crate::Message) {
        self.index.insert(id, self.first + self.queue.len() as u64);
        self.queue.push_back(Message {
            id,
            content,
            state: State::Queued,
            definite: false,
            told_home: false,
            believed: None,
        });
    }

    pub(super) fn get_mut(&mut self, id: &MessageId) -> Option<&mut Message> {
        let at = self.index.get(id)? - self.first;
        self.queue.get_mut(at as usize)
    }

    /// Marks the next message to send as in flight, and answers it with the one that it must follow.
    pub(super) fn take_next(&mut self) -> Option<(&Message, Option<MessageId>)> {
        if self.draining {
            return None;
        }
        self.next = self.next.max(self.first);
        loop {
            let at = (self.next - self.first) as usize;
            let state = &self.queue.get(at)?.state;
            self.next += 1;
            if *state == State::Queued {
                self.in_flight += 1;
                self.queue[at].state = State::InFlight;
                return Some((&self.queue[at], self.before(at)));
            }
        }
    }

    fn before(&self, at: usize) -> Option<MessageId> {
        let mut earlier = self.queue.range(..at).rev();
        earlier.find(|message| message.state != State::Over { in_log: false }).map(|message| message.id)
    }

    /// The server has answered one write, however.
    pub(super) fn answered(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if self.in_flight == 0 {
            self.draining = false;
        }
    }

    /// The message goes out again; those behind it wait until nothing is in flight.
    pub(super) fn requeue(&mut self, id: &MessageId) {
        let Some(at) = self.index.get(id).copied() else { return };
        let message = &mut self.queue[(at - self.first) as usize];
        if let Some(believed) = message.believed.take() {
            message.state = believed;
        } else if matches!(message.state, State::InFlight | State::Home { .. }) {
            message.state = State::Queued;
            self.resend_from(at);
        }
    }

    /// Whether the message before this one counts as written, though the home did not find it; if only its
    /// answer says so, it goes out again too.
    pub(super) fn believed_before(&mut self, id: &MessageId) -> bool {
        let Some(at) = self.index.get(id).map(|at| (at - self.first) as usize) else { return false };
        let Some(before) = self.before(at) else { return false };
        match self.get_mut(&before).map(|message| &message.state) {
            Some(State::Home { .. }) => self.requeue(&before),
            Some(State::InLog { .. }) => {}
            _ => return false,
        }
        true
    }

    fn resend_from(&mut self, at: u64) {
        self.next = self.next.min(at);
        self.draining = self.in_flight > 0;
    }

    /// The connection is gone: nothing is in flight, and no answer of its time counts any more.
    pub(super) fn connection_lost(&mut self) {
        self.in_flight = 0;
        self.draining = false;
        for message in &mut self.queue {
            message.believed = None;
            if matches!(message.state, State::InFlight | State::Home { .. }) {
                message.state = State::Queued;
            }
        }
        self.next = self.first;
    }

    /// Everything behind `common` was undone, and answers that name a place may speak of the undone one.
    pub(super) fn undone_behind(&mut self, common: u64) {
        let mut earliest = None;
        for (at, message) in self.queue.iter_mut().enumerate() {
            message.believed = None;
            let (again, undone) = match message.state {
                State::Home { offset } => (true, offset > common),
                State::InLog { offset, .. } => (offset > common, offset > common),
                _ => (false, false),
            };
            if again {
                message.state = State::Queued;
                message.told_home &= !undone;
                earliest.get_or_insert(at);
            }
        }
        if let Some(at) = earliest {
            self.resend_from(self.first + at as u64);
        }
    }

    /// Nothing has moved for long: asks for a sure answer about the first message, and sends again those that
    /// were acknowledged and never read back.
    pub(super) fn stalled(&mut self) {
        let mut earliest = None;
        for (at, message) in self.queue.iter_mut().enumerate() {
            let sure = at == 0 && matches!(message.state, State::Home { .. } | State::InLog { .. });
            if sure {
                message.believed = Some(message.state.clone());
                message.definite = true;
            }
            if sure || matches!(message.state, State::Home { .. }) {
                message.state = State::Queued;
                earliest.get_or_insert(at);
            }
        }
        if let Some(at) = earliest {
            self.resend_from(self.first + at as u64);
        }
    }

    /// Takes from the front what is replicated, given that our order is, up to `replicated`. A message whose
    /// acknowledged place is held by another entry (`end` is as far as we have read) goes out again.
    pub(super) fn leave(&mut self, replicated: u64, end: u64) -> Vec<Left> {
        let mut left = Vec::new();
        while let Some(front) = self.queue.front_mut() {
            let replicated_at = match &front.state {
                State::InLog { offset, position } if *offset <= replicated => {
                    Some((*offset, position.clone()))
                }
                State::Over { .. } => None,
                State::Home { offset } if *offset <= end => {
                    front.state = State::Queued;
                    front.definite = true;
                    self.resend_from(self.first);
                    break;
                }
                _ => break,
            };
            if let Some(front) = self.queue.pop_front() {
                self.first += 1;
                self.index.remove(&front.id);
                left.push(Left { id: front.id, bytes: front.content.body.len(), replicated: replicated_at });
            }
        }
        left
    }

    /// Empties the outbox.
    pub(super) fn clear(&mut self) -> Vec<Message> {
        self.index.clear();
        let first = self.first + self.queue.len() as u64;
        let messages = self.queue.drain(..).collect();
        *self = Self { first, next: first, ..Self::default() };
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> MessageId {
        MessageId::from_bytes([number; 16])
    }

    fn outbox(count: u8) -> Outbox {
        let mut outbox = Outbox::default();
        for number in 1..=count {
            outbox.push(id(number), "body".into());
        }
        outbox
    }

    fn send(outbox: &mut Outbox) -> Vec<(MessageId, Option<MessageId>)> {
        std::iter::from_fn(|| outbox.take_next().map(|(message, after)| (message.id, after))).collect()
    }

    #[test]
    fn each_message_names_the_one_before() {
        let mut outbox = outbox(3);
        assert_eq!(send(&mut outbox), [(id(1), None), (id(2), Some(id(1))), (id(3), Some(id(2)))]);
    }

    #[test]
    fn a_refusal_in_the_middle_is_sent_again_in_order_once_nothing_is_in_flight() {
        let mut outbox = outbox(4);
        send(&mut outbox);
        outbox.get_mut(&id(1)).expect("there").state = State::Home { offset: 1 };
        outbox.answered();
        outbox.answered();
        outbox.requeue(&id(2));
        assert_eq!(send(&mut outbox), []);
        for number in [3, 4] {
            outbox.answered();
            outbox.requeue(&id(number));
        }
        assert_eq!(send(&mut outbox), [(id(2), Some(id(1))), (id(3), Some(id(2))), (id(4), Some(id(3)))]);
    }

    #[test]
    fn a_message_refused_for_good_is_no_condition_for_the_next() {
        let mut outbox = outbox(3);
        outbox.get_mut(&id(2)).expect("there").state = State::Over { in_log: false };
        assert_eq!(send(&mut outbox), [(id(1), None), (id(3), Some(id(1)))]);
    }

    #[test]
    fn only_what_was_read_back_and_is_replicated_leaves() {
        let mut outbox = outbox(2);
        send(&mut outbox);
        outbox.get_mut(&id(1)).expect("there").state = State::Home { offset: 1 };
        assert!(outbox.leave(5, 0).is_empty());
        outbox.get_mut(&id(1)).expect("there").state = State::InLog { offset: 1, position: "a.1".into() };
        assert!(outbox.leave(0, 1).is_empty());
        assert_eq!(outbox.leave(1, 1).len(), 1);
        assert_eq!(outbox.queue.len(), 1);
    }

    #[test]
    fn a_stall_asks_about_the_first_message_and_holds_up_no_other() {
        let mut outbox = outbox(2);
        send(&mut outbox);
        for number in [1, 2] {
            outbox.answered();
            let in_log = State::InLog { offset: number, position: "a".into() };
            outbox.get_mut(&id(number as u8)).expect("there").state = in_log;
        }
        outbox.stalled();
        outbox.push(id(3), "body".into());
        assert_eq!(send(&mut outbox), [(id(1), None), (id(3), Some(id(2)))]);
        outbox.answered();
        outbox.requeue(&id(1));
        let first = outbox.get_mut(&id(1)).expect("there");
        assert!(matches!(first.state, State::InLog { offset: 1, .. }), "still believed");
        outbox.push(id(4), "body".into());
        assert_eq!(send(&mut outbox), [(id(4), Some(id(3)))]);
    }

    #[test]
    fn an_acknowledged_place_that_another_entry_holds_is_asked_again() {
        let mut outbox = outbox(1);
        send(&mut outbox);
        outbox.answered();
        outbox.get_mut(&id(1)).expect("there").state = State::Home { offset: 1 };
        assert!(outbox.leave(1, 1).is_empty());
        assert_eq!(send(&mut outbox), [(id(1), None)]);
        assert!(outbox.get_mut(&id(1)).expect("there").definite);
    }
}
