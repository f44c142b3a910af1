//! The operators whose output rows are made from single input rows.

use super::{Device, Operands, at};
use crate::gpu::{Arg, Grid};
use crate::{Buffer, InputFormat, LinearInput, TensorError};

/// Threads per row of a normalisation: a row of 4,096 numbers is 16 per thread.
const NORM_THREADS: usize = 256;

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
        self.norm(Operands("rms_norm"), (x, None), (weight, eps), out, rows)
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
        let operands = Operands("add_rms_norm");
        self.norm(operands, (residual, Some(delta)), (weight, eps), out, rows)
    }

    fn norm(
        &self,
        operands: Operands,
        (x, delta): (&Buffer, Option<&Buffer>),
        (weight, eps): (&Buffer, f32),
        out: &mut LinearInput,
        rows: usize,
    ) -> Result<(), TensorError> {
        let dim = weight.len();
        let weight = operands.vector("weight", weight, dim)?;
        let x = operands.matrix("x", x, rows, dim)?;
        let delta = delta.map(|delta| operands.matrix("delta", delta, rows, dim));
        let delta = delta.transpose()?;
        let (kernel, stride) = match out.format() {
            InputFormat::F32 => ("rms_norm_f32", dim),
            _ => ("rms_norm_bf16", out.shape().words * 2),
        };
        let out = operands.input_mut("out", out, dim, rows)?;
        let grid = Grid {
            shared_bytes: NORM_THREADS / 32 * size_of::<f32>(),
            ..Grid::of(rows, NORM_THREADS)
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
        self.turn().queue().launch(kernel, grid, &args)
    }
}

impl Device {
    /// [`Backend::gather_rows`](crate::Backend::gather_rows).
    pub(crate) fn gather_rows(
        &self,
        _x: &Buffer,
        _dim: usize,
        _rows: &[u32],
        _out: &mut Buffer,
    ) -> Result<(), TensorError> {
        Err(super::missing("gather_rows"))
    }

    /// [`Backend::encode`](crate::Backend::encode).
    pub(crate) fn encode(
        &self,
        _x: &Buffer,
        _out: &mut LinearInput,
        _rows: usize,
    ) -> Result<(), TensorError> {
        Err(super::missing("encode"))
    }
}
