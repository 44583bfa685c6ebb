//! What the app of a kept client has been told: a fold of its events, in their order.
//!
//! It stands on the app's side of the queue of events. So it is never ahead of what the app has taken, and what
//! it says is committed only when the app confirms that.

use super::Change;
use crate::{Event, SendError, Snapshot, session::Timeline};
use std::collections::{BTreeSet, HashMap};
use types::{LogId, MessageId};

/// Where the app stands after the events that it has taken.
#[derive(Debug)]
pub(crate) struct Ledger {
    entries_max: usize,
    logs: HashMap<LogId, Standing>,
    /// What changed since the last [`Ledger::changes`].
    moved: BTreeSet<LogId>,
    others: Vec<Change>,
}

#[derive(Debug)]
struct Standing {
    timeline: Timeline,
    undone_changed: bool,
}

impl Ledger {
    /// The ledger of an app that stands where the snapshot does.
    pub(crate) fn new(snapshot: &Snapshot, entries_max: usize) -> Self {
        let standing = |kept: &crate::session::LogSnapshot| {
            let timeline = Timeline::restore(kept.positions.clone(), kept.undone.clone(), entries_max);
            (kept.log, Standing { timeline, undone_changed: false })
        };
        Self {
            entries_max,
            logs: snapshot.logs.iter().map(standing).collect(),
            moved: BTreeSet::new(),
            others: Vec::new(),
        }
    }

    /// Takes in what the app is told.
    pub(crate) fn hear(&mut self, event: &Event) {
        match event {
            Event::Following { log, position, offset } => {
                if self.logs.get(log).is_some_and(|known| known.timeline.end_position() == position) {
                    return;
                }
                let timeline = Timeline::new(*offset, position.clone(), self.entries_max);
                self.logs.insert(*log, Standing { timeline, undone_changed: true });
                self.moved.insert(*log);
            }
            Event::Entry { log, entry } | Event::Moved { log, entry } => {
                if let Some(standing) = self.logs.get_mut(log) {
                    standing.timeline.take(entry);
                    standing.undone_changed |= matches!(event, Event::Moved { .. });
                    self.moved.insert(*log);
                }
            }
            Event::Diverged { log, common_offset, .. } => {
                if let Some(standing) = self.logs.get_mut(log) {
                    standing.timeline.cut_to(*common_offset);
                    standing.undone_changed = true;
                    self.moved.insert(*log);
                }
            }
            Event::ReplicatedUpTo { log, offset } => {
                if let Some(Standing { timeline, .. }) = self.logs.get_mut(log)
                    && let Some(position) = timeline.at(*offset).cloned()
                {
                    timeline.replicate(position, *offset);
                }
            }
            Event::Unfollowed { log, .. } => {
                self.logs.remove(log);
                self.moved.remove(log);
                self.others.push(Change::Unfollow { log: *log });
            }
            Event::Replicated { log, message_id, .. } | Event::Home { log, message_id, last: true, .. } => {
                self.settle(*log, *message_id);
            }
            // The chat said no. Where the session ended, or nothing could be kept, nothing was said of the message.
            Event::Failed {
                error: SendError::Closed | SendError::Ended(_) | SendError::NotKept(_), ..
            } => {}
            Event::Failed { log, message_id, .. } => self.settle(*log, *message_id),
            Event::Connected { .. }
            | Event::Disconnected { .. }
            | Event::Receipts { .. }
            | Event::Presence(_)
            | Event::Typing { .. }
            | Event::Accepted { .. }
            | Event::Home { .. }
            | Event::Ended { .. } => {}
        }
    }

    fn settle(&mut self, log: LogId, message_id: MessageId) {
        self.others.push(Change::Settle { log, message_id });
    }

    /// What is to be kept of the events since the last call.
    pub(crate) fn changes(&mut self) -> Vec<Change> {
        let mut changes = std::mem::take(&mut self.others);
        for log in std::mem::take(&mut self.moved) {
            let Some(standing) = self.logs.get_mut(&log) else { continue };
            let undone_changed = std::mem::take(&mut standing.undone_changed);
            changes.push(Change::Stand {
                log,
                positions: standing.timeline.checkpoints(),
                undone: undone_changed.then(|| standing.timeline.undone()),
            });
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Entry, EntryBody, Position};
    use types::{DeviceId, UserId};

    const LOG: LogId = LogId::group([1; 16]);

    fn entry(era: &str, offset: u64, id: u8) -> Entry {
        Entry {
            position: format!("{era}.{offset}").into(),
            offset,
            sender: UserId::new("bob").expect("a valid name"),
            device: DeviceId::new(1),
            message_id: MessageId::from_bytes([id; 16]),
            accepted_at_ms: 0,
            expires_at_ms: None,
            salvaged: false,
            kind: types::chat::MessageKind::Text,
            refers_to: None,
            body: EntryBody::Erased,
        }
    }

    #[test]
    fn what_was_taken_back_is_kept_until_it_returns() {
        let mut ledger = Ledger::new(&Snapshot::default(), 64);
        ledger.hear(&Event::Following { log: LOG, position: Position::start(), offset: 0 });
        let read = [entry("a", 1, 1), entry("a", 2, 2), entry("a", 3, 3)];
        read.iter().for_each(|entry| ledger.hear(&Event::Entry { log: LOG, entry: entry.clone() }));
        let undone = vec![read[1].message_id, read[2].message_id];
        ledger.hear(&Event::Diverged { log: LOG, common_offset: 1, undone, forgotten: false });
        ledger.hear(&Event::Following { log: LOG, position: "a.1".into(), offset: 1 });
        ledger.hear(&Event::Moved { log: LOG, entry: entry("b", 2, 3) });
        let [Change::Stand { positions, undone, .. }] = &ledger.changes()[..] else { panic!("it stands") };
        let ends = &positions[positions.len() - 2..];
        assert_eq!(ends, [(1, "a.1".into()), (2, "b.2".into())]);
        assert_eq!(undone.as_deref(), Some(&[read[1].key()][..]));
        assert_eq!(ledger.changes(), [], "nothing is new");
    }
}
