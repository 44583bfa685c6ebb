//! Message ids as devices draw them: UUIDs of version 7, each above the one before.

use rand::{Rng as _, rngs::SmallRng};
use uuid::{Builder, Uuid};

/// Ids that one millisecond has room for.
const PER_MS: u16 = 1 << 12;

/// Draws ids for any number of devices; each is above all before it.
#[derive(Debug, Default)]
pub(super) struct MessageIds {
    last_ms: u64,
    next: u16,
}

impl MessageIds {
    /// The next id, at this wall clock time. A clock that went back, or a full millisecond, borrows from
    /// the next one.
    pub(super) fn draw(&mut self, now_ms: u64, random: &mut SmallRng) -> Uuid {
        if now_ms > self.last_ms {
            (self.last_ms, self.next) = (now_ms, 0);
        } else if self.next == PER_MS {
            (self.last_ms, self.next) = (self.last_ms + 1, 0);
        }
        let [high, low] = self.next.to_be_bytes();
        self.next += 1;
        let mut bytes = [high, low, 0, 0, 0, 0, 0, 0, 0, 0];
        random.fill_bytes(&mut bytes[2..]);
        Builder::from_unix_timestamp_millis(self.last_ms, &bytes).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    #[test]
    fn each_id_is_above_the_one_before_whatever_the_clock_does() {
        let (mut ids, mut random) = (MessageIds::default(), SmallRng::seed_from_u64(1));
        let clock = (0..20_000).map(|at| if at % 5_000 == 0 { 1_000 } else { 1_000 + at / 9_000 });
        let drawn: Vec<Uuid> = clock.map(|ms| ids.draw(ms, &mut random)).collect();
        assert!(drawn.is_sorted_by(|a, b| a < b));
        assert!(drawn.iter().all(|id| id.get_version_num() == 7));
    }
}
