//! Delivery: what the bus publishes, handed to the sessions of this node.
//!
//! One [`Feed`] per followed log decides; this module does what it says. Each entry is encoded once per
//! encoding. No session can hold up another one, a feed, or the bus.

mod feed;
#[cfg(test)]
mod tests;

pub(crate) use feed::SessionId;

use crate::{
    bus::{BusEvent, BusReceiver, BusSink, SINK_MAX_EVENTS, bus_sink},
    clock,
    edge::{frame::SharedFrame, queue::SessionQueue},
    peer::{Channel, client::answer, wire, wire::Asked},
    router::{Route, Router},
    service::{Page, ReadFrom, Subscribed},
};
use feed::{Feed, FillId, Input, Output};
use parking_lot::Mutex;
use proto::client::{self, server_frame::Frame};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use types::{Epoch, LogId, PartitionId, Position, PositionToken, Record, UserId};

/// How often what could not be done is tried again.
const TICK: Duration = Duration::from_millis(250);
/// Reads and checks of all feeds that are under way at a time.
const READS_MAX: usize = 64;
/// Entries that one session is handed of the log at a time.
const FILL_MAX_ENTRIES: usize = 100;
/// Bodies that go into one frame of a filling, in bytes.
const FILL_FRAME_BYTES: usize = 16 * 1024;
/// How long a home is waited for.
const HOME_PATIENCE: Duration = Duration::from_secs(2);

/// The feeds of a node. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Delivery(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    router: Router,
    sink: BusSink,
    hub: Mutex<Hub>,
    reads: Semaphore,
}

#[derive(Debug, Default)]
struct Hub {
    feeds: HashMap<LogId, Feed>,
    sessions: BTreeMap<SessionId, Arc<SessionQueue>>,
}

impl Delivery {
    /// Delivery over a router, and the events that its task is to be given.
    pub(crate) fn new(router: Router) -> (Self, BusReceiver) {
        let (sink, events) = bus_sink(SINK_MAX_EVENTS);
        router.peers().deliver_to(sink.clone());
        let (hub, reads) = (Mutex::default(), Semaphore::new(READS_MAX));
        (Self(Arc::new(Inner { router, sink, hub, reads })), events)
    }

