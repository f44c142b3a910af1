//! Packing for a GPU: from the rows of a file to rows that its kernels read (`cuda/linear_weights.cuh`).
//!
//! ```text
//! matrix   [row 0][row 1] ... [scales of row 0][of row 1] ...     rows in the order of the file
//! row      f32    [cols] of f32
//!          bf16   [cols rounded up to 16] of bf16
//!          int8   [cols rounded up to 16] bytes, 128 more than they mean; scales: one f32
//!          int4   [cols rounded up to the group] half bytes, eight to a word: 0, 2, 4, 6, 1, 3, 5, 7 from
//!                 its lowest on; scales: a word per group, bf16 scale above, zero point below, their number rounded up to 4
//! ```
//!
//! Padding is zero. The backend's threads convert or quantize a piece of bounded size, which is then copied to
//! the GPU: beside the file's pages the host holds no more of a matrix than that.

use half::bf16;

use super::Device;
use crate::aligned::AlignedBytes;
use crate::element::Element;
use crate::format::WeightFormat;
use crate::kernels::Kernels;
use crate::memory::Memory;
use crate::team::Scratch;
use crate::tiles::{RowBlocks, Rows};
use crate::weight::layout::Layout;
use crate::weight::source::{Fault, FirstFault, Source};
use crate::weight::{Int4Row, PackedWeight, WeightView};
use crate::{Backend, DType, TensorError};

/// Bytes of a matrix that are in host memory at a time.
const PIECE_BYTES: usize = 64 << 20;

/// Bytes of a row block that a thread converts at a time: some ten microseconds of copying.
const TILE_BYTES: usize = 256 << 10;

/// Numbers of bf16 and int8 rows come in multiples of so many: one copy of a kernel is 16 bytes.
const ALIGNED_COLS: usize = 16;

/// Groups whose scales one load of a kernel takes.
const ALIGNED_GROUPS: usize = 4;

/// Where the numbers of a matrix lie on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RowLayout {
    rows: usize,
    /// Bytes of a row's numbers.
    pub(super) row_bytes: usize,
    /// Words of a row's scales: none, 1 for int8, for int4 one per group and padding.
    pub(super) scale_words: usize,
    /// Input features per int4 group; 0 in other formats.
    group: usize,
}

impl RowLayout {
    /// Of a packed matrix.
    ///
    /// # Errors
    ///
    /// [`TensorError::NotOnGpu`] for a format that has no kernels.
    pub(super) fn of(operator: &'static str, layout: Layout) -> Result<Self, TensorError> {
        let aligned = layout.cols.next_multiple_of(ALIGNED_COLS);
        let (row_bytes, scale_words, group) = match layout.format {
            WeightFormat::F32 => (layout.cols * 4, 0, 0),
            WeightFormat::F16 | WeightFormat::Blocks(_) => {
                return Err(TensorError::NotOnGpu {
                    operator,
                    found: format!("{} weights", layout.format),
                    instead: "bf16 or f32".to_owned(),
                });
            }
            WeightFormat::Bf16 => (aligned * 2, 0, 0),
            WeightFormat::Int8 { .. } => (aligned, 1, 0),
            WeightFormat::Int4 { group } => {
                let groups = layout.cols.div_ceil(group);
                let words = groups.next_multiple_of(ALIGNED_GROUPS);
                (groups * group / 2, words, group)
            }
        };
        Ok(Self {
            rows: layout.rows,
            row_bytes,
            scale_words,
            group,
        })
    }

    /// Where the first row's scales begin, in bytes.
    pub(super) fn scales_at(&self) -> usize {
        self.rows * self.row_bytes
    }

    /// Chunks of 32 input features per int4 group, as a power of two.
    pub(super) fn group_shift(&self) -> usize {
        (self.group / 32).checked_ilog2().unwrap_or(0) as usize
    }

    fn scale_bytes(&self) -> usize {
        self.scale_words * size_of::<u32>()
    }

