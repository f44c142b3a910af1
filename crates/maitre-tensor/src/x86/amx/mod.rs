//! Kernels for processors with AMX, which multiply tiles of sixteen rows by 64 bytes: Xeons from
//! Sapphire Rapids on.
//!
//! Packed weights and cached keys are laid out in rows of sixteen 32-bit words. Sixteen such rows are
//! a tile as the instructions want it, so nothing is packed for them alone. What has no products is
//! computed as on the [AVX-512 path](super::avx512), whose instructions these processors have too.
//!
//! Sums of bf16 products are added in another order than on the AVX-512 path. One or two rows are
//! multiplied by AVX-512's instructions, but [in this order](few). Sums of integers are exact, and each number of rows takes
//! what is faster.
#![allow(unsafe_code)]

mod attention;
mod bytes;
mod few;
mod groups;
mod linear;
mod permission;
mod registers;
mod resident;
mod shapes;
#[cfg(test)]
mod tests;

pub(crate) use permission::is_granted;
pub(crate) use shapes::Shapes;

use crate::kernels::Kernels;

/// The kernels, if this processor has every instruction they use and the system lets programs use
/// the tile registers.
pub(crate) fn kernels() -> Option<&'static Kernels> {
    static KERNELS: std::sync::LazyLock<Option<Kernels>> = std::sync::LazyLock::new(|| {
        let avx512 = super::avx512::kernels()?;
        is_granted().then_some(Kernels {
            name: "amx",
            linear: linear::linear,
            tiling: linear::tiling,
            // A block of a tile's rows, and four.
            full_queries: 16,
            queries: 64,
            attend: attention::attend,
            ..*avx512
        })
    });
    KERNELS.as_ref()
}
