//! Matrix products: activations `[rows, cols]` with weights `[out, cols]`.
//!
//! A tile reads each of its weight rows once, widens a few of them into scratch memory that stays in
//! the first- or second-level cache, and multiplies them with every activation row. Cost of a tile:
//! `rows * out * cols` multiplications and additions, and `out * cols` stored weights read.

use half::{bf16, f16};

use super::dot::{dot, four_dots};
use crate::buffer::View;
use crate::element::Element;
use crate::kernels::Linear;
use crate::team::Scratch;
use crate::tiles::Rect;

/// Weight rows that are widened and multiplied together.
const FEATURES: usize = 4;

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

fn tile<W: Element>(
    args: &Linear<'_>,
    weight: &[W],
    mut out: Rect<'_, f32>,
    scratch: &mut Scratch,
) {
    let cols = args.cols;
    let x = |row: usize| &args.x[row * cols..(row + 1) * cols];
    let mut rooms = scratch.floats(FEATURES * cols).chunks_exact_mut(cols);
    let mut rooms: [&mut [f32]; FEATURES] =
        std::array::from_fn(|_| rooms.next().unwrap_or_default());
    let first = out.cols().start;
    let mut quads = weight[first * cols..out.cols().end * cols].chunks_exact(FEATURES * cols);
    let mut place = 0;
    for quad in quads.by_ref() {
        let mut rows = quad.chunks_exact(cols);
        let rows = rooms
            .each_mut()
            .map(|room| W::widen_all(rows.next().unwrap_or_default(), room));
        for row in out.rows() {
            let sums = four_dots(x(row), rows);
            out.row_mut(row)[place..place + FEATURES].copy_from_slice(&sums);
        }
        place += FEATURES;
    }
    for feature in quads.remainder().chunks_exact(cols) {
        let feature = W::widen_all(feature, rooms[0]);
        for row in out.rows() {
            out.row_mut(row)[place] = dot(x(row), feature);
        }
        place += 1;
    }
    for row in out.rows() {
        add_bias(args.bias, first, out.row_mut(row));
    }
}

fn add_bias(bias: Option<&[f32]>, first: usize, sums: &mut [f32]) {
    if let Some(bias) = bias {
        for (sum, bias) in sums.iter_mut().zip(&bias[first..]) {
            *sum += bias;
        }
    }
}
