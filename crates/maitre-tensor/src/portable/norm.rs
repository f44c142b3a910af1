//! Normalisation by the root mean square (Zhang and Sennrich 2019, arXiv 1910.07467) and by mean and variance (Ba, Kiros and
//! Hinton 2016, arXiv 1607.06450), and the residual sum.

use super::dot::{LANES, dot, tree_sum};
use crate::kernels::Affine;

/// See [`Kernels::rms_norm`](crate::kernels::Kernels::rms_norm).
#[inline(always)]
pub(super) fn rms_norm(input: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let inverse = 1.0 / (dot(input, input) / input.len() as f32 + eps).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(input).zip(weight) {
        *out = x * inverse * weight;
    }
}

/// See [`Kernels::layer_norm`](crate::kernels::Kernels::layer_norm).
pub(super) fn layer_norm(input: &[f32], affine: Affine<'_>, eps: f32, out: &mut [f32]) {
    let count = input.len() as f32;
    let mean = sum(input, |x| x) / count;
    let variance = sum(input, |x| (x - mean) * (x - mean)) / count;
    scale_and_shift(input, mean, 1.0 / (variance + eps).sqrt(), affine, out);
}

/// `(x - mean) * inverse * weight + bias`.
#[inline(always)]
pub(crate) fn scale_and_shift(
    input: &[f32],
    mean: f32,
    inverse: f32,
    Affine { weight, bias }: Affine<'_>,
    out: &mut [f32],
) {
    for ((out, x), weight) in out.iter_mut().zip(input).zip(weight) {
        *out = (x - mean) * inverse * weight;
    }
    if let Some(bias) = bias {
        out.iter_mut()
            .zip(bias)
            .for_each(|(out, bias)| *out += bias);
    }
}

/// The sum of a function of each number, in the order of [`dot`](super::dot).
#[inline(always)]
fn sum(numbers: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    for chunk in numbers.chunks(LANES) {
        for (lane, number) in lanes.iter_mut().zip(chunk) {
            *lane += of(*number);
        }
    }
    tree_sum(lanes)
}

/// See [`Kernels::add`](crate::kernels::Kernels::add).
pub(super) fn add(sum: &mut [f32], delta: &[f32]) {
    for (sum, delta) in sum.iter_mut().zip(delta) {
        *sum += delta;
    }
}
