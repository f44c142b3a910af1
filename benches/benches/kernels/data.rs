//! Numbers to calculate with, and how many copies of them it takes to find none in a cache.

use half::bf16;

/// Twice the usual last-level cache of a few cores: data read in turn, so many bytes
/// of it, has been evicted when its turn comes again. In a model the other layers see to that.
const COLD_BYTES: usize = 64 << 20;

/// Copies of something of this size that no cache holds together.
pub(crate) fn cold_copies(bytes: usize) -> usize {
    COLD_BYTES.div_ceil(bytes.max(1))
}

/// Numbers in [-1, 1) that repeat only after a while.
pub(crate) fn numbers(len: usize) -> Vec<f32> {
    (0..len as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0)
        .collect()
}

/// The same as a file stores them in bf16.
pub(crate) fn bf16_bytes(len: usize) -> Vec<u8> {
    numbers(len)
        .iter()
        .flat_map(|&value| bf16::from_f32(value).to_le_bytes())
        .collect()
}
