//! Every kernel in plain Rust: the specification and test oracle of all faster ones.
//!
//! Reductions use a fixed number of lanes ([`dot::LANES`]) that are summed by a fixed tree, so that
//! the order of additions depends on the length of the reduction alone, and the compiler can keep
//! the lanes in vector registers. There is no fused multiply-add: each product is rounded. What a
//! path for wider registers takes over as it is, it compiles for them: such kernels are inlined.

mod activation;
pub(crate) mod attention;
mod blocks;
pub(crate) mod bound;
mod dot;
pub(crate) mod encode;
pub(crate) mod exp;
pub(crate) mod gather;
mod linear;
mod norm;
mod peaks;
pub(crate) mod query;
pub(crate) mod rope;
pub(crate) mod sampling;
pub(crate) mod store;

use crate::cache::CellShape;
use crate::kernels::{Kernels, Tiling};
use crate::weight::{quantize_int4, quantize_int8};

pub(crate) use activation::{activate, gate_mul};
pub(crate) use norm::scale_and_shift;
pub(crate) use peaks::peaks;

/// The portable path.
pub(crate) static KERNELS: Kernels = Kernels {
    name: "portable",
    encode: encode::encode,
    quantize_int8,
    quantize_int4,
    embed: gather::embed,
    linear: linear::linear,
    tiling: |_| Tiling::STREAMED,
    widened_rows: 0,
    peaks,
    rms_norm: norm::rms_norm,
    layer_norm: norm::layer_norm,
    activate,
    add: norm::add,
    fetch: |_| (),
    rope: rope::rope,
    store_key: store::store_key,
    store_value: store::store_value,
    query_words: CellShape::query_words,
    weight_words: CellShape::weight_words,
    full_queries: 6,
    queries: 48,
    load_query: query::load_query,
    attend: attention::attend,
};
