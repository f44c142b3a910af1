//! How bytes and four bits are multiplied on AVX2, and how many tokens its sixteen registers hold.
//!
//! The instruction that multiplies bytes, `vpmaddubsw`, saturates at the sum of two products. So bytes meet as 16-bit
//! numbers; only where no sum can be that large it serves.

use std::arch::x86_64::*;

use super::registers::I32x8;
use crate::input::InputRows;
use crate::team::Scratch;
use crate::vector::eight::{ByteSums, Dot, split_int8, widen};
use crate::weight::INT8_ZERO;

/// Tokens of one of several blocks of products with bf16, and of the only one. A sixth takes the registers of the mask and
/// of a word, which then come from memory for each row, but costs less than a second pass.
pub(crate) const BF16_TOKENS: (usize, usize) = (5, 6);

/// Tokens of a block with int8: eight registers of sums, four of weights, two words and their products.
pub(crate) const INT8_TOKENS: usize = 4;

/// Tokens of a block with int4: six registers of sums, four of weights, two words, their products, and two constants.
pub(crate) const INT4_TOKENS: usize = 3;

/// Queries whose sums fill the registers with a bf16 cache: halves of words need one more register than in f32.
pub(crate) const BF16_QUERIES: usize = 5;

/// The same with an int8 cache.
pub(crate) const INT8_QUERIES: usize = 6;

/// Whether the sums of few queries with an int8 cache leave registers for further panels.
pub(crate) const INT8_SIDE_BY_SIDE: bool = true;

/// What unsigned weights of [`Int8`] add to the sums, for each step of the activations' sum.
pub(crate) const INT8_OFFSET: i32 = INT8_ZERO;

/// Rows of int8 activations as [`Int8`] reads them.
#[inline(always)]
pub(crate) fn widen_int8<'a>(x: InputRows<'a>, scratch: &'a mut Scratch) -> InputRows<'a> {
    widen(x, scratch, split_int8)
}

/// Quads of unsigned 8-bit weights, and signed activations widened by [`widen_int8`]. Both meet as 16-bit numbers, whose
/// products are summed exactly in 32 bits.
pub(crate) struct Int8;

/// The keys of an int8 cache and the integers of 16 bits that they meet.
pub(crate) type KeyBytes = Int8;

impl Dot for Int8 {
    const ROW: usize = 64;
    const WORDS: usize = 2;
    const PARTS: usize = 2;
    const IS_FUSED: bool = false;
    type Weights = __m256i;
    type Words = __m256i;
    type Sums = __m256i;

    #[inline(always)]
    unsafe fn zero() -> __m256i {
        // SAFETY: promised by the caller.
        unsafe { _mm256_setzero_si256() }
    }

    /// Bytes 0 and 2 of each quad, or bytes 1 and 3.
    #[inline(always)]
    unsafe fn load<const PART: usize>(half_row: *const u8) -> __m256i {
        // SAFETY: promised by the caller.
        unsafe {
            let quads = _mm256_loadu_si256(half_row.cast());
            match PART {
                0 => _mm256_and_si256(quads, _mm256_set1_epi16(0xff)),
                _ => _mm256_srli_epi16::<8>(quads),
            }
        }
    }

    #[inline(always)]
    unsafe fn broadcast<const PART: usize>(words: *const u32) -> __m256i {
        // SAFETY: promised by the caller.
        unsafe { broadcast(words.add(PART)) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m256i, weights: __m256i, x: __m256i) -> __m256i {
        // SAFETY: promised by the caller.
        unsafe { _mm256_add_epi32(sums, _mm256_madd_epi16(weights, x)) }
    }
}

impl ByteSums for Int8 {
    #[inline(always)]
    unsafe fn totals(sums: __m256i) -> I32x8 {
        I32x8(sums)
    }
}

/// The values of an int8 cache: [`Int8`] with signed bytes.
pub(crate) struct ValueBytes;

impl Dot for ValueBytes {
    const ROW: usize = Int8::ROW;
    const WORDS: usize = Int8::WORDS;
    const PARTS: usize = Int8::PARTS;
    const IS_FUSED: bool = Int8::IS_FUSED;
    type Weights = __m256i;
    type Words = __m256i;
    type Sums = __m256i;

    #[inline(always)]
    unsafe fn zero() -> __m256i {
        // SAFETY: promised by the caller.
        unsafe { Int8::zero() }
    }

    /// Bytes 0 and 2 of each quad, or bytes 1 and 3.
    #[inline(always)]
    unsafe fn load<const PART: usize>(half_row: *const u8) -> __m256i {
        // SAFETY: promised by the caller.
        unsafe {
            let quads = _mm256_loadu_si256(half_row.cast());
            match PART {
                0 => _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(quads)),
                _ => _mm256_srai_epi16::<8>(quads),
            }
        }
    }

    #[inline(always)]
    unsafe fn broadcast<const PART: usize>(words: *const u32) -> __m256i {
        // SAFETY: promised by the caller.
        unsafe { Int8::broadcast::<PART>(words) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m256i, weights: __m256i, x: __m256i) -> __m256i {
        // SAFETY: promised by the caller.
        unsafe { Int8::add(sums, weights, x) }
    }
}

impl ByteSums for ValueBytes {
    #[inline(always)]
    unsafe fn totals(sums: __m256i) -> I32x8 {
        I32x8(sums)
    }
}

/// Eight unsigned 4-bit weights to a word, and two quads of signed activations as they come. The sums of
/// four-bit weights cannot overflow: two products sum to 2 * 15 * 127 at most, and those of both quads to
/// 7,620, of 32,767.
pub(crate) struct Int4;

impl Dot for Int4 {
    const ROW: usize = 64;
    const WORDS: usize = 2;
    const IS_FUSED: bool = false;
    type Weights = [__m256i; 2];
    type Words = [__m256i; 2];
    type Sums = __m256i;

    #[inline(always)]
    unsafe fn zero() -> __m256i {
        // SAFETY: promised by the caller.
        unsafe { _mm256_setzero_si256() }
    }

    /// The low halves of the bytes, and the high ones.
    #[inline(always)]
    unsafe fn load<const PART: usize>(half_row: *const u8) -> [__m256i; 2] {
        // SAFETY: promised by the caller.
        unsafe {
            let bytes = _mm256_loadu_si256(half_row.cast());
            let low_halves = _mm256_set1_epi8(15);
            [
                _mm256_and_si256(bytes, low_halves),
                _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), low_halves),
            ]
        }
    }

    #[inline(always)]
    unsafe fn broadcast<const PART: usize>(words: *const u32) -> [__m256i; 2] {
        // SAFETY: promised by the caller.
        unsafe { [broadcast(words), broadcast(words.add(1))] }
    }

    #[inline(always)]
    unsafe fn add(sums: __m256i, weights: [__m256i; 2], x: [__m256i; 2]) -> __m256i {
        // SAFETY: promised by the caller.
        unsafe {
            let low = _mm256_maddubs_epi16(weights[0], x[0]);
            let high = _mm256_maddubs_epi16(weights[1], x[1]);
            let pairs = _mm256_add_epi16(low, high);
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }
}

impl ByteSums for Int4 {
    #[inline(always)]
    unsafe fn totals(sums: __m256i) -> I32x8 {
        I32x8(sums)
    }
}

/// # Safety
///
/// The processor has the instructions, and `word` points to a readable word.
#[inline(always)]
unsafe fn broadcast(word: *const u32) -> __m256i {
    // SAFETY: promised by the caller.
    unsafe { _mm256_set1_epi32((*word).cast_signed()) }
}
