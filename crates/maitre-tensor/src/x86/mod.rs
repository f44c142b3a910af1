//! Kernels for x86-64 processors beyond its baseline.

pub(crate) mod amx;
pub(crate) mod avx2;
pub(crate) mod avx512;
