//! How each format of the cache meets queries and weights.
//!
//! | cache | queries and weights | products |
//! |---|---|---|
//! | f32 | f32 | summed in f32, fused |
//! | bf16 | f32 | widened, then the same |
//! | int8 | 16-bit integers | summed exactly |

use std::arch::x86_64::*;

use super::attention::Work;
use super::dot::{Bf16, Dot, F32, Int8};
use super::softmax::Row;
use crate::attend::TILE;

/// How a format of the cache is multiplied: with keys as `Self`, with values as [`Cached::Values`].
pub(super) trait Cached: Dot {
    /// The multiply-add of values.
    type Values: Dot;
    /// Slots that share a word of the values.
    const SLOTS: usize;
    /// Queries whose sums fill the registers.
    const QUERIES: usize;
    /// Words that a query's weights take.
    const WEIGHT_WORDS: usize;

    /// Half of a query's products with a cell, from their sums. `excess` is what the offset of the keys added to each,
    /// `scales` points to theirs.
    ///
    /// # Safety
    ///
    /// The processor has the instructions, and the scales exist where the format has any.
    unsafe fn products(sums: Self::Sums, excess: i32, scales: *const f32) -> __m256;

    /// Stores weights in the order in which values meet them; returns what the integer 1 is. `masks` say which positions
    /// are seen.
    ///
    /// # Safety
    ///
    /// As [`Cached::products`], and there is space for [`Cached::WEIGHT_WORDS`].
    unsafe fn store_weights(work: &Work<'_>, weights: Row, masks: Row, words: *mut u32) -> f32;

    /// What sums of values start from.
    ///
    /// # Safety
    ///
    /// As [`Cached::products`].
    unsafe fn first_sums(before: __m256, decay: __m256) -> <Self::Values as Dot>::Sums;

    /// What is known after them.
    ///
    /// # Safety
    ///
    /// As [`Cached::products`].
    unsafe fn merged(
        sums: <Self::Values as Dot>::Sums,
        before: __m256,
        decay: __m256,
        unit: __m256,
    ) -> __m256;
}

/// Floating-point formats.
macro_rules! cached_floats {
    ($format:ty, $slots:literal, $queries:literal) => {
        impl Cached for $format {
            type Values = Self;
            const SLOTS: usize = $slots;
            const QUERIES: usize = $queries;
            const WEIGHT_WORDS: usize = TILE;

            #[inline(always)]
            unsafe fn products(sums: __m256, _: i32, _: *const f32) -> __m256 {
                sums
            }

            #[inline(always)]
            unsafe fn store_weights(_: &Work<'_>, weights: Row, _: Row, words: *mut u32) -> f32 {
                // SAFETY: promised by the caller.
                unsafe { Work::store_floats(weights, words) };
                1.0
            }

            #[inline(always)]
            unsafe fn first_sums(before: __m256, decay: __m256) -> __m256 {
                // SAFETY: promised by the caller.
                unsafe { _mm256_mul_ps(before, decay) }
            }

            #[inline(always)]
            unsafe fn merged(sums: __m256, _: __m256, _: __m256, _: __m256) -> __m256 {
                sums
            }
        }
    };
}

cached_floats!(F32, 1, 6);
// The sums of a sixth query would leave the registers: halves of words need one more.
cached_floats!(Bf16, 2, 5);

impl Cached for Int8 {
    type Values = SignedInt8;
    const SLOTS: usize = 4;
    const QUERIES: usize = 6;
    const WEIGHT_WORDS: usize = TILE / 2;

    #[inline(always)]
    unsafe fn products(sums: __m256i, excess: i32, scales: *const f32) -> __m256 {
        // SAFETY: promised by the caller.
        unsafe {
            let exact = _mm256_sub_epi32(sums, _mm256_set1_epi32(excess));
            _mm256_mul_ps(_mm256_cvtepi32_ps(exact), _mm256_loadu_ps(scales))
        }
    }

    #[inline(always)]
    unsafe fn store_weights(work: &Work<'_>, weights: Row, masks: Row, words: *mut u32) -> f32 {
        // SAFETY: promised by the caller.
        unsafe { work.store_integers(weights, masks, words) }
    }

    #[inline(always)]
    unsafe fn first_sums(_: __m256, _: __m256) -> __m256i {
        // SAFETY: promised by the caller.
        unsafe { Self::zero() }
    }

    #[inline(always)]
    unsafe fn merged(sums: __m256i, before: __m256, decay: __m256, unit: __m256) -> __m256 {
        // SAFETY: promised by the caller.
        unsafe {
            let here = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), unit);
            _mm256_fmadd_ps(before, decay, here)
        }
    }
}

/// [`Int8`] with signed bytes in the cache.
pub(super) struct SignedInt8;

impl Dot for SignedInt8 {
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
