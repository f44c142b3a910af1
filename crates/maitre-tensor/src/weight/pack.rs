//! Packing: from the rows of a file to the panels of a [`PackedWeight`].
//!
//! ```text
//! file rows (16 at a time)  ->  16 rows of words, converted or quantized  ->  transposed: a panel
//! ```
//!
//! The compute team packs panels side by side, straight from the mapped file into the place where
//! the kernels read them. Beside the result only a few rows per thread exist.

use half::{bf16, f16};

use super::layout::{LANES, LINE, Layout};
use super::source::{Fault, FirstFault, Source};
use super::{Int4Row, PackedWeight, WeightView, check_size, common_cols};
use crate::aligned::AlignedBytes;
use crate::backend::Backend;
use crate::element::Element;
use crate::format::WeightFormat;
use crate::kernels::Kernels;
use crate::memory::Memory;
use crate::team::Scratch;
use crate::tiles::RowBlocks;
use crate::{Activation, DType, TensorError};

/// Most input features of int8 weights with one activation scale per token: the largest sum of
/// products of 127 and 127 that 32 bits hold.
const INT8_COLS: usize = 131_072;

impl Backend {
    /// Stacks `parts` along their rows and packs them in `format`: rounded to nearest with ties to
    /// even, or quantized.
    ///
    /// # Errors
    ///
    /// [`TensorError::WeightParts`] if there are no parts, or their `cols` differ or are zero;
    /// [`TensorError::WeightSize`] if a part's bytes are not its shape's;
    /// [`TensorError::GroupSize`] for a format with a group that the kernels do not know;
    /// [`TensorError::NotQuantizable`] for stored blocks, which [`Backend::pack_blocks`] packs;
    /// [`TensorError::Int8Width`] for more input features than sums of int8 can take;
    /// [`TensorError::NonFiniteWeight`] for a NaN or an infinity that would have to be quantized;
    /// [`TensorError::Reserve`].
    pub fn pack(
        &self,
        parts: &[WeightView<'_>],
        format: WeightFormat,
    ) -> Result<PackedWeight, TensorError> {
        let cols = common_cols(parts)?;
        let layout = Layout {
            format,
            rows: parts
                .iter()
                .fold(0, |rows, part| rows.saturating_add(part.rows)),
            cols,
            gate: None,
        };
        self.pack_as(parts, layout)
    }

    /// Packs a gate and an up projection of the same shape for [`Backend::linear_gated`], which computes
    /// `activation(gate) * up`.
    ///
    /// # Errors
    ///
    /// As [`Backend::pack`]; [`TensorError::WeightParts`] if the shapes differ.
    pub fn pack_gated(
        &self,
        gate: WeightView<'_>,
        up: WeightView<'_>,
        activation: Activation,
        format: WeightFormat,
    ) -> Result<PackedWeight, TensorError> {
        let parts = [gate, up];
        let cols = common_cols(&parts)?;
        if gate.rows != up.rows {
            return Err(TensorError::WeightParts {
                cols: vec![gate.cols, up.cols],
                reason: "a gate needs as many output features as what it gates",
            });
        }
        let layout = Layout {
            format,
            rows: gate.rows.saturating_add(up.rows),
            cols,
            gate: Some(activation),
        };
        self.pack_as(&parts, layout)
    }

    fn pack_as(
        &self,
        parts: &[WeightView<'_>],
        layout: Layout,
    ) -> Result<PackedWeight, TensorError> {
        layout.format.validate()?;
        if let WeightFormat::Blocks(format) = layout.format {
            return Err(TensorError::NotQuantizable { format });
        }
        parts.iter().try_for_each(check_size)?;
        if layout.format == WeightFormat::INT8 && layout.cols > INT8_COLS {
            return Err(TensorError::Int8Width {
                cols: layout.cols,
                most: INT8_COLS,
            });
        }
        if let Some(device) = self.device() {
            return device.pack(self, parts, layout);
        }
        let total = layout.total_bytes();
        let mut bytes =
            total
                .and_then(AlignedBytes::in_large_pages)
                .ok_or(TensorError::Reserve {
                    what: "a weight",
                    bytes: total.unwrap_or(usize::MAX),
                })?;
        let packer = Packer {
            source: Source { parts, layout },
            kernels: self.kernels(),
        };
        let fault = FirstFault::default();
        let panels = RowBlocks::new(bytes.as_mut_slice::<u8>(), layout.panel_bytes(), 1);
        self.for_each_tile("pack", panels, |panel, scratch| {
            if let Err(found) = packer.pack_panel(panel.first, panel.data, scratch) {
                fault.note(found);
            }
        })?;
        fault.into_result()?;
        Ok(PackedWeight::from_memory(Memory::Host(bytes), layout))
    }
}

/// Rows of the source on their way to panels.
struct Packer<'a> {
    source: Source<'a>,
    kernels: &'static Kernels,
}

impl Packer<'_> {
    fn pack_panel(&self, panel: usize, out: &mut [u8], scratch: &mut Scratch) -> Result<(), Fault> {
        let layout = self.source.layout;
        let (depth, cols) = (layout.depth(), layout.cols);
        let (words, floats) = scratch.words_and_floats(LANES * depth, cols);
        words.fill(0);
        for (lane, words) in words.chunks_exact_mut(depth).enumerate() {
            let Some(feature) = layout.feature(panel, lane) else {
                continue;
            };
            let row = self.source.row(feature);
            if let Some(copy) = copy_words(row.dtype, layout.format) {
                copy(row.bytes, words);
                continue;
            }
            self.source.widen(row, floats)?;
            self.encode_row(lane, floats, words, out);
        }
        match layout.format {
            WeightFormat::F16 => transpose::<2>(layout, words, out),
            _ => transpose::<4>(layout, words, out),
        }
        Ok(())
    }

