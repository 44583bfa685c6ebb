//! What an app keeps to go on after a restart: where it stands in each chat, and its outbox.

use super::{LogSession, SessionCore, Timeline, outbox::State};
use crate::{EntryKey, Message, Position, Reference};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use types::{LogId, MessageId, chat::MessageKind};

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
    /// Its kind, by name; empty: a text.
    #[serde(default)]
    pub kind: String,
    /// What it refers to.
    #[serde(default)]
    pub refers_to: Option<Reference>,
}

impl MessageSnapshot {
    pub(crate) fn new(log: LogId, message_id: MessageId, message: &Message) -> Self {
        let Message { kind, refers_to, body } = message;
        let kind =
            if *kind == MessageKind::Text { String::new() } else { proto::kind_name(*kind).to_owned() };
        Self { log, message_id, body: body.to_vec(), kind, refers_to: refers_to.clone() }
    }

    /// What the app has written.
    pub fn message(&self) -> Message {
        let kind = proto::parse_kind("kind", &self.kind).unwrap_or_default();
        Message { kind, refers_to: self.refers_to.clone(), body: self.body.clone().into() }
    }
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
            let kept = kept.map(|message| MessageSnapshot::new(log.id, message.id, &message.content));
            snapshot.outbox.extend(kept);
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
            log.outbox.push(kept.message_id, kept.message());
            if !log.listed {
                log.listed = true;
                self.ready.push_back(kept.log);
            }
        }
        self.logs = logs;
    }
}
