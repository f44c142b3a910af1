//! Queries rounded to meet the keys, and the fixed-point numbers of an int8 cache.

use half::bf16;

use crate::cache::{CellShape, KvFormat};
use crate::element::Element;

/// Largest number of a query in fixed point: `128 * 127`, so that both parts fit signed bytes.
pub(crate) const LARGEST_QUERY: f32 = 16_256.0;

/// Largest weight in fixed point: both parts are unsigned bytes.
pub(crate) const LARGEST_WEIGHT: f32 = 65_535.0;

/// Below it numbers count as zero, so that the inverse of a unit is finite.
const SMALLEST: f32 = 1e-30;

/// Fixed point: integers times a unit.
#[derive(Clone, Copy)]
pub(crate) struct Magnitude {
    /// What the integer 1 stands for; NaN if any number is not finite.
    pub(crate) unit: f32,
    /// Integers per 1.0; zero if the unit is zero or NaN.
    pub(crate) inverse: f32,
}

impl Magnitude {
    /// The unit in which the largest of the numbers is `largest`.
    #[inline(always)]
    pub(crate) fn of(numbers: &[f32], largest: f32) -> Self {
        // As integers, magnitudes order like numbers, with NaN above infinity.
        let bits = numbers
            .iter()
            .fold(0, |most, number| most.max(number.to_bits() & 0x7fff_ffff));
        Self::of_largest(f32::from_bits(bits), largest)
    }

    /// The unit in which `most`, the largest magnitude or NaN, is `largest`.
    #[inline(always)]
    pub(crate) fn of_largest(most: f32, largest: f32) -> Self {
        if !most.is_finite() {
            let (unit, inverse) = (f32::NAN, 0.0);
            Self { unit, inverse }
        } else if most < SMALLEST {
            let (unit, inverse) = (0.0, 0.0);
            Self { unit, inverse }
        } else {
            let (unit, inverse) = (most / largest, largest / most);
            Self { unit, inverse }
        }
    }
}

/// The integer nearest to a number in units, ties to even.
#[inline(always)]
pub(crate) fn quantize(number: f32, magnitude: Magnitude) -> i32 {
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
    const MAGIC: f32 = 12_582_912.0;
    let product = number * magnitude.inverse;
    // An infinite number has the inverse zero, and their product is NaN.
    let product = if product.is_nan() { 0.0 } else { product };
    (product + MAGIC).to_bits().wrapping_sub(MAGIC.to_bits()) as i32
}

/// See [`Kernels::load_query`](crate::kernels::Kernels::load_query).
#[inline(always)]
pub(crate) fn load_query(
    shape: CellShape,
    query: &[f32],
    words: &mut [u32],
    sums: &mut [i32],
) -> f32 {
    match shape.format {
        KvFormat::F32 => {
            for (word, number) in words.iter_mut().zip(query) {
                *word = number.to_bits();
            }
            1.0
        }
        KvFormat::Bf16 => {
            for (word, numbers) in words.iter_mut().zip(query.chunks(2)) {
                let bits = |number: &f32| u32::from(<bf16 as Element>::round(*number).to_bits());
                *word = bits(&numbers[0]) | numbers.get(1).map_or(0, bits) << 16;
            }
            1.0
        }
        KvFormat::Int8 => {
            let magnitude = Magnitude::of(query, LARGEST_QUERY);
            let (high_words, low_words) = words.split_at_mut(shape.key_words());
            sums.fill(0);
            for ((high_word, low_word), numbers) in
                high_words.iter_mut().zip(low_words).zip(query.chunks(4))
            {
                (*high_word, *low_word) = (0, 0);
                for (i, number) in numbers.iter().enumerate() {
                    let integer = quantize(*number, magnitude);
                    let high = (integer + 64) >> 7;
                    let low = integer - (high << 7);
                    *high_word |= u32::from(high as u8) << (8 * i);
                    *low_word |= u32::from(low as u8) << (8 * i);
                    sums[0] += 128 * high;
                    sums[1] += 128 * low;
                }
            }
            magnitude.unit
        }
    }
}
