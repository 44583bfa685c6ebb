//! Rendezvous hashing: everyone who weighs the same candidates for a key picks the same one, and a
//! candidate that comes or goes moves only what it wins or held.

use xxhash_rust::xxh3::Xxh3;

/// How much `candidate` weighs for `key`; the heaviest one is picked.
pub(crate) fn weight(key: &[u8], candidate: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&(key.len() as u64).to_be_bytes());
    hash.update(key);
    hash.update(candidate);
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::weight;

    #[test]
    fn keys_spread_evenly_and_move_only_to_a_newcomer() {
        let pick = |key: u32, candidates: u32| {
            (0..candidates).max_by_key(|it| weight(&key.to_be_bytes(), &it.to_be_bytes())).expect("some")
        };
        let mut counts = [0u32; 8];
        for key in 0..8_000 {
            let before = pick(key, 7);
            let after = pick(key, 8);
            assert!(after == before || after == 7, "key {key} moved from {before} to {after}");
            counts[after as usize] += 1;
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }
}
