//! Who is there at this node, and whom its sessions watch: what is told to the homes of their presence, and from there.
//!
//! ```text
//!   sessions ──► here, watched ──beat: all every TTL/3, changes at once──► home
//!   sessions ◄── changes only ◄──────────────── seen ◄─────────────────── home
//! ```
//!
//! # Invariants
//!
//! - A home that is another one than the last time, or on another stream, is told all.
//! - What is known of a watched user stays until a home says something else: nobody is offline because their home is.

use super::roll::{Beat, Seen};
use crate::{delivery::SessionId, router::Route};
use host::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use types::{DeviceId, PartitionId, UserId};

/// How long to wait before a home is told again that has not taken a beat, in ms.
const AGAIN_MS: u64 = 500;
/// Beats of a TTL.
const BEATS: u64 = 3;

/// What a session may see of whom it watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct View {
    /// When the user was last there.
    pub(crate) last_seen: bool,
}

#[derive(Debug, Default)]
struct Watched {
    by: BTreeMap<SessionId, View>,
    known: Option<Seen>,
}

#[derive(Debug, Default)]
struct Group {
    /// How many sessions each device has here.
    here: HashMap<UserId, BTreeMap<DeviceId, u32>>,
    watched: HashMap<UserId, Watched>,
    changes: Beat,
    /// Where all was told last, and when.
    told: Option<(Route, u64)>,
    not_before_ms: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Desk {
    ttl_ms: u64,
    groups: BTreeMap<PartitionId, Group>,
    /// Whom each session watches.
    sessions: HashMap<SessionId, BTreeSet<(PartitionId, UserId)>>,
}

/// Beats for one home.
pub(super) type Beats = (Route, Vec<(PartitionId, Beat)>);

impl Desk {
    pub(crate) fn new(ttl_ms: u64) -> Self {
        Self { ttl_ms, groups: BTreeMap::new(), sessions: HashMap::default() }
    }

    /// A session of a device begins.
    pub(super) fn enter(&mut self, partition: PartitionId, user: &UserId, device: DeviceId) {
        let group = self.groups.entry(partition).or_default();
        let sessions = group.here.entry(user.clone()).or_default().entry(device).or_default();
        *sessions += 1;
        if *sessions == 1 {
            group.changes.gone.retain(|(who, gone)| (who, *gone) != (user, device));
            group.changes.online.push((user.clone(), device));
        }
    }

    /// It has ended.
    pub(super) fn exit(&mut self, partition: PartitionId, user: &UserId, device: DeviceId) {
        let Some(group) = self.groups.get_mut(&partition) else { return };
        let Some(devices) = group.here.get_mut(user) else { return };
        let Some(sessions) = devices.get_mut(&device) else { return };
        *sessions -= 1;
        if *sessions == 0 {
            devices.remove(&device);
            if devices.is_empty() {
                group.here.remove(user);
            }
            group.changes.online.retain(|(who, there)| (who, *there) != (user, device));
            group.changes.gone.push((user.clone(), device));
        }
    }

    /// A session watches a user; what is known of the user, as the session may see it.
    pub(super) fn watch(
        &mut self,
        session: SessionId,
        partition: PartitionId,
        user: &UserId,
        view: View,
    ) -> Option<Seen> {
        let group = self.groups.entry(partition).or_default();
        let watched = group.watched.entry(user.clone()).or_default();
        if watched.by.is_empty() {
            group.changes.unwatched.retain(|other| other != user);
            group.changes.watched.push(user.clone());
        }
        watched.by.insert(session, view);
        self.sessions.entry(session).or_default().insert((partition, user.clone()));
        watched.known.as_ref().map(|seen| view.of(seen))
    }

    /// A session watches a user no longer.
    pub(super) fn unwatch(&mut self, session: SessionId, partition: PartitionId, user: &UserId) {
        if let Some(watching) = self.sessions.get_mut(&session) {
            watching.remove(&(partition, user.clone()));
            if watching.is_empty() {
                self.sessions.remove(&session);
            }
        }
        let Some(group) = self.groups.get_mut(&partition) else { return };
        let Some(watched) = group.watched.get_mut(user) else { return };
        watched.by.remove(&session);
        if watched.by.is_empty() {
            group.watched.remove(user);
            group.changes.watched.retain(|other| other != user);
            group.changes.unwatched.push(user.clone());
        }
    }

    /// A session has ended: it watches nobody.
    pub(super) fn leave(&mut self, session: SessionId) {
        for (partition, user) in self.sessions.get(&session).cloned().unwrap_or_default() {
            self.unwatch(session, partition, &user);
        }
    }

    /// A home tells of a user; who is to be told what.
    pub(crate) fn seen(&mut self, partition: PartitionId, seen: &Seen) -> Vec<(SessionId, Seen)> {
        let watched = self.groups.get_mut(&partition).and_then(|group| group.watched.get_mut(&seen.user));
        let Some(watched) = watched else { return Vec::new() };
        let mut seen = seen.clone();
        if let Some(known) = &watched.known {
            // A home that has just taken over has not seen the user, but the one before had.
            seen.last_seen_ms = seen.last_seen_ms.max(known.last_seen_ms);
        }
        let is_news = watched.known.as_ref().is_none_or(|known| known.online != seen.online);
        watched.known = Some(seen.clone());
        if !is_news {
            return Vec::new();
        }
        watched.by.iter().map(|(session, view)| (*session, view.of(&seen))).collect()
    }

    /// What is to be told now.
    pub(super) fn beats(&mut self, now_ms: u64, way: impl Fn(PartitionId) -> Option<Route>) -> Vec<Beats> {
        let mut beats: BTreeMap<u64, Beats> = BTreeMap::new();
        for (partition, group) in &mut self.groups {
            if now_ms < group.not_before_ms {
                continue;
            }
            let Some(route) = way(*partition) else { continue };
            let is_due = match &group.told {
                Some((told, at_ms)) => *told != route || now_ms >= at_ms + self.ttl_ms / BEATS,
                None => true,
            };
            let changes = std::mem::take(&mut group.changes);
            let beat = if is_due { group.all(changes) } else { changes };
            if is_due {
                group.told = Some((route.clone(), now_ms));
            }
            if !beat.is_empty() {
                let (_, of_home) = beats.entry(route.channel.0).or_insert_with(|| (route, Vec::new()));
                of_home.push((*partition, beat));
            }
        }
        self.groups.retain(|_, group| !(group.here.is_empty() && group.watched.is_empty()));
        beats.into_values().collect()
    }

    /// A home has not taken a beat: it is told all, a little later.
    pub(super) fn refused(&mut self, now_ms: u64, partition: PartitionId) {
        if let Some(group) = self.groups.get_mut(&partition) {
            group.told = None;
            group.not_before_ms = now_ms + AGAIN_MS;
        }
    }

    /// Whether nobody is here and nobody is watched.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

impl Group {
    /// Everything, and who has gone.
    fn all(&self, changes: Beat) -> Beat {
        let here = self
            .here
            .iter()
            .flat_map(|(user, devices)| devices.keys().map(move |device| (user.clone(), *device)));
        let watched = self.watched.keys().cloned().collect();
        Beat { online: here.collect(), watched, ..changes }
    }
}

impl View {
    fn of(self, seen: &Seen) -> Seen {
        let last_seen_ms = if self.last_seen { seen.last_seen_ms } else { 0 };
        Seen { last_seen_ms, ..seen.clone() }
    }
}

#[cfg(test)]
mod tests;
