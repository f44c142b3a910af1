//! Packing stored blocks: the bits of a file, moved to where the kernels read them.

use super::blocks;
use super::layout::{LANES, Layout};
use super::source::{Fault, FirstFault};
use super::{PackedWeight, WeightView};
use crate::aligned::AlignedBytes;
use crate::backend::Backend;
use crate::blocks::{BlockFormat, Unpacked};
use crate::format::WeightFormat;
use crate::memory::Memory;
use crate::tiles::RowBlocks;
use crate::{Activation, DType, TensorError};

/// A matrix of stored blocks: `[rows, cols]` = `[out features, in features]`, row-major, at any alignment.
#[derive(Debug, Clone, Copy)]
pub struct BlocksView<'a> {
    /// Format of the blocks.
    pub format: BlockFormat,
    /// Output features.
    pub rows: usize,
    /// Input features: a whole number of blocks.
    pub cols: usize,
    /// `rows * cols / block_len` blocks.
    pub bytes: &'a [u8],
}

impl BlocksView<'_> {
    /// A part that is followed by one of another format has a multiple of so many output features.
    pub const PIECE_ROWS: usize = LANES;

    fn row_bytes(&self) -> usize {
        self.cols / self.format.block_len() * self.format.block_bytes()
    }

    fn check(&self) -> Result<(), TensorError> {
        let BlocksView {
            format, rows, cols, ..
        } = *self;
        if cols == 0 || !cols.is_multiple_of(format.block_len()) {
            return Err(TensorError::BlockCols { format, cols });
        }
        let expected = rows.checked_mul(self.row_bytes());
        if expected == Some(self.bytes.len()) {
            return Ok(());
        }
        Err(TensorError::BlockSize {
            rows,
            cols,
            format,
            expected: expected.unwrap_or(usize::MAX),
            actual: self.bytes.len(),
        })
    }
}

impl Backend {
    /// Stacks `parts` along their rows and keeps their numbers as they are stored, each part in its own format. On a GPU,
    /// which has no kernels for blocks, they become bf16.
    ///
    /// # Errors
    ///
    /// [`TensorError::WeightParts`] if there are no parts, their `cols` differ, or a part is followed by one of another
    /// format and its rows are not a multiple of [`BlocksView::PIECE_ROWS`]; [`TensorError::BlockCols`] and [`TensorError::BlockSize`] for a part
    /// that is not of its shape; [`TensorError::NonFiniteScale`] for a scale that is NaN or infinite;
    /// [`TensorError::Reserve`].
    pub fn pack_blocks(&self, parts: &[BlocksView<'_>]) -> Result<PackedWeight, TensorError> {
        check_parts(parts)?;
        let aligned = parts.windows(2).all(|pair| {
            pair[0].format == pair[1].format || pair[0].rows.is_multiple_of(BlocksView::PIECE_ROWS)
        });
        if !aligned {
            return Err(TensorError::WeightParts {
                cols: parts.iter().map(|part| part.cols).collect(),
                reason: "a part that is followed by one of another format needs a multiple of 16 output features",
            });
        }
        if self.device().is_some() {
            return in_bf16(parts, |parts| self.pack(parts, WeightFormat::Bf16));
        }
        let pieces = parts.chunk_by(|a, b| a.format == b.format);
        let pieces: Vec<_> = pieces.map(|parts| Piece::of(parts, None)).collect();
        self.pack_pieces(&pieces)
    }

    /// As [`Backend::pack_blocks`], for [`Backend::linear_gated`], which computes `activation(gate) * up`.
    ///
    /// # Errors
    ///
    /// As [`Backend::pack_blocks`]; [`TensorError::WeightParts`] if the shapes or the formats differ.
    pub fn pack_gated_blocks(
        &self,
        gate: BlocksView<'_>,
        up: BlocksView<'_>,
        activation: Activation,
    ) -> Result<PackedWeight, TensorError> {
        let parts = [gate, up];
        check_parts(&parts)?;
        if (gate.rows, gate.format) != (up.rows, up.format) {
            return Err(TensorError::WeightParts {
                cols: vec![gate.cols, up.cols],
                reason: "a gate needs as many output features as what it gates, in the same format",
            });
        }
        if self.device().is_some() {
            return in_bf16(&parts, |parts| match parts {
                [gate, up] => self.pack_gated(*gate, *up, activation, WeightFormat::Bf16),
                parts => self.pack(parts, WeightFormat::Bf16),
            });
        }
        self.pack_pieces(&[Piece::of(&parts, Some(activation))])
    }

    fn pack_pieces(&self, pieces: &[Piece<'_>]) -> Result<PackedWeight, TensorError> {
        let sizes = pieces.iter().map(|piece| piece.layout.total_bytes());
        let total = sizes
            .clone()
            .try_fold(0, |sum: usize, size| sum.checked_add(size?));
        let reserved = total.and_then(AlignedBytes::in_large_pages);
        let mut bytes = reserved.ok_or(TensorError::Reserve {
            what: "a weight",
            bytes: total.unwrap_or(usize::MAX),
        })?;
        let fault = FirstFault::default();
        let mut rest = bytes.as_mut_slice::<u8>();
        let mut first_part = 0;
        for (piece, size) in pieces.iter().zip(sizes) {
            let (out, others) = rest.split_at_mut(size.unwrap_or(0));
            rest = others;
            let panels = RowBlocks::new(out, piece.layout.panel_bytes(), 1);
            self.for_each_tile("pack_blocks", panels, |panel, _| {
                if let Err(mut found) = piece.pack_panel(panel.first, panel.data) {
                    found.part += first_part;
                    fault.note(found);
                }
            })?;
            first_part += piece.parts.len();
        }
        fault.into_result().map_err(of_scale)?;
        let layouts: Vec<Layout> = pieces.iter().map(|piece| piece.layout).collect();
        Ok(PackedWeight::stacked(Memory::Host(bytes), &layouts))
    }
}

/// Parts of one format.
struct Piece<'a> {
    parts: &'a [BlocksView<'a>],
    format: BlockFormat,
    layout: Layout,
}

