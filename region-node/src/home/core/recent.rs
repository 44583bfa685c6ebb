//! The message ids of the newest records, so that most retries are known without asking the store.
//!
//! Invariant: every entry with an LSN above [`Recent::from`] is in here. An answer of the store that was
//! asked for when everything up to `as_of` was durable is therefore complete if `as_of >= from`.

use host::HashMap;
use std::collections::VecDeque;
use types::{BodyHash, DedupKey, LogId, Lsn, Position};

/// How long a message id is kept at least, if there is room, in ms.
const KEEP_MS: u64 = 30_000;

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
    /// What stands up to here was there at that time.
    aged: (Lsn, u64),
}

impl Recent {
    pub(super) fn new(from: Lsn, now_ms: u64) -> Self {
        Self { known: HashMap::default(), order: VecDeque::new(), from, aged: (from, now_ms) }
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
        while self.order.len() > keep && self.forget_first(durable) {}
    }

    /// Time has passed: forgets what has been there for long, but nothing above `durable`.
    pub(super) fn age(&mut self, now_ms: u64, last: Lsn, durable: Lsn) {
        let (old, at_ms) = self.aged;
        if now_ms < at_ms + KEEP_MS {
            return;
        }
        self.aged = (last, now_ms);
        while self.forget_first(durable.min(old)) {}
        if self.order.is_empty() {
            self.order = VecDeque::new();
            self.known = HashMap::default();
        }
    }

    /// Forgets the oldest one, if it is not above `last`.
    fn forget_first(&mut self, last: Lsn) -> bool {
        let first = self.order.pop_front_if(|(lsn, _)| *lsn <= last);
        let Some((lsn, key)) = first else { return false };
        self.known.remove(&key);
        self.from = lsn;
        true
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
        let mut recent = Recent::new(Lsn::new(10), 0);
        for lsn in 11..=20 {
            recent.insert(LOG, key(lsn as u8), known(lsn));
        }
        recent.trim(Lsn::new(13), 2);
        assert_eq!(recent.from(), Lsn::new(13));
        assert!(recent.get(LOG, &key(13)).is_none());
        assert!((14..=20).all(|lsn| recent.get(LOG, &key(lsn)).is_some()));
    }

    #[test]
    fn what_is_old_and_durable_is_forgotten() {
        let mut recent = Recent::new(Lsn::ZERO, 0);
        for lsn in 1..=4 {
            recent.insert(LOG, key(lsn as u8), known(lsn));
        }
        recent.age(KEEP_MS, Lsn::new(4), Lsn::new(4));
        recent.insert(LOG, key(5), known(5));
        recent.age(2 * KEEP_MS - 1, Lsn::new(5), Lsn::new(5));
        assert_eq!(recent.from(), Lsn::ZERO);
        recent.age(2 * KEEP_MS, Lsn::new(5), Lsn::new(3));
        assert_eq!(recent.from(), Lsn::new(3));
        assert!(recent.get(LOG, &key(3)).is_none() && recent.get(LOG, &key(4)).is_some());
        recent.age(3 * KEEP_MS, Lsn::new(5), Lsn::new(5));
        assert_eq!(recent.from(), Lsn::new(5));
    }

    #[test]
    fn what_was_not_written_is_forgotten() {
        let mut recent = Recent::new(Lsn::ZERO, 0);
        for lsn in 1..=4 {
            recent.insert(LOG, key(lsn as u8), known(lsn));
        }
        recent.rewind(Lsn::new(2));
        assert!(recent.get(LOG, &key(2)).is_some());
        assert!(recent.get(LOG, &key(3)).is_none());
    }
}
