//! An SDK client that follows all its chats, ends again and again, and is restored from its snapshot.

use super::{Place, Shared, sdk::Ear};
use client::{Client, Config, Event, Events, From, Snapshot};
use rand::RngExt as _;
use std::{collections::HashMap, ops::Range, time::Duration};
use tokio::time::{sleep, timeout};
use types::{LogId, Position, PositionToken};

/// How long it lives.
const LIVES_MS: Range<u64> = 3_000..9_000;
/// How long it is away.
const AWAY_MS: Range<u64> = 100..2_500;
/// What was told before a snapshot was taken is here by then.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs until the workload stops.
pub(super) async fn run(shared: Shared, mut place: Place) {
    let recorder = shared.recorder.clone();
    let device = recorder.device(&place.user, place.device, &place.region);
    let region = recorder.region(&place.region);
    let stop = shared.stop.clone();
    let ids: Vec<LogId> = shared.chats.of(&place.user).map(|chat| chat.id).collect();
    let mut ear = Ear::new(shared.clone(), device, region, ids.iter().copied());
    let mut snapshot: Option<Snapshot> = None;
    while !stop.is_cancelled() {
        let config = Config::new(place.edges.clone(), place.user.clone(), place.device);
        let restored = snapshot.is_some();
        let client = match Client::restore(config, snapshot.take().unwrap_or_default()) {
            Ok(client) => client,
            Err(error) => return recorder.note(format!("a returner cannot start: {error}")),
        };
        let mut events = client.events().await;
        if !restored {
            for id in &ids {
                client.chat(*id).follow(From::Start).await;
            }
        }
        let lives = Duration::from_millis(place.rng.random_range(LIVES_MS));
        let living = timeout(lives, async {
            while let Some(event) = events.next().await {
                ear.hear(event);
            }
        });
        if stop.run_until_cancelled(living).await.is_none() {
            return;
        }
        let Some(taken) = client.snapshot().await else {
            return recorder.note(format!("a returner of {} has ended", place.region));
        };
        drop(client);
        if stop.run_until_cancelled(drain(&mut events, &mut ear, &taken)).await.is_none() {
            return;
        }
        snapshot = Some(taken);
        sleep(Duration::from_millis(place.rng.random_range(AWAY_MS))).await;
    }
}

/// Hears what was told before the snapshot was taken, and nothing of what was told after it: that is told again.
async fn drain(events: &mut Events, ear: &mut Ear, snapshot: &Snapshot) {
    let mut open: HashMap<LogId, Position> = HashMap::new();
    for log in &snapshot.logs {
        let token = log.positions.last().map_or("", |(_, token)| token.as_str());
        if let Ok(at) = PositionToken::open(log.log, token) {
            open.insert(log.log, at);
        }
    }
    let drained = timeout(DRAIN_TIMEOUT, async {
        loop {
            open.retain(|log, at| ear.stands_at(log) != *at);
            if open.is_empty() {
                return;
            }
            match events.next().await {
                Some(event) if log_of(&event).is_some_and(|log| open.contains_key(&log)) => ear.hear(event),
                Some(_) => {}
                None => return,
            }
        }
    });
    // Where it ends by time, the checker sees what came of it.
    let _ = drained.await;
}

fn log_of(event: &Event) -> Option<LogId> {
    match event {
        Event::Entry { log, .. }
        | Event::Moved { log, .. }
        | Event::Diverged { log, .. }
        | Event::ReplicatedUpTo { log, .. } => Some(*log),
        _ => None,
    }
}
