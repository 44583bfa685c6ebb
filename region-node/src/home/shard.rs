//! A task that owns the cores of a share of the partitions: it feeds them, and does what they say.
//!
//! Each round takes in whatever has come (calls, answers of the store, placement, time), hands what was
//! sequenced to the store, and then, with a clock that is read at that moment, lets the replies go.

mod placement;

use super::{
    calls::Calls,
    canary::{SingReply, Sung},
    core::{Arrival, Context, Core, EndReason, Failure, Input, Output, Rehoming},
    expected::{Expected, Held, expects},
    feed::{Feed, OpenHomes},
    follow,
    homes::{Command, HomeDeps},
    jobs::{self, Done},
    sinks::Sinks,
    switches::{Hold, Switches},
};
use crate::{
    bus::BusEvent,
    clock::Now,
    lease::Lease,
    service::{Write, WriteReply},
};
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use types::{Epoch, LogId, PartitionId, PartitionState, Record};
use uuid::Uuid;

/// How often time is told to the cores.
const TICK: Duration = Duration::from_millis(50);
/// Commands and answers taken in at most before the store and the callers are served.
const ROUND_MAX: usize = 1_024;
/// How long a home that ended by a failure, or could not open, waits before it opens again, in ms.
const OPEN_AGAIN_MS: u64 = 1_000;

/// How often followers that are gone are looked for, in ms.
const SWEEP_EVERY_MS: u64 = 60_000;
/// How often gauges are brought up to date, in ms.
const GAUGE_EVERY_MS: u64 = 1_000;

/// What a shard is made of.
#[derive(Debug)]
pub(super) struct ShardParts {
    pub(super) index: usize,
    pub(super) count: usize,
    pub(super) deps: HomeDeps,
    pub(super) open: Arc<OpenHomes>,
}

/// A partition whose home this node is.
#[derive(Debug)]
struct OpenHome {
    core: Core,
    epoch: Epoch,
    lease: Arc<Lease>,
    feed: Arc<Feed>,
    sinks: Sinks,
    /// The newest proposal of an in-sync set, and its request id.
    proposed: (u64, Uuid),
    /// Batches that a test holds back from the store.
    held: Vec<Vec<Record>>,
}

/// See the module.
pub(super) struct Shard {
    parts: ShardParts,
    homes: HashMap<PartitionId, OpenHome>,
    opening: BTreeSet<PartitionId>,
    open_not_before_ms: HashMap<PartitionId, u64>,
    jobs: FuturesUnordered<BoxFuture<'static, Done>>,
    calls: Calls,
    touched: BTreeSet<PartitionId>,
    /// Writes for homes that are about to open.
    expected: Expected,
    /// Logs that nobody follows any more, found out while something was published.
    unfollowed: Vec<(PartitionId, LogId)>,
    switches: Switches,
    gauge_at_ms: u64,
    sweep_at_ms: u64,
    out: Vec<Output>,
}

impl Shard {
    pub(super) fn new(parts: ShardParts) -> Self {
        let switches = Switches::from_environment(&parts.deps.identity.home().node);
        Self {
            parts,
            homes: HashMap::new(),
            opening: BTreeSet::new(),
            open_not_before_ms: HashMap::new(),
            jobs: FuturesUnordered::new(),
            calls: Calls::default(),
            touched: BTreeSet::new(),
            expected: Expected::default(),
            unfollowed: Vec::new(),
            switches,
            gauge_at_ms: 0,
            sweep_at_ms: 0,
            out: Vec::new(),
        }
    }

