//! The gated activations of feed-forward layers (Shazeer 2020, arXiv 2002.05202).

use super::exp::exp;
use crate::Activation;

/// `activation(gate) * up`, number by number.
#[inline(always)]
pub(crate) fn gate_mul(activation: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {
    match activation {
        Activation::Silu => silu_mul(gate, up, out),
        Activation::GeluTanh => gelu_tanh_mul(gate, up, out),
    }
}

/// `gate / (1 + e^-gate) * up`.
#[inline(always)]
fn silu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = gate / (1.0 + exp(-gate)) * up;
    }
}

/// GELU by way of tanh: `(1 + tanh(u)) / 2` is `1 / (1 + e^-2u)`, with the same exponential as above.
#[inline(always)]
fn gelu_tanh_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
    /// `-2 sqrt(2 / pi)`.
    const SCALE: f32 = -1.595_769;
    const CUBE: f32 = 0.044_715;
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        let exponent = SCALE * (gate * (1.0 + CUBE * gate * gate));
        *out = gate / (1.0 + exp(exponent)) * up;
    }
}
