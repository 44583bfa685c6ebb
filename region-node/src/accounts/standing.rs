//! How devices stand: whether they were revoked since their access token was signed.
//!
//! ```text
//!   request ── known for 4 s? ── copy of this node ── home (500 ms) ── nobody can be asked: the token counts till its end
//!   session ── looked at every 2 s in the same way ── revoked: told so and closed
//!                     └─ confirmed by the home before its time is over; never confirmed: closed at its time
//! ```
//!
//! Invariants:
//! - A copy of this node is believed that a device is there, since it may be cut off only for so long as a token
//!   counts; that it is not there only the home is believed, since a copy may not have come that far.
//! - No session outlives the last word of a home, or its token, by more than a token counts.

use super::tokens::ACCESS_TTL_MS;
use crate::{edge::queue::SessionQueue, router::Router};
use futures_util::{StreamExt, stream};
use host::HashMap;
use parking_lot::Mutex;
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use types::{Code, DeviceId, Refusal, UserId, account::Account};

/// How long is known how a user's devices stand, in ms.
const KNOWN_MS: u64 = 4_000;
/// How often live sessions are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How long a home is waited for.
const HOME_PATIENCE: Duration = Duration::from_millis(500);
/// Sessions with less time than this before them are confirmed by the home, in ms.
const CONFIRM_MS: u64 = ACCESS_TTL_MS / 2;
/// Users who are looked at at a time.
const LOOKS_MAX: usize = 64;
/// Users of whom something is known, at most.
const USERS_MAX: usize = 65_536;

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Standings(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    router: Router,
    known: Mutex<Cache>,
    live: Mutex<HashMap<UserId, Vec<Live>>>,
    next: AtomicU64,
    /// Told when a session begins.
    entered: Notify,
}

/// The devices of users, as they were a moment ago. Two halves: what was not used while one filled up is forgotten.
#[derive(Debug, Default)]
struct Cache {
    young: HashMap<UserId, Known>,
    old: HashMap<UserId, Known>,
}

#[derive(Debug, Clone)]
struct Known {
    /// Of an account that is in use.
    devices: Arc<BTreeSet<DeviceId>>,
    at_ms: u64,
}

impl Cache {
    fn get(&self, user: &UserId, now_ms: u64) -> Option<&Known> {
        let known = self.young.get(user).or_else(|| self.old.get(user))?;
        (now_ms.saturating_sub(known.at_ms) < KNOWN_MS).then_some(known)
    }

    fn put(&mut self, user: &UserId, known: Known) {
        if self.young.len() >= USERS_MAX / 2 && !self.young.contains_key(user) {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(user);
        self.young.insert(user.clone(), known);
    }

    fn forget(&mut self, user: &UserId) {
        self.young.remove(user);
        self.old.remove(user);
    }
}

/// A session of a device.
#[derive(Debug, Clone)]
struct Live {
    number: u64,
    device: DeviceId,
    /// Until when the session may last without a home's word, in ms since 1970.
    until_ms: u64,
    queue: Arc<SessionQueue>,
}

/// How a device stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It was there a moment ago. `confirmed`: the home says so.
    Good { confirmed: bool },
    /// The home says that it is not there.
    Revoked,
    /// Nobody who knows could be asked.
    Unknown,
}

/// A session that is looked after, until this is dropped.
#[derive(Debug)]
pub(crate) struct LiveSession {
    standings: Standings,
    user: UserId,
    number: u64,
}

impl Drop for LiveSession {
    fn drop(&mut self) {
        let mut live = self.standings.0.live.lock();
        if let Some(sessions) = live.get_mut(&self.user) {
            sessions.retain(|session| session.number != self.number);
            if sessions.is_empty() {
                live.remove(&self.user);
            }
        }
    }
}

