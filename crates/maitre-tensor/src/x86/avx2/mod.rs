//! Kernels for processors with AVX2, FMA and F16C: Haswell and Zen and later.
//!
//! A register is half a row of a panel; else they are what the kernels for wider registers are.
//! The functions of [`KERNELS`] are safe to call only because [`kernels`] hands the table out after
//! it has asked the processor.
#![allow(unsafe_code)]

mod attention;
mod blocks;
mod cached;
mod codes;
mod dot;
mod exp;
mod linear;
mod quantized;
mod query;
mod rope;
mod rows;
mod softmax;

pub(super) use linear::linear_blocks;

use crate::kernels::Kernels;
use crate::portable;

/// The kernels, if this processor has every instruction they use.
pub(crate) fn kernels() -> Option<&'static Kernels> {
    let available = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    available.then_some(&KERNELS)
}

/// Private, so that [`kernels`] is the only way to the functions.
static KERNELS: Kernels = Kernels {
    name: "avx2",
    linear: linear::linear,
    widened_rows: super::strips::TOKENS,
    encode: rows::encode,
    rms_norm: rows::rms_norm,
    layer_norm: rows::layer_norm,
    activate: rows::activate,
    add: rows::add,
    peaks: rows::peaks,
    quantize_int8: rows::quantize_int8,
    quantize_int4: rows::quantize_int4,
    rope: rope::rope,
    store_key: rope::store_key,
    store_value: rope::store_value,
    query_words: query::query_words,
    weight_words: attention::weight_words,
    load_query: query::load_query,
    attend: attention::attend,
    ..portable::KERNELS
};
