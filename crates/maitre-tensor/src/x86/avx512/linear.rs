//! Matrix products on register blocks.
//!
//! ```text
//! for each 4 panels of the tile        (64 features; stay in the second-level cache)
//!   for each block of 6 token rows     (their words stay in the first-level cache)
//!     walk the panels top to bottom    (one block of 24 sums), then store
//! ```
//!
//! With one token a tile is a stream of weights from memory; with many, the multipliers are busy.
//! In between both matter: while the later token blocks compute on four panels, the next four are
//! fetched ahead, so that memory does not wait for arithmetic.

use std::arch::x86_64::*;
use std::ops::Range;

use super::dot::{Ahead, Bf16, Dot, F16, F32, Int8, Operands, PANELS, TOKENS, block};
use super::quantized;
use crate::format::WeightFormat;
use crate::input::InputRows;
use crate::kernels::Linear;
use crate::team::Scratch;
use crate::tiles::Rect;
use crate::weight::layout::{LANES, LINE, Layout};
use crate::weight::{INT8_ZERO, PackedView};

/// See [`Kernels::linear`](crate::kernels::Kernels::linear).
pub(super) fn linear(args: &Linear<'_>, out: Rect<'_, f32>, _: &mut Scratch) {
    // SAFETY: this function is reached through a table that is handed out only where the processor
    // has the instructions.
    unsafe {
        match args.weight.layout.format {
            WeightFormat::F32 => tile::<Floats<F32>>(args, out),
            WeightFormat::F16 => tile::<Floats<F16>>(args, out),
            WeightFormat::Bf16 => tile::<Floats<Bf16>>(args, out),
            WeightFormat::Int8 {
                activation_group: None,
            } => tile::<PerToken>(args, out),
            WeightFormat::Int8 {
                activation_group: Some(_),
            } => {
                tile::<quantized::Int8Groups>(args, out);
            }
            WeightFormat::Int4 { .. } => tile::<quantized::Int4Groups>(args, out),
        }
    }
}

/// How a format turns tokens and panels into finished sums.
pub(super) trait Product {
    /// Most tokens of a block.
    const TOKENS: usize;

    /// The products of `M` tokens with `P` panels, without the bias.
    ///
    /// # Safety
    ///
    /// The processor has the instructions. `x` has `M` rows of `layout`'s input form, `panels` are
    /// `P` whole panels of `layout`.
    unsafe fn block<const M: usize, const P: usize>(
        layout: Layout,
        x: InputRows<'_>,
        panels: &[u8],
        ahead: Ahead,
    ) -> [[__m512; P]; M];
}

/// The floating-point formats.
struct Floats<D>(D);

impl<D: Dot<Sums = __m512>> Product for Floats<D> {
    const TOKENS: usize = TOKENS;

    #[inline(always)]
    unsafe fn block<const M: usize, const P: usize>(
        layout: Layout,
        x: InputRows<'_>,
        panels: &[u8],
        ahead: Ahead,
    ) -> [[__m512; P]; M] {
        let operands = Operands {
            x: x.words.as_ptr(),
            x_stride: x.shape.words,
            panel: panels.as_ptr(),
            panel_stride: layout.panel_bytes(),
            depth: layout.depth(),
            ahead,
        };
        // SAFETY: promised by the caller; a row of words is as long as a panel is deep.
        unsafe { block::<D, M, P>(operands) }
    }
}

/// Int8 weights with one activation scale per token: exact sums, scaled once.
struct PerToken;

impl Product for PerToken {
    const TOKENS: usize = TOKENS;

    #[inline(always)]
    unsafe fn block<const M: usize, const P: usize>(
        layout: Layout,
        x: InputRows<'_>,
        panels: &[u8],
        ahead: Ahead,
    ) -> [[__m512; P]; M] {
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
            let steps = block::<Int8, M, P>(operands);
            let mut sums = [[_mm512_setzero_ps(); P]; M];
            for p in 0..P {
                let scales = _mm512_loadu_ps(panels[p * panel_stride..][..LINE].as_ptr().cast());
                for m in 0..M {
                    let group = x.groups[m];
                    let zero = _mm512_set1_epi32(INT8_ZERO * group.sum);
                    let exact = _mm512_cvtepi32_ps(_mm512_sub_epi32(steps[m][p], zero));
                    let scaled = _mm512_mul_ps(exact, _mm512_set1_ps(group.scale));
                    sums[m][p] = _mm512_mul_ps(scaled, scales);
                }
            }
            sums
        }
    }
}

