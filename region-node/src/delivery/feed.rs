//! One log on its way to the sessions of this node that follow it.
//!
//! A feed follows the log's bus at its home and hands each entry to every session that stands directly
//! before it: what comes in one burst, as one. A session that stands further back is *filled* from the log,
//! together with all others that stand at the same position, and meets the bus in the feed's tail. Nothing
//! waits in a feed for a slow session: one whose queue is full leaves the feed and is told where it stands.
//!
//! Most sessions of most feeds are *level*: they stand at the head, and their position, epoch and last tick are
//! the feed's own. So of a level session a feed keeps nothing but its name, a burst costs nothing per session
//! but the handing over, and a feed whose sessions are all level holds little memory. Everything else, down to the
//! sessions that are not level, is in [`Unsettled`], which is there only while something is.
//!
//! ```text
//!             join (checked in this epoch)          met the bus
//!   session ──────────────────────────► Filling ─────────────────► Current ──► overflow: left
//!    │ │  join (checked in an older one)   ▲ ▲ └──── gap ◄────────────┤ ▲
//!    │ └─────────────► Checking ───────────┘ └──── (continue, or told diverged)
//!    │                    ▲────────── a higher epoch: at the home, or on the bus ┘
//!    │ join (with all that is known, while the home is being asked)       │
//!    └───────────────► Waiting ── answered: is it the end? then current, else Filling
//! ```
//!
//! Invariants: a session gets entries in offset order, each following the one before; what the bus tells in
//! an era, a (generation, epoch), reaches only sessions whose position was checked in just that era; a tick reaches a session only behind
//! the entry that it speaks of.

mod bus;
mod settle;

use crate::{
    bus::Published,
    router::Route,
    service::{LocateAnswer, ReadRefusal, Subscribed},
};
use smallvec::SmallVec;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};
use types::{Epoch, Generation, PartitionId, PinSegment, Position};

/// How long a feed that nobody follows stays subscribed, in ms.
pub(super) const LINGER_MS: u64 = 5_000;

/// Names a session on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SessionId(pub(crate) u64);

/// The (generation, epoch) in which something is told of a log.
pub(crate) type Era = (Generation, Epoch);

/// Names one filling of one session; a later one makes it void.
pub(crate) type FillId = u64;

#[derive(Debug)]
pub(crate) enum Input {
    /// A session follows the log behind a position that was checked in an epoch; it leaves its old place.
    /// `at_end`: nothing was known behind the position when it was checked.
    Join {
        session: SessionId,
        position: Position,
        checked: Era,
        at_end: bool,
    },
    Leave(SessionId),
    /// The log is pinned there. Its home tells the rest.
    Pinned(PinSegment),
    /// Where it is followed now it is not written any more.
    Moved,
    /// Where the log can be followed now, if anywhere.
    Route(Option<Arc<Route>>),
    Subscribed(Arc<Route>, Option<Subscribed>),
    /// What the bus told together, in its order.
    Published(Vec<Arc<Published>>),
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
    SubscribeAt(Arc<Route>),
    /// Of this partition.
    Unsubscribe(Arc<Route>, PartitionId),
    /// Hand the entries, each following the one before, to these sessions, which have everything up to
    /// `after`.
    Deliver {
        entries: Vec<Arc<Published>>,
        after: Position,
        to: Vec<SessionId>,
    },
    /// Read what follows `after` and hand it to these sessions. The log goes up to `known_head` at least.
    Fill {
        after: Position,
        to: Vec<(SessionId, FillId)>,
        known_head: Position,
    },
    /// Ask the home about a position, on behalf of a session that stands there.
    Check {
        position: Position,
        session: SessionId,
    },
    Diverged {
        session: SessionId,
        common: Position,
    },
    /// Tell these sessions, each of which has everything up to `has`. `is_news`: it has just come to be so; else
    /// they are told what others know already.
    Replicated {
        position: Position,
        has: Position,
        to: Vec<SessionId>,
        is_news: bool,
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
    /// The generation in which the log is pinned there.
    pinned: Generation,
    /// The home's era at the last subscription; zero before the first.
    era: Era,
    /// The last entry of the log that is known, in `era`.
    head: Position,
    replicated: Position,
    /// The sessions that are current at `head` and checked in `era`.
    level: SmallVec<[SessionId; 2]>,
    /// Whether the level sessions know how far it is `replicated`.
    is_told: bool,
    subscribed: Option<Arc<Route>>,
    next_fill: FillId,
    /// `None` rather than empty.
    unsettled: Option<Box<Unsettled>>,
}

/// What a feed needs only while something is under way.
#[derive(Debug, Default, PartialEq, Eq)]
struct Unsettled {
    /// The sessions that are not level.
    members: BTreeMap<SessionId, Member>,
    asking: Option<Arc<Route>>,
    /// The latest published while a subscription is being answered.
    seen: Position,
    /// Something was lost while a subscription is being answered.
    has_lagged: bool,
    checks: BTreeSet<Position>,
    tail: VecDeque<Arc<Published>>,
    tail_bytes: usize,
    idle_since_ms: Option<u64>,
    /// Some member may be stuck.
    has_stuck: bool,
}

/// Which members an input may have brought a step further; the others stand as they stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Touched {
    Nobody,
    One(SessionId),
    All,
}

