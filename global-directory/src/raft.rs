//! The group of directory replicas: one log, agreed on by a majority, applied by each to rows of its own.
//!
//! ```text
//!   submit, renew ──▶ group: one entry for all that waits ──▶ the library (leader) ──▶ network ──▶ server
//!                                                                │ append   stamps renewals (log)  ▲
//!                                                                │             └─ durable ▶ lane ──┘ at once
//!                                                                ▼ committed
//!   state ◀── publish ── machine: command::execute, applied in the log's order by every replica
//! ```
//!
//! * What is acknowledged is durable at a majority: it survives the loss of any minority, the leader included.
//! * A read behind [`Group::read_barrier`] sees everything that was acknowledged before it. A leader that was
//!   cut off finds no majority and answers none, and acknowledges no renewal.
//! * A renewal is a fresh entry of the log at each attempt. It is acknowledged only once it is committed, so
//!   whoever leads later holds it, and has stamped it on its own clock when it came to its log ([`log`]).
//!   Therefore `ttl × 1.2` after the leader's own stamp, the holder of a lease has stopped.
//! * Replicas are named for good, together with their disks ([`identity`]).
//! * Elections are held by [`election`]; membership is changed by [`membership`], one replica at a time.

mod disk;
mod election;
mod group;
mod identity;
mod lane;
mod log;
mod machine;
mod membership;
mod network;
mod reads;
mod runtime;
mod server;
mod snapshot;
mod survival;
#[cfg(test)]
mod tests;
mod types;
mod wire;

pub use identity::IdentityError;
pub use types::ReplicaId;

pub(crate) use identity::is_a_replica;
pub(crate) use machine::registered;
pub(crate) use membership::MembershipError;
pub(crate) use network::Network;
pub(crate) use server::Server;
pub(crate) use survival::Voters;

use crate::{
    bounds, clock,
    command::{Answer, Deployment, Envelope},
    config::Peer,
    engine::{RenewFailure, SubmitError},
    kv::{self, Kv},
    state::State,
};
use ::types::{Home, RegionId};
use election::{Election, Heard};
use group::Queue;
use identity::{Birth, Identity};
use openraft::{ServerState, SnapshotPolicy};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use types::{Member, Proposal, Raft, RaftMetrics};

/// How a replica is started.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) replica: ReplicaId,
    pub(crate) region: RegionId,
    pub(crate) advertise: String,
    pub(crate) peers: Vec<Peer>,
    pub(crate) dial: BTreeMap<ReplicaId, String>,
    /// After this long without a word of the leader another one is chosen.
    pub(crate) election: Duration,
}

/// A replica could not be started.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder is not this replica's.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Its store failed.
    #[error(transparent)]
    Store(#[from] kv::Error),
    /// The thread of its store was refused.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// The library refused what it read.
    #[error("the log of this replica cannot be used: {0}")]
    Log(String),
}

/// One replica, as the rest of its process sees it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Group {
    identity: Identity,
    kv: Arc<dyn Kv>,
    state: Arc<State>,
    raft: Raft,
    queue: Queue,
    reads: reads::Queue,
    network: Network,
    heard: Arc<Heard>,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Group").field(&self.identity).finish()
    }
}

/// Who is to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Leader {
    /// This replica.
    Own,
    /// Another one, with the address that it announces.
    Other(ReplicaId, String),
    /// Nobody, for all that is known here.
    Unknown,
}

fn library_config(election: Duration) -> openraft::Config {
    let lease_ms = u64::try_from(election.as_millis()).unwrap_or(u64::MAX);
    openraft::Config {
        cluster_name: "directory".into(),
        // The library gives up on an append after this long, the other replica's fsync included. Own signs of life
        // come more often, and a connection that is dead ends by its keep-alive.
        heartbeat_interval: (lease_ms * 2).max(bounds::APPEND_TIMEOUT_MIN_MS),
        election_timeout_min: lease_ms * 7 / 10,
        // How long a follower keeps its vote from others after a word of the leader.
        election_timeout_max: lease_ms,
        enable_elect: false,
        max_payload_entries: bounds::APPEND_MAX_ENTRIES as u64,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(bounds::SNAPSHOT_EVERY),
        replication_lag_threshold: bounds::SNAPSHOT_EVERY * 2,
        max_in_snapshot_log_to_keep: bounds::LOG_KEPT,
        purge_batch_size: bounds::LOG_KEPT / 4,
        install_snapshot_timeout: 60_000,
        ..openraft::Config::default()
    }
}

