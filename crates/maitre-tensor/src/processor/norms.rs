//! Normalisation of what a layer adds, of parts of rows, and by mean and variance.

use super::rows::each_row;
use super::{Processor, floats, floats_mut, rows_per_tile};
use crate::kernels::Affine;
use crate::operators::Norms;
use crate::portable::bound::bound;
use crate::tiles::RowBlocks;
use crate::{AddNormed, Buffer, LayerNorm, NormColumns, TensorError};

impl Norms for Processor {
    fn add_normed(&self, args: AddNormed<'_>) -> Result<(), TensorError> {
        let AddNormed { eps, rows, .. } = args;
        let (after, dim) = (args.after.f32s()?, args.after.len());
        let before = args.before.map(Buffer::f32s).transpose()?;
        let delta = floats(args.delta, rows * dim)?;
        let residual = floats_mut(args.residual, rows * dim)?;
        let (kernels, shape) = (self.kernels, args.out.shape());
        let block = rows_per_tile(dim);
        let blocks = (
            RowBlocks::new(residual, dim, block),
            args.out.blocks(rows, block),
        );
        self.for_each_tile("add_normed", blocks, |(sums, out), scratch| {
            let normed = scratch.floats(dim);
            let deltas = delta[sums.first * dim..].chunks_exact(dim);
            let rows = sums.data.chunks_exact_mut(dim).zip(deltas);
            each_row(&shape, out, rows, |(sum, delta), words, groups| {
                (kernels.rms_norm)(delta, after, eps, normed);
                (kernels.add)(sum, normed);
                match before {
                    None => (kernels.encode)(sum, &shape, words, groups),
                    Some(before) => {
                        (kernels.rms_norm)(sum, before, eps, normed);
                        (kernels.encode)(normed, &shape, words, groups);
                    }
                }
            });
        })
    }

    fn rms_norm_columns(
        &self,
        x: &mut Buffer,
        columns: NormColumns<'_>,
        rows: usize,
    ) -> Result<(), TensorError> {
        let NormColumns {
            width, first, eps, ..
        } = columns;
        let (weight, dim) = (columns.weight.f32s()?, columns.weight.len());
        let (x, kernels) = (floats_mut(x, rows * width)?, self.kernels);
        let blocks = RowBlocks::new(x, width, rows_per_tile(width));
        self.for_each_tile("rms_norm_columns", blocks, |block, scratch| {
            let normed = scratch.floats(dim);
            for row in block.data.chunks_exact_mut(width) {
                let part = &mut row[first..first + dim];
                (kernels.rms_norm)(part, weight, eps, normed);
                part.copy_from_slice(normed);
            }
        })
    }

    fn layer_norm(&self, args: LayerNorm<'_>) -> Result<(), TensorError> {
        let LayerNorm { eps, rows, .. } = args;
        let (weight, dim) = (args.weight.f32s()?, args.weight.len());
        let bias = args.bias.map(Buffer::f32s).transpose()?;
        let delta = match args.delta {
            Some(delta) => Some(floats(delta, rows * dim)?),
            None => None,
        };
        let residual = floats_mut(args.residual, rows * dim)?;
        let (kernels, shape) = (self.kernels, args.out.shape());
        let block = rows_per_tile(dim);
        let blocks = (
            RowBlocks::new(residual, dim, block),
            args.out.blocks(rows, block),
        );
        self.for_each_tile("layer_norm", blocks, |(sums, out), scratch| {
            let normed = scratch.floats(dim);
            let rows = sums.data.chunks_exact_mut(dim).zip(sums.first..);
            each_row(&shape, out, rows, |(sum, row), words, groups| {
                if let Some(delta) = delta {
                    (kernels.add)(sum, &delta[row * dim..][..dim]);
                }
                (kernels.layer_norm)(sum, Affine { weight, bias }, eps, normed);
                (kernels.encode)(normed, &shape, words, groups);
            });
        })
    }

    fn add(&self, sum: &mut Buffer, delta: &Buffer, len: usize) -> Result<(), TensorError> {
        let (delta, kernels) = (floats(delta, len)?, self.kernels);
        let blocks = RowBlocks::new(floats_mut(sum, len)?, 1, rows_per_tile(1));
        self.for_each_tile("add", blocks, |block, _| {
            let delta = &delta[block.first..][..block.data.len()];
            (kernels.add)(block.data, delta);
        })
    }

    fn bound(&self, x: &mut Buffer, limit: f32, len: usize) -> Result<(), TensorError> {
        let blocks = RowBlocks::new(floats_mut(x, len)?, 1, rows_per_tile(1));
        self.for_each_tile("bound", blocks, |block, _| bound(block.data, limit))
    }

    fn scale(&self, x: &mut Buffer, factor: f32, len: usize) -> Result<(), TensorError> {
        let blocks = RowBlocks::new(floats_mut(x, len)?, 1, rows_per_tile(1));
        self.for_each_tile("scale", blocks, |block, _| {
            block.data.iter_mut().for_each(|number| *number *= factor);
        })
    }
}