impl<'a> Piece<'a> {
    /// Of at least one part.
    fn of(parts: &'a [BlocksView<'a>], gate: Option<Activation>) -> Self {
        let (format, cols) = parts
            .first()
            .map_or((BlockFormat::Q8_0, 0), |part| (part.format, part.cols));
        let rows = parts
            .iter()
            .fold(0_usize, |rows, part| rows.saturating_add(part.rows));
        Self {
            parts,
            format,
            layout: Layout {
                format: WeightFormat::Blocks(format),
                rows,
                cols,
                gate,
            },
        }
    }

    /// The part that has an output feature, and its row there.
    fn row(&self, feature: usize) -> Option<(usize, usize, &'a [u8])> {
        let mut row = feature;
        for (index, part) in self.parts.iter().enumerate() {
            if row < part.rows {
                let size = part.row_bytes();
                return Some((index, row, &part.bytes[row * size..][..size]));
            }
            row -= part.rows;
        }
        None
    }

    fn pack_panel(&self, panel: usize, out: &mut [u8]) -> Result<(), Fault> {
        let size = blocks::BlockLayout::of(self.format).block_bytes();
        let mut block = Unpacked::new();
        for lane in 0..LANES {
            let feature = self.layout.feature(panel, lane);
            let Some((part, row, bytes)) = feature.and_then(|feature| self.row(feature)) else {
                continue;
            };
            let stored = bytes.chunks_exact(self.format.block_bytes());
            for (index, (stored, out)) in stored.zip(out.chunks_exact_mut(size)).enumerate() {
                self.format.unpack(stored, &mut block);
                let factors = [block.scale, block.minimum];
                if let Some(value) = factors.into_iter().find(|value| !value.is_finite()) {
                    let col = index * self.format.block_len();
                    return Err(Fault {
                        part,
                        row,
                        col,
                        value,
                    });
                }
                blocks::pack(self.format, &block, lane, out);
            }
        }
        Ok(())
    }
}

/// What is wrong with a number of a block is wrong with what all its numbers share.
fn of_scale(error: TensorError) -> TensorError {
    match error {
        TensorError::NonFiniteWeight {
            part,
            row,
            col,
            value,
        } => TensorError::NonFiniteScale {
            part,
            row,
            col,
            value,
        },
        other => other,
    }
}

fn check_parts(parts: &[BlocksView<'_>]) -> Result<(), TensorError> {
    let reason = match parts {
        [] => "there are none",
        [first, rest @ ..] if rest.iter().any(|part| part.cols != first.cols) => {
            "all must have the same input size"
        }
        _ => return parts.iter().try_for_each(BlocksView::check),
    };
    Err(TensorError::WeightParts {
        cols: parts.iter().map(|part| part.cols).collect(),
        reason,
    })
}

/// The parts as f32 numbers on their way to bf16.
fn in_bf16(
    parts: &[BlocksView<'_>],
    pack: impl FnOnce(&[WeightView<'_>]) -> Result<PackedWeight, TensorError>,
) -> Result<PackedWeight, TensorError> {
    let decoded = parts
        .iter()
        .map(|part| {
            let mut numbers = vec![0.0; part.rows * part.cols];
            part.format.decode(part.bytes, &mut numbers)?;
            Ok(numbers.into_iter().flat_map(f32::to_le_bytes).collect())
        })
        .collect::<Result<Vec<Vec<u8>>, TensorError>>()?;
    let views: Vec<WeightView<'_>> = parts
        .iter()
        .zip(&decoded)
        .map(|(part, bytes)| WeightView {
            dtype: DType::F32,
            rows: part.rows,
            cols: part.cols,
            bytes,
        })
        .collect();
    pack(&views)
}
