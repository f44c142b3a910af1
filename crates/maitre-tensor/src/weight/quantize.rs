//! Rounding weights to integers.
//!
//! Int8 is symmetric: `w = scale * (q - 128)`, `q` in 1..=255, with the scale that makes the row's
//! largest magnitude 127 steps. Int4 is asymmetric per group: `w = scale * (q - zero)`, `q` and
//! `zero` in 0..=15, and the range is tightened where clipping the outermost weights costs less
//! than the coarser steps that reaching them takes.

use half::bf16;

use crate::element::Element;

/// What the 16 steps of a group of int4 weights mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Int4Row {
    pub(crate) scale: bf16,
    pub(crate) zero: u8,
}

/// Factors by which the range of an int4 group may be tightened.
const RANGES: [f32; 6] = [1.0, 0.95, 0.9, 0.85, 0.8, 0.75];

/// Numbers that are treated side by side, for the compiler to use vector instructions.
const LANES: usize = 16;

/// Below this a factor's inverse could be infinite; what is smaller is stored as zero.
const LEAST: f32 = f32::MIN_POSITIVE * 128.0;

/// Offset of stored int8 weights: the dot-product instruction takes one unsigned operand.
pub(crate) const INT8_ZERO: i32 = 128;

/// Writes four weights per word and returns the scale.
#[inline(always)]
pub(crate) fn quantize_int8(values: &[f32], words: &mut [u32]) -> f32 {
    let (least, most) = range(values);
    let largest = most.max(-least);
    let scale = largest / 127.0;
    let inverse = if largest >= LEAST {
        127.0 / largest
    } else {
        0.0
    };
    for (word, values) in words.iter_mut().zip(values.chunks(4)) {
        let mut bytes = [0; 4];
        for (byte, value) in bytes.iter_mut().zip(values) {
            *byte = (nearest(value * inverse) + INT8_ZERO).clamp(0, 255) as u8;
        }
        *word = u32::from_le_bytes(bytes);
    }
    scale
}

/// Writes eight weights of one group per word: numbers 0 to 3 in the low halves of its bytes, 4 to
/// 7 in the high halves.
#[inline(always)]
pub(crate) fn quantize_int4(values: &[f32], words: &mut [u32]) -> Int4Row {
    let (least, most) = range(values);
    let grids = RANGES.map(|range| Grid::over(least * range, most * range));
    let mut best = (f32::INFINITY, grids[0]);
    for grid in grids {
        let error = grid.error(values);
        if error < best.0 {
            best = (error, grid);
        }
    }
    let grid = best.1;
    for (word, values) in words.iter_mut().zip(values.chunks(8)) {
        *word = 0;
        for (i, value) in values.iter().enumerate() {
            *word |= (grid.step(*value) as u32) << (i % 4 * 8 + i / 4 * 4);
        }
    }
    Int4Row {
        scale: grid.stored,
        zero: grid.zero as u8,
    }
}

/// The least and the largest of the numbers and zero.
#[inline(always)]
fn range(values: &[f32]) -> (f32, f32) {
    let (mut least, mut most) = ([0.0_f32; LANES], [0.0_f32; LANES]);
    for chunk in values.chunks(LANES) {
        for ((least, most), value) in least.iter_mut().zip(&mut most).zip(chunk) {
            *least = if *value < *least { *value } else { *least };
            *most = if *value > *most { *value } else { *most };
        }
    }
    (
        least.into_iter().fold(0.0, f32::min),
        most.into_iter().fold(0.0, f32::max),
    )
}

/// Sixteen equidistant numbers, zero among them.
#[derive(Debug, Clone, Copy)]
struct Grid {
    stored: bf16,
    scale: f32,
    inverse: f32,
    zero: i32,
}

impl Grid {
    #[inline(always)]
    fn over(least: f32, most: f32) -> Self {
        let stored = <bf16 as Element>::round(most / 15.0 - least / 15.0);
        let scale = stored.widen();
        let inverse = if scale >= LEAST { 1.0 / scale } else { 0.0 };
        Self {
            stored,
            scale,
            inverse,
            zero: nearest((-least * inverse).min(15.0)),
        }
    }

    #[inline(always)]
    fn step(&self, value: f32) -> i32 {
        // In range before it is rounded: `nearest` knows small numbers only.
        let steps = (value * self.inverse).clamp(-16.0, 16.0);
        (nearest(steps) + self.zero).clamp(0, 15)
    }

