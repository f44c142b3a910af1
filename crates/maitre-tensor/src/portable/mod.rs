//! Every kernel in plain Rust: the specification and test oracle of all faster ones.
//!
//! Reductions use a fixed number of lanes ([`dot::LANES`]) that are summed by a fixed tree, so that
//! the order of additions depends on the length of the reduction alone, and the compiler can keep
//! the lanes in vector registers. There is no fused multiply-add: each product is rounded.

mod activation;
mod attention;
mod dot;
pub(crate) mod encode;
mod exp;
pub(crate) mod gather;
mod linear;
mod norm;
mod rope;

use crate::kernels::Kernels;

pub(crate) use activation::silu_mul;

/// The portable path.
pub(crate) static KERNELS: Kernels = Kernels {
    name: "portable",
    encode: encode::encode,
    embed: gather::embed,
    linear: linear::linear,
    rms_norm: norm::rms_norm,
    add: norm::add,
    rotate: rope::rotate,
    attend: attention::attend,
    silu_mul,
};
