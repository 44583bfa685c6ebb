//! Brings writes and questions to where they can be answered.
//!
//! ```text
//!   edge ──► pin (cached) ──► partition ──► home (placement) ─┬─ here:      Homes
//!                                                             └─ elsewhere: peer stream, one hop
//! ```
//!
//! The pin cache and the placement only say where to try. A node that is not home says so, and the
//! write waits here until the placement shows a higher epoch; see [`core`].

mod accounts;
mod core;
mod earlier;
mod effects;
mod glances;
mod pins;
mod read;
#[cfg(test)]
mod tests;

pub(crate) use self::{core::Route, earlier::HomeRouter};

use self::{
    core::{Input, LaneKey, Lanes, Output, Routes, Submission, Ticket},
    pins::{PinCache, Stretch},
};
use crate::{
    Parts, clock,
    peer::{Answer, Channel, Peers, wire},
    reply::{Outcome, Reply},
    service::{Acked, Beside, Write, WriteError},
};
use host::RandomState;
use parking_lot::Mutex;
use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    hash::BuildHasher,
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use types::{
    AckPolicy, Code, DeviceId, EntryBody, Epoch, Generation, LogId, MessageId, NodeId, PartitionId,
    PinSegment, Placement, Refusal, RegionId, UserId,
};

/// Pins that are kept in memory.
const PINS_MAX: usize = 262_144;
/// Locks that the lanes are spread over.
const SHARDS: usize = 16;
/// How often deadlines and holds are looked at.
const TICK: Duration = Duration::from_millis(20);

/// A write as the edge takes it in.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    /// The log.
    pub(crate) log: LogId,
    /// Who writes.
    pub(crate) sender: UserId,
    /// On which device.
    pub(crate) device: DeviceId,
    /// The device's name for the write.
    pub(crate) message_id: MessageId,
    /// The device's message before this one, where it wants its order kept.
    pub(crate) after: Option<MessageId>,
    /// What is written.
    pub(crate) body: EntryBody,
    /// When the writer wants its ack.
    pub(crate) ack: AckPolicy,
    /// Until when the write may be held.
    pub(crate) deadline: Instant,
    /// What it says outside of its body.
    pub(crate) beside: Beside,
}

/// Where a draft's outcome goes: an error where the write was refused; nothing was written then, unless it
/// says `indeterminate`.
pub(crate) type DraftReply = Reply<Result<Acked, Refusal>>;

impl Outcome for Result<Acked, Refusal> {
    fn unanswered() -> Self {
        Err(Refusal::new(Code::NotReady, "the node is going down"))
    }
}

type Shard = Mutex<Lanes<Write, DraftReply>>;

/// Routes writes, reads and position checks. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Router(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: Parts,
    peers: Peers,
    pins: Mutex<PinCache>,
    /// Logs whose pins are being read, and the lanes that wait for them beside the one that asked.
    resolving: Mutex<HashMap<LogId, Vec<LaneKey>>>,
    shards: Vec<Shard>,
    hash: RandomState,
}

impl Router {
    /// A router over the parts and the streams of a node.
    pub(crate) fn new(parts: Parts, peers: Peers) -> Self {
        let parked_max = parts.config.parked_max.div_ceil(SHARDS);
        let shards = (0..SHARDS).map(|_| Mutex::new(Lanes::new(parked_max))).collect();
        let pins = Mutex::new(PinCache::new(PINS_MAX));
        let (resolving, hash) = (Mutex::default(), RandomState::default());
        Self(Arc::new(Inner { parts, peers, pins, resolving, shards, hash }))
    }

