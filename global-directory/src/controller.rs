//! What the directory does by itself: first homes, copies in other regions, failover (F4), and what follows
//! from nodes that come, go and retire.
//!
//! A pure state machine. It is shown the committed placement, the stamps of leases and the time, and answers
//! what to do; the driver carries commands out one after the other and shows it the outcome as the next
//! placement. All that it keeps in memory can be lost at any moment: a failover goes on from the rows.
//!
//! ```text
//!  silence ──▶ bump ──────────────▶ fence ISR members at e+1 ──▶ promote the most advanced
//!  (judge)     FailingOver(e),      (fencing: one call per       Homed(e+1), start_lsn = its last + 1,
//!              waiting += boot       node, all partitions)       `waiting` inherited
//!                    │
//!                    └── ttl × 1.2 after the boot's last stamp ──▶ clear_waiting: the new home may ack
//! ```
//!
//! # Why one fenced member is enough
//!
//! Let `e` be the epoch that ends, `S` the in-sync members that are not `lost` when the boot of the home is
//! over, and `F` in `S` the member that is promoted.
//!
//! 1. *Nothing leaves `S` behind the directory's back.* Once the boot is over its proposals are refused, so
//!    whatever set the former home works with, it contains `S`: a set it proposed before either is the row's,
//!    or was refused, or is one of unknown outcome, which it joins to the one it knows (I4).
//! 2. *What was `replicated` in `e` is on `F`.* The former home moves its watermark only over the minimum of
//!    what all of those members have matched, `F` included, and `F` holds durably what it has matched.
//! 3. *What will be called `replicated` in `e` is on `F` too.* `F`'s fence at `e + 1` is durable before its
//!    last record is read, and its store takes nothing from `e` afterwards; so what `F` can ever report to the
//!    former home ends at that record, and so does every watermark of `e`. Members that were not reached may
//!    go on following the former home: they cannot move its watermark past `F`. What they take beyond
//!    `start_lsn` is a divergent tail, and they learn so when they ask the new home.
//! 4. *Names stay unique.* The new home writes from `start_lsn` = its last LSN + 1 in `e + 1`, in which
//!    nobody else can write: a second attempt at `e + 1` starts only from a row that still says `e`.
//!
//! That the others are asked, too, and the greatest (epoch, LSN) wins, is for content that was acked at
//! `home` only: the more of it survives in place, the less has to come back from outboxes. None of this
//! depends on a clock. The wait protects the rest: no `home` ack of the former home may pass its lease check
//! after the first ack of the new one.

pub mod canaries;
mod copies;
mod failover;
mod following;
mod judge;
mod moving;
mod placing;
pub mod rehome;

pub use following::{FollowSettings, Follows, NotNow};
pub use judge::Brake;
pub use moving::{
    Failback, MoveAction, MoveInput, Planned, PowerOff, Stand, Wish, WishError, dry_run, leaving, power_off,
};

use crate::{bounds, command::Command, lease::LeaseTable};
use canaries::Verdicts;
use moving::{At, Moving};
use std::collections::{BTreeMap, BTreeSet};
use types::{
    Epoch, Home, NodeId, NodeRow, PartitionId, PartitionPosition, PartitionRow, PartitionState, Placement,
    Replica, StoreId,
};

/// What the controller may do by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether silence ends a boot. What a node's own reboot ended is failed over in any case.
    pub automatic_failover: bool,
    /// A node that has not renewed for this long is suspect.
    pub silence_ms: u64,
    /// A node at which a majority of outside observers have failed for this long is suspect.
    pub canary_failing_ms: u64,
    /// Whether that ends a boot.
    pub canary_failover: bool,
    /// How often nodes renew.
    pub renew_interval_ms: u64,
    /// A node that has been gone for this long has its copies replaced.
    pub replace_after_ms: u64,
    /// A node that has been there for this long takes over the copies that rendezvous gives it.
    pub rebalance_after_ms: u64,
    /// Partitions that a node is filled with at a time.
    pub fills_per_node_max: usize,
    /// Homes of a node, beyond which it is no target of a failover.
    pub homes_per_node_max: usize,
    /// Whether partitions go back to the regions that they prefer.
    pub failback: Failback,
}

