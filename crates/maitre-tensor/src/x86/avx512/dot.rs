//! The register block that all products are made of.
//!
//! ```text
//!               panel 0     panel 1     panel 2     panel 3      one row of each: 16 lanes,
//!            [ w w w ... ][ w w w ...][ w w w ...][ w w w ...]   a word per lane
//! token 0 x  [ sums      ][          ][          ][          ]
//! token 1 x  [           ][          ][          ][          ]   x: a word, broadcast
//! ...        up to 6 x 4 = 24 registers of sums
//! ```
//!
//! A step of the reduction loads up to 4 registers of weights and broadcasts up to 6 words, for up
//! to 24 multiply-add instructions: the multipliers are the bottleneck, not the loads. A sum's
//! order of additions is that of the panel's rows, at any block size.

use std::arch::x86_64::*;

use crate::vector::strips::Ahead;

/// The multiply-add instruction of a weight format.
pub(super) trait Dot {
    /// Bytes of a row of a panel.
    const ROW: usize;
    /// Sums of 16 output features.
    type Sums: Copy;

    /// # Safety
    ///
    /// The processor has the instructions that [`kernels`](super::kernels) asks for.
    unsafe fn zero() -> Self::Sums;

    /// # Safety
    ///
    /// As [`Dot::zero`], and `row` points to [`Dot::ROW`] readable bytes.
    unsafe fn load(row: *const u8) -> __m512i;

    /// `sums + weights * x`.
    ///
    /// # Safety
    ///
    /// As [`Dot::zero`].
    unsafe fn add(sums: Self::Sums, weights: __m512i, x: __m512i) -> Self::Sums;
}

/// f32 weights and activations.
pub(super) struct F32;

impl Dot for F32 {
    const ROW: usize = 64;
    type Sums = __m512;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: promised by the caller.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn load(row: *const u8) -> __m512i {
        // SAFETY: promised by the caller.
        unsafe { _mm512_loadu_si512(row.cast()) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m512, weights: __m512i, x: __m512i) -> __m512 {
        // SAFETY: promised by the caller.
        unsafe { _mm512_fmadd_ps(_mm512_castsi512_ps(weights), _mm512_castsi512_ps(x), sums) }
    }
}

/// f16 weights, widened, and f32 activations.
pub(super) struct F16;

impl Dot for F16 {
    const ROW: usize = 32;
    type Sums = __m512;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: promised by the caller.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn load(row: *const u8) -> __m512i {
        // SAFETY: promised by the caller.
        unsafe { _mm512_castps_si512(_mm512_cvtph_ps(_mm256_loadu_si256(row.cast()))) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m512, weights: __m512i, x: __m512i) -> __m512 {
        // SAFETY: promised by the caller.
        unsafe { F32::add(sums, weights, x) }
    }
}

/// Pairs of bf16 weights and activations, summed in f32. The instruction takes subnormal numbers as
/// zero.
pub(super) struct Bf16;

impl Dot for Bf16 {
    const ROW: usize = 64;
    type Sums = __m512;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: promised by the caller.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn load(row: *const u8) -> __m512i {
        // SAFETY: promised by the caller.
        unsafe { _mm512_loadu_si512(row.cast()) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m512, weights: __m512i, x: __m512i) -> __m512 {
        // SAFETY: promised by the caller; the casts only rename the registers' contents.
        unsafe {
            let pairs = |register| std::mem::transmute::<__m512i, __m512bh>(register);
            _mm512_dpbf16_ps(sums, pairs(weights), pairs(x))
        }
    }
}

/// Quads of unsigned 8-bit weights and signed activations, summed exactly in i32.
pub(super) struct Int8;

impl Dot for Int8 {
    const ROW: usize = 64;
    type Sums = __m512i;

    #[inline(always)]
    unsafe fn zero() -> __m512i {
        // SAFETY: promised by the caller.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn load(row: *const u8) -> __m512i {
        // SAFETY: promised by the caller.
        unsafe { _mm512_loadu_si512(row.cast()) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m512i, weights: __m512i, x: __m512i) -> __m512i {
        // SAFETY: promised by the caller.
        unsafe { _mm512_dpbusd_epi32(sums, weights, x) }
    }
}

/// What a block reads.
#[derive(Clone, Copy)]
pub(super) struct Operands {
    /// The first word of the first token; tokens are `x_stride` words apart.
    pub(super) x: *const u32,
    pub(super) x_stride: usize,
    /// The first row of the first panel; panels are `panel_stride` bytes apart.
    pub(super) panel: *const u8,
    pub(super) panel_stride: usize,
    /// Rows to walk.
    pub(super) depth: usize,
    /// Bytes that will be wanted next, fetched into the second-level cache on the way.
    pub(super) ahead: Ahead,
}

/// The sums of `M` tokens with `P` panels.
///
/// # Safety
///
/// The processor has the instructions; `M` tokens of `depth` words and `P` panels of `depth` rows
/// are readable. (What `ahead` points to need not be.)
#[inline(always)]
pub(super) unsafe fn block<D: Dot, const M: usize, const P: usize>(
    operands: Operands,
) -> [[D::Sums; P]; M] {
    let Operands {
        x,
        x_stride,
        panel,
        panel_stride,
        depth,
        ahead,
    } = operands;
    // SAFETY: all addresses are within what the caller promises to be readable; a prefetch may
    // name any address.
    unsafe {
        let mut sums = [[D::zero(); P]; M];
        for k in 0..depth {
            ahead.fetch(k);
            let mut weights = [_mm512_setzero_si512(); P];
            for (p, weights) in weights.iter_mut().enumerate() {
                *weights = D::load(panel.add(p * panel_stride + k * D::ROW));
            }
            for (m, sums) in sums.iter_mut().enumerate() {
                let word = _mm512_set1_epi32((*x.add(m * x_stride + k)).cast_signed());
                for (sums, weights) in sums.iter_mut().zip(weights) {
                    *sums = D::add(*sums, weights, word);
                }
            }
        }
        sums
    }
}
