//! When a replica stands for election, and how a leader shows that it is alive.
//!
//! The library's own timer is off, for two reasons. It draws its delay once in a process's life, so that two
//! replicas that collide once collide again; and a replica that was cut off would raise its term again and
//! again, and unseat a leader that works when it comes back. Here each wait is drawn anew, and before a replica
//! raises its term it probes the others: only where a majority has no leader either, and no better log, does
//! it stand. A probe changes nothing anywhere.
//!
//! ```text
//!   a leader is heard ◀────────────────────────────────────────┐
//!        │ not for lease + a random part of it                 │
//!        ▼                                                     │
//!      probe ──▶ a majority has no leader ──▶ stand ──▶ voted in: leads, beats four times a lease
//!        │                                       │
//!        └─▶ refused: wait a random part ◀───────┘ split
//! ```

use super::{
    network::Network,
    types::{Raft, ReplicaId},
    wire::{self as convert, Addressee},
};
use host::random::fraction;
use openraft::{ServerState, raft::VoteRequest};
use parking_lot::Mutex;
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

/// When this replica last heard of a leader.
#[derive(Debug)]
pub(super) struct Heard {
    lease: Duration,
    at: Mutex<Instant>,
    leads: AtomicBool,
}

impl Heard {
    /// A process that has just started may have heard one right before.
    pub(super) fn new(lease: Duration) -> Self {
        Self { lease, at: Mutex::new(Instant::now()), leads: AtomicBool::new(false) }
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

    fn at(&self) -> Instant {
        *self.at.lock()
    }
}

/// How patient a follower is. Pure: time and chance come in.
#[derive(Debug)]
struct Patience {
    lease: Duration,
    heard: Instant,
    due: Instant,
}

impl Patience {
    fn new(lease: Duration, heard: Instant, chance: f64) -> Self {
        Self { lease, heard, due: heard + lease.mul_f64(1.1 + 0.5 * chance) }
    }

    /// Whether it is time to stand.
    fn is_over(&mut self, now: Instant, heard: Instant, chance: f64) -> bool {
        if heard > self.heard {
            *self = Self::new(self.lease, heard, chance);
        }
        now >= self.due
    }

    /// It stood, or was told not to.
    fn again(&mut self, now: Instant, chance: f64) {
        self.due = now + self.lease.mul_f64(0.3 + 0.5 * chance);
    }
}

/// The pace at which followers look at the clock: a part of a lease.
const LOOKS_PER_LEASE: u32 = 20;
/// Signs of life of a leader in the time after which it is missed.
const BEATS_PER_LEASE: u32 = 4;

/// See the module.
pub(super) struct Election {
    pub(super) raft: Raft,
    pub(super) network: Network,
    pub(super) heard: Arc<Heard>,
}

impl Election {
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let lease = self.heard.lease;
        let mut looks = tokio::time::interval(lease / LOOKS_PER_LEASE);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut patience = Patience::new(lease, self.heard.at(), fraction());
        let mut beat_at = Instant::now();
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
            if state == ServerState::Leader {
                self.heard.leader();
                if now >= beat_at {
                    beat_at = now + lease / BEATS_PER_LEASE;
                    let _stopped = self.raft.trigger().heartbeat().await;
                }
            } else if patience.is_over(now, self.heard.at(), fraction()) {
                if self.may_stand(id).await {
                    tracing::info!(replica = %id, "no leader is heard: this replica stands for election");
                    let _stopped = self.raft.trigger().elect().await;
                }
                patience.again(Instant::now(), fraction());
            }
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
            let message = convert::vote_request_to_wire(to, &VoteRequest { vote, last_log_id });
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
        patience.again(start + lease * 2, 1.0);
        assert!(!patience.is_over(start + lease * 2 + lease.mul_f64(0.7), start, 0.9));
        assert!(patience.is_over(start + lease * 2 + lease.mul_f64(0.8), start, 0.9));
        let heard = start + lease * 3;
        assert!(!patience.is_over(heard + lease, heard, 0.0), "a leader was heard meanwhile");
        assert!(patience.is_over(heard + lease.mul_f64(1.1), heard, 0.0));
    }
}