/// What the controller is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Time has passed, or the placement has changed.
    Tick,
    /// A node was asked to raise fences.
    Fenced {
        /// The node.
        node: NodeId,
        /// The partitions that it was asked for. Those without an answer were not fenced.
        asked: Vec<PartitionId>,
        /// What it answered.
        answers: Vec<FenceAnswer>,
    },
    /// Something about planned moves.
    Moving(MoveInput),
}

/// One partition's fence is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FenceAnswer {
    /// The partition.
    pub partition: PartitionId,
    /// The lowest epoch that is accepted now.
    pub fence: Epoch,
    /// The last record behind the fence.
    pub last: PartitionPosition,
    /// The store that holds both.
    pub store: StoreId,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A command for the directory's rows.
    Submit(Command),
    /// Raise these fences at a node, and come back with [`Input::Fenced`].
    Fence {
        /// The node's row.
        node: NodeRow,
        /// Each partition with the epoch that its fence is raised to.
        partitions: Vec<(PartitionId, Epoch)>,
    },
    /// Something about a planned move. Nothing behind it waits for it.
    Move(MoveAction),
    /// Something that an operator must hear of now.
    Page(Page),
}

/// What an operator must hear of now. Said once when it begins, not while it lasts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Page {
    /// Automatic failover has stopped itself.
    #[error("automatic failover has stopped: {0}")]
    Stopped(Brake),
    /// Partitions have no home, and nobody in their in-sync sets can be fenced.
    #[error("{} partitions have no home and no in-sync replica that can be reached: {}", .0.len(), list(.0))]
    Stuck(Vec<PartitionId>),
    /// In-sync sets hold members that are gone, because one region only would be left: until another member
    /// joins, nothing more of these partitions is replicated.
    #[error("{} partitions are down to one region, the rest of their in-sync sets being lost: {}", .0.len(), list(.0))]
    Lost(Vec<PartitionId>),
    /// A store has obeyed an epoch that the directory has never given out.
    #[error(
        "partition {partition}: node {node} has fence {fence} and last record {last}, which is ahead of the directory"
    )]
    Ahead {
        /// The partition.
        partition: PartitionId,
        /// Who holds the store.
        node: NodeId,
        /// Its fence.
        fence: Epoch,
        /// Its last record.
        last: PartitionPosition,
    },
}

fn list(partitions: &[PartitionId]) -> String {
    const SHOWN: usize = 16;
    let mut text = partitions.iter().take(SHOWN).map(PartitionId::to_string).collect::<Vec<_>>().join(", ");
    if partitions.len() > SHOWN {
        text.push_str(", …");
    }
    text
}

/// The state machine.
#[derive(Debug)]
pub struct Controller {
    settings: Settings,
    /// When it last looked.
    looked_ms: u64,
    /// Since when it has listened without a break.
    listens_from_ms: u64,
    brake: Option<Brake>,
    /// What operators were told last of what stops it, and until when that held.
    paged: Option<(Brake, u64)>,
    /// The nodes at which outside observers fail.
    verdicts: Verdicts,
    /// The boots that were ended for that with their whole regions, while rows wait for them.
    canary_bumps: BTreeSet<Home>,
    /// Until when no home is given to their nodes, whatever is said of their next boots.
    shunned: BTreeMap<NodeId, u64>,
    attempts: BTreeMap<PartitionId, failover::Attempt>,
    retry_at_ms: BTreeMap<PartitionId, u64>,
    stuck: BTreeSet<PartitionId>,
    lost: BTreeSet<PartitionId>,
    seen: copies::Seen,
    moving: Moving,
}

impl Controller {
    /// Starts at `now_ms`, which is when it begins to listen.
    pub fn new(settings: Settings, now_ms: u64) -> Self {
        let failback = settings.failback;
        Self {
            settings,
            looked_ms: now_ms,
            listens_from_ms: now_ms,
            brake: None,
            paged: None,
            verdicts: Verdicts::new(),
            canary_bumps: BTreeSet::new(),
            shunned: BTreeMap::new(),
            attempts: BTreeMap::new(),
            retry_at_ms: BTreeMap::new(),
            stuck: BTreeSet::new(),
            lost: BTreeSet::new(),
            seen: copies::Seen::default(),
            moving: Moving::new(failback),
        }
    }

