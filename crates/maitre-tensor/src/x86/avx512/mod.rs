//! Kernels for AVX-512 with VNNI and BF16 (Zen 4, Sapphire Rapids and later).
//!
//! Each entry of the table is a safe function around one compiled for the instruction set. Calling
//! it is sound because the table is used only after [`detected`] has said yes.

mod attention;
mod exp;
mod query;
mod rope;
mod softmax;

use crate::kernels::Kernels;
use crate::portable;

/// The AVX-512 path.
pub(crate) static KERNELS: Kernels = Kernels {
    name: "avx512",
    rope: rope::rope,
    store_key: rope::store_key,
    store_value: rope::store_value,
    load_query: query::load_query,
    attend: attention::attend,
    ..portable::KERNELS
};

/// Whether the processor has everything that this path is compiled for.
pub(crate) fn detected() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx512bf16")
        && is_x86_feature_detected!("fma")
}
