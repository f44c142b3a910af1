//! Matrix products: which block of registers computes each weight format.

use super::dot::{Dot, Operands, block, split_bf16, widen};
use super::floats::{Bf16, F16, F32};
use super::isa::{self, F32x8};
use super::quantized::{Int4Groups, Int8Groups, Own};
use crate::format::WeightFormat;
use crate::input::InputRows;
use crate::kernels::Linear;
use crate::results::Results;
use crate::team::Scratch;
use crate::vector::strips::{self, Ahead, Block, Lanes, Numbers, Product};
use crate::weight::layout::{LANES, Layout};

/// See [`Kernels::linear`](crate::kernels::Kernels::linear).
pub(crate) fn linear(args: &Linear<'_>, out: &mut Results<'_>, scratch: &mut Scratch) {
    // SAFETY: this function is reached through a table that is handed out only where the processor
    // has the instructions.
    unsafe {
        match args.weight.layout.format {
            WeightFormat::F32 => tile::<Floats<F32>>(args, out, scratch),
            WeightFormat::F16 => tile::<Floats<F16>>(args, out, scratch),
            WeightFormat::Bf16 => tile::<Pairs>(args, out, scratch),
            WeightFormat::Int8 { .. } => tile::<Int8Groups<Own>>(args, out, scratch),
            WeightFormat::Int4 { .. } => tile::<Int4Groups<Own>>(args, out, scratch),
            WeightFormat::Blocks(_) => isa::linear_blocks(args, out, scratch),
        }
    }
}

/// # Safety
///
/// The processor has the instructions.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
#[cfg_attr(target_arch = "aarch64", target_feature(enable = "neon,dotprod"))]
pub(crate) unsafe fn tile<F: Product>(
    args: &Linear<'_>,
    out: &mut Results<'_>,
    scratch: &mut Scratch,
) {
    // SAFETY: promised by the caller.
    unsafe { strips::tile::<F>(args, out, scratch) }
}

/// The sums of a panel.
#[derive(Clone, Copy)]
pub(super) struct Sums(pub(super) [F32x8; 2]);

impl Lanes for Sums {
    #[inline(always)]
    fn write(self, numbers: &mut Numbers) {
        let (halves, _) = numbers.0.as_chunks_mut::<{ LANES / 2 }>();
        for (half, sums) in halves.iter_mut().zip(self.0) {
            // SAFETY: a register is half of the numbers.
            unsafe { sums.store(half.as_mut_ptr()) };
        }
    }
}

/// Products with f32 activations. Six tokens: twelve registers of eight sums, two of weights, one word.
struct Floats<D>(D);

impl<D: Dot<Sums = F32x8>> Product for Floats<D> {
    const TOKENS: usize = 6;

    #[inline(always)]
    unsafe fn block<const M: usize, const P: usize>(
        layout: Layout,
        x: InputRows<'_>,
        panels: &[u8],
        ahead: Ahead,
        out: &mut Block,
    ) {
        // SAFETY: promised by the caller.
        unsafe { out.put(float_block::<D, M, P>(layout, x, panels, ahead)) }
    }
}

/// Products with bf16 activations.
struct Pairs;

impl Product for Pairs {
    const TOKENS: usize = isa::BF16_TOKENS.0;
    const ALONE: usize = isa::BF16_TOKENS.1;

    #[inline(always)]
    fn prepare<'a>(_: Layout, x: InputRows<'a>, scratch: &'a mut Scratch) -> InputRows<'a> {
        widen(x, scratch, split_bf16)
    }

    #[inline(always)]
    unsafe fn block<const M: usize, const P: usize>(
        layout: Layout,
        x: InputRows<'_>,
        panels: &[u8],
        ahead: Ahead,
        out: &mut Block,
    ) {
        // SAFETY: promised by the caller.
        unsafe { out.put(float_block::<Bf16, M, P>(layout, x, panels, ahead)) }
    }
}

/// # Safety
///
/// As [`Product::block`].
#[inline(always)]
unsafe fn float_block<D: Dot<Sums = F32x8>, const M: usize, const P: usize>(
    layout: Layout,
    x: InputRows<'_>,
    panels: &[u8],
    ahead: Ahead,
) -> [[Sums; P]; M] {
    let operands = Operands {
        x: x.words.as_ptr(),
        x_stride: x.shape.words,
        panel: panels.as_ptr(),
        panel_stride: layout.panel_bytes(),
        depth: layout.depth(),
        ahead,
    };
    // SAFETY: promised by the caller; a row of words is as long as a panel is deep.
    unsafe { block::<D, M, P>(operands).map(|sums| sums.map(Sums)) }
}
