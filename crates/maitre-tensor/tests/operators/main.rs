//! The operators against independent references, the bit-exactness they promise, and what they
//! refuse.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod attention;
mod backend;
mod blocks;
mod candle;
mod copies;
mod files;
mod gated;
mod invariance;
mod layer_norms;
mod linear;
mod norms;
mod numbers;
mod packing;
mod quantized;
mod refusals;
mod rope;
mod rows;
