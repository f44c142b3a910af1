//! The register block that all products are made of.
//!
//! ```text
//!               panel 0               one row: 16 lanes, a word per lane,
//!            [ w w ... ][ w w ... ]   in two registers
//! token 0 x  [ sums    ][         ]
//! token 1 x  [         ][         ]   x: a word, broadcast
//! ...        up to 6 x 2 = 12 registers of sums
//! ```
//!
//! With several tokens one panel fills the 16 registers: a step of the reduction loads two
//! registers of weights and broadcasts up to 6 words for up to 12 multiply-add instructions. With
//! one or two tokens several panels are walked side by side, which keeps both multipliers busy in
//! spite of their latency. A sum's order of additions is that of the panel's rows, at any size.
//!
//! bf16 and int8 have no instruction of their own. A row meets two words of *widened* activations
//! instead of one: see [`widen`].

use std::arch::x86_64::*;

use crate::input::{InputRows, InputShape};
use crate::team::Scratch;
use crate::weight::layout::LINE;
use crate::x86::strips::Ahead;

/// The multiply-add of a weight format, for half a row of a panel.
///
/// A row may meet its words part by part: the weights of one part are all that must stay in registers while the tokens
/// pass.
pub(super) trait Dot {
    /// Bytes of a row of a panel.
    const ROW: usize;
    /// Words of activations that a row meets.
    const WORDS: usize;
    /// Parts of a row that meet their words one after the other: one or two.
    const PARTS: usize = 1;
    /// Whether an addition waits for a multiplication: integer sums are added a cycle later.
    const IS_FUSED: bool;
    /// The weights of a part of half a row.
    type Weights: Copy;
    /// The words that a part meets, broadcast.
    type Words: Copy;
    /// Sums of 8 output features.
    type Sums: Copy;

    /// # Safety
    ///
    /// The processor has the instructions that [`kernels`](super::kernels) asks for.
    unsafe fn zero() -> Self::Sums;

    /// # Safety
    ///
    /// As [`Dot::zero`], and `half_row` points to half of [`Dot::ROW`] readable bytes.
    unsafe fn load<const PART: usize>(half_row: *const u8) -> Self::Weights;

    /// # Safety
    ///
    /// As [`Dot::zero`], and `words` points to [`Dot::WORDS`] readable words.
    unsafe fn broadcast<const PART: usize>(words: *const u32) -> Self::Words;

    /// `sums + weights * x`.
    ///
    /// # Safety
    ///
    /// As [`Dot::zero`].
    unsafe fn add(sums: Self::Sums, weights: Self::Weights, x: Self::Words) -> Self::Sums;
}

/// f32 weights and activations.
pub(super) struct F32;

impl Dot for F32 {
    const ROW: usize = 64;
    const WORDS: usize = 1;
    const IS_FUSED: bool = true;
    type Weights = __m256;
    type Words = __m256;
    type Sums = __m256;

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        // SAFETY: promised by the caller.
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn load<const PART: usize>(half_row: *const u8) -> __m256 {
        // SAFETY: promised by the caller.
        unsafe { _mm256_loadu_ps(half_row.cast()) }
    }

    #[inline(always)]
    unsafe fn broadcast<const PART: usize>(words: *const u32) -> __m256 {
        // SAFETY: promised by the caller.
        unsafe { _mm256_set1_ps(*words.add(PART).cast()) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m256, weights: __m256, x: __m256) -> __m256 {
        // SAFETY: promised by the caller.
        unsafe { _mm256_fmadd_ps(weights, x, sums) }
    }
}

/// f16 weights, widened, and f32 activations.
pub(super) struct F16;

impl Dot for F16 {
    const ROW: usize = 32;
    const WORDS: usize = 1;
    const IS_FUSED: bool = true;
    type Weights = __m256;
    type Words = __m256;
    type Sums = __m256;

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        // SAFETY: promised by the caller.
        unsafe { F32::zero() }
    }

    #[inline(always)]
    unsafe fn load<const PART: usize>(half_row: *const u8) -> __m256 {
        // SAFETY: promised by the caller.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(half_row.cast())) }
    }

