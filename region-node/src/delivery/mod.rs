//! Delivery: what the bus publishes, handed to the sessions of this node.
//!
//! One [`Feed`] per followed log decides; this module does what it says. What the bus has told together is
//! taken in together: the new entries of a log go to its feed as one burst, become one frame, encoded once per
//! encoding, and reach each session with one wake-up. Between two bursts the sessions get their turn, so that a busy
//! log fills the wires before it fills the queues. No session can hold up another one, a feed, or the bus.

mod asking;
#[cfg(feature = "bench")]
mod fan_out;
mod feed;
mod frames;
mod late;
mod live;
mod removed;
#[cfg(test)]
mod tests;

#[cfg(feature = "bench")]
pub use fan_out::FanOut;
pub(crate) use feed::SessionId;

use crate::{
    bus::{BusEvent, BusReceiver, BusSink, Published, SINK_MAX_EVENTS, bus_sink},
    clock,
    edge::{Farewell, queue::SessionQueue},
    live::Desk,
    peer::wire::Asked,
    router::{Route, Router},
};
use asking::hand;
use feed::{Era, Feed, Input, Output};
use frames::frames;
pub(crate) use frames::token;
use host::{HashMap, HashSet};
use late::Late;
pub(crate) use live::client_presence;
use parking_lot::Mutex;
use proto::client::{self, server_frame::Frame};
use removed::Removals;
use std::{collections::hash_map::Entry, sync::Arc, time::Duration};
use tokio::{sync::Semaphore, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use types::{LogId, PartitionId, PinSegment, Position, UserId};

/// How often what could not be done is tried again.
const TICK: Duration = Duration::from_millis(250);
/// Reads and checks of all feeds that are under way at a time.
const READS_MAX: usize = 64;
/// Entries that one session is handed of the log at a time.
const FILL_MAX_ENTRIES: usize = 100;
/// Events of the bus that are handed on together.
const BURST_MAX_EVENTS: usize = 64;
/// Bodies that are handed on together: a fraction of a session's queue.
const BURST_MAX_BYTES: usize = 32 * 1024;
/// How long a home is waited for.
const HOME_PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait before a home that refused is asked for a bus again.
const REFUSED_PAUSE: Duration = Duration::from_millis(20);

/// The feeds of a node. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Delivery(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    router: Router,
    sink: BusSink,
    hub: Mutex<Hub>,
    reads: Semaphore,
    /// Locked behind the hub.
    late: Mutex<Late>,
    /// Whom the sessions watch.
    desk: Arc<Mutex<Desk>>,
}

#[derive(Debug, Default)]
struct Hub {
    feeds: HashMap<LogId, Box<Feed>>,
    /// The feeds for which a tick may have something to do.
    restless: HashSet<LogId>,
    sessions: HashMap<SessionId, Follower>,
    /// Where the partitions of feeds can be followed: one copy for all of them.
    routes: HashMap<PartitionId, Arc<Route>>,
}

/// A session that feeds know by its name.
#[derive(Debug)]
struct Follower {
    queue: Arc<SessionQueue>,
    /// Whose it is, once it follows something.
    user: Option<UserId>,
}

impl Hub {
    fn queue(&self, session: SessionId) -> Option<&Arc<SessionQueue>> {
        self.sessions.get(&session).map(|follower| &follower.queue)
    }

    fn user(&self, session: SessionId) -> Option<UserId> {
        self.sessions.get(&session)?.user.clone()
    }
}

impl Delivery {
    /// Delivery over a router, and the events that its task is to be given.
    pub(crate) fn new(router: Router, desk: Arc<Mutex<Desk>>) -> (Self, BusReceiver) {
        let (sink, events) = bus_sink(SINK_MAX_EVENTS);
        router.peers().deliver_to(sink.clone());
        let (hub, reads) = (Mutex::default(), Semaphore::new(READS_MAX));
        (Self(Arc::new(Inner { router, sink, hub, reads, late: Mutex::default(), desk })), events)
    }

    /// Where events for the sessions of this node go.
    pub(crate) fn sink(&self) -> BusSink {
        self.0.sink.clone()
    }

