//! The operators whose output rows are made from single input rows.

use super::{Device, Operands, at};
use crate::backend::check::Check;
use crate::gpu::{Arg, Grid};
use crate::{Buffer, InputFormat, LinearInput, TensorError};

/// Threads of a block that only copies, and the numbers of a row it copies.
const COPY_THREADS: usize = 256;
const COPIED: usize = 4 * COPY_THREADS;

impl Device {
    /// [`Backend::rms_norm`](crate::Backend::rms_norm).
    pub(crate) fn rms_norm(
        &self,
        x: &Buffer,
        weight: &Buffer,
        eps: f32,
        out: &mut LinearInput,
        rows: usize,
    ) -> Result<(), TensorError> {
        self.norm(
            self.operands("rms_norm"),
            (x, None),
            (weight, eps),
            out,
            rows,
        )
    }

    /// [`Backend::add_rms_norm`](crate::Backend::add_rms_norm).
    pub(crate) fn add_rms_norm(
        &self,
        residual: &mut Buffer,
        delta: &Buffer,
        weight: &Buffer,
        eps: f32,
        out: &mut LinearInput,
        rows: usize,
    ) -> Result<(), TensorError> {
        let operands = self.operands("add_rms_norm");
        self.norm(operands, (residual, Some(delta)), (weight, eps), out, rows)
    }

    fn norm(
        &self,
        operands: Operands<'_>,
        (x, delta): (&Buffer, Option<&Buffer>),
        (weight, eps): (&Buffer, f32),
        out: &mut LinearInput,
        rows: usize,
    ) -> Result<(), TensorError> {
        let dim = weight.len();
        Check(operands.operator).rule(dim > 0, "weight", "at least 1 element", "empty")?;
        let weight = operands.vector("weight", weight, dim)?;
        let x = operands.matrix("x", x, rows, dim)?;
        let delta = delta.map(|delta| operands.matrix("delta", delta, rows, dim));
        let delta = delta.transpose()?;
        let (kernel, stride) = match out.format() {
            InputFormat::F32 => ("rms_norm_f32", dim),
            _ => ("rms_norm_bf16", out.shape().words * 2),
        };
        let out = operands.input_mut("out", out, dim, rows)?;
        let threads = norm_threads(dim);
        let grid = Grid {
            shared_bytes: threads / 32 * size_of::<f32>(),
            ..Grid::of(rows, threads)
        };
        let args = [
            at(x),
            delta.map_or(Arg::Nothing, at),
            at(weight),
            Arg::F32(eps),
            at(out),
            Arg::U32(dim),
            Arg::U32(stride),
        ];
        self.turn().queue().launch_early(kernel, grid, &args)
    }

    /// [`Backend::gather_rows`](crate::Backend::gather_rows).
    pub(crate) fn gather_rows(
        &self,
        x: &Buffer,
        dim: usize,
        rows: &[u32],
        out: &mut Buffer,
    ) -> Result<(), TensorError> {
        let (operands, check) = (self.operands("gather_rows"), Check("gather_rows"));
        check.rule(dim > 0, "dim", "above 0", dim)?;
        let out = operands.matrix_mut("out", out, rows.len(), dim)?;
        let x_rows = x.len() / dim;
        let x = operands.matrix("x", x, x_rows, dim)?;
        check.indices("rows", rows, x_rows)?;
        let mut turn = self.turn();
        let list = turn.list(rows)?;
        let args = [at(x), turn.list_arg(list), at(out), Arg::U32(dim)];
        let grid = copy_grid(rows.len(), dim);
        turn.queue().launch_early("gather_rows", grid, &args)
    }

    /// [`Backend::encode`](crate::Backend::encode).
    pub(crate) fn encode(
        &self,
        x: &Buffer,
        out: &mut LinearInput,
        rows: usize,
    ) -> Result<(), TensorError> {
        let operands = self.operands("encode");
        let cols = out.cols();
        Check("encode").rule(cols > 0, "out", "at least 1 column wide", "empty")?;
        let x = operands.matrix("x", x, rows, cols)?;
        let (kernel, stride) = match out.format() {
            InputFormat::F32 => ("encode_f32", cols),
            _ => ("encode_bf16", out.shape().words * 2),
        };
        let out = operands.input_mut("out", out, cols, rows)?;
        let args = [at(x), at(out), Arg::U32(cols), Arg::U32(stride)];
        let grid = copy_grid(rows, cols);
        self.turn().queue().launch_early(kernel, grid, &args)
    }
}

/// Blocks that copy rows of `cols` numbers.
fn copy_grid(rows: usize, cols: usize) -> Grid {
    Grid {
        blocks: [rows, cols.div_ceil(COPIED), 1],
        ..Grid::of(rows, COPY_THREADS)
    }
}

/// Threads per row of a normalisation, eight numbers each as far as that goes. Their number orders the sum, so it
/// depends on nothing but the length of the row.
fn norm_threads(dim: usize) -> usize {
    dim.div_ceil(8).next_multiple_of(32).min(1024)
}
