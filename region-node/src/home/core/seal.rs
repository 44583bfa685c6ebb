//! The end of an epoch by a planned move.
//!
//! ```text
//!            the row is moving            nothing is under way, no `home` reply is owed
//!   Open ──────────────────────► Finishing ────────────────────────────────────────────► Sealed at an LSN
//!                                    ▲                                                        │
//!                                    └───────────────── the store had no room ────────────────┘
//! ```
//!
//! Invariants:
//! - Once it finishes, nothing is begun: what waits to be sequenced is `NotHome`, and parked by whoever sent it.
//! - SEAL is handed to the store only after the last `home` reply that is owed, and behind it no `home` ack
//!   passes the lease check: the next home need not wait for this one's lease.
//! - Nothing follows SEAL in its epoch.
//!
//! Until the row names the next epoch the home still tells followers what it has, moves the watermark and
//! sends the `replicated` acks that this releases: those stand on no lease. What is owed then is `Moved`.

use super::{Context, Core, Output};
use crate::service::WriteError;
use host::planted::{Bug, is_planted};
use types::{Body, Generation, LogId, Lsn, MoveId, Record, StateUpdate};

/// How far the epoch is on its way to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Sealing {
    /// Nobody wants it to end.
    #[default]
    Open,
    /// What is under way is finished, and nothing is begun.
    Finishing(MoveId),
    /// SEAL was handed to the store.
    Sealed(MoveId, Lsn),
}

impl Core {
    pub(super) fn is_moving(&self) -> bool {
        matches!(self.sealing, Sealing::Finishing(_)) || self.is_sealed()
    }

    pub(super) fn is_sealed(&self) -> bool {
        matches!(self.sealing, Sealing::Sealed(..)) && !is_planted(Bug::ReopenSealedEpoch)
    }

    /// The partition is being moved away: nothing more is begun.
    pub(super) fn finish_for(&mut self, id: MoveId, out: &mut Vec<Output>) {
        if self.sealing != Sealing::Open {
            return;
        }
        self.sealing = Sealing::Finishing(id);
        let not_home = self.not_home(true);
        let error = WriteError::from(not_home.clone());
        let logs: Vec<LogId> = self.logs.iter_mut().map(|(id, _)| id).collect();
        for id in logs {
            self.refuse_queue(id, &error, &not_home, out);
        }
    }

    /// Writes SEAL once nothing is under way and every `home` reply has left.
    pub(super) fn seal_if_finished(&mut self, cx: Context, out: &mut Vec<Output>) {
        let Sealing::Finishing(move_id) = self.sealing else { return };
        let is_finished = self.queued == 0
            && self.writing.is_empty()
            && self.batches == 0
            && self.unreleased.is_empty()
            && self.home_waiters.is_empty();
        if !is_finished || self.rewinding || !cx.leased() {
            return;
        }
        let lsn = self.last.plus(1);
        self.last = lsn;
        self.sealing = Sealing::Sealed(move_id, lsn);
        let record = Record {
            lsn,
            epoch: self.epoch,
            generation: Generation::FIRST,
            log: LogId::partition(),
            accepted_at_ms: cx.now.wall_ms,
            body: Body::Update(StateUpdate::Seal { move_id }),
        };
        self.put(record, out);
        self.flush(out);
    }

    /// What stands behind `end` was not written: if that is SEAL, it is written again.
    pub(super) fn unseal_behind(&mut self, end: Lsn) {
        if let Sealing::Sealed(move_id, lsn) = self.sealing
            && lsn > end
        {
            self.sealing = Sealing::Finishing(move_id);
        }
    }
}