    /// Hands events on until `shutdown`.
    pub(crate) async fn run(self, mut events: BusReceiver, shutdown: CancellationToken) {
        let mut versions = self.0.router.parts().view.versions();
        let mut streams = self.0.router.peers().changes();
        let mut burst = Vec::with_capacity(BURST_MAX_EVENTS);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut rounds = tokio::time::interval(late::STEP);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let has_late = !self.0.late.lock().is_empty();
            tokio::select! {
                () = shutdown.cancelled() => return,
                taken = events.recv_many(&mut burst, BURST_MAX_EVENTS) => {
                    if taken == 0 {
                        return;
                    }
                    while !burst.is_empty() {
                        self.take(burst.drain(..of_usual_size(&burst)));
                        tokio::task::yield_now().await;
                    }
                },
                changed = versions.changed() => { if changed.is_err() { return } self.reroute(); }
                changed = streams.changed() => { if changed.is_err() { return } self.reroute(); }
                _ = tick.tick() => self.tick(),
                _ = rounds.tick(), if has_late => self.tell_late(),
            }
        }
    }

    /// A session begins.
    pub(crate) fn enter(&self, session: SessionId, queue: Arc<SessionQueue>) {
        self.0.hub.lock().sessions.insert(session, Follower { queue, user: None });
    }

    /// The node goes down: each session is told to leave.
    pub(crate) fn dismiss(&self) {
        self.0.hub.lock().sessions.values().for_each(|follower| follower.queue.leave());
    }

    /// Each session is told to go elsewhere, and goes on until it does.
    pub(crate) fn send_away(&self, mut farewell: impl FnMut() -> Arc<Farewell>) {
        self.0.hub.lock().sessions.values().for_each(|follower| follower.queue.send_away(farewell()));
    }

    /// A session follows a log behind a position that was found to stand in an era.
    pub(crate) fn join(&self, session: SessionId, join: Join) {
        let Join { log, pin, user, position, checked, at_end } = join;
        let mut hub = self.0.hub.lock();
        let Some(follower) = hub.sessions.get_mut(&session) else { return };
        follower.user = Some(user);
        hub.feeds.entry(log).or_insert_with(|| Box::new(Feed::new(pin)));
        self.pinned(&mut hub, log, pin);
        self.drive(&mut hub, log, Input::Join { session, position, checked, at_end });
    }

    /// A session no longer follows a log.
    pub(crate) fn leave(&self, session: SessionId, log: LogId) {
        self.drive(&mut self.0.hub.lock(), log, Input::Leave(session));
    }

    /// A session has ended.
    pub(crate) fn exit(&self, session: SessionId, followed: impl Iterator<Item = LogId>) {
        let mut hub = self.0.hub.lock();
        for log in followed {
            self.drive(&mut hub, log, Input::Leave(session));
        }
        hub.sessions.remove(&session);
    }

    fn take(&self, events: impl Iterator<Item = BusEvent>) {
        let mut hub = self.0.hub.lock();
        let mut published = Vec::new();
        let mut replicated = Vec::new();
        for event in events {
            match event {
                BusEvent::Published(entry) => published.push(entry),
                // A tick waits for its entry, so it may come behind all that was published with it.
                BusEvent::Replicated { log, position } => replicated.push((log, position)),
                BusEvent::Live(event) => {
                    self.publish(&mut hub, &mut published);
                    live::hand(&hub, &event);
                }
                BusEvent::Presence(seen) => live::hand_presence(&hub, &self.0, &seen),
                BusEvent::Lagged => {
                    self.publish(&mut hub, &mut published);
                    metrics::counter!("hearth_edge_bus_lags").increment(1);
                    self.drive_all(&mut hub, |_| true, |_| Input::Lagged);
                    live::ring_all(&hub);
                }
                BusEvent::Moved { log, generation } => {
                    self.publish(&mut hub, &mut published);
                    self.drive(&mut hub, log, Input::Moved);
                    self.find_again(log, generation);
                }
                BusEvent::Ended { partition, epoch } => {
                    self.publish(&mut hub, &mut published);
                    self.drive_all(&mut hub, |feed| feed.partition() == partition, |_| Input::Ended(epoch));
                }
            }
        }
        self.publish(&mut hub, &mut published);
        replicated.sort_by_key(|(log, _)| *log);
        for of_log in replicated.chunk_by(|(log, _), (next, _)| log == next) {
            if let Some((log, position)) = of_log.iter().max_by_key(|(_, position)| *position) {
                self.drive(&mut hub, *log, Input::Replicated(*position));
            }
        }
    }

    /// Hands each feed what was published of its log, in the bus's order.
    fn publish(&self, hub: &mut Hub, published: &mut Vec<Arc<Published>>) {
        published.sort_by_key(|entry| entry.record.log);
        for of_log in published.chunk_by(|entry, next| entry.record.log == next.record.log) {
            let Some(log) = of_log.first().map(|entry| entry.record.log) else { continue };
            self.drive(hub, log, Input::Published(of_log.to_vec()));
        }
        published.clear();
    }

    /// Tells every feed where its log is now, and tries everything again.
    fn reroute(&self) {
        let mut hub = self.0.hub.lock();
        let logs = hub.feeds.keys().copied().collect();
        self.try_again(&mut hub, logs);
    }

    fn tick(&self) {
        let mut hub = self.0.hub.lock();
        let logs = hub.restless.iter().copied().collect();
        self.try_again(&mut hub, logs);
        metrics::gauge!("hearth_edge_feeds").set(hub.feeds.len() as f64);
    }

    /// Those whose turn it is are told what waits for them.
    fn tell_late(&self) {
        let round = self.0.late.lock().round();
        let hub = self.0.hub.lock();
        round.into_iter().filter_map(|session| hub.queue(session)).for_each(|queue| queue.rouse());
    }

    fn try_again(&self, hub: &mut Hub, logs: Vec<LogId>) {
        for log in logs {
            let Some(partition) = hub.feeds.get(&log).map(|feed| feed.partition()) else { continue };
            let route = self.route(hub, partition);
            self.drive(hub, log, Input::Route(route));
            self.drive(hub, log, Input::Tick);
        }
    }

    /// A log is pinned where it may not have been followed before.
    fn pinned(&self, hub: &mut Hub, log: LogId, pin: PinSegment) {
        self.drive(hub, log, Input::Pinned(pin));
        let Some(partition) = hub.feeds.get(&log).map(|feed| feed.partition()) else { return };
        let route = self.route(hub, partition);
        self.drive(hub, log, Input::Route(route));
    }

    fn route(&self, hub: &mut Hub, partition: PartitionId) -> Option<Arc<Route>> {
        let route = self.0.router.bus_route(partition)?;
        let known = hub.routes.entry(partition);
        if let Entry::Occupied(known) = &known
            && **known.get() == route
        {
            return Some(Arc::clone(known.get()));
        }
        Some(Arc::clone(known.insert_entry(Arc::new(route)).get()))
    }

    fn drive_all(&self, hub: &mut Hub, which: impl Fn(&Feed) -> bool, input: impl Fn(&Feed) -> Input) {
        let inputs: Vec<(LogId, Input)> =
            hub.feeds.iter().filter(|(_, feed)| which(feed)).map(|(log, feed)| (*log, input(feed))).collect();
        for (log, input) in inputs {
            self.drive(hub, log, input);
        }
    }

    /// Hands an input to a feed and does what it says. Queues that overflow are told to it in turn.
    fn drive(&self, hub: &mut Hub, log: LogId, input: Input) {
        let now_ms = clock::boot_ms();
        let mut inputs = vec![input];
        let mut outputs = Vec::new();
        while let Some(input) = inputs.pop() {
            let Some(feed) = hub.feeds.get_mut(&log) else { return };
            let was_restless = feed.is_restless();
            feed.handle(now_ms, input, &mut outputs);
            match (was_restless, feed.is_restless()) {
                (_, true) => drop(hub.restless.insert(log)),
                (true, false) => drop(hub.restless.remove(&log)),
                (false, false) => {}
            }
            let partition = feed.partition();
            let mut out = Out::default();
            for output in outputs.drain(..) {
                self.act(hub, log, partition, output, &mut out);
            }
            let overflowed = out.overflowed.into_iter();
            inputs.extend(overflowed.map(|(session, has)| Input::Overflowed { session, has }));
            inputs.extend(out.removed.into_iter().map(Input::Leave));
        }
    }

    fn act(&self, hub: &mut Hub, log: LogId, partition: PartitionId, output: Output, out: &mut Out) {
        match output {
            Output::Deliver { entries, after, to } => {
                let all = frames(log, entries.iter().map(|entry| &entry.record));
                let removals = Removals::of(entries.iter().map(|entry| &entry.record));
                for session in to {
                    if out.has(session) {
                        continue;
                    }
                    let Some(queue) = hub.queue(session) else { continue };
                    let user = hub.user(session).filter(|_| !removals.is_empty());
                    let removal = user.and_then(|user| removals.get(&user));
                    let Some(removal) = removal else {
                        let (has, is_all) = hand(queue, &all, after);
                        if !is_all {
                            out.overflowed.push((session, has));
                        }
                        continue;
                    };
                    let until = entries[..=removal].iter().map(|entry| &entry.record);
                    let (has, is_all) = hand(queue, &frames(log, until), after);
                    match is_all {
                        true => {
                            removed::tell(hub, session, log, has);
                            out.removed.push(session);
                        }
                        false => out.overflowed.push((session, has)),
                    }
                }
            }
            Output::Replicated { position, has, to, is_news } => {
                for session in to {
                    if out.has(session) {
                        continue;
                    }
                    let Some(queue) = hub.queue(session) else { continue };
                    let is_taken = match is_news {
                        true => queue.offer_tick(log, position),
                        false => queue.lay_tick(log, position),
                    };
                    match is_taken {
                        true if is_news => {}
                        true => self.0.late.lock().push(session),
                        false => out.overflowed.push((session, has)),
                    }
                }
            }
            Output::Diverged { session, common } => {
                tracing::info!(%log, session = session.0, %common, "a session saw what was undone");
                let diverged = client::Diverged {
                    log: log.to_string(),
                    common: token(log, common),
                    common_offset: common.offset.get(),
                };
                say(hub, session, Frame::Diverged(diverged));
            }
            Output::Behind { session, position } => {
                metrics::counter!("hearth_edge_sessions_behind").increment(1);
                let behind = client::Behind { log: log.to_string(), position: token(log, position) };
                say(hub, session, Frame::Behind(behind));
            }
            Output::SubscribeAt(route) => self.subscribe(log, partition, route),
            Output::Unsubscribe(route, partition) => self.unsubscribe(log, partition, &route),
            Output::Fill { after, to, known_head } => self.fill(hub, log, to, (after, known_head)),
            Output::Check { position, session } => {
                if let Some(user) = hub.user(session) {
                    self.check(Asked { log, partition, user }, position);
                }
            }
            Output::Drop => {
                hub.feeds.remove(&log);
                hub.restless.remove(&log);
            }
        }
    }
}

