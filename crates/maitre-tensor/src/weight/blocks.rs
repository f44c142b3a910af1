//! Where the numbers of stored blocks lie in a panel.
//!
//! Packing moves the bits of a file and rounds none: a panel has the codes and scales that its 16 rows have in the file.
//!
//! ```text
//! panel   [block][block] ...      a block of each of 16 output features, LANES of them side by side
//! block   [16 scales][16 minimums]                2 bytes each; minimums in the formats that have some
//!         [factors of unit 0][of unit 1] ...      of groups, in the formats whose blocks are several
//!         [unit 0][unit 1] ...
//! unit    codes of 32 input features, in planes of as many bits as there are:
//!         [4 lines of 4 bits | 2 lines of 2 bits][1 or 2 lines of further bits], or 8 lines of bytes
//! line    lane 0 | lane 1 | ... | lane 15         4 bytes each
//! ```
//!
//! Four input features in a row are a *quad*, which meets a word of activations. In a lane's word the quad's first
//! feature lies in the lowest byte; several quads share a word, the first in the lowest bits of the bytes. So a kernel
//! takes a quad out with a shift and a mask, for all lanes at once.

use half::{bf16, f16};

use super::layout::{LANES, LINE};
use crate::blocks::{BlockFormat, Unpacked};

/// Input features of a unit, which is also how many share an activation scale.
pub(crate) const UNIT: usize = 32;

/// Quads of a unit.
pub(crate) const QUADS: usize = UNIT / 4;

/// Bytes of 16 scales, or of 16 minimums.
const HEADS: usize = 2 * LANES;

/// What blocks have to scale their groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Factors {
    /// Nothing: a block is one group.
    None,
    /// A factor of the scale per unit, signed.
    Scale,
    /// A factor of the scale and one of the minimum per unit, both below 64.
    ScaleAndMinimum,
    /// A factor of the scale for each half of a unit, signed.
    HalfScales,
    /// The factors of scale and minimum for each half of a unit, in the halves of a byte.
    HalfScalesAndMinimums,
}

/// Where things lie in a packed block of a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockLayout {
    /// Units of a block.
    pub(crate) units: usize,
    pub(crate) factors: Factors,
    /// Bytes of a block's scales and minimums.
    heads: usize,
    /// Bytes of a unit's factors.
    pub(crate) factor_bytes: usize,
    /// Bytes of a unit's codes.
    pub(crate) unit_bytes: usize,
}

impl BlockLayout {
    pub(crate) const fn of(format: BlockFormat) -> Self {
        use BlockFormat as B;
        let (factors, factor_bytes) = match format {
            B::Iq4Xs => (Factors::Scale, LANES),
            B::Q4K | B::Q5K => (Factors::ScaleAndMinimum, 2 * LANES),
            B::Q3K | B::Q6K => (Factors::HalfScales, 2 * LANES),
            B::Q2K => (Factors::HalfScalesAndMinimums, 2 * LANES),
            _ => (Factors::None, 0),
        };
        Self {
            units: format.block_len() / UNIT,
            factors,
            heads: if format.has_minimum() {
                2 * HEADS
            } else {
                HEADS
            },
            factor_bytes,
            unit_bytes: format.bits() * LINE,
        }
    }

    /// Bytes of a block of 16 output features.
    pub(crate) const fn block_bytes(self) -> usize {
        self.heads + self.units * (self.factor_bytes + self.unit_bytes)
    }

    /// Where the factors of a unit begin within its block.
    pub(crate) const fn factors_at(self, unit: usize) -> usize {
        self.heads + unit * self.factor_bytes
    }

    /// Where the codes of a unit begin within its block.
    pub(crate) const fn codes_at(self, unit: usize) -> usize {
        self.heads + self.units * self.factor_bytes + unit * self.unit_bytes
    }
}

/// The scale of MXFP4 is a power of two beyond the range of f16; all other formats store f16.
fn scale_bits(format: BlockFormat, scale: f32) -> [u8; 2] {
    match format {
        BlockFormat::Mxfp4 => bf16::from_f32(scale).to_le_bytes(),
        _ => f16::from_f32(scale).to_le_bytes(),
    }
}

