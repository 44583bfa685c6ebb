//! What the bus says: where the log can be followed, where it stands, and what is new.

use super::{Era, Feed, Output, SessionId, State, Unsettled};
use crate::{bus::Published, router::Route, service::Subscribed};
use std::sync::Arc;
use types::{Body, EntryBody, PinSegment, Position};

/// What a feed keeps of the latest entries while a session is being filled.
const TAIL_MAX_ENTRIES: usize = 512;
const TAIL_MAX_BYTES: usize = 256 * 1024;

impl Feed {
    /// The log has another place: what its old home says does not count any more.
    pub(super) fn pinned(&mut self, pin: PinSegment, out: &mut Vec<Output>) {
        if pin.generation <= self.pinned {
            return;
        }
        let partition = std::mem::replace(&mut self.partition, pin.partition);
        self.pinned = pin.generation;
        if partition == pin.partition {
            return self.ask_again(out);
        }
        out.extend(self.subscribed.take().map(|route| Output::Unsubscribe(route, partition)));
        let Some(unsettled) = &mut self.unsettled else { return };
        unsettled.asking = None;
        for member in unsettled.members.values_mut().filter(|member| member.state == State::Waiting) {
            member.state = State::Lacking;
        }
    }

    pub(super) fn follow(&mut self, route: Option<Arc<Route>>, out: &mut Vec<Output>) {
        let Some(route) = route else { return };
        if self.is_asking()
            || self.subscribed.as_ref() == Some(&route)
            || (self.pinned, route.epoch) < self.era
        {
            return;
        }
        if let Some(old) = self.subscribed.take()
            && old.channel != route.channel
        {
            out.push(Output::Unsubscribe(old, self.partition));
        }
        self.ask(route, out);
    }

    /// The bus has lost something. An answer that is under way may be older than what is lost.
    pub(super) fn lagged(&mut self, out: &mut Vec<Output>) {
        match self.unsettled.as_mut().filter(|unsettled| unsettled.asking.is_some()) {
            Some(unsettled) => unsettled.has_lagged = true,
            None => self.ask_again(out),
        }
    }

    /// Asks the home where its log ends, since the bus may have lost something.
    pub(super) fn ask_again(&mut self, out: &mut Vec<Output>) {
        if let Some(route) = self.subscribed.clone()
            && !self.is_asking()
        {
            self.ask(route, out);
        }
    }

    fn ask(&mut self, route: Arc<Route>, out: &mut Vec<Output>) {
        let unsettled = self.unsettled();
        unsettled.asking = Some(Arc::clone(&route));
        unsettled.seen = Position::START;
        unsettled.has_lagged = false;
        out.push(Output::SubscribeAt(route));
    }

    pub(super) fn subscribed(
        &mut self,
        route: Arc<Route>,
        answer: Option<Subscribed>,
        out: &mut Vec<Output>,
    ) {
        let Some(unsettled) = &mut self.unsettled else { return };
        if unsettled.asking.as_ref() != Some(&route) {
            return;
        }
        unsettled.asking = None;
        let has_lagged = std::mem::take(&mut unsettled.has_lagged);
        let seen = std::mem::take(&mut unsettled.seen);
        for member in unsettled.members.values_mut().filter(|member| member.state == State::Waiting) {
            member.state = State::Lacking;
        }
        let era_of = |answer: &Subscribed| (answer.generation, answer.epoch);
        let Some(answer) = answer.filter(|answer| era_of(answer) >= self.era) else {
            self.subscribed = None;
            return;
        };
        self.subscribed = Some(route);
        if era_of(&answer) > self.era {
            self.enter(era_of(&answer));
            self.head = answer.head;
        }
        // What this era published while the answer was under way is known by its end only.
        let seen = Some(seen).filter(|seen| seen.era() == self.era);
        for known in [Some(answer.head), seen].into_iter().flatten() {
            if known.offset > self.head.offset {
                self.unlevel(State::Current);
                self.head = known;
                self.clear_tail();
            }
        }
        self.reached(answer.replicated);
        if has_lagged {
            self.ask_again(out);
        }
    }

    /// The log is replicated up to here.
    pub(super) fn reached(&mut self, position: Position) {
        if position > self.replicated {
            self.replicated = position;
            self.is_told = false;
        }
    }

