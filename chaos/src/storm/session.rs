//! One session of the crowd: connects, follows, and when its node is gone resumes elsewhere.

use client::bare::{BareError, Connection};
use parking_lot::Mutex;
use proto::client::{
    LogCursor, Ping, Resumed, Subscribe, client_frame::Frame, resumed::Answer, server_frame::Frame as Told,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::time::{interval, sleep, timeout};
use types::{DeviceId, UserId};

/// The SDK's waits.
const BACKOFF_BASE_MS: u64 = 100;
const BACKOFF_CAP_MS: u64 = 5_000;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const PING_EVERY: Duration = Duration::from_secs(8);
/// After a chat could not be followed yet.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// How far the crowd is.
#[derive(Debug, Default)]
pub(super) struct Board {
    open: AtomicUsize,
    storm: AtomicBool,
    resumed: Mutex<Vec<Instant>>,
}

impl Board {
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn storm_began(&self) {
        self.storm.store(true, Ordering::Relaxed);
    }

    pub(super) fn resumed(&self) -> Vec<Instant> {
        self.resumed.lock().clone()
    }
}

/// Who a session is, and where it stands: in each chat behind the first entry.
pub(super) struct Member {
    pub(super) user: UserId,
    pub(super) device: DeviceId,
    pub(super) cursors: BTreeMap<String, String>,
}

/// Keeps the session up until it is dropped.
pub(super) async fn run(member: Member, edges: Vec<String>, board: Arc<Board>, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut told = false;
    let (mut edge, mut failed) = (0, 0_usize);
    let mut held = vec![Instant::now(); edges.len()];
    loop {
        // A connection that breaks is followed by another.
        let ended = keep(&member, &edges[edge], &board, &mut told, &mut failed).await;
        let round = failed / edges.len();
        match ended.err().and_then(|error| error.retry_after_ms()) {
            Some(after_ms) => {
                let after_ms = after_ms + rng.random_range(0..=after_ms / 8);
                held[edge] = Instant::now() + Duration::from_millis(after_ms);
            }
            None => failed += 1,
        }
        let most_ms = (BACKOFF_BASE_MS << round.min(6)).min(BACKOFF_CAP_MS);
        let now = Instant::now();
        // The crowd is to be where the storm will be: until then a session that is told to wait does so there.
        if board.storm.load(Ordering::Relaxed) {
            let behind = (1..=edges.len()).map(|step| (edge + step) % edges.len());
            edge = behind.min_by_key(|edge| held[*edge].max(now)).unwrap_or(edge);
        }
        let wait = Duration::from_millis(rng.random_range(0..=most_ms));
        sleep(wait.max(held[edge].saturating_duration_since(now))).await;
    }
}

async fn keep(
    member: &Member,
    url: &str,
    board: &Board,
    told: &mut bool,
    failed: &mut usize,
) -> Result<(), BareError> {
    let cursor =
        |(log, position): (&String, &String)| LogCursor { log: log.clone(), position: position.clone() };
    let cursors = member.cursors.iter().map(cursor).collect();
    let opening = Connection::open(url, &member.user, member.device, cursors);
    let Ok(connection) = timeout(CONNECT_TIMEOUT, opening).await else { return Ok(()) };
    let mut connection = connection?;
    *failed = 0;
    let in_storm = board.storm.load(Ordering::Relaxed);
    let mut waiting = member.cursors.clone();
    let mut again: Vec<String> = Vec::new();
    let (mut pings, mut retries) = (interval(PING_EVERY), interval(AGAIN_AFTER));
    loop {
        tokio::select! {
            frame = connection.next() => if let Some(Told::Resumed(Resumed { log, answer })) = frame?.frame {
                match answer {
                    Some(Answer::Continue(_) | Answer::Diverged(_)) => drop(waiting.remove(&log)),
                    _ => again.push(log),
                }
                if waiting.is_empty() && !in_storm && !*told {
                    *told = true;
                    board.open.fetch_add(1, Ordering::Relaxed);
                } else if waiting.is_empty() && in_storm && *told {
                    *told = false;
                    board.resumed.lock().push(Instant::now());
                }
            },
            _ = pings.tick() => {
                connection.feed(0, Frame::Ping(Ping { nonce: 3 })).await?;
                connection.flush().await?;
            }
            _ = retries.tick(), if !again.is_empty() => {
                for log in again.drain(..) {
                    let position = member.cursors.get(&log).cloned().unwrap_or_default();
                    connection.feed(1, Frame::Subscribe(Subscribe { log, position })).await?;
                }
                connection.flush().await?;
            }
        }
    }
}