impl Group {
    /// Starts a replica on its store. It serves nobody before its [`Server`] is reachable.
    pub(crate) async fn open(
        kv: Arc<dyn Kv>,
        state: Arc<State>,
        settings: Settings,
        stop: CancellationToken,
    ) -> Result<(Self, Server), OpenError> {
        Self::open_with(kv, state, library_config(settings.election), settings, stop).await
    }

    async fn open_with(
        kv: Arc<dyn Kv>,
        state: Arc<State>,
        config: openraft::Config,
        settings: Settings,
        stop: CancellationToken,
    ) -> Result<(Self, Server), OpenError> {
        let identity = identity::identify(&*kv, settings.replica)?;
        let disk = disk::Disk::new(kv.clone()).map_err(OpenError::Thread)?;
        let network = Network::new(settings.dial);
        let log =
            log::Log::new(disk.clone(), state.clone(), log::Ahead::new(identity.replica, network.clone()));
        let machine = machine::Machine::open(disk.clone(), state.clone())?;
        let raft = Raft::new(identity.replica, Arc::new(config), network.clone(), log, machine).await;
        let raft = raft.map_err(|error| OpenError::Log(error.to_string()))?;
        let heard = Arc::new(Heard::new(settings.election));
        let member = Member { address: settings.advertise, region: settings.region, store: identity.store };
        let group = Self {
            identity,
            kv,
            state,
            queue: Queue::start(raft.clone()),
            reads: reads::Queue::start(raft.clone()),
            network: network.clone(),
            heard: heard.clone(),
            raft: raft.clone(),
        };
        let birth = Birth {
            identity,
            member: member.clone(),
            peers: settings.peers,
            network: network.clone(),
            disk: disk.clone(),
        };
        let election = Election {
            raft: raft.clone(),
            network,
            heard: heard.clone(),
            majority_at: {
                let group = group.clone();
                Box::new(move || group.majority_at(&group.raft.metrics().borrow()))
            },
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(birth.attend(raft.clone())));
        tokio::spawn(election.run(stop.clone()));
        tokio::spawn(watch(raft.clone(), stop));
        Ok((group, Server { identity, member, disk, raft, heard, installing: Arc::default() }))
    }

    /// See [`crate::engine::Engine::submit`].
    pub(crate) async fn submit(&self, envelope: Envelope) -> Result<Answer, SubmitError> {
        self.check_leads()?;
        self.queue.submit(envelope).await
    }

    /// See [`crate::engine::Engine::renew`].
    pub(crate) async fn renew(&self, home: Home) -> Result<(), RenewFailure> {
        self.check_leads()?;
        // What is over stays so, whoever leads: it needs no entry. Anything else is for the log to say.
        if let Some(over) = self.state.is_over(&home) {
            return Err(over.into());
        }
        self.queue.renew(home).await
    }

    /// See [`crate::engine::Engine::read_barrier`].
    pub(crate) async fn read_barrier(&self) -> Result<(), SubmitError> {
        self.check_leads()?;
        self.reads.barrier().await
    }

    /// A command before the birth of the deployment would find no rows to run on.
    fn check_leads(&self) -> Result<(), SubmitError> {
        match self.leader() {
            Leader::Own if self.state.is_founded() => Ok(()),
            Leader::Own => Err(SubmitError::NotLeader(None)),
            Leader::Other(replica, _) => Err(SubmitError::NotLeader(Some(replica))),
            Leader::Unknown => Err(SubmitError::NotLeader(None)),
        }
    }

    /// See [`crate::engine::Engine::found`].
    pub(crate) async fn found(&self, deployment: &Deployment) -> Result<(), SubmitError> {
        if self.state.is_founded() {
            return Ok(());
        }
        // An earlier leader may have founded it in an entry that is not applied here yet.
        self.reads.barrier().await?;
        if self.state.is_founded() {
            return Ok(());
        }
        let proposal =
            Proposal { found: Some((deployment.clone(), clock::wall_ms())), ..Proposal::default() };
        let written = self.raft.client_write(proposal).await;
        written.map(drop).map_err(|error| SubmitError::Indeterminate(error.to_string()))
    }

