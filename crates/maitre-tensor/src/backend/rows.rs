//! The operators whose output rows are made from single input rows: embedding, normalisation,
//! activation, gathering.

use super::check::Check;
use super::{Backend, rows_per_tile};
use crate::input::{Group, InputShape, LinearInput};
use crate::tiles::{RowBlocks, Rows};
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
        if let Some(device) = self.device() {
            self.inner.heartbeat.beat();
            return device.embed(table, tokens, out);
        }
        let check = Check("embed");
        let out = check.matrix_mut("out", out, tokens.len(), table.cols())?;
        check.indices("tokens", tokens, table.rows())?;
        table.memory().require_host("embed", "table")?;
        let kernels = self.kernels();
        let table = table.view();
        let dim = table.layout.cols;
        let blocks = RowBlocks::new(out, dim, rows_per_tile(dim));
        self.for_each_tile("embed", blocks, |block, _| {
            for (out, token) in block.data.chunks_exact_mut(dim).zip(&tokens[block.first..]) {
                (kernels.embed)(table, *token as usize, out);
            }
        })
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
        if let Some(device) = self.device() {
            self.inner.heartbeat.beat();
            return device.gather_rows(x, dim, rows, out);
        }
        let check = Check("gather_rows");
        check.rule(dim > 0, "dim", "above 0", dim)?;
        let out = check.matrix_mut("out", out, rows.len(), dim)?;
        let x = check.matrix("x", x, x.len() / dim, dim)?;
        check.indices("rows", rows, x.len() / dim)?;
        let blocks = RowBlocks::new(out, dim, rows_per_tile(dim));
        self.for_each_tile("gather_rows", blocks, |block, _| {
            for (out, row) in block.data.chunks_exact_mut(dim).zip(&rows[block.first..]) {
                out.copy_from_slice(&x[*row as usize * dim..][..dim]);
            }
        })
    }

    /// `out = x`, in the form of `out`. `x` is `[rows, out.cols()]`.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`].
    pub fn encode(
        &self,
        x: &Buffer,
        out: &mut LinearInput,
        rows: usize,
    ) -> Result<(), TensorError> {
        if let Some(device) = self.device() {
            self.inner.heartbeat.beat();
            return device.encode(x, out, rows);
        }
        let check = Check("encode");
        let cols = out.cols();
        check.rule(cols > 0, "out", "at least 1 column wide", "empty")?;
        let x = check.matrix("x", x, rows, cols)?;
        check.any_input("out", out, cols, rows)?;
        let (kernels, shape) = (self.kernels(), out.shape());
        let blocks = out.blocks(rows, rows_per_tile(cols));
        self.for_each_tile("encode", blocks, |block, _| {
            let rows = x[block.0.first * cols..].chunks_exact(cols);
            each_row(&shape, block, rows, |values, words, groups| {
                (kernels.encode)(values, &shape, words, groups);
            });
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
        out: &mut LinearInput,
        rows: usize,
    ) -> Result<(), TensorError> {
        if let Some(device) = self.device() {
            self.inner.heartbeat.beat();
            return device.rms_norm(x, weight, eps, out, rows);
        }
        let check = Check("rms_norm");
        let dim = weight.len();
        check.rule(dim > 0, "weight", "at least 1 element", "empty")?;
        let weight = check.vector("weight", weight, dim)?;
        let x = check.matrix("x", x, rows, dim)?;
        check.any_input("out", out, dim, rows)?;
        let (kernels, shape) = (self.kernels(), out.shape());
        let blocks = out.blocks(rows, rows_per_tile(dim));
        self.for_each_tile("rms_norm", blocks, |block, scratch| {
            let normed = scratch.floats(dim);
            let rows = x[block.0.first * dim..].chunks_exact(dim);
            each_row(&shape, block, rows, |row, words, groups| {
                (kernels.rms_norm)(row, weight, eps, normed);
                (kernels.encode)(normed, &shape, words, groups);
            });
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
        out: &mut LinearInput,
        rows: usize,
    ) -> Result<(), TensorError> {
        if let Some(device) = self.device() {
            self.inner.heartbeat.beat();
            return device.add_rms_norm(residual, delta, weight, eps, out, rows);
        }
        let check = Check("add_rms_norm");
        let dim = weight.len();
        check.rule(dim > 0, "weight", "at least 1 element", "empty")?;
        let weight = check.vector("weight", weight, dim)?;
        let delta = check.matrix("delta", delta, rows, dim)?;
        let residual = check.matrix_mut("residual", residual, rows, dim)?;
        check.any_input("out", out, dim, rows)?;
        let (kernels, shape) = (self.kernels(), out.shape());
        let block = rows_per_tile(dim);
        let blocks = (
            RowBlocks::new(residual, dim, block),
            out.blocks(rows, block),
        );
        self.for_each_tile("add_rms_norm", blocks, |(sums, out), scratch| {
            let normed = scratch.floats(dim);
            let deltas = delta[sums.first * dim..].chunks_exact(dim);
            let rows = sums.data.chunks_exact_mut(dim).zip(deltas);
            each_row(&shape, out, rows, |(sum, delta), words, groups| {
                (kernels.add)(sum, delta);
                (kernels.rms_norm)(sum, weight, eps, normed);
                (kernels.encode)(normed, &shape, words, groups);
            });
        })
    }
}

/// Calls `write` with each row of a block and what it is made from.
fn each_row<T>(
    shape: &InputShape,
    (words, groups): (Rows<'_, u32>, Rows<'_, Group>),
    rows: impl Iterator<Item = T>,
    mut write: impl FnMut(T, &mut [u32], &mut [Group]),
) {
    let mut groups = groups.data;
    for (row, words) in rows.zip(words.data.chunks_exact_mut(shape.words)) {
        let (head, rest) = groups.split_at_mut(shape.groups);
        write(row, words, head);
        groups = rest;
    }
}
