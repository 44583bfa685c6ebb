//! Who is in sync, and so what is replicated.
//!
//! ```text
//!             propose                     accepted, or the row's version has moved past
//!   settled ───────────► in doubt ─────────────────────────────────────────────────────► settled
//!                         │    │ each time it was sent it was refused: it never was
//!                         │    └───────────────────────────────────────────────────────► settled
//!                         │ refused, and sent before without an answer
//!                         └──► superseded: it counts until the version has moved past, which the next
//!                              proposal on the same version brings about, an unchanged set if need be
//! ```
//!
//! A follower that is about to join is awaited: the watermark passes it no further until it has reached it, for
//! a bounded time. Otherwise one that is farther away than the members would never be at the watermark of a
//! partition that is always written to.
//!
//! A follower may report before the home has heard that the row names it: the directory's replicas tell their
//! watchers at different times. It has nothing more to say until there is more to copy, so what it said is kept.
//!
//! Invariants: while a proposal is in doubt or superseded, both the set in force and the set proposed count
//! for the watermark. A follower counts only while it is matched. The watermark moves only over two regions.

use super::lag::Lag;
use host::planted::{Bug, is_planted};
use std::collections::{BTreeMap, BTreeSet};
use types::{Lsn, RegionId, Replica};

/// An in-sync set as the directory's row tells it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IsrSet {
    /// The members, lost ones included.
    pub isr: BTreeSet<Replica>,
    /// Members that are gone but whose leaving would leave one region only.
    pub lost: BTreeSet<Replica>,
    /// Raised by every change.
    pub version: u64,
}

impl IsrSet {
    fn counting(&self) -> impl Iterator<Item = &Replica> + Clone {
        self.isr.difference(&self.lost)
    }
}

/// What the home knows of a row that bears on the in-sync set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Membership {
    /// All that hold the partition or should, each with its region.
    pub replicas: BTreeMap<Replica, RegionId>,
    /// Those whose node has come back with another store: they never return.
    pub gone: BTreeSet<Replica>,
    /// Those whose node is dead, as far as the directory knows.
    pub dead: BTreeSet<Replica>,
    /// The in-sync set that the directory has committed.
    pub set: IsrSet,
    /// The deployment has one region: nothing is ever replicated.
    pub one_region: bool,
    /// Until when an operator allows this home's region to do without another, in ms since 1970.
    pub alone_until_ms: u64,
}

/// A change of the in-sync set, to be compared and set at the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Tells this proposal from others of the same epoch; a repetition keeps it.
    pub number: u64,
    /// The version it is made on top of.
    pub base_version: u64,
    /// The members.
    pub isr: BTreeSet<Replica>,
    /// The lost ones among them.
    pub lost: BTreeSet<Replica>,
    /// The watermark when it was made.
    pub watermark: Lsn,
}

/// What became of a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProposalOutcome {
    /// It is committed under this version.
    Accepted(u64),
    /// It was not taken this time.
    Refused,
    /// Nobody knows; it is repeated.
    Unknown,
}

/// What a follower has told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Follower {
    matched: Option<Lsn>,
    /// Since when it has been unmatched; of no meaning while it is matched.
    unmatched_at_ms: u64,
}

/// A follower, for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowerView {
    /// Who.
    pub replica: Replica,
    /// Whether it counts for the watermark.
    pub in_sync: bool,
    /// The last record that it holds for certain, where it is matched.
    pub matched: Option<Lsn>,
    /// For how long it has lacked something.
    pub lag_ms: u64,
}

