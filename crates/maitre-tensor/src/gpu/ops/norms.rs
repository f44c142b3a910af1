//! Normalisation of what a layer adds, of parts of rows, and by mean and variance.

use super::{Device, at, bytes, bytes_mut, maybe};
use crate::gpu::{Arg, Grid};
use crate::operators::Norms;
use crate::{AddNormed, Buffer, InputFormat, LayerNorm, NormColumns, TensorError};

/// Threads of a block that scales or adds, a number each.
const SCALE_THREADS: usize = 256;

impl Norms for Device {
    fn add_normed(&self, args: AddNormed<'_>) -> Result<(), TensorError> {
        let (dim, rows) = (args.after.len(), args.rows);
        let (kernel, stride) = match args.out.format() {
            InputFormat::F32 => ("add_normed_f32", dim),
            _ => ("add_normed_bf16", args.out.shape().words * 2),
        };
        let out = args.out.memory_mut().checked_mut()?;
        let args = [
            at(bytes(args.residual)?),
            at(bytes(args.delta)?),
            at(bytes(args.after)?),
            maybe(args.before)?,
            Arg::F32(args.eps),
            at(out),
            Arg::U32(dim),
            Arg::U32(stride),
        ];
        let grid = norm_grid(rows, dim);
        self.turn().queue().launch_early(kernel, grid, &args)
    }

    fn rms_norm_columns(
        &self,
        x: &mut Buffer,
        columns: NormColumns<'_>,
        rows: usize,
    ) -> Result<(), TensorError> {
        let dim = columns.weight.len();
        let args = [
            at(bytes_mut(x)?),
            at(bytes(columns.weight)?),
            Arg::F32(columns.eps),
            Arg::U32(dim),
            Arg::U32(columns.width),
            Arg::U32(columns.first),
        ];
        let grid = norm_grid(rows, dim);
        self.turn()
            .queue()
            .launch_early("rms_norm_columns", grid, &args)
    }

    fn layer_norm(&self, args: LayerNorm<'_>) -> Result<(), TensorError> {
        let (dim, rows) = (args.weight.len(), args.rows);
        let (kernel, stride) = match args.out.format() {
            InputFormat::F32 => ("layer_norm_f32", dim),
            _ => ("layer_norm_bf16", args.out.shape().words * 2),
        };
        let out = args.out.memory_mut().checked_mut()?;
        let args = [
            at(bytes(args.residual)?),
            maybe(args.delta)?,
            at(bytes(args.weight)?),
            maybe(args.bias)?,
            Arg::F32(args.eps),
            at(out),
            Arg::U32(dim),
            Arg::U32(stride),
        ];
        let grid = norm_grid(rows, dim);
        self.turn().queue().launch_early(kernel, grid, &args)
    }

    fn add(&self, sum: &mut Buffer, delta: &Buffer, len: usize) -> Result<(), TensorError> {
        let args = [at(bytes_mut(sum)?), at(bytes(delta)?), Arg::U32(len)];
        let grid = Grid::of(len.div_ceil(SCALE_THREADS), SCALE_THREADS);
        self.turn().queue().launch_early("add_numbers", grid, &args)
    }

    fn bound(&self, _: &mut Buffer, limit: f32, _: usize) -> Result<(), TensorError> {
        Err(no_bound("bound", limit))
    }

    fn scale(&self, x: &mut Buffer, factor: f32, len: usize) -> Result<(), TensorError> {
        let args = [at(bytes_mut(x)?), Arg::F32(factor), Arg::U32(len)];
        let grid = Grid::of(len.div_ceil(SCALE_THREADS), SCALE_THREADS);
        self.turn()
            .queue()
            .launch_early("scale_numbers", grid, &args)
    }
}

/// The error for bounds of scores and logits.
pub(super) fn no_bound(operator: &'static str, limit: f32) -> TensorError {
    TensorError::NotOnGpu {
        operator,
        found: format!("numbers bounded by {limit}"),
        instead: "the processor".to_owned(),
    }
}

/// A block per row, with a word of shared memory per warp.
pub(super) fn norm_grid(rows: usize, dim: usize) -> Grid {
    let threads = norm_threads(dim);
    Grid {
        shared_bytes: threads / 32 * size_of::<f32>(),
        ..Grid::of(rows, threads)
    }
}

/// Threads per row of a normalisation, eight numbers each as far as that goes. Their number orders the sum, so it
/// depends on nothing but the length of the row.
fn norm_threads(dim: usize) -> usize {
    dim.div_ceil(8).next_multiple_of(32).min(1024)
}
