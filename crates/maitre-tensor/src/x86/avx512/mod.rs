//! Kernels for processors with AVX-512: those with its dot-product instructions for bf16 (AVX512_BF16) and
//! int8 (AVX512_VNNI), which are Zen 4 and Sapphire Rapids and later; those without the first, as Ice Lake; and those
//! with neither, as Skylake's servers.
//!
//! The functions of a table are safe to call only because [`kernels`], [`kernels_vnni`] and [`kernels_f`] hand it out
//! after they have asked the processor; [`amx`](super::amx), which takes some of them over, does so only with that table.
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

pub(in crate::x86) use attention::{BF16, INT8, Work, attend};
pub(in crate::x86) use linear::linear;
pub(in crate::x86) use quantized::read_header;

use std::sync::LazyLock;

use crate::kernels::{Kernels, Linear};
use crate::portable;
use crate::results::Results;
use crate::team::Scratch;
use crate::vector::strips;

/// Whether this processor has the instructions of AVX-512 that all tables use, and those of AVX2.
fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && super::avx2::kernels().is_some()
}

/// The kernels, if this processor has every instruction they use.
pub(crate) fn kernels() -> Option<&'static Kernels> {
    let available = is_available()
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx512bf16");
    available.then_some(&KERNELS)
}

/// The kernels that take no instruction for bf16.
pub(crate) fn kernels_vnni() -> Option<&'static Kernels> {
    static KERNELS: LazyLock<Option<Kernels>> =
        LazyLock::new(|| without_bf16("avx512-vnni", linear::linear_vnni));
    let available = is_available() && is_x86_feature_detected!("avx512vnni");
    KERNELS.as_ref().filter(|_| available)
}

/// The kernels that take none for quads of bytes either.
pub(crate) fn kernels_f() -> Option<&'static Kernels> {
    static KERNELS: LazyLock<Option<Kernels>> =
        LazyLock::new(|| without_bf16("avx512-f", linear::linear_f));
    KERNELS.as_ref().filter(|_| is_available())
}

/// Products and rows in registers of 512 bits; what else there is, attention above all, is that of AVX2.
fn without_bf16(
    name: &'static str,
    linear: fn(&Linear<'_>, &mut Results<'_>, &mut Scratch),
) -> Option<Kernels> {
    Some(Kernels {
        name,
        linear,
        // Tall blocks are widened as a whole.
        widened_rows: strips::MOST_TOKENS,
        peaks: rows::peaks,
        encode: rows::encode,
        quantize_int8: rows::quantize_int8,
        quantize_int4: rows::quantize_int4,
        rms_norm: rows::rms_norm,
        layer_norm: rows::layer_norm,
        activate: rows::activate,
        add: rows::add,
        ..*super::avx2::kernels()?
    })
}

/// Private, so that [`kernels`] is the only way to the functions.
static KERNELS: Kernels = Kernels {
    name: "avx512",
    linear,
    // Of stored blocks, which the kernels for AVX2 compute.
    widened_rows: strips::TOKENS,
    peaks: rows::peaks,
    encode: rows::encode,
    quantize_int8: rows::quantize_int8,
    quantize_int4: rows::quantize_int4,
    rms_norm: rows::rms_norm,
    layer_norm: rows::layer_norm,
    activate: rows::activate,
    add: rows::add,
    fetch: crate::vector::eight::fetch,
    rope: rope::rope,
    store_key: rope::store_key,
    store_value: rope::store_value,
    load_query: query::load_query,
    attend,
    ..portable::KERNELS
};
