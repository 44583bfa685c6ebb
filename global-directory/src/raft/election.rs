//! When a replica stands for election, and how a leader shows that it is alive.
//!
//! The library's own timer is off, for two reasons. It draws its delay once in a process's life, so that two
//! replicas that collide once collide again; and a replica that was cut off would raise its term again and
//! again, and unseat a leader that works when it comes back. Here each wait is drawn anew, and before a replica
//! raises its term it probes the others: only where a majority has no leader either, and no better log, does
//! it stand. A probe changes nothing that consensus rests on.
//!
//! Who grants a probe gives way: it does not stand itself for a while. Of two that probe at the same time, the one
//! with the better log goes on, or else the lower id. Without that, two replicas far from each other would
//! unseat one another: the vote of the one has hardly left when the other stands for the next term.
//!
//! A leader says that it lives beside the library: what the library sends waits for the leader's disk, and what it
//! answers for the other one's, and a disk that takes long is no reason to elect somebody else. A leader to which no
//! majority has answered for [`MAJORITY_LEASES`] leases falls silent, so that one with a dead disk is replaced.
//!
//! ```text
//!   a leader is heard ◀────────────────────────────────────────┐
//!        │ not for lease + a random part of it                 │
//!        ▼                                                     │
//!      probe ──▶ a majority gives way ──▶ stand ──▶ voted in: leads, beats four times a lease
//!        │                                   │
//!        └─▶ refused, or gave way: wait ◀────┘ split
//! ```

use super::{
    network::Network,
    types::{Raft, ReplicaId},
    wire::{self as convert, Addressee},
};
use host::random::fraction;
use openraft::{ServerState, Vote, raft::VoteRequest};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

/// When this replica last heard of a leader.
#[derive(Debug)]
pub(super) struct Heard {
    lease: Duration,
    at: Mutex<Instant>,
    leads: AtomicBool,
    claim: Mutex<Claim>,
}

impl Heard {
    /// A process that has just started may have heard one right before.
    pub(super) fn new(lease: Duration) -> Self {
        Self {
            lease,
            at: Mutex::new(Instant::now()),
            leads: AtomicBool::new(false),
            claim: Mutex::new(Claim::None),
        }
    }

    /// A leader spoke.
    pub(super) fn leader(&self) {
        *self.at.lock() = Instant::now();
    }

    pub(super) fn has_leader(&self) -> bool {
        self.leads.load(Ordering::Relaxed) || self.at.lock().elapsed() <= self.lease
    }

    /// For how long no leader has been heard.
    pub(super) fn silence(&self) -> Duration {
        self.at.lock().elapsed()
    }

    /// For how long a leader may go without a majority before nobody relies on it.
    pub(super) fn patience(&self) -> Duration {
        self.lease
    }

    /// Whether this replica lets another one stand, and then stands not itself for a while.
    pub(super) fn gives_way(&self, own: ReplicaId, to: ReplicaId, is_ahead: bool) -> bool {
        self.claim.lock().gives_way(Instant::now(), self.lease, is_ahead || to < own)
    }

    fn at(&self) -> Instant {
        *self.at.lock()
    }
}

/// Who may stand, as far as this replica has a say. Pure: time comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// Nobody has asked.
    None,
    /// This replica probes the others.
    Asks { until: Instant },
    /// This replica stands.
    Stands { until: Instant },
    /// Another one may stand.
    GaveWay { until: Instant },
}

impl Claim {
    /// A probe is answered, the votes are counted and the winner is heard within this part of a lease.
    const LASTS: f64 = 0.7;

    /// This replica wants to probe; it may unless it has just given way.
    fn asks(&mut self, now: Instant, lease: Duration) -> bool {
        let may = !matches!(*self, Self::GaveWay { until } if now < until);
        if may {
            *self = Self::Asks { until: now + lease.mul_f64(Self::LASTS) };
        }
        may
    }

    /// The probes were granted, or not; it stands unless it gave way meanwhile.
    fn stands(&mut self, now: Instant, lease: Duration, granted: bool) -> bool {
        let stands = granted && matches!(*self, Self::Asks { .. });
        if stands {
            *self = Self::Stands { until: now + lease.mul_f64(Self::LASTS) };
        } else if matches!(*self, Self::Asks { .. }) {
            *self = Self::None;
        }
        stands
    }

    /// Another one probes, and goes first where both do.
    fn gives_way(&mut self, now: Instant, lease: Duration, goes_first: bool) -> bool {
        let gives_way = match *self {
            Self::Asks { until } => now >= until || goes_first,
            Self::Stands { until } => now >= until,
            Self::None | Self::GaveWay { .. } => true,
        };
        if gives_way {
            *self = Self::GaveWay { until: now + lease.mul_f64(Self::LASTS) };
        }
        gives_way
    }
}

/// How patient a follower is. Pure: time and chance come in.
#[derive(Debug)]
struct Patience {
    lease: Duration,
    heard: Instant,
    due: Instant,
    /// Elections since then that came to nothing.
    in_vain: u32,
}

