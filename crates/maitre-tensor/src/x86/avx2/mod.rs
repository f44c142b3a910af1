//! Kernels for processors with AVX2, FMA and F16C: Haswell and Zen and later.
//!
//! Most are those for [registers of eight numbers](crate::vector::eight). The functions of [`KERNELS`] are safe to call
//! only because [`kernels`] hands the table out after it has asked the processor. [`kernels_vnni`] are the same with an
//! instruction for products of bytes.
#![allow(unsafe_code)]

mod blocks;
mod bytes;
mod codes;
mod compiled;
mod registers;
mod vnni;

pub(crate) use blocks::linear_blocks;
pub(crate) use bytes::{
    BF16_QUERIES, BF16_TOKENS, INT4_TOKENS, INT8_OFFSET, INT8_QUERIES, INT8_SIDE_BY_SIDE,
    INT8_TOKENS, Int4, Int8, KeyBytes, ValueBytes, widen_int8,
};
pub(crate) use registers::{F32x8, I32x8, fetch_far, fetch_near};
pub(crate) use vnni::kernels as kernels_vnni;

use crate::kernels::Kernels;
use crate::portable;
use crate::vector::{eight, strips};

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
    linear: eight::linear,
    widened_rows: strips::TOKENS,
    encode: eight::encode,
    rms_norm: compiled::rms_norm,
    layer_norm: compiled::layer_norm,
    activate: compiled::activate,
    add: compiled::add,
    peaks: compiled::peaks,
    quantize_int8: compiled::quantize_int8,
    quantize_int4: compiled::quantize_int4,
    rope: compiled::rope,
    store_key: compiled::store_key,
    store_value: compiled::store_value,
    query_words: eight::query_words,
    weight_words: eight::weight_words,
    load_query: eight::load_query,
    attend: eight::attend,
    fetch: eight::fetch,
    ..portable::KERNELS
};
