//! The pump: what carries one partition from its home to one follower. Pure: no clock, no socket.
//!
//! ```text
//!            route and both streams are there
//!    Idle ────────────────────────────────────▶ Probing ◀──────────────── Waiting
//!      ▲                                          │ the follower says       ▲ refused, not home,
//!      │ no route, or a stream broke              ▼ what it holds           │ a hole that stays
//!   (any state)                                Fetching (restart) ──────────┤
//!                                   first batch │    │ diverged             │
//!                                               ▼    ▼                      │
//!                                       Streaming    Truncating ──▶ Fetching│
//!                                            └──────────────────────────────┘
//!    (any state) ── the follower obeys a higher epoch ──▶ Fenced ── a route of that epoch ──▶ Probing
//! ```
//!
//! Invariants:
//!
//! - All that is said to the follower is said in the epoch of the home that said it. What a home says in
//!   another epoch than the one it was asked in is not passed on: a lower one is dropped; a higher one is
//!   adopted, and the follower is asked anew in it.
//! - The follower is handed only batches that directly follow what it holds or was handed before, and
//!   only after the home has matched its last record.
//! - It is told to truncate only what the home called diverged, and which tail that is: one that it holds no
//!   more, or another one, is not cut.
//! - Records received and not durable at the follower never pass the credit by more than
//!   [`bounds::CREDIT_SLACK_BYTES`].
//! - A fetch says only what the follower itself said to be durable.

mod batch;
mod handed;
#[cfg(test)]
mod judged;
#[cfg(test)]
mod model;
mod words;

use crate::bounds;
use batch::Taken;
use handed::Handed;
use proto::node::Batch;
use std::time::{Duration, Instant};
use types::{Epoch, Lsn, PartitionPosition};

pub(crate) use words::{Fetch, Fetched, Followed, Input, Note, Outcome, Output, Reply, Route, Say, Trouble};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Probing { since: Instant },
    Fetching { since: Instant },
    Streaming { heard: Instant },
    Truncating { common: PartitionPosition },
    Waiting { until: Instant },
    Fenced { fence: Epoch },
}

/// What time alone brings about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// The wait is over.
    Again,
    /// A question was not answered.
    Unanswered,
    /// A hole stayed open.
    Hole,
    /// The home has more and sends nothing.
    Silence,
}

/// Carries one partition from its home to one follower.
#[derive(Debug)]
pub(crate) struct Pump {
    route: Option<Route>,
    follow_up: bool,
    fetch_up: bool,
    state: State,
    /// In which everything is said: the route's, or the home's own where that is higher.
    epoch: Epoch,
    credit_bytes: u32,
    /// The follower's last durable record, in its own words.
    durable: PartitionPosition,
    /// What the follower was handed behind that.
    handed: Handed,
    /// The home's last record, in its own words.
    end: Lsn,
    hole_since: Option<Instant>,
    /// Troubles in a row, since the follower moved on last.
    troubles: u32,
}

impl Pump {
    pub(crate) fn new(credit_bytes: u32) -> Self {
        Self {
            route: None,
            follow_up: false,
            fetch_up: false,
            state: State::Idle,
            epoch: Epoch::ZERO,
            credit_bytes,
            durable: PartitionPosition::ZERO,
            handed: Handed::default(),
            end: Lsn::ZERO,
            hole_since: None,
            troubles: 0,
        }
    }

    pub(crate) fn route(&self) -> Option<&Route> {
        self.route.as_ref()
    }

    pub(crate) fn is_streaming(&self) -> bool {
        matches!(self.state, State::Streaming { .. })
    }

    /// Records that the home has, as far as it told, and the follower has not.
    pub(crate) fn lag_records(&self) -> u64 {
        self.end.since(self.durable.lsn)
    }

    /// Bytes of records received and not durable at the follower.
    pub(crate) fn under_way_bytes(&self) -> usize {
        self.handed.bytes()
    }

    /// From the next fetch on.
    pub(crate) fn set_credit(&mut self, credit_bytes: u32) {
        self.credit_bytes = credit_bytes;
    }

