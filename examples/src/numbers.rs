//! Made-up numbers for lessons on operators, and how long working on them takes.

use std::time::{Duration, Instant};

use anyhow::Result;

/// `len` numbers that are nearly normally distributed with deviation 1; the same for the same `seed`.
#[must_use]
pub fn normal(seed: u64, len: usize) -> Vec<f32> {
    (0..len as u64).map(|i| nearly_normal(seed, i)).collect()
}

/// The four quarters of a random word (splitmix64), each uniform on (-1, 1), have variance 4/3
/// together.
fn nearly_normal(seed: u64, index: u64) -> f32 {
    let mut z = (seed << 40 ^ index)
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    let quarters = [z, z >> 16, z >> 32, z >> 48].map(|part| f32::from(part as u16));
    (quarters.iter().sum::<f32>() / 32_768.0 - 4.0) * 0.75_f32.sqrt()
}

/// The numbers as a file stores them.
#[must_use]
pub fn bytes(values: &[f32]) -> Vec<u8> {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes());
    bytes.collect()
}

/// The time of the fastest of three calls, and of as many more as fit into `budget`. A machine that
/// has other things to do makes some calls slower, never one faster.
///
/// # Errors
///
/// The first of `call`.
pub fn fastest(budget: Duration, mut call: impl FnMut() -> Result<()>) -> Result<Duration> {
    let begun = Instant::now();
    let mut times = Vec::new();
    while times.len() < 3 || begun.elapsed() < budget {
        let started = Instant::now();
        call()?;
        times.push(started.elapsed());
    }
    Ok(times.into_iter().min().unwrap_or_default())
}
