//! The logs of a partition that its home has in memory.
//!
//! ```text
//!            write, or somebody follows it            nothing for a while, and the store tells all of it
//!   unknown ───────────────────────────────► in use ───────────────────────────────────────────────────► resting
//!      ▲                                       ▲ │                                      (somebody follows it) │
//!      └───────────────────────────────────────┼─┴── (nobody does)                                            │
//!                                              └────────────────────── write ─────────────────────────────────┘
//! ```
//!
//! Of a log that rests only its [`Place`] is kept: where it was published, so that a subscription is answered and
//! the next entry is published behind the right one. Many more logs are followed than written to.

use super::log::{Log, Place};
use host::HashMap;
use std::collections::VecDeque;
use types::{LogId, Lsn};

/// Logs of a partition that may be in use, if they can rest.
const USED_MAX: usize = 16_384;
/// How long nothing is written to a log until it rests, in ms.
const REST_MS: u64 = 30_000;
/// How often a log in use is looked at, in ms.
const LOOK_MS: u64 = 5_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Logs {
    used: HashMap<LogId, Box<Log>>,
    resting: HashMap<LogId, Place>,
    /// Each log in use, and when it is looked at again; the earliest first.
    looks: VecDeque<(u64, LogId)>,
}

impl Logs {
    /// A log that is in use.
    pub(super) fn get_mut(&mut self, id: LogId) -> Option<&mut Log> {
        self.used.get_mut(&id).map(Box::as_mut)
    }

    /// The log, which is in use from now on.
    pub(super) fn wake(&mut self, id: LogId, now_ms: u64) -> &mut Log {
        let Self { used, resting, looks } = self;
        used.entry(id).or_insert_with(|| {
            looks.push_back((now_ms + LOOK_MS, id));
            let place = resting.remove(&id);
            Box::new(Log { followed: place.is_some(), place: place.unwrap_or_default(), ..Log::default() })
        })
    }

    /// Takes a log in use out, to be put back by [`Logs::put`].
    pub(super) fn take(&mut self, id: LogId) -> Option<Box<Log>> {
        self.used.remove(&id)
    }

    /// Puts back what was taken out.
    pub(super) fn put(&mut self, id: LogId, log: Box<Log>) {
        self.used.insert(id, log);
    }

    /// The place of a log, and whether it is followed.
    pub(super) fn place_mut(&mut self, id: LogId) -> Option<(&mut Place, bool)> {
        match self.used.get_mut(&id) {
            Some(log) => Some((&mut log.place, log.followed)),
            None => self.resting.get_mut(&id).map(|place| (place, true)),
        }
    }

    /// The place of a log that rests.
    pub(super) fn resting(&self, id: LogId) -> Option<&Place> {
        self.resting.get(&id)
    }

    /// Nobody follows the log any more.
    pub(super) fn unfollow(&mut self, id: LogId) {
        self.resting.remove(&id);
        if let Some(log) = self.used.get_mut(&id) {
            log.followed = false;
        }
    }

    /// The logs in use.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (LogId, &mut Log)> {
        self.used.iter_mut().map(|(id, log)| (*id, log.as_mut()))
    }

    /// Lets logs rest that were not written to for a while, up to what is released: then the store tells
    /// everything about them.
    pub(super) fn rest(&mut self, now_ms: u64, released: Lsn) {
        let target = if self.used.len() > USED_MAX { USED_MAX / 2 } else { self.used.len() };
        for _ in 0..self.looks.len() {
            let is_crowded = self.used.len() > target;
            let Some((_, id)) = self.looks.pop_front_if(|(at_ms, _)| is_crowded || *at_ms <= now_ms) else {
                break;
            };
            let Some(log) = self.used.get(&id) else { continue };
            if !log.can_rest(released) || (!is_crowded && now_ms < log.written_ms + REST_MS) {
                self.looks.push_back((now_ms + LOOK_MS, id));
                continue;
            }
            if let Some(log) = self.used.remove(&id).filter(|log| log.followed) {
                self.resting.insert(id, log.place);
            }
        }
        if self.used.capacity() > 4 * self.used.len().max(LEAST_CAPACITY) {
            self.used.shrink_to(2 * self.used.len());
            self.looks.shrink_to(2 * self.looks.len());
        }
    }
}

/// Below this many places a table is never made smaller.
const LEAST_CAPACITY: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use types::{Epoch, Generation, Offset, Position};

    fn id(number: u32) -> LogId {
        let mut key = [0; 16];
        key[..4].copy_from_slice(&number.to_be_bytes());
        LogId::group(key)
    }

    fn at(offset: u64) -> Position {
        Position::new(Generation::FIRST, Epoch::FIRST, Offset::new(offset))
    }

    fn use_log(logs: &mut Logs, number: u32, now_ms: u64, followed: bool) {
        let log = logs.wake(id(number), now_ms);
        (log.state, log.written_ms, log.followed) = (Some(None), now_ms, followed);
        log.place.published = Some(at(u64::from(number)));
    }

    #[test]
    fn a_followed_log_rests_and_keeps_its_place() {
        let mut logs = Logs::default();
        use_log(&mut logs, 1, 0, true);
        use_log(&mut logs, 2, 0, false);
        logs.rest(REST_MS - 1, Lsn::ZERO);
        assert_eq!(logs.used.len(), 2);
        logs.rest(REST_MS + LOOK_MS, Lsn::ZERO);
        assert!(logs.used.is_empty() && logs.looks.is_empty());
        assert_eq!(logs.resting.len(), 1);
        let log = logs.wake(id(1), REST_MS);
        assert!(log.followed && log.state.is_none());
        assert_eq!(log.place.published, Some(at(1)));
        assert!(logs.resting.is_empty());
    }

    #[test]
    fn what_is_not_released_or_still_being_loaded_stays() {
        let mut logs = Logs::default();
        use_log(&mut logs, 1, 0, true);
        logs.wake(id(1), 0).state = None;
        for round in 1..20 {
            logs.rest(round * REST_MS, Lsn::ZERO);
        }
        assert_eq!((logs.used.len(), logs.looks.len()), (1, 1));
    }

    #[test]
    fn a_crowd_rests_at_once_oldest_first() {
        let mut logs = Logs::default();
        for number in 0..=USED_MAX as u32 {
            use_log(&mut logs, number, 0, true);
        }
        logs.rest(0, Lsn::ZERO);
        assert_eq!(logs.used.len(), USED_MAX / 2);
        assert!(logs.resting(id(0)).is_some() && logs.resting(id(USED_MAX as u32)).is_none());
        assert_eq!(logs.used.len(), logs.looks.len());
    }
}
