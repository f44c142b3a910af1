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
//!
//! Where no instruction multiplies a format as it is stored, a row is taken in two parts, each of which meets a word
//! of its own.

use std::arch::x86_64::*;

use crate::vector::eight::{split_bf16, split_int8};
use crate::vector::strips::Ahead;

/// The multiply-add of a weight format.
pub(super) trait Dot {
    /// Bytes of a row of a panel.
    const ROW: usize;
    /// Parts of a row, one or two, each of which meets a word of activations.
    const PARTS: usize = 1;
    /// Sums of 16 output features.
    type Sums: Copy;

    /// # Safety
    ///
    /// The processor has the instructions that [`kernels`](super::kernels) asks for.
    unsafe fn zero() -> Self::Sums;

    /// # Safety
    ///
    /// As [`Dot::zero`], and `row` points to [`Dot::ROW`] readable bytes.
    unsafe fn load<const PART: usize>(row: *const u8) -> __m512i;

    /// `sums + weights * x`.
    ///
    /// # Safety
    ///
    /// As [`Dot::zero`].
    unsafe fn add(sums: Self::Sums, weights: __m512i, x: __m512i) -> Self::Sums;

    /// What two parts of a row meet in place of a word of activations, of formats whose activations have one word for a row.
    /// Those of [`Int4`] have two as they are.
    fn split(word: u32) -> [u32; 2] {
        [word, 0]
    }
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
    unsafe fn load<const PART: usize>(row: *const u8) -> __m512i {
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
    unsafe fn load<const PART: usize>(row: *const u8) -> __m512i {
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
    unsafe fn load<const PART: usize>(row: *const u8) -> __m512i {
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

/// Pairs of bf16 weights for processors without [`Bf16`]'s instruction. Weights are widened to f32 in registers, and meet
/// activations widened before.
pub(super) struct WideBf16;

impl Dot for WideBf16 {
    const ROW: usize = 64;
    const PARTS: usize = 2;
    type Sums = __m512;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: promised by the caller.
        unsafe { _mm512_setzero_ps() }
    }

    /// The first of each pair, or the second.
    #[inline(always)]
    unsafe fn load<const PART: usize>(row: *const u8) -> __m512i {
        // SAFETY: promised by the caller.
        unsafe {
            let pairs = _mm512_loadu_si512(row.cast());
            match PART {
                0 => _mm512_slli_epi32::<16>(pairs),
                _ => _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32.cast_signed())),
            }
        }
    }

    #[inline(always)]
    unsafe fn add(sums: __m512, weights: __m512i, x: __m512i) -> __m512 {
        // SAFETY: promised by the caller.
        unsafe { F32::add(sums, weights, x) }
    }

    #[inline(always)]
    fn split(word: u32) -> [u32; 2] {
        split_bf16(word)
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
    unsafe fn load<const PART: usize>(row: *const u8) -> __m512i {
        // SAFETY: promised by the caller.
        unsafe { _mm512_loadu_si512(row.cast()) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m512i, weights: __m512i, x: __m512i) -> __m512i {
        // SAFETY: promised by the caller.
        unsafe { _mm512_dpbusd_epi32(sums, weights, x) }
    }
}

/// Quads of unsigned 8-bit weights for processors without [`Int8`]'s instruction. Both meet as 16-bit numbers, whose products
/// are summed exactly in 32 bits.
pub(super) struct WideInt8;

impl Dot for WideInt8 {
    const ROW: usize = 64;
    const PARTS: usize = 2;
    type Sums = __m512i;

    #[inline(always)]
    unsafe fn zero() -> __m512i {
        // SAFETY: promised by the caller.
        unsafe { _mm512_setzero_si512() }
    }

    /// Bytes 0 and 2 of each quad, or bytes 1 and 3.
    #[inline(always)]
    unsafe fn load<const PART: usize>(row: *const u8) -> __m512i {
        // SAFETY: promised by the caller.
        unsafe {
            let quads = _mm512_loadu_si512(row.cast());
            match PART {
                0 => _mm512_and_si512(quads, _mm512_set1_epi16(0xff)),
                _ => _mm512_srli_epi16::<8>(quads),
            }
        }
    }

    #[inline(always)]
    unsafe fn add(sums: __m512i, weights: __m512i, x: __m512i) -> __m512i {
        // SAFETY: promised by the caller.
        unsafe { _mm512_add_epi32(sums, _mm512_madd_epi16(weights, x)) }
    }

    #[inline(always)]
    fn split(word: u32) -> [u32; 2] {
        split_int8(word)
    }
}

/// Eight unsigned 4-bit weights to a word. Its low halves meet a quad of signed activations, and its high halves the next.
pub(super) struct Int4;

impl Dot for Int4 {
    const ROW: usize = 64;
    const PARTS: usize = 2;
    type Sums = __m512i;

    #[inline(always)]
    unsafe fn zero() -> __m512i {
        // SAFETY: promised by the caller.
        unsafe { _mm512_setzero_si512() }
    }

    /// The low halves of the bytes, or the high ones.
    #[inline(always)]
    unsafe fn load<const PART: usize>(row: *const u8) -> __m512i {
        // SAFETY: promised by the caller.
        unsafe {
            let bytes = _mm512_loadu_si512(row.cast());
            let halves = match PART {
                0 => bytes,
                _ => _mm512_srli_epi16::<4>(bytes),
            };
            _mm512_and_si512(halves, _mm512_set1_epi8(15))
        }
    }

    #[inline(always)]
    unsafe fn add(sums: __m512i, weights: __m512i, x: __m512i) -> __m512i {
        // SAFETY: promised by the caller.
        unsafe { Int8::add(sums, weights, x) }
    }
}

/// [`Int4`] for processors without [`Int8`]'s instruction. Sums of two products are at most 2 * 15 * 127, which 16 bits
/// hold.
pub(super) struct WideInt4;

impl Dot for WideInt4 {
    const ROW: usize = Int4::ROW;
    const PARTS: usize = Int4::PARTS;
    type Sums = __m512i;

    #[inline(always)]
    unsafe fn zero() -> __m512i {
        // SAFETY: promised by the caller.
        unsafe { Int4::zero() }
    }

    #[inline(always)]
    unsafe fn load<const PART: usize>(row: *const u8) -> __m512i {
        // SAFETY: promised by the caller.
        unsafe { Int4::load::<PART>(row) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m512i, weights: __m512i, x: __m512i) -> __m512i {
        // SAFETY: promised by the caller.
        unsafe {
            let pairs = _mm512_maddubs_epi16(weights, x);
            _mm512_add_epi32(sums, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))
        }
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
/// The processor has the instructions; `M` tokens of `depth` times [`Dot::PARTS`] words and `P` panels of `depth` rows
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
            let (row, words) = (panel.add(k * D::ROW), x.add(k * D::PARTS));
            add_part::<D, 0, M, P>(&mut sums, row, panel_stride, words, x_stride);
            if D::PARTS == 2 {
                add_part::<D, 1, M, P>(&mut sums, row, panel_stride, words, x_stride);
            }
        }
        sums
    }
}

/// Adds the products of `M` tokens with a part of a row of each of `P` panels.
///
/// # Safety
///
/// As [`block`]: the row of each panel is readable, and [`Dot::PARTS`] words of each token.
#[inline(always)]
unsafe fn add_part<D: Dot, const PART: usize, const M: usize, const P: usize>(
    sums: &mut [[D::Sums; P]; M],
    row: *const u8,
    panel_stride: usize,
    words: *const u32,
    x_stride: usize,
) {
    // SAFETY: promised by the caller.
    unsafe {
        let mut weights = [_mm512_setzero_si512(); P];
        for (p, weights) in weights.iter_mut().enumerate() {
            *weights = D::load::<PART>(row.add(p * panel_stride));
        }
        for (m, sums) in sums.iter_mut().enumerate() {
            let word = _mm512_set1_epi32((*words.add(m * x_stride + PART)).cast_signed());
            for (sums, weights) in sums.iter_mut().zip(weights) {
                *sums = D::add(*sums, weights, word);
            }
        }
    }
}