    /// Wakes the lanes when routes change and deadlines pass, until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut versions = self.0.parts.view.versions();
        let mut streams = self.0.peers.changes();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            let routes_changed = tokio::select! {
                () = shutdown.cancelled() => return,
                _ = tick.tick() => false,
                changed = versions.changed() => { if changed.is_err() { return } true }
                changed = streams.changed() => { if changed.is_err() { return } true }
            };
            let mut parked = 0;
            for shard in &self.0.shards {
                let mut lanes = shard.lock();
                if !lanes.is_idle() {
                    let input = if routes_changed { Input::RoutesChanged } else { Input::Tick };
                    self.drive(&mut lanes, input);
                }
                parked += lanes.parked();
            }
            metrics::gauge!("hearth_edge_parked_writes").set(parked as f64);
        }
    }

    /// Writes, wherever the log's home is. Writes of one device to one log are sent in the order of the
    /// calls.
    pub(crate) fn append(&self, draft: Draft, reply: DraftReply) {
        let lane = LaneKey { log: draft.log, sender: draft.sender.clone(), device: draft.device };
        let left = draft.deadline.saturating_duration_since(Instant::now());
        let submission = Submission {
            pin: self.0.pins.lock().get(draft.log),
            message_id: draft.message_id,
            after: draft.after,
            deadline_ms: clock::boot_ms().saturating_add(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            write: write(draft),
            lane,
            reply,
        };
        self.drive(&mut self.shard(&submission.lane).lock(), Input::Submit(submission));
    }

    /// Like [`Router::append`], and waits for the outcome. Dropping the future does not take the write back.
    pub(crate) async fn write(&self, draft: Draft) -> Result<Acked, Refusal> {
        let (reply, outcome) = Reply::channel();
        self.append(draft, reply);
        outcome.await
    }

    /// Pins a log to a partition homed in this region, or finds the pin that it has.
    ///
    /// # Errors
    /// `directory_unavailable`, `unknown_region`.
    pub(crate) async fn pin(&self, log: LogId, allowed_regions: &[RegionId]) -> Result<(), Refusal> {
        let pin = self.0.parts.pins.pin(log, &self.0.parts.config.region, allowed_regions).await?;
        self.0.pins.lock().insert(&pin).ok_or_else(|| empty_pin(log))?;
        Ok(())
    }

    /// Where a log is written now.
    pub(crate) async fn pin_of(&self, log: LogId) -> Result<PinSegment, Refusal> {
        self.pin_above(log, Generation::ZERO).await
    }

    /// Where a log is written now, in a generation above `closed` if it is known or can be read; else in the
    /// present one. A pin that is known, or that the nearest replica of the directory knows, will do; whoever is asked by it
    /// and finds it over says so.
    pub(crate) async fn pin_above(&self, log: LogId, closed: Generation) -> Result<PinSegment, Refusal> {
        if let Some(pin) = self.0.pins.lock().get(log).filter(|pin| pin.generation > closed) {
            return Ok(pin);
        }
        let seen = self.0.parts.pins.look_up(log).await;
        if let Some(pin) = seen.and_then(|pin| self.0.pins.lock().insert(&pin))
            && pin.generation > closed
        {
            return Ok(pin);
        }
        let pin = self.0.parts.pins.get(log).await?;
        let pin = pin.ok_or_else(|| Refusal::new(Code::UnknownChat, format!("there is no chat {log}")))?;
        self.0.pins.lock().insert(&pin).ok_or_else(|| empty_pin(log))
    }

    /// [`Router::pin_above`] with all stretches of the log, where there are several.
    async fn stretches_above(
        &self,
        log: LogId,
        closed: Generation,
    ) -> Result<(PinSegment, Option<Arc<[Stretch]>>), Refusal> {
        let pin = self.pin_above(log, closed).await?;
        let known = self.0.pins.lock().whole(log);
        Ok(known.filter(|(current, _)| current.generation >= pin.generation).unwrap_or((pin, None)))
    }

    /// Where a log is written, as far as that is known without asking.
    pub(crate) fn known_pin(&self, log: LogId) -> Option<PinSegment> {
        self.0.pins.lock().get(log)
    }

    /// Where the bus of a partition can be followed now.
    pub(crate) fn bus_route(&self, partition: PartitionId) -> Option<Route> {
        self.routes().home(partition)
    }

    pub(crate) fn peers(&self) -> &Peers {
        &self.0.peers
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.0.parts
    }

    fn routes(&self) -> Known<'_> {
        Known { placement: self.0.parts.view.load(), here: &self.0.parts.config.node, peers: &self.0.peers }
    }

    fn shard(&self, lane: &LaneKey) -> &Shard {
        let at = self.0.hash.hash_one(lane) % SHARDS as u64;
        &self.0.shards[at as usize]
    }

    /// Hands an input to the lanes and does what they say, while they are locked: so writes leave in the
    /// order in which the lanes decided.
    fn drive(&self, lanes: &mut Lanes<Write, DraftReply>, input: Input<Write, DraftReply>) {
        let now_ms = clock::boot_ms();
        let routes = self.routes();
        let mut outputs = Vec::new();
        lanes.handle(now_ms, input, &routes, &mut outputs);
        // What did not leave, and what was refused at once. Both take the writes out of what is under way
        // and hold the lane, or finish them, so this ends.
        let mut unsent: VecDeque<Input<Write, DraftReply>> = VecDeque::new();
        loop {
            let mut stopped: Vec<LaneKey> = Vec::new();
            for output in outputs.drain(..) {
                match output {
                    Output::Finish { reply, result } => reply.give(result),
                    Output::Resolve(lane, closed) => self.resolve(lane, closed),
                    Output::Send { ticket, route, pin, mut write } => {
                        (write.partition, write.generation) = (pin.partition, pin.generation);
                        write.epoch_hint = route.epoch;
                        let overtakes = stopped.contains(&ticket.lane);
                        let sending =
                            if overtakes { Sending::NoRoom } else { self.send(&ticket, route, write) };
                        let input = match sending {
                            Sending::Left => continue,
                            Sending::Refused(error) => Input::Answered(ticket.clone(), Err(error)),
                            Sending::NoRoom => Input::NotSent(ticket.clone()),
                        };
                        stopped.push(ticket.lane);
                        unsent.push_back(input);
                    }
                }
            }
            let Some(input) = unsent.pop_front() else { return };
            lanes.handle(now_ms, input, &routes, &mut outputs);
        }
    }

    /// Starts one write.
    fn send(&self, ticket: &Ticket, route: Route, write: Write) -> Sending {
        let (router, ticket) = (self.clone(), ticket.clone());
        if route.channel == Channel::HERE {
            let reply = Reply::new(move |outcome| router.answered(ticket, outcome));
            return match self.0.parts.homes.append(write, reply) {
                Ok(()) => Sending::Left,
                Err(error) => Sending::Refused(error),
            };
        }
        let request = wire::append_request(&write);
        let reply = Reply::new(move |answer: Answer| {
            let broke = Err(WriteError::Indeterminate { why: "the stream to the home broke" });
            router.answered(ticket, answer.map_or(broke, wire::append_outcome));
        });
        match self.0.peers.ask_then(&route.node, Some(route.channel), request, reply) {
            Ok(()) => Sending::Left,
            Err(_) => Sending::NoRoom,
        }
    }

    /// Reads the pin of a lane's log, once for all its lanes that want to know it.
    fn resolve(&self, lane: LaneKey, closed: Generation) {
        let log = lane.log;
        match self.0.resolving.lock().entry(log) {
            Entry::Occupied(mut others) => return others.get_mut().push(lane),
            Entry::Vacant(vacant) => vacant.insert(vec![lane]),
        };
        let router = self.clone();
        tokio::spawn(async move {
            let pin = router.pin_above(log, closed).await;
            let lanes = router.0.resolving.lock().remove(&log).unwrap_or_default();
            for lane in lanes {
                let mut shard = router.shard(&lane).lock();
                router.drive(&mut shard, Input::Resolved(lane.clone(), pin.clone()));
            }
        });
    }

    fn answered(&self, ticket: Ticket, outcome: Result<Acked, WriteError>) {
        let mut lanes = self.shard(&ticket.lane).lock();
        self.drive(&mut lanes, Input::Answered(ticket, outcome));
    }
}