    /// Takes one input; outputs are to be carried out in order.
    pub(crate) fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Route { route, up } => self.take_route(now, route, up, out),
            Input::FollowUp => {
                self.follow_up = true;
                self.handed.forget();
                self.begin(now, out);
            }
            Input::FollowDown => {
                self.follow_up = false;
                self.handed.forget();
                self.begin(now, out);
            }
            Input::FetchUp => {
                self.fetch_up = true;
                self.begin(now, out);
            }
            Input::FetchDown => {
                self.fetch_up = false;
                self.begin(now, out);
            }
            Input::Follow(followed) => self.take_followed(now, followed, out),
            Input::Fetch(fetched) => self.take_fetched(now, fetched, out),
            Input::Tick => self.tick(now, out),
        }
    }

    fn take_route(&mut self, now: Instant, route: Option<Route>, up: bool, out: &mut Vec<Output>) {
        let known = match (&self.route, &route) {
            (Some(old), Some(new)) => old.home == new.home && new.epoch <= self.epoch,
            (None, None) => true,
            _ => false,
        };
        if known && self.fetch_up == up {
            return;
        }
        self.epoch = route.as_ref().map_or(self.epoch, |route| self.epoch.max(route.epoch));
        self.route = route;
        self.fetch_up = up;
        self.troubles = 0;
        self.begin(now, out);
    }

    /// Starts over from what the follower holds, if there is somebody to ask.
    fn begin(&mut self, now: Instant, out: &mut Vec<Output>) {
        if let State::Fenced { fence } = self.state
            && self.epoch < fence
        {
            return;
        }
        self.hole_since = None;
        if self.route.is_none() || !self.follow_up || !self.fetch_up {
            self.state = State::Idle;
            return;
        }
        self.state = State::Probing { since: now };
        self.say(Say::Probe, out);
    }

    /// Whether a tick at this time would do anything.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.due(now).is_some()
    }

    fn due(&self, now: Instant) -> Option<Due> {
        let is_over = |since: Instant| now.duration_since(since) >= bounds::ANSWER_PATIENCE;
        match self.state {
            State::Waiting { until } => (until <= now).then_some(Due::Again),
            State::Probing { since } | State::Fetching { since } if is_over(since) => Some(Due::Unanswered),
            State::Fetching { .. } | State::Streaming { .. } if self.has_old_hole(now) => Some(Due::Hole),
            State::Streaming { heard } => {
                let lacks = self.handed.is_empty() && self.end > self.durable.lsn;
                (lacks && is_over(heard)).then_some(Due::Silence)
            }
            _ => None,
        }
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Output>) {
        match self.due(now) {
            None => {}
            Some(Due::Again) => self.begin(now, out),
            Some(Due::Unanswered) => {
                self.handed.forget();
                self.trouble(now, Trouble::NoAnswer, None, out);
            }
            Some(Due::Hole) => {
                let sent = self.sent();
                self.trouble(now, Trouble::Hole { sent }, None, out);
            }
            Some(Due::Silence) => self.trouble(now, Trouble::NoAnswer, None, out),
        }
    }

    fn has_old_hole(&self, now: Instant) -> bool {
        self.hole_since.is_some_and(|since| now.duration_since(since) >= bounds::HOLE_PATIENCE)
    }

    // ---- the follower's word ----

    fn take_followed(&mut self, now: Instant, followed: Followed, out: &mut Vec<Output>) {
        if followed.fence > self.epoch {
            return self.fenced(followed.fence, out);
        }
        match followed.outcome {
            Outcome::Done => self.take_done(now, followed.fence, followed.last, out),
            // What was handed behind it is refused as well; the state does not change by what was said in
            // an epoch that is over.
            Outcome::Fenced => self.handed.forget(),
            Outcome::Gap => {
                self.handed.forget();
                if matches!(
                    self.state,
                    State::Fetching { .. } | State::Streaming { .. } | State::Truncating { .. }
                ) {
                    self.gap(now, followed.last, out);
                }
            }
            Outcome::Refused { why, retry_after } => {
                self.handed.forget();
                if !matches!(self.state, State::Idle | State::Fenced { .. } | State::Waiting { .. }) {
                    self.trouble(now, Trouble::FollowerRefuses(why), retry_after, out);
                }
            }
        }
    }

    fn take_done(&mut self, now: Instant, fence: Epoch, last: PartitionPosition, out: &mut Vec<Output>) {
        let beyond = last.lsn > self.sent().lsn;
        match self.state {
            State::Idle | State::Waiting { .. } | State::Fenced { .. } => {
                self.handed.land(last);
            }
            State::Probing { .. } => {
                self.handed.land(last);
                // What was handed before the probe is answered before it.
                if fence >= self.epoch && self.handed.is_empty() {
                    self.restart(now, last, out);
                }
            }
            State::Truncating { common } => {
                if last == self.durable {
                    self.trouble(now, Trouble::NotCut { last }, None, out);
                } else if last.lsn <= common.lsn {
                    self.restart(now, last, out);
                }
            }
            State::Fetching { .. } | State::Streaming { .. } if beyond || last.lsn < self.durable.lsn => {
                self.handed.forget();
                self.begin(now, out);
            }
            State::Fetching { .. } | State::Streaming { .. } => {
                self.handed.land(last);
                if last.lsn > self.durable.lsn {
                    self.durable = last;
                    self.troubles = 0;
                    self.fetch(false, out);
                }
                if let Some(batch) = self.handed.held_watermark() {
                    self.say(Say::Batch { batch, bytes: 0 }, out);
                }
            }
        }
    }

    /// The first hole in a row is nobody's fault: somebody else may have fed the follower.
    fn gap(&mut self, now: Instant, last: PartitionPosition, out: &mut Vec<Output>) {
        if self.troubles > 0 {
            return self.trouble(now, Trouble::Gap { last }, None, out);
        }
        self.troubles = 1;
        self.begin(now, out);
    }

    fn fenced(&mut self, fence: Epoch, out: &mut Vec<Output>) {
        self.handed.forget();
        if self.state != (State::Fenced { fence }) {
            self.state = State::Fenced { fence };
            out.push(Output::Note(Note::Fenced { fence }));
        }
    }

    // ---- the home's word ----

    fn take_fetched(&mut self, now: Instant, fetched: Fetched, out: &mut Vec<Output>) {
        let asked = matches!(self.state, State::Fetching { .. } | State::Streaming { .. });
        let adopts = match self.state {
            State::Idle => false,
            State::Fenced { fence } => fetched.epoch >= fence,
            _ => fetched.epoch > self.epoch,
        };
        match fetched.reply {
            Reply::NotHome if asked => self.trouble(now, Trouble::NotHome, None, out),
            Reply::Refused { why, retry_after } if asked => {
                self.trouble(now, Trouble::HomeRefuses(why), retry_after, out);
            }
            Reply::Batch(_) | Reply::Diverged { .. } if adopts => {
                self.epoch = fetched.epoch;
                self.begin(now, out);
            }
            Reply::Batch(batch) if asked && fetched.epoch == self.epoch => self.take_batch(now, batch, out),
            // What was said of an earlier `last` is no answer to what was asked since.
            Reply::Diverged { common, judged }
                if asked
                    && fetched.epoch == self.epoch
                    && judged.is_none_or(|judged| judged == self.durable) =>
            {
                self.take_diverged(now, common, out);
            }
            _ => {}
        }
    }

    fn take_batch(&mut self, now: Instant, mut batch: Batch, out: &mut Vec<Output>) {
        let Some(end) = &batch.end else {
            // A late call to obey an epoch that is obeyed already.
            return;
        };
        self.end = Lsn::new(end.lsn);
        match batch::fit(&mut batch, self.sent(), self.epoch) {
            Taken::Nothing => {
                self.state = State::Streaming { heard: now };
                if let Some(batch) = self.handed.watermark(batch) {
                    self.say(Say::Batch { batch, bytes: 0 }, out);
                }
            }
            Taken::Behind => {}
            Taken::Hole => {
                self.hole_since.get_or_insert(now);
            }
            Taken::Incoherent(lsn) => self.trouble(now, Trouble::Incoherent { lsn }, None, out),
            Taken::Records { last, bytes } => {
                let bound = (self.credit_bytes as usize).max(bounds::CREDIT_MAX_BYTES);
                if self.handed.bytes() + bytes > bound + bounds::CREDIT_SLACK_BYTES {
                    return self.trouble(now, Trouble::OverCredit, None, out);
                }
                self.state = State::Streaming { heard: now };
                self.hole_since = None;
                self.handed.hand(last, bytes, batch.watermark);
                self.say(Say::Batch { batch, bytes }, out);
            }
        }
    }

    fn take_diverged(&mut self, now: Instant, common: PartitionPosition, out: &mut Vec<Output>) {
        let last = self.durable;
        if common.lsn > last.lsn || common.epoch > last.epoch || common == last {
            return self.trouble(now, Trouble::NotDiverged { common, last }, None, out);
        }
        out.push(Output::Note(Note::Diverged { last, common }));
        self.state = State::Truncating { common };
        self.say(Say::Truncate { common, judged: last }, out);
    }

    // ---- what both lead to ----

    /// The last record that the follower holds or was handed.
    fn sent(&self) -> PartitionPosition {
        self.handed.last().unwrap_or(self.durable)
    }

    fn restart(&mut self, now: Instant, last: PartitionPosition, out: &mut Vec<Output>) {
        self.durable = last;
        self.handed.forget();
        self.hole_since = None;
        self.state = State::Fetching { since: now };
        self.fetch(true, out);
    }

    fn trouble(&mut self, now: Instant, why: Trouble, asked: Option<Duration>, out: &mut Vec<Output>) {
        let own = bounds::RETRY_MIN.saturating_mul(1 << self.troubles.min(10)).min(bounds::RETRY_MAX);
        let wait = asked.map_or(own, |asked| asked.clamp(bounds::RETRY_MIN, bounds::RETRY_ASKED_MAX));
        self.troubles = self.troubles.saturating_add(1);
        self.state = State::Waiting { until: now + wait };
        out.push(Output::Note(Note::Trouble(why)));
    }

    fn say(&self, say: Say, out: &mut Vec<Output>) {
        out.push(Output::ToFollower { epoch: self.epoch, say });
    }

    fn fetch(&self, restart: bool, out: &mut Vec<Output>) {
        let (epoch, last, credit_bytes) = (self.epoch, self.durable, self.credit_bytes);
        out.push(Output::ToHome(Fetch { epoch, last, credit_bytes, restart }));
    }
}
