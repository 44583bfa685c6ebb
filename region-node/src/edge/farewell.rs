//! Clients are sent elsewhere: this node goes down, or its region is drained.
//!
//! ```text
//!   node goes down ─▶ no new sessions ─▶ goAway to each ─▶ they leave, spread over a time ─▶ those left are closed
//!   region drains ───────────────────▶ goAway to each ─▶ they leave; one that stays is served on
//! ```
//!
//! A session that was sent away works on as before until its client leaves: what it has asked is answered.
//! Each is told when to go, so that the crowd does not arrive elsewhere at once, and where to: the other nodes
//! of the region first, in an order that spreads the sessions over them.

use super::Edge;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use types::{NodeRow, Placement, RegionId, RegionStatus, Retirement};

/// Addresses that a client is told.
const ADDRESSES_MAX: usize = 8;
/// The time over which sessions leave grows by this with each, up to half of what they have.
const SPREAD_PER_SESSION: Duration = Duration::from_millis(2);

/// What one session is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Farewell {
    /// When to go.
    pub(crate) after: Duration,
    /// By when to have gone.
    pub(crate) within: Duration,
    pub(crate) reason: &'static str,
    /// Where to, the best first.
    pub(crate) addresses: Vec<String>,
}

impl Edge {
    /// Sends all sessions elsewhere and waits until they have gone, or the time for it is over. New ones are
    /// refused from now on. Where there is no other node, nothing is waited for.
    pub(crate) async fn leave(&self) {
        let parts = &self.0.parts;
        parts.readiness.leave();
        if !has_successor(&parts.view.load(), parts.config.node.as_str()) {
            return;
        }
        let within = Duration::from_millis(parts.config.drain_ms);
        let deadline = Instant::now() + within;
        tracing::info!(node = %parts.config.node, sessions = self.sessions(), "sends its sessions elsewhere");
        self.send_away(within, "the node is going down", false);
        while self.sessions() > 0 {
            let emptied = self.0.emptied.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            if self.sessions() == 0 {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if timeout(left, emptied).await.is_err() {
                break;
            }
        }
        tracing::info!(node = %parts.config.node, sessions = self.sessions(), "its sessions have left");
    }

    /// Sends the sessions elsewhere once, each time that the region begins to be drained.
    pub(super) async fn follow_drains(self, shutdown: CancellationToken) {
        let region = self.0.parts.config.region.clone();
        let mut versions = self.0.parts.view.versions();
        let mut was_drained = false;
        loop {
            let is_drained = is_drained(&self.0.parts.view.load(), &region);
            if is_drained && !was_drained {
                let within = Duration::from_millis(self.0.parts.config.drain_ms);
                tracing::info!(%region, sessions = self.sessions(), "the region is drained");
                self.send_away(within, "the region is being drained", true);
            }
            was_drained = is_drained;
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = versions.changed() => if changed.is_err() { return },
            }
        }
    }

    fn send_away(&self, within: Duration, reason: &'static str, out_of_region: bool) {
        let sessions = u32::try_from(self.sessions()).unwrap_or(u32::MAX);
        let spread = (SPREAD_PER_SESSION * sessions).min(within / 2);
        let (near, far) = self.addresses(out_of_region);
        let mut turn = 0;
        self.0.delivery.send_away(|| {
            turn += 1;
            let mut addresses = near.clone();
            if !addresses.is_empty() {
                let first = turn % addresses.len();
                addresses.rotate_left(first);
            }
            addresses.extend(far.iter().cloned());
            addresses.truncate(ADDRESSES_MAX);
            let after = spread.mul_f64(host::random::fraction());
            Arc::new(Farewell { after, within, reason, addresses })
        });
    }

    /// Where the clients of this node may go: in its region, and elsewhere.
    fn addresses(&self, out_of_region: bool) -> (Vec<String>, Vec<String>) {
        let config = &self.0.parts.config;
        let placement = self.0.parts.view.load();
        let (mut near, mut far) = (Vec::new(), Vec::new());
        for (node, url) in &config.client_urls {
            let Some(row) = placement.node(node).filter(|row| takes_sessions(&placement, row)) else {
                continue;
            };
            // One that cannot be reached from here is no advice.
            if *node == config.node || self.0.router.peers().channel(node).is_none() {
                continue;
            }
            match row.region == config.region {
                true if !out_of_region => near.push(url.clone()),
                true => {}
                false => far.push(url.clone()),
            }
        }
        (near, far)
    }
}

fn takes_sessions(placement: &Placement, row: &NodeRow) -> bool {
    row.live && row.retirement == Retirement::Serving && !is_drained(placement, &row.region)
}

fn has_successor(placement: &Placement, me: &str) -> bool {
    placement.nodes().any(|row| row.live && row.node.as_str() != me)
}

fn is_drained(placement: &Placement, region: &RegionId) -> bool {
    placement.region(region).is_some_and(|row| row.status == RegionStatus::Draining)
}