/// Puts a block of one output feature into its lane of a packed block.
pub(super) fn pack(format: BlockFormat, block: &Unpacked, lane: usize, out: &mut [u8]) {
    let layout = BlockLayout::of(format);
    out[2 * lane..][..2].copy_from_slice(&scale_bits(format, block.scale));
    if format.has_minimum() {
        let minimum = f16::from_f32(block.minimum).to_le_bytes();
        out[HEADS + 2 * lane..][..2].copy_from_slice(&minimum);
    }
    for unit in 0..layout.units {
        let factors = &mut out[layout.factors_at(unit)..][..layout.factor_bytes];
        match layout.factors {
            Factors::None => {}
            Factors::Scale => factors[lane] = block.scales[unit].cast_unsigned(),
            Factors::ScaleAndMinimum => {
                factors[lane] = block.scales[unit].cast_unsigned();
                factors[LANES + lane] = block.minimums[unit];
            }
            Factors::HalfScales => {
                for half in 0..2 {
                    let scale = block.scales[2 * unit + half];
                    factors[half * LANES + lane] = scale.cast_unsigned();
                }
            }
            Factors::HalfScalesAndMinimums => {
                for half in 0..2 {
                    let group = 2 * unit + half;
                    let scale = block.scales[group].cast_unsigned();
                    factors[half * LANES + lane] = scale | block.minimums[group] << 4;
                }
            }
        }
        let codes = &block.codes[unit * UNIT..][..UNIT];
        let mut quads = [0; QUADS];
        for (quad, codes) in quads.iter_mut().zip(codes.as_chunks().0) {
            *quad = u32::from_le_bytes(*codes);
        }
        let unit = &mut out[layout.codes_at(unit)..][..layout.unit_bytes];
        pack_planes(format.bits(), &quads, lane, unit);
    }
}

/// Spreads the bits of a unit's codes over its planes.
#[inline(always)]
fn pack_planes(bits: usize, quads: &[u32; QUADS], lane: usize, out: &mut [u8]) {
    let mut put = |line: usize, word: u32| {
        out[line * LINE + 4 * lane..][..4].copy_from_slice(&word.to_le_bytes());
    };
    let lower_bits = |mask: u32, shift: usize, per_line: usize, line: usize| {
        let quads = quads[line * per_line..][..per_line].iter().enumerate();
        let step = 8 / per_line;
        quads.fold(0, |word, (index, quad)| {
            word | (quad >> shift & mask) << (index * step)
        })
    };
    match bits {
        8 => quads
            .iter()
            .enumerate()
            .for_each(|(line, quad)| put(line, *quad)),
        2 | 3 => (0..2).for_each(|line| put(line, lower_bits(0x0303_0303, 0, 4, line))),
        _ => (0..4).for_each(|line| put(line, lower_bits(0x0f0f_0f0f, 0, 2, line))),
    }
    match bits {
        3 => put(2, lower_bits(0x0101_0101, 2, 8, 0)),
        5 => put(4, lower_bits(0x0101_0101, 4, 8, 0)),
        6 => (0..2).for_each(|line| put(4 + line, lower_bits(0x0303_0303, 4, 4, line))),
        _ => {}
    }
}

/// A quad of a lane of a unit: what its codes stand for, [`BlockFormat::zero`] added.
#[inline(always)]
pub(crate) fn quad(format: BlockFormat, unit: &[u8], lane: usize, quad: usize) -> [u8; 4] {
    let word = |line: usize| {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&unit[line * LINE + 4 * lane..][..4]);
        u32::from_le_bytes(bytes)
    };
    let lower = match format.bits() {
        8 => word(quad),
        2 | 3 => word(quad / 4) >> (quad % 4 * 2) & 0x0303_0303,
        _ => word(quad / 2) >> (quad % 2 * 4) & 0x0f0f_0f0f,
    };
    let upper = match format.bits() {
        3 => (word(2) >> quad & 0x0101_0101) << 2,
        5 => (word(4) >> quad & 0x0101_0101) << 4,
        6 => (word(4 + quad / 4) >> (quad % 4 * 2) & 0x0303_0303) << 4,
        _ => 0,
    };
    let codes = (lower | upper).to_le_bytes();
    match format.table() {
        Some(table) => codes.map(|code| table[usize::from(code & 15)]),
        None => codes,
    }
}

/// Scale and minimum of a lane's block, without the factors of its groups.
#[inline(always)]
pub(crate) fn heads(format: BlockFormat, block: &[u8], lane: usize) -> (f32, f32) {
    let read = |at: usize| [block[at + 2 * lane], block[at + 2 * lane + 1]];
    let scale = match format {
        BlockFormat::Mxfp4 => bf16::from_le_bytes(read(0)).to_f32(),
        _ => f16::from_le_bytes(read(0)).to_f32(),
    };
    let minimum = match format.has_minimum() {
        true => f16::from_le_bytes(read(HEADS)).to_f32(),
        false => 0.0,
    };
    (scale, minimum)
}

/// The factors of scale and minimum of the two halves of a lane's unit.
#[inline(always)]
pub(crate) fn factors(
    layout: BlockLayout,
    block: &[u8],
    unit: usize,
    lane: usize,
) -> [(i32, i32); 2] {
    let bytes = &block[layout.factors_at(unit)..][..layout.factor_bytes];
    let signed = |at: usize| i32::from(bytes[at].cast_signed());
    match layout.factors {
        Factors::None => [(1, 1); 2],
        Factors::Scale => [(signed(lane), 1); 2],
        Factors::ScaleAndMinimum => [(signed(lane), signed(LANES + lane)); 2],
        Factors::HalfScales => [(signed(lane), 1), (signed(LANES + lane), 1)],
        Factors::HalfScalesAndMinimums => [lane, LANES + lane].map(|at| {
            let byte = i32::from(bytes[at]);
            (byte & 15, byte >> 4)
        }),
    }
}
