//! The calls of the rest of the node, sent to the shard that owns the partition.

use super::{
    canary::{SingReply, Turn},
    core::{Handed, Membership, PENDING_MAX, RehomingStep, Row, View},
    expected::expects,
    feed::OpenHomes,
    shard::{Shard, ShardParts},
};
use crate::{
    Config, PlacementView,
    bus::{BusSink, SinkId},
    directory::Directory,
    follower::Followers,
    lease::Lease,
    live::{LiveEvent, Said},
    ready::Identity,
    replica,
    service::{
        AccountAnswer, Carrier, Earlier, Homes, LocateAnswer, NotHome, Pins, ReadRefusal, Subscribed, Write,
        WriteError, WriteReply,
    },
};
use async_trait::async_trait;
use log_store::{LogStore, fold::LogState};
use std::{collections::BTreeSet, fmt, sync::Arc};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use types::{
    Code, DeviceCursor, Effect, EffectAct, Epoch, Generation, LogId, NodeId, PartitionId, PartitionPosition,
    PartitionRow, PartitionState, Placement, Position, Refusal, RegionRow, Replica, Retirement, UserId,
};

/// Calls that may wait for one shard.
const MAILBOX_MAX: usize = 2 * PENDING_MAX;
/// The most shards; each is a task with its share of the partitions.
pub(super) const SHARDS_MAX: usize = 4;
/// How long a call that found the shard's mailbox full should wait, in ms.
const MAILBOX_RETRY_MS: u64 = 200;
/// How long a step of a re-homing may take until it is asked for again, in ms.
const REHOMING_DEADLINE_MS: u64 = 2_000;
/// How long an effect may take until it is sent again, in ms.
const EFFECT_DEADLINE_MS: u64 = 4_000;

/// What is said to a shard.
#[derive(Debug)]
pub(super) enum Command {
    Append { write: Box<Write>, reply: WriteReply },
    Subscribe { partition: PartitionId, log: LogId, sink: BusSink, reply: SubscribeReply },
    Unsubscribe { partition: PartitionId, log: LogId, sink: SinkId },
    Report(Report),
    Fenced { partition: PartitionId, epoch: Epoch, done: oneshot::Sender<()> },
    View { reply: oneshot::Sender<Vec<(PartitionId, Epoch, View)>> },
    Rehome { partition: PartitionId, log: LogId, step: RehomingStep, deadline_ms: u64, reply: RehomeReply },
    Effect { partition: PartitionId, effect: Box<Effect>, deadline_ms: u64, reply: RehomeReply },
    Sing { writes: bool, reply: SingReply },
    Cursors { partition: PartitionId, log: LogId, cursors: Vec<DeviceCursor> },
    Tell { partition: PartitionId, event: Arc<LiveEvent> },
}

pub(super) type RehomeReply = oneshot::Sender<Result<Handed, WriteError>>;

pub(super) type SubscribeReply = oneshot::Sender<Result<Subscribed, NotHome>>;

/// What a follower told through its replicator.
#[derive(Debug, Clone)]
pub struct Report {
    /// The partition.
    pub partition: PartitionId,
    /// In which epoch this node was home when it was told.
    pub epoch: Epoch,
    /// Who.
    pub replica: Replica,
    /// The highest epoch that it obeys.
    pub obeys: Epoch,
    /// Its last durable record.
    pub last: PartitionPosition,
}

/// What homes stand on.
#[derive(Clone)]
pub struct HomeDeps {
    /// The node's configuration.
    pub config: Arc<Config>,
    /// The store.
    pub store: Arc<dyn LogStore>,
    /// The placement.
    pub view: Arc<PlacementView>,
    /// Where pins are read.
    pub pins: Arc<dyn Pins>,
    /// What other partitions hold of logs that were re-homed.
    pub earlier: Arc<dyn Earlier>,
    /// Who brings effects to other homes.
    pub carrier: Arc<dyn Carrier>,
    /// Where in-sync sets are proposed.
    pub directory: Directory,
    /// The leases of this node, one after another.
    pub leases: watch::Receiver<Option<Arc<Lease>>>,
    /// What this node knows as a follower.
    pub followers: Arc<Followers>,
    /// Who this node is.
    pub identity: Arc<Identity>,
}

