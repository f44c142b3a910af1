//! Numbers kept within bounds by tanh, as Gemma 2 keeps scores and logits (arXiv 2408.00118, section 2).

use super::exp::exp;

/// `x = limit * tanh(x / limit)`. By `tanh(u) = (1 - e^-2u) / (1 + e^-2u)`, which for small numbers is as exact as `limit` is.
#[inline(always)]
pub(crate) fn bound(numbers: &mut [f32], limit: f32) {
    for number in numbers {
        let shrunk = exp(-2.0 * (*number / limit).abs());
        *number = (limit * ((1.0 - shrunk) / (1.0 + shrunk))).copysign(*number);
    }
}