    #[inline(always)]
    unsafe fn broadcast<const PART: usize>(words: *const u32) -> __m256 {
        // SAFETY: promised by the caller.
        unsafe { F32::broadcast::<PART>(words) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m256, weights: __m256, x: __m256) -> __m256 {
        // SAFETY: promised by the caller.
        unsafe { F32::add(sums, weights, x) }
    }
}

/// Pairs of bf16 weights, and activations widened by [`split_bf16`].
pub(super) struct Bf16;

impl Dot for Bf16 {
    const ROW: usize = 64;
    const WORDS: usize = 2;
    const PARTS: usize = 2;
    const IS_FUSED: bool = true;
    type Weights = __m256;
    type Words = __m256;
    type Sums = __m256;

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        // SAFETY: promised by the caller.
        unsafe { F32::zero() }
    }

    /// The first of each pair, or the second.
    #[inline(always)]
    unsafe fn load<const PART: usize>(half_row: *const u8) -> __m256 {
        // SAFETY: promised by the caller.
        unsafe {
            let pairs = _mm256_loadu_si256(half_row.cast());
            let high_halves = _mm256_set1_epi32(0xffff_0000_u32.cast_signed());
            _mm256_castsi256_ps(match PART {
                0 => _mm256_slli_epi32::<16>(pairs),
                _ => _mm256_and_si256(pairs, high_halves),
            })
        }
    }

    #[inline(always)]
    unsafe fn broadcast<const PART: usize>(words: *const u32) -> __m256 {
        // SAFETY: promised by the caller.
        unsafe { F32::broadcast::<PART>(words) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m256, weights: __m256, x: __m256) -> __m256 {
        // SAFETY: promised by the caller.
        unsafe { F32::add(sums, weights, x) }
    }
}

/// Quads of unsigned 8-bit weights, and signed activations widened by [`split_int8`]. Both meet as
/// 16-bit numbers, whose products are summed exactly in i32: the instruction for bytes saturates
/// at the sum of two products.
pub(super) struct Int8;

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

/// Eight unsigned 4-bit weights to a word, and two quads of signed activations as they come. The sums of
/// four-bit weights cannot overflow: two products sum to 2 * 15 * 127 at most, and those of both quads to
/// 7,620, of 32,767.
pub(super) struct Int4;

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

/// # Safety
///
/// The processor has the instructions, and `word` points to a readable word.
#[inline(always)]
unsafe fn broadcast(word: *const u32) -> __m256i {
    // SAFETY: promised by the caller.
    unsafe { _mm256_set1_epi32((*word).cast_signed()) }
}

/// Replaces each word of some rows by two, once for all panels of a strip.
///
/// ```text
/// bf16   [b|a]       ->  [a|0] [b|0]             f32 numbers
/// int8   [d|c|b|a]   ->  [ c | a ] [ d | b ]     pairs of 16-bit numbers
/// ```
#[inline(always)]
pub(super) fn widen<'a>(
    x: InputRows<'a>,
    scratch: &'a mut Scratch,
    split: impl Fn(u32) -> [u32; 2],
) -> InputRows<'a> {
    let (wide, _) = scratch.words_and_floats(2 * x.words.len(), 0);
    for (wide, word) in wide.as_chunks_mut().0.iter_mut().zip(x.words) {
        *wide = split(*word);
    }
    InputRows {
        words: wide,
        groups: x.groups,
        shape: InputShape {
            words: 2 * x.shape.words,
            ..x.shape
        },
    }
}

/// See [`widen`].
#[inline(always)]
pub(super) fn split_bf16(word: u32) -> [u32; 2] {
    [word << 16, word & 0xffff_0000]
}

/// See [`widen`].
#[inline(always)]
pub(super) fn split_int8(word: u32) -> [u32; 2] {
    pair_up(word.to_le_bytes().map(|byte| i16::from(byte.cast_signed())))
}

/// The words in which four integers meet a word of four bytes.
#[inline(always)]
pub(super) fn pair_up(quad: [i16; 4]) -> [u32; 2] {
    let [a, b, c, d] = quad.map(|integer| u32::from(integer.cast_unsigned()));
    [a | c << 16, b | d << 16]
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
    /// Bytes that will be wanted next.
    pub(super) ahead: Ahead,
}

/// Where nothing else is to be fetched, the bytes between the row that is used and the one that is
/// asked for: a page, which the processor does not cross by itself. Behind the last row of a panel
/// the next panel follows.
const AHEAD: usize = 4096;

