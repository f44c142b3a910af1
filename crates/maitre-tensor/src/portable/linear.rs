//! Matrix products: activations `[rows, cols]` with packed weights `[out, cols]`.
//!
//! A sum belongs to one token and one output feature and is taken strictly in the order of the
//! input features, so that its bits depend on nothing but the token and the feature. Sixteen
//! features at a time fill the lanes of a panel. Cost of a tile: `rows * out * cols`
//! multiplications and additions; its weights are read once per token row.

use half::{bf16, f16};

use super::activation::gate_mul;
use super::blocks;
use crate::element::Element;
use crate::format::WeightFormat;
use crate::input::InputRows;
use crate::kernels::Linear;
use crate::results::{Results, Stored};
use crate::team::Scratch;
use crate::weight::layout::{LANES, LINE};
use crate::weight::{INT8_ZERO, PackedView};

/// Rows of a panel over which integers are summed as f32 numbers, which every processor multiplies
/// side by side: sums of 4 * 128 products of at most 255 * 128 stay below 2^24 and are exact.
const SPAN: usize = 128;

/// One sum per output feature of a panel.
type Sums = [f32; LANES];

/// See [`Kernels::linear`](crate::kernels::Kernels::linear).
pub(super) fn linear(args: &Linear<'_>, out: &mut Results<'_>, _: &mut Scratch) {
    let (rows, cols) = (out.rows(), out.cols());
    for (index, first) in cols.step_by(LANES).enumerate() {
        for row in rows.clone() {
            let sums = if let Some(activation) = args.weight.layout.gate {
                let (gate, up) = (
                    args.sums(first / LANES * 2, row),
                    args.sums(first / LANES * 2 + 1, row),
                );
                let mut gated = [0.0; LANES];
                gate_mul(activation, &gate, &up, &mut gated);
                gated
            } else {
                args.sums(first / LANES, row)
            };
            let (column, sums) = (index * LANES, std::iter::once(&sums));
            match out {
                Results::Floats(rect) => f32::store_row(rect, row, column, sums),
                Results::Pairs(rect) => u32::store_row(rect, row, column, sums),
            }
        }
    }
}

impl Linear<'_> {
    /// The products of a token row with the features of a panel, and the bias.
    fn sums(&self, panel: usize, row: usize) -> Sums {
        let mut sums = panel_sums(self.weight, self.weight.panel(panel), self.x.row(row));
        let first = self.weight.layout.feature(panel, 0);
        if let (Some(bias), Some(first)) = (self.bias, first) {
            // Lanes beyond the last feature get some number, and are not stored.
            for (sum, bias) in sums.iter_mut().zip(&bias[first..]) {
                *sum += bias;
            }
        }
        sums
    }
}

/// The products of one token row with the features of a panel.
fn panel_sums(weight: PackedView<'_>, panel: &[u8], x: InputRows<'_>) -> Sums {
    let layout = weight.layout;
    match layout.format {
        WeightFormat::F32 => products(panel, x.words, |sum, weight, [x]| {
            *sum += f32::from_le_bytes(weight) * f32::from_bits(x);
        }),
        WeightFormat::F16 => products(panel, x.words, |sum, weight, [x]| {
            *sum += f16::from_le_bytes(weight).widen() * f32::from_bits(x);
        }),
        WeightFormat::Bf16 => products(panel, x.words, |sum, weight, [x]| {
            let weight = u32::from_le_bytes(weight);
            let low = |word: u32| f32::from_bits(word << 16);
            let high = |word: u32| f32::from_bits(word & 0xffff_0000);
            *sum += low(weight) * low(x);
            *sum += high(weight) * high(x);
        }),
        WeightFormat::Int8 { .. } => int8(&panel[..LINE], &panel[LINE..], x),
        WeightFormat::Int4 { group } => int4(panel, group / 8, x),
        WeightFormat::Blocks(format) => blocks::panel_sums(format, panel, x),
    }
}

/// The inner loop of all formats: a row of the panel, `SIZE` bytes per lane, meets `WORDS` words
/// of activations.
#[inline(always)]
fn products<const SIZE: usize, const WORDS: usize>(
    rows: &[u8],
    words: &[u32],
    add: impl Fn(&mut f32, [u8; SIZE], [u32; WORDS]),
) -> Sums {
    let mut sums = [0.0; LANES];
    let rows = rows.chunks_exact(LANES * SIZE);
    for (row, words) in rows.zip(words.as_chunks::<WORDS>().0) {
        for (sum, weights) in sums.iter_mut().zip(row.as_chunks::<SIZE>().0) {
            add(sum, *weights, *words);
        }
    }
    sums
}

/// Integer sums per group of activations, exact; a group's sum is scaled when it is complete.
fn int8(scales: &[u8], rows: &[u8], x: InputRows<'_>) -> Sums {
    let group_words = x.shape.group_len().div_ceil(4);
    let groups = rows
        .chunks(group_words * LINE)
        .zip(x.words.chunks(group_words))
        .zip(x.groups);
    let mut sums = [0.0; LANES];
    for ((rows, words), group) in groups {
        let mut steps = [0; LANES];
        for (rows, words) in rows.chunks(SPAN * LINE).zip(words.chunks(SPAN)) {
            let exact = products(rows, words, |sum, quad, [x]| add_quad(sum, quad, x));
            for (steps, exact) in steps.iter_mut().zip(exact) {
                // Exact in the end; on the way there, the offset of the weights may not fit.
                *steps = i32::wrapping_add(*steps, exact as i32);
            }
        }
        for (sum, steps) in sums.iter_mut().zip(steps) {
            let exact = i32::wrapping_sub(steps, INT8_ZERO.wrapping_mul(group.sum));
            *sum += exact as f32 * group.scale;
        }
    }
    for (sum, scale) in sums.iter_mut().zip(scales.as_chunks().0) {
        *sum *= f32::from_le_bytes(*scale);
    }
    sums
}

/// Integer sums per group of weights, exact; no group is longer than [`SPAN`] rows.
fn int4(panel: &[u8], group_rows: usize, x: InputRows<'_>) -> Sums {
    let groups = panel
        .chunks((group_rows + 1) * LINE)
        .zip(x.words.chunks(group_rows * 2))
        .zip(x.groups);
    let mut sums = [0.0; LANES];
    for ((bytes, words), group) in groups {
        let (header, rows) = bytes.split_at(LINE);
        let exact = products(rows, words, |sum, bytes, [low, high]| {
            let half = |shift: u32| bytes.map(|byte: u8| byte >> shift & 15);
            add_quad(sum, half(0), low);
            add_quad(sum, half(4), high);
        });
        for (lane, (sum, exact)) in sums.iter_mut().zip(exact).enumerate() {
            let scale = bf16::from_le_bytes([header[lane * 2], header[lane * 2 + 1]]);
            let zero = i32::from(header[2 * LANES + lane]);
            let steps = exact as i32 - zero * group.sum;
            *sum += steps as f32 * (scale.widen() * group.scale);
        }
    }
    sums
}

/// Four unsigned weights with four signed activations.
#[inline(always)]
fn add_quad(sum: &mut f32, weights: [u8; 4], word: u32) {
    for (weight, x) in weights.into_iter().zip(word.to_le_bytes()) {
        *sum += f32::from(weight) * f32::from(x.cast_signed());
    }
}
