//! Accounts: who a user is, on which devices, and how a node knows.
//!
//! ```text
//!   register ─┐                               ┌─ names      the directory: unique in the world
//!   log in ───┼─ Accounts ── writes and reads ┼─ logs       the user's account log, wherever it is homed
//!   refresh ──┘     │                         └─ passwords  hashed a few at a time
//!                   └─ keys: signs access tokens
//!
//!   a request or a session ── verify the token (offline) ── standing of its device (a few seconds old at most)
//! ```
//!
//! Invariants:
//! - What an account is, its log says; no node keeps anything of it but for seconds.
//! - Nobody is told whether a name exists by what a log-in answers or by how long it takes.
//! - No secret leaves the nodes: passwords and tokens are kept as hashes, and clients see none of them.

mod keys;
mod limits;
mod logging_in;
mod logs;
mod passwords;
mod people;
mod registering;
mod renaming;
mod standing;
mod tokens;

pub use limits::{AccountRates, Rate as AccountRate};
pub(crate) use limits::{Address, Kind, Who};
pub(crate) use logging_in::{Credentials, NewPassword};
pub(crate) use people::{Person, export};
pub(crate) use registering::Wish;
pub(crate) use renaming::NewNames;
pub(crate) use standing::{LiveSession, Standings};
pub(crate) use tokens::Bearer;

use crate::{Parts, router::Router};
use keys::Keys;
use limits::Limits;
use logs::AccountLogs;
use parking_lot::Mutex;
use passwords::Passwords;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use types::{DeviceId, MessageId, Refusal, UserId, account::AccountChange};

/// How often it is looked whether the node needs another key: each lasts for a day.
const KEY_STEP: Duration = Duration::from_secs(600);
/// How soon after a key could not be published that is tried again.
const KEY_AGAIN: Duration = Duration::from_secs(1);

/// The accounts, as this node serves them. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Accounts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: Parts,
    logs: AccountLogs,
    passwords: Passwords,
    keys: Keys,
    standings: Standings,
    limits: Mutex<Limits>,
}

/// A device that has logged in, or goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoggedIn {
    pub(crate) bearer: Bearer,
    pub(crate) access: String,
    /// The device's next refresh token; `None`: it keeps the one that it has.
    pub(crate) refresh: Option<String>,
}

impl Accounts {
    /// Accounts over a router.
    pub(crate) fn new(parts: &Parts, router: &Router) -> Self {
        Self(Arc::new(Inner {
            parts: parts.clone(),
            logs: AccountLogs::new(router.clone()),
            passwords: Passwords::new(host::cores()),
            keys: Keys::new(parts),
            standings: Standings::new(router.clone()),
            limits: Mutex::new(Limits::new(&parts.config)),
        }))
    }

    /// Keeps a key published where accounts are required, and looks after live sessions, until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.keep_key() => {}
            () = self.0.standings.run() => {}
        }
    }

    async fn keep_key(&self) {
        if self.0.parts.config.development {
            return std::future::pending().await;
        }
        loop {
            let pause = match self.0.keys.signer().await {
                Ok(_) => KEY_STEP,
                Err(refusal) => {
                    tracing::debug!(%refusal, "no key to sign access tokens with yet");
                    KEY_AGAIN
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Whom an access token stands for: its signature and its times, then whether its device was revoked.
    ///
    /// # Errors
    /// `unauthenticated`, `token_expired`, `device_revoked`.
    pub(crate) async fn bearer(&self, token: &str) -> Result<Bearer, Refusal> {
        let bearer = self.0.keys.verify(token)?;
        self.0.standings.check(&bearer.user, bearer.device).await?;
        Ok(bearer)
    }

    /// The sessions of devices, and how they stand.
    pub(crate) fn standings(&self) -> &Standings {
        &self.0.standings
    }

    /// Writes a change of the caller's own account. Repeating it under its request id is safe.
    ///
    /// # Errors
    /// What the home refuses it for.
    pub(crate) async fn change(
        &self,
        user: &UserId,
        device: DeviceId,
        request: MessageId,
        change: AccountChange,
    ) -> Result<(), Refusal> {
        self.0.logs.append(user, device, request, change).await
    }

    /// Counts something that a user or an address may do only so often.
    ///
    /// # Errors
    /// `rate_limited`, with when there is room again.
    pub(crate) fn admit(&self, kind: Kind, who: &Who) -> Result<(), Refusal> {
        self.0.limits.lock().take(kind, who, host::clock::boot_ms())
    }
}