impl fmt::Debug for HomeDeps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HomeDeps").field("node", &self.config.node).finish_non_exhaustive()
    }
}

/// See [`Homes`].
#[derive(Debug)]
pub struct NodeHomes {
    deps: HomeDeps,
    pub(super) shards: Vec<mpsc::Sender<Command>>,
    open: Arc<OpenHomes>,
    pub(super) canary_turn: Turn,
}

impl NodeHomes {
    /// Starts the shards; they end, with all homes, when `shutdown` is cancelled.
    pub fn spawn(deps: HomeDeps, shutdown: &CancellationToken) -> (Arc<Self>, Vec<JoinHandle<()>>) {
        let open = Arc::new(OpenHomes::default());
        let cores = host::cores();
        let count = cores.min(SHARDS_MAX);
        let mut shards = Vec::with_capacity(count);
        let mut tasks = Vec::with_capacity(count);
        for index in 0..count {
            let (sender, mailbox) = mpsc::channel(MAILBOX_MAX);
            let parts = ShardParts { index, count, deps: deps.clone(), open: Arc::clone(&open) };
            tasks.push(tokio::spawn(Shard::new(parts).run(mailbox, shutdown.clone())));
            shards.push(sender);
        }
        (Arc::new(Self { deps, shards, open, canary_turn: Turn::default() }), tasks)
    }

    /// The homes that are open here.
    pub const fn open(&self) -> &Arc<OpenHomes> {
        &self.open
    }

    /// Hands on what a follower told.
    ///
    /// # Errors
    /// The report, where the partition's shard has no room for it just now.
    pub fn report(&self, report: Report) -> Result<(), Report> {
        match self.shard(report.partition).try_send(Command::Report(report)) {
            Err(mpsc::error::TrySendError::Full(Command::Report(report))) => Err(report),
            // The shards end only with the node.
            _ => Ok(()),
        }
    }

    /// Ends the home of a partition if its epoch is below `epoch`; returns when it has ended.
    pub async fn fenced(&self, partition: PartitionId, epoch: Epoch) {
        let (done, ended) = oneshot::channel();
        if self.shard(partition).send(Command::Fenced { partition, epoch, done }).await.is_ok() {
            let _ = ended.await;
        }
    }

    /// Takes a step of a re-homing, and answers when it is `replicated`.
    ///
    /// # Errors
    /// As for a write; one that is not answered in time is of unknown outcome, and may be repeated.
    pub async fn rehome(
        &self,
        partition: PartitionId,
        log: LogId,
        step: RehomingStep,
    ) -> Result<Handed, WriteError> {
        if self.open.get(partition).is_none() {
            return Err(self.not_home(partition).into());
        }
        let (reply, answer) = oneshot::channel();
        let deadline_ms = crate::clock::boot_ms() + REHOMING_DEADLINE_MS;
        let command = Command::Rehome { partition, log, step, deadline_ms, reply };
        if self.shard(partition).send(command).await.is_err() {
            return Err(self.not_home(partition).into());
        }
        answer.await.unwrap_or(Err(WriteError::Indeterminate { why: "the home went down" }))
    }

    /// What an operator sees of the homes here.
    pub async fn views(&self) -> Vec<(PartitionId, Epoch, View)> {
        let mut views = Vec::new();
        for shard in &self.shards {
            let (reply, answer) = oneshot::channel();
            if shard.send(Command::View { reply }).await.is_ok() {
                views.extend(answer.await.unwrap_or_default());
            }
        }
        views
    }

    fn shard(&self, partition: PartitionId) -> &mpsc::Sender<Command> {
        &self.shards[partition.get() as usize % self.shards.len()]
    }

    fn expects(&self, write: &Write) -> bool {
        let placement = self.deps.view.load();
        let me = self.deps.identity.home();
        placement.partition(write.partition).is_some_and(|row| expects(row, &me, write.epoch_hint))
    }