    #[inline(always)]
    fn error(&self, values: &[f32]) -> f32 {
        let mut lanes = [0.0; LANES];
        for chunk in values.chunks(LANES) {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                let error = (self.step(*value) - self.zero) as f32 * self.scale - value;
                *lane += error * error;
            }
        }
        lanes.iter().sum()
    }
}

/// The nearest integer, ties to even, of a number below 2^22 in magnitude.
#[inline(always)]
pub(crate) fn nearest(value: f32) -> i32 {
    // Adding 1.5 * 2^23 leaves the integer in the low bits; no call of the mathematics library.
    const MAGIC: f32 = 12_582_912.0;
    ((value + MAGIC).to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn int8(values: &[f32]) -> Vec<f32> {
        let mut words = vec![0; values.len().div_ceil(4)];
        let scale = quantize_int8(values, &mut words);
        let bytes = words.iter().flat_map(|word| word.to_le_bytes());
        let step = |byte| (i32::from(byte) - INT8_ZERO) as f32 * scale;
        bytes.map(step).take(values.len()).collect()
    }

    fn int4(values: &[f32]) -> (Vec<f32>, f32) {
        let mut words = vec![0; values.len().div_ceil(8)];
        let Int4Row { scale, zero } = quantize_int4(values, &mut words);
        let number = |i: usize| {
            let nibble = words[i / 8] >> (i % 4 * 8 + i % 8 / 4 * 4) & 15;
            (nibble as i32 - i32::from(zero)) as f32 * scale.to_f32()
        };
        ((0..values.len()).map(number).collect(), scale.to_f32())
    }

    proptest! {
        #[test]
        fn int8_is_off_by_half_a_step_at_most(values in proptest::collection::vec(-9.0..9.0_f32, 1..99)) {
            let step = values.iter().fold(0.0_f32, |most, value| most.max(value.abs())) / 127.0;
            for (value, stored) in values.iter().zip(int8(&values)) {
                prop_assert!((value - stored).abs() <= 0.501 * step, "{value} became {stored}");
            }
        }

        #[test]
        fn int4_errs_no_more_than_the_full_range_would(
            values in proptest::collection::vec(-9.0..9.0_f32, 1..65),
        ) {
            let (stored, _) = int4(&values);
            let least = values.iter().fold(0.0_f32, |a, b| a.min(*b));
            let most = values.iter().fold(0.0_f32, |a, b| a.max(*b));
            let half_step = (most - least) / 15.0 / 2.0;
            let error = |a: &f32, b: &f32| (a - b) * (a - b);
            let sum: f32 = values.iter().zip(&stored).map(|(a, b)| error(a, b)).sum();
            // Half a step for rounding, some for the zero point and the scale's own rounding.
            prop_assert!(sum <= values.len() as f32 * (2.2 * half_step).powi(2));
        }
    }

    #[test]
    fn extremes_are_exact() {
        assert_eq!(int8(&[0.0, -2.0, 2.0, 1e-30]), [0.0, -2.0, 2.0, 0.0]);
        assert_eq!(int8(&[0.0; 5]), [0.0; 5]);
        assert_eq!(int4(&[0.0; 9]).0, [0.0; 9]);
        for tiny in [1e-39, 1e-45, -1e-39] {
            assert_eq!(int8(&[0.0, tiny, 0.0]), [0.0; 3]);
            assert_eq!(int4(&[0.0, tiny, 0.0]).0, [0.0; 3]);
        }
        for (stored, value) in int4(&[3e38, -3e38]).0.iter().zip([3e38, -3e38]) {
            assert!((stored / value - 1.0).abs() < 0.1, "{stored}");
        }
        let sixteen: Vec<f32> = (0..16).map(|i| i as f32 - 5.0).collect();
        assert_eq!(int4(&sixteen).0, sixteen);
        // The scale itself is rounded to bf16.
        assert!((int4(&[3.0]).0[0] - 3.0).abs() < 3.0 / 256.0);
    }

    #[test]
    fn one_far_weight_does_not_cost_all_others_their_resolution() {
        let mut values: Vec<f32> = (0..64).map(|i| (i as f32 * 0.7).sin()).collect();
        values[9] = 1.6;
        let (_, scale) = int4(&values);
        assert!(scale < 2.6 / 15.0, "{scale}");
    }

    #[test]
    fn nearest_breaks_ties_to_even() {
        for (value, integer) in [
            (0.5, 0),
            (1.5, 2),
            (2.5, 2),
            (-0.5, 0),
            (-1.5, -2),
            (126.7, 127),
        ] {
            assert_eq!(nearest(value), integer);
        }
    }
}
