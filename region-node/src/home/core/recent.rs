//! The message ids of the newest records, so that most retries are known without asking the store.
//!
//! Invariant: every entry with an LSN above [`Recent::from`] is in here. An answer of the store that was
//! asked for when everything up to `as_of` was durable is therefore complete if `as_of >= from`.

use std::collections::{HashMap, VecDeque};
use types::{BodyHash, DedupKey, LogId, Lsn, Position};

/// What stands under a message id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) lsn: Lsn,
    pub(super) position: Position,
    pub(super) hash: BodyHash,
    pub(super) accepted_at_ms: u64,
}

type Key = (LogId, DedupKey);

/// See the module.
#[derive(Debug)]
pub(super) struct Recent {
    known: HashMap<Key, Known>,
    order: VecDeque<(Lsn, Key)>,
    from: Lsn,
}

impl Recent {
    pub(super) fn new(from: Lsn) -> Self {
        Self { known: HashMap::new(), order: VecDeque::new(), from }
    }

    /// Above which LSN every entry is known.
    pub(super) const fn from(&self) -> Lsn {
        self.from
    }

    pub(super) fn get(&self, log: LogId, key: &DedupKey) -> Option<Known> {
        self.known.get(&(log, key.clone())).copied()
    }

    pub(super) fn insert(&mut self, log: LogId, key: DedupKey, known: Known) {
        self.order.push_back((known.lsn, (log, key.clone())));
        self.known.insert((log, key), known);
    }

    /// Forgets the oldest beyond `keep`, but none above `durable`.
    pub(super) fn trim(&mut self, durable: Lsn, keep: usize) {
        while self.order.len() > keep && self.order.front().is_some_and(|(lsn, _)| *lsn <= durable) {
            if let Some((lsn, key)) = self.order.pop_front() {
                self.known.remove(&key);
                self.from = lsn;
            }
        }
    }

    /// Forgets everything above `end`: it was not written.
    pub(super) fn rewind(&mut self, end: Lsn) {
        while self.order.back().is_some_and(|(lsn, _)| *lsn > end) {
            if let Some((_, key)) = self.order.pop_back() {
                self.known.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{DeviceId, EntryBody, MessageId, UserId};

    const LOG: LogId = LogId::group([1; 16]);

    fn key(number: u8) -> DedupKey {
        DedupKey {
            sender: UserId::new("alice").expect("a valid name"),
            device: DeviceId::new(1),
            message_id: MessageId::from_bytes([number; 16]),
        }
    }

    fn known(lsn: u64) -> Known {
        Known {
            lsn: Lsn::new(lsn),
            position: Position::START,
            hash: EntryBody::Message { ciphertext: bytes::Bytes::new() }.hash(),
            accepted_at_ms: 0,
        }
    }

    #[test]
    fn what_is_not_durable_is_never_forgotten() {
        let mut recent = Recent::new(Lsn::new(10));
        for lsn in 11..=20 {
            recent.insert(LOG, key(lsn as u8), known(lsn));
        }
        recent.trim(Lsn::new(13), 2);
        assert_eq!(recent.from(), Lsn::new(13));
        assert!(recent.get(LOG, &key(13)).is_none());
        assert!((14..=20).all(|lsn| recent.get(LOG, &key(lsn)).is_some()));
    }

    #[test]
    fn what_was_not_written_is_forgotten() {
        let mut recent = Recent::new(Lsn::ZERO);
        for lsn in 1..=4 {
            recent.insert(LOG, key(lsn as u8), known(lsn));
        }
        recent.rewind(Lsn::new(2));
        assert!(recent.get(LOG, &key(2)).is_some());
        assert!(recent.get(LOG, &key(3)).is_none());
    }
}
