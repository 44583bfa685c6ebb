//! Cursors on their way into a log: how far its members have received and read it.
//!
//! They are one record together, in the order of what else is done to the log, so none is ever in front of the entry
//! that it names. Nobody waits for them: who has them written looks into the log's state later, and says again what is
//! not there. So they are dropped wherever they find no room, no lease, or the log elsewhere.

use super::{
    Context, Core, Output, PENDING_MAX,
    log::{Item, Log},
    rehoming::Next,
    sequence::Step,
};
use types::{AckPolicy, DeviceCursor, LogId, StateUpdate, limits};

impl Core {
    pub(super) fn admit_cursors(
        &mut self,
        cx: Context,
        id: LogId,
        cursors: Vec<DeviceCursor>,
        out: &mut Vec<Output>,
    ) {
        let may_write = cx.leased() && !self.waiting && !self.rewinding && !self.is_moving();
        if !may_write || self.queued >= PENDING_MAX {
            return;
        }
        let log = self.logs.wake(id, cx.now.boot_ms);
        log.queue.push_back(Item::Cursors(cursors));
        self.queued += 1;
        if log.queue.len() == 1 {
            self.advance(cx, id, out);
        }
    }

    /// Writes those that move something; the log is loaded.
    pub(super) fn cursors_step(
        &mut self,
        cx: Context,
        id: LogId,
        cursors: &[DeviceCursor],
        log: &mut Log,
        out: &mut Vec<Output>,
    ) -> Next<()> {
        let Some(Some(state)) = &log.state else { return Next::Is(()) };
        let moving: Vec<DeviceCursor> = cursors
            .iter()
            .filter(|cursor| state.moves(cursor))
            .take(limits::CURSORS_PER_UPDATE_MAX)
            .cloned()
            .collect();
        if moving.is_empty() {
            return Next::Is(());
        }
        let generation = match self.next_record(log, AckPolicy::Home) {
            Step::Append(generation, _) => generation,
            Step::Need(need) => return Next::Need(need),
            Step::Refuse(_) | Step::Join(..) | Step::Delete(..) => return Next::Is(()),
        };
        let update = StateUpdate::Cursors(moving);
        if let Err(refusal) = self.append_update(cx, id, log, generation, update, out) {
            tracing::error!(log = %id, %refusal, partition = %self.partition, "cursors cannot be written");
        }
        Next::Is(())
    }
}
