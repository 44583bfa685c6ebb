//! The home of one partition in one epoch: a plain state machine, with no clock, socket or store in it.
//!
//! ```text
//!   Append ─► queue of its log ─► rules ─► sequenced ─► Write ─► Durable ─► released ─► Reply (home)
//!               │   ▲                          │                    │          │
//!               ▼   │                     (offset, LSN)             │          └► Publish
//!              Load ┘                                               └► served to followers ─► Report
//!                                                                                               │
//!                                                          Reply (replicated) ◄── watermark ◄───┘
//! ```
//!
//! Invariants:
//! - Records get dense LSNs, entries of a log dense offsets, and one message id one entry.
//! - A `home` ack leaves only from [`Core::release`], which is told the time read right before it: the
//!   lease runs, nobody is waited for, and the record is durable here.
//! - No `home` ack leaves in a log that this home saw created and whose creation is not `replicated`.
//! - A `replicated` ack leaves only at or below the watermark, which moves only over matched in-sync
//!   members in two regions, each proposal of unknown outcome included.
//! - When the epoch ends here, everything that was handed to the store and not answered is
//!   `Indeterminate`, or `Moved` where a planned move ended it, and whatever was not is `NotHome`.

mod admission;
mod carrying;
mod cursors;
mod effects;
mod following;
mod in_sync;
mod lag;
mod log;
mod logs;
mod marks;
mod message;
mod pressure;
mod recent;
mod rehoming;
mod restore;
pub(crate) mod rules;
mod seal;
mod sequence;
mod settle;
#[cfg(test)]
mod tests;

pub use carrying::Arrival;
pub use effects::EffectOutcome;
pub use following::FollowWhen;
pub use in_sync::{FollowerView, IsrSet, Membership, Proposal, ProposalOutcome};
pub use log::Need;
pub use message::{Context, EndReason, Failure, Follow, Input, Loaded, Open, Output, Row, Ticket, View};
pub use pressure::Pressure;
pub use rehoming::{Handed, Rehoming, RehomingStep};
pub(crate) use sequence::{bytes_at_most, write_bytes_at_most};

use crate::{clock::Now, service::NotHome};
use effects::Effects;
use following::Following;
use host::planted::{Bug, is_planted};
use in_sync::{InSync, ProposeAt};
use lag::Lag;
use log_store::{
    EpochBegin,
    locate::{Located, locate_record},
};
use logs::Logs;
use marks::Marks;
use recent::Recent;
use seal::Sealing;
use settle::Waiter;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use types::{Epoch, Generation, LogId, Lsn, NodeId, PartitionId, PartitionPosition, Record, Replica};

/// Records of a partition that may be sequenced and not released, or wait to be sequenced.
pub const PENDING_MAX: usize = 8_192;
/// Their bytes.
pub const PENDING_MAX_BYTES: usize = 4 * 1024 * 1024;
/// Message ids that are kept in memory.
const RECENT_MAX: usize = 4_096;

/// See the module.
#[derive(Debug)]
pub struct Core {
    partition: PartitionId,
    epoch: Epoch,
    me: NodeId,
    start_lsn: Lsn,
    isr_lag_ms: u64,
    isr_pressure_ms: u64,
    /// The most members of a chat.
    members_max: usize,
    pressure: Pressure,
    /// How far the in-sync set was behind when that was last looked at.
    lag_ms: u64,
    waiting: bool,
    sealing: Sealing,
    in_sync: InSync,
    lag: Lag,

    /// The last record that was sequenced.
    last: Lsn,
    durable: PartitionPosition,
    epochs: Vec<EpochBegin>,
    /// Everything up to here was published.
    released: Lsn,
    watermark: Lsn,
    /// The watermark that subscribers were told of.
    announced: Lsn,

