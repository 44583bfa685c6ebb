//! One log on its way to the sessions of this node that follow it.
//!
//! A feed follows the log's bus at its home and hands each entry to every session that stands directly
//! before it. A session that stands further back is *filled* from the log, together with all others that
//! stand at the same position, and meets the bus in the feed's tail. Nothing waits in a feed for a slow
//! session: one whose queue is full leaves the feed and is told where it stands.
//!
//! ```text
//!             join (checked in this epoch)          met the bus
//!   session ──────────────────────────► Filling ─────────────────► Current ──► overflow: left
//!      │  join (checked in an older one)   ▲ ▲ └──── gap ◄────────────┤
//!      └─────────────► Checking ───────────┘ └──── (continue, or told diverged)
//!                         ▲────────── a higher epoch: at the home, or on the bus ┘
//! ```
//!
//! Invariants: a session gets entries in offset order, each following the one before; what the bus tells in
//! an epoch reaches only sessions whose position was checked in just that epoch; a tick reaches a session only behind
//! the entry that it speaks of.

mod settle;

use crate::{
    bus::Published,
    router::Route,
    service::{LocateAnswer, ReadRefusal, Subscribed},
};
use log_store::locate::Located;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};
use types::{Body, EntryBody, Epoch, PartitionId, Position, UserId};

/// How long a feed that nobody follows stays subscribed, in ms.
const LINGER_MS: u64 = 5_000;
/// What a feed keeps of the latest entries while a session is being filled.
const TAIL_MAX_ENTRIES: usize = 512;
const TAIL_MAX_BYTES: usize = 256 * 1024;

/// Names a session on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SessionId(pub(crate) u64);

/// Names one filling of one session; a later one makes it void.
pub(crate) type FillId = u64;

#[derive(Debug)]
pub(crate) enum Input {
    /// A session follows the log behind a position that was checked in an epoch; it leaves its old place.
    Join {
        session: SessionId,
        user: UserId,
        position: Position,
        checked: Epoch,
    },
    Leave(SessionId),
    /// Where the log can be followed now, if anywhere.
    Route(Option<Route>),
    Subscribed(Route, Option<Subscribed>),
    Published(Arc<Published>),
    Replicated(Position),
    /// Events were dropped.
    Lagged,
    /// The home gave its office up.
    Ended(Epoch),
    /// A session was handed what lies behind its position, up to `to`.
    Filled {
        session: SessionId,
        fill: FillId,
        to: Position,
        at_end: bool,
    },
    /// A session could not be filled.
    NotFilled {
        session: SessionId,
        fill: FillId,
        why: ReadRefusal,
    },
    /// What the home says of a position.
    Checked(Position, Result<LocateAnswer, ReadRefusal>),
    /// A session's queue was full; it has nothing behind `has`.
    Overflowed {
        session: SessionId,
        has: Position,
    },
    Tick,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Output {
    SubscribeAt(Route),
    Unsubscribe(Route),
    /// Hand the entry to these sessions, each of which has everything up to the position beside it.
    Deliver {
        entry: Arc<Published>,
        to: Vec<(SessionId, Position)>,
    },
    /// Read what follows `after` and hand it to these sessions. The log goes up to `known_head` at least.
    Fill {
        after: Position,
        to: Vec<(SessionId, FillId)>,
        user: UserId,
        known_head: Position,
    },
    /// Ask the home about a position.
    Check {
        position: Position,
        user: UserId,
    },
    Diverged {
        session: SessionId,
        common: Position,
    },
    /// Tell these sessions, each of which has everything up to the position beside it.
    Replicated {
        position: Position,
        to: Vec<(SessionId, Position)>,
    },
    /// The session has left the feed; it has nothing behind this position.
    Behind {
        session: SessionId,
        position: Position,
    },
    /// Nobody follows the log any more.
    Drop,
}

#[derive(Debug)]
pub(crate) struct Feed {
    partition: PartitionId,
    members: BTreeMap<SessionId, Member>,
    /// The last entry of the log that is known, in `epoch`.
    head: Position,
    replicated: Position,
    /// The home's epoch at the last subscription; zero before the first.
    epoch: Epoch,
    subscribed: Option<Route>,
    asking: Option<Route>,
    /// The latest published while a subscription is being answered.
    seen: Position,
    checks: BTreeSet<Position>,
    tail: VecDeque<Arc<Published>>,
    tail_bytes: usize,
    next_fill: FillId,
    idle_since_ms: Option<u64>,
}

#[derive(Debug)]
struct Member {
    user: UserId,
    position: Position,
    /// The epoch in which `position` was found to stand.
    checked: Epoch,
    state: State,
    told: Position,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its position must be checked by the home.
    Checking,
    /// It is behind the feed; nothing is under way for it.
    Lacking,
    /// It is being filled.
    Filling(FillId),
    /// It could not be checked or filled just now; the next tick tries again.
    Stuck { checking: bool },
    /// It gets what is published.
    Current,
}

impl Feed {
    pub(crate) fn new(partition: PartitionId) -> Self {
        Self {
            partition,
            members: BTreeMap::new(),
            head: Position::START,
            replicated: Position::START,
            epoch: Epoch::ZERO,
            subscribed: None,
            asking: None,
            seen: Position::START,
            checks: BTreeSet::new(),
            tail: VecDeque::new(),
            tail_bytes: 0,
            next_fill: 1,
            idle_since_ms: None,
        }
    }

