//! Presence between sessions, homes and watchers: brings what [`super::desk`] and [`super::roll`] say to where it belongs.

use super::{
    Live,
    desk::{Beats, View},
    privacy,
    roll::{Beat, Seen},
    wire,
};
use crate::{
    bus::{BusEvent, BusSink, SinkId},
    clock::Now,
    delivery::SessionId,
    peer::{Channel, client::answer},
    router::Router,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use types::{DeviceId, LogId, NodeId, PartitionId, UserId};

/// How long a home is waited for.
const HOME_PATIENCE: Duration = Duration::from_secs(2);

/// Where a user's presence is kept: the same for every node, whether or not the user has an account.
pub(crate) fn partition_of(router: &Router, user: &UserId) -> Option<PartitionId> {
    let partitions = router.parts().view.load().partitions().count() as u64;
    let log = LogId::account(user);
    let mut key = [0; 8];
    key.copy_from_slice(&log.key()[..8]);
    let number = u64::from_be_bytes(key).checked_rem(partitions)?;
    u32::try_from(number).ok().map(PartitionId::new)
}

impl Live {
    /// A session of a device begins.
    pub(crate) fn enter(&self, user: &UserId, device: DeviceId) {
        let Some(partition) = partition_of(&self.0.router, user) else { return };
        self.0.desk.lock().enter(partition, user, device);
        self.0.wake.notify_one();
    }

    /// A session has ended.
    pub(crate) fn exit(&self, session: SessionId, user: &UserId, device: DeviceId) {
        let Some(partition) = partition_of(&self.0.router, user) else { return };
        let mut desk = self.0.desk.lock();
        desk.exit(partition, user, device);
        desk.leave(session);
        drop(desk);
        self.0.wake.notify_one();
    }

    /// A session watches users; what it may know of each now. Those that it may not watch are passed over.
    pub(crate) async fn watch(
        &self,
        session: SessionId,
        watcher: &UserId,
        users: Vec<UserId>,
        chat: Option<LogId>,
    ) -> Vec<(UserId, Option<Seen>)> {
        let mut known = Vec::with_capacity(users.len());
        for user in users {
            let view = privacy::view(&self.0.router, watcher, &user, chat).await;
            let seen = match (view, partition_of(&self.0.router, &user)) {
                (Some(view), Some(partition)) => self.begin_to_watch(session, partition, &user, view),
                _ => None,
            };
            known.push((user, seen));
        }
        self.0.wake.notify_one();
        known
    }

    fn begin_to_watch(
        &self,
        session: SessionId,
        partition: PartitionId,
        user: &UserId,
        view: View,
    ) -> Option<Seen> {
        self.0.desk.lock().watch(session, partition, user, view)
    }

    /// A session watches a user no longer.
    pub(crate) fn unwatch(&self, session: SessionId, user: &UserId) {
        if let Some(partition) = partition_of(&self.0.router, user) {
            self.0.desk.lock().unwatch(session, partition, user);
            self.0.wake.notify_one();
        }
    }

    /// Tells homes what they should know now.
    pub(super) fn send_beats(&self) {
        let now_ms = Now::read().boot_ms;
        let beats = self.0.desk.lock().beats(now_ms, |partition| self.0.router.bus_route(partition));
        for beats in beats {
            let live = self.clone();
            tokio::spawn(async move { live.send_to(beats).await });
        }
    }

    async fn send_to(&self, (route, beats): Beats) {
        let me = &self.0.router.parts().config.node;
        let partitions: Vec<PartitionId> = beats.iter().map(|(partition, _)| *partition).collect();
        let refused = if route.channel == Channel::HERE {
            self.take_beats(me, beats, &self.0.sink)
        } else {
            let request = wire::beat_request(me, &beats);
            let asked = self.0.router.peers().ask(&route.node, Some(route.channel), request);
            match asked {
                Ok(receiver) => answer(receiver, HOME_PATIENCE).await.ok().and_then(wire::beat_taken),
                Err(_) => None,
            }
            .unwrap_or(partitions)
        };
        let (now_ms, mut desk) = (Now::read().boot_ms, self.0.desk.lock());
        refused.into_iter().for_each(|partition| desk.refused(now_ms, partition));
    }

    /// Takes in what a node tells, where this one is the home; of which partitions it is not.
    pub(crate) fn take_beats(
        &self,
        node: &NodeId,
        beats: Vec<(PartitionId, Beat)>,
        sink: &BusSink,
    ) -> Vec<PartitionId> {
        let (now, mut refused, mut told) = (Now::read(), Vec::new(), Vec::new());
        let mut homes = self.0.rolls.lock();
        homes.sinks.insert(sink.id(), sink.clone());
        for (partition, beat) in beats {
            match self.0.router.parts().homes.epoch(partition) {
                Some(epoch) => homes.roll.beat(
                    (now.boot_ms, now.wall_ms),
                    (partition, epoch),
                    (node, sink.id()),
                    beat,
                    &mut told,
                ),
                None => refused.push(partition),
            }
        }
        homes.tell(told);
        drop(homes);
        self.0.wake.notify_one();
        refused
    }

    pub(super) fn tick_rolls(&self) {
        let homes = &self.0.router.parts().homes;
        let mut rolls = self.0.rolls.lock();
        let mut told = Vec::new();
        rolls.roll.keep(|partition| homes.epoch(partition));
        rolls.roll.tick(Now::read().boot_ms, &mut told);
        rolls.tell(told);
        rolls.sinks.retain(|_, sink| !sink.is_closed());
    }
}

/// What this node knows as a home, and how watchers are told.
#[derive(Debug)]
pub(super) struct Rolls {
    pub(super) roll: super::roll::Roll,
    pub(super) sinks: BTreeMap<SinkId, BusSink>,
}

impl Rolls {
    fn tell(&self, told: Vec<(SinkId, Seen)>) {
        let mut by_sink: BTreeMap<SinkId, Vec<Seen>> = BTreeMap::new();
        for (sink, seen) in told {
            by_sink.entry(sink).or_default().push(seen);
        }
        for (sink, seen) in by_sink {
            if let Some(sink) = self.sinks.get(&sink) {
                sink.offer(BusEvent::Presence(Arc::new(seen)));
            }
        }
    }
}