/// A proposal that may be committed, now or later.
#[derive(Debug)]
struct Doubt {
    proposal: Proposal,
    /// How often it was sent without being refused: each of those can still arrive.
    unanswered: u32,
    /// It is not sent again.
    superseded: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct InSync {
    me: Replica,
    membership: Membership,
    /// At most one of them is not superseded, and no two superseded ones name the same sets.
    doubts: Vec<Doubt>,
    proposals: u64,
    propose_not_before_ms: u64,
    /// The replicas that have reported.
    followers: BTreeMap<Replica, Follower>,
    /// Those that have reported and are no replicas, as far as the row is known: they count for nothing.
    strangers: BTreeMap<Replica, Follower>,
    opened_at_ms: u64,
    /// An operator's word that one region is enough is in force.
    alone_allowed: bool,
    /// Who is about to join, and until when it is awaited.
    awaited: Option<(Replica, u64)>,
    /// Before this nobody is awaited again.
    await_not_before_ms: u64,
}

/// Of how many strangers a report is kept.
const STRANGERS_MAX: usize = 16;

/// How long the watermark waits for a follower that is about to join, in ms.
const AWAIT_MS: u64 = 2_000;
/// How long it is left alone after one that did not come, in ms.
const AWAIT_AGAIN_MS: u64 = 10_000;

/// How long a home waits before it proposes again after a refusal, or repeats what is in doubt, in ms.
const PROPOSE_AGAIN_MS: u64 = 1_000;

impl InSync {
    pub(super) fn new(me: Replica, membership: Membership, opened_at_ms: u64) -> Self {
        let mut in_sync = Self {
            me,
            membership: Membership::default(),
            doubts: Vec::new(),
            proposals: 0,
            propose_not_before_ms: 0,
            followers: BTreeMap::new(),
            strangers: BTreeMap::new(),
            opened_at_ms,
            alone_allowed: false,
            awaited: None,
            await_not_before_ms: 0,
        };
        in_sync.take_row(membership);
        in_sync
    }

    pub(super) const fn one_region(&self) -> bool {
        self.membership.one_region
    }

    /// Takes the row's newest version over. A set that is older than what a reply told is not taken.
    pub(super) fn take_row(&mut self, membership: Membership) {
        let known = std::mem::take(&mut self.membership.set);
        self.membership = membership;
        if self.membership.set.version < known.version {
            self.membership.set = known;
        }
        self.settle_by_version();
        self.sort_reports();
    }

    /// A replica's report counts, a stranger's is kept for the row that makes it a replica.
    fn sort_reports(&mut self) {
        let reports =
            std::mem::take(&mut self.followers).into_iter().chain(std::mem::take(&mut self.strangers));
        let replicas = &self.membership.replicas;
        (self.followers, self.strangers) = reports.partition(|(replica, _)| replicas.contains_key(replica));
        while self.strangers.len() > STRANGERS_MAX {
            self.strangers.pop_first();
        }
    }

    fn settle_by_version(&mut self) {
        let (version, before) = (self.membership.set.version, self.doubts.len());
        self.doubts.retain(|doubt| doubt.proposal.base_version >= version);
        if self.doubts.len() < before {
            self.propose_not_before_ms = 0;
        }
    }

    /// A follower holds everything up to `lsn`; `None`: what it holds is not what is held here.
    pub(super) fn report(&mut self, replica: &Replica, matched: Option<Lsn>, now_ms: u64) {
        if *replica == self.me {
            return;
        }
        let is_replica = self.membership.replicas.contains_key(replica);
        let known = if is_replica { &mut self.followers } else { &mut self.strangers };
        if !is_replica && known.len() >= STRANGERS_MAX && !known.contains_key(replica) {
            known.pop_first();
        }
        let unmatched_at_ms = match known.get(replica) {
            Some(Follower { matched: None, unmatched_at_ms }) => *unmatched_at_ms,
            _ => now_ms,
        };
        known.insert(replica.clone(), Follower { matched, unmatched_at_ms });
    }

    /// The highest LSN that every counting member holds; `None` while one of them is not matched, or one of
    /// the sets does not span two regions by itself: whichever of them is in force may be all that is left.
    pub(super) fn replicated(&self, durable: Lsn) -> Option<Lsn> {
        let mut lowest = self.held_by(self.membership.set.counting(), durable)?;
        for Doubt { proposal, .. } in &self.doubts {
            lowest = self.held_by(proposal.isr.difference(&proposal.lost), lowest)?;
        }
        let awaited = self.awaited.as_ref().and_then(|(replica, _)| self.matched(replica));
        Some(awaited.map_or(lowest, |matched| lowest.min(matched)))
    }

    fn held_by<'a>(&self, members: impl Iterator<Item = &'a Replica> + Clone, durable: Lsn) -> Option<Lsn> {
        let mut lowest = durable;
        for member in members.clone().filter(|member| **member != self.me) {
            lowest = lowest.min(self.matched(member)?);
        }
        (self.regions_of(members) >= self.regions_needed()).then_some(lowest)
    }

