//! Random ids, and where to begin when many must not begin together.

use crate::{clock, machine::installed};
use rand::RngExt as _;
use uuid::{Builder, Uuid};

/// So many random bytes.
pub fn bytes<const COUNT: usize>() -> [u8; COUNT] {
    let mut bytes = [0; COUNT];
    match installed() {
        Some(machine) => machine.fill(&mut bytes),
        None => rand::rng().fill(&mut bytes),
    }
    bytes
}

/// A random number.
pub fn number() -> u64 {
    u64::from_ne_bytes(bytes())
}

/// A random number in 0..1.
pub fn fraction() -> f64 {
    const STEPS: u64 = 1 << 53;
    (number() % STEPS) as f64 / STEPS as f64
}

/// An id that nobody else draws.
pub fn id() -> Uuid {
    Builder::from_random_bytes(bytes()).into_uuid()
}

/// An id that nobody else draws; those drawn later stand behind it, to the ms (UUID version 7).
pub fn id_in_time() -> Uuid {
    Builder::from_unix_timestamp_millis(clock::wall_ms(), &bytes()).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_of_their_versions_and_differ() {
        assert_eq!((id().get_version_num(), id_in_time().get_version_num()), (4, 7));
        assert_ne!(id(), id());
        assert_ne!(id_in_time(), id_in_time());
    }

    #[test]
    fn fractions_lie_below_one() {
        assert!((0..1_000).all(|_| (0.0..1.0).contains(&fraction())));
    }
}
