//! Matrix products: which block of registers computes each weight format.

use std::arch::x86_64::*;

use super::dot::{Bf16, Dot, F16, F32, Int4, Int8, Operands, WideBf16, WideInt4, WideInt8, block};
use super::quantized::{Int4Groups, Int8Groups};
use crate::format::WeightFormat;
use crate::input::InputRows;
use crate::kernels::Linear;
use crate::results::Results;
use crate::team::Scratch;
use crate::vector::eight::widen;
use crate::vector::strips::{self, Ahead, Block, Lanes, Numbers, Product};
use crate::weight::INT8_ZERO;
use crate::weight::layout::{LINE, Layout};
use crate::x86::avx2;

/// See [`Kernels::linear`](crate::kernels::Kernels::linear).
pub(in crate::x86) fn linear(args: &Linear<'_>, out: &mut Results<'_>, scratch: &mut Scratch) {
    match args.weight.layout.format {
        // SAFETY: this function is reached through a table that is handed out only where the processor has the
        // instructions.
        WeightFormat::Bf16 => unsafe { pairs::<Floats<Bf16>>(args, out, scratch) },
        _ => linear_vnni(args, out, scratch),
    }
}

/// As [`linear`], for processors without AVX512_BF16.
pub(super) fn linear_vnni(args: &Linear<'_>, out: &mut Results<'_>, scratch: &mut Scratch) {
    // SAFETY: as in `linear`.
    unsafe {
        match args.weight.layout.format {
            WeightFormat::Int8 {
                activation_group: None,
            } => quads::<PerToken<Int8>>(args, out, scratch),
            WeightFormat::Int8 {
                activation_group: Some(_),
            } => quads::<Int8Groups<Int8>>(args, out, scratch),
            WeightFormat::Int4 { .. } => quads::<Int4Groups<Int4>>(args, out, scratch),
            _ => linear_f(args, out, scratch),
        }
    }
}

/// As [`linear_vnni`], for processors without AVX512_VNNI.
pub(super) fn linear_f(args: &Linear<'_>, out: &mut Results<'_>, scratch: &mut Scratch) {
    // SAFETY: as in `linear`.
    unsafe {
        match args.weight.layout.format {
            WeightFormat::F32 => numbers::<Floats<F32>>(args, out, scratch),
            WeightFormat::F16 => numbers::<Floats<F16>>(args, out, scratch),
            WeightFormat::Bf16 => numbers::<Floats<WideBf16>>(args, out, scratch),
            WeightFormat::Int8 {
                activation_group: None,
            } => numbers::<PerToken<WideInt8>>(args, out, scratch),
            WeightFormat::Int8 {
                activation_group: Some(_),
            } => numbers::<Int8Groups<WideInt8>>(args, out, scratch),
            WeightFormat::Int4 { .. } => numbers::<Int4Groups<WideInt4>>(args, out, scratch),
            WeightFormat::Blocks(_) => avx2::linear_blocks(args, out, scratch),
        }
    }
}

/// Token rows in which each part of a row of `D` meets a word.
#[inline(always)]
pub(super) fn split<'a, D: Dot>(x: InputRows<'a>, scratch: &'a mut Scratch) -> InputRows<'a> {
    match D::PARTS {
        1 => x,
        _ => widen(x, scratch, D::split),
    }
}

impl Lanes for __m512 {
    #[inline(always)]
    fn write(self, numbers: &mut Numbers) {
        // SAFETY: a register is as many numbers, and was made by these instructions.
        unsafe { _mm512_storeu_ps(numbers.0.as_mut_ptr(), self) };
    }
}

/// Tokens of a block that is one of several.
const TOKENS: usize = 6;

/// The floating-point formats.
///
/// Six tokens: with four panels of sums, four of weights and one word they fill the 32 registers
/// without spilling. A seventh token spills a little, and costs less than a second pass; beyond it,
/// twelve tokens with two panels are as many sums again.
struct Floats<D>(D);

impl<D: Dot<Sums = __m512>> Product for Floats<D> {
    const TOKENS: usize = TOKENS;
    const ALONE: usize = TOKENS + 1;
    const TALL: usize = 2 * TOKENS;

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
        let operands = Operands {
            x: x.words.as_ptr(),
            x_stride: x.shape.words,
            panel: panels.as_ptr(),
            panel_stride: layout.panel_bytes(),
            depth: layout.depth(),
            ahead,
        };
        // SAFETY: promised by the caller; a row of words is as long as a panel is deep.
        unsafe { out.put(block::<D, M, P>(operands)) }
    }
}

/// Int8 weights with one activation scale per token: exact sums, scaled once.
struct PerToken<D>(D);

impl<D: Dot<Sums = __m512i>> Product for PerToken<D> {
    const TOKENS: usize = TOKENS;
    const ALONE: usize = TOKENS + 1;
    const TALL: usize = 2 * TOKENS;

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
        let operands = Operands {
            x: x.words.as_ptr(),
            x_stride: x.shape.words,
            panel: panels[LINE..].as_ptr(),
            panel_stride,
            depth: layout.depth(),
            ahead,
        };
        // SAFETY: promised by the caller; the scales are the first line of a panel.
        unsafe {
            let steps = block::<D, M, P>(operands);
            let mut sums = [[_mm512_setzero_ps(); P]; M];
            for p in 0..P {
                let scales = _mm512_loadu_ps(panels[p * panel_stride..][..LINE].as_ptr().cast());
                for m in 0..M {
                    let group = x.groups[m];
                    let zero = _mm512_set1_epi32(INT8_ZERO.wrapping_mul(group.sum));
                    let exact = _mm512_cvtepi32_ps(_mm512_sub_epi32(steps[m][p], zero));
                    let scaled = _mm512_mul_ps(exact, _mm512_set1_ps(group.scale));
                    sums[m][p] = _mm512_mul_ps(scaled, scales);
                }
            }
            out.put(sums);
        }
    }
}

/// A tile of a product, compiled for the instructions that each processor with AVX-512 has.
///
/// # Safety
///
/// The processor has the instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn numbers<F: Product>(args: &Linear<'_>, out: &mut Results<'_>, scratch: &mut Scratch) {
    // SAFETY: promised by the caller.
    unsafe { strips::tile::<F>(args, out, scratch) }
}

/// The same with those that multiply quads of bytes.
///
/// # Safety
///
/// The processor has the instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn quads<F: Product>(args: &Linear<'_>, out: &mut Results<'_>, scratch: &mut Scratch) {
    // SAFETY: promised by the caller.
    unsafe { strips::tile::<F>(args, out, scratch) }
}

/// The same with those that multiply pairs of bf16.
///
/// # Safety
///
/// The processor has the instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
unsafe fn pairs<F: Product>(args: &Linear<'_>, out: &mut Results<'_>, scratch: &mut Scratch) {
    // SAFETY: promised by the caller.
    unsafe { strips::tile::<F>(args, out, scratch) }
}