/// The sums of 16 features.
pub(super) type Pair<D> = [<D as Dot>::Sums; 2];

/// The sums of `M` tokens with `P` panels, as many panels at a time as the registers hold.
///
/// # Safety
///
/// The processor has the instructions; `M` tokens of `depth` times [`Dot::WORDS`] words and `P`
/// panels of `depth` rows are readable. (What `ahead` points to need not be.)
#[inline(always)]
pub(super) unsafe fn block<D: Dot, const M: usize, const P: usize>(
    operands: Operands,
) -> [[Pair<D>; P]; M] {
    // SAFETY: promised by the caller; the panels from `first` on are among his.
    unsafe {
        let mut sums = [[[D::zero(); 2]; P]; M];
        let mut first = 0;
        while first < P {
            let width = match M {
                1 => P,
                2 if P > 1 && D::IS_FUSED => 2,
                _ => 1,
            };
            match width {
                4 => narrow_block::<D, M, 4, P>(operands, first, &mut sums),
                2 => narrow_block::<D, M, 2, P>(operands, first, &mut sums),
                _ => narrow_block::<D, M, 1, P>(operands, first, &mut sums),
            }
            first += width;
        }
        sums
    }
}

/// `W` of the `P` panels of [`block`], from `first` on.
///
/// # Safety
///
/// As [`block`].
#[inline(always)]
unsafe fn narrow_block<D: Dot, const M: usize, const W: usize, const P: usize>(
    operands: Operands,
    first: usize,
    out: &mut [[Pair<D>; P]; M],
) {
    let Operands {
        x,
        x_stride,
        panel,
        panel_stride,
        depth,
        ahead,
    } = operands;
    // SAFETY: all addresses are within what the caller promises to be readable; a prefetch may
    // name any.
    unsafe {
        let panel = panel.add(first * panel_stride);
        let fetched: [*const u8; W] = std::array::from_fn(|w| {
            let next = ahead.part(first + w, depth);
            next.unwrap_or(panel.wrapping_add(w * panel_stride + AHEAD))
        });
        let mut sums = [[[D::zero(); 2]; W]; M];
        for k in 0..depth {
            for (w, fetched) in fetched.iter().enumerate() {
                let row = panel.add(w * panel_stride + k * D::ROW);
                _mm_prefetch::<_MM_HINT_T0>(fetched.wrapping_add(k * LINE).cast());
                add_row::<D, M, W>(&mut sums, w, row, x.add(k * D::WORDS), x_stride);
            }
        }
        for (out, sums) in out.iter_mut().zip(sums) {
            for (out, sums) in out[first..].iter_mut().zip(sums) {
                *out = sums;
            }
        }
    }
}

/// Adds the products of `M` tokens with a row of panel `w` of those whose sums are given.
///
/// # Safety
///
/// The processor has the instructions; the row is readable, and so are [`Dot::WORDS`] words of each token, which are
/// `x_stride` words apart.
#[inline(always)]
pub(super) unsafe fn add_row<D: Dot, const M: usize, const W: usize>(
    sums: &mut [[Pair<D>; W]; M],
    w: usize,
    row: *const u8,
    x: *const u32,
    x_stride: usize,
) {
    // SAFETY: promised by the caller.
    unsafe {
        add_part::<D, 0, M, W>(sums, w, row, x, x_stride);
        if D::PARTS == 2 {
            add_part::<D, 1, M, W>(sums, w, row, x, x_stride);
        }
    }
}

/// One part of a row; see [`add_row`].
///
/// # Safety
///
/// As [`add_row`].
#[inline(always)]
pub(super) unsafe fn add_part<D: Dot, const PART: usize, const M: usize, const W: usize>(
    sums: &mut [[Pair<D>; W]; M],
    w: usize,
    row: *const u8,
    x: *const u32,
    x_stride: usize,
) {
    // SAFETY: promised by the caller.
    unsafe {
        let halves = [row, row.add(D::ROW / 2)];
        let weights = halves.map(|half| D::load::<PART>(half));
        for (m, sums) in sums.iter_mut().enumerate() {
            let words = D::broadcast::<PART>(x.add(m * x_stride));
            for (sums, weights) in sums[w].iter_mut().zip(weights) {
                *sums = D::add(*sums, weights, words);
            }
        }
    }
}