/// Sessions that get no more of what a feed says, and have to leave it.
#[derive(Debug, Default)]
struct Out {
    /// Their queues were full; what each of them has.
    overflowed: Vec<(SessionId, Position)>,
    /// Their users are no members any more.
    removed: Vec<SessionId>,
}

impl Out {
    fn has(&self, session: SessionId) -> bool {
        self.removed.contains(&session) || self.overflowed.iter().any(|(other, _)| *other == session)
    }
}

/// What a session follows.
#[derive(Debug, Clone)]
pub(crate) struct Join {
    pub(crate) log: LogId,
    pub(crate) pin: PinSegment,
    pub(crate) user: UserId,
    pub(crate) position: Position,
    pub(crate) checked: Era,
    /// Nothing was known behind the position.
    pub(crate) at_end: bool,
}

fn say(hub: &Hub, session: SessionId, frame: Frame) {
    if let Some(queue) = hub.queue(session) {
        queue.answer(0, frame);
    }
}

/// How many events from the front are handed on together: at least one.
fn of_usual_size(events: &[BusEvent]) -> usize {
    let mut bytes = 0;
    let fits = events.iter().take_while(|event| {
        let fits = bytes < BURST_MAX_BYTES;
        if let BusEvent::Published(published) = event {
            bytes += frames::bytes_of(&published.record);
        }
        fits
    });
    fits.count()
}