impl Standings {
    pub(super) fn new(router: Router) -> Self {
        let (known, live) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { router, known, live, next: AtomicU64::new(1), entered: Notify::new() }))
    }

    /// Whether a device may go on whose access token is good.
    ///
    /// # Errors
    /// `device_revoked`.
    pub(super) async fn check(&self, user: &UserId, device: DeviceId) -> Result<(), Refusal> {
        match self.look(user, &[device], false).await.first() {
            Some(Standing::Revoked) => Err(revoked(device)),
            _ => Ok(()),
        }
    }

    /// A session begins that its device's token lets in until a time, in ms since 1970.
    pub(crate) fn enter(
        &self,
        user: UserId,
        device: DeviceId,
        until_ms: u64,
        queue: Arc<SessionQueue>,
    ) -> LiveSession {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let session = Live { number, device, until_ms, queue };
        self.0.live.lock().entry(user.clone()).or_default().push(session);
        self.0.entered.notify_one();
        LiveSession { standings: self.clone(), user, number }
    }

    /// Devices were revoked through this node: it does not wait until it looks.
    pub(super) fn revoked(&self, user: &UserId, devices: &[DeviceId]) {
        self.0.known.lock().forget(user);
        self.oust(user, |session| devices.contains(&session.device).then(|| revoked(session.device)));
    }

    /// An account was closed through this node.
    pub(super) fn closed(&self, user: &UserId) {
        self.0.known.lock().forget(user);
        self.oust(user, |session| Some(revoked(session.device)));
    }

    /// Looks after live sessions, for good.
    pub(super) async fn run(&self) {
        loop {
            if self.0.live.lock().is_empty() {
                self.0.entered.notified().await;
            }
            sleep(LOOK).await;
            let users: Vec<UserId> = self.0.live.lock().keys().cloned().collect();
            stream::iter(users).for_each_concurrent(LOOKS_MAX, |user| self.look_after(user)).await;
        }
    }

    async fn look_after(&self, user: UserId) {
        let sessions = self.0.live.lock().get(&user).cloned().unwrap_or_default();
        let devices: Vec<DeviceId> = sessions.iter().map(|session| session.device).collect();
        let confirm_from_ms = host::clock::wall_ms().saturating_add(CONFIRM_MS);
        let at_home = sessions.iter().any(|session| session.until_ms < confirm_from_ms);
        self.0.known.lock().forget(&user);
        let standings = self.look(&user, &devices, at_home).await;
        let now_ms = host::clock::wall_ms();
        let by_number: HashMap<u64, Standing> =
            sessions.iter().map(|session| session.number).zip(standings).collect();
        if let Some(sessions) = self.0.live.lock().get_mut(&user) {
            for session in sessions {
                if let Some(Standing::Good { confirmed: true }) = by_number.get(&session.number) {
                    session.until_ms = now_ms.saturating_add(ACCESS_TTL_MS);
                }
            }
        }
        self.oust(&user, |session| match by_number.get(&session.number)? {
            Standing::Revoked => Some(revoked(session.device)),
            _ if session.until_ms <= now_ms => {
                Some(Refusal::new(Code::TokenExpired, "nobody could confirm that the device may go on"))
            }
            _ => None,
        });
    }

    fn oust(&self, user: &UserId, why: impl Fn(&Live) -> Option<Refusal>) {
        let live = self.0.live.lock();
        for session in live.get(user).into_iter().flatten() {
            if let Some(refusal) = why(session) {
                metrics::counter!("hearth_edge_sessions_ousted_total").increment(1);
                session.queue.oust(refusal);
            }
        }
    }

    /// How each of the devices stands. `at_home`: the home is asked in any case.
    async fn look(&self, user: &UserId, devices: &[DeviceId], at_home: bool) -> Vec<Standing> {
        let here = if at_home { None } else { self.known(user).await };
        if let Some(known) = here
            && devices.iter().all(|device| known.contains(device))
        {
            return vec![Standing::Good { confirmed: false }; devices.len()];
        }
        let asked = timeout(HOME_PATIENCE, self.0.router.account(user, true, Duration::ZERO)).await;
        match asked.unwrap_or_else(|_| Err(Refusal::new(Code::HomeUnavailable, "the home is silent"))) {
            Ok(account) => {
                let known = self.note(user, account.as_deref());
                let standing = |device| match known.contains(device) {
                    true => Standing::Good { confirmed: true },
                    false => Standing::Revoked,
                };
                devices.iter().map(standing).collect()
            }
            Err(refusal) => {
                tracing::debug!(%user, %refusal, "nobody knows how a device stands");
                vec![Standing::Unknown; devices.len()]
            }
        }
    }

    /// A user's devices as they were a moment ago.
    async fn known(&self, user: &UserId) -> Option<Arc<BTreeSet<DeviceId>>> {
        let known = self.0.known.lock().get(user, host::clock::boot_ms()).map(|known| known.devices.clone());
        if known.is_some() {
            return known;
        }
        let account = self.0.router.account_here(user).await?;
        Some(self.note(user, Some(&account)))
    }

    fn note(&self, user: &UserId, account: Option<&Account>) -> Arc<BTreeSet<DeviceId>> {
        let open = account.and_then(|account| account.open.as_ref());
        let devices: BTreeSet<DeviceId> =
            open.map(|open| open.devices.keys().copied().collect()).unwrap_or_default();
        let devices = Arc::new(devices);
        let known = Known { devices: Arc::clone(&devices), at_ms: host::clock::boot_ms() };
        self.0.known.lock().put(user, known);
        devices
    }
}

fn revoked(device: DeviceId) -> Refusal {
    Refusal::new(Code::DeviceRevoked, format!("device {device} was logged out"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_forgotten_in_time_and_in_number() {
        let user = |number: usize| UserId::new(&format!("user-{number}")).expect("a valid name");
        let known = |at_ms| Known { devices: Arc::default(), at_ms };
        let mut cache = Cache::default();
        cache.put(&user(0), known(1_000));
        assert!(cache.get(&user(0), 1_000 + KNOWN_MS - 1).is_some());
        assert!(cache.get(&user(0), 1_000 + KNOWN_MS).is_none());
        for number in 0..2 * USERS_MAX {
            cache.put(&user(number), known(1_000));
        }
        assert!(cache.young.len() + cache.old.len() <= USERS_MAX);
        cache.forget(&user(2 * USERS_MAX - 1));
        assert!(cache.get(&user(2 * USERS_MAX - 1), 1_000).is_none());
    }
}
