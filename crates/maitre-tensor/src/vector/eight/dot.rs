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
//! With several tokens one panel fills the registers: a step of the reduction loads two of weights and broadcasts up to
//! 6 words for up to 12 multiply-add instructions. With one or two tokens several panels are walked side by side, which
//! keeps all multipliers busy in spite of their latency. A sum's order of additions is that of the panel's rows, at any
//! size.
//!
//! bf16 has no instruction of its own, nor has int8 on AVX2. A row meets two words of *widened* activations instead of
//! one: see [`widen`].

use super::isa::{I32x8, fetch_near};
use crate::input::{InputRows, InputShape};
use crate::team::Scratch;
use crate::vector::strips::Ahead;
use crate::weight::layout::LINE;

/// The multiply-add of a weight format, for half a row of a panel.
///
/// A row may meet its words part by part: the weights of one part are all that must stay in registers while the tokens
/// pass.
pub(crate) trait Dot {
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
    /// The processor has the instructions of the path.
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

/// A multiply-add whose sums are integers.
pub(crate) trait ByteSums: Dot {
    /// The sums of 8 output features.
    ///
    /// # Safety
    ///
    /// As [`Dot::zero`].
    unsafe fn totals(sums: Self::Sums) -> I32x8;
}

/// Replaces each word of some rows by two, once for all panels of a strip.
///
/// ```text
/// bf16   [b|a]       ->  [a|0] [b|0]             f32 numbers
/// int8   [d|c|b|a]   ->  [ c | a ] [ d | b ]     pairs of 16-bit numbers (AVX2)
/// ```
#[inline(always)]
pub(crate) fn widen<'a>(
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
pub(crate) fn split_bf16(word: u32) -> [u32; 2] {
    [word << 16, word & 0xffff_0000]
}

/// The words in which four integers meet a word of four bytes.
#[inline(always)]
pub(crate) fn pair_up(quad: [i16; 4]) -> [u32; 2] {
    let [a, b, c, d] = quad.map(|integer| u32::from(integer.cast_unsigned()));
    [a | c << 16, b | d << 16]
}

/// A word of four signed bytes as [`pair_up`] has it.
#[inline(always)]
#[cfg(target_arch = "x86_64")]
pub(crate) fn split_int8(word: u32) -> [u32; 2] {
    pair_up(word.to_le_bytes().map(|byte| i16::from(byte.cast_signed())))
}

/// What a block reads.
#[derive(Clone, Copy)]
pub(crate) struct Operands {
    /// The first word of the first token; tokens are `x_stride` words apart.
    pub(crate) x: *const u32,
    pub(crate) x_stride: usize,
    /// The first row of the first panel; panels are `panel_stride` bytes apart.
    pub(crate) panel: *const u8,
    pub(crate) panel_stride: usize,
    /// Rows to walk.
    pub(crate) depth: usize,
    /// Bytes that will be wanted next.
    pub(crate) ahead: Ahead,
}

/// Where nothing else is to be fetched, the bytes between the row that is used and the one that is
/// asked for: a page, which the processor does not cross by itself. Behind the last row of a panel
/// the next panel follows.
const AHEAD: usize = 4096;

/// The sums of 16 features.
pub(crate) type Pair<D> = [<D as Dot>::Sums; 2];

/// The sums of `M` tokens with `P` panels, as many panels at a time as the registers hold.
///
/// # Safety
///
/// The processor has the instructions; `M` tokens of `depth` times [`Dot::WORDS`] words and `P`
/// panels of `depth` rows are readable. (What `ahead` points to need not be.)
#[inline(always)]
pub(crate) unsafe fn block<D: Dot, const M: usize, const P: usize>(
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
                fetch_near(fetched.wrapping_add(k * LINE));
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
pub(crate) unsafe fn add_row<D: Dot, const M: usize, const W: usize>(
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
pub(crate) unsafe fn add_part<D: Dot, const PART: usize, const M: usize, const W: usize>(
    sums: &mut [[Pair<D>; W]; M],
    w: usize,
    row: *const u8,
    x: *const u32,
    x_stride: usize,
) {
    // SAFETY: promised by the caller.
    unsafe {
        // No closure: one that is not inlined would be compiled without the instructions, and theirs would be calls.
        let weights = [D::load::<PART>(row), D::load::<PART>(row.add(D::ROW / 2))];
        for (m, sums) in sums.iter_mut().enumerate() {
            let words = D::broadcast::<PART>(x.add(m * x_stride));
            for (sums, weights) in sums[w].iter_mut().zip(weights) {
                *sums = D::add(*sums, weights, words);
            }
        }
    }
}