    /// From now on the log is told in this era: every position must be found to stand in it.
    fn enter(&mut self, era: Era) {
        self.unlevel(State::Current);
        self.era = era;
        self.clear_tail();
        let Some(unsettled) = &mut self.unsettled else { return };
        for member in unsettled.members.values_mut() {
            if member.checked < era {
                member.state = State::Checking;
            } else if member.state == State::Current {
                // Its position was checked in this era, but what was read behind it need not be of it.
                member.state = State::Lacking;
            }
        }
    }

    pub(super) fn published(&mut self, burst: Vec<Arc<Published>>, out: &mut Vec<Output>) {
        let mut run = Run { after: self.head, entries: Vec::new() };
        for published in burst {
            let Some(position) = published.record.position() else { continue };
            if position.era() < self.era {
                continue;
            }
            if let Some(unsettled) = self.unsettled.as_mut().filter(|unsettled| unsettled.asking.is_some()) {
                unsettled.seen = unsettled.seen.max(position);
            }
            if position.era() > self.era {
                // The answer to a subscription, under way or to come, tells what this era took over.
                self.ask_again(out);
                continue;
            }
            if position.offset <= self.head.offset {
                continue;
            }
            let follows = position.offset == self.head.offset.plus(1);
            let is_undone =
                follows && !self.head.offset.is_zero() && published.previous_era != self.head.era();
            if !follows || is_undone {
                run.hand_over(&self.level, out);
                self.break_off(is_undone);
            }
            self.head = position;
            if let Some(unsettled) = &mut self.unsettled {
                unsettled.published(self.era, position, &published, out);
            }
            if !self.level.is_empty() {
                run.entries.push(published);
            }
        }
        run.hand_over(&self.level, out);
    }

    /// The next entry does not follow the head that is known: it is missing something, or the head was
    /// undone, and with it perhaps what sessions have seen.
    fn break_off(&mut self, is_undone: bool) {
        self.unlevel(State::Current);
        let Some(unsettled) = &mut self.unsettled else { return };
        unsettled.clear_tail();
        if is_undone {
            unsettled.members.values_mut().for_each(|member| member.state = State::Checking);
        }
    }

    fn clear_tail(&mut self) {
        if let Some(unsettled) = &mut self.unsettled {
            unsettled.clear_tail();
        }
    }
}

/// Entries that follow each other, and what comes before them.
struct Run {
    after: Position,
    entries: Vec<Arc<Published>>,
}

impl Run {
    fn hand_over(&mut self, level: &[SessionId], out: &mut Vec<Output>) {
        if !self.entries.is_empty() {
            let entries = std::mem::take(&mut self.entries);
            out.push(Output::Deliver { entries, after: self.after, to: level.to_vec() });
        }
    }
}

impl Unsettled {
    /// An entry for sessions that are not level: few are there, and fewer stand just before it.
    fn published(&mut self, era: Era, position: Position, published: &Arc<Published>, out: &mut Vec<Output>) {
        let mut someone_lacks = false;
        for (session, member) in &mut self.members {
            // A session that was checked in a later era takes nothing more of this one.
            let is_here = member.state == State::Current && member.checked <= era;
            if is_here && member.position.offset.plus(1) == position.offset {
                // It was filled from a copy that knew of a later home than this bus is of.
                if !member.position.offset.is_zero() && published.previous_era != member.position.era() {
                    member.state = State::Checking;
                    someone_lacks = true;
                    continue;
                }
                let entries = vec![Arc::clone(published)];
                out.push(Output::Deliver { entries, after: member.position, to: vec![*session] });
                member.position = position;
            }
            someone_lacks |= member.state != State::Current;
        }
        if someone_lacks {
            self.keep(Arc::clone(published));
        } else {
            self.clear_tail();
        }
    }

    fn keep(&mut self, published: Arc<Published>) {
        self.tail_bytes += bytes_of(&published);
        self.tail.push_back(published);
        while self.tail.len() > TAIL_MAX_ENTRIES || self.tail_bytes > TAIL_MAX_BYTES {
            let Some(first) = self.tail.pop_front() else { break };
            self.tail_bytes -= bytes_of(&first);
        }
    }

    pub(super) fn clear_tail(&mut self) {
        self.tail.clear();
        self.tail_bytes = 0;
    }
}

fn bytes_of(published: &Published) -> usize {
    const ENVELOPE_BYTES: usize = 128;
    match &published.record.body {
        Body::Entry(types::Entry { body: EntryBody::Message { ciphertext }, .. }) => {
            ENVELOPE_BYTES + ciphertext.len()
        }
        _ => ENVELOPE_BYTES,
    }
}
