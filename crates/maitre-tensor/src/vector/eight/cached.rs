//! How each format of the cache meets queries and weights.
//!
//! | cache | queries and weights | products |
//! |---|---|---|
//! | f32 | f32 | summed in f32, fused |
//! | bf16 | f32 | widened, then the same |
//! | int8 | 16-bit integers | summed exactly |

use super::attention::Work;
use super::dot::{ByteSums, Dot};
use super::floats::{Bf16, F32};
use super::isa::{self, F32x8, I32x8, KeyBytes, ValueBytes};
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
    /// Whether the sums of one and two queries leave registers for further panels side by side with the first.
    const SIDE_BY_SIDE: bool;
    /// Words that a query's weights take.
    const WEIGHT_WORDS: usize;

    /// Half of a query's products with a cell, from their sums. `excess` is what the offset of the keys added to each,
    /// `scales` points to theirs.
    ///
    /// # Safety
    ///
    /// The processor has the instructions, and the scales exist where the format has any.
    unsafe fn products(sums: Self::Sums, excess: i32, scales: *const f32) -> F32x8;

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
    unsafe fn first_sums(before: F32x8, decay: F32x8) -> <Self::Values as Dot>::Sums;

    /// What is known after them.
    ///
    /// # Safety
    ///
    /// As [`Cached::products`].
    unsafe fn merged(
        sums: <Self::Values as Dot>::Sums,
        before: F32x8,
        decay: F32x8,
        unit: F32x8,
    ) -> F32x8;
}

/// Floating-point formats.
macro_rules! cached_floats {
    ($format:ty, $slots:literal, $queries:expr) => {
        impl Cached for $format {
            type Values = Self;
            const SLOTS: usize = $slots;
            const QUERIES: usize = $queries;
            const SIDE_BY_SIDE: bool = true;
            const WEIGHT_WORDS: usize = TILE;

            #[inline(always)]
            unsafe fn products(sums: F32x8, _: i32, _: *const f32) -> F32x8 {
                sums
            }

            #[inline(always)]
            unsafe fn store_weights(_: &Work<'_>, weights: Row, _: Row, words: *mut u32) -> f32 {
                // SAFETY: promised by the caller.
                unsafe { Work::store_floats(weights, words) };
                1.0
            }

            #[inline(always)]
            unsafe fn first_sums(before: F32x8, decay: F32x8) -> F32x8 {
                before.mul(decay)
            }

            #[inline(always)]
            unsafe fn merged(sums: F32x8, _: F32x8, _: F32x8, _: F32x8) -> F32x8 {
                sums
            }
        }
    };
}

cached_floats!(F32, 1, 6);
cached_floats!(Bf16, 2, isa::BF16_QUERIES);

impl Cached for KeyBytes {
    type Values = ValueBytes;
    const SLOTS: usize = 4;
    const QUERIES: usize = isa::INT8_QUERIES;
    const SIDE_BY_SIDE: bool = isa::INT8_SIDE_BY_SIDE;
    const WEIGHT_WORDS: usize = TILE / 2;

    #[inline(always)]
    unsafe fn products(sums: Self::Sums, excess: i32, scales: *const f32) -> F32x8 {
        // SAFETY: promised by the caller.
        unsafe {
            let exact = Self::totals(sums).sub(I32x8::splat(excess));
            exact.floats().mul(F32x8::load(scales))
        }
    }

    #[inline(always)]
    unsafe fn store_weights(work: &Work<'_>, weights: Row, masks: Row, words: *mut u32) -> f32 {
        // SAFETY: promised by the caller.
        unsafe { work.store_integers(weights, masks, words) }
    }

    #[inline(always)]
    unsafe fn first_sums(_: F32x8, _: F32x8) -> <ValueBytes as Dot>::Sums {
        // SAFETY: promised by the caller.
        unsafe { ValueBytes::zero() }
    }

    #[inline(always)]
    unsafe fn merged(
        sums: <ValueBytes as Dot>::Sums,
        before: F32x8,
        decay: F32x8,
        unit: F32x8,
    ) -> F32x8 {
        // SAFETY: promised by the caller.
        let here = unsafe { ValueBytes::totals(sums) }.floats().mul(unit);
        before.mul_add(decay, here)
    }
}
