//! Kernels for vector registers, written once for all instruction sets.
//!
//! [`strips`] walks a matrix product and [`norm`] a row at any width of register. [`eight`] holds the kernels for registers
//! of eight numbers: AVX2 has such registers, and on ARM two of NEON's make one.
#![allow(unsafe_code)]

pub(crate) mod eight;
pub(crate) mod norm;
pub(crate) mod strips;