    /// Hands events on until `shutdown`.
    pub(crate) async fn run(self, mut events: BusReceiver, shutdown: CancellationToken) {
        let mut versions = self.0.router.parts().view.versions();
        let mut streams = self.0.router.peers().changes();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                event = events.recv() => match event {
                    Some(event) => self.take(event),
                    None => return,
                },
                changed = versions.changed() => { if changed.is_err() { return } self.reroute(|_| true); }
                changed = streams.changed() => { if changed.is_err() { return } self.reroute(|_| true); }
                _ = tick.tick() => {
                    self.reroute(Feed::is_restless);
                    metrics::gauge!("hearth_edge_feeds").set(self.0.hub.lock().feeds.len() as f64);
                }
            }
        }
    }

    /// A session begins.
    pub(crate) fn enter(&self, session: SessionId, queue: Arc<SessionQueue>) {
        self.0.hub.lock().sessions.insert(session, queue);
    }

    /// The node goes down: each session is told to leave.
    pub(crate) fn dismiss(&self) {
        self.0.hub.lock().sessions.values().for_each(|queue| queue.leave());
    }

    /// A session follows a log behind a position that was found to stand in an epoch.
    pub(crate) fn join(&self, session: SessionId, join: Join) {
        let Join { log, partition, user, position, checked } = join;
        let mut hub = self.0.hub.lock();
        if !hub.sessions.contains_key(&session) {
            return;
        }
        hub.feeds.entry(log).or_insert_with(|| Feed::new(partition));
        self.drive(&mut hub, log, Input::Route(self.0.router.bus_route(partition)));
        self.drive(&mut hub, log, Input::Join { session, user, position, checked });
    }

    /// A session no longer follows a log.
    pub(crate) fn leave(&self, session: SessionId, log: LogId) {
        self.drive(&mut self.0.hub.lock(), log, Input::Leave(session));
    }

    /// A session has ended.
    pub(crate) fn exit(&self, session: SessionId, followed: impl Iterator<Item = LogId>) {
        let mut hub = self.0.hub.lock();
        hub.sessions.remove(&session);
        for log in followed {
            self.drive(&mut hub, log, Input::Leave(session));
        }
    }

    fn take(&self, event: BusEvent) {
        let mut hub = self.0.hub.lock();
        match event {
            BusEvent::Published(published) => {
                self.drive(&mut hub, published.record.log, Input::Published(published));
            }
            BusEvent::Replicated { log, position } => self.drive(&mut hub, log, Input::Replicated(position)),
            BusEvent::Lagged => {
                metrics::counter!("hearth_edge_bus_lags").increment(1);
                self.drive_all(&mut hub, |_| true, |_| Input::Lagged);
            }
            BusEvent::Ended { partition, epoch } => {
                self.drive_all(&mut hub, |feed| feed.partition() == partition, |_| Input::Ended(epoch));
            }
        }
    }

    fn reroute(&self, which: impl Fn(&Feed) -> bool) {
        let mut hub = self.0.hub.lock();
        let router = &self.0.router;
        self.drive_all(&mut hub, &which, |feed| Input::Route(router.bus_route(feed.partition())));
        self.drive_all(&mut hub, which, |_| Input::Tick);
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
            feed.handle(now_ms, input, &mut outputs);
            let partition = feed.partition();
            let mut overflowed: Vec<(SessionId, Position)> = Vec::new();
            for output in outputs.drain(..) {
                self.act(hub, log, partition, output, &mut overflowed);
            }
            inputs.extend(overflowed.into_iter().map(|(session, has)| Input::Overflowed { session, has }));
        }
    }

    fn act(
        &self,
        hub: &mut Hub,
        log: LogId,
        partition: PartitionId,
        output: Output,
        overflowed: &mut Vec<(SessionId, Position)>,
    ) {
        match output {
            Output::Deliver { entry, to } => {
                let Some(frame) = entries_frame(log, std::slice::from_ref(&entry.record)) else { return };
                for (session, has) in to {
                    let is_out = overflowed.iter().any(|(other, _)| *other == session);
                    if !is_out && hub.sessions.get(&session).is_some_and(|queue| !queue.offer(&frame)) {
                        overflowed.push((session, has));
                    }
                }
            }
            Output::Replicated { position, to } => {
                for (session, has) in to {
                    let is_out = overflowed.iter().any(|(other, _)| *other == session);
                    if !is_out
                        && hub.sessions.get(&session).is_some_and(|queue| !queue.offer_tick(log, position))
                    {
                        overflowed.push((session, has));
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
            Output::Unsubscribe(route) => self.unsubscribe(log, partition, &route),
            Output::Fill { after, to, user, known_head } => {
                self.fill(hub, log, to, Read { after, user, known_head })
            }
            Output::Check { position, user } => self.check(Asked { log, partition, user }, position),
            Output::Drop => drop(hub.feeds.remove(&log)),
        }
    }

    fn subscribe(&self, log: LogId, partition: PartitionId, route: Route) {
        let delivery = self.clone();
        tokio::spawn(async move {
            let answer = delivery.ask_for_bus(log, partition, &route).await;
            let mut hub = delivery.0.hub.lock();
            delivery.drive(&mut hub, log, Input::Subscribed(route, answer));
            delivery.drive(&mut hub, log, Input::Route(delivery.0.router.bus_route(partition)));
        });
    }

    async fn ask_for_bus(&self, log: LogId, partition: PartitionId, route: &Route) -> Option<Subscribed> {
        if route.channel == Channel::HERE {
            return self.0.router.parts().homes.subscribe(partition, log, &self.0.sink).await.ok();
        }
        let request = wire::subscribe_request(partition, log);
        let receiver = self.0.router.peers().ask(&route.node, Some(route.channel), request).ok()?;
        wire::subscribed(answer(receiver, HOME_PATIENCE).await.ok()?)
    }

    fn unsubscribe(&self, log: LogId, partition: PartitionId, route: &Route) {
        if route.channel == Channel::HERE {
            self.0.router.parts().homes.unsubscribe(partition, log, self.0.sink.id());
        } else {
            self.0.router.peers().tell(&route.node, route.channel, wire::unsubscribe_request(log));
        }
    }

    fn check(&self, asked: Asked, position: Position) {
        let delivery = self.clone();
        tokio::spawn(async move {
            let _permit = delivery.0.reads.acquire().await;
            let answer = delivery.0.router.locate_at_home(&asked, position).await;
            delivery.drive(&mut delivery.0.hub.lock(), asked.log, Input::Checked(position, answer));
        });
    }

    /// Reads for sessions that stand at one position. One whose queue is congested waits for itself.
    fn fill(&self, hub: &Hub, log: LogId, to: Vec<(SessionId, FillId)>, read: Read) {
        let mut together = Vec::new();
        for (session, fill) in to {
            let Some(queue) = hub.sessions.get(&session) else { continue };
            if queue.is_congested() {
                let (delivery, queue, read) = (self.clone(), Arc::clone(queue), read.clone());
                tokio::spawn(async move {
                    queue.room().await;
                    delivery.read_for(log, &[(session, fill)], &read).await;
                });
            } else {
                together.push((session, fill));
            }
        }
        if !together.is_empty() {
            let delivery = self.clone();
            tokio::spawn(async move { delivery.read_for(log, &together, &read).await });
        }
    }

    async fn read_for(&self, log: LogId, to: &[(SessionId, FillId)], read: &Read) {
        let _permit = self.0.reads.acquire().await;
        if !self.is_awaited(log, to) {
            return;
        }
        let from = ReadFrom::After(read.after);
        let page = self.0.router.read(log, &read.user, from, FILL_MAX_ENTRIES, read.known_head).await;
        let mut hub = self.0.hub.lock();
        match page {
            Ok(page) => {
                let frames = page_frames(log, &page);
                for &(session, fill) in to {
                    if !hub.feeds.get(&log).is_some_and(|feed| feed.awaits(session, fill)) {
                        continue;
                    }
                    let Some(queue) = hub.sessions.get(&session) else { continue };
                    let taken = frames.iter().take_while(|(frame, _)| queue.offer(frame)).count();
                    let reached = taken.checked_sub(1).and_then(|last| frames.get(last));
                    let reached = reached.map_or(read.after, |(_, reached)| *reached);
                    let at_end = page.at_end && taken == frames.len();
                    self.drive(&mut hub, log, Input::Filled { session, fill, to: reached, at_end });
                }
            }
            Err(why) => {
                tracing::debug!(%log, after = %read.after, %why, "sessions could not be filled");
                for &(session, fill) in to {
                    self.drive(&mut hub, log, Input::NotFilled { session, fill, why: why.clone() });
                }
            }
        }
    }

    fn is_awaited(&self, log: LogId, to: &[(SessionId, FillId)]) -> bool {
        let hub = self.0.hub.lock();
        let Some(feed) = hub.feeds.get(&log) else { return false };
        to.iter().any(|(session, fill)| feed.awaits(*session, *fill))
    }
}

/// What a session follows.
#[derive(Debug, Clone)]
pub(crate) struct Join {
    pub(crate) log: LogId,
    pub(crate) partition: PartitionId,
    pub(crate) user: UserId,
    pub(crate) position: Position,
    pub(crate) checked: Epoch,
}

#[derive(Debug, Clone)]
struct Read {
    after: Position,
    user: UserId,
    known_head: Position,
}

pub(crate) fn token(log: LogId, position: Position) -> String {
    if position == Position::START { String::new() } else { PositionToken::seal(log, position).into() }
}

fn say(hub: &Hub, session: SessionId, frame: Frame) {
    if let Some(queue) = hub.sessions.get(&session) {
        queue.answer(0, frame);
    }
}

fn entries_frame(log: LogId, records: &[Record]) -> Option<SharedFrame> {
    let entries: Vec<client::Entry> = records.iter().filter_map(proto::client_entry).collect();
    if entries.is_empty() {
        return None;
    }
    Some(SharedFrame::new(Frame::Entries(client::Entries { log: log.to_string(), entries })))
}

/// A page as frames of bounded size, each with the position that it reaches.
fn page_frames(log: LogId, page: &Page) -> Vec<(SharedFrame, Position)> {
    let mut frames = Vec::new();
    let mut rest = page.records.as_slice();
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest
            .iter()
            .take_while(|record| {
                let fits = bytes < FILL_FRAME_BYTES;
                bytes += body_bytes(record);
                fits
            })
            .count();
        let (chunk, behind) = rest.split_at(fits.max(1));
        rest = behind;
        let reached = chunk.last().and_then(Record::position);
        if let (Some(frame), Some(reached)) = (entries_frame(log, chunk), reached) {
            frames.push((frame, reached));
        }
    }
    frames
}

fn body_bytes(record: &Record) -> usize {
    match record.entry().map(|entry| &entry.body) {
        Some(types::EntryBody::Message { ciphertext }) => ciphertext.len(),
        _ => 0,
    }
}
