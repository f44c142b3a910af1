//! Normalisation, compiled for each instruction set with as many lanes as its registers have.

use crate::kernels::Affine;
use crate::portable::scale_and_shift;

/// See [`Kernels::rms_norm`](crate::kernels::Kernels::rms_norm).
#[inline(always)]
pub(crate) fn rms_norm<const LANES: usize>(
    input: &[f32],
    weight: &[f32],
    eps: f32,
    out: &mut [f32],
) {
    let squares = sum::<LANES>(input, |x, lane| x.mul_add(x, lane));
    let mean = squares / input.len() as f32;
    let inverse = 1.0 / (mean + eps).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(input).zip(weight) {
        *out = x * inverse * weight;
    }
}

/// See [`Kernels::layer_norm`](crate::kernels::Kernels::layer_norm).
#[inline(always)]
pub(crate) fn layer_norm<const LANES: usize>(
    input: &[f32],
    affine: Affine<'_>,
    eps: f32,
    out: &mut [f32],
) {
    let count = input.len() as f32;
    let mean = sum::<LANES>(input, |x, lane| lane + x) / count;
    let squares = sum::<LANES>(input, |x, lane| (x - mean).mul_add(x - mean, lane));
    let inverse = 1.0 / (squares / count + eps).sqrt();
    scale_and_shift(input, mean, inverse, affine, out);
}

/// Lanes of four registers, to which `add` adds a number each, summed by a fixed tree.
#[inline(always)]
fn sum<const LANES: usize>(values: &[f32], add: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [[0.0_f32; LANES]; 4];
    let chunks = values.chunks_exact(4 * LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lanes, chunk) in lanes.iter_mut().zip(chunk.as_chunks::<LANES>().0) {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane = add(*value, *lane);
            }
        }
    }
    for (i, value) in rest.iter().enumerate() {
        let lane = &mut lanes[i / LANES][i % LANES];
        *lane = add(*value, *lane);
    }
    let [a, b, c, d] = lanes;
    let mut sums: [f32; LANES] = std::array::from_fn(|i| (a[i] + b[i]) + (c[i] + d[i]));
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            sums[i] += sums[i + width];
        }
        width /= 2;
    }
    sums[0]
}