    /// Bytes of the whole matrix; `None` beyond the address space, and beyond the 64 GiB whose pieces of 16
    /// bytes the kernels count in 32 bits.
    fn total_bytes(&self) -> Option<usize> {
        let per_row = self.row_bytes.checked_add(self.scale_bytes())?;
        let bytes = self.rows.checked_mul(per_row);
        bytes.filter(|bytes| u32::try_from(bytes / 16).is_ok())
    }
}

impl Device {
    /// [`Backend::pack`] and [`Backend::pack_gated`] of checked parts: the threads of `backend` convert or
    /// quantize on the way.
    pub(crate) fn pack(
        &self,
        backend: &Backend,
        parts: &[WeightView<'_>],
        layout: Layout,
    ) -> Result<PackedWeight, TensorError> {
        let place = RowLayout::of("pack", layout)?;
        let reserve = |bytes: Option<usize>| TensorError::Reserve {
            what: "a weight",
            bytes: bytes.unwrap_or(usize::MAX),
        };
        let total = place.total_bytes();
        let mut bytes = self.zeroed(total.ok_or_else(|| reserve(total))?)?;
        let piece = (PIECE_BYTES / place.row_bytes.max(1)).clamp(1, layout.rows.max(1));
        let staging = |width: usize| {
            let bytes = piece.checked_mul(width);
            bytes
                .and_then(AlignedBytes::zeroed)
                .ok_or_else(|| reserve(bytes))
        };
        let mut numbers = staging(place.row_bytes)?;
        let mut scales = staging(place.scale_bytes())?;
        let packer = RowPacker {
            source: Source { parts, layout },
            kernels: backend.kernels(),
            place,
        };
        for first in (0..layout.rows).step_by(piece) {
            let rows = piece.min(layout.rows - first);
            let numbers = &mut numbers.as_mut_slice()[..rows * place.row_bytes];
            let scales = &mut scales.as_mut_slice()[..rows * place.scale_bytes()];
            packer.pack_rows(backend, first, rows, (numbers, scales))?;
            bytes.upload(first * place.row_bytes, numbers)?;
            bytes.upload(place.scales_at() + first * place.scale_bytes(), scales)?;
        }
        Ok(PackedWeight::from_memory(Memory::Device(bytes), layout))
    }
}

/// Rows of the source on their way to rows of a GPU.
struct RowPacker<'a> {
    source: Source<'a>,
    kernels: &'static Kernels,
    place: RowLayout,
}

