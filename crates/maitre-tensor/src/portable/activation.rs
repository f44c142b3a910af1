//! The activations of feed-forward layers, alone or as gates (Shazeer 2020, arXiv 2002.05202).

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

/// `activation(x)`, number by number.
#[inline(always)]
pub(crate) fn activate(activation: Activation, input: &[f32], out: &mut [f32]) {
    let each = input.iter().zip(out);
    match activation {
        Activation::Silu => each.for_each(|(x, out)| *out = silu(*x)),
        Activation::GeluTanh => each.for_each(|(x, out)| *out = gelu_tanh(*x)),
    }
}

#[inline(always)]
fn silu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = silu(*gate) * up;
    }
}

#[inline(always)]
fn gelu_tanh_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = gelu_tanh(*gate) * up;
    }
}

/// `x / (1 + e^-x)`.
#[inline(always)]
fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// GELU by way of tanh: `(1 + tanh(u)) / 2` is `1 / (1 + e^-2u)`, with the same exponential as above.
#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    /// `-2 sqrt(2 / pi)`.
    const SCALE: f32 = -1.595_769;
    const CUBE: f32 = 0.044_715;
    let exponent = SCALE * (x * (1.0 + CUBE * x * x));
    x / (1.0 + exp(exponent))
}
