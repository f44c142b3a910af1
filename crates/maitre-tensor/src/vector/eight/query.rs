//! Queries in the form in which they meet the keys: a 32-bit word for each number in f32, or 16-bit
//! integers in pairs.

use super::dot::pair_up;
use crate::cache::{CellShape, KvFormat};
use crate::portable::query::{LARGEST_QUERY, Magnitude, quantize};

/// See [`Kernels::query_words`](crate::kernels::Kernels::query_words).
pub(crate) fn query_words(shape: CellShape) -> usize {
    match shape.format {
        KvFormat::F32 => shape.key_words(),
        KvFormat::Bf16 | KvFormat::Int8 => 2 * shape.key_words(),
    }
}

/// See [`Kernels::load_query`](crate::kernels::Kernels::load_query). With bf16 keys queries stay f32: they are multiplied
/// as such, so rounding them would only lose digits.
pub(crate) fn load_query(
    shape: CellShape,
    query: &[f32],
    words: &mut [u32],
    sums: &mut [i32],
) -> f32 {
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
    unsafe fn wide(shape: CellShape, query: &[f32], words: &mut [u32], sums: &mut [i32]) -> f32 {
        if shape.format == KvFormat::Int8 {
            return load_int8(query, words, sums);
        }
        let (numbers, padding) = words.split_at_mut(query.len());
        for (word, number) in numbers.iter_mut().zip(query) {
            *word = number.to_bits();
        }
        padding.fill(0);
        1.0
    }
    // SAFETY: reached through a table that is handed out only where the processor has the
    // instructions.
    unsafe { wide(shape, query, words, sums) }
}

/// Rounds a query to integers of 15 bits, in one part, and notes 128 times their sum, which the offset of the keys
/// adds to their products.
#[inline(always)]
fn load_int8(query: &[f32], words: &mut [u32], sums: &mut [i32]) -> f32 {
    let magnitude = Magnitude::of(query, LARGEST_QUERY);
    let mut sum = 0;
    for (words, numbers) in words.as_chunks_mut().0.iter_mut().zip(query.chunks(4)) {
        let mut quad = [0_i16; 4];
        for (integer, number) in quad.iter_mut().zip(numbers) {
            let rounded = quantize(*number, magnitude);
            *integer = rounded as i16;
            sum += rounded;
        }
        *words = pair_up(quad);
    }
    sums[0] = 128 * sum;
    magnitude.unit
}