impl RowPacker<'_> {
    /// Packs `rows` rows from `first` on, side by side.
    fn pack_rows(
        &self,
        backend: &Backend,
        first: usize,
        rows: usize,
        (numbers, scales): (&mut [u8], &mut [u8]),
    ) -> Result<(), TensorError> {
        let block = TILE_BYTES / self.place.row_bytes.max(1);
        let fault = FirstFault::default();
        let blocks = (
            RowBlocks::with_rows(numbers, rows, block),
            RowBlocks::with_rows(scales, rows, block),
        );
        backend.for_each_tile("pack", blocks, |block, scratch| {
            if let Err(found) = self.pack_block(first, block, scratch) {
                fault.note(found);
            }
        })?;
        fault.into_result()
    }

    fn pack_block(
        &self,
        first: usize,
        (numbers, scales): (Rows<'_, u8>, Rows<'_, u8>),
        scratch: &mut Scratch,
    ) -> Result<(), Fault> {
        let mut scales = scales
            .data
            .chunks_exact_mut(self.place.scale_bytes().max(1));
        let rows = numbers.data.chunks_exact_mut(self.place.row_bytes);
        for (feature, out) in (first + numbers.first..).zip(rows) {
            let scales = scales.next().unwrap_or_default();
            self.pack_row(feature, out, scales, scratch)?;
        }
        Ok(())
    }

    /// One output feature: its numbers and its scales.
    fn pack_row(
        &self,
        feature: usize,
        out: &mut [u8],
        scales: &mut [u8],
        scratch: &mut Scratch,
    ) -> Result<(), Fault> {
        let (row, layout) = (self.source.row(feature), self.source.layout);
        let is_stored_so = matches!(
            (row.dtype, layout.format),
            (DType::F32, WeightFormat::F32) | (DType::Bf16, WeightFormat::Bf16)
        );
        if is_stored_so {
            out[..row.bytes.len()].copy_from_slice(row.bytes);
            return Ok(());
        }
        let (words, values) = scratch.words_and_floats(layout.cols.div_ceil(4), layout.cols);
        self.source.widen(row, values)?;
        match layout.format {
            WeightFormat::Int8 { .. } => {
                let scale = (self.kernels.quantize_int8)(values, words);
                scales.copy_from_slice(&scale.to_le_bytes());
                write(out, words.iter().map(|word| word.to_le_bytes()));
            }
            WeightFormat::Int4 { group } => {
                let groups = out.chunks_exact_mut(group / 2);
                for ((values, out), scale) in values
                    .chunks(group)
                    .zip(groups)
                    .zip(scales.as_chunks_mut().0)
                {
                    let words = &mut words[..values.len().div_ceil(8)];
                    let Int4Row { scale: step, zero } = (self.kernels.quantize_int4)(values, words);
                    *scale = (u32::from(step.to_bits()) << 16 | u32::from(zero)).to_le_bytes();
                    write(out, words.iter().map(|word| in_pairs(*word).to_le_bytes()));
                }
            }
            // No layout on a GPU has it.
            WeightFormat::Blocks(_) => {}
            WeightFormat::Bf16 => write(
                out,
                values
                    .iter()
                    .map(|value| <bf16 as Element>::round(*value).to_le_bytes()),
            ),
            WeightFormat::F32 | WeightFormat::F16 => {
                write(out, values.iter().map(|value| value.to_le_bytes()));
            }
        }
        Ok(())
    }
}

/// Overwrites the first bytes of `out`.
fn write<const SIZE: usize>(out: &mut [u8], numbers: impl Iterator<Item = [u8; SIZE]>) {
    for (out, number) in out.as_chunks_mut().0.iter_mut().zip(numbers) {
        *out = number;
    }
}

/// Eight half bytes from the order in which the processor's kernels unpack them (0 to 3 in the lower halves of
/// the bytes, 4 to 7 in the upper) to that in which a GPU's do (0, 2, 4, 6, 1, 3, 5, 7), which is the same word
/// with its two halves interleaved.
fn in_pairs(word: u32) -> u32 {
    let swap = |word: u32, lower: u32, by: u32| {
        let differ = (word ^ word >> by) & lower;
        word ^ differ ^ differ << by
    };
    swap(swap(word, 0x0000_ff00, 8), 0x00f0_00f0, 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_bytes_come_into_the_order_of_pairs() {
        // Number i is i: bytes 40, 51, 62, 73.
        assert_eq!(in_pairs(0x7362_5140), 0x7531_6420);
    }

    #[test]
    fn rows_are_whole_loads_and_scales_begin_where_numbers_end() {
        let of = |format, cols| {
            let rows = 6;
            let layout = Layout {
                format,
                rows,
                cols,
                gate: None,
            };
            let place = RowLayout::of("pack", layout).unwrap();
            assert_eq!(place.scales_at(), 6 * place.row_bytes);
            (place.row_bytes, place.scale_words, place.group_shift())
        };
        assert_eq!(of(WeightFormat::F32, 33), (132, 0, 0));
        assert_eq!(of(WeightFormat::Bf16, 33), (96, 0, 0));
        assert_eq!(of(WeightFormat::INT8, 33), (48, 1, 0));
        assert_eq!(of(WeightFormat::Int4 { group: 32 }, 33), (32, 4, 0));
        assert_eq!(of(WeightFormat::Int4 { group: 64 }, 321), (192, 8, 1));
        assert_eq!(of(WeightFormat::Int4 { group: 128 }, 512), (256, 4, 2));
    }
}
