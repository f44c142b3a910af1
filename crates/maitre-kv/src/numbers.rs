//! Maps whose keys need no hashing: numbers we gave out ourselves, and names, which are keyed hashes already.
//! A client cannot choose keys that collide, so the slower hash of the standard library, which guards against
//! that, is not needed.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by [`SeqId`](crate::SeqId) or [`BlockHash`](crate::BlockHash).
pub(crate) type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

/// Spreads a number over all bits.
#[derive(Debug, Clone, Default)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write_u64(&mut self, number: u64) {
        // By the golden ratio (Knuth, volume 3, section 6.4), with the best bits where the map looks first.
        self.0 = (self.0 ^ number)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(26);
    }

    fn write_u128(&mut self, number: u128) {
        self.0 ^= number as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    use super::*;

    #[test]
    fn consecutive_numbers_do_not_meet_in_the_bits_that_count() {
        let hasher = BuildHasherDefault::<NumberHasher>::default();
        let low: HashSet<u64> = (0..4096_u64).map(|n| hasher.hash_one(n) & 0xffff).collect();
        let high: HashSet<u64> = (0..4096_u64).map(|n| hasher.hash_one(n) >> 57).collect();
        assert!(
            low.len() > 3800 && high.len() == 128,
            "{} {}",
            low.len(),
            high.len()
        );
    }
}