    /// The time has passed. Only what an operator has allowed depends on it, and on this clock.
    pub(super) const fn tick(&mut self, wall_ms: u64) {
        self.alone_allowed = wall_ms < self.membership.alone_until_ms;
    }

    fn regions_needed(&self) -> usize {
        if self.alone_allowed { 1 } else { least_regions() }
    }

    /// For how long the member that is furthest behind has lacked something. One that is lost or dead does not
    /// count: nobody waits for it who could do without.
    pub(super) fn set_lag_ms(&self, lag: &Lag, now_ms: u64) -> u64 {
        if self.membership.one_region {
            return 0;
        }
        let awaited = |member: &&Replica| **member != self.me && !self.membership.dead.contains(*member);
        let members = self.membership.set.counting().filter(awaited);
        members.map(|member| self.lag_ms(member, lag, now_ms)).max().unwrap_or(0)
    }

    fn matched(&self, replica: &Replica) -> Option<Lsn> {
        self.followers.get(replica)?.matched
    }

    pub(super) fn settle(&mut self, number: u64, outcome: ProposalOutcome, now_ms: u64) {
        let Some(at) = self.doubts.iter().position(|doubt| doubt.proposal.number == number) else { return };
        self.propose_not_before_ms = now_ms + PROPOSE_AGAIN_MS;
        match outcome {
            ProposalOutcome::Accepted(version) => {
                let Proposal { isr, lost, .. } = self.doubts.remove(at).proposal;
                if version > self.membership.set.version {
                    self.membership.set = IsrSet { isr, lost, version };
                }
                self.settle_by_version();
                self.propose_not_before_ms = now_ms;
            }
            ProposalOutcome::Refused => self.refused(at),
            ProposalOutcome::Unknown => {}
        }
    }

    fn refused(&mut self, at: usize) {
        let doubt = &mut self.doubts[at];
        doubt.unanswered = doubt.unanswered.saturating_sub(1);
        if doubt.unanswered == 0 {
            self.doubts.remove(at);
            return;
        }
        doubt.superseded = true;
        let same = |other: &Doubt| {
            let (a, b) = (&other.proposal, &self.doubts[at].proposal);
            other.superseded && a.number != b.number && a.isr == b.isr && a.lost == b.lost
        };
        if let Some(other) = self.doubts.iter().position(same) {
            // One stands for both; only the version can settle it now.
            self.doubts[other].unanswered = u32::MAX;
            self.doubts.remove(at);
        }
    }

    /// The change to propose now, if any: what is in doubt again, or else the next join or leaving; and an
    /// unchanged set to move the version past what was superseded.
    pub(super) fn propose(&mut self, at: &ProposeAt<'_>) -> Option<Proposal> {
        self.wait_for_a_joiner(at);
        if at.now_ms < self.propose_not_before_ms {
            return None;
        }
        let proposal = match self.doubts.iter_mut().find(|doubt| !doubt.superseded) {
            Some(doubt) => {
                doubt.unanswered = doubt.unanswered.saturating_add(1);
                doubt.proposal.clone()
            }
            None => {
                let set = &self.membership.set;
                let unchanged = (!self.doubts.is_empty()).then(|| (set.isr.clone(), set.lost.clone()));
                let (isr, lost) = self.next_set(at).or(unchanged)?;
                self.proposals += 1;
                let base_version = self.membership.set.version;
                let proposal =
                    Proposal { number: self.proposals, base_version, isr, lost, watermark: at.watermark };
                self.doubts.push(Doubt { proposal: proposal.clone(), unanswered: 1, superseded: false });
                proposal
            }
        };
        // Its reply brings this forward; without one it is repeated.
        self.propose_not_before_ms = at.now_ms + PROPOSE_AGAIN_MS * 5;
        Some(proposal)
    }

    /// Looks for a follower that lacks so little that it would join if the watermark stood still for a moment.
    fn wait_for_a_joiner(&mut self, at: &ProposeAt<'_>) {
        if let Some((replica, until_ms)) = &self.awaited {
            let counts = self.membership.set.counting().any(|member| member == replica);
            if !counts && at.now_ms < *until_ms && self.could_join(replica, at) {
                return;
            }
            self.awaited = None;
            self.await_not_before_ms = at.now_ms + if counts { 0 } else { AWAIT_AGAIN_MS };
        }
        if at.now_ms < self.await_not_before_ms {
            return;
        }
        let near = self.membership.replicas.keys().find(|replica| self.could_join(replica, at));
        self.awaited = near.cloned().map(|replica| (replica, at.now_ms + AWAIT_MS));
    }