/// What became of the sending of a write.
enum Sending {
    /// Its answer will come.
    Left,
    /// The home here has refused it.
    Refused(WriteError),
    /// The stream has no room.
    NoRoom,
}

/// A write whose place is set when it is sent.
fn write(draft: Draft) -> Write {
    Write {
        log: draft.log,
        partition: PartitionId::default(),
        generation: Generation::ZERO,
        epoch_hint: Epoch::ZERO,
        sender: draft.sender,
        device: draft.device,
        message_id: draft.message_id,
        after: draft.after,
        body: draft.body,
        expires_at_ms: None,
        ack: draft.ack,
        deadline: draft.deadline,
        origin: None,
        salvage: None,
        beside: draft.beside,
    }
}

fn empty_pin(log: LogId) -> Refusal {
    Refusal::new(Code::Internal, format!("the pin of log {log} is empty"))
}

/// The placement and the streams at one moment.
struct Known<'a> {
    placement: Arc<Placement>,
    here: &'a NodeId,
    peers: &'a Peers,
}

impl Known<'_> {
    /// The home, whether or not it waits for a former one's lease or is handing the partition over.
    fn home(&self, partition: PartitionId) -> Option<Route> {
        let row = self.placement.partition(partition)?;
        let home = row.home.as_ref().filter(|_| row.has_home())?;
        self.to(&home.node, row.epoch)
    }

    fn to(&self, node: &NodeId, epoch: Epoch) -> Option<Route> {
        let channel = if node == self.here { Channel::HERE } else { self.peers.channel(node)? };
        Some(Route { node: node.clone(), channel, epoch })
    }
}

impl Routes for Known<'_> {
    fn route(&self, partition: PartitionId) -> Option<Route> {
        let row = self.placement.partition(partition)?;
        let takes_writes = row.state == types::PartitionState::Homed && row.waiting.is_empty();
        if takes_writes { self.home(partition) } else { None }
    }

    fn next(&self, partition: PartitionId) -> Option<Route> {
        let row = self.placement.partition(partition)?;
        let moving = row.moving.as_ref().filter(|_| row.state == types::PartitionState::Draining)?;
        self.to(&moving.target.node, row.epoch.plus(1))
    }

    fn epoch(&self, partition: PartitionId) -> Epoch {
        self.placement.partition(partition).map_or(Epoch::ZERO, |row| row.epoch)
    }
}
