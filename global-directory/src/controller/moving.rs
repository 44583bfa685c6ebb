//! Planned moves (F6): which partitions move, and how a move that was begun comes to its end.
//!
//! ```text
//!   operator, drain, failback ──▶ wanted ── survey of source and target ──▶ begin ──▶ Draining(e)
//!                                    │ target too far behind, or unheard                  │ AwaitSeal, at once
//!                                    ▼                                                    ▼
//!                               another time               abort ◀── time is over ── under way ── SEAL ──▶ finish
//! ```
//!
//! Writes wait from the moment the source hears of `Draining` until proxies hear of the next epoch. So
//! everything that can be done before is done before: who the target is, how far behind it is, and the connection
//! to it. The source reads from the row that it is to seal, the target tells by itself when it holds SEAL, and
//! that answer is the event on which `finish` is submitted: no step waits for a tick.
//!
//! All of this may be lost at any moment: the rows say which moves are under way, and whoever comes next
//! takes them up. Why a crash anywhere is safe is told in the `moving` commands.

mod plan;
mod safety;
mod wish;
pub use plan::{Planned, dry_run, leaving};
pub use safety::{PowerOff, power_off};
pub use wish::{Wish, WishError};

use super::{Action, boot, candidates, replica};
use crate::{
    bounds,
    command::{AbortedMove, Command, MoveError, NewMove, SealedMove},
    lease::LeaseTable,
};
use plan::{Planning, plan_drain, plan_failback};
use std::collections::{BTreeMap, BTreeSet};
use types::{
    Epoch, Home, Lsn, MoveCause, MoveId, NodeId, NodeRow, PartitionId, PartitionRow, PartitionState,
    Placement, RegionId, RegionStatus, Replica, RequestId, Retirement, StoreId,
};

/// Whether, and when, partitions go back to the regions that they prefer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failback {
    /// Whether they do.
    pub on: bool,
    /// For how long the region must have been well, and the partition where it is.
    pub cooldown_ms: u64,
}

/// How a home says that one of its partitions stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stand {
    /// The partition.
    pub partition: PartitionId,
    /// The home's epoch.
    pub epoch: Epoch,
    /// Each follower that is in sync, with how far it is behind, in ms.
    pub in_sync: Vec<(Replica, u64)>,
}

/// What the controller is told of moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MoveInput {
    /// An operator wants one.
    Wished(Wish),
    /// A node was asked how its homes stand; `None`: it did not answer.
    Surveyed(NodeId, Option<Vec<Stand>>),
    /// The command that begins a move was answered.
    Begun(PartitionId, Result<MoveId, WishError>),
    /// The target was asked for SEAL.
    Sealed {
        /// The partition.
        partition: PartitionId,
        /// The move.
        id: MoveId,
        /// Where SEAL stands in the target's store, and in which; `None`: it is not there.
        seal: Option<(Lsn, StoreId)>,
    },
}

/// What is to be done about moves. None of it is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MoveAction {
    /// Ask a node how its homes stand; comes back with [`MoveInput::Surveyed`].
    Survey(NodeRow),
    /// Submit the beginning of a move; comes back with [`MoveInput::Begun`].
    Begin(Option<RequestId>, NewMove),
    /// Ask the target to tell when it holds SEAL; comes back with [`MoveInput::Sealed`].
    AwaitSeal {
        /// The target.
        node: NodeRow,
        /// The partition.
        partition: PartitionId,
        /// The epoch that is being sealed.
        epoch: Epoch,
        /// The move.
        id: MoveId,
    },
    /// Submit the end of a move; the rows tell what became of it.
    End(Command),
    /// Tell the operator who wished.
    Answer(u64, Result<MoveId, WishError>),
}

/// A move that is not begun yet.
#[derive(Debug)]
struct Wanted {
    epoch: Epoch,
    source: NodeId,
    target: Home,
    cause: MoveCause,
    by: String,
    call: Option<(u64, RequestId)>,
    since_ms: u64,
    is_begun: bool,
}

/// A move that the rows show.
#[derive(Debug)]
struct UnderWay {
    id: MoveId,
    target: NodeId,
    deadline_ms: u64,
    /// Its end was submitted, and is not submitted again before this.
    ends_again_ms: u64,
}

/// What nodes said of their homes, and when.
#[derive(Debug)]
struct Survey {
    asked_ms: u64,
    answered: Option<(u64, Option<BTreeMap<PartitionId, Stand>>)>,
}