    pub(crate) const fn partition(&self) -> PartitionId {
        self.partition
    }

    /// Whether a tick may have something to do.
    pub(crate) fn is_restless(&self) -> bool {
        self.subscribed.is_none()
            || self.members.is_empty()
            || self.members.values().any(|member| matches!(member.state, State::Stuck { .. }))
    }

    /// Whether a session still waits for this filling.
    pub(crate) fn awaits(&self, session: SessionId, fill: FillId) -> bool {
        self.members.get(&session).is_some_and(|member| member.state == State::Filling(fill))
    }

    pub(crate) fn handle(&mut self, now_ms: u64, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Join { session, user, position, checked } => {
                let state = if checked < self.epoch { State::Checking } else { State::Lacking };
                let told = Position::START;
                self.members.insert(session, Member { user, position, checked, state, told });
            }
            Input::Leave(session) => drop(self.members.remove(&session)),
            Input::Route(route) => self.follow(route, out),
            Input::Subscribed(route, answer) => self.subscribed(route, answer),
            Input::Published(published) => self.published(published, out),
            Input::Replicated(position) => self.replicated = self.replicated.max(position),
            Input::Lagged => self.ask_again(out),
            Input::Ended(epoch) => {
                if epoch >= self.epoch {
                    self.subscribed = None;
                }
            }
            Input::Filled { session, fill, to, at_end } => self.filled(session, fill, to, at_end),
            Input::NotFilled { session, fill, why } => self.not_filled(session, fill, &why, out),
            Input::Checked(position, answer) => self.checked(position, &answer, out),
            Input::Overflowed { session, has } => {
                if self.members.remove(&session).is_some() {
                    out.push(Output::Behind { session, position: has });
                }
            }
            Input::Tick => self.try_again(),
        }
        self.settle(out);
        self.tick_replicated(out);
        self.linger(now_ms, out);
    }

    fn follow(&mut self, route: Option<Route>, out: &mut Vec<Output>) {
        let Some(route) = route else { return };
        if self.asking.is_some() || self.subscribed.as_ref() == Some(&route) || route.epoch < self.epoch {
            return;
        }
        if let Some(old) = self.subscribed.take()
            && old.channel != route.channel
        {
            out.push(Output::Unsubscribe(old));
        }
        self.asking = Some(route.clone());
        self.seen = Position::START;
        out.push(Output::SubscribeAt(route));
    }

    /// Asks the home where its log ends, since the bus may have lost something.
    fn ask_again(&mut self, out: &mut Vec<Output>) {
        if let (Some(route), None) = (&self.subscribed, &self.asking) {
            self.asking = Some(route.clone());
            self.seen = Position::START;
            out.push(Output::SubscribeAt(route.clone()));
        }
    }

    fn subscribed(&mut self, route: Route, answer: Option<Subscribed>) {
        if self.asking.as_ref() != Some(&route) {
            return;
        }
        self.asking = None;
        let Some(answer) = answer.filter(|answer| answer.epoch >= self.epoch) else {
            self.subscribed = None;
            return;
        };
        self.subscribed = Some(route);
        if answer.epoch > self.epoch {
            self.enter(answer.epoch);
            self.head = answer.head;
        }
        // What this epoch published while the answer was under way is known by its end only.
        let seen = Some(self.seen).filter(|seen| seen.epoch == self.epoch);
        for known in [Some(answer.head), seen].into_iter().flatten() {
            if known.offset > self.head.offset {
                self.head = known;
                self.clear_tail();
            }
        }
        self.replicated = self.replicated.max(answer.replicated);
    }

    /// From now on the log is told in this epoch: every position must be found to stand in it.
    fn enter(&mut self, epoch: Epoch) {
        self.epoch = epoch;
        self.clear_tail();
        for member in self.members.values_mut() {
            if member.checked < epoch {
                member.state = State::Checking;
            } else if member.state == State::Current {
                // Its position was checked in this epoch, but what was read behind it need not be of it.
                member.state = State::Lacking;
            }
        }
    }