impl Patience {
    fn new(lease: Duration, heard: Instant, chance: f64) -> Self {
        Self { lease, heard, due: heard + lease.mul_f64(1.1 + 0.5 * chance), in_vain: 0 }
    }

    /// Whether it is time to stand.
    fn is_over(&mut self, now: Instant, heard: Instant, chance: f64) -> bool {
        if heard > self.heard {
            *self = Self::new(self.lease, heard, chance);
        }
        now >= self.due
    }

    /// It stood, or was told not to. Who stands again while votes for the last time are under way undoes them, so
    /// each time in vain doubles the wait.
    fn again(&mut self, now: Instant, stood: bool, chance: f64) {
        let doubled = 1 << self.in_vain.min(DOUBLED_MAX);
        self.due = now + self.lease.mul_f64(0.3 + 0.5 * chance) * doubled;
        self.in_vain += u32::from(stood);
    }
}

/// The pace at which followers look at the clock: a part of a lease.
const LOOKS_PER_LEASE: u32 = 20;
/// A leader without a majority for so many leases shows no sign of life any more.
const MAJORITY_LEASES: u32 = 2;
/// How many times the wait after an election that came to nothing is doubled, at most: votes take the time of disks.
const DOUBLED_MAX: u32 = 3;
/// Signs of life of a leader in the time after which it is missed.
const BEATS_PER_LEASE: u32 = 4;

/// See the module.
pub(super) struct Election {
    pub(super) raft: Raft,
    pub(super) network: Network,
    pub(super) heard: Arc<Heard>,
    /// When a majority last answered this leader.
    pub(super) majority_at: Box<dyn Fn() -> Option<Instant> + Send + Sync>,
}

/// How long a leader has been one, and whether it still shows so. Pure: time comes in.
#[derive(Debug, Default)]
struct Reign {
    since: Option<Instant>,
}

impl Reign {
    /// It leads now, or not.
    fn look(&mut self, leads: bool, now: Instant) {
        self.since = leads.then(|| self.since.unwrap_or(now));
    }

    /// Whether a majority has answered it lately enough, or it has not had the time to.
    fn shows(&self, majority: Option<Instant>, lease: Duration, now: Instant) -> bool {
        let last = self.since.max(majority);
        last.is_some_and(|last| now.saturating_duration_since(last) <= lease * MAJORITY_LEASES)
    }
}

