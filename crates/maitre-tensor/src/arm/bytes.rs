//! How bytes and four bits are multiplied on ARM, and how many tokens its 32 registers hold.
//!
//! `sdot` multiplies four signed bytes in each of four lanes and adds the products to the lane's sum, exactly: a word of
//! a panel's row is such a lane. In an int8 cache bytes meet integers of 16 bits, for which there is a widening
//! multiply-add; its sums are those of two neighbours apart, which are added once at the end.

use std::arch::aarch64::*;
use std::arch::asm;

use super::registers::I32x8;
use crate::input::InputRows;
use crate::team::Scratch;
use crate::vector::eight::{ByteSums, Dot};

/// Tokens of one of several blocks of products with bf16, and of the only one: 24 registers of sums, four of weights, one
/// word.
pub(crate) const BF16_TOKENS: (usize, usize) = (6, 6);

/// Tokens of a block with int8: as with bf16.
pub(crate) const INT8_TOKENS: usize = 6;

/// Tokens of a block with int4: 16 registers of sums, eight of weights, two words, one constant.
pub(crate) const INT4_TOKENS: usize = 4;

/// Queries whose sums fill the registers with a bf16 cache.
pub(crate) const BF16_QUERIES: usize = 6;

/// The same with an int8 cache: 24 registers, for the sums of neighbours are apart.
pub(crate) const INT8_QUERIES: usize = 3;

/// Whether the sums of few queries with an int8 cache leave registers for further panels.
pub(crate) const INT8_SIDE_BY_SIDE: bool = false;

/// What the weights of [`Int8`] add to the sums, for each step of the activations' sum: they get their sign when they are
/// loaded.
pub(crate) const INT8_OFFSET: i32 = 0;

/// Rows of int8 activations as [`Int8`] reads them: as they are.
#[inline(always)]
pub(crate) fn widen_int8<'a>(x: InputRows<'a>, _: &'a mut Scratch) -> InputRows<'a> {
    x
}

/// `sums + a . b`, four bytes to a lane.
///
/// # Safety
///
/// The processor has dot products, and they are enabled for the caller.
#[inline(always)]
pub(super) unsafe fn add_dots(sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    let mut result = sums;
    // SAFETY: promised by the caller. The intrinsic is not stable.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {a:v}.16b, {b:v}.16b",
            sums = inout(vreg) result,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    result
}

/// The two registers of half a row of bytes.
///
/// # Safety
///
/// 32 bytes are readable.
#[inline(always)]
unsafe fn half(half_row: *const u8) -> [uint8x16_t; 2] {
    // SAFETY: promised by the caller.
    unsafe { [vld1q_u8(half_row), vld1q_u8(half_row.add(16))] }
}

/// A word of four bytes in each lane.
///
/// # Safety
///
/// The word is readable.
#[inline(always)]
unsafe fn broadcast(word: *const u32) -> int8x16_t {
    // SAFETY: promised by the caller.
    unsafe { vreinterpretq_s8_u32(vdupq_n_u32(*word)) }
}

/// Sums of eight output features, all zero.
///
/// # Safety
///
/// The processor has the instructions.
#[inline(always)]
unsafe fn zeros<const REGISTERS: usize>() -> [int32x4_t; REGISTERS] {
    // SAFETY: promised by the caller.
    [unsafe { vdupq_n_s32(0) }; REGISTERS]
}

/// Quads of unsigned 8-bit weights, of which 128 is zero, and signed activations.
pub(crate) struct Int8;

