//! In which format a tensor's numbers are kept.

use std::fmt;

/// A format: so many numbers in a row make a block of so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TensorKind {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// bfloat16.
    Bf16,
    /// 64-bit floats.
    F64,
    /// Signed integers of 8 bits.
    I8,
    /// Of 16.
    I16,
    /// Of 32.
    I32,
    /// Of 64.
    I64,
    /// 32 numbers of 4 bits, an f16 scale.
    Q4_0,
    /// 32 numbers of 4 bits, an f16 scale and an f16 minimum.
    Q4_1,
    /// 32 numbers of 5 bits, an f16 scale.
    Q5_0,
    /// 32 numbers of 5 bits, an f16 scale and an f16 minimum.
    Q5_1,
    /// 32 numbers of 8 bits, an f16 scale.
    Q8_0,
    /// 32 numbers of 8 bits, an f16 scale and their sum: for activations.
    Q8_1,
    /// 256 numbers of 2 bits in 16 groups.
    Q2K,
    /// 256 numbers of 3 bits in 16 groups.
    Q3K,
    /// 256 numbers of 4 bits in 8 groups.
    Q4K,
    /// 256 numbers of 5 bits in 8 groups.
    Q5K,
    /// 256 numbers of 6 bits in 16 groups.
    Q6K,
    /// 256 numbers of 8 bits: for activations.
    Q8K,
    /// 256 numbers of about 2 bits from a table.
    Iq2Xxs,
    /// The same with finer scales.
    Iq2Xs,
    /// 256 numbers of about 3 bits from a table.
    Iq3Xxs,
    /// 256 numbers of about 1.5 bits.
    Iq1S,
    /// 32 numbers of 4 bits, each one of sixteen values, an f16 scale.
    Iq4Nl,
    /// 256 numbers of about 3.4 bits.
    Iq3S,
    /// 256 numbers of about 2.5 bits.
    Iq2S,
    /// 256 numbers of 4 bits, each one of sixteen values, in 8 groups.
    Iq4Xs,
    /// 256 numbers of about 1.75 bits.
    Iq1M,
    /// 256 numbers of three values, five to a byte.
    Tq1_0,
    /// 256 numbers of three values, four to a byte.
    Tq2_0,
    /// 32 numbers of 4 bits, each a float e2m1, a power of two as scale.
    Mxfp4,
    /// 64 numbers of 4 bits, each a float e2m1, four scales e4m3.
    Nvfp4,
}

/// Number in the file, name, numbers and bytes of a block (ggml.h; `GGML_QUANT_SIZES` of gguf-py).
const TABLE: [(TensorKind, u32, &str, usize, usize); 33] = [
    (TensorKind::F32, 0, "F32", 1, 4),
    (TensorKind::F16, 1, "F16", 1, 2),
    (TensorKind::Q4_0, 2, "Q4_0", 32, 18),
    (TensorKind::Q4_1, 3, "Q4_1", 32, 20),
    (TensorKind::Q5_0, 6, "Q5_0", 32, 22),
    (TensorKind::Q5_1, 7, "Q5_1", 32, 24),
    (TensorKind::Q8_0, 8, "Q8_0", 32, 34),
    (TensorKind::Q8_1, 9, "Q8_1", 32, 36),
    (TensorKind::Q2K, 10, "Q2_K", 256, 84),
    (TensorKind::Q3K, 11, "Q3_K", 256, 110),
    (TensorKind::Q4K, 12, "Q4_K", 256, 144),
    (TensorKind::Q5K, 13, "Q5_K", 256, 176),
    (TensorKind::Q6K, 14, "Q6_K", 256, 210),
    (TensorKind::Q8K, 15, "Q8_K", 256, 292),
    (TensorKind::Iq2Xxs, 16, "IQ2_XXS", 256, 66),
    (TensorKind::Iq2Xs, 17, "IQ2_XS", 256, 74),
    (TensorKind::Iq3Xxs, 18, "IQ3_XXS", 256, 98),
    (TensorKind::Iq1S, 19, "IQ1_S", 256, 50),
    (TensorKind::Iq4Nl, 20, "IQ4_NL", 32, 18),
    (TensorKind::Iq3S, 21, "IQ3_S", 256, 110),
    (TensorKind::Iq2S, 22, "IQ2_S", 256, 82),
    (TensorKind::Iq4Xs, 23, "IQ4_XS", 256, 136),
    (TensorKind::I8, 24, "I8", 1, 1),
    (TensorKind::I16, 25, "I16", 1, 2),
    (TensorKind::I32, 26, "I32", 1, 4),
    (TensorKind::I64, 27, "I64", 1, 8),
    (TensorKind::F64, 28, "F64", 1, 8),
    (TensorKind::Iq1M, 29, "IQ1_M", 256, 56),
    (TensorKind::Bf16, 30, "BF16", 1, 2),
    (TensorKind::Tq1_0, 34, "TQ1_0", 256, 54),
    (TensorKind::Tq2_0, 35, "TQ2_0", 256, 66),
    (TensorKind::Mxfp4, 39, "MXFP4", 32, 17),
    (TensorKind::Nvfp4, 40, "NVFP4", 64, 36),
];

impl TensorKind {
    /// The format of this number in a file; `None` for one that is not known, or not in use any more.
    #[must_use]
    pub fn of_number(number: u32) -> Option<Self> {
        let row = TABLE.iter().find(|row| row.1 == number);
        row.map(|row| row.0)
    }

    /// Consecutive numbers of a row that are kept together.
    #[must_use]
    pub fn block_len(self) -> usize {
        self.row().3
    }

    /// Bytes that they take.
    #[must_use]
    pub fn block_bytes(self) -> usize {
        self.row().4
    }

    fn row(self) -> &'static (Self, u32, &'static str, usize, usize) {
        let row = TABLE.iter().find(|row| row.0 == self);
        // Every variant has its row, see the test.
        row.unwrap_or(&TABLE[0])
    }
}

impl fmt::Display for TensorKind {
    /// As llama.cpp names it, such as `Q4_K`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.row().2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_has_a_row_of_its_own() {
        for (kind, number, name, ..) in TABLE {
            assert_eq!(TensorKind::of_number(number), Some(kind));
            assert_eq!(kind.to_string(), name);
        }
        // The last of the enumeration, counted by the compiler: a variant more would need a row more.
        assert_eq!(TensorKind::Nvfp4 as usize + 1, TABLE.len());
        assert_eq!(TensorKind::of_number(4), None);
    }
}
