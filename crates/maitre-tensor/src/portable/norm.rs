//! Root-mean-square normalisation (Zhang and Sennrich 2019, arXiv 1910.07467) and the residual sum.

use super::dot::dot;

/// See [`Kernels::rms_norm`](crate::kernels::Kernels::rms_norm).
#[inline(always)]
pub(super) fn rms_norm(input: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let inverse = 1.0 / (dot(input, input) / input.len() as f32 + eps).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(input).zip(weight) {
        *out = x * inverse * weight;
    }
}

/// See [`Kernels::add`](crate::kernels::Kernels::add).
pub(super) fn add(sum: &mut [f32], delta: &[f32]) {
    for (sum, delta) in sum.iter_mut().zip(delta) {
        *sum += delta;
    }
}
