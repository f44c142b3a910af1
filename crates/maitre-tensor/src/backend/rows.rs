//! The operators whose output rows are made from single input rows: embedding, normalisation,
//! activation, gathering.

use super::check::Check;
use super::{Backend, rows_per_tile};
use crate::buffer::View;
use crate::tiles::RowBlocks;
use crate::{Buffer, PackedWeight, TensorError};

impl Backend {
    /// `out[i] = table[tokens[i]]`, widened to f32. `out` is `[tokens.len(), table.cols()]`.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`]; token ids must be below `table.rows()`.
    pub fn embed(
        &self,
        table: &PackedWeight,
        tokens: &[u32],
        out: &mut Buffer,
    ) -> Result<(), TensorError> {
        let check = Check("embed");
        let out = check.matrix_mut("out", out, tokens.len(), table.cols())?;
        check.indices("tokens", tokens, table.rows())?;
        self.copy_rows("embed", table.view(), table.cols(), tokens, out)
    }

    /// `out[i] = x[rows[i]]`. `x` holds rows of `dim` numbers, `out` is `[rows.len(), dim]`.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`].
    pub fn gather_rows(
        &self,
        x: &Buffer,
        dim: usize,
        rows: &[u32],
        out: &mut Buffer,
    ) -> Result<(), TensorError> {
        let check = Check("gather_rows");
        check.rule(dim > 0, "dim", "above 0", dim)?;
        let out = check.matrix_mut("out", out, rows.len(), dim)?;
        let x = check.matrix("x", x, x.len() / dim, dim)?;
        check.indices("rows", rows, x.len() / dim)?;
        self.copy_rows("gather_rows", View::F32(x), dim, rows, out)
    }

    fn copy_rows(
        &self,
        operator: &'static str,
        table: View<'_>,
        dim: usize,
        rows: &[u32],
        out: &mut [f32],
    ) -> Result<(), TensorError> {
        let kernels = self.kernels();
        let blocks = RowBlocks::new(out, dim, rows_per_tile(dim));
        self.turn(operator).for_each(blocks, |block, _| {
            for (out, row) in block.data.chunks_exact_mut(dim).zip(&rows[block.first..]) {
                (kernels.widen)(table, *row as usize * dim, out);
            }
        })
    }

    /// `out = x / sqrt(mean(x^2) + eps) * weight`, row by row. `x` and `out` are
    /// `[rows, weight.len()]`.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`].
    pub fn rms_norm(
        &self,
        x: &Buffer,
        weight: &Buffer,
        eps: f32,
        out: &mut Buffer,
        rows: usize,
    ) -> Result<(), TensorError> {
        let check = Check("rms_norm");
        let dim = weight.len();
        check.rule(dim > 0, "weight", "at least 1 element", "empty")?;
        let weight = check.vector("weight", weight, dim)?;
        let x = check.matrix("x", x, rows, dim)?;
        let out = check.matrix_mut("out", out, rows, dim)?;
        let kernels = self.kernels();
        let blocks = RowBlocks::new(out, dim, rows_per_tile(dim));
        self.turn("rms_norm").for_each(blocks, |block, _| {
            let rows = x[block.first * dim..].chunks_exact(dim);
            for (out, row) in block.data.chunks_exact_mut(dim).zip(rows) {
                (kernels.rms_norm)(row, weight, eps, out);
            }
        })
    }

    /// `residual += delta; out = rms_norm(residual)`, row by row. All are `[rows, weight.len()]`.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`].
    pub fn add_rms_norm(
        &self,
        residual: &mut Buffer,
        delta: &Buffer,
        weight: &Buffer,
        eps: f32,
        out: &mut Buffer,
        rows: usize,
    ) -> Result<(), TensorError> {
        let check = Check("add_rms_norm");
        let dim = weight.len();
        check.rule(dim > 0, "weight", "at least 1 element", "empty")?;
        let weight = check.vector("weight", weight, dim)?;
        let delta = check.matrix("delta", delta, rows, dim)?;
        let residual = check.matrix_mut("residual", residual, rows, dim)?;
        let out = check.matrix_mut("out", out, rows, dim)?;
        let kernels = self.kernels();
        let block = rows_per_tile(dim);
        let blocks = (
            RowBlocks::new(residual, dim, block),
            RowBlocks::new(out, dim, block),
        );
        self.turn("add_rms_norm")
            .for_each(blocks, |(sums, out), _| {
                let deltas = delta[sums.first * dim..].chunks_exact(dim);
                let rows = sums
                    .data
                    .chunks_exact_mut(dim)
                    .zip(out.data.chunks_exact_mut(dim));
                for ((sum, out), delta) in rows.zip(deltas) {
                    (kernels.add)(sum, delta);
                    (kernels.rms_norm)(sum, weight, eps, out);
                }
            })
    }

    /// `out = silu(gate) * up` with `silu(x) = x / (1 + e^-x)`. `gate_up` is `[rows, 2 * inter]`,
    /// each row the gate followed by the up projection; `out` is `[rows, inter]`.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`].
    pub fn silu_mul(
        &self,
        gate_up: &Buffer,
        inter: usize,
        out: &mut Buffer,
        rows: usize,
    ) -> Result<(), TensorError> {
        let check = Check("silu_mul");
        check.rule(inter > 0, "inter", "above 0", inter)?;
        let gate_up = check.matrix("gate_up", gate_up, rows, inter.saturating_mul(2))?;
        let out = check.matrix_mut("out", out, rows, inter)?;
        let kernels = self.kernels();
        let blocks = RowBlocks::new(out, inter, rows_per_tile(inter));
        self.turn("silu_mul").for_each(blocks, |block, _| {
            let rows = gate_up[block.first * 2 * inter..].chunks_exact(2 * inter);
            for (out, row) in block.data.chunks_exact_mut(inter).zip(rows) {
                let (gate, up) = row.split_at(inter);
                (kernels.silu_mul)(gate, up, out);
            }
        })
    }
}
