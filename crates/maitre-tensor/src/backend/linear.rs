//! The matrix product.

use super::check::Check;
use super::{Backend, rows_per_tile};
use crate::kernels::Linear;
use crate::team::Turn;
use crate::tiles::{Grid, RowBlocks};
use crate::{Buffer, DType, PackedWeight, TensorError};

/// Activation rows that meet a weight row while it is at hand: at the usual 1,000 to 4,000 input
/// features they fill a good part of a second-level cache.
const TILE_ROWS: usize = 32;

/// Least weight rows of a tile, and least multiplications: some ten microseconds of work.
const TILE_FEATURES: usize = 32;
const TILE_PRODUCTS: usize = 128 * 1024;

impl Backend {
    /// `out = x * w^T + bias`: `x` is `[rows, w.cols()]`, `bias` is `[w.rows()]`, and `out` is
    /// `[rows, w.rows()]`.
    ///
    /// With bf16 or f16 weights, `x` is rounded to the weights' format first, as the processors'
    /// dot-product instructions for those formats do; products and sums are f32.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`].
    pub fn linear(
        &self,
        x: &Buffer,
        w: &PackedWeight,
        bias: Option<&Buffer>,
        out: &mut Buffer,
        rows: usize,
    ) -> Result<(), TensorError> {
        let check = Check("linear");
        let x = check.matrix("x", x, rows, w.cols())?;
        let bias = bias
            .map(|bias| check.vector("bias", bias, w.rows()))
            .transpose()?;
        let out = check.matrix_mut("out", out, rows, w.rows())?;
        let mut turn = self.turn("linear");
        if w.dtype() == DType::F32 {
            return self.linear_of_rounded(&mut turn, x, w, bias, out);
        }
        let mut scratch = turn.borrow_scratch();
        let rounded = scratch.floats(x.len());
        let result = self
            .round_rows(&mut turn, x, w, rounded)
            .and_then(|()| self.linear_of_rounded(&mut turn, rounded, w, bias, out));
        turn.give_back(scratch);
        result
    }

    fn round_rows(
        &self,
        turn: &mut Turn<'_>,
        x: &[f32],
        w: &PackedWeight,
        rounded: &mut [f32],
    ) -> Result<(), TensorError> {
        let kernels = self.kernels();
        let cols = w.cols();
        let blocks = RowBlocks::new(rounded, cols, rows_per_tile(cols));
        turn.for_each(blocks, |block, _| {
            let x = &x[block.first * cols..][..block.data.len()];
            (kernels.round)(x, w.view(), block.data);
        })
    }

    fn linear_of_rounded(
        &self,
        turn: &mut Turn<'_>,
        x: &[f32],
        w: &PackedWeight,
        bias: Option<&[f32]>,
        out: &mut [f32],
    ) -> Result<(), TensorError> {
        let kernels = self.kernels();
        let rows = x.len() / w.cols();
        let features = TILE_PRODUCTS.div_ceil(w.cols() * rows.clamp(1, TILE_ROWS));
        let features = features.max(TILE_FEATURES).next_multiple_of(4);
        let args = Linear {
            x,
            weight: w.view(),
            cols: w.cols(),
            bias,
        };
        let grid = Grid::new(out, w.rows(), TILE_ROWS, features);
        turn.for_each(grid, |rect, scratch| (kernels.linear)(&args, rect, scratch))
    }
}
