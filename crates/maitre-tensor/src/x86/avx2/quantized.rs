//! Integer products.
//!
//! Sums are exact within a group of the reduction; one scale per token is one group. At its end
//! they are scaled and added to f32 sums, in the order of the groups.

use std::arch::x86_64::*;

use super::dot::{Int4, Int8, Operands, block, split_int8, widen};
use super::linear::Sums;
use crate::format::WeightFormat;
use crate::input::InputRows;
use crate::team::Scratch;
use crate::weight::INT8_ZERO;
use crate::weight::layout::{LANES, LINE, Layout};
use crate::x86::strips::{Ahead, Block, Product};

/// Int8 weights.
pub(super) struct Int8Groups;

impl Product for Int8Groups {
    /// Eight registers of sums, four of weights, two words and their products.
    const TOKENS: usize = 4;

    #[inline(always)]
    fn prepare<'a>(_: Layout, x: InputRows<'a>, scratch: &'a mut Scratch) -> InputRows<'a> {
        widen(x, scratch, split_int8)
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
        let group_rows = x.shape.group_len().div_ceil(4);
        let (depth, groups) = (layout.depth(), x.shape.groups);
        // SAFETY: promised by the caller: `depth` rows follow the scales, the first line of each
        // panel; the groups' ranges of rows are within them.
        unsafe {
            let mut sums = [[Sums([_mm256_setzero_ps(); 2]); P]; M];
            for group in 0..groups {
                let start = group * group_rows;
                let steps = block::<Int8, M, P>(Operands {
                    x: x.words.as_ptr().add(start * 2),
                    x_stride: x.shape.words,
                    panel: panels.as_ptr().add(LINE + start * LINE),
                    panel_stride,
                    depth: group_rows.min(depth - start),
                    ahead: ahead.after(start),
                });
                for m in 0..M {
                    let part = x.groups[m * groups + group];
                    let zero = _mm256_set1_epi32(INT8_ZERO.wrapping_mul(part.sum));
                    let scale = _mm256_set1_ps(part.scale);
                    for p in 0..P {
                        for (sum, steps) in sums[m][p].0.iter_mut().zip(steps[m][p]) {
                            *sum = add_scaled(*sum, steps, zero, scale);
                        }
                    }
                }
            }
            for p in 0..P {
                let header = panels[p * panel_stride..][..LINE].as_ptr();
                for h in 0..2 {
                    let scales = _mm256_loadu_ps(header.add(h * LINE / 2).cast());
                    for sums in &mut sums {
                        sums[p].0[h] = _mm256_mul_ps(sums[p].0[h], scales);
                    }
                }
            }
            out.put(sums);
        }
    }
}

/// Int4 weights, weight and activation scales per group.
pub(super) struct Int4Groups;

impl Product for Int4Groups {
    /// Six registers of sums, four of weights, two words, their products, and two constants.
    const TOKENS: usize = 3;

    #[inline(always)]
    unsafe fn block<const M: usize, const P: usize>(
        layout: Layout,
        x: InputRows<'_>,
        panels: &[u8],
        ahead: Ahead,
        out: &mut Block,
    ) {
        // SAFETY: promised by the caller: each group of rows follows its header; the groups'
        // ranges of rows are within the panel.
        unsafe {
            let mut sums = [[Sums([_mm256_setzero_ps(); 2]); P]; M];
            let WeightFormat::Int4 { group: group_len } = layout.format else {
                return;
            };
            let panel_stride = layout.panel_bytes();
            let (group_rows, depth, groups) = (group_len / 8, layout.depth(), x.shape.groups);
            for group in 0..groups {
                let start = group * group_rows;
                let header = panels.as_ptr().add(start * LINE + group * LINE);
                let steps = block::<Int4, M, P>(Operands {
                    x: x.words.as_ptr().add(start * 2),
                    x_stride: x.shape.words,
                    panel: header.add(LINE),
                    panel_stride,
                    depth: group_rows.min(depth - start),
                    ahead: ahead.after(start),
                });
                for p in 0..P {
                    let header = header.add(p * panel_stride);
                    let halves = [read_header(header, 0), read_header(header, 1)];
                    for (h, (scales, zeros)) in halves.into_iter().enumerate() {
                        for m in 0..M {
                            let part = x.groups[m * groups + group];
                            let zero = _mm256_mullo_epi32(zeros, _mm256_set1_epi32(part.sum));
                            let scale = _mm256_mul_ps(scales, _mm256_set1_ps(part.scale));
                            let sum = &mut sums[m][p].0[h];
                            *sum = add_scaled(*sum, steps[m][p][h], zero, scale);
                        }
                    }
                }
            }
            out.put(sums);
        }
    }
}

/// `sums + (steps - zero) * scale`, rounded as often as that reads.
///
/// # Safety
///
/// The processor has the instructions.
#[inline(always)]
unsafe fn add_scaled(sums: __m256, steps: __m256i, zero: __m256i, scale: __m256) -> __m256 {
    // SAFETY: promised by the caller.
    unsafe {
        let exact = _mm256_cvtepi32_ps(_mm256_sub_epi32(steps, zero));
        _mm256_add_ps(sums, _mm256_mul_ps(exact, scale))
    }
}

/// The scales and zero points of a group, for one half of the lanes.
///
/// # Safety
///
/// The processor has the instructions, and `header` points to a readable line.
#[inline(always)]
unsafe fn read_header(header: *const u8, half: usize) -> (__m256, __m256i) {
    // SAFETY: promised by the caller.
    unsafe {
        let scales = _mm_loadu_si128(header.add(half * LANES).cast());
        let scales = _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(scales));
        let zeros = _mm_loadl_epi64(header.add(2 * LANES + half * LANES / 2).cast());
        (_mm256_castsi256_ps(scales), _mm256_cvtepu8_epi32(zeros))
    }
}