/// What a decision is made from.
#[derive(Debug, Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) now_ms: u64,
    pub(super) silence_ms: u64,
    pub(super) view: &'a Placement,
    pub(super) leases: &'a LeaseTable,
    /// Nodes that no home is given to.
    pub(super) unwell: &'a BTreeSet<NodeId>,
    /// No failover is under way, and nothing stops one.
    pub(super) is_calm: bool,
}

impl At<'_> {
    fn is_heard(&self, node: &NodeRow) -> bool {
        let silent_ms = self.leases.silent_ms(&boot(node), self.now_ms);
        silent_ms.is_some_and(|silent_ms| silent_ms < self.silence_ms) && !self.unwell.contains(&node.node)
    }

    /// It is about to end.
    fn leaves(&self, node: &NodeRow) -> bool {
        self.leases.leaves(&boot(node), bounds::LEAVE_FRESH_MS, self.now_ms)
    }
}

/// The state machine.
#[derive(Debug)]
pub(super) struct Moving {
    failback: Failback,
    wanted: BTreeMap<PartitionId, Wanted>,
    under_way: BTreeMap<PartitionId, UnderWay>,
    surveys: BTreeMap<NodeId, Survey>,
    planning: Planning,
}

impl Moving {
    pub(super) const fn new(failback: Failback) -> Self {
        Self {
            failback,
            wanted: BTreeMap::new(),
            under_way: BTreeMap::new(),
            surveys: BTreeMap::new(),
            planning: Planning::new(),
        }
    }

    pub(super) fn take(&mut self, at: At<'_>, input: MoveInput, out: &mut Vec<Action>) {
        match input {
            MoveInput::Wished(wish) => self.wish(at, wish, out),
            MoveInput::Surveyed(node, stands) => {
                let stands = stands.map(|all| all.into_iter().map(|one| (one.partition, one)).collect());
                if let Some(survey) = self.surveys.get_mut(&node) {
                    survey.answered = Some((at.now_ms, stands));
                }
            }
            MoveInput::Begun(partition, result) => {
                let Some(wanted) = self.wanted.remove(&partition) else { return };
                if result.is_err() {
                    self.planning.put_off(partition, at.now_ms);
                }
                answer(&wanted, result, out);
            }
            MoveInput::Sealed { partition, id, seal } => self.sealed(at, partition, id, seal, out),
        }
    }

    pub(super) fn advance(&mut self, at: At<'_>, out: &mut Vec<Action>) {
        self.planning.observe(at);
        self.take_up(at, out);
        self.give_up(at, out);
        let is_free = |partition: &PartitionId| {
            !self.wanted.contains_key(partition) && !self.under_way.contains_key(partition)
        };
        let mut room = bounds::MOVES_AT_ONCE.saturating_sub(self.wanted.len() + self.under_way.len());
        let mut planned = plan_drain(at, &self.planning, &is_free);
        planned.truncate(room);
        room -= planned.len();
        if room > 0 && planned.is_empty() && self.failback.on {
            planned.extend(plan_failback(at, &mut self.planning, self.failback, &is_free));
        }
        for planned in planned {
            self.want(at, planned, String::new(), None);
        }
        self.begin(at, out);
    }

    fn wish(&mut self, at: At<'_>, wish: Wish, out: &mut Vec<Action>) {
        let Wish { call, request, partition, region, by } = wish;
        match self.check_wish(at, partition, &region) {
            Ok(planned) => self.want(at, planned, by, Some((call, request))),
            Err(error) => out.push(Action::Move(MoveAction::Answer(call, Err(error)))),
        }
    }

    fn check_wish(
        &self,
        at: At<'_>,
        partition: PartitionId,
        region: &RegionId,
    ) -> Result<Planned, WishError> {
        let row = at.view.partition(partition).ok_or(MoveError::UnknownPartition(partition))?;
        if at.view.region(region).is_none() {
            return Err(WishError::UnknownRegion(region.clone()));
        }
        if let Some(moving) = &row.moving {
            let (target, id) = (moving.target.node.clone(), moving.id);
            return Err(MoveError::UnderWay { partition, target, id }.into());
        }
        if self.wanted.contains_key(&partition) {
            return Err(WishError::NotBegun {
                partition,
                why: "another move of it is about to begin".into(),
            });
        }
        let home = row.home.as_ref().filter(|_| row.state == PartitionState::Homed);
        let home = home.ok_or(MoveError::NotHomed(partition))?;
        if !row.waiting.is_empty() {
            return Err(MoveError::Waiting(partition).into());
        }
        let wrong = |node: &NodeId, why| MoveError::Target { partition, node: node.clone(), why };
        if at.view.node(&home.node).is_some_and(|node| node.region == *region) {
            return Err(wrong(&home.node, "it is homed there").into());
        }
        // Where no other is there, one that leaves is named: the rows say why it cannot take the home.
        let mut there: Vec<_> = candidates(row, at.view).filter(|node| node.region == *region).collect();
        there.sort_by_key(|node| node.retirement != Retirement::Serving);
        let target = there.first().copied();
        let target = target.ok_or_else(|| WishError::NoMember { partition, region: region.clone() })?;
        if at.view.region(region).is_none_or(|region| region.status != RegionStatus::Active) {
            return Err(wrong(&target.node, "its region takes no homes").into());
        }
        Ok(Planned { partition, target: boot(target), cause: MoveCause::Operator })
    }

