//! Integer products with scales per group of the reduction.
//!
//! Sums are exact within a group. At its end they are scaled and added to f32 sums, in the order of
//! the groups. Int4 weights are expanded in registers: a row of a panel is 64 bytes, whose low
//! halves meet one word of activations and whose high halves meet the next.

use std::arch::x86_64::*;

use super::dot::{Dot, Int8, Operands, block};
use crate::format::WeightFormat;
use crate::input::InputRows;
use crate::vector::strips::{Ahead, Block, Product};
use crate::weight::INT8_ZERO;
use crate::weight::layout::{LANES, LINE, Layout};

/// Int8 weights, activation scales per group.
pub(super) struct Int8Groups;

impl Product for Int8Groups {
    /// The f32 sums take registers too.
    const TOKENS: usize = 4;

    #[inline(always)]
    unsafe fn block<const M: usize, const P: usize>(
        layout: Layout,
        x: InputRows<'_>,
        panels: &[u8],
        ahead: Ahead,
        out: &mut Block,
    ) {
        let panel_stride = layout.panel_bytes();
        let group_words = x.shape.group_len() / 4;
        let (depth, groups) = (layout.depth(), x.shape.groups);
        // SAFETY: promised by the caller: `depth` rows follow the scales, the first line of each
        // panel; the groups' ranges of rows are within them.
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); P]; M];
            for group in 0..groups {
                let start = group * group_words;
                let steps = block::<Int8, M, P>(Operands {
                    x: x.words.as_ptr().add(start),
                    x_stride: x.shape.words,
                    panel: panels.as_ptr().add(LINE + start * LINE),
                    panel_stride,
                    depth: group_words.min(depth - start),
                    ahead: ahead.after(start),
                });
                for m in 0..M {
                    let part = x.groups[m * groups + group];
                    let zero = _mm512_set1_epi32(INT8_ZERO.wrapping_mul(part.sum));
                    let scale = _mm512_set1_ps(part.scale);
                    for p in 0..P {
                        let exact = _mm512_cvtepi32_ps(_mm512_sub_epi32(steps[m][p], zero));
                        sums[m][p] = _mm512_add_ps(sums[m][p], _mm512_mul_ps(exact, scale));
                    }
                }
            }
            for p in 0..P {
                let scales = _mm512_loadu_ps(panels[p * panel_stride..][..LINE].as_ptr().cast());
                for sums in &mut sums {
                    sums[p] = _mm512_mul_ps(sums[p], scales);
                }
            }
            out.put(sums);
        }
    }
}

/// Int4 weights, weight and activation scales per group.
pub(super) struct Int4Groups;

impl Product for Int4Groups {
    /// Four panels of bytes and four of expanded weights leave space for sixteen sums.
    const TOKENS: usize = 4;

    #[inline(always)]
    unsafe fn block<const M: usize, const P: usize>(
        layout: Layout,
        x: InputRows<'_>,
        panels: &[u8],
        ahead: Ahead,
        out: &mut Block,
    ) {
        let WeightFormat::Int4 { group: group_len } = layout.format else {
            return;
        };
        let panel_stride = layout.panel_bytes();
        let (group_rows, depth, groups) = (group_len / 8, layout.depth(), x.shape.groups);
        // SAFETY: promised by the caller: each group of rows follows its header; the groups'
        // ranges of rows are within the panel.
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); P]; M];
            for group in 0..groups {
                let start = group * group_rows;
                let header = panels.as_ptr().add(start * LINE + group * LINE);
                let steps = int4_block::<M, P>(Operands {
                    x: x.words.as_ptr().add(start * 2),
                    x_stride: x.shape.words,
                    panel: header.add(LINE),
                    panel_stride,
                    depth: group_rows.min(depth - start),
                    ahead: ahead.after(start + group),
                });
                for p in 0..P {
                    let (scales, zeros) = read_header(header.add(p * panel_stride));
                    for m in 0..M {
                        let part = x.groups[m * groups + group];
                        let offset = _mm512_mullo_epi32(zeros, _mm512_set1_epi32(part.sum));
                        let exact = _mm512_cvtepi32_ps(_mm512_sub_epi32(steps[m][p], offset));
                        let scale = _mm512_mul_ps(scales, _mm512_set1_ps(part.scale));
                        sums[m][p] = _mm512_add_ps(sums[m][p], _mm512_mul_ps(exact, scale));
                    }
                }
            }
            out.put(sums);
        }
    }
}

/// The scales and zero points of a group.
///
/// # Safety
///
/// The processor has the instructions, and `header` points to a readable line.
#[inline(always)]
pub(in crate::x86) unsafe fn read_header(header: *const u8) -> (__m512, __m512i) {
    // SAFETY: promised by the caller.
    unsafe {
        let scales = _mm512_cvtepu16_epi32(_mm256_loadu_si256(header.cast()));
        let scales = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(scales));
        let zeros = _mm512_cvtepu8_epi32(_mm_loadu_si128(header.add(2 * LANES).cast()));
        (scales, zeros)
    }
}

/// As [`block`], for int4: `depth` rows meet `2 * depth` words.
///
/// # Safety
///
/// As [`block`].
#[inline(always)]
unsafe fn int4_block<const M: usize, const P: usize>(operands: Operands) -> [[__m512i; P]; M] {
    let Operands {
        x,
        x_stride,
        panel,
        panel_stride,
        depth,
        ahead,
    } = operands;
    // SAFETY: as in `block`.
    unsafe {
        let low_halves = _mm512_set1_epi8(15);
        let mut sums = [[_mm512_setzero_si512(); P]; M];
        for k in 0..depth {
            ahead.fetch(k);
            // No closure: one that is not inlined would be compiled without the instructions, and theirs would be calls.
            let mut low = [_mm512_setzero_si512(); P];
            let mut high = low;
            for (p, (low, high)) in low.iter_mut().zip(&mut high).enumerate() {
                let weights = Int8::load(panel.add(p * panel_stride + k * Int8::ROW));
                *low = _mm512_and_si512(weights, low_halves);
                *high = _mm512_and_si512(_mm512_srli_epi16::<4>(weights), low_halves);
            }
            for (m, sums) in sums.iter_mut().enumerate() {
                let words = x.add(m * x_stride + 2 * k);
                let first = _mm512_set1_epi32((*words).cast_signed());
                let second = _mm512_set1_epi32((*words.add(1)).cast_signed());
                for (p, sums) in sums.iter_mut().enumerate() {
                    *sums = Int8::add(*sums, low[p], first);
                    *sums = Int8::add(*sums, high[p], second);
                }
            }
        }
        sums
    }
}
