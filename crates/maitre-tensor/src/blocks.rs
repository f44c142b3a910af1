//! The quantized formats of GGUF files: how their blocks hold numbers.
//!
//! A row is cut into blocks of 32 or 256 numbers, and a block into groups of 16 or 32. In every format here the numbers
//! of a group are `scale * value - minimum`, where a code of at most 8 bits stands for the value: the formats differ in
//! how many bits a code has, whether codes stand for steps or for entries of a table, and how scales and minimums are
//! packed. So one function takes a block apart ([`BlockFormat::unpack`]), and what decodes rows or packs them for
//! kernels need not know the formats. (ggml: `ggml-common.h` for the layouts, `dequantize_row_*` of `ggml-quants.c` for
//! their meaning.)

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

/// Numbers of the longest block.
const MOST_CODES: usize = 256;

/// Most groups of a block.
const MOST_GROUPS: usize = 16;

/// A block that has been taken apart. Its number `i`, of group `g`, is
/// `scale * scales[g] * value(codes[i]) - minimum * minimums[g]`, where both first products are exact in f32.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unpacked {
    /// The block's factor of all scales.
    pub(crate) scale: f32,
    /// The block's factor of all minimums; 0 in a format that has none.
    pub(crate) minimum: f32,
    /// One per group; 1 in a format whose blocks are one group.
    pub(crate) scales: [i8; MOST_GROUPS],
    /// One per group.
    pub(crate) minimums: [u8; MOST_GROUPS],
    /// One per number; see [`BlockFormat::value`].
    pub(crate) codes: [u8; MOST_CODES],
}

impl Unpacked {
    /// What blocks are taken apart into.
    pub(crate) const fn new() -> Self {
        Self {
            scale: 0.0,
            minimum: 0.0,
            scales: [1; MOST_GROUPS],
            minimums: [1; MOST_GROUPS],
            codes: [0; MOST_CODES],
        }
    }
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
            _ => 32,
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
        let mut block = Unpacked::new();
        let blocks = bytes.chunks_exact(self.block_bytes());
        for (bytes, out) in blocks.zip(out.chunks_exact_mut(self.block_len())) {
            self.unpack(bytes, &mut block);
            let groups = out
                .chunks_exact_mut(self.group_len())
                .zip(block.codes.chunks_exact(self.group_len()));
            for (group, (out, codes)) in groups.enumerate() {
                let scale = block.scale * f32::from(block.scales[group]);
                let minimum = block.minimum * f32::from(block.minimums[group]);
                for (out, code) in out.iter_mut().zip(codes) {
                    *out = scale * f32::from(self.value(*code)) - minimum;
                }
            }
        }
        Ok(())
    }

    /// Whether groups have a minimum.
    pub(crate) const fn has_minimum(self) -> bool {
        matches!(
            self,
            Self::Q4_1 | Self::Q5_1 | Self::Q2K | Self::Q4K | Self::Q5K
        )
    }

    /// Bits of a code.
    pub(crate) const fn bits(self) -> usize {
        match self {
            Self::Q2K => 2,
            Self::Q3K => 3,
            Self::Q5_0 | Self::Q5_1 | Self::Q5K => 5,
            Self::Q6K => 6,
            Self::Q8_0 => 8,
            _ => 4,
        }
    }

    /// What is added to a value so that it is not negative, in the formats whose codes are such sums or stand for
    /// values of a table.
    pub(crate) const fn zero(self) -> i32 {
        match self {
            Self::Q3K => 4,
            Self::Q4_0 => 8,
            Self::Mxfp4 => 12,
            Self::Q5_0 => 16,
            Self::Q6K => 32,
            Self::Q8_0 | Self::Iq4Nl | Self::Iq4Xs => 128,
            _ => 0,
        }
    }

    /// The values that codes stand for, each with [`BlockFormat::zero`] added, where they are no steps.
    pub(crate) const fn table(self) -> Option<[u8; 16]> {
        let (values, zero) = match self {
            Self::Iq4Nl | Self::Iq4Xs => (IQ4_VALUES, 128),
            Self::Mxfp4 => (E2M1_TWICE, 12),
            _ => return None,
        };
        let mut table = [0; 16];
        let mut code = 0;
        while code < table.len() {
            table[code] = (values[code] as i16 + zero) as u8;
            code += 1;
        }
        Some(table)
    }

    /// What a code stands for.
    pub(crate) fn value(self, code: u8) -> i16 {
        let shifted = match self.table() {
            Some(table) => table[usize::from(code & 15)],
            None => code,
        };
        i16::from(shifted) - self.zero() as i16
    }

    /// Takes one block apart. What the format has no use for in `out` keeps its value.
    pub(crate) fn unpack(self, block: &[u8], out: &mut Unpacked) {
        match self {
            Self::Q4_0 => small::q4_0(block, out),
            Self::Q4_1 => small::q4_1(block, out),
            Self::Q5_0 => small::q5_0(block, out),
            Self::Q5_1 => small::q5_1(block, out),
            Self::Q8_0 => small::q8_0(block, out),
            // The same bytes; what the codes mean differs.
            Self::Iq4Nl => small::q4_0(block, out),
            Self::Mxfp4 => small::mxfp4(block, out),
            Self::Q2K => large::q2_k(block, out),
            Self::Q3K => large::q3_k(block, out),
            Self::Q4K => large::q4_k(block, out),
            Self::Q5K => large::q5_k(block, out),
            Self::Q6K => large::q6_k(block, out),
            Self::Iq4Xs => large::iq4_xs(block, out),
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
