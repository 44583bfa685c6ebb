//! Salvage: what a follower has archived is offered to the homes of its logs, and what became of it is noted
//! beside the archive.
//!
//! ```text
//!   follower of this region                             homes, wherever they are now
//!     Archives ─► Read ─► window ─► pins, routes ─► Offer ─┐
//!        ▲                  ▲                              │
//!        └───── Settle ◄────┴──────── answers ◄────────────┘
//! ```
//!
//! One task per follower, one archive at a time, in the order of what they hold. One that does not get on, since a
//! home is away or it cannot be read, holds up its own partition until the next round, and no other. The task keeps
//! nothing but the [`window`] that it works on, and may be killed at any time.

mod peers;
mod turns;
mod window;

#[cfg(test)]
mod tests;

use crate::{backoff::Backoff, bounds, feeder::Target};
use peers::{PeerError, Peers};
use proto::node as wire;
use std::{collections::BTreeMap, sync::Arc};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::task::AbortOnDropHandle;
use turns::Turns;
use types::{Lsn, NodeId, Placement};
use window::{Addressee, Answer, BadPage, Offer, Window};

/// What a salvager reaches others by.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    /// Addresses of the directory.
    pub(crate) directory: Arc<Vec<String>>,
    /// Addresses to dial instead of the advertised ones.
    pub(crate) dial: Arc<BTreeMap<NodeId, String>>,
    pub(crate) placement: watch::Receiver<Arc<Placement>>,
}

#[derive(Debug, thiserror::Error)]
enum SalvageError {
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error("archive {archive}: {source}")]
    BadPage { archive: u64, source: BadPage },
    #[error("archive {archive} says nothing about lsn {lsn}")]
    Empty { archive: u64, lsn: Lsn },
    #[error("archive {archive} does not get on behind lsn {settled}")]
    Stuck { archive: u64, settled: Lsn },
}

/// Salvages what a follower has archived for as long as the handle is held.
pub(crate) fn spawn(target: Target, reach: Reach) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let follower = target.follower.node.clone();
        let mut salvager = Salvager { peers: Peers::new(target, reach) };
        let mut backoff = Backoff::new();
        loop {
            match salvager.round().await {
                Ok(()) => {
                    backoff.connected();
                    sleep(bounds::SALVAGE_EVERY).await;
                }
                Err(error) => {
                    tracing::debug!(%follower, %error, "salvage waits");
                    sleep(backoff.next()).await;
                }
            }
        }
    }))
}

struct Salvager {
    peers: Peers,
}

impl Salvager {
    /// Salvages all archives that the follower has now, as far as they get on.
    async fn round(&mut self) -> Result<(), SalvageError> {
        let mut turns = Turns::new(self.peers.archives().await?);
        let mut first_error = None;
        while let Some(archive) = turns.next() {
            if let Err(error) = self.archive(&archive).await {
                tracing::debug!(archive = archive.id, partition = archive.partition, %error, "an archive waits");
                turns.hold(archive.partition);
                first_error.get_or_insert(error);
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    async fn archive(&mut self, archive: &wire::Archive) -> Result<(), SalvageError> {
        let follower = self.peers.follower().clone();
        let first = archive.first.unwrap_or_default();
        let last = Lsn::new(archive.last.unwrap_or_default().lsn);
        tracing::info!(
            %follower, archive = archive.id, partition = archive.partition, records = archive.records,
            settled = archive.settled_lsn, "salvages an archive"
        );
        let mut settled = Lsn::new(archive.settled_lsn);
        while settled < last {
            let next = settled.plus(1).max(Lsn::new(first.lsn));
            let page = self.peers.read(archive.id, next).await?;
            if page.is_empty() {
                return Err(SalvageError::Empty { archive: archive.id, lsn: next });
            }
            let bad = |source| SalvageError::BadPage { archive: archive.id, source };
            let window = Window::open(settled, next, page).map_err(bad)?;
            settled = self.window(archive.id, settled, window).await?;
        }
        tracing::info!(%follower, archive = archive.id, partition = archive.partition, "an archive is settled");
        Ok(())
    }

    /// Offers a window again and again until all of it is settled and noted, as long as it gets on. Answers up to
    /// where it is.
    async fn window(
        &mut self,
        archive: u64,
        mut settled: Lsn,
        mut window: Window,
    ) -> Result<Lsn, SalvageError> {
        let mut backoff = Backoff::new();
        let mut got_on = Instant::now();
        loop {
            let pins = self.peers.pins(window.logs()).await?;
            let placement = self.peers.placement();
            let home_of = |partition| Some(placement.partition(partition)?.home.as_ref()?.node.clone());
            let offers = window.offers(&pins, home_of);
            for (lsn, answer) in self.offer(offers).await {
                window.take(lsn, answer);
            }
            if let Some(step) = window.step() {
                settled = step.through;
                self.peers.settle(archive, step).await?;
                got_on = Instant::now();
            }
            if window.is_done() {
                return Ok(settled);
            }
            if got_on.elapsed() >= bounds::SALVAGE_STANDSTILL {
                return Err(SalvageError::Stuck { archive, settled });
            }
            sleep(backoff.next()).await;
        }
    }

    async fn offer(&self, offers: BTreeMap<Addressee, Vec<Offer>>) -> Vec<(Lsn, Answer)> {
        let asked = offers.into_iter().map(|(to, offers)| async move {
            let lsns: Vec<Lsn> = offers.iter().map(|offer| offer.lsn).collect();
            match self.peers.offer(&to, offers).await {
                Ok(answers) => lsns.into_iter().zip(answers).collect(),
                Err(error) => {
                    tracing::debug!(home = %to.home, partition = %to.partition, %error, "offers are not answered");
                    Vec::new()
                }
            }
        });
        futures_util::future::join_all(asked).await.concat()
    }
}
