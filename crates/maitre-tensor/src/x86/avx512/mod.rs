//! Kernels for processors with AVX-512 and its dot-product instructions for bf16 (AVX512_BF16) and
//! int8 (AVX512_VNNI): Zen 4 and Sapphire Rapids and later.
//!
//! The functions of [`KERNELS`] are safe to call only because [`kernels`] hands the table out after
//! it has asked the processor.
#![allow(unsafe_code)]

mod dot;
mod linear;
mod quantized;
mod rows;

use crate::kernels::Kernels;
use crate::portable;

/// The kernels, if this processor has every instruction they use.
pub(crate) fn kernels() -> Option<&'static Kernels> {
    let available = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx512bf16");
    available.then_some(&KERNELS)
}

/// Private, so that [`kernels`] is the only way to the functions.
static KERNELS: Kernels = Kernels {
    name: "avx512",
    linear: linear::linear,
    encode: rows::encode,
    rms_norm: rows::rms_norm,
    add: rows::add,
    silu_mul: rows::silu_mul,
    ..portable::KERNELS
};