impl Dot for Int8 {
    const ROW: usize = 64;
    const WORDS: usize = 1;
    const IS_FUSED: bool = true;
    type Weights = [int8x16_t; 2];
    type Words = int8x16_t;
    type Sums = [int32x4_t; 2];

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        // SAFETY: promised by the caller.
        unsafe { zeros() }
    }

    /// As signed numbers around zero.
    #[inline(always)]
    unsafe fn load<const PART: usize>(half_row: *const u8) -> Self::Weights {
        // SAFETY: promised by the caller.
        unsafe {
            let ([low, high], sign) = (half(half_row), vdupq_n_u8(128));
            [
                vreinterpretq_s8_u8(veorq_u8(low, sign)),
                vreinterpretq_s8_u8(veorq_u8(high, sign)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn broadcast<const PART: usize>(words: *const u32) -> int8x16_t {
        // SAFETY: promised by the caller.
        unsafe { broadcast(words) }
    }

    #[inline(always)]
    unsafe fn add(sums: Self::Sums, weights: Self::Weights, x: int8x16_t) -> Self::Sums {
        // SAFETY: promised by the caller.
        unsafe {
            [
                add_dots(sums[0], weights[0], x),
                add_dots(sums[1], weights[1], x),
            ]
        }
    }
}

impl ByteSums for Int8 {
    #[inline(always)]
    unsafe fn totals(sums: Self::Sums) -> I32x8 {
        I32x8(sums)
    }
}

/// Eight unsigned 4-bit weights to a word, and two quads of signed activations.
pub(crate) struct Int4;

impl Dot for Int4 {
    const ROW: usize = 64;
    const WORDS: usize = 2;
    const IS_FUSED: bool = true;
    type Weights = [[int8x16_t; 2]; 2];
    type Words = [int8x16_t; 2];
    type Sums = [int32x4_t; 2];

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        // SAFETY: promised by the caller.
        unsafe { zeros() }
    }

    /// The low halves of the bytes, and the high ones.
    #[inline(always)]
    unsafe fn load<const PART: usize>(half_row: *const u8) -> Self::Weights {
        // SAFETY: promised by the caller.
        unsafe {
            half(half_row).map(|bytes| {
                let low = vandq_u8(bytes, vdupq_n_u8(15));
                [low, vshrq_n_u8::<4>(bytes)].map(|codes| vreinterpretq_s8_u8(codes))
            })
        }
    }

    #[inline(always)]
    unsafe fn broadcast<const PART: usize>(words: *const u32) -> Self::Words {
        // SAFETY: promised by the caller.
        unsafe { [broadcast(words), broadcast(words.add(1))] }
    }

    #[inline(always)]
    unsafe fn add(sums: Self::Sums, weights: Self::Weights, x: Self::Words) -> Self::Sums {
        // SAFETY: promised by the caller.
        unsafe {
            let low = [
                add_dots(sums[0], weights[0][0], x[0]),
                add_dots(sums[1], weights[1][0], x[0]),
            ];
            [
                add_dots(low[0], weights[0][1], x[1]),
                add_dots(low[1], weights[1][1], x[1]),
            ]
        }
    }
}

impl ByteSums for Int4 {
    #[inline(always)]
    unsafe fn totals(sums: Self::Sums) -> I32x8 {
        I32x8(sums)
    }
}

/// Sums of bytes with integers of 16 bits: of each lane's four products, two and two apart.
type PairSums = [int32x4_t; 4];

/// `sums + weights * x`, number by number.
///
/// # Safety
///
/// The processor has the instructions.
#[inline(always)]
unsafe fn add_products(sums: PairSums, weights: [int16x8_t; 2], x: int16x8_t) -> PairSums {
    // SAFETY: promised by the caller.
    unsafe {
        let low = |sums, weights| vmlal_s16(sums, vget_low_s16(weights), vget_low_s16(x));
        [
            low(sums[0], weights[0]),
            vmlal_high_s16(sums[1], weights[0], x),
            low(sums[2], weights[1]),
            vmlal_high_s16(sums[3], weights[1], x),
        ]
    }
}

/// The sums of eight lanes.
///
/// # Safety
///
/// The processor has the instructions.
#[inline(always)]
unsafe fn pair_totals([a, b, c, d]: PairSums) -> I32x8 {
    // SAFETY: promised by the caller.
    I32x8(unsafe { [vpaddq_s32(a, b), vpaddq_s32(c, d)] })
}

/// A pair of integers of 16 bits in each lane.
///
/// # Safety
///
/// The word is readable.
#[inline(always)]
unsafe fn broadcast_pair(word: *const u32) -> int16x8_t {
    // SAFETY: promised by the caller.
    unsafe { vreinterpretq_s16_u32(vdupq_n_u32(*word)) }
}

/// Products of a cache's bytes with pairs of integers of 16 bits.
macro_rules! bytes_with_pairs {
    ($(#[$doc:meta])* $name:ident, $bytes:ident => [$even:expr, $odd:expr]) => {
        $(#[$doc])*
        pub(crate) struct $name;

        impl Dot for $name {
            const ROW: usize = 64;
            const WORDS: usize = 2;
            const PARTS: usize = 2;
            const IS_FUSED: bool = true;
            type Weights = [int16x8_t; 2];
            type Words = int16x8_t;
            type Sums = PairSums;

            #[inline(always)]
            unsafe fn zero() -> PairSums {
                // SAFETY: promised by the caller.
                unsafe { zeros() }
            }

            /// Bytes 0 and 2 of each quad, or bytes 1 and 3.
            #[inline(always)]
            unsafe fn load<const PART: usize>(half_row: *const u8) -> [int16x8_t; 2] {
                // SAFETY: promised by the caller.
                unsafe {
                    half(half_row).map(|$bytes| match PART {
                        0 => $even,
                        _ => $odd,
                    })
                }
            }

            #[inline(always)]
            unsafe fn broadcast<const PART: usize>(words: *const u32) -> int16x8_t {
                // SAFETY: promised by the caller.
                unsafe { broadcast_pair(words.add(PART)) }
            }

            #[inline(always)]
            unsafe fn add(sums: PairSums, weights: [int16x8_t; 2], x: int16x8_t) -> PairSums {
                // SAFETY: promised by the caller.
                unsafe { add_products(sums, weights, x) }
            }
        }

        impl ByteSums for $name {
            #[inline(always)]
            unsafe fn totals(sums: PairSums) -> I32x8 {
                // SAFETY: promised by the caller.
                unsafe { pair_totals(sums) }
            }
        }
    };
}

bytes_with_pairs! {
    /// The keys of an int8 cache: unsigned bytes.
    KeyBytes, bytes => [
        vreinterpretq_s16_u16(vandq_u16(vreinterpretq_u16_u8(bytes), vdupq_n_u16(0xff))),
        vreinterpretq_s16_u16(vshrq_n_u16::<8>(vreinterpretq_u16_u8(bytes)))
    ]
}

bytes_with_pairs! {
    /// The values of an int8 cache: signed bytes.
    ValueBytes, bytes => [
        vshrq_n_s16::<8>(vshlq_n_s16::<8>(vreinterpretq_s16_u8(bytes))),
        vshrq_n_s16::<8>(vreinterpretq_s16_u8(bytes))
    ]
}
