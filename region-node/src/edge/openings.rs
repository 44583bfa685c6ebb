//! How fast one user may open chats: each costs a row in the directory for good, and a commit.
//!
//! A bucket of tokens per user, filled by time. One that is full again is forgotten; where there are too many of
//! them, the one that was used longest ago is.

use std::collections::{BTreeMap, HashMap};
use types::{Code, Refusal, UserId};

/// Users whose openings are counted at a time.
const USERS_MAX: usize = 65_536;

/// Openings of one user: so many at once, and so many a second after that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) burst: u32,
    pub(crate) per_s: u32,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// When it would have been empty, had nobody taken from it: openings are time that is taken.
    spent_until_ms: u64,
    used: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Openings {
    rate: Rate,
    buckets: HashMap<UserId, Bucket>,
    /// The users by when they opened a chat last.
    used: BTreeMap<u64, UserId>,
    next: u64,
    users_max: usize,
}

impl Openings {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, buckets: HashMap::new(), used: BTreeMap::new(), next: 0, users_max: USERS_MAX }
    }

    /// Counts an opening.
    ///
    /// # Errors
    /// `overloaded`, with the time after which there is room for one.
    pub(crate) fn take(&mut self, user: &UserId, now_ms: u64) -> Result<(), Refusal> {
        let cost_ms = 1_000 / u64::from(self.rate.per_s.max(1));
        let room_ms = cost_ms * u64::from(self.rate.burst.max(1));
        let before = self.buckets.get(user).copied();
        let spent_until_ms = before.map_or(now_ms, |bucket| bucket.spent_until_ms.max(now_ms)) + cost_ms;
        if spent_until_ms > now_ms + room_ms {
            let message = format!("{user} opens chats faster than {} a second", self.rate.per_s);
            let retry_ms = spent_until_ms - now_ms - room_ms;
            metrics::counter!("hearth_edge_openings_refused_total").increment(1);
            return Err(Refusal::new(Code::Overloaded, message).retry_after_ms(retry_ms));
        }
        if let Some(before) = before {
            self.used.remove(&before.used);
        }
        self.next += 1;
        self.used.insert(self.next, user.clone());
        self.buckets.insert(user.clone(), Bucket { spent_until_ms, used: self.next });
        self.forget(now_ms);
        Ok(())
    }

    fn forget(&mut self, now_ms: u64) {
        while let Some((used, user)) = self.used.first_key_value() {
            let is_full = self.buckets.get(user).is_none_or(|bucket| bucket.spent_until_ms <= now_ms);
            if !is_full && self.buckets.len() <= self.users_max {
                return;
            }
            let (used, user) = (*used, user.clone());
            self.used.remove(&used);
            self.buckets.remove(&user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(number: u32) -> UserId {
        UserId::new(&format!("user-{number}")).expect("a valid name")
    }

    fn openings() -> Openings {
        Openings { users_max: 3, ..Openings::new(Rate { burst: 5, per_s: 10 }) }
    }

    #[test]
    fn a_burst_is_let_through_and_then_so_many_a_second() {
        let mut openings = openings();
        let opened = |openings: &mut Openings, now_ms| {
            (0..100).filter(|_| openings.take(&user(1), now_ms).is_ok()).count()
        };
        assert_eq!(opened(&mut openings, 1_000), 5);
        let refusal = openings.take(&user(1), 1_050).expect_err("there is no room yet");
        assert_eq!((refusal.code, refusal.retry_after_ms), (Code::Overloaded, Some(50)));
        assert_eq!(opened(&mut openings, 1_300), 3);
        assert_eq!(openings.take(&user(2), 1_300), Ok(()), "another user has a bucket of their own");
        assert_eq!(opened(&mut openings, 60_000), 5);
    }

    #[test]
    fn only_so_many_users_are_counted() {
        let mut openings = openings();
        for number in 0..100 {
            assert_eq!(openings.take(&user(number), 1_000), Ok(()));
        }
        assert_eq!((openings.buckets.len(), openings.used.len()), (3, 3));
        assert_eq!(openings.take(&user(99), 2_000), Ok(()));
        assert_eq!((openings.buckets.len(), openings.used.len()), (1, 1), "what is full again is forgotten");
    }
}
