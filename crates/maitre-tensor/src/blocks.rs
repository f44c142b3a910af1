//! The quantized formats of GGUF files: how their blocks hold numbers.
//!
//! A row is cut into blocks of 32 or 256 numbers, and a block into groups of 16 or 32. In every format here the numbers
//! of a group are `scale * code - minimum`, with codes of at most 8 bits: the formats differ in how many bits a code
//! has, whether codes stand for steps or for entries of a table, and how scales and minimums are packed. So one
//! function takes a block apart ([`BlockFormat::each_group`]), and what decodes rows or packs them for kernels need not
//! know the formats. (ggml: `ggml-common.h` for the layouts, `dequantize_row_*` of `ggml-quants.c` for their meaning.)

mod large;
mod small;

use std::fmt;

use half::f16;

use crate::TensorError;

/// A quantized format of GGUF files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BlockFormat {
    /// 32 codes of 4 bits, centred; a scale.
    Q4_0,
    /// 32 codes of 4 bits; a scale and a minimum.
    Q4_1,
    /// 32 codes of 5 bits, centred; a scale.
    Q5_0,
    /// 32 codes of 5 bits; a scale and a minimum.
    Q5_1,
    /// 32 codes of 8 bits; a scale.
    Q8_0,
    /// 16 groups of 16 codes of 2 bits; scales and minimums of 4 bits.
    Q2K,
    /// 16 groups of 16 codes of 3 bits, centred; scales of 6 bits.
    Q3K,
    /// 8 groups of 32 codes of 4 bits; scales and minimums of 6 bits.
    Q4K,
    /// 8 groups of 32 codes of 5 bits; scales and minimums of 6 bits.
    Q5K,
    /// 16 groups of 16 codes of 6 bits, centred; scales of 8 bits.
    Q6K,
    /// 32 codes of 4 bits, each one of sixteen values that lie closer near zero; a scale.
    Iq4Nl,
    /// 8 groups of 32 such codes; scales of 6 bits.
    Iq4Xs,
    /// 32 floats of 4 bits (e2m1); a power of two as scale.
    Mxfp4,
}

/// Most numbers of a group.
const MOST_CODES: usize = 32;

/// A group of a block that has been taken apart: its numbers are `scale * code - minimum`, computed in f32 as written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group<'c> {
    pub(crate) scale: f32,
    pub(crate) minimum: f32,
    pub(crate) codes: &'c [i8],
}

impl BlockFormat {
    /// All formats.
    pub const ALL: [Self; 13] = [
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Iq4Nl,
        Self::Iq4Xs,
        Self::Mxfp4,
    ];

    /// Numbers of a block. A row is a whole number of blocks.
    #[must_use]
    pub const fn block_len(self) -> usize {
        match self {
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K | Self::Iq4Xs => 256,
            _ => 32,
        }
    }

    /// Bytes of a block.
    #[must_use]
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::Mxfp4 => 17,
            Self::Q4_0 | Self::Iq4Nl => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q2K => 84,
            Self::Q3K => 110,
            Self::Iq4Xs => 136,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Numbers of a group, which share a scale.
    #[must_use]
    pub const fn group_len(self) -> usize {
        match self {
            Self::Q2K | Self::Q3K | Self::Q6K => 16,
            _ => MOST_CODES,
        }
    }

    /// The numbers of whole blocks.
    ///
    /// # Errors
    ///
    /// [`TensorError::Argument`] if `bytes` is no whole number of blocks or `out` has another length than they have
    /// numbers.
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) -> Result<(), TensorError> {
        let count = bytes.len() / self.block_bytes();
        let is_whole = bytes.len().is_multiple_of(self.block_bytes());
        if !is_whole || out.len() != count * self.block_len() {
            let (bytes_each, numbers_each) = (self.block_bytes(), self.block_len());
            return Err(TensorError::Argument {
                operator: "BlockFormat::decode",
                argument: "out",
                expected: format!("{numbers_each} numbers for each {bytes_each} bytes of {self}"),
                actual: format!("{} numbers for {} bytes", out.len(), bytes.len()),
            });
        }
        let blocks = bytes.chunks_exact(self.block_bytes());
        for (block, out) in blocks.zip(out.chunks_exact_mut(self.block_len())) {
            let mut groups = out.chunks_exact_mut(self.group_len());
            self.each_group(block, |group| {
                for (out, code) in groups.next().into_iter().flatten().zip(group.codes) {
                    *out = group.scale * f32::from(*code) - group.minimum;
                }
            });
        }
        Ok(())
    }

    /// Takes one block apart: `visit` is called with its groups in order.
    pub(crate) fn each_group(self, block: &[u8], visit: impl FnMut(Group<'_>)) {
        match self {
            Self::Q4_0 => small::q4_0(block, visit),
            Self::Q4_1 => small::q4_1(block, visit),
            Self::Q5_0 => small::q5_0(block, visit),
            Self::Q5_1 => small::q5_1(block, visit),
            Self::Q8_0 => small::q8_0(block, visit),
            Self::Iq4Nl => small::iq4_nl(block, visit),
            Self::Mxfp4 => small::mxfp4(block, visit),
            Self::Q2K => large::q2_k(block, visit),
            Self::Q3K => large::q3_k(block, visit),
            Self::Q4K => large::q4_k(block, visit),
            Self::Q5K => large::q5_k(block, visit),
            Self::Q6K => large::q6_k(block, visit),
            Self::Iq4Xs => large::iq4_xs(block, visit),
        }
    }
}

impl fmt::Display for BlockFormat {
    /// As llama.cpp names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q2K => "Q2_K",
            Self::Q3K => "Q3_K",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
            Self::Iq4Nl => "IQ4_NL",
            Self::Iq4Xs => "IQ4_XS",
            Self::Mxfp4 => "MXFP4",
        })
    }
}

/// The values of IQ4_NL's and IQ4_XS's codes (`kvalues_iq4nl`).
const IQ4_VALUES: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// Twice the values of e2m1 floats (OCP Microscaling Formats 1.0, section 5.3.3).
const E2M1_TWICE: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// An f16 of a block.
fn half(bytes: &[u8]) -> f32 {
    match bytes {
        [low, high, ..] => f16::from_le_bytes([*low, *high]).to_f32(),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests;
