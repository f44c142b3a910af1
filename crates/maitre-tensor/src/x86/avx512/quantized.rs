//! Integer products with scales per group of the reduction.
//!
//! Sums are exact within a group. At its end they are scaled and added to f32 sums, in the order of
//! the groups.

use std::arch::x86_64::*;

use super::dot::{Dot, Operands, block};
use super::linear::split;
use crate::format::WeightFormat;
use crate::input::InputRows;
use crate::team::Scratch;
use crate::vector::strips::{Ahead, Block, Product};
use crate::weight::INT8_ZERO;
use crate::weight::layout::{LANES, LINE, Layout};

/// Int8 weights, activation scales per group.
pub(super) struct Int8Groups<D>(D);

impl<D: Dot<Sums = __m512i>> Product for Int8Groups<D> {
    /// The f32 sums take registers too.
    const TOKENS: usize = 4;

    #[inline(always)]
    fn prepare<'a>(_: Layout, x: InputRows<'a>, scratch: &'a mut Scratch) -> InputRows<'a> {
        split::<D>(x, scratch)
    }

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
                let steps = block::<D, M, P>(Operands {
                    x: x.words.as_ptr().add(start * D::PARTS),
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
pub(super) struct Int4Groups<D>(D);

impl<D: Dot<Sums = __m512i>> Product for Int4Groups<D> {
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
                let steps = block::<D, M, P>(Operands {
                    x: x.words.as_ptr().add(start * D::PARTS),
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
