//! The matrix product.

use std::ops::Range;

use super::{Processor, floats_mut};
use crate::backend::PEAK_BLOCK;
use crate::format::InputFormat;
use crate::input::{InputShape, LinearInput};
use crate::kernels::Linear;
use crate::operators::{Epilogue, Products};
use crate::results::Results;
use crate::team::Scratch;
use crate::tiles::{Grid, Rect};
use crate::weight::layout::LANES;
use crate::{Buffer, PackedWeight, TensorError};

/// Output features that a kernel computes side by side: four panels, which at the usual 1,000 to
/// 4,000 input features stay in a second-level cache while all token rows pass.
const FEATURES: usize = 4 * LANES;

/// Tiles per thread below which the token rows are cut too.
const TILES_PER_THREAD: usize = 4;

/// Fewest token rows of a tile where rows are cut: each cut reads the weights once more.
const TILE_ROWS: usize = 96;

// A tile ends where a block of peaks does.
const _: () = assert!(FEATURES.is_multiple_of(PEAK_BLOCK));

impl Products for Processor {
    fn linear(
        &self,
        x: &LinearInput,
        w: &PackedWeight,
        bias: Option<&Buffer>,
        out: &mut Buffer,
        rows: Range<usize>,
        epilogue: Epilogue<'_>,
    ) -> Result<(), TensorError> {
        let (name, kernels, count) = (epilogue.operator(), self.kernels, rows.len());
        let first = if count == 0 { 0 } else { rows.start };
        let (x, bias) = (
            x.view().rows(first, count),
            bias.map(Buffer::f32s).transpose()?,
        );
        let (block_rows, block_cols) = self.linear_blocks(w, x.shape, count);
        let pair = 1 + usize::from(w.is_gated());
        let compute = |rect: &mut Rect<'_, f32>, scratch: &mut Scratch| {
            for (first, weight) in w.pieces() {
                let cols = first / pair..(first + weight.layout.rows) / pair;
                if let Some(rect) = rect.within(cols) {
                    let bias = bias.map(|bias| &bias[first..]);
                    let mut results = Results::Floats(rect);
                    (kernels.linear)(&Linear { x, weight, bias }, &mut results, scratch);
                }
            }
        };
        match epilogue {
            Epilogue::None => {
                let out = floats_mut(out, count * w.rows())?;
                let grid = Grid::new(out, w.rows(), block_rows, block_cols);
                self.for_each_tile(name, grid, |mut rect, scratch| compute(&mut rect, scratch))
            }
            Epilogue::Gated => {
                let width = w.rows() / 2;
                let out = floats_mut(out, count * width)?;
                let grid = Grid::new(out, width, block_rows, block_cols / 2);
                self.for_each_tile(name, grid, |mut rect, scratch| compute(&mut rect, scratch))
            }
            Epilogue::Peaks(peaks) => {
                let blocks = w.rows().div_ceil(PEAK_BLOCK);
                let out = floats_mut(out, count * w.rows())?;
                let peaks = floats_mut(peaks, count * blocks)?;
                let grids = (
                    Grid::new(out, w.rows(), block_rows, block_cols),
                    Grid::new(peaks, blocks, block_rows, block_cols / PEAK_BLOCK),
                );
                self.for_each_tile(name, grids, |(mut logits, mut peaks), scratch| {
                    compute(&mut logits, scratch);
                    for row in logits.rows() {
                        (kernels.peaks)(logits.row_mut(row), peaks.row_mut(row));
                    }
                })
            }
        }
    }

    /// At once where the form of a number depends on that number alone.
    fn linear_gated_encoded(
        &self,
        x: &LinearInput,
        w: &PackedWeight,
        bias: Option<&Buffer>,
        (between, out): (&mut Buffer, &mut LinearInput),
        rows: Range<usize>,
    ) -> Result<(), TensorError> {
        let (width, shape) = (w.rows() / 2, out.shape());
        let mut pieces = w.pieces();
        let by_number = shape.format == InputFormat::Bf16 && width.is_multiple_of(2);
        let weight = match (pieces.next(), pieces.next()) {
            (Some((_, weight)), None) if by_number => weight,
            _ => return self.linear_gated_then_encoded(x, w, bias, (between, out), rows),
        };
        let count = rows.len();
        let first = if count == 0 { 0 } else { rows.start };
        let bias = bias.map(Buffer::f32s).transpose()?;
        let x = x.view().rows(first, count);
        let (block_rows, block_cols) = self.linear_blocks(w, x.shape, count);
        // Half as many results as sums, two to a word.
        let words = out.words_mut(count);
        let grid = Grid::padded(words, shape.words, width / 2, block_rows, block_cols / 4);
        let kernels = self.kernels;
        self.for_each_tile("linear_gated_encoded", grid, |rect, scratch| {
            let args = Linear { x, weight, bias };
            (kernels.linear)(&args, &mut Results::Pairs(rect), scratch);
        })
    }
}

impl Processor {
    /// Token rows and output features of a tile.
    fn linear_blocks(&self, w: &PackedWeight, x: InputShape, rows: usize) -> (usize, usize) {
        let tiling = (self.kernels.tiling)(w.format());
        let panels: usize = w.pieces().map(|(_, piece)| piece.layout.panels()).sum();
        let bytes = w.layout().panel_bytes() * (FEATURES / LANES);
        let wanted = self.team.threads() * TILES_PER_THREAD;
        // Many features per tile while reading them is most of the work, as long as there are
        // tiles enough for all threads.
        let groups = panels.div_ceil(FEATURES / LANES);
        let per_tile = (tiling.weights / bytes).clamp(1, (groups / wanted).max(1));
        let tiles = groups.div_ceil(per_tile);
        let cuts = wanted.div_ceil(tiles.max(1));
        let block_rows = rows.div_ceil(cuts).max(TILE_ROWS);
        // Of more rows than pass well, equal parts.
        let most_rows = (tiling.inputs / (x.words * size_of::<u32>()).max(1)).max(TILE_ROWS);
        let parts = rows.min(block_rows).div_ceil(most_rows).max(1);
        let block_rows = block_rows.min(rows).div_ceil(parts).max(1);
        let block_rows = block_rows.next_multiple_of(tiling.rows);
        (block_rows, per_tile * FEATURES)
    }
}
