//! The number formats that weights and caches are stored in.

use std::fmt;

/// How one number is stored. Arithmetic is always done in 32-bit floating point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE 754 single precision: 8 exponent bits, 23 fraction bits.
    F32,
    /// bfloat16: the upper half of an `f32` (8 exponent bits, 7 fraction bits).
    Bf16,
    /// IEEE 754 half precision: 5 exponent bits, 10 fraction bits.
    F16,
}

impl DType {
    /// Bytes that one element takes.
    #[must_use]
    pub const fn size_in_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        })
    }
}
