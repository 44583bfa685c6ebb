//! What an app keeps to go on after a restart: where it stands in each chat, and its outbox.

use super::{LogSession, SessionCore, Timeline, outbox::State};
use crate::{EntryKey, Position};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use types::{LogId, MessageId};

/// A session at one moment. Restoring it resends the outbox under the same message ids, so that a message
/// which reached its chat is not written again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The chats that are followed.
    pub logs: Vec<LogSnapshot>,
    /// The messages that are not replicated, in the order of each chat.
    pub outbox: Vec<MessageSnapshot>,
}

/// Where the app stands in one chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSnapshot {
    /// The chat.
    pub log: LogId,
    /// Offsets and positions that the app had, ascending, at growing distances from the last one, which is
    /// where it stands. After a failover the earlier ones find what is still common.
    pub positions: Vec<(u64, Position)>,
    /// Entries that the app had, that a failover undid, and that have not returned.
    #[serde(default)]
    pub undone: Vec<EntryKey>,
}

/// A message that is not replicated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageSnapshot {
    /// Its chat.
    pub log: LogId,
    /// Its id.
    pub message_id: MessageId,
    /// Its body.
    pub body: Vec<u8>,
}

impl SessionCore {
    /// What to keep. Take it after the events so far are stored: an entry that was told and is not stored is
    /// not told again.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for log in self.logs.values() {
            if let Some(timeline) = &log.timeline
                && !log.closing
            {
                snapshot.logs.push(LogSnapshot {
                    log: log.id,
                    positions: timeline.checkpoints(),
                    undone: timeline.undone(),
                });
            }
            let kept = log.outbox.messages().filter(|message| !matches!(message.state, State::Over { .. }));
            snapshot.outbox.extend(kept.map(|message| MessageSnapshot {
                log: log.id,
                message_id: message.id,
                body: message.body.to_vec(),
            }));
        }
        snapshot.logs.sort_by_key(|log| log.log);
        // The sort is stable: the messages of one chat stay in their order.
        snapshot.outbox.sort_by_key(|message| message.log);
        snapshot
    }

    pub(super) fn restore(&mut self, snapshot: Snapshot) {
        let entries_max = self.config.bounds.timeline_entries;
        let mut logs: HashMap<LogId, LogSession> = snapshot
            .logs
            .into_iter()
            .map(|kept| {
                let timeline = Timeline::restore(kept.positions, kept.undone, entries_max);
                (kept.log, LogSession::new(kept.log, Some(timeline)))
            })
            .collect();
        for kept in snapshot.outbox {
            let log = logs.entry(kept.log).or_insert(LogSession::new(kept.log, None));
            self.outbox_messages += 1;
            self.outbox_bytes += kept.body.len();
            log.outbox.push(kept.message_id, Bytes::from(kept.body));
            if !log.listed {
                log.listed = true;
                self.ready.push_back(kept.log);
            }
        }
        self.logs = logs;
    }
}
