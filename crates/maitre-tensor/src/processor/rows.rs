//! The operators whose output rows are made from single input rows: embedding, normalisation,
//! activation, gathering.

use super::{Processor, floats, floats_mut, rows_per_tile};
use crate::input::{Group, InputShape, LinearInput};
use crate::operators::RowOperators;
use crate::tiles::{RowBlocks, Rows};
use crate::{Activation, Buffer, PackedWeight, TensorError};

impl RowOperators for Processor {
    fn embed(
        &self,
        table: &PackedWeight,
        tokens: &[u32],
        out: &mut Buffer,
    ) -> Result<(), TensorError> {
        let out = floats_mut(out, tokens.len() * table.cols())?;
        let (kernels, dim) = (self.kernels, table.cols());
        let blocks = RowBlocks::new(out, dim, rows_per_tile(dim));
        self.for_each_tile("embed", blocks, |block, _| {
            for (out, token) in block.data.chunks_exact_mut(dim).zip(&tokens[block.first..]) {
                let token = *token as usize;
                for (first, piece) in table.pieces() {
                    if (first..first + piece.layout.rows).contains(&token) {
                        (kernels.embed)(piece, token - first, out);
                    }
                }
            }
        })
    }

    fn gather_rows(
        &self,
        x: &Buffer,
        dim: usize,
        rows: &[u32],
        out: &mut Buffer,
    ) -> Result<(), TensorError> {
        let (x, out) = (x.f32s()?, floats_mut(out, rows.len() * dim)?);
        let blocks = RowBlocks::new(out, dim, rows_per_tile(dim));
        self.for_each_tile("gather_rows", blocks, |block, _| {
            for (out, row) in block.data.chunks_exact_mut(dim).zip(&rows[block.first..]) {
                out.copy_from_slice(&x[*row as usize * dim..][..dim]);
            }
        })
    }

    fn encode(&self, x: &Buffer, out: &mut LinearInput, rows: usize) -> Result<(), TensorError> {
        let cols = out.cols();
        let x = floats(x, rows * cols)?;
        let (kernels, shape) = (self.kernels, out.shape());
        let blocks = out.blocks(rows, rows_per_tile(cols));
        self.for_each_tile("encode", blocks, |block, _| {
            let rows = x[block.0.first * cols..].chunks_exact(cols);
            each_row(&shape, block, rows, |values, words, groups| {
                (kernels.encode)(values, &shape, words, groups);
            });
        })
    }

    fn activate(
        &self,
        x: &Buffer,
        activation: Activation,
        out: &mut LinearInput,
        rows: usize,
    ) -> Result<(), TensorError> {
        let cols = out.cols();
        let x = floats(x, rows * cols)?;
        let (kernels, shape) = (self.kernels, out.shape());
        let blocks = out.blocks(rows, rows_per_tile(cols));
        self.for_each_tile("activate", blocks, |block, scratch| {
            let activated = scratch.floats(cols);
            let rows = x[block.0.first * cols..].chunks_exact(cols);
            each_row(&shape, block, rows, |row, words, groups| {
                (kernels.activate)(activation, row, activated);
                (kernels.encode)(activated, &shape, words, groups);
            });
        })
    }

    fn rms_norm(
        &self,
        x: &Buffer,
        weight: &Buffer,
        eps: f32,
        out: &mut LinearInput,
        rows: usize,
    ) -> Result<(), TensorError> {
        let (weight, dim) = (weight.f32s()?, weight.len());
        let x = floats(x, rows * dim)?;
        let (kernels, shape) = (self.kernels, out.shape());
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

    fn add_rms_norm(
        &self,
        residual: &mut Buffer,
        delta: &Buffer,
        weight: &Buffer,
        eps: f32,
        out: &mut LinearInput,
        rows: usize,
    ) -> Result<(), TensorError> {
        let (weight, dim) = (weight.f32s()?, weight.len());
        let delta = floats(delta, rows * dim)?;
        let residual = floats_mut(residual, rows * dim)?;
        let (kernels, shape) = (self.kernels, out.shape());
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
pub(super) fn each_row<T>(
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
