//! How fast one user may open chats: each costs a row in the directory for good, and a commit.

use crate::rates::{Pace, Rates};
use types::{Code, Refusal, UserId};

/// Users whose openings are counted at a time.
const USERS_MAX: usize = 65_536;

/// Openings of one user: so many at once, and so many a second after that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) burst: u32,
    pub(crate) per_s: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Openings {
    rate: Rate,
    rates: Rates<UserId>,
}

impl Openings {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, rates: Rates::new(USERS_MAX) }
    }

    /// Counts an opening.
    ///
    /// # Errors
    /// `rate_limited`, with the time after which there is room for one.
    pub(crate) fn take(&mut self, user: &UserId, now_ms: u64) -> Result<(), Refusal> {
        let pace = Pace { burst: self.rate.burst, every_ms: 1_000 / u64::from(self.rate.per_s.max(1)) };
        self.rates.take(user, pace, now_ms).map_err(|retry_ms| {
            let message = format!("{user} opens chats faster than {} a second", self.rate.per_s);
            metrics::counter!("hearth_edge_openings_refused_total").increment(1);
            Refusal::new(Code::RateLimited, message).retry_after_ms(retry_ms)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_let_through_and_then_so_many_a_second() {
        let mut openings = Openings::new(Rate { burst: 5, per_s: 10 });
        let user = UserId::new("ann").expect("a valid name");
        let opened = (0..100).filter(|_| openings.take(&user, 1_000).is_ok()).count();
        assert_eq!(opened, 5);
        let refusal = openings.take(&user, 1_050).expect_err("there is no room yet");
        assert_eq!((refusal.code, refusal.retry_after_ms), (Code::RateLimited, Some(50)));
    }
}
