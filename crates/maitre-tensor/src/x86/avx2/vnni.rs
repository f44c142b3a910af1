//! Products of bytes and four bits on processors with AVX-VNNI but not AVX-512: Alder Lake and later.
//!
//! `vpdpbusd` multiplies four unsigned bytes with four signed ones in each lane and adds the products to the lane's sum,
//! exactly: what AVX2 alone takes four instructions for. All else is as on AVX2.

use std::arch::x86_64::*;
use std::sync::LazyLock;

use super::registers::I32x8;
use crate::format::WeightFormat;
use crate::input::InputRows;
use crate::kernels::{Kernels, Linear};
use crate::results::Results;
use crate::team::Scratch;
use crate::vector::eight::{self, ByteSums, Bytes, Dot, Int4Groups, Int8Groups};
use crate::vector::strips::{self, Product};
use crate::weight::INT8_ZERO;

/// The kernels, if this processor has every instruction they use.
pub(crate) fn kernels() -> Option<&'static Kernels> {
    static KERNELS: LazyLock<Option<Kernels>> = LazyLock::new(|| {
        let avx2 = super::kernels()?;
        is_x86_feature_detected!("avxvnni").then_some(Kernels {
            name: "avx-vnni",
            linear,
            ..*avx2
        })
    });
    KERNELS.as_ref()
}

/// See [`Kernels::linear`](crate::kernels::Kernels::linear).
fn linear(args: &Linear<'_>, out: &mut Results<'_>, scratch: &mut Scratch) {
    // SAFETY: this function is reached through a table that is handed out only where the processor
    // has the instructions.
    unsafe {
        match args.weight.layout.format {
            WeightFormat::Int8 { .. } => tile::<Int8Groups<Vnni>>(args, out, scratch),
            WeightFormat::Int4 { .. } => tile::<Int4Groups<Vnni>>(args, out, scratch),
            _ => eight::linear(args, out, scratch),
        }
    }
}

/// # Safety
///
/// The processor has the instructions.
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
unsafe fn tile<F: Product>(args: &Linear<'_>, out: &mut Results<'_>, scratch: &mut Scratch) {
    // SAFETY: promised by the caller.
    unsafe { strips::tile::<F>(args, out, scratch) }
}

/// Products by `vpdpbusd`.
struct Vnni;

impl Bytes for Vnni {
    type Int8 = Int8;
    type Int4 = Int4;
    /// Twelve registers of sums, two of weights, one word.
    const INT8_TOKENS: usize = 6;
    /// Eight registers of sums, four of weights, two words, one constant.
    const INT4_TOKENS: usize = 4;
    const INT8_OFFSET: i32 = INT8_ZERO;

    #[inline(always)]
    fn widen_int8<'a>(x: InputRows<'a>, _: &'a mut Scratch) -> InputRows<'a> {
        x
    }
}

/// Quads of unsigned 8-bit weights and signed activations, as they come.
struct Int8;

impl Dot for Int8 {
    const ROW: usize = 64;
    const WORDS: usize = 1;
    const IS_FUSED: bool = true;
    type Weights = __m256i;
    type Words = __m256i;
    type Sums = __m256i;

    #[inline(always)]
    unsafe fn zero() -> __m256i {
        // SAFETY: promised by the caller.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn load<const PART: usize>(half_row: *const u8) -> __m256i {
        // SAFETY: promised by the caller.
        unsafe { _mm256_loadu_si256(half_row.cast()) }
    }

    #[inline(always)]
    unsafe fn broadcast<const PART: usize>(words: *const u32) -> __m256i {
        // SAFETY: promised by the caller.
        unsafe { _mm256_set1_epi32((*words).cast_signed()) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m256i, weights: __m256i, x: __m256i) -> __m256i {
        // SAFETY: promised by the caller.
        unsafe { _mm256_dpbusd_avx_epi32(sums, weights, x) }
    }
}

impl ByteSums for Int8 {
    #[inline(always)]
    unsafe fn totals(sums: __m256i) -> I32x8 {
        I32x8(sums)
    }
}

/// Eight unsigned 4-bit weights to a word, and two quads of signed activations as they come.
struct Int4;

impl Dot for Int4 {
    const ROW: usize = 64;
    const WORDS: usize = 2;
    const IS_FUSED: bool = true;
    type Weights = [__m256i; 2];
    type Words = [__m256i; 2];
    type Sums = __m256i;

    #[inline(always)]
    unsafe fn zero() -> __m256i {
        // SAFETY: promised by the caller.
        unsafe { Int8::zero() }
    }

    #[inline(always)]
    unsafe fn load<const PART: usize>(half_row: *const u8) -> [__m256i; 2] {
        // SAFETY: promised by the caller.
        unsafe { super::Int4::load::<PART>(half_row) }
    }

    #[inline(always)]
    unsafe fn broadcast<const PART: usize>(words: *const u32) -> [__m256i; 2] {
        // SAFETY: promised by the caller.
        unsafe { super::Int4::broadcast::<PART>(words) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m256i, weights: [__m256i; 2], x: [__m256i; 2]) -> __m256i {
        // SAFETY: promised by the caller.
        unsafe { Int8::add(Int8::add(sums, weights[0], x[0]), weights[1], x[1]) }
    }
}

impl ByteSums for Int4 {
    #[inline(always)]
    unsafe fn totals(sums: __m256i) -> I32x8 {
        I32x8(sums)
    }
}