/// # Safety
///
/// The processor has the instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
unsafe fn tile<F: Product>(args: &Linear<'_>, mut out: Rect<'_, f32>) {
    let cols = out.cols();
    let panels = cols.start / LANES..cols.end.div_ceil(LANES);
    let mut first = panels.start;
    while first < panels.end {
        let count = if panels.end - first >= PANELS {
            PANELS
        } else {
            1
        };
        let strip = Strip {
            args,
            panels: first..first + count,
            // The last strip of a tile does not know what comes next.
            next: (first + count < panels.end).then(|| args.weight.panel(first + count)),
        };
        // SAFETY: promised by the caller.
        unsafe {
            match count {
                PANELS => strip.run::<F, PANELS>(&mut out),
                _ => strip.run::<F, 1>(&mut out),
            }
        }
        first += count;
    }
}

/// Some adjacent panels of a tile, and where the following ones begin.
struct Strip<'a> {
    args: &'a Linear<'a>,
    panels: Range<usize>,
    next: Option<&'a [u8]>,
}

impl Strip<'_> {
    /// All token rows of the tile, in blocks of nearly the same size.
    ///
    /// # Safety
    ///
    /// The processor has the instructions, and `P` is the number of panels.
    #[inline(always)]
    unsafe fn run<F: Product, const P: usize>(&self, out: &mut Rect<'_, f32>) {
        let rows = out.rows();
        let blocks = rows.len().div_ceil(F::TOKENS);
        for index in 0..blocks {
            let first = rows.start + rows.len() * index / blocks;
            let count = rows.start + rows.len() * (index + 1) / blocks - first;
            let ahead = self.ahead(index, blocks);
            // SAFETY: promised by the caller.
            unsafe {
                match count {
                    1 => self.block::<F, 1, P>(first, ahead, out),
                    2 => self.block::<F, 2, P>(first, ahead, out),
                    3 => self.block::<F, 3, P>(first, ahead, out),
                    4 => self.block::<F, 4, P>(first, ahead, out),
                    5 => self.block::<F, 5, P>(first, ahead, out),
                    _ => self.block::<F, TOKENS, P>(first, ahead, out),
                }
            }
        }
    }

    /// The share of the next panels that token block `index` fetches.
    fn ahead(&self, index: usize, blocks: usize) -> Ahead {
        let none = Ahead {
            start: std::ptr::null(),
            lines: 0,
        };
        // A single block reads at the pace of memory anyway.
        let Some(next) = self.next.filter(|_| blocks > 1) else {
            return none;
        };
        let lines = PANELS.div_ceil(blocks);
        let start = index * lines * next.len();
        if start >= PANELS * next.len() {
            return none;
        }
        Ahead {
            start: next.as_ptr().wrapping_add(start),
            lines,
        }
    }

    /// # Safety
    ///
    /// As [`Strip::run`], and `M` rows from `first` on belong to the tile.
    #[inline(always)]
    unsafe fn block<F: Product, const M: usize, const P: usize>(
        &self,
        first: usize,
        ahead: Ahead,
        out: &mut Rect<'_, f32>,
    ) {
        let Linear { x, weight, bias } = self.args;
        // SAFETY: promised by the caller; the slices are as long as the product expects.
        let sums = unsafe {
            F::block::<M, P>(weight.layout, x.rows(first, M), self.bytes(*weight), ahead)
        };
        let column = self.panels.start * LANES - out.cols().start;
        for (m, sums) in sums.iter().enumerate() {
            let place = &mut out.row_mut(first + m)[column..];
            for (p, sums) in sums.iter().enumerate() {
                let lanes = LANES.min(place.len() - p * LANES);
                let mask = u16::MAX >> (LANES - lanes);
                let feature = (self.panels.start + p) * LANES;
                // SAFETY: `lanes` numbers are within both slices, and no others are touched.
                unsafe {
                    let mut sums = *sums;
                    if let Some(bias) = bias {
                        let bias = &bias[feature..feature + lanes];
                        sums = _mm512_add_ps(sums, _mm512_maskz_loadu_ps(mask, bias.as_ptr()));
                    }
                    let place = &mut place[p * LANES..p * LANES + lanes];
                    _mm512_mask_storeu_ps(place.as_mut_ptr(), mask, sums);
                }
            }
        }
    }

    fn bytes<'a>(&self, weight: PackedView<'a>) -> &'a [u8] {
        let size = weight.layout.panel_bytes();
        &weight.bytes[self.panels.start * size..self.panels.end * size]
    }
}