impl Election {
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let lease = self.heard.lease;
        let mut looks = tokio::time::interval(lease / LOOKS_PER_LEASE);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut patience = Patience::new(lease, self.heard.at(), fraction());
        let mut beat_at = Instant::now();
        let (mut reign, mut beats) = (Reign::default(), BTreeMap::new());
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = looks.tick() => {}
            }
            let (state, id) = {
                let metrics = self.raft.server_metrics();
                let metrics = metrics.borrow();
                (metrics.state, metrics.id)
            };
            let now = Instant::now();
            self.heard.leads.store(state == ServerState::Leader, Ordering::Relaxed);
            reign.look(state == ServerState::Leader, now);
            if state == ServerState::Leader {
                self.heard.leader();
                if now >= beat_at && reign.shows((self.majority_at)(), lease, now) {
                    beat_at = now + lease / BEATS_PER_LEASE;
                    self.beat(id, &mut beats);
                    let _stopped = self.raft.trigger().heartbeat().await;
                }
            } else if patience.is_over(now, self.heard.at(), fraction())
                && self.heard.claim.lock().asks(now, lease)
            {
                let granted = self.may_stand(id).await;
                let stands = self.heard.claim.lock().stands(Instant::now(), lease, granted);
                if stands {
                    tracing::info!(replica = %id, "no leader is heard: this replica stands for election");
                    let _stopped = self.raft.trigger().elect().await;
                }
                patience.again(Instant::now(), stands, fraction());
            }
        }
    }

    /// Tells the others that it lives, each at its own pace: one that does not answer is not told again meanwhile.
    fn beat(&self, own: ReplicaId, beats: &mut BTreeMap<ReplicaId, JoinHandle<()>>) {
        let (membership, vote) = {
            let metrics = self.raft.server_metrics();
            let metrics = metrics.borrow();
            (metrics.membership_config.clone(), metrics.vote)
        };
        beats.retain(|_, beat| !beat.is_finished());
        for (replica, member) in membership.membership().nodes() {
            if *replica == own || beats.contains_key(replica) {
                continue;
            }
            let Ok(mut client) = self.network.client(*replica, &member.address) else { continue };
            let to = Addressee { replica: *replica, store: member.store };
            let (message, patience) = (convert::beat_to_wire(to, &vote), self.heard.lease);
            let beat = async move {
                // Whether it was heard shows in what the other one does.
                let _late = tokio::time::timeout(patience, client.beat(message)).await;
            };
            beats.insert(*replica, tokio::spawn(beat));
        }
    }

    /// Whether a majority would vote for this replica.
    async fn may_stand(&self, own: ReplicaId) -> bool {
        let (membership, vote) = {
            let metrics = self.raft.server_metrics();
            let metrics = metrics.borrow();
            (metrics.membership_config.clone(), metrics.vote)
        };
        let last_log_id = self.raft.data_metrics().borrow().last_log;
        let membership = membership.membership();
        if !membership.voter_ids().any(|voter| voter == own) {
            return false;
        }
        let mut probes = JoinSet::new();
        for (replica, member) in membership.nodes() {
            let (replica, to) = (*replica, Addressee { replica: *replica, store: member.store });
            if replica == own || !membership.voter_ids().any(|voter| voter == replica) {
                continue;
            }
            let Ok(mut client) = self.network.client(replica, &member.address) else { continue };
            let asks = Vote::new(vote.leader_id().get_term(), own);
            let message = convert::vote_request_to_wire(to, &VoteRequest { vote: asks, last_log_id });
            let patience = self.heard.lease.mul_f64(0.7);
            probes.spawn(async move {
                let reply = tokio::time::timeout(patience, client.probe(message)).await;
                matches!(reply, Ok(Ok(reply)) if reply.get_ref().granted).then_some(replica)
            });
        }
        let mut granted = BTreeSet::from([own]);
        loop {
            let is_majority =
                |config: &BTreeSet<ReplicaId>| granted.intersection(config).count() * 2 > config.len();
            if membership.get_joint_config().iter().all(is_majority) {
                return true;
            }
            match probes.join_next().await {
                Some(reply) => granted.extend(reply.ok().flatten()),
                None => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_stands_only_after_a_lease_without_a_leader_and_each_time_after_another_wait() {
        let lease = Duration::from_millis(1_000);
        let start = Instant::now();
        let mut patience = Patience::new(lease, start, 0.0);
        assert!(!patience.is_over(start + lease, start, 0.9), "nobody would vote for it yet");
        assert!(patience.is_over(start + lease * 2, start, 0.9));
        patience.again(start + lease * 2, false, 1.0);
        assert!(!patience.is_over(start + lease * 2 + lease.mul_f64(0.7), start, 0.9));
        assert!(patience.is_over(start + lease * 2 + lease.mul_f64(0.8), start, 0.9));
        for _ in 0..2 {
            patience.again(start + lease * 2, true, 1.0);
        }
        let before_last = start + lease * 2 + lease.mul_f64(1.5);
        assert!(!patience.is_over(before_last, start, 0.9), "votes for it are under way: it waits longer");
        assert!(patience.is_over(start + lease * 2 + lease.mul_f64(1.6), start, 0.9));
        let heard = start + lease * 3;
        assert!(!patience.is_over(heard + lease, heard, 0.0), "a leader was heard meanwhile");
        assert!(patience.is_over(heard + lease.mul_f64(1.1), heard, 0.0));
    }

    #[test]
    fn a_leader_without_a_majority_falls_silent_and_a_new_one_has_time_to_find_it() {
        let (lease, start) = (Duration::from_millis(1_000), Instant::now());
        let mut reign = Reign::default();
        assert!(!reign.shows(Some(start), lease, start + lease * 3));
        let elected = start + lease * 10;
        reign.look(true, elected);
        assert!(reign.shows(Some(start), lease, elected + lease * 2), "the answers are to an earlier reign");
        reign.look(true, elected + lease * 2);
        assert!(!reign.shows(None, lease, elected + lease * 3));
        let answered = elected + lease * 5;
        assert!(reign.shows(Some(answered), lease, answered + lease * 2));
        assert!(!reign.shows(Some(answered), lease, answered + lease * 3), "it cannot lead any more");
        reign.look(false, answered);
        assert!(!reign.shows(None, lease, answered));
    }

    #[test]
    fn of_two_that_ask_at_once_one_stands_and_who_gives_way_waits() {
        let (lease, now) = (Duration::from_millis(1_000), Instant::now());
        let (mut first, mut second) = (Claim::None, Claim::None);
        assert!(first.asks(now, lease) && second.asks(now, lease));
        assert!(second.gives_way(now, lease, true) && !first.gives_way(now, lease, false));
        assert!(first.stands(now, lease, true) && !second.stands(now, lease, true));
        assert!(!second.asks(now + lease / 2, lease), "the vote of the other one is under way");
        assert!(!first.gives_way(now + lease / 2, lease, true), "its own vote is under way");
        assert!(second.asks(now + lease, lease), "the other one has not come to lead");
        assert!(first.gives_way(now + lease, lease, false));
    }

    #[test]
    fn who_was_refused_gives_way_to_anybody() {
        let (lease, now) = (Duration::from_millis(1_000), Instant::now());
        let mut claim = Claim::None;
        assert!(claim.asks(now, lease) && !claim.stands(now, lease, false));
        assert!(claim.gives_way(now, lease, false));
    }
}
