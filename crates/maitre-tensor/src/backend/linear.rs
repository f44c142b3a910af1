//! The matrix product.

use std::ops::Range;

use super::Backend;
use super::check::Check;
use crate::input::LinearInput;
use crate::kernels::Linear;
use crate::tiles::Grid;
use crate::weight::PackedView;
use crate::weight::layout::LANES;
use crate::{Buffer, PackedWeight, TensorError};

/// Output features that a kernel computes side by side: four panels, which at the usual 1,000 to
/// 4,000 input features stay in a second-level cache while all token rows pass.
const FEATURES: usize = 4 * LANES;

/// Weights of a tile when there are few tokens: some ten microseconds of reading.
const TILE_BYTES: usize = 256 * 1024;

/// Tiles per thread below which the token rows are cut too.
const TILES_PER_THREAD: usize = 4;

/// Fewest token rows of a tile where rows are cut: each cut reads the weights once more.
const TILE_ROWS: usize = 96;

impl Backend {
    /// `out = x[rows] * w^T + bias`: `x` is `[.., w.cols()]`, `bias` is `[w.rows()]`, and `out` is
    /// `[rows.len(), w.rows()]`.
    ///
    /// Products and sums are f32 for the floating-point formats. For the integer formats sums are
    /// exact within a group, and scaled and added in f32 across groups, in order.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`]; `x` must be in the form of `w`'s format.
    pub fn linear(
        &self,
        x: &LinearInput,
        w: &PackedWeight,
        bias: Option<&Buffer>,
        out: &mut Buffer,
        rows: Range<usize>,
    ) -> Result<(), TensorError> {
        let check = Check("linear");
        let count = rows.len();
        let (format, cols) = (w.format().input(), w.cols());
        check.input("x", x, format, cols, rows.start.saturating_add(count))?;
        let bias = bias
            .map(|bias| check.vector("bias", bias, w.rows()))
            .transpose()?;
        let out = check.matrix_mut("out", out, count, w.rows())?;
        let x = if count == 0 {
            x.view().rows(0, 0)
        } else {
            x.view().rows(rows.start, count)
        };
        let (block_rows, block_cols) = self.linear_blocks(w.view(), count);
        let grid = Grid::new(out, w.rows(), block_rows, block_cols);
        let args = Linear {
            x,
            weight: w.view(),
            bias,
        };
        let kernels = self.kernels();
        self.turn("linear")
            .for_each(grid, |rect, scratch| (kernels.linear)(&args, rect, scratch))
    }

    /// Rows and columns of a tile.
    fn linear_blocks(&self, w: PackedView<'_>, rows: usize) -> (usize, usize) {
        let bytes = w.layout.panel_bytes() * (FEATURES / LANES);
        let wanted = self.threads() * TILES_PER_THREAD;
        // Many features per tile while reading them is most of the work, as long as there are
        // tiles enough for everybody.
        let groups = w.layout.rows.div_ceil(FEATURES);
        let per_tile = (TILE_BYTES / bytes).clamp(1, (groups / wanted).max(1));
        let tiles = groups.div_ceil(per_tile);
        let cuts = wanted.div_ceil(tiles.max(1));
        let block_rows = rows.div_ceil(cuts).max(TILE_ROWS);
        (block_rows, per_tile * FEATURES)
    }
}
