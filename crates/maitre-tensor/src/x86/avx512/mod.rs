//! Kernels for processors with AVX-512 and its dot-product instructions for bf16 (AVX512_BF16) and
//! int8 (AVX512_VNNI): Zen 4 and Sapphire Rapids and later.
//!
//! The functions of [`KERNELS`] are safe to call only because [`kernels`] hands the table out after
//! it has asked the processor; [`amx`](super::amx), which takes some of them over, does so only with that table.
#![allow(unsafe_code)]

mod attention;
mod dot;
mod exp;
mod linear;
mod quantized;
mod query;
mod rope;
mod rows;
mod softmax;

pub(in crate::x86) use attention::{BF16, Work, attend};
pub(in crate::x86) use linear::linear;
pub(in crate::x86) use quantized::read_header;

use crate::kernels::Kernels;
use crate::portable;

/// The kernels, if this processor has every instruction they use.
pub(crate) fn kernels() -> Option<&'static Kernels> {
    let available = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx512bf16")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("avx2");
    available.then_some(&KERNELS)
}

/// Private, so that [`kernels`] is the only way to the functions.
static KERNELS: Kernels = Kernels {
    name: "avx512",
    linear,
    // Of stored blocks, which the kernels for AVX2 compute.
    widened_rows: crate::vector::strips::TOKENS,
    peaks: rows::peaks,
    encode: rows::encode,
    quantize_int8: rows::quantize_int8,
    quantize_int4: rows::quantize_int4,
    rms_norm: rows::rms_norm,
    layer_norm: rows::layer_norm,
    activate: rows::activate,
    add: rows::add,
    rope: rope::rope,
    store_key: rope::store_key,
    store_value: rope::store_value,
    load_query: query::load_query,
    attend,
    ..portable::KERNELS
};