    pub(super) async fn run(mut self, mut mailbox: mpsc::Receiver<Command>, shutdown: CancellationToken) {
        let mut commands = Vec::with_capacity(ROUND_MAX);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut versions = self.parts.deps.view.versions();
        let mut leases = self.parts.deps.leases.clone();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                taken = mailbox.recv_many(&mut commands, ROUND_MAX) => if taken == 0 { break },
                Some(done) = self.jobs.next() => self.done(done),
                _ = tick.tick() => self.tick(),
                Ok(()) = versions.changed() => self.follow_placement(),
                Ok(()) = leases.changed() => self.follow_placement(),
            }
            for command in commands.drain(..) {
                self.command(command);
            }
            for _ in 0..ROUND_MAX {
                let Some(Some(done)) = self.jobs.next().now_or_never() else { break };
                self.done(done);
            }
            self.settle();
        }
        self.stop_all(EndReason::Shutdown);
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Append { write, reply } => {
                let partition = write.partition;
                let deadline_ms = jobs::on_boot_clock(write.deadline);
                if self.homes.contains_key(&partition) {
                    let ticket = self.calls.write(reply);
                    self.say(partition, Input::Append { ticket, write, deadline_ms });
                } else {
                    self.hold_or_refuse(write, reply, deadline_ms);
                }
            }
            Command::Subscribe { partition, log, sink, reply } => {
                if self.homes.contains_key(&partition) {
                    let ticket = self.calls.subscribe(reply, sink);
                    self.say(partition, Input::Subscribe { ticket, log });
                } else {
                    let _ = reply.send(Err(self.not_home(partition)));
                }
            }
            Command::Unsubscribe { partition, log, sink } => {
                let Some(home) = self.homes.get_mut(&partition) else { return };
                if home.sinks.remove(log, sink) {
                    self.say(partition, Input::Unsubscribe { log });
                }
            }
            Command::Report(report) => {
                if self.homes.get(&report.partition).is_some_and(|home| home.epoch == report.epoch) {
                    let super::homes::Report { partition, replica, obeys, last, .. } = report;
                    self.say(partition, Input::Report { replica, obeys, last });
                }
            }
            Command::Fenced { partition, epoch, done } => {
                if self.homes.get(&partition).is_some_and(|home| home.epoch < epoch) {
                    self.say(partition, Input::Stop(EndReason::Fenced));
                }
                let _ = done.send(());
            }
            Command::Rehome { partition, log, step, deadline_ms, reply } => {
                if self.homes.contains_key(&partition) {
                    let ticket = self.calls.rehome(reply);
                    self.say(partition, Input::Rehome(Box::new(Rehoming { ticket, log, deadline_ms, step })));
                } else {
                    let _ = reply.send(Err(self.not_home(partition).into()));
                }
            }
            Command::Effect { partition, effect, deadline_ms, reply } => {
                if self.homes.contains_key(&partition) {
                    let ticket = self.calls.rehome(reply);
                    let effect = *effect;
                    self.say(partition, Input::Effect(Box::new(Arrival { ticket, effect, deadline_ms })));
                } else {
                    let _ = reply.send(Err(self.not_home(partition).into()));
                }
            }
            Command::Sing { writes, reply } => self.sing(writes, reply),
            Command::Cursors { partition, log, cursors } => {
                self.say(partition, Input::Cursors { log, cursors });
            }
            Command::Tell { partition, event } => {
                if let Some(home) = self.homes.get_mut(&partition) {
                    home.sinks.offer(event.log, &BusEvent::Live(event));
                }
            }
            Command::View { reply } => {
                let now = Now::read();
                let views = self.homes.iter().map(|(id, home)| (*id, home.epoch, home.core.view(now)));
                let _ = reply.send(views.collect());
            }
        }
    }

    /// Lets a canary go where a write would.
    fn sing(&mut self, writes: bool, reply: SingReply) {
        if self.switches.holds(Hold::BeforeAppend) || self.switches.holds(Hold::BeforeAck) {
            return;
        }
        let (placement, me) = (self.parts.deps.view.load(), self.parts.deps.identity.home());
        let given = placement.partitions().filter(|row| {
            self.owns(row.partition) && row.state == PartitionState::Homed && row.home.as_ref() == Some(&me)
        });
        let (mut sung, open) = (Sung::default(), &self.homes);
        for row in given {
            sung.homes += 1;
            sung.unopened += u32::from(!open.contains_key(&row.partition));
        }
        if writes {
            self.jobs.push(jobs::sing(&self.parts.deps, sung, reply));
        } else {
            let _gone = reply.send(Ok(sung));
        }
    }

    /// Holds a write for a home that is about to open here.
    fn hold_or_refuse(&mut self, write: Box<Write>, reply: WriteReply, deadline_ms: u64) {
        let partition = write.partition;
        let is_expected = self.is_expected(partition, write.epoch_hint);
        let refused = match is_expected {
            true => self.expected.hold(write, reply, deadline_ms, Now::read().boot_ms).err(),
            false => Some(reply),
        };
        if let Some(reply) = refused {
            reply.give(Err(self.not_home(partition).into()));
        }
    }

    fn is_expected(&self, partition: PartitionId, epoch_hint: Epoch) -> bool {
        let placement = self.parts.deps.view.load();
        let me = self.parts.deps.identity.home();
        placement.partition(partition).is_some_and(|row| expects(row, &me, epoch_hint))
    }

    fn refuse_held(&self, held: Vec<Held>) {
        for Held { write, reply, .. } in held {
            reply.give(Err(self.not_home(write.partition).into()));
        }
    }

    fn not_home(&self, partition: PartitionId) -> crate::service::NotHome {
        super::homes::not_home(&self.parts.deps.view.load(), partition, self.parts.deps.identity.node())
    }

    /// Tells a core something and does what it says.
    fn say(&mut self, partition: PartitionId, input: Input) {
        let Some(home) = self.homes.get_mut(&partition) else { return };
        let mut out = std::mem::take(&mut self.out);
        home.core.handle(context(&home.lease), input, &mut out);
        self.touched.insert(partition);
        self.perform(partition, out);
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Opened { partition, epoch, lease, opened } => {
                self.opening.remove(&partition);
                match opened {
                    Ok(open) => self.begin(partition, epoch, lease, *open),
                    Err(error) => {
                        tracing::warn!(%partition, %epoch, %error, "the home could not open");
                        self.open_later(partition);
                        let held = self.expected.take(partition);
                        self.refuse_held(held);
                    }
                }
            }
            Done::Appended { partition, epoch, first, result } => {
                if !self.is_open(partition, epoch) {
                    return;
                }
                let input = match result {
                    Ok(last) => Input::Durable { last },
                    Err(error) => {
                        tracing::warn!(%partition, %epoch, %error, "an append failed");
                        Input::AppendFailed { first, failure: Failure::from(&error) }
                    }
                };
                self.say(partition, input);
            }
            Done::Loaded { partition, epoch, log, as_of, loaded } => {
                if self.is_open(partition, epoch) {
                    self.say(partition, Input::Loaded { log, as_of, loaded });
                }
            }
            Done::Sung { reply, result } => {
                let _gone = reply.send(result);
            }
            Done::Followed { partition, epoch, log, retry_after_ms } => {
                if self.is_open(partition, epoch) {
                    self.say(partition, Input::FollowAnswered { log, retry_after_ms });
                }
            }
            Done::Carried { partition, epoch, log, target, cause, outcome } => {
                if self.is_open(partition, epoch) {
                    self.say(partition, Input::EffectAnswered { log, target, cause, outcome });
                }
            }
            Done::Proposed { partition, epoch, number, outcome } => {
                if self.is_open(partition, epoch) {
                    self.say(partition, Input::Proposed { number, outcome });
                }
            }
        }
    }

    fn is_open(&self, partition: PartitionId, epoch: Epoch) -> bool {
        self.homes.get(&partition).is_some_and(|home| home.epoch == epoch)
    }

    fn perform(&mut self, partition: PartitionId, mut out: Vec<Output>) {
        for output in out.drain(..) {
            self.perform_one(partition, output);
        }
        self.out = out;
    }

    fn perform_one(&mut self, partition: PartitionId, output: Output) {
        let Some(home) = self.homes.get_mut(&partition) else { return };
        let deps = &self.parts.deps;
        match output {
            Output::Load { log, as_of, need } => {
                self.jobs.push(jobs::load(deps, partition, home.epoch, log, as_of, need));
            }
            Output::Write(records) => {
                // SEAL is the last record of a home.
                if records.last().is_some_and(|record| record.sealed_by().is_some()) {
                    home.feed.seal();
                }
                if home.held.is_empty() && !self.switches.holds(Hold::BeforeAppend) {
                    self.jobs.push(jobs::append(deps, partition, home.epoch, records));
                } else {
                    home.held.push(records);
                }
            }
            Output::Durable { records, end } => home.feed.extend(records, end),
            Output::Watermark(watermark) => home.feed.move_watermark(watermark),
            Output::Reply { ticket, result } => self.calls.answer_write(ticket, result),
            Output::Subscribed { ticket, log, result } => {
                if let Some(sink) = self.calls.answer_subscribe(ticket, result) {
                    home.sinks.insert(log, sink);
                }
            }
            Output::Rehomed { ticket, handed } => self.calls.answer_rehoming(ticket, handed),
            Output::Moved { log, generation } => {
                home.sinks.offer(log, &BusEvent::Moved { log, generation });
                home.sinks.forget(log);
            }
            Output::Publish(published) => {
                let log = published.record.log;
                if !home.sinks.offer(log, &BusEvent::Published(published)) {
                    self.unfollowed.push((partition, log));
                }
            }
            Output::Replicated { log, position } => {
                home.sinks.offer(log, &BusEvent::Replicated { log, position });
            }
            Output::SendEffect(effect) => {
                self.jobs.push(jobs::carry(deps, partition, home.epoch, *effect));
            }
            Output::Follow(wish) => {
                self.jobs.push(follow::tell(deps, partition, home.epoch, &home.lease, wish));
            }
            Output::Propose(proposal) => {
                // A repetition keeps its request id, so that the directory commits it once.
                if home.proposed.0 != proposal.number {
                    home.proposed = (proposal.number, host::random::id());
                }
                let request_id = home.proposed.1;
                self.jobs.push(jobs::propose(deps, partition, home.epoch, &home.lease, request_id, proposal));
            }
            Output::Ended(reason) => self.ended(partition, reason),
        }
    }

    /// Hands what was sequenced to the store, then lets go what may go.
    fn settle(&mut self) {
        self.release_held_writes();
        for partition in std::mem::take(&mut self.touched) {
            let Some(home) = self.homes.get_mut(&partition) else { continue };
            let mut out = std::mem::take(&mut self.out);
            home.core.flush(&mut out);
            self.perform(partition, out);
            if self.switches.holds(Hold::BeforeAck) {
                self.tell_held(Hold::BeforeAck);
                continue;
            }
            let Some(home) = self.homes.get_mut(&partition) else { continue };
            let mut out = std::mem::take(&mut self.out);
            // The clock is read here, right before the replies leave: a process that was stopped in the
            // middle of anything finds out now that its lease is over.
            home.core.release(context(&home.lease), &mut out);
            self.perform(partition, out);
        }
    }

    fn release_held_writes(&mut self) {
        let holding = self.switches.holds(Hold::BeforeAppend);
        if holding {
            self.tell_held(Hold::BeforeAppend);
            return;
        }
        for (partition, home) in &mut self.homes {
            for records in home.held.drain(..) {
                self.jobs.push(jobs::append(&self.parts.deps, *partition, home.epoch, records));
            }
        }
    }

    fn tell_held(&self, hold: Hold) {
        let held = match hold {
            Hold::BeforeAppend => {
                self.homes.values().map(|home| home.held.iter().map(Vec::len).sum::<usize>()).sum()
            }
            Hold::BeforeAck => self.homes.values().map(|home| home.core.durable_unanswered()).sum(),
        };
        self.switches.tell(hold, self.parts.index, held);
    }

    fn tick(&mut self) {
        for (partition, log) in std::mem::take(&mut self.unfollowed) {
            if self.homes.get(&partition).is_some_and(|home| !home.sinks.follows(log)) {
                self.say(partition, Input::Unsubscribe { log });
            }
        }
        let partitions: Vec<PartitionId> = self.homes.keys().copied().collect();
        for partition in partitions {
            self.say(partition, Input::Tick);
        }
        let now = Now::read();
        self.open_again(now.boot_ms);
        let overdue = self.expected.take_overdue(now.boot_ms);
        self.refuse_held(overdue);
        if now.boot_ms >= self.gauge_at_ms {
            self.gauge_at_ms = now.boot_ms + GAUGE_EVERY_MS;
            self.gauge(now);
        }
        if now.boot_ms >= self.sweep_at_ms {
            self.sweep_at_ms = now.boot_ms + SWEEP_EVERY_MS;
            for (partition, home) in &mut self.homes {
                self.unfollowed.extend(home.sinks.sweep().into_iter().map(|log| (*partition, log)));
            }
        }
    }

    fn gauge(&self, now: Now) {
        let (mut at_risk, mut unreplicated, mut effects) = (0, 0, 0);
        for home in self.homes.values() {
            let view = home.core.view(now);
            effects += home.core.effects_pending();
            at_risk += view.at_risk;
            unreplicated += view.last.lsn.since(view.watermark);
        }
        let shard = self.parts.index.to_string();
        metrics::gauge!("hearth_home_at_risk_messages", "shard" => shard.clone()).set(at_risk as f64);
        metrics::gauge!("hearth_home_effects_pending", "shard" => shard.clone()).set(effects as f64);
        metrics::gauge!("hearth_home_unreplicated_records", "shard" => shard).set(unreplicated as f64);
    }
}

fn context(lease: &Lease) -> Context {
    Context { now: Now::read(), lease_until_ms: lease.until_ms() }
}
