//! Kernels for 64-bit ARM processors with dot products of bytes: Apple's, Neoverse, Cortex from A75 on.
//!
//! Most are those for [registers of eight numbers](crate::vector::eight), which NEON has in two halves. What the portable
//! kernels do number by number the compiler turns into NEON by itself.
#![allow(unsafe_code)]

mod blocks;
mod bytes;
mod registers;

use std::arch::is_aarch64_feature_detected;

pub(crate) use blocks::linear_blocks;
pub(crate) use bytes::{
    BF16_QUERIES, BF16_TOKENS, INT4_TOKENS, INT8_OFFSET, INT8_QUERIES, INT8_SIDE_BY_SIDE,
    INT8_TOKENS, Int4, Int8, KeyBytes, ValueBytes, widen_int8,
};
pub(crate) use registers::{F32x8, I32x8, fetch_far, fetch_near};

use crate::kernels::Kernels;
use crate::portable;
use crate::vector::{eight, norm, strips};

/// Lanes of a register.
const LANES: usize = 8;

/// The kernels, if this processor has every instruction they use.
pub(crate) fn kernels() -> Option<&'static Kernels> {
    let available = is_aarch64_feature_detected!("neon") && is_aarch64_feature_detected!("dotprod");
    available.then_some(&KERNELS)
}

/// Private, so that [`kernels`] is the only way to the functions.
static KERNELS: Kernels = Kernels {
    name: "neon",
    linear: eight::linear,
    widened_rows: strips::TOKENS,
    encode: eight::encode,
    rms_norm: norm::rms_norm::<LANES>,
    layer_norm: norm::layer_norm::<LANES>,
    query_words: eight::query_words,
    weight_words: eight::weight_words,
    load_query: eight::load_query,
    attend: eight::attend,
    fetch: eight::fetch,
    ..portable::KERNELS
};
