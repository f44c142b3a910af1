//! The operators whose output rows are made from single input rows.

use super::linear::gate_code;
use super::norms::norm_grid;
use super::{Device, at, bytes, bytes_mut, maybe};
use crate::gpu::{Arg, Grid};
use crate::operators::RowOperators;
use crate::{Activation, Buffer, InputFormat, LinearInput, PackedWeight, TensorError};

/// Threads of a block that only copies, and the numbers of a row it copies.
const COPY_THREADS: usize = 256;
const COPIED: usize = 4 * COPY_THREADS;

impl RowOperators for Device {
    fn embed(
        &self,
        table: &PackedWeight,
        tokens: &[u32],
        out: &mut Buffer,
    ) -> Result<(), TensorError> {
        self.embed_rows(table, tokens, out)
    }

    fn gather_rows(
        &self,
        x: &Buffer,
        dim: usize,
        rows: &[u32],
        out: &mut Buffer,
    ) -> Result<(), TensorError> {
        let (x, out) = (bytes(x)?, bytes_mut(out)?);
        let mut turn = self.turn();
        let list = turn.list(rows)?;
        let args = [at(x), turn.list_arg(list), at(out), Arg::U32(dim)];
        let grid = copy_grid(rows.len(), dim);
        turn.queue().launch_early("gather_rows", grid, &args)
    }

    fn encode(&self, x: &Buffer, out: &mut LinearInput, rows: usize) -> Result<(), TensorError> {
        let (x, cols) = (bytes(x)?, out.cols());
        let (kernel, stride) = match out.format() {
            InputFormat::F32 => ("encode_f32", cols),
            _ => ("encode_bf16", out.shape().words * 2),
        };
        let out = out.memory_mut().checked_mut()?;
        let args = [at(x), at(out), Arg::U32(cols), Arg::U32(stride)];
        let grid = copy_grid(rows, cols);
        self.turn().queue().launch_early(kernel, grid, &args)
    }

    fn activate(
        &self,
        x: &Buffer,
        activation: Activation,
        out: &mut LinearInput,
        rows: usize,
    ) -> Result<(), TensorError> {
        let (x, cols) = (bytes(x)?, out.cols());
        let (kernel, stride) = match out.format() {
            InputFormat::F32 => ("activate_f32", cols),
            _ => ("activate_bf16", out.shape().words * 2),
        };
        let out = out.memory_mut().checked_mut()?;
        let args = [
            at(x),
            at(out),
            Arg::U32(cols),
            Arg::U32(stride),
            Arg::U32(gate_code(Some(activation))),
        ];
        let grid = Grid {
            blocks: [rows, cols.div_ceil(COPY_THREADS), 1],
            ..Grid::of(rows, COPY_THREADS)
        };
        self.turn().queue().launch_early(kernel, grid, &args)
    }

    fn rms_norm(
        &self,
        x: &Buffer,
        weight: &Buffer,
        eps: f32,
        out: &mut LinearInput,
        rows: usize,
    ) -> Result<(), TensorError> {
        self.norm((x, None), (weight, eps), out, rows)
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
        self.norm((residual, Some(delta)), (weight, eps), out, rows)
    }
}

impl Device {
    fn norm(
        &self,
        (x, delta): (&Buffer, Option<&Buffer>),
        (weight, eps): (&Buffer, f32),
        out: &mut LinearInput,
        rows: usize,
    ) -> Result<(), TensorError> {
        let dim = weight.len();
        let (kernel, stride) = match out.format() {
            InputFormat::F32 => ("rms_norm_f32", dim),
            _ => ("rms_norm_bf16", out.shape().words * 2),
        };
        let out = out.memory_mut().checked_mut()?;
        let args = [
            at(bytes(x)?),
            maybe(delta)?,
            at(bytes(weight)?),
            Arg::F32(eps),
            at(out),
            Arg::U32(dim),
            Arg::U32(stride),
        ];
        self.turn()
            .queue()
            .launch_early(kernel, norm_grid(rows, dim), &args)
    }
}

/// Blocks that copy rows of `cols` numbers.
fn copy_grid(rows: usize, cols: usize) -> Grid {
    Grid {
        blocks: [rows, cols.div_ceil(COPIED), 1],
        ..Grid::of(rows, COPY_THREADS)
    }
}