    logs: Logs,
    /// The logs whose pins are watched.
    watched: BTreeSet<LogId>,
    /// Items in the queues of logs.
    queued: usize,
    /// The bytes of the writes among them.
    queued_bytes: usize,
    recent: Recent,
    marks: Marks,
    following: Following,
    effects: Effects,
    /// Sequenced, not handed to the store yet.
    batch: Vec<Record>,
    batch_bytes: usize,
    /// Handed to the store, or in `batch`; not durable.
    writing: VecDeque<Record>,
    /// Durable, not published.
    unreleased: VecDeque<Record>,
    pending_bytes: usize,
    /// Batches that the store has not answered.
    batches: usize,
    /// A batch failed with nothing written; all behind it will, and then the end is taken back.
    rewinding: bool,
    home_waiters: BTreeMap<Lsn, Vec<Waiter>>,
    replicated_waiters: BTreeMap<Lsn, Vec<Waiter>>,
    ended: bool,
}

impl Core {
    /// Begins an epoch.
    pub fn new(open: Open, now: Now) -> Self {
        let Open {
            partition,
            epoch,
            me,
            end,
            start_lsn,
            watermark,
            row,
            isr_lag_ms,
            isr_pressure_ms,
            follow_when,
            effect_logs,
            members_max,
        } = open;
        let last = end.last.lsn;
        let sealing = row.moving.map_or(Sealing::Open, Sealing::Finishing);
        Self {
            partition,
            epoch,
            start_lsn,
            isr_lag_ms,
            isr_pressure_ms,
            members_max,
            pressure: Pressure::None,
            lag_ms: 0,
            waiting: row.waiting,
            sealing,
            lag: Lag::new(last, now.boot_ms),
            last,
            durable: end.last,
            epochs: end.epochs,
            released: last,
            watermark: watermark.min(last),
            announced: watermark.min(last),
            logs: Logs::default(),
            watched: BTreeSet::new(),
            queued: 0,
            queued_bytes: 0,
            recent: Recent::new(last, now.boot_ms),
            marks: Marks::default(),
            following: Following::new(follow_when),
            effects: Effects::new(effect_logs),
            batch: Vec::new(),
            batch_bytes: 0,
            writing: VecDeque::new(),
            unreleased: VecDeque::new(),
            pending_bytes: 0,
            batches: 0,
            rewinding: false,
            home_waiters: BTreeMap::new(),
            replicated_waiters: BTreeMap::new(),
            ended: false,
            in_sync: InSync::new(me.clone(), row.membership, now.boot_ms),
            me: me.node,
        }
    }

    /// Takes an input. Call [`Core::flush`] once a burst of inputs is in, and then [`Core::release`].
    pub fn handle(&mut self, cx: Context, input: Input, out: &mut Vec<Output>) {
        if self.ended {
            self.refuse_all_after_end(input, out);
            return;
        }
        match input {
            Input::Append { ticket, write, deadline_ms } => {
                self.admit(cx, ticket, *write, deadline_ms, out);
            }
            Input::Subscribe { ticket, log } => self.subscribe(cx, ticket, log, out),
            Input::Unsubscribe { log } => self.logs.unfollow(log),
            Input::Rehome(rehoming) => self.admit_rehoming(cx, rehoming, out),
            Input::Effect(arrival) => self.admit_effect(cx, arrival, out),
            Input::Cursors { log, cursors } => self.admit_cursors(cx, log, cursors, out),
            Input::EffectAnswered { log, target, cause, outcome } => {
                self.effect_answered(cx, log, target, cause, outcome);
            }
            Input::Loaded { log, as_of, loaded } => self.loaded(cx, log, as_of, *loaded, out),
            Input::Durable { last } => self.durable(cx, last, out),
            Input::AppendFailed { first, failure } => self.failed(first, failure, out),
            Input::FollowAnswered { log, retry_after_ms } => {
                self.following.put_off(log, cx.now.boot_ms.saturating_add(retry_after_ms));
            }
            Input::Report { replica, obeys, last } => self.report(cx, &replica, obeys, last, out),
            Input::Proposed { number, outcome } => {
                self.in_sync.settle(number, outcome, cx.now.boot_ms);
                self.move_watermark(out);
            }
            Input::Row(row) => {
                self.waiting = row.waiting;
                if let Some(id) = row.moving {
                    self.finish_for(id, out);
                }
                self.in_sync.take_row(row.membership);
                self.move_watermark(out);
            }
            Input::Tick => self.tick(cx, out),
            Input::Stop(reason) => self.end(reason, Lsn::new(u64::MAX), out),
        }
    }

