//! Feeds one follower: owns its pumps and its streams, and carries messages between them.
//!
//! One task. It never waits for a peer: what it has to say lies in outboxes, which the credit bounds; so a
//! partition, a home or the follower being slow stops nobody else.

use crate::{
    bounds,
    health::Health,
    link::{self, Ends, Event, LinkId},
    meters::{self, Standing, Traffic},
    outbox::{Reports, Sayings},
    pump::{Input, Note, Output, Pump, Route, Say},
    routes, wire,
};
use proto::outbox::Outbox;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval},
};
use tokio_util::task::AbortOnDropHandle;
use types::{NodeId, PartitionId, Placement, RegionId, Replica};

/// What a feeder is made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) region: RegionId,
    pub(crate) follower: Replica,
    /// Where the follower is reached: `host:port`.
    pub(crate) address: String,
}

/// The stream to one home.
struct HomeLink {
    id: LinkId,
    region: RegionId,
    address: String,
    outbox: Option<Outbox<Reports>>,
    traffic: Traffic,
    _task: AbortOnDropHandle<()>,
}

/// Feeds one follower until it is dropped.
pub(crate) struct Feeder {
    target: Target,
    dial: Arc<BTreeMap<NodeId, String>>,
    health: Arc<Health>,
    inbox: mpsc::Sender<Event>,
    links_made: u64,
    follow: Option<Outbox<Sayings>>,
    homes: BTreeMap<NodeId, HomeLink>,
    pumps: BTreeMap<PartitionId, Pump>,
    out: Vec<Output>,
}

/// Feeds a follower for as long as the handle is held.
pub(crate) fn spawn(
    target: Target,
    dial: Arc<BTreeMap<NodeId, String>>,
    health: Arc<Health>,
    placement: watch::Receiver<Arc<Placement>>,
) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let (inbox, events) = mpsc::channel(bounds::INBOX_MAX);
        let feeder = Feeder {
            target,
            dial,
            health,
            inbox,
            links_made: 0,
            follow: None,
            homes: BTreeMap::new(),
            pumps: BTreeMap::new(),
            out: Vec::new(),
        };
        feeder.run(events, placement).await;
    }))
}

