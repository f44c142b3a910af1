//! The only randomness of the engine itself: seeds for requests that bring none, and made-up names.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use maitre_scheduler::HashKey;

/// A stream of seeds that differs between processes.
#[derive(Debug)]
pub(crate) struct Seeds {
    base: u64,
    drawn: AtomicU64,
}

impl Seeds {
    /// Seeds itself from the operating system, by way of the standard library's hash keys.
    pub(crate) fn from_entropy() -> Self {
        Self {
            base: RandomState::new().hash_one("maitre"),
            drawn: AtomicU64::new(0),
        }
    }

    /// A secret for the block hashes, from the same source.
    pub(crate) fn hash_key() -> HashKey {
        let mut key = [0; 32];
        for part in key.chunks_exact_mut(8) {
            part.copy_from_slice(&RandomState::new().hash_one("block hashes").to_le_bytes());
        }
        HashKey(key)
    }

    pub(crate) fn next(&self) -> u64 {
        let drawn = self.drawn.fetch_add(1, Ordering::Relaxed);
        mix(self.base.wrapping_add(drawn.wrapping_mul(GOLDEN)))
    }

    /// The seed of answer `index` to a request with this seed; answer 0 has the request's own.
    pub(crate) fn of_answer(seed: u64, index: u32) -> u64 {
        if index == 0 {
            seed
        } else {
            mix(seed.wrapping_add(u64::from(index).wrapping_mul(GOLDEN)))
        }
    }

    /// A name for a request that brings none.
    pub(crate) fn request_id(&self, key: u64) -> String {
        format!("req-{:016x}", mix(self.base ^ key.wrapping_mul(GOLDEN)))
    }
}

/// 2^64 divided by the golden ratio: successive multiples are spread evenly (Steele, Lea, Flood
/// 2014, "Fast splittable pseudorandom number generators", section 4).
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// SplitMix64's finalizer (same paper, figure 14): a bijection, so distinct inputs stay distinct.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_names_and_answers_are_distinct() {
        let seeds = Seeds::from_entropy();
        let drawn: std::collections::HashSet<u64> = (0..1000).map(|_| seeds.next()).collect();
        assert_eq!(drawn.len(), 1000);
        let names: std::collections::HashSet<String> =
            (0..1000).map(|key| seeds.request_id(key)).collect();
        assert_eq!(names.len(), 1000);
        assert_eq!(Seeds::of_answer(7, 0), 7);
        assert_ne!(Seeds::of_answer(7, 1), Seeds::of_answer(7, 2));
    }
}
