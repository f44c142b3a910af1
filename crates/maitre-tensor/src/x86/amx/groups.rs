//! Integer products with scales per group of the reduction, in tile registers.
//!
//! ```text
//! for each 4 panels of the tile
//!   for each 64 token rows         (their f32 sums stay in the first-level cache)
//!     for each group
//!       weights as signed bytes    (a tile for each 64 of a panel's bytes)
//!       for each 16 of the rows    exact sums in tiles; meanwhile those of the sixteen before are scaled and added
//! ```
//!
//! Sums are exact within a group, and are scaled and added in the order of the groups. So they are those of the
//! AVX-512 path to the bit.

use std::arch::x86_64::*;
use std::ops::Range;

use super::registers::{DEPTH, LINE, Operands, ROWS, Signed, TileDot, WIDE_PANELS};
use super::shapes::{Shapes, Tiles};
use crate::input::InputRows;
use crate::kernels::Linear;
use crate::results::Results;
use crate::vector::strips::{Ahead, Numbers, PANELS, finish};
use crate::weight::layout::{LANES, Layout};
use crate::x86::avx512::read_header;

/// Fewest token rows that tiles multiply in less time than AVX-512's instructions.
pub(super) const GROUP_ROWS: usize = 8;

/// Token rows that pass the weights of a group before the next group's are expanded.
const BLOCK_ROWS: usize = 64;

/// Most words of a group of 128 numbers.
const WORDS: usize = 32;

/// How a format's group becomes signed bytes.
pub(super) trait Grouped {
    /// Whether each group of a panel has scales of its own; else a panel begins with them.
    const HAS_SCALES: bool;

    /// Fills `rows` with four bytes a lane, of a group that begins at word `start` of a panel, and returns what its sums
    /// are multiplied by, if that differs from group to group.
    ///
    /// # Safety
    ///
    /// The processor has AVX-512, and the panel that many rows.
    unsafe fn expand(panel: *const u8, group: usize, start: usize, rows: &mut [Row]) -> __m512;
}

/// A row of an expanded panel.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Row([u8; LINE]);

/// What a block of rows computes on the way.
#[repr(align(64))]
struct Buffers {
    /// Of each row, with each panel.
    sums: [[Numbers; PANELS]; BLOCK_ROWS],
    /// Of a group, as integers: of the sixteen rows that are being computed, and of those before.
    exact: [[[Numbers; PANELS]; ROWS]; 2],
    weights: [[Row; WORDS]; PANELS],
}

const _: () = assert!(PANELS == WIDE_PANELS);

/// All token rows of a tile, [`GROUP_ROWS`] at least, with all its panels.
///
/// # Safety
///
/// The processor has the instructions, tiles may be used, and the weight is of the format.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn tile<G: Grouped>(args: &Linear<'_>, out: &mut Results<'_>) {
    let Linear { x, weight, .. } = args;
    let (cols, rows, size) = (out.cols(), out.rows(), weight.layout.panel_bytes());
    // A gated tile's panels come in pairs.
    let pair = 1 + usize::from(weight.layout.gate.is_some());
    let panels = cols.start / LANES * pair..cols.end.div_ceil(LANES) * pair;
    // Blocks of nearly the same size: a few rows more than a block has would have all weights expanded for themselves.
    let blocks = rows.len().div_ceil(BLOCK_ROWS).max(1);
    let height = rows.len().div_ceil(blocks).max(1);
    let mut buffers = Buffers {
        sums: [[Numbers([0.0; LANES]); PANELS]; BLOCK_ROWS],
        exact: [[[Numbers([0.0; LANES]); PANELS]; ROWS]; 2],
        weights: [[Row([0; LINE]); WORDS]; PANELS],
    };
    for first in panels.clone().step_by(PANELS) {
        let end = panels.end.min(first + PANELS);
        for row in rows.clone().step_by(height) {
            let count = height.min(rows.end - row);
            let block = Block {
                layout: weight.layout,
                panels: &weight.bytes[first * size..end * size],
                x: x.rows(row, count),
                rows: count,
            };
            // SAFETY: promised by the caller.
            unsafe { block.run::<G>(&mut buffers) };
            finish(args, first..end, row, &mut buffers.sums[..count], out);
        }
    }
}

/// Up to [`PANELS`] whole panels, and up to [`BLOCK_ROWS`] token rows.
struct Block<'a> {
    layout: Layout,
    panels: &'a [u8],
    x: InputRows<'a>,
    rows: usize,
}

