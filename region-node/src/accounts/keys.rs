//! The key that this node signs access tokens with, and those of all nodes that it verifies them by.
//!
//! ```text
//!   draw ──▶ publish in the directory ──▶ seen in the placement here ──▶ a moment, for the others ──▶ sign
//!     ▲                                                                                                 │
//!     └──────────────────────────────────────── after a day ────────────────────────────────────────────┘
//! ```
//!
//! The private half never leaves the process. Where accounts are required the node draws a key when it starts;
//! otherwise when somebody logs in for the first time.

use super::tokens::{self, Bearer, Signer};
use crate::{Parts, PlacementView, ready::Identity, service::Names};
use std::{fmt, sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::timeout};
use types::{Code, Refusal, VerifyingKey};

/// How long a key is signed with, in ms.
const KEY_MS: u64 = 24 * 3_600 * 1_000;
/// How long the placement may take to bring a key that was published.
const SEEN_WITHIN: Duration = Duration::from_secs(3);
/// How long the others are given to see it, too.
const SPREAD: Duration = Duration::from_millis(500);
/// When who wants to be signed for should come again, in ms.
const RETRY_AFTER_MS: u64 = 1_000;

/// See the module.
pub(super) struct Keys {
    names: Arc<dyn Names>,
    identity: Arc<Identity>,
    view: Arc<PlacementView>,
    current: Mutex<Option<Current>>,
}

#[derive(Clone)]
struct Current {
    signer: Arc<Signer>,
    drawn_at_ms: u64,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("node", self.identity.node()).finish_non_exhaustive()
    }
}

impl Keys {
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            names: Arc::clone(&parts.names),
            identity: Arc::clone(&parts.identity),
            view: Arc::clone(&parts.view),
            current: Mutex::new(None),
        }
    }

    /// What to sign with now. A key that has lasted its day goes on while no other one can be published.
    ///
    /// # Errors
    /// `not_ready` or `directory_unavailable` where none could be published yet.
    pub(super) async fn signer(&self) -> Result<Arc<Signer>, Refusal> {
        let mut current = self.current.lock().await;
        let now_ms = host::clock::boot_ms();
        if let Some(known) = &*current
            && now_ms.saturating_sub(known.drawn_at_ms) < KEY_MS
        {
            return Ok(Arc::clone(&known.signer));
        }
        match (self.publish().await, &*current) {
            (Ok(signer), _) => {
                let signer = Arc::new(signer);
                *current = Some(Current { signer: Arc::clone(&signer), drawn_at_ms: now_ms });
                Ok(signer)
            }
            (Err(refusal), Some(known)) => {
                tracing::warn!(%refusal, "the key that access tokens are signed with could not be renewed");
                Ok(Arc::clone(&known.signer))
            }
            (Err(refusal), None) => Err(refusal),
        }
    }

    async fn publish(&self) -> Result<Signer, Refusal> {
        let node = self.identity.home();
        if node.incarnation.get() == 0 {
            return Err(not_ready("this node is not registered yet"));
        }
        let signer = Signer::draw()?;
        let key = signer.verifying_key()?;
        self.names.publish_key(&node, &key).await?;
        let mut versions = self.view.versions();
        let seen = async { while self.key(key.id).is_none() && versions.changed().await.is_ok() {} };
        if timeout(SEEN_WITHIN, seen).await.is_err() {
            return Err(not_ready("this node's key has not come with the placement yet"));
        }
        tokio::time::sleep(SPREAD).await;
        tracing::info!(key = key.id, "access tokens are signed with a new key");
        Ok(signer)
    }

    /// Whom a token stands for, by the keys of all nodes.
    ///
    /// # Errors
    /// `unauthenticated`, `token_expired`.
    pub(super) fn verify(&self, token: &str) -> Result<Bearer, Refusal> {
        tokens::verify(token, |id| self.key(id), host::clock::wall_ms())
    }

    fn key(&self, id: u64) -> Option<VerifyingKey> {
        let placement = self.view.load();
        placement.nodes().flat_map(|node| &node.keys).find(|key| key.id == id).cloned()
    }
}

fn not_ready(why: &str) -> Refusal {
    Refusal::new(Code::NotReady, why).retry_after_ms(RETRY_AFTER_MS)
}