    fn want(&mut self, at: At<'_>, planned: Planned, by: String, call: Option<(u64, RequestId)>) {
        let Planned { partition, target, cause } = planned;
        let Some(row) = at.view.partition(partition) else { return };
        let Some(home) = &row.home else { return };
        let by = if by.is_empty() { cause.as_str().to_owned() } else { by };
        let (epoch, source, since_ms) = (row.epoch, home.node.clone(), at.now_ms);
        let wanted = Wanted { epoch, source, target, cause, by, call, since_ms, is_begun: false };
        self.wanted.insert(partition, wanted);
    }

    /// Begins what is wanted as soon as source and target have told how they stand.
    fn begin(&mut self, at: At<'_>, out: &mut Vec<Action>) {
        let mut dropped = Vec::new();
        for (partition, wanted) in self.wanted.iter_mut().filter(|(_, wanted)| !wanted.is_begun) {
            match ready(at, &mut self.surveys, *partition, wanted, out) {
                Ok(true) => {
                    wanted.is_begun = true;
                    let (target, by) = (wanted.target.clone(), wanted.by.clone());
                    let new = NewMove { partition: *partition, target, cause: wanted.cause, by };
                    let request = wanted.call.map(|(_, request)| request);
                    out.push(Action::Move(MoveAction::Begin(request, new)));
                }
                Ok(false) => {}
                // The nodes may tell something else in a moment: a copy is matched anew after each move.
                Err(error) if error.may_pass() && at.now_ms < wanted.since_ms + bounds::MOVE_PATIENCE_MS => {
                    let is_old = |survey: &Survey| {
                        survey.answered.as_ref().is_some_and(|(told_ms, _)| {
                            at.now_ms >= told_ms.saturating_add(bounds::SURVEY_AGAIN_MS)
                        })
                    };
                    self.surveys.retain(|_, survey| !is_old(survey));
                }
                Err(error) => dropped.push((*partition, error)),
            }
        }
        for (partition, error) in dropped {
            self.planning.put_off(partition, at.now_ms);
            if let Some(wanted) = self.wanted.remove(&partition) {
                answer(&wanted, Err(error), out);
            }
        }
        let needed: BTreeSet<&NodeId> =
            self.wanted.values().flat_map(|wanted| [&wanted.source, &wanted.target.node]).collect();
        self.surveys.retain(|node, _| needed.contains(node));
    }

    /// Takes up the moves that the rows show, and forgets those that are over.
    fn take_up(&mut self, at: At<'_>, out: &mut Vec<Action>) {
        let planning = &mut self.planning;
        self.under_way.retain(|partition, under_way| {
            let row = at.view.partition(*partition);
            let goes_on = row.is_some_and(|row| row.moving.as_ref().is_some_and(|it| it.id == under_way.id));
            let is_there =
                row.is_some_and(|row| row.home.as_ref().is_some_and(|home| home.node == under_way.target));
            if !goes_on && !is_there {
                planning.put_off(*partition, at.now_ms);
            }
            goes_on
        });
        for row in at.view.partitions() {
            let Some(moving) = &row.moving else { continue };
            if self.under_way.contains_key(&row.partition) {
                continue;
            }
            let (id, target) = (moving.id, moving.target.node.clone());
            let deadline_ms = at.now_ms.saturating_add(bounds::MOVE_TIMEOUT_MS);
            self.under_way.insert(row.partition, UnderWay { id, target, deadline_ms, ends_again_ms: 0 });
            if let Some(node) = at.view.node(&moving.target.node) {
                let (partition, epoch) = (row.partition, row.epoch);
                out.push(Action::Move(MoveAction::AwaitSeal { node: node.clone(), partition, epoch, id }));
            }
        }
    }

