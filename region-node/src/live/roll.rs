//! Who is there: what the home of a user's presence knows, from what nodes tell it.
//!
//! ```text
//!   beat of a node ──► device there until now + TTL ──► the user is online ──► watchers, on a change
//!                            │ gone: a moment later            ▲
//!                            └──────── TTL over ───────────────┴──► the last one: offline
//! ```
//!
//! A user's presence is kept where the partition is homed that the user's account log hashes to: every node finds it
//! without asking, whether or not the user has an account.
//!
//! # Invariants
//!
//! - A home that has just taken over knows nothing: that somebody is there it tells at once, that somebody is not only
//!   when it has listened for one TTL. Until then watchers keep what they know, so a change of home is no news.
//! - Who is told of as gone may be back in [`GRACE_MS`]: whoever changes nodes is never offline.
//! - Watchers are told of changes only, and once when they begin to watch.

use crate::bus::SinkId;
use host::HashMap;
use std::collections::BTreeMap;
use types::{DeviceId, Epoch, NodeId, PartitionId, UserId};

/// How long a device that has gone may take to come back elsewhere, in ms.
const GRACE_MS: u64 = 1_500;
/// Users that are there or watched at one home, at most.
const USERS_MAX: usize = 1_048_576;

/// Whether a user is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Who.
    pub user: UserId,
    /// Whether on some device.
    pub online: bool,
    /// When last, in ms since 1970; 0: not known.
    pub last_seen_ms: u64,
}

/// What a node tells of one partition's users.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Beat {
    pub(crate) online: Vec<(UserId, DeviceId)>,
    pub(crate) gone: Vec<(UserId, DeviceId)>,
    pub(crate) watched: Vec<UserId>,
    pub(crate) unwatched: Vec<UserId>,
}

impl Beat {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Debug, Default)]
struct Present {
    /// Until when each device counts as there.
    devices: BTreeMap<(NodeId, DeviceId), u64>,
    last_seen_ms: u64,
    /// What watchers were told last.
    told: Option<bool>,
    /// Until when each counts as watching.
    watchers: BTreeMap<SinkId, u64>,
}

#[derive(Debug)]
struct Part {
    epoch: Epoch,
    since_ms: u64,
    users: HashMap<UserId, Present>,
}

/// What is to be told to whom.
pub(super) type Telling = (SinkId, Seen);

/// See the module.
#[derive(Debug)]
pub(super) struct Roll {
    ttl_ms: u64,
    partitions: HashMap<PartitionId, Part>,
    users: usize,
}

impl Roll {
    pub(super) fn new(ttl_ms: u64) -> Self {
        Self { ttl_ms, partitions: HashMap::default(), users: 0 }
    }

    /// Takes in what a node tells; this node is home of the partition in `epoch`.
    pub(super) fn beat(
        &mut self,
        (now_ms, wall_ms): (u64, u64),
        (partition, epoch): (PartitionId, Epoch),
        (node, sink): (&NodeId, SinkId),
        beat: Beat,
        out: &mut Vec<Telling>,
    ) {
        let ttl_ms = self.ttl_ms;
        let is_full = self.users >= USERS_MAX;
        let begun = || Part { epoch, since_ms: now_ms, users: HashMap::default() };
        let part = self.partitions.entry(partition).or_insert_with(begun);
        if part.epoch != epoch {
            *part = begun();
        }
        let listened = now_ms >= part.since_ms + ttl_ms;
        let before = part.users.len();
        for (user, device) in beat.online {
            if is_full && !part.users.contains_key(&user) {
                continue;
            }
            let present = part.users.entry(user.clone()).or_default();
            present.devices.insert((node.clone(), device), now_ms + ttl_ms);
            present.last_seen_ms = wall_ms;
            present.settle(&user, listened, out);
        }
        for (user, device) in beat.gone {
            if let Some(present) = part.users.get_mut(&user)
                && let Some(until_ms) = present.devices.get_mut(&(node.clone(), device))
            {
                *until_ms = (now_ms + GRACE_MS).min(*until_ms);
                present.last_seen_ms = wall_ms;
            }
        }
        for user in beat.watched {
            if is_full && !part.users.contains_key(&user) {
                continue;
            }
            let present = part.users.entry(user.clone()).or_default();
            let is_new = present.watchers.insert(sink, now_ms + ttl_ms).is_none();
            if is_new && let Some(online) = present.is_online(listened) {
                present.told = Some(online);
                out.push((sink, present.seen(&user, online)));
            }
        }
        for user in beat.unwatched {
            if let Some(present) = part.users.get_mut(&user) {
                present.watchers.remove(&sink);
            }
        }
        self.users = self.users + part.users.len() - before;
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now_ms: u64, out: &mut Vec<Telling>) {
        let ttl_ms = self.ttl_ms;
        for part in self.partitions.values_mut() {
            let listened = now_ms >= part.since_ms + ttl_ms;
            part.users.retain(|user, present| {
                present.devices.retain(|_, until_ms| now_ms < *until_ms);
                present.watchers.retain(|_, until_ms| now_ms < *until_ms);
                present.settle(user, listened, out);
                !(present.devices.is_empty() && present.watchers.is_empty())
            });
        }
        self.users = self.partitions.values().map(|part| part.users.len()).sum();
    }

    /// Forgets the partitions that are not homed here any more, in the epoch in which they were.
    pub(super) fn keep(&mut self, is_home: impl Fn(PartitionId) -> Option<Epoch>) {
        self.partitions.retain(|partition, part| is_home(*partition) == Some(part.epoch));
    }

    /// Whether nothing is known of anybody.
    pub(super) fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }
}

impl Present {
    /// `None`: nobody can tell yet.
    fn is_online(&self, listened: bool) -> Option<bool> {
        if self.devices.is_empty() { listened.then_some(false) } else { Some(true) }
    }

    fn seen(&self, user: &UserId, online: bool) -> Seen {
        Seen { user: user.clone(), online, last_seen_ms: self.last_seen_ms }
    }

    fn settle(&mut self, user: &UserId, listened: bool, out: &mut Vec<Telling>) {
        let Some(online) = self.is_online(listened) else { return };
        if self.told == Some(online) {
            return;
        }
        self.told = Some(online);
        let seen = self.seen(user, online);
        out.extend(self.watchers.keys().map(|sink| (*sink, seen.clone())));
    }
}

#[cfg(test)]
mod tests;