impl Block<'_> {
    /// Adds up all groups.
    ///
    /// # Safety
    ///
    /// As [`tile`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn run<G: Grouped>(&self, buffers: &mut Buffers) {
        let (size, group_words) = (self.layout.panel_bytes(), self.x.shape.group_len() / 4);
        // A row of int4 meets two words.
        let words = self.layout.depth() * self.layout.row_depth() / 4;
        let panels = self.panels.len() / size;
        buffers.sums[..self.rows].fill([Numbers([0.0; LANES]); PANELS]);
        let height = self.rows.min(ROWS);
        // SAFETY: promised by the caller: all groups' rows are within the panels.
        unsafe {
            let mut tiles = Tiles::configure(&Shapes::wide(height, group_words.min(DEPTH)));
            for group in 0..self.x.shape.groups {
                let start = group * group_words;
                let depth = group_words.min(words - start);
                let mut scales = [_mm512_set1_ps(1.0); PANELS];
                for (p, panel) in self.panels.chunks_exact(size).enumerate() {
                    let rows = &mut buffers.weights[p][..depth];
                    scales[p] = G::expand(panel.as_ptr(), group, start, rows);
                }
                let scales = &scales[..panels];
                let mut before = 0..0;
                for (index, first) in (0..self.rows).step_by(ROWS).enumerate() {
                    // The last rows are computed once more with those before them, and added once.
                    let top = first.min(self.rows - height);
                    self.multiply(&mut tiles, top, start..start + depth, index % 2, buffers);
                    self.add::<G>(before, height, group, scales, (index + 1) % 2, buffers);
                    before = first..self.rows.min(first + ROWS);
                }
                let last = (self.rows.div_ceil(ROWS) + 1) % 2;
                self.add::<G>(before, height, group, scales, last, buffers);
            }
            if !G::HAS_SCALES {
                for (p, panel) in self.panels.chunks_exact(size).enumerate() {
                    let scales = _mm512_loadu_ps(panel.as_ptr().cast());
                    for sums in &mut buffers.sums[..self.rows] {
                        let sum = sums[p].0.as_mut_ptr();
                        _mm512_store_ps(sum, _mm512_mul_ps(_mm512_load_ps(sum), scales));
                    }
                }
            }
        }
    }

    /// The exact sums of rows from `top` on, with the expanded group.
    ///
    /// # Safety
    ///
    /// As [`tile`]; as many rows as the shapes have are there.
    #[inline(always)]
    unsafe fn multiply(
        &self,
        tiles: &mut Tiles,
        top: usize,
        words: Range<usize>,
        exact: usize,
        buffers: &mut Buffers,
    ) {
        let (height, stride) = (self.rows.min(ROWS), self.x.shape.words);
        let operands = Operands {
            rows: height,
            depth: words.len(),
            a: self.x.words[top * stride + words.start..].as_ptr(),
            a_stride: stride * size_of::<u32>(),
            panels: buffers.weights.each_ref().map(|rows| rows.as_ptr().cast()),
            sums: buffers.exact[exact].as_mut_ptr().cast(),
            sums_stride: PANELS * LINE,
            ahead: Ahead::NONE,
        };
        let usual = (self.x.shape.group_len() / 4).min(DEPTH);
        operands.in_parts(|part, depth, steps, resumes| {
            if depth != usual {
                tiles.reshape(&Shapes::wide(height, depth));
            }
            // SAFETY: promised by the caller.
            unsafe { Signed::wide(part, steps, resumes) };
            if depth != usual {
                tiles.reshape(&Shapes::wide(height, usual));
            }
        });
    }

    /// Scales the exact sums of rows and adds them.
    ///
    /// # Safety
    ///
    /// As [`tile`].
    #[inline(always)]
    unsafe fn add<G: Grouped>(
        &self,
        rows: Range<usize>,
        height: usize,
        group: usize,
        scales: &[__m512],
        exact: usize,
        buffers: &mut Buffers,
    ) {
        // Of rows that were computed with those before them, the last places.
        let top = rows.start.min(self.rows - height);
        let groups = self.x.shape.groups;
        for row in rows {
            let part = self.x.groups[row * groups + group];
            // SAFETY: promised by the caller.
            unsafe {
                let scale = _mm512_set1_ps(part.scale);
                let places = buffers.sums[row].iter_mut();
                let exact = &buffers.exact[exact][row - top];
                for ((place, exact), scales) in places.zip(exact).zip(scales) {
                    let exact = _mm512_cvtepi32_ps(_mm512_load_si512(exact.0.as_ptr().cast()));
                    let scale = if G::HAS_SCALES {
                        _mm512_mul_ps(*scales, scale)
                    } else {
                        scale
                    };
                    let sum = _mm512_load_ps(place.0.as_ptr());
                    let sum = _mm512_add_ps(sum, _mm512_mul_ps(exact, scale));
                    _mm512_store_ps(place.0.as_mut_ptr(), sum);
                }
            }
        }
    }
}

/// Int8 weights.
pub(super) struct Int8;

impl Grouped for Int8 {
    const HAS_SCALES: bool = false;

    #[inline(always)]
    unsafe fn expand(panel: *const u8, _: usize, start: usize, rows: &mut [Row]) -> __m512 {
        // SAFETY: promised by the caller; the scales are the first line of a panel.
        unsafe {
            let sign = _mm512_set1_epi8(i8::MIN);
            for (i, row) in rows.iter_mut().enumerate() {
                let weights = _mm512_loadu_si512(panel.add((1 + start + i) * LINE).cast());
                let signed = _mm512_xor_si512(weights, sign);
                _mm512_store_si512(row.0.as_mut_ptr().cast(), signed);
            }
            _mm512_set1_ps(1.0)
        }
    }
}

/// Int4 weights.
pub(super) struct Int4;

impl Grouped for Int4 {
    const HAS_SCALES: bool = true;

    #[inline(always)]
    unsafe fn expand(panel: *const u8, group: usize, start: usize, rows: &mut [Row]) -> __m512 {
        // SAFETY: promised by the caller; the header of each group and its rows follow those before.
        unsafe {
            let header = panel.add((start / 2 + group) * LINE);
            let (scales, zeros) = read_header(header);
            let zeros = _mm512_mullo_epi32(zeros, _mm512_set1_epi32(0x0101_0101));
            let low_halves = _mm512_set1_epi8(15);
            for (i, pair) in rows.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                let weights = _mm512_loadu_si512(header.add((1 + i) * LINE).cast());
                let low = _mm512_and_si512(weights, low_halves);
                let high = _mm512_and_si512(_mm512_srli_epi16::<4>(weights), low_halves);
                for (row, half) in pair.iter_mut().zip([low, high]) {
                    let signed = _mm512_sub_epi8(half, zeros);
                    _mm512_store_si512(row.0.as_mut_ptr().cast(), signed);
                }
            }
            scales
        }
    }
}