impl Feeder {
    async fn run(
        mut self,
        mut events: mpsc::Receiver<Event>,
        mut placement: watch::Receiver<Arc<Placement>>,
    ) {
        let ends = Ends {
            region: self.target.region.clone(),
            follower: self.target.follower.clone(),
            peer: self.target.follower.node.clone(),
            address: self.target.address.clone(),
        };
        let _follow_task = link::follow(ends, self.inbox.clone());
        let mut tick = steady(bounds::TICK);
        let mut meter = steady(bounds::METER_EVERY);
        placement.mark_changed();
        loop {
            tokio::select! {
                changed = placement.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let view = Arc::clone(&placement.borrow_and_update());
                    self.take_placement(&view);
                }
                event = events.recv() => match event {
                    Some(event) => self.take(event),
                    None => return,
                },
                _ = tick.tick() => {
                    let now = now();
                    let due = self.pumps.iter().filter(|(_, pump)| pump.is_due(now));
                    self.tell(due.map(|(partition, _)| *partition).collect(), || Input::Tick);
                }
                _ = meter.tick() => self.meter(),
            }
        }
    }

    // ---- placement ----

    fn take_placement(&mut self, placement: &Placement) {
        let wanted = routes::of(placement, &self.target.follower);
        self.take_homes(placement, &wanted);
        self.pumps.retain(|partition, _| wanted.contains_key(partition));
        let mut shares: BTreeMap<NodeId, usize> = BTreeMap::new();
        for route in wanted.values().flatten() {
            *shares.entry(route.home.clone()).or_default() += 1;
        }
        for (partition, route) in wanted {
            let home = route.as_ref().map(|route| &route.home);
            let credit = bounds::credit_bytes(home.and_then(|home| shares.get(home)).copied().unwrap_or(1));
            // A home without an address has no link: there is nobody to ask.
            let link = home.and_then(|home| self.homes.get(home));
            let up = link.is_some_and(|link| link.outbox.is_some());
            let follow_up = self.follow.is_some();
            let fresh = !self.pumps.contains_key(&partition);
            self.pumps.entry(partition).or_insert_with(|| Pump::new(credit)).set_credit(credit);
            if fresh && follow_up {
                self.tell_one(partition, Input::FollowUp);
            }
            self.tell_one(partition, Input::Route { route, up });
        }
    }

    /// Opens streams to the homes that are wanted, and gives up the others.
    fn take_homes(&mut self, placement: &Placement, wanted: &BTreeMap<PartitionId, Option<Route>>) {
        let mut rows = BTreeMap::new();
        for route in wanted.values().flatten() {
            if let Some(row) = placement.node(&route.home) {
                rows.insert(&row.node, row);
            }
        }
        let address = |node: &NodeId, advertised: &str| {
            self.dial.get(node).map_or_else(|| advertised.to_owned(), Clone::clone)
        };
        let mut missing = Vec::new();
        self.homes.retain(|node, link| {
            rows.get(node).is_some_and(|row| link.address == address(node, &row.address))
        });
        for row in rows.into_values().filter(|row| !self.homes.contains_key(&row.node)) {
            missing.push((row.node.clone(), row.region.clone(), address(&row.node, &row.address)));
        }
        for (node, region, address) in missing {
            self.open_home(node, region, address);
        }
    }

    fn open_home(&mut self, node: NodeId, region: RegionId, address: String) {
        self.links_made += 1;
        let id = LinkId(self.links_made);
        let ends = Ends {
            region: self.target.region.clone(),
            follower: self.target.follower.clone(),
            peer: node.clone(),
            address: address.clone(),
        };
        let traffic = Traffic::new(&region, &self.target.follower.node);
        let task = link::fetch(id, ends, self.inbox.clone());
        self.homes.insert(node, HomeLink { id, region, address, outbox: None, traffic, _task: task });
    }

    // ---- streams ----

    fn take(&mut self, event: Event) {
        match event {
            Event::FollowUp(outbox) => {
                self.follow = Some(outbox);
                self.health.connected(&self.target.follower.node, true);
                self.tell(self.pumps.keys().copied().collect(), || Input::FollowUp);
            }
            Event::FollowDown => {
                self.follow = None;
                self.health.connected(&self.target.follower.node, false);
                self.tell(self.pumps.keys().copied().collect(), || Input::FollowDown);
            }
            Event::Followed(answers) => {
                for (partition, followed) in answers {
                    self.tell_one(partition, Input::Follow(followed));
                }
            }
            Event::FetchUp(id, outbox) => {
                if let Some(node) = self.set_outbox(id, Some(outbox)) {
                    self.tell(self.fetched_from(&node), || Input::FetchUp);
                }
            }
            Event::FetchDown(id) => {
                if let Some(node) = self.set_outbox(id, None) {
                    self.tell(self.fetched_from(&node), || Input::FetchDown);
                }
            }
            Event::Fetched(id, words) => {
                for (partition, fetched) in words {
                    let route = self.pumps.get(&partition).and_then(Pump::route);
                    let link = route.and_then(|route| self.homes.get(&route.home));
                    if link.is_some_and(|link| link.id == id) {
                        self.tell_one(partition, Input::Fetch(fetched));
                    }
                }
            }
        }
    }

    fn set_outbox(&mut self, id: LinkId, outbox: Option<Outbox<Reports>>) -> Option<NodeId> {
        let (node, link) = self.homes.iter_mut().find(|(_, link)| link.id == id)?;
        link.outbox = outbox;
        Some(node.clone())
    }

    fn fetched_from(&self, node: &NodeId) -> Vec<PartitionId> {
        let of_node = |pump: &Pump| pump.route().is_some_and(|route| route.home == *node);
        self.pumps.iter().filter(|(_, pump)| of_node(pump)).map(|(partition, _)| *partition).collect()
    }

    // ---- pumps ----

    fn tell(&mut self, partitions: Vec<PartitionId>, input: impl Fn() -> Input) {
        for partition in partitions {
            self.tell_one(partition, input());
        }
    }

    fn tell_one(&mut self, partition: PartitionId, input: Input) {
        let Some(pump) = self.pumps.get_mut(&partition) else { return };
        let mut out = std::mem::take(&mut self.out);
        pump.handle(now(), input, &mut out);
        for output in out.drain(..) {
            self.carry_out(partition, output);
        }
        self.out = out;
    }

    fn carry_out(&self, partition: PartitionId, output: Output) {
        let route = self.pumps.get(&partition).and_then(Pump::route);
        let link = route.and_then(|route| self.homes.get(&route.home));
        match output {
            Output::ToFollower { epoch, say } => {
                if let (Say::Batch { batch, bytes: bytes @ 1.. }, Some(link)) = (&say, link) {
                    link.traffic.handed(batch.records.len(), *bytes);
                }
                if let Some(outbox) = &self.follow {
                    outbox.with(|sayings| sayings.push(wire::to_follower(partition, epoch, say)));
                }
            }
            Output::ToHome(fetch) => {
                if let Some(outbox) = link.and_then(|link| link.outbox.as_ref()) {
                    outbox.with(|reports| reports.push(partition, fetch));
                }
            }
            Output::Note(note) => self.note(partition, route, &note),
        }
    }

    fn note(&self, partition: PartitionId, route: Option<&Route>, note: &Note) {
        let follower = &self.target.follower.node;
        let home = route.map_or("none", |route| route.home.as_str());
        match note {
            Note::Diverged { last, common } => {
                meters::diverged(follower);
                tracing::warn!(%partition, %follower, home, %last, %common, "the follower's tail has diverged");
            }
            Note::Fenced { fence } => {
                tracing::info!(%partition, %follower, home, epoch = %fence, "the follower obeys a higher epoch");
            }
            Note::Trouble(why) => {
                meters::trouble(follower);
                tracing::debug!(%partition, %follower, home, %why, "the partition waits");
            }
        }
    }

    fn meter(&self) {
        let mut regions: BTreeMap<&RegionId, Standing> = BTreeMap::new();
        for link in self.homes.values() {
            regions.entry(&link.region).or_default();
        }
        for pump in self.pumps.values() {
            let Some(link) = pump.route().and_then(|route| self.homes.get(&route.home)) else { continue };
            let standing = regions.entry(&link.region).or_default();
            standing.partitions += 1;
            standing.streaming += u64::from(pump.is_streaming());
            standing.lag_records += pump.lag_records();
            standing.lag_records_max = standing.lag_records_max.max(pump.lag_records());
            standing.under_way_bytes += pump.under_way_bytes();
        }
        for (region, standing) in regions {
            meters::standing(region, &self.target.follower.node, standing);
        }
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.health.connected(&self.target.follower.node, false);
    }
}

fn steady(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The time that the timers go by.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