    /// Whether silence ends a boot from now on.
    pub const fn allow_failover(&mut self, automatic_failover: bool) {
        self.settings.automatic_failover = automatic_failover;
    }

    /// What stops automatic failover now.
    pub const fn brake(&self) -> Option<&Brake> {
        self.brake.as_ref()
    }

    /// The nodes at which outside observers fail now.
    pub const fn verdicts(&self) -> &Verdicts {
        &self.verdicts
    }

    /// Since when it has listened without a break.
    pub const fn listens_from_ms(&self) -> u64 {
        self.listens_from_ms
    }

    /// Takes one input; what to do is added to `out`.
    pub fn handle(
        &mut self,
        now_ms: u64,
        view: &Placement,
        leases: &LeaseTable,
        input: Input,
        out: &mut Vec<Action>,
    ) {
        let mut about_moves = None;
        match input {
            Input::Tick => {}
            Input::Fenced { node, asked, answers } => {
                self.take_answers(view, &node, &asked, answers, out);
            }
            Input::Moving(input) => about_moves = Some(input),
        }
        if now_ms.saturating_sub(self.looked_ms) > bounds::STALL_MS {
            // The silence of that time may be the controller's own.
            self.listens_from_ms = now_ms;
        }
        self.looked_ms = now_ms;
        clear_waiting(now_ms, view, leases, out);
        self.hear(now_ms, view, leases);
        self.judge(now_ms, view, leases, out);
        let unwell = self.unwell();
        self.fail_over(now_ms, view, &unwell, out);
        self.report_lost(view, out);
        self.seen.look(now_ms, view);
        placing::assign_homes(&self.settings, &self.seen, now_ms, view, leases, out);
        copies::keep(&self.settings, &self.seen, now_ms, view, leases, out);
        copies::finish_retirements(view, out);
        let is_calm = self.brake.is_none()
            && view
                .partitions()
                .all(|row| row.state != PartitionState::FailingOver && row.waiting.is_empty());
        let at = At { now_ms, silence_ms: self.settings.silence_ms, view, leases, unwell: &unwell, is_calm };
        if let Some(input) = about_moves {
            self.moving.take(at, input, out);
        }
        self.moving.advance(at, out);
    }

    fn report_lost(&mut self, view: &Placement, out: &mut Vec<Action>) {
        let has_lost = view.partitions().filter(|row| !row.lost.is_empty());
        let lost: BTreeSet<PartitionId> = has_lost.map(|row| row.partition).collect();
        if lost.difference(&self.lost).next().is_some() {
            out.push(Action::Page(Page::Lost(lost.iter().copied().collect())));
        }
        self.lost = lost;
    }
}

fn clear_waiting(now_ms: u64, view: &Placement, leases: &LeaseTable, out: &mut Vec<Action>) {
    let waiting: BTreeSet<&Home> = view.partitions().flat_map(|row| &row.waiting).collect();
    let over: Vec<Home> =
        waiting.into_iter().filter(|boot| leases.is_waited_out(boot, now_ms)).cloned().collect();
    if !over.is_empty() {
        out.push(Action::Submit(Command::ClearWaiting(over)));
    }
}

/// The members of a partition's in-sync set that may be promoted now.
fn candidates<'a>(row: &'a PartitionRow, view: &'a Placement) -> impl Iterator<Item = &'a NodeRow> {
    row.isr
        .iter()
        .filter(|member| !row.lost.contains(member))
        .filter_map(|member| view.node(&member.node).filter(|node| node.live && node.store == member.store))
}

fn boot(node: &NodeRow) -> Home {
    Home { node: node.node.clone(), incarnation: node.incarnation }
}

fn replica(node: &NodeRow) -> Replica {
    Replica { node: node.node.clone(), store: node.store }
}

fn submit_in_batches<T: Clone>(items: &[T], command: impl Fn(Vec<T>) -> Command, out: &mut Vec<Action>) {
    out.extend(items.chunks(bounds::BATCH_MAX_ROWS).map(|batch| Action::Submit(command(batch.to_vec()))));
}