impl Touched {
    /// As far as the input itself tells: one that changes what all have in common touches all.
    const fn by(input: &Input) -> Self {
        match input {
            Input::Join { session, .. }
            | Input::Filled { session, .. }
            | Input::NotFilled { session, .. } => Self::One(*session),
            Input::Leave(_) | Input::Overflowed { .. } | Input::Pinned(_) | Input::Route(_) => Self::Nobody,
            Input::Moved
            | Input::Subscribed(..)
            | Input::Published(_)
            | Input::Replicated(_)
            | Input::Lagged
            | Input::Ended(_)
            | Input::Checked(..)
            | Input::Tick => Self::All,
        }
    }
}

impl Unsettled {
    fn each(&mut self, touched: Touched, mut act: impl FnMut(SessionId, &mut Member)) {
        match touched {
            Touched::Nobody => {}
            Touched::One(session) => {
                if let Some(member) = self.members.get_mut(&session) {
                    act(session, member);
                }
            }
            Touched::All => self.members.iter_mut().for_each(|(session, member)| act(*session, member)),
        }
    }

    /// Notes whether someone is stuck; sure once all were touched.
    fn note_stuck(&mut self, touched: Touched) {
        let is_stuck = |member: &Member| matches!(member.state, State::Stuck { .. });
        self.has_stuck = match touched {
            Touched::All => self.members.values().any(is_stuck),
            Touched::One(session) => self.has_stuck || self.members.get(&session).is_some_and(is_stuck),
            Touched::Nobody => self.has_stuck,
        } && !self.members.is_empty();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Member {
    position: Position,
    /// The era in which `position` was found to stand.
    checked: Era,
    state: State,
    told: Position,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its position must be checked by the home.
    Checking,
    /// It has all that was known when it joined; the subscription that is under way tells of the rest.
    Waiting,
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
    pub(crate) fn new(pin: PinSegment) -> Self {
        Self {
            partition: pin.partition,
            pinned: pin.generation,
            era: Position::START.era(),
            head: Position::START,
            replicated: Position::START,
            level: SmallVec::new(),
            is_told: false,
            subscribed: None,
            next_fill: 1,
            unsettled: None,
        }
    }

    pub(crate) const fn partition(&self) -> PartitionId {
        self.partition
    }

    /// The sessions that follow the log.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = SessionId> {
        let unsettled = self.unsettled.iter().flat_map(|unsettled| unsettled.members.keys());
        self.level.iter().chain(unsettled).copied()
    }

    /// Whether a tick may have something to do.
    pub(crate) fn is_restless(&self) -> bool {
        self.subscribed.is_none()
            || self.is_deserted()
            || self.unsettled.as_ref().is_some_and(|unsettled| unsettled.has_stuck)
    }

    /// Whether a session still waits for this filling.
    pub(crate) fn awaits(&self, session: SessionId, fill: FillId) -> bool {
        let member = self.unsettled.as_ref().and_then(|unsettled| unsettled.members.get(&session));
        member.is_some_and(|member| member.state == State::Filling(fill))
    }

    pub(crate) fn handle(&mut self, now_ms: u64, input: Input, out: &mut Vec<Output>) {
        let is_tick = matches!(input, Input::Tick);
        let is_news = matches!(input, Input::Replicated(_));
        let (touched, before) = (Touched::by(&input), self.common());
        match input {
            Input::Join { session, position, checked, at_end } => {
                self.join(session, position, checked, at_end);
            }
            Input::Leave(session) => drop(self.remove(session)),
            Input::Pinned(pin) => self.pinned(pin, out),
            Input::Moved => self.subscribed = None,
            Input::Route(route) => self.follow(route, out),
            Input::Subscribed(route, answer) => self.subscribed(route, answer, out),
            Input::Published(burst) => self.published(burst, out),
            Input::Replicated(position) => self.reached(position),
            Input::Lagged => self.lagged(out),
            Input::Ended(epoch) => {
                if (self.pinned, epoch) >= self.era {
                    self.subscribed = None;
                }
            }
            Input::Filled { session, fill, to, at_end } => self.filled(session, fill, to, at_end),
            Input::NotFilled { session, fill, why } => self.not_filled(session, fill, &why, out),
            Input::Checked(position, answer) => self.checked(position, &answer, out),
            Input::Overflowed { session, has } => {
                if self.remove(session) {
                    out.push(Output::Behind { session, position: has });
                }
            }
            Input::Tick => self.try_again(),
        }
        let touched = if self.common() == before { touched } else { Touched::All };
        let levelled = self.settle(touched, out);
        self.tick_replicated(levelled, touched, is_news, out);
        self.linger(now_ms, is_tick, out);
        if let Some(unsettled) = &mut self.unsettled {
            unsettled.note_stuck(touched);
        }
        if self.unsettled.as_deref().is_some_and(|unsettled| *unsettled == Unsettled::default()) {
            self.unsettled = None;
        }
    }

    /// What the next step of every member depends on, beside itself.
    fn common(&self) -> impl PartialEq + use<> {
        let is_followed = (self.subscribed.is_some(), self.is_asking());
        (self.pinned, self.era, self.head, self.replicated, is_followed)
    }

    /// Whether all its sessions are level, and nothing is under way.
    #[cfg(test)]
    pub(crate) const fn is_settled(&self) -> bool {
        self.unsettled.is_none()
    }

    fn unsettled(&mut self) -> &mut Unsettled {
        self.unsettled.get_or_insert_default()
    }

    fn is_asking(&self) -> bool {
        self.unsettled.as_ref().is_some_and(|unsettled| unsettled.asking.is_some())
    }

    /// Nobody follows the log.
    fn is_deserted(&self) -> bool {
        self.level.is_empty() && self.unsettled.as_ref().is_none_or(|unsettled| unsettled.members.is_empty())
    }

    fn join(&mut self, session: SessionId, position: Position, checked: Era, at_end: bool) {
        self.remove(session);
        let state = match () {
            () if checked < self.era => State::Checking,
            () if at_end && self.subscribed.is_none() && self.is_asking() => State::Waiting,
            // Nobody knows of more; whoever is asked next tells.
            () if at_end && self.subscribed.is_none() && position.offset >= self.head.offset => {
                State::Current
            }
            () => State::Lacking,
        };
        let member = Member { position, checked, state, told: Position::START };
        self.unsettled().members.insert(session, member);
    }

    /// Takes a session out; `false` when it is not in the feed.
    fn remove(&mut self, session: SessionId) -> bool {
        if let Some(at) = self.level.iter().position(|level| *level == session) {
            self.level.swap_remove(at);
            return true;
        }
        self.unsettled.as_mut().is_some_and(|unsettled| unsettled.members.remove(&session).is_some())
    }

    /// The head moves without them, or from under them: what level sessions had in common each has for itself.
    fn unlevel(&mut self, state: State) {
        if self.level.is_empty() {
            return;
        }
        let told = if self.is_told { self.replicated } else { Position::START };
        let member = Member { position: self.head, checked: self.era, state, told };
        let level = std::mem::take(&mut self.level);
        self.unsettled().members.extend(level.into_iter().map(|session| (session, member)));
    }

    /// A feed goes only by a tick: any other input may have a session behind it that is about to join.
    fn linger(&mut self, now_ms: u64, is_tick: bool, out: &mut Vec<Output>) {
        if !self.is_deserted() {
            if let Some(unsettled) = &mut self.unsettled {
                unsettled.idle_since_ms = None;
            }
            return;
        }
        let unsettled = self.unsettled();
        unsettled.clear_tail();
        let since_ms = *unsettled.idle_since_ms.get_or_insert(now_ms);
        if is_tick && unsettled.asking.is_none() && now_ms.saturating_sub(since_ms) >= LINGER_MS {
            let partition = self.partition;
            out.extend(self.subscribed.take().map(|route| Output::Unsubscribe(route, partition)));
            out.push(Output::Drop);
        }
    }
}