    /// Whether nothing but a moment's lag keeps it from joining.
    fn could_join(&self, replica: &Replica, at: &ProposeAt<'_>) -> bool {
        let counts = self.membership.set.counting().any(|member| member == replica);
        !counts
            && *replica != self.me
            && !self.membership.gone.contains(replica)
            && self.matched(replica).is_some()
            && self.lag_ms(replica, at.lag, at.now_ms) <= AWAIT_MS / 2
    }

    fn next_set(&self, at: &ProposeAt<'_>) -> Option<(BTreeSet<Replica>, BTreeSet<Replica>)> {
        let set = &self.membership.set;
        let leaves = |member: &Replica| {
            self.membership.gone.contains(member) || self.lag_ms(member, at.lag, at.now_ms) > at.lag_limit_ms
        };
        for member in set.counting().filter(|member| **member != self.me && leaves(member)) {
            let mut isr = set.isr.clone();
            isr.remove(member);
            if self.regions_of(isr.difference(&set.lost)) >= least_regions() {
                return Some((isr, set.lost.clone()));
            }
            // One that may come back stays a member, unless an operator has said to go on without.
            if self.membership.gone.contains(member) || self.alone_allowed {
                let mut lost = set.lost.clone();
                lost.insert(member.clone());
                return Some((set.isr.clone(), lost));
            }
        }
        let joins = |replica: &Replica| {
            let counts = set.isr.contains(replica) && !set.lost.contains(replica);
            !counts
                && !self.membership.gone.contains(replica)
                && self
                    .matched(replica)
                    .is_some_and(|lsn| lsn >= at.join_bar || is_planted(Bug::JoinBelowBar))
                && self.lag_ms(replica, at.lag, at.now_ms) <= at.lag_limit_ms
        };
        let joiner =
            self.membership.replicas.keys().find(|replica| **replica != self.me && joins(replica))?;
        let (mut isr, mut lost) = (set.isr.clone(), set.lost.clone());
        isr.insert(joiner.clone());
        lost.remove(joiner);
        // Once two regions are there without them, the lost ones leave too.
        if self.regions_of(isr.difference(&lost)) >= 2 {
            isr = isr.difference(&lost).cloned().collect();
            lost.clear();
        }
        Some((isr, lost))
    }

    fn regions_of<'a>(&self, members: impl Iterator<Item = &'a Replica>) -> usize {
        members.filter_map(|member| self.membership.replicas.get(member)).collect::<BTreeSet<_>>().len()
    }

    fn lag_ms(&self, replica: &Replica, lag: &Lag, now_ms: u64) -> u64 {
        match self.followers.get(replica) {
            Some(Follower { matched: Some(lsn), .. }) => lag.of(*lsn, now_ms),
            Some(Follower { matched: None, unmatched_at_ms }) => now_ms.saturating_sub(*unmatched_at_ms),
            None => now_ms.saturating_sub(self.opened_at_ms),
        }
    }

    pub(super) fn view(&self, lag: &Lag, now_ms: u64) -> Vec<FollowerView> {
        let counting: BTreeSet<&Replica> = self.membership.set.counting().collect();
        let followers = self.membership.replicas.keys().filter(|replica| **replica != self.me);
        followers
            .map(|replica| FollowerView {
                replica: replica.clone(),
                in_sync: counting.contains(replica),
                matched: self.matched(replica),
                lag_ms: self.lag_ms(replica, lag, now_ms),
            })
            .collect()
    }
}

/// How many regions a set must span.
fn least_regions() -> usize {
    if is_planted(Bug::ShrinkToOne) { 1 } else { 2 }
}

/// What a proposal is made from.
#[derive(Debug)]
pub(super) struct ProposeAt<'a> {
    pub(super) now_ms: u64,
    pub(super) watermark: Lsn,
    /// The least that a joining follower must hold.
    pub(super) join_bar: Lsn,
    pub(super) lag: &'a Lag,
    /// How far a member may be behind.
    pub(super) lag_limit_ms: u64,
}