    /// One output feature: its words, and its place in the panel's headers.
    fn encode_row(&self, lane: usize, values: &[f32], words: &mut [u32], panel: &mut [u8]) {
        match self.source.layout.format {
            WeightFormat::F32 => {
                for (word, value) in words.iter_mut().zip(values) {
                    *word = value.to_bits();
                }
            }
            WeightFormat::F16 => {
                for (word, value) in words.iter_mut().zip(values) {
                    *word = u32::from(<f16 as Element>::round(*value).to_bits());
                }
            }
            WeightFormat::Bf16 => {
                for (word, pair) in words.iter_mut().zip(values.chunks(2)) {
                    let bits = |i: usize| {
                        pair.get(i)
                            .map_or(0, |v| u32::from(<bf16 as Element>::round(*v).to_bits()))
                    };
                    *word = bits(0) | bits(1) << 16;
                }
            }
            WeightFormat::Int8 { .. } => {
                let scale = (self.kernels.quantize_int8)(values, words);
                panel[lane * 4..lane * 4 + 4].copy_from_slice(&scale.to_le_bytes());
            }
            // Packed by `pack_blocks` alone.
            WeightFormat::Blocks(_) => {}
            WeightFormat::Int4 { group } => {
                for (index, values) in values.chunks(group).enumerate() {
                    let words = &mut words[index * group / 8..][..values.len().div_ceil(8)];
                    let Int4Row { scale, zero } = (self.kernels.quantize_int4)(values, words);
                    let header = self.source.layout.row_offset(index * group) - LINE;
                    let header = &mut panel[header..header + LINE];
                    header[lane * 2..lane * 2 + 2].copy_from_slice(&scale.to_le_bytes());
                    header[2 * LANES + lane] = zero;
                }
            }
        }
    }
}

/// `[lane][row]` words to `[row][lane]`.
fn transpose<const SIZE: usize>(layout: Layout, words: &[u32], panel: &mut [u8]) {
    let depth = layout.depth();
    let lanes: [&[u32]; LANES] = std::array::from_fn(|lane| &words[lane * depth..][..depth]);
    for row in 0..depth {
        let start = layout.row_offset(row * layout.row_depth());
        let (out, _) = panel[start..start + LANES * SIZE].as_chunks_mut::<SIZE>();
        for (out, lane) in out.iter_mut().zip(lanes) {
            out.copy_from_slice(&lane[row].to_le_bytes()[..SIZE]);
        }
    }
}

/// Copies the bytes of a row to words.
type CopyRow = fn(&[u8], &mut [u32]);

/// For a file whose numbers are stored as the panels store them: how to copy a row.
fn copy_words(from: DType, to: WeightFormat) -> Option<CopyRow> {
    /// `SIZE` bytes to a word; what is missing in the last word stays zero.
    fn copy<const SIZE: usize>(bytes: &[u8], words: &mut [u32]) {
        let (chunks, rest) = bytes.as_chunks::<SIZE>();
        let widened = |chunk: &[u8]| {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            u32::from_le_bytes(word)
        };
        for (word, chunk) in words.iter_mut().zip(chunks) {
            *word = widened(chunk);
        }
        if let (false, Some(last)) = (rest.is_empty(), words.last_mut()) {
            *last = widened(rest);
        }
    }
    match (from, to) {
        (DType::F32, WeightFormat::F32) | (DType::Bf16, WeightFormat::Bf16) => Some(copy::<4>),
        (DType::F16, WeightFormat::F16) => Some(copy::<2>),
        _ => None,
    }
}