    fn published(&mut self, published: Arc<Published>, out: &mut Vec<Output>) {
        let Some(position) = published.record.position() else { return };
        if position.epoch < self.epoch {
            return;
        }
        if self.asking.is_some() {
            self.seen = self.seen.max(position);
        }
        if position.epoch > self.epoch {
            // The answer to a subscription, under way or to come, tells what this epoch took over.
            self.ask_again(out);
            return;
        }
        if position.offset <= self.head.offset {
            return;
        }
        let follows = position.offset == self.head.offset.plus(1);
        if follows && !self.head.offset.is_zero() && published.previous_epoch != self.head.epoch {
            // The head was undone, and with it perhaps what sessions have seen.
            for member in self.members.values_mut() {
                member.state = State::Checking;
            }
        }
        self.head = position;
        if !follows {
            self.clear_tail();
        }
        let mut to = Vec::new();
        let mut someone_lacks = false;
        for (session, member) in &mut self.members {
            // A session that was checked in a later epoch takes nothing more of this one.
            let is_here = member.state == State::Current && member.checked <= self.epoch;
            if is_here && member.position.offset.plus(1) == position.offset {
                to.push((*session, member.position));
                member.position = position;
            }
            someone_lacks |= member.state != State::Current;
        }
        if someone_lacks {
            self.keep(Arc::clone(&published));
        } else {
            self.clear_tail();
        }
        if !to.is_empty() {
            out.push(Output::Deliver { entry: published, to });
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

    fn clear_tail(&mut self) {
        self.tail.clear();
        self.tail_bytes = 0;
    }

    fn filled(&mut self, session: SessionId, fill: FillId, to: Position, at_end: bool) {
        let (is_followed, head) = (self.subscribed.is_some(), self.head);
        let Some(member) = self.members.get_mut(&session) else { return };
        if member.state != State::Filling(fill) {
            return;
        }
        let moved = to != member.position;
        member.position = to;
        member.state = if moved || (is_followed && to.offset >= head.offset) {
            State::Lacking
        } else if !is_followed && at_end && to.offset >= head.offset {
            State::Current
        } else {
            State::Stuck { checking: false }
        };
    }

    fn try_again(&mut self) {
        for member in self.members.values_mut() {
            if let State::Stuck { checking } = member.state {
                member.state = if checking { State::Checking } else { State::Lacking };
            }
        }
    }

    fn not_filled(&mut self, session: SessionId, fill: FillId, why: &ReadRefusal, out: &mut Vec<Output>) {
        let Some(member) = self.members.get_mut(&session) else { return };
        if member.state != State::Filling(fill) {
            return;
        }
        member.state = match why {
            // The home's word decides; the copy that was read may itself be of an older epoch.
            ReadRefusal::Diverged { .. } => State::Checking,
            ReadRefusal::Refused(refusal) if !refusal.is_retryable() => {
                let position = member.position;
                self.members.remove(&session);
                out.push(Output::Behind { session, position });
                return;
            }
            _ => State::Stuck { checking: false },
        };
    }

    fn checked(
        &mut self,
        position: Position,
        answer: &Result<LocateAnswer, ReadRefusal>,
        out: &mut Vec<Output>,
    ) {
        self.checks.remove(&position);
        let asked = |member: &Member| member.state == State::Checking && member.position == position;
        match answer {
            Ok(LocateAnswer { epoch, located, .. }) if *epoch >= self.epoch => {
                for (session, member) in self.members.iter_mut().filter(|(_, member)| asked(member)) {
                    match located {
                        Located::Continue => {}
                        Located::Diverged { common } => {
                            member.position = *common;
                            member.told = Position::START;
                            out.push(Output::Diverged { session: *session, common: *common });
                        }
                        Located::Ahead => {
                            member.state = State::Stuck { checking: true };
                            continue;
                        }
                    }
                    member.checked = *epoch;
                    member.state = State::Lacking;
                }
            }
            Err(ReadRefusal::Refused(refusal)) if !refusal.is_retryable() => {
                self.members.retain(|session, member| {
                    let is_refused = asked(member);
                    if is_refused {
                        out.push(Output::Behind { session: *session, position });
                    }
                    !is_refused
                });
            }
            _ => {
                for member in self.members.values_mut().filter(|member| asked(member)) {
                    member.state = State::Stuck { checking: true };
                }
            }
        }
    }

    /// Tells how far the log is replicated to those who have it that far.
    fn tick_replicated(&mut self, out: &mut Vec<Output>) {
        let position = self.replicated;
        let to: Vec<(SessionId, Position)> = self
            .members
            .iter_mut()
            .filter(|(_, member)| {
                member.state != State::Checking
                    && member.state != (State::Stuck { checking: true })
                    && member.checked >= self.epoch
                    && member.told < position
                    && member.position.offset >= position.offset
                    && member.position.era() >= position.era()
            })
            .map(|(session, member)| {
                member.told = position;
                (*session, member.position)
            })
            .collect();
        if !to.is_empty() {
            out.push(Output::Replicated { position, to });
        }
    }

    fn linger(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        if !self.members.is_empty() {
            self.idle_since_ms = None;
            return;
        }
        self.clear_tail();
        let since_ms = *self.idle_since_ms.get_or_insert(now_ms);
        if self.asking.is_none() && now_ms.saturating_sub(since_ms) >= LINGER_MS {
            out.extend(self.subscribed.take().map(Output::Unsubscribe));
            out.push(Output::Drop);
        }
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
