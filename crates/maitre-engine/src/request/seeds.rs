//! The only randomness of the engine itself: seeds for requests that bring none, made-up names, and the
//! key of the block hashes.
//!
//! A caller sees the names of its own requests and can recover the seed of an answer from its tokens. Neither
//! may tell it anything of another caller's. So seeds and names are keyed hashes (BLAKE3's keyed mode, a
//! pseudo-random function) of a counter, each under a key of its own that the operating system drew.

use std::sync::atomic::{AtomicU64, Ordering};

use maitre_scheduler::HashKey;

use crate::StartError;

/// Seeds and names that differ between processes and follow from nothing that a caller sees.
pub(crate) struct Seeds {
    seed_key: [u8; 32],
    name_key: [u8; 32],
    drawn: AtomicU64,
}

impl std::fmt::Debug for Seeds {
    /// Does not tell the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seeds(..)")
    }
}

impl Seeds {
    /// Keys from the operating system.
    ///
    /// # Errors
    /// [`StartError::NoRandomness`] where the system has none to give.
    pub(crate) fn from_entropy() -> Result<Self, StartError> {
        Ok(Self::with_keys(random_key()?, random_key()?))
    }

    fn with_keys(seed_key: [u8; 32], name_key: [u8; 32]) -> Self {
        Self {
            seed_key,
            name_key,
            drawn: AtomicU64::new(0),
        }
    }

    /// A secret for the block hashes, from the same source.
    pub(crate) fn hash_key() -> Result<HashKey, StartError> {
        random_key().map(HashKey::Secret)
    }

    /// The seed of a request that brings none.
    pub(crate) fn next(&self) -> u64 {
        let drawn = self.drawn.fetch_add(1, Ordering::Relaxed);
        keyed(&self.seed_key, drawn) as u64
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
        format!("req-{:032x}", keyed(&self.name_key, key))
    }
}

fn random_key() -> Result<[u8; 32], StartError> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| StartError::NoRandomness {
        reason: error.to_string(),
    })?;
    Ok(key)
}

/// The first 128 bits of the keyed hash of `counter`.
fn keyed(key: &[u8; 32], counter: u64) -> u128 {
    let hash = blake3::keyed_hash(key, &counter.to_le_bytes());
    let mut first = [0; 16];
    first.copy_from_slice(&hash.as_bytes()[..16]);
    u128::from_le_bytes(first)
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
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn seeds_names_and_answers_are_distinct() {
        let seeds = Seeds::from_entropy().unwrap();
        let drawn: HashSet<u64> = (0..1000).map(|_| seeds.next()).collect();
        assert_eq!(drawn.len(), 1000);
        let names: HashSet<String> = (0..1000).map(|key| seeds.request_id(key)).collect();
        assert_eq!(names.len(), 1000);
        assert_eq!(Seeds::of_answer(7, 0), 7);
        assert_ne!(Seeds::of_answer(7, 1), Seeds::of_answer(7, 2));
    }

    /// Names and seeds come from keys that share nothing: with one key known, the other's values stay.
    #[test]
    fn names_and_seeds_have_keys_of_their_own() {
        let names = |seeds: &Seeds| (0..4).map(|key| seeds.request_id(key)).collect::<Vec<_>>();
        let drawn = |seeds: &Seeds| (0..4).map(|_| seeds.next()).collect::<Vec<_>>();
        let (a, b) = ([1; 32], [2; 32]);
        let one = Seeds::with_keys(a, a);
        assert_eq!(names(&one), names(&Seeds::with_keys(b, a)));
        assert_ne!(names(&one), names(&Seeds::with_keys(a, b)));
        assert_eq!(drawn(&one), drawn(&Seeds::with_keys(a, b)));
        assert_ne!(
            drawn(&Seeds::with_keys(a, a)),
            drawn(&Seeds::with_keys(b, a))
        );
    }

    /// The attack that once worked: SplitMix64's finalizer was undone and the next name followed.
    #[test]
    fn a_name_does_not_tell_the_next() {
        let seeds = Seeds::from_entropy().unwrap();
        let number = |key| u128::from_str_radix(&seeds.request_id(key)[4..], 16).unwrap();
        let unmixed = |key| unmix(number(key) as u64);
        let steps: HashSet<u64> = (0..64).map(|key| unmixed(key + 1) ^ unmixed(key)).collect();
        assert_eq!(steps.len(), 64);
        let sums: HashSet<u64> = (0..64)
            .map(|key| unmixed(key) ^ key.wrapping_mul(GOLDEN))
            .collect();
        assert_eq!(sums.len(), 64, "one secret base under all names");
    }

    /// The inverse of [`mix`].
    fn unmix(mut z: u64) -> u64 {
        let undo_shift = |z: u64, by: u32| (0..64 / by).fold(z, |x, _| z ^ (x >> by));
        z = undo_shift(z, 31).wrapping_mul(0x3196_42B2_D24D_8EC3);
        z = undo_shift(z, 27).wrapping_mul(0x96DE_1B17_3F11_9089);
        undo_shift(z, 30)
    }

    #[test]
    fn unmix_undoes_mix() {
        for z in [0, 1, GOLDEN, u64::MAX, 0x0123_4567_89AB_CDEF] {
            assert_eq!(unmix(mix(z)), z);
        }
    }
}
