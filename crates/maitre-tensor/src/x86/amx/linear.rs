//! Matrix products in tile registers.
//!
//! ```text
//! for each 4 panels of the tile       (64 features; stay in the second-level cache)
//!   for each 32 token rows
//!     4 tiles of sums at a time       (two tiles of rows by two panels, or one by four)
//! ```
//!
//! One or two rows of bf16 are multiplied [without tiles](super::few), formats with groups have
//! [loops of their own](super::groups).

use std::arch::x86_64::*;

use super::few::{FEW_ROWS, few};
use super::groups::{self, GROUP_ROWS};
use super::registers::{self, Operands, ROWS, TALL_PANELS, TALL_ROWS, TileDot, WIDE_PANELS};
use crate::format::WeightFormat;
use crate::input::InputRows;
use crate::kernels::{Linear, Tiling};
use crate::results::Results;
use crate::team::Scratch;
use crate::vector::strips::{Ahead, Numbers, PANELS, finish};
use crate::weight::INT8_ZERO;
use crate::weight::layout::{LANES, LINE, Layout};
use crate::x86::avx512;

/// Fewest token rows of bytes that tiles multiply in less time than AVX-512's instructions.
const INT8_ROWS: usize = 8;

/// See [`Kernels::tiling`](crate::kernels::Kernels::tiling).
pub(super) fn tiling(format: WeightFormat) -> Tiling {
    match format {
        WeightFormat::Bf16
        | WeightFormat::Int8 {
            activation_group: None,
        } => Tiling {
            // The first strip of a tile is not fetched ahead: few tiles.
            weights: 1024 * 1024,
            // A part of the second-level cache: from the next one they come too slowly.
            inputs: 384 * 1024,
            rows: TALL_ROWS,
        },
        _ => Tiling::STREAMED,
    }
}

/// See [`Kernels::linear`](crate::kernels::Kernels::linear).
pub(super) fn linear(args: &Linear<'_>, out: &mut Results<'_>, scratch: &mut Scratch) {
    let rows = out.rows().len();
    // SAFETY: this function is reached through a table that is handed out only where the processor
    // has the instructions, and the system lets this process use them.
    unsafe {
        match args.weight.layout.format {
            WeightFormat::Bf16 => tile::<Bf16>(args, out),
            WeightFormat::Int8 {
                activation_group: None,
            } if rows >= INT8_ROWS => tile::<PerToken>(args, out),
            WeightFormat::Int8 {
                activation_group: Some(_),
            } if rows >= GROUP_ROWS => groups::tile::<groups::Int8>(args, out),
            WeightFormat::Int4 { .. } if rows >= GROUP_ROWS => {
                groups::tile::<groups::Int4>(args, out);
            }
            _ => avx512::linear(args, out, scratch),
        }
    }
}

/// The sums of a block of token rows with the panels of a strip.
#[repr(align(64))]
struct Sums([[Numbers; PANELS]; TALL_ROWS]);

const _: () = assert!(PANELS == WIDE_PANELS && PANELS == 2 * TALL_PANELS);

/// How a weight format's numbers meet token rows.
trait Product {
    /// The products of `rows` rows, up to [`TALL_ROWS`], with up to [`PANELS`] panels, without the bias. Those with
    /// panels that are not there mean nothing.
    ///
    /// # Safety
    ///
    /// The processor has the instructions, and tiles may be used. `x` is so many rows of the layout's
    /// input form.
    unsafe fn block(strip: &Strip<'_>, x: InputRows<'_>, rows: usize, sums: &mut Sums);
}

/// All token rows of a tile with all its panels.
///
/// # Safety
///
/// The processor has the instructions, and tiles may be used.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn tile<P: Product>(args: &Linear<'_>, out: &mut Results<'_>) {
    let Linear { x, weight, .. } = args;
    let (cols, rows, size) = (out.cols(), out.rows(), weight.layout.panel_bytes());
    // A gated tile's panels come in pairs.
    let pair = 1 + usize::from(weight.layout.gate.is_some());
    let panels = cols.start / LANES * pair..cols.end.div_ceil(LANES) * pair;
    // A last block of few rows is a wide one.
    let tall_blocks = (rows.len() + TALL_ROWS - ROWS - 1) / TALL_ROWS;
    let mut sums = Sums([[Numbers([0.0; LANES]); PANELS]; TALL_ROWS]);
    for first in panels.clone().step_by(PANELS) {
        let end = panels.end.min(first + PANELS);
        let bytes = &weight.bytes[first * size..end * size];
        let next = &weight.bytes[end * size..panels.end.min(end + PANELS) * size];
        for (index, row) in rows.clone().step_by(TALL_ROWS).enumerate() {
            let count = TALL_ROWS.min(rows.end - row);
            let strip = Strip {
                layout: weight.layout,
                size,
                panels: bytes,
                next: share(next, index, tall_blocks),
            };
            // SAFETY: promised by the caller; the slices are as long as the product expects.
            unsafe { P::block(&strip, x.rows(row, count), count, &mut sums) };
            finish(args, first..end, row, &mut sums.0[..count], out);
        }
    }
}