    /// Whether this epoch is over here.
    pub const fn has_ended(&self) -> bool {
        self.ended
    }

    /// What an operator sees.
    pub fn view(&self, now: Now) -> View {
        View {
            last: self.durable,
            watermark: self.watermark,
            at_risk: self.marks.at_risk(),
            isr_lag_ms: self.in_sync.set_lag_ms(&self.lag, now.boot_ms),
            pressure: self.pressure,
            followers: self.in_sync.view(&self.lag, now.boot_ms),
        }
    }

    /// Writes that are durable here and whose `home` ack is still owed.
    pub fn durable_unanswered(&self) -> usize {
        self.home_waiters.range(..=self.durable.lsn).map(|(_, waiters)| waiters.len()).sum()
    }

    fn not_home(&self, moving: bool) -> NotHome {
        let (home, closed) = (Some(self.me.clone()), Generation::ZERO);
        NotHome { partition: self.partition, epoch: self.epoch, home, moving, closed }
    }

    /// The log is written here in no generation up to this one.
    fn closed(&self, closed: Generation) -> NotHome {
        NotHome { closed, ..self.not_home(false) }
    }

    /// A position counts only when this home holds the very same record, and the follower obeys this epoch:
    /// then nobody else can make it drop what it holds.
    fn report(
        &mut self,
        cx: Context,
        replica: &Replica,
        obeys: Epoch,
        last: PartitionPosition,
        out: &mut Vec<Output>,
    ) {
        let located = locate_record(self.durable, &self.epochs, self.epoch, last);
        let is_matched = located == Located::Continue || is_planted(Bug::CountUnmatched);
        let is_obeyed = obeys == self.epoch || is_planted(Bug::SkipFenceCheck);
        let matched = (is_obeyed && is_matched).then_some(last.lsn);
        self.in_sync.report(replica, matched, cx.now.boot_ms);
        self.move_watermark(out);
    }

    fn move_watermark(&mut self, out: &mut Vec<Output>) {
        let Some(replicated) = self.in_sync.replicated(self.durable.lsn) else { return };
        if replicated > self.watermark {
            self.watermark = replicated;
            out.push(Output::Watermark(replicated));
        }
    }

    fn push_back(&mut self, pressure: Pressure, lag_ms: u64) {
        if self.pressure != pressure {
            let (partition, epoch, at_risk) = (self.partition, self.epoch, self.marks.at_risk());
            tracing::warn!(%partition, %epoch, ?pressure, lag_ms, at_risk, "the in-sync set's lag slows writers");
        }
        (self.pressure, self.lag_ms) = (pressure, lag_ms);
    }

    fn tick(&mut self, cx: Context, out: &mut Vec<Output>) {
        self.drop_overdue(cx.now.boot_ms, out);
        self.in_sync.tick(cx.now.wall_ms);
        self.move_watermark(out);
        let lag_ms = self.in_sync.set_lag_ms(&self.lag, cx.now.boot_ms);
        self.push_back(Pressure::of(lag_ms, self.isr_pressure_ms, self.marks.at_risk()), lag_ms);
        self.watch_pins(out);
        self.logs.rest(cx.now.boot_ms, self.released);
        self.recent.age(cx.now.boot_ms, self.last, self.durable.lsn);
        let at = ProposeAt {
            now_ms: cx.now.boot_ms,
            watermark: self.watermark,
            join_bar: self.watermark.max(self.start_lsn.prev()),
            lag: &self.lag,
            lag_limit_ms: self.isr_lag_ms,
        };
        if let Some(proposal) = self.in_sync.propose(&at) {
            out.push(Output::Propose(proposal));
        }
    }
}
