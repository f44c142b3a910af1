//! Matrix products: activations `[rows, cols]` with weights `[out, cols]`.
//!
//! A tile reads each of its weight rows once. With one activation row the weights are widened in
//! registers; with more, a pair of weight rows is widened into scratch memory first and then meets
//! every activation row. Cost of a tile: `rows * out * cols` multiplications and additions, and
//! `out * cols` stored weights read.

use half::{bf16, f16};

use super::dot::dots;
use crate::buffer::View;
use crate::element::Element;
use crate::kernels::Linear;
use crate::team::Scratch;
use crate::tiles::Rect;

/// See [`Kernels::round`](crate::kernels::Kernels::round).
pub(super) fn round(input: &[f32], like: View<'_>, out: &mut [f32]) {
    match like {
        View::F32(_) => out.copy_from_slice(input),
        View::Bf16(_) => round_to::<bf16>(input, out),
        View::F16(_) => round_to::<f16>(input, out),
    }
}

fn round_to<T: Element>(input: &[f32], out: &mut [f32]) {
    for (out, value) in out.iter_mut().zip(input) {
        *out = T::round(*value).widen();
    }
}

/// See [`Kernels::linear`](crate::kernels::Kernels::linear).
pub(super) fn linear(args: &Linear<'_>, out: Rect<'_, f32>, scratch: &mut Scratch) {
    match args.weight {
        View::F32(weight) => tile(args, weight, out, scratch),
        View::Bf16(weight) => tile(args, weight, out, scratch),
        View::F16(weight) => tile(args, weight, out, scratch),
    }
}

fn tile<W: Element>(args: &Linear<'_>, weight: &[W], out: Rect<'_, f32>, scratch: &mut Scratch) {
    let cols = args.cols;
    let weight_row = |feature: usize| &weight[feature * cols..(feature + 1) * cols];
    if out.rows().len() == 1 {
        one_row(args, weight_row, out);
    } else {
        many_rows(args, weight_row, out, scratch);
    }
}

/// Four features at a time: enough independent sums to hide the latency of an addition.
fn one_row<'w, W: Element>(
    args: &Linear<'_>,
    weight_row: impl Fn(usize) -> &'w [W],
    mut out: Rect<'_, f32>,
) {
    let row = out.rows().start;
    let x = &args.x[row * args.cols..(row + 1) * args.cols];
    let first = out.cols().start;
    let (fours, rest) = out.row_mut(row).as_chunks_mut::<4>();
    for (block, sums) in fours.iter_mut().enumerate() {
        let weights = std::array::from_fn(|i| weight_row(first + block * 4 + i));
        [*sums] = dots::<W, 1, 4>([x], weights);
    }
    let done = first + fours.len() * 4;
    for (i, sum) in rest.iter_mut().enumerate() {
        [[*sum]] = dots::<W, 1, 1>([x], [weight_row(done + i)]);
    }
    add_bias(args.bias, first, out.row_mut(row));
}

fn many_rows<'w, W: Element>(
    args: &Linear<'_>,
    weight_row: impl Fn(usize) -> &'w [W],
    mut out: Rect<'_, f32>,
    scratch: &mut Scratch,
) {
    let features = out.cols();
    let (room_a, room_b) = scratch.floats(2 * args.cols).split_at_mut(args.cols);
    let mut feature = features.start;
    while feature + 2 <= features.end {
        let a = W::widen_all(weight_row(feature), room_a);
        let b = W::widen_all(weight_row(feature + 1), room_b);
        times_rows(args, [a, b], feature - features.start, &mut out);
        feature += 2;
    }
    if feature < features.end {
        let a = W::widen_all(weight_row(feature), room_a);
        times_rows(args, [a], feature - features.start, &mut out);
    }
    for row in out.rows() {
        add_bias(args.bias, features.start, out.row_mut(row));
    }
}

/// All rows of the tile times `C` widened weight rows, to the tile's columns from `col` on.
fn times_rows<const C: usize>(
    args: &Linear<'_>,
    weights: [&[f32]; C],
    col: usize,
    out: &mut Rect<'_, f32>,
) {
    let x = |row: usize| &args.x[row * args.cols..(row + 1) * args.cols];
    let rows = out.rows();
    let mut row = rows.start;
    while row + 2 <= rows.end {
        let [upper, lower] = dots::<f32, 2, C>([x(row), x(row + 1)], weights);
        out.row_mut(row)[col..col + C].copy_from_slice(&upper);
        out.row_mut(row + 1)[col..col + C].copy_from_slice(&lower);
        row += 2;
    }
    if row < rows.end {
        let [sums] = dots::<f32, 1, C>([x(row)], weights);
        out.row_mut(row)[col..col + C].copy_from_slice(&sums);
    }
}

fn add_bias(bias: Option<&[f32]>, first: usize, sums: &mut [f32]) {
    if let Some(bias) = bias {
        for (sum, bias) in sums.iter_mut().zip(&bias[first..]) {
            *sum += bias;
        }
    }
}