    fn not_home(&self, partition: PartitionId) -> NotHome {
        not_home(&self.deps.view.load(), partition, self.deps.identity.node())
    }
}

/// What this node can say of a partition whose home it is not.
pub(crate) fn not_home(placement: &Placement, partition: PartitionId, me: &NodeId) -> NotHome {
    let row = placement.partition(partition);
    let home = row.and_then(|row| row.home.as_ref()).map(|home| home.node.clone());
    // A row that names this node means that its home is about to open here, or has just ended.
    let moving = home.as_ref().is_none_or(|home| home == me)
        || row.is_some_and(|row| matches!(row.state, PartitionState::FailingOver | PartitionState::Draining));
    let epoch = row.map_or(Epoch::ZERO, |row| row.epoch);
    NotHome { partition, epoch, home, moving, closed: Generation::ZERO }
}

/// What of a row matters to its home.
pub(super) fn row_of(placement: &Placement, row: &PartitionRow) -> Row {
    let region = |replica: &Replica| {
        let node = placement.node(&replica.node)?;
        Some((replica.clone(), node.region.clone()))
    };
    let replaced =
        |replica: &&Replica| placement.node(&replica.node).is_some_and(|node| node.store != replica.store);
    let is_dead = |replica: &&Replica| placement.node(&replica.node).is_some_and(|node| !node.live);
    let home_region = row.home.as_ref().and_then(|home| placement.node(&home.node)).map(|node| &node.region);
    let alone_until_ms =
        home_region.and_then(|region| placement.region(region)).map_or(0, |region| region.alone_until_ms);
    let stays = |region: &&RegionRow| region.retirement != Retirement::Retired;
    let regions: BTreeSet<_> = placement.regions().filter(stays).map(|region| &region.region).collect();
    Row {
        waiting: !row.waiting.is_empty(),
        moving: row.moving.as_ref().map(|moving| moving.id),
        membership: Membership {
            replicas: row.replicas.iter().chain(&row.isr).filter_map(region).collect(),
            gone: row.replicas.iter().chain(&row.isr).filter(replaced).cloned().collect(),
            dead: row.replicas.iter().chain(&row.isr).filter(is_dead).cloned().collect(),
            set: super::core::IsrSet {
                isr: row.isr.iter().cloned().collect(),
                lost: row.lost.iter().cloned().collect(),
                version: row.isr_version,
            },
            one_region: regions.len() < 2,
            alone_until_ms,
        },
    }
}

#[async_trait]
impl Homes for NodeHomes {
    fn append(&self, write: Write, reply: WriteReply) -> Result<(), WriteError> {
        let partition = write.partition;
        if self.open.get(partition).is_none() && !self.expects(&write) {
            reply.forget();
            return Err(self.not_home(partition).into());
        }
        let command = Command::Append { write: Box::new(write), reply };
        let (command, error) = match self.shard(partition).try_send(command) {
            Ok(()) => return Ok(()),
            Err(mpsc::error::TrySendError::Full(command)) => {
                let message = format!("the home of partition {partition} has too many calls waiting");
                let refusal = Refusal::new(Code::Overloaded, message).retry_after_ms(MAILBOX_RETRY_MS);
                (command, refusal.into())
            }
            Err(mpsc::error::TrySendError::Closed(command)) => {
                (command, NotHome { moving: true, ..self.not_home(partition) }.into())
            }
        };
        if let Command::Append { reply, .. } = command {
            reply.forget();
        }
        Err(error)
    }

