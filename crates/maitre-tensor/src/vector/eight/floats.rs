//! The multiply-add of formats whose products are numbers of 32 bits.

use super::dot::Dot;
use super::isa::{F32x8, I32x8};

/// What the formats have in common: words and sums.
macro_rules! float_products {
    () => {
        const IS_FUSED: bool = true;
        type Weights = F32x8;
        type Words = F32x8;
        type Sums = F32x8;

        #[inline(always)]
        unsafe fn zero() -> F32x8 {
            // SAFETY: promised by the caller.
            unsafe { F32x8::splat(0.0) }
        }

        #[inline(always)]
        unsafe fn broadcast<const PART: usize>(words: *const u32) -> F32x8 {
            // SAFETY: promised by the caller.
            unsafe { F32x8::splat(*words.add(PART).cast()) }
        }

        #[inline(always)]
        unsafe fn add(sums: F32x8, weights: F32x8, x: F32x8) -> F32x8 {
            weights.mul_add(x, sums)
        }
    };
}

/// f32 weights and activations.
pub(crate) struct F32;

impl Dot for F32 {
    const ROW: usize = 64;
    const WORDS: usize = 1;
    float_products!();

    #[inline(always)]
    unsafe fn load<const PART: usize>(half_row: *const u8) -> F32x8 {
        // SAFETY: promised by the caller.
        unsafe { F32x8::load(half_row.cast()) }
    }
}

/// f16 weights, widened, and f32 activations.
pub(crate) struct F16;

impl Dot for F16 {
    const ROW: usize = 32;
    const WORDS: usize = 1;
    float_products!();

    #[inline(always)]
    unsafe fn load<const PART: usize>(half_row: *const u8) -> F32x8 {
        // SAFETY: promised by the caller.
        unsafe { F32x8::of_halves(half_row) }
    }
}

/// Pairs of bf16 weights, and activations widened by [`split_bf16`](super::dot::split_bf16).
pub(crate) struct Bf16;

impl Dot for Bf16 {
    const ROW: usize = 64;
    const WORDS: usize = 2;
    const PARTS: usize = 2;
    float_products!();

    /// The first of each pair, or the second.
    #[inline(always)]
    unsafe fn load<const PART: usize>(half_row: *const u8) -> F32x8 {
        // SAFETY: promised by the caller.
        let (pairs, high_halves) = unsafe {
            let mask = 0xffff_0000_u32.cast_signed();
            (I32x8::load(half_row), I32x8::splat(mask))
        };
        match PART {
            0 => pairs.shift_left::<16>().as_floats(),
            _ => pairs.and(high_halves).as_floats(),
        }
    }
}