/// Part `index` of the next strip, of as many parts as there are tall blocks of rows to fetch it meanwhile.
fn share(next: &[u8], index: usize, parts: usize) -> &[u8] {
    let size = next.len().div_ceil(parts.max(1)).next_multiple_of(LINE);
    let (start, end) = (index * size, (index + 1) * size);
    if index < parts {
        &next[start.min(next.len())..end.min(next.len())]
    } else {
        &[]
    }
}

/// Some adjacent panels.
struct Strip<'a> {
    layout: Layout,
    /// Bytes of a panel.
    size: usize,
    /// Up to [`PANELS`], whole.
    panels: &'a [u8],
    /// What to fetch meanwhile.
    next: &'a [u8],
}

impl Strip<'_> {
    fn count(&self) -> usize {
        self.panels.len() / self.size
    }

    /// The rows of a panel, or of the last one.
    fn panel(&self, index: usize, header: usize) -> *const u8 {
        let index = index.min(self.count() - 1);
        self.panels[self.size * index + header..].as_ptr()
    }
}

/// Products of bf16 numbers.
struct Bf16;

impl Product for Bf16 {
    #[inline(always)]
    unsafe fn block(strip: &Strip<'_>, x: InputRows<'_>, rows: usize, sums: &mut Sums) {
        // SAFETY: promised by the caller.
        unsafe {
            if rows <= FEW_ROWS {
                few(&wide(strip, (x, rows), 0, sums));
            } else {
                multiply::<registers::Bf16>(strip, (x, rows), 0, sums);
            }
        }
    }
}

/// Int8 weights with one activation scale per token: exact sums, scaled once.
struct PerToken;

impl Product for PerToken {
    #[inline(always)]
    unsafe fn block(strip: &Strip<'_>, x: InputRows<'_>, rows: usize, sums: &mut Sums) {
        // SAFETY: promised by the caller; the scales are the first line of a panel, and a line of sums is
        // as long as a register.
        unsafe {
            multiply::<registers::Int8>(strip, (x, rows), LINE, sums);
            for (p, panel) in strip.panels.chunks_exact(strip.size).enumerate() {
                let scales = _mm512_loadu_ps(panel[..LINE].as_ptr().cast());
                for (group, sums) in x.groups.iter().zip(&mut sums.0) {
                    let sum = sums[p].0.as_mut_ptr();
                    let zero = _mm512_set1_epi32(INT8_ZERO.wrapping_mul(group.sum));
                    let steps = _mm512_load_si512(sum.cast());
                    let exact = _mm512_cvtepi32_ps(_mm512_sub_epi32(steps, zero));
                    let scaled = _mm512_mul_ps(exact, _mm512_set1_ps(group.scale));
                    _mm512_store_ps(sum, _mm512_mul_ps(scaled, scales));
                }
            }
        }
    }
}

/// What a block of up to [`ROWS`] rows reads and writes. The rows of panels begin after a header; in place of panels that are
/// not there, the last is multiplied again.
#[inline(always)]
fn wide(
    strip: &Strip<'_>,
    (x, rows): (InputRows<'_>, usize),
    header: usize,
    sums: &mut Sums,
) -> Operands<WIDE_PANELS> {
    Operands {
        rows,
        depth: strip.layout.depth(),
        a: x.words.as_ptr(),
        a_stride: x.shape.words * size_of::<u32>(),
        panels: std::array::from_fn(|index| strip.panel(index, header)),
        sums: sums.0.as_mut_ptr().cast(),
        sums_stride: PANELS * LINE,
        ahead: Ahead::NONE,
    }
}

/// The sums of rows with panels, whose rows begin after a header.
///
/// # Safety
///
/// As [`Product::block`], and `D` multiplies numbers of the format.
#[inline(always)]
unsafe fn multiply<D: TileDot>(
    strip: &Strip<'_>,
    (x, rows): (InputRows<'_>, usize),
    header: usize,
    sums: &mut Sums,
) {
    let wide = wide(strip, (x, rows), header, sums);
    if rows <= ROWS {
        // SAFETY: promised by the caller; there is space for so many rows of sums.
        return unsafe { wide.run::<D>() };
    }
    let blocks = strip.count().div_ceil(TALL_PANELS);
    let tiles = (wide.depth / registers::DEPTH).max(1);
    let lines = strip.next.len().div_ceil(LINE * blocks * tiles);
    for block in 0..blocks {
        let first = block * TALL_PANELS;
        let ahead = strip
            .next
            .as_ptr()
            .wrapping_add(block * tiles * lines * LINE);
        let operands = Operands {
            rows,
            depth: wide.depth,
            a: wide.a,
            a_stride: wide.a_stride,
            panels: [first, first + 1].map(|index| strip.panel(index, header)),
            sums: wide.sums.wrapping_add(first * LINE),
            sums_stride: wide.sums_stride,
            ahead: Ahead {
                start: ahead,
                lines,
            },
        };
        // SAFETY: as above.
        unsafe { operands.run::<D>() };
    }
}
