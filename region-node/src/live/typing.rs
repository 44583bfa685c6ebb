//! How often somebody may say that they are typing.

use host::HashMap;
use types::{DeviceId, LogId, UserId};

/// For how long it holds that somebody is typing, in ms.
pub(crate) const TTL_MS: u32 = 5_000;
/// How often a device says so of one log at most, in ms.
pub(super) const EVERY_MS: u64 = 2_000;
/// Those who are typing at a time, of all logs together; what is over is dropped.
const TYPING_MAX: usize = 65_536;

/// When each device said so last.
#[derive(Debug, Default)]
pub(super) struct Pace(HashMap<(LogId, UserId, DeviceId), u64>);

impl Pace {
    /// Whether it may be said now; if so, it was.
    pub(super) fn take(&mut self, now_ms: u64, log: LogId, user: &UserId, device: DeviceId) -> bool {
        if self.0.len() >= TYPING_MAX {
            self.0.retain(|_, said_ms| now_ms < *said_ms + EVERY_MS);
        }
        let is_full = self.0.len() >= TYPING_MAX;
        let key = (log, user.clone(), device);
        match self.0.get_mut(&key) {
            Some(said_ms) if now_ms < *said_ms + EVERY_MS => false,
            Some(said_ms) => {
                *said_ms = now_ms;
                true
            }
            None if is_full => false,
            None => {
                self.0.insert(key, now_ms);
                true
            }
        }
    }

    /// Forgets those who have said nothing for a while.
    pub(super) fn forget(&mut self, now_ms: u64) {
        self.0.retain(|_, said_ms| now_ms < *said_ms + EVERY_MS);
    }

    /// Whether nobody is typing.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop, prop_assert, proptest};

    fn user(number: u8) -> UserId {
        UserId::new(&format!("user{number}")).expect("a valid name")
    }

    #[test]
    fn what_is_over_the_bound_is_dropped_until_others_are_silent() {
        let mut pace = Pace::default();
        let log = |number: u32| {
            let mut key = [0; 16];
            key[..4].copy_from_slice(&number.to_be_bytes());
            LogId::group(key)
        };
        for number in 0..TYPING_MAX as u32 {
            assert!(pace.take(0, log(number), &user(0), DeviceId::new(1)));
        }
        assert!(!pace.take(EVERY_MS - 1, log(u32::MAX), &user(0), DeviceId::new(1)));
        assert!(pace.take(EVERY_MS, log(u32::MAX), &user(0), DeviceId::new(1)));
        assert_eq!(pace.0.len(), 1);
    }

    proptest! {
        #[test]
        fn a_device_says_it_at_most_once_in_two_seconds_and_never_waits_longer(
            tries in prop::collection::vec((0_u64..1_500, 0_u8..2, 0_u64..2), 0..100),
        ) {
            let mut pace = Pace::default();
            let mut last = std::collections::HashMap::new();
            let mut now_ms = 0;
            for (after_ms, number, device) in tries {
                now_ms += after_ms;
                let is_due = last.get(&(number, device)).is_none_or(|said_ms| now_ms >= said_ms + EVERY_MS);
                let is_said = pace.take(now_ms, LogId::group([1; 16]), &user(number), DeviceId::new(device));
                prop_assert!(is_said == is_due);
                if is_said {
                    last.insert((number, device), now_ms);
                }
                if now_ms % 7 == 0 {
                    pace.forget(now_ms);
                }
            }
        }
    }
}
