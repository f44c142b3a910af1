//! Exponentials and their sum, the same on every platform.
//!
//! A row of a large vocabulary needs 150,000 exponentials; a mathematics library computes them one at
//! a time, and differently on different machines. This one is a handful of multiplications the compiler
//! vectorises, in an order that depends on nothing but the row. The sum is compiled for several widths of vector, of
//! which the widest that the processor has is run: each lane does the same operations, so the bits are the same.

use crate::row::{BLOCK, LANES, Row, reduce};

/// e^x for x ≤ 0, within 2·10⁻⁷ of the true value relative to it; zero below -87, where f32 runs out
/// of normal numbers.
///
/// With n = round(x / ln 2) and r = x - n·ln 2, so |r| ≤ ln 2 / 2, e^x = 2^n · e^r, and the Taylor
/// polynomial of degree 7 has e^r to 10⁻⁸.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    /// Adding it rounds to an integer, which then lies in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23
    /// ln 2 in two parts; n times the first is exact (Cody and Waite 1980, chapter 6).
    const LN_2_HIGH: f32 = 355.0 / 512.0;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const LOWEST: f32 = -87.0;

    let clamped = if x > LOWEST { x } else { LOWEST };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (clamped - n * LN_2_HIGH) - n * LN_2_LOW;
    let series = 1.0 / 5040.0;
    let series = series * r + 1.0 / 720.0;
    let series = series * r + 1.0 / 120.0;
    let series = series * r + 1.0 / 24.0;
    let series = series * r + 1.0 / 6.0;
    let series = series * r + 0.5;
    let series = series * r + 1.0;
    let series = series * r + 1.0;
    let power_of_two = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
    if x > LOWEST {
        series * power_of_two
    } else {
        0.0
    }
}

/// Σ e^((logit - max)·scale) over the logits of at least `cut`.
///
/// Each block is summed in f32, by lanes, and added to one f64 in the order of the row; a block without such a
/// logit adds nothing, so passing over it changes no bit.
pub(crate) fn mass(row: &Row<'_>, scale: f32, cut: f32) -> f64 {
    pulp::Arch::new().dispatch(Mass { row, scale, cut })
}

/// What [`mass`] adds up.
struct Mass<'a> {
    row: &'a Row<'a>,
    scale: f32,
    cut: f32,
}

impl pulp::WithSimd for Mass<'_> {
    type Output = f64;

    /// Plain code, which is inlined into a function that may use the instructions of `S`.
    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> f64 {
        let Self { row, scale, cut } = self;
        let max = row.max();
        let mut sum = 0.0;
        for (_, block) in row.blocks_from(cut) {
            sum += block_mass(block, max, scale, cut);
        }
        sum
    }
}

/// e^((logit - max)·scale) of each logit of a block.
pub(crate) fn block_weights(block: &[f32], max: f32, scale: f32) -> [f32; BLOCK] {
    pulp::Arch::new().dispatch(BlockWeights { block, max, scale })
}

/// What [`block_weights`] computes.
struct BlockWeights<'a> {
    block: &'a [f32],
    max: f32,
    scale: f32,
}

impl pulp::WithSimd for BlockWeights<'_> {
    type Output = [f32; BLOCK];

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> [f32; BLOCK] {
        let mut weights = [0.0; BLOCK];
        for (weight, logit) in weights.iter_mut().zip(self.block) {
            *weight = exp((logit - self.max) * self.scale);
        }
        weights
    }
}

#[inline(always)]
fn weight(logit: f32, max: f32, scale: f32, cut: f32) -> f32 {
    let weight = exp((logit - max) * scale);
    if logit >= cut { weight } else { 0.0 }
}

#[inline(always)]
fn block_mass(block: &[f32], max: f32, scale: f32, cut: f32) -> f64 {
    let mut lanes = [0.0_f32; LANES];
    let (groups, rest) = block.as_chunks::<LANES>();
    for group in groups {
        for (lane, logit) in lanes.iter_mut().zip(group) {
            *lane += weight(*logit, max, scale, cut);
        }
    }
    for (lane, logit) in lanes.iter_mut().zip(rest) {
        *lane += weight(*logit, max, scale, cut);
    }
    f64::from(reduce(lanes, |a, b| a + b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::RowScratch;
    use proptest::prelude::*;

    #[test]
    fn exp_is_accurate_over_its_whole_range() {
        let mut x = 0.0_f32;
        while x > -86.99 {
            let truth = f64::from(x).exp();
            let error = (f64::from(exp(x)) / truth - 1.0).abs();
            assert!(error < 2e-7, "exp({x}) is off by {error:e}");
            x -= 1.37e-3;
        }
        assert_eq!(exp(0.0), 1.0);
        for far in [-87.5, -1e30, f32::NEG_INFINITY] {
            assert_eq!(exp(far), 0.0, "exp({far})");
        }
    }

    proptest! {
        #[test]
        fn every_width_of_vector_has_the_same_sum(
            logits in prop::collection::vec(-40.0..40.0_f32, 1..400), scale in 0.1..3.0_f32, cut in -50.0..30.0_f32
        ) {
            let mut scratch = RowScratch::default();
            let row = Row::scan(&logits, &mut scratch).unwrap();
            let blocks = row.blocks_from(cut);
            let plain: f64 = blocks.map(|(_, block)| block_mass(block, row.max(), scale, cut)).sum();
            prop_assert_eq!(mass(&row, scale, cut), plain);
        }

        #[test]
        fn mass_is_the_sum_of_the_exponentials(
            logits in prop::collection::vec(-40.0..40.0_f32, 1..400), scale in 0.1..3.0_f32, cut in -50.0..30.0_f32
        ) {
            let mut scratch = RowScratch::default();
            let row = Row::scan(&logits, &mut scratch).unwrap();
            let naive: f64 = logits.iter().filter(|logit| **logit >= cut)
                .map(|logit| ((f64::from(*logit) - f64::from(row.max())) * f64::from(scale)).exp()).sum();
            let error = (mass(&row, scale, cut) - naive).abs();
            prop_assert!(error <= 1e-5 * naive, "{} instead of {}", mass(&row, scale, cut), naive);
        }
    }
}
