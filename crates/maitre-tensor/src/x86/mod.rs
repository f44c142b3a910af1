//! Kernels for the instruction sets of x86-64.

mod avx512;

use crate::kernels::Kernels;

/// The fastest path that this processor can run, if there is one faster than plain Rust.
pub(crate) fn best() -> Option<&'static Kernels> {
    avx512::detected().then_some(&avx512::KERNELS)
}