    /// The term in which this replica leads, with a majority that answers it.
    pub(crate) fn leads(&self) -> Option<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let is_followed = |at: Instant| at.elapsed() <= self.heard.patience();
        self.majority_at(&metrics).is_some_and(is_followed).then_some(metrics.current_term)
    }

    /// When the message left, at the latest, that the majority of a leader has answered; `None` where it does not lead.
    fn majority_at(&self, metrics: &RaftMetrics) -> Option<Instant> {
        if metrics.state != ServerState::Leader {
            return None;
        }
        let now = Instant::now();
        let answered = |voter: &ReplicaId| {
            let is_own = *voter == self.identity.replica;
            if is_own { Some(now) } else { self.network.heard(*voter, &metrics.vote) }
        };
        majority_at(metrics.membership_config.membership().get_joint_config(), answered)
    }

    /// Whether it has been without a leader, or has led without a majority, for so long that what it knows of the
    /// placement may be old.
    pub(crate) fn is_cut_off(&self) -> bool {
        let majority = self.majority_at(&self.raft.metrics().borrow()).map(|at| at.elapsed());
        let silence = majority.map_or(self.heard.silence(), |majority| majority.min(self.heard.silence()));
        silence > self.heard.patience() * bounds::CUT_OFF_ELECTIONS
    }

    /// Who is to be asked now.
    pub(crate) fn leader(&self) -> Leader {
        if self.leads().is_some() {
            return Leader::Own;
        }
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        match metrics.current_leader {
            Some(leader) if leader != self.identity.replica && self.heard.has_leader() => {
                match metrics.membership_config.membership().get_node(&leader) {
                    Some(member) => Leader::Other(leader, member.address.clone()),
                    None => Leader::Unknown,
                }
            }
            _ => Leader::Unknown,
        }
    }

    /// See [`crate::engine::Engine::voter_regions`].
    pub(crate) fn voter_regions(&self) -> BTreeSet<RegionId> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let members = metrics.membership_config.membership();
        members.voter_ids().filter_map(|voter| Some(members.get_node(&voter)?.region.clone())).collect()
    }

    /// The connections to the other replicas.
    pub(crate) const fn network(&self) -> &Network {
        &self.network
    }

    /// Ends when the library has stopped; the reason, if it is one to tell.
    pub(crate) async fn ended(&self) -> Option<String> {
        let mut metrics = self.raft.metrics();
        loop {
            if let Err(fatal) = &metrics.borrow_and_update().running_state {
                return match fatal {
                    openraft::error::Fatal::Stopped => None,
                    other => Some(other.to_string()),
                };
            }
            if metrics.changed().await.is_err() {
                return None;
            }
        }
    }

    /// Stops taking part.
    pub(crate) async fn shutdown(&self) {
        let _joined = self.raft.shutdown().await;
    }
}

/// The time by which each of these sets has a majority that had answered then.
fn majority_at(
    configs: &[BTreeSet<ReplicaId>],
    answered: impl Fn(&ReplicaId) -> Option<Instant>,
) -> Option<Instant> {
    let of = |voters: &BTreeSet<ReplicaId>| {
        let mut times: Vec<Option<Instant>> = voters.iter().map(&answered).collect();
        times.sort_unstable_by(|one, other| other.cmp(one));
        times.get(voters.len() / 2).copied().flatten()
    };
    configs.iter().map(of).min().flatten()
}

/// Notes what operators look at.
async fn watch(raft: Raft, stop: CancellationToken) {
    let mut changes = raft.metrics();
    loop {
        {
            let metrics = changes.borrow_and_update();
            let is_leader = metrics.state == ServerState::Leader;
            ::metrics::gauge!("hearth_directory_leads").set(f64::from(u8::from(is_leader)));
            ::metrics::gauge!("hearth_directory_term").set(metrics.current_term as f64);
            let applied = metrics.last_applied.map_or(0, |last| last.index);
            let behind = metrics.last_log_index.unwrap_or(0).saturating_sub(applied);
            ::metrics::gauge!("hearth_directory_entries_not_applied").set(behind as f64);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}
