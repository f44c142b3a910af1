//! The gated activation of Llama-style feed-forward layers (SwiGLU, Shazeer 2020,
//! arXiv 2002.05202).

use super::exp::exp;

/// `gate / (1 + e^-gate) * up`, number by number.
#[inline(always)]
pub(crate) fn silu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = gate / (1.0 + exp(-gate)) * up;
    }
}