    async fn subscribe(
        &self,
        partition: PartitionId,
        log: LogId,
        sink: &BusSink,
    ) -> Result<Subscribed, NotHome> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Subscribe { partition, log, sink: sink.clone(), reply };
        if self.shard(partition).send(command).await.is_err() {
            return Err(self.not_home(partition));
        }
        answer.await.unwrap_or_else(|_| Err(self.not_home(partition)))
    }

    fn unsubscribe(&self, partition: PartitionId, log: LogId, sink: SinkId) {
        // A subscription that stays costs little and ends with its sink.
        let _ = self.shard(partition).try_send(Command::Unsubscribe { partition, log, sink });
    }

    async fn take_effect(&self, partition: PartitionId, effect: Effect) -> Result<(), WriteError> {
        if self.open.get(partition).is_none() {
            return Err(self.not_home(partition).into());
        }
        let chats = matches!(effect.act, EffectAct::Joined | EffectAct::Left)
            .then(|| Arc::new(LiveEvent { log: effect.target.log, said: Said::Chats }));
        let (reply, answer) = oneshot::channel();
        let deadline_ms = crate::clock::boot_ms() + EFFECT_DEADLINE_MS;
        let command = Command::Effect { partition, effect: Box::new(effect), deadline_ms, reply };
        if self.shard(partition).send(command).await.is_err() {
            return Err(self.not_home(partition).into());
        }
        let unanswered = Err(WriteError::Indeterminate { why: "the home went down" });
        answer.await.unwrap_or(unanswered)?;
        if let Some(event) = chats {
            self.tell(partition, event);
        }
        Ok(())
    }

    fn epoch(&self, partition: PartitionId) -> Option<Epoch> {
        let feed = self.open.get(partition)?;
        let lease = self.deps.leases.borrow().clone()?;
        (lease.left_ms(crate::clock::boot_ms()) > 0 && !feed.is_sealed()).then(|| feed.epoch())
    }

    async fn log_state(
        &self,
        partition: PartitionId,
        log: LogId,
    ) -> Result<Option<Arc<LogState>>, ReadRefusal> {
        if self.open.get(partition).is_none() {
            return Err(self.not_home(partition).into());
        }
        replica::log_state(&*self.deps.store, partition, log).await
    }

    fn tell(&self, partition: PartitionId, event: Arc<LiveEvent>) {
        // Where the shard is busy there is more to do than this.
        let _lost = self.shard(partition).try_send(Command::Tell { partition, event });
    }

    fn write_cursors(&self, partition: PartitionId, log: LogId, cursors: Vec<DeviceCursor>) {
        let _again = self.shard(partition).try_send(Command::Cursors { partition, log, cursors });
    }

    async fn locate(
        &self,
        partition: PartitionId,
        log: LogId,
        user: &UserId,
        position: Position,
    ) -> Result<LocateAnswer, ReadRefusal> {
        let Some(feed) = self.open.get(partition) else { return Err(self.not_home(partition).into()) };
        let lease = self.deps.leases.borrow().clone();
        let leased = lease.is_some_and(|lease| lease.left_ms(crate::clock::boot_ms()) > 0);
        match replica::locate_at_home(&*self.deps.store, partition, &feed, log, user, position).await {
            // Whoever has no lease, or has given the partition away, cannot tell a made-up position from one
            // of the next home.
            Err(ReadRefusal::Ahead) if !leased || feed.is_sealed() => {
                Err(NotHome { moving: true, ..self.not_home(partition) }.into())
            }
            Err(ReadRefusal::Ahead) => {
                let message = format!("chat {log} has never given out position {position}");
                Err(Refusal::new(Code::PositionUnknown, message).into())
            }
            answer => answer,
        }
    }

    async fn account(&self, partition: PartitionId, log: LogId) -> Result<AccountAnswer, ReadRefusal> {
        let Some(feed) = self.open.get(partition) else { return Err(self.not_home(partition).into()) };
        let answer = replica::account(&*self.deps.store, partition, log).await?;
        // Only now: whoever has no lease, or has given the partition away, does not know what its successor acked.
        let lease = self.deps.leases.borrow().clone();
        let leased = lease.is_some_and(|lease| lease.left_ms(crate::clock::boot_ms()) > 0);
        let is_home = leased && !feed.is_sealed() && self.open.get(partition).is_some();
        if is_home { Ok(answer) } else { Err(NotHome { moving: true, ..self.not_home(partition) }.into()) }
    }
}
