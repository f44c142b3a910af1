//! Integer products.
//!
//! Sums are exact within a group of the reduction; one scale per token is one group. At its end
//! they are scaled and added to f32 sums, in the order of the groups.

use super::dot::{ByteSums, Dot, Operands, block};
use super::isa::{self, F32x8, I32x8};
use super::linear::Sums;
use crate::format::WeightFormat;
use crate::input::InputRows;
use crate::team::Scratch;
use crate::vector::strips::{Ahead, Block, Product};
use crate::weight::layout::{LANES, LINE, Layout};

/// How bytes and four bits are multiplied.
pub(crate) trait Bytes {
    /// Quads of 8-bit weights and signed activations.
    type Int8: ByteSums;
    /// Eight unsigned 4-bit weights to a word, and two quads of signed activations.
    type Int4: ByteSums;
    /// Tokens whose sums with int8 fill the registers.
    const INT8_TOKENS: usize;
    /// The same with int4.
    const INT4_TOKENS: usize;
    /// What the weights of [`Bytes::Int8`] add to the sums, for each step of the activations' sum.
    const INT8_OFFSET: i32;

    /// Rows of int8 activations as [`Bytes::Int8`] reads them.
    fn widen_int8<'a>(x: InputRows<'a>, scratch: &'a mut Scratch) -> InputRows<'a>;
}

/// As the instruction set does it.
pub(super) struct Own;

impl Bytes for Own {
    type Int8 = isa::Int8;
    type Int4 = isa::Int4;
    const INT8_TOKENS: usize = isa::INT8_TOKENS;
    const INT4_TOKENS: usize = isa::INT4_TOKENS;
    const INT8_OFFSET: i32 = isa::INT8_OFFSET;

    #[inline(always)]
    fn widen_int8<'a>(x: InputRows<'a>, scratch: &'a mut Scratch) -> InputRows<'a> {
        isa::widen_int8(x, scratch)
    }
}

/// Int8 weights.
pub(crate) struct Int8Groups<B>(B);

impl<B: Bytes> Product for Int8Groups<B> {
    const TOKENS: usize = B::INT8_TOKENS;

    #[inline(always)]
    fn prepare<'a>(_: Layout, x: InputRows<'a>, scratch: &'a mut Scratch) -> InputRows<'a> {
        B::widen_int8(x, scratch)
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
            let mut sums = [[Sums([F32x8::splat(0.0); 2]); P]; M];
            for group in 0..groups {
                let start = group * group_rows;
                let steps = block::<B::Int8, M, P>(Operands {
                    x: x.words.as_ptr().add(start * B::Int8::WORDS),
                    x_stride: x.shape.words,
                    panel: panels.as_ptr().add(LINE + start * LINE),
                    panel_stride,
                    depth: group_rows.min(depth - start),
                    ahead: ahead.after(start),
                });
                for m in 0..M {
                    let part = x.groups[m * groups + group];
                    let zero = I32x8::splat(B::INT8_OFFSET.wrapping_mul(part.sum));
                    let scale = F32x8::splat(part.scale);
                    for p in 0..P {
                        for (sum, steps) in sums[m][p].0.iter_mut().zip(steps[m][p]) {
                            let exact = B::Int8::totals(steps).sub(zero);
                            *sum = sum.add(exact.floats().mul(scale));
                        }
                    }
                }
            }
            for p in 0..P {
                let header = panels[p * panel_stride..][..LINE].as_ptr();
                for h in 0..2 {
                    let scales = F32x8::load(header.add(h * LINE / 2).cast());
                    for sums in &mut sums {
                        sums[p].0[h] = sums[p].0[h].mul(scales);
                    }
                }
            }
            out.put(sums);
        }
    }
}

/// Int4 weights, weight and activation scales per group.
pub(crate) struct Int4Groups<B>(B);

impl<B: Bytes> Product for Int4Groups<B> {
    const TOKENS: usize = B::INT4_TOKENS;

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
            let mut sums = [[Sums([F32x8::splat(0.0); 2]); P]; M];
            let WeightFormat::Int4 { group: group_len } = layout.format else {
                return;
            };
            let panel_stride = layout.panel_bytes();
            let (group_rows, depth, groups) = (group_len / 8, layout.depth(), x.shape.groups);
            for group in 0..groups {
                let start = group * group_rows;
                let header = panels.as_ptr().add(start * LINE + group * LINE);
                let steps = block::<B::Int4, M, P>(Operands {
                    x: x.words.as_ptr().add(start * B::Int4::WORDS),
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
                            let exact = B::Int4::totals(steps[m][p][h])
                                .sub(zeros.mul(I32x8::splat(part.sum)));
                            let scale = scales.mul(F32x8::splat(part.scale));
                            let sum = &mut sums[m][p].0[h];
                            *sum = sum.add(exact.floats().mul(scale));
                        }
                    }
                }
            }
            out.put(sums);
        }
    }
}

/// The scales and zero points of a group, for one half of the lanes.
///
/// # Safety
///
/// The processor has the instructions, and `header` points to a readable line.
#[inline(always)]
unsafe fn read_header(header: *const u8, half: usize) -> (F32x8, I32x8) {
    // SAFETY: promised by the caller.
    unsafe {
        let scales = I32x8::of_u16s(header.add(half * LANES)).shift_left::<16>();
        let zeros = I32x8::of_bytes(header.add(2 * LANES + half * LANES / 2));
        (scales.as_floats(), zeros)
    }
}