    /// Gives up what cannot be finished any more, or takes too long.
    fn give_up(&mut self, at: At<'_>, out: &mut Vec<Action>) {
        for (partition, under_way) in &mut self.under_way {
            let Some(row) = at.view.partition(*partition) else { continue };
            let Some(moving) = &row.moving else { continue };
            let is_sound = candidates(row, at.view).any(|node| boot(node) == moving.target);
            let why = if !is_sound {
                "the target is gone, or not in sync any more".to_owned()
            } else if at.now_ms >= under_way.deadline_ms {
                format!("the target does not hold the seal after {} ms", bounds::MOVE_TIMEOUT_MS)
            } else {
                continue;
            };
            if at.now_ms >= under_way.ends_again_ms {
                under_way.ends_again_ms = at.now_ms.saturating_add(bounds::MOVE_END_AGAIN_MS);
                out.push(Action::Move(MoveAction::End(abort(*partition, under_way.id, why))));
            }
        }
    }

    fn sealed(
        &mut self,
        at: At<'_>,
        partition: PartitionId,
        id: MoveId,
        seal: Option<(Lsn, StoreId)>,
        out: &mut Vec<Action>,
    ) {
        let Some(under_way) = self.under_way.get_mut(&partition).filter(|it| it.id == id) else { return };
        let Some(row) = at.view.partition(partition) else { return };
        let Some(moving) = row.moving.as_ref().filter(|moving| moving.id == id) else { return };
        let store = at.view.node(&moving.target.node).map(|node| node.store);
        let end = match seal.filter(|(_, of)| Some(*of) == store) {
            Some((seal, _)) => Command::FinishMove(SealedMove { partition, id, epoch: row.epoch, seal }),
            None => abort(partition, id, "the target does not get to hold the seal".into()),
        };
        under_way.ends_again_ms = at.now_ms.saturating_add(bounds::MOVE_END_AGAIN_MS);
        out.push(Action::Move(MoveAction::End(end)));
    }
}

fn abort(partition: PartitionId, id: MoveId, why: String) -> Command {
    Command::AbortMove(AbortedMove { partition, id: Some(id), by: String::new(), why })
}

fn answer(wanted: &Wanted, result: Result<MoveId, WishError>, out: &mut Vec<Action>) {
    if let Some((call, _)) = wanted.call {
        out.push(Action::Move(MoveAction::Answer(call, result)));
    }
}

/// Whether a move can begin now; `false`: its nodes are still being asked.
fn ready(
    at: At<'_>,
    surveys: &mut BTreeMap<NodeId, Survey>,
    partition: PartitionId,
    wanted: &Wanted,
    out: &mut Vec<Action>,
) -> Result<bool, WishError> {
    let goes_on = |row: &&PartitionRow| row.state == PartitionState::Homed && row.epoch == wanted.epoch;
    if at.view.partition(partition).filter(goes_on).is_none() {
        return Err(WishError::NotBegun { partition, why: "its home has changed meanwhile".into() });
    }
    let target = at.view.node(&wanted.target.node);
    let mut all_told = true;
    for name in [&wanted.source, &wanted.target.node] {
        let unheard = || WishError::Unheard { partition, node: name.clone() };
        let node = at.view.node(name).ok_or_else(unheard)?;
        let fresh_from = wanted.since_ms.saturating_sub(bounds::SURVEY_FRESH_MS);
        match surveys.get(name) {
            Some(Survey { answered: Some((told_ms, stands)), .. }) if *told_ms >= fresh_from => {
                stands.as_ref().ok_or_else(unheard)?;
            }
            Some(Survey { answered: None, asked_ms }) if at.now_ms < asked_ms + bounds::SURVEY_GONE_MS => {
                all_told = false;
            }
            Some(_) | None => {
                surveys.insert(name.clone(), Survey { asked_ms: at.now_ms, answered: None });
                out.push(Action::Move(MoveAction::Survey(node.clone())));
                all_told = false;
            }
        }
    }
    if !all_told {
        return Ok(false);
    }
    let unheard = || WishError::Unheard { partition, node: wanted.source.clone() };
    let told = surveys.get(&wanted.source).and_then(|survey| survey.answered.as_ref()?.1.as_ref());
    let stand = told.and_then(|stands| stands.get(&partition)).filter(|stand| stand.epoch == wanted.epoch);
    let target = replica(target.ok_or_else(unheard)?);
    let mut in_sync = stand.ok_or_else(unheard)?.in_sync.iter();
    match in_sync.find(|(member, _)| *member == target) {
        Some((_, lag_ms)) if *lag_ms <= bounds::MOVE_LAG_MS => Ok(true),
        Some((_, lag_ms)) => Err(WishError::Behind { partition, node: target.node, lag_ms: *lag_ms }),
        None => Err(WishError::NotInSync { partition, node: target.node }),
    }
}
