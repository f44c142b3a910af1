//! The embedding: rows of a matrix as the products read it, so that one copy of it serves both.

use super::{Device, at, bytes_mut};
use crate::gpu::weight::RowLayout;
use crate::gpu::{Arg, Grid};
use crate::{Buffer, PackedWeight, TensorError, WeightFormat};

/// Threads per token.
const THREADS: usize = 256;

impl Device {
    pub(super) fn embed_rows(
        &self,
        table: &PackedWeight,
        tokens: &[u32],
        out: &mut Buffer,
    ) -> Result<(), TensorError> {
        let dim = table.cols();
        let (out, bytes) = (bytes_mut(out)?, table.memory().checked()?);
        let place = RowLayout::of("embed", table.layout())?;
        let mut turn = self.turn();
        let list = turn.list(tokens)?;
        let (bytes, scales) = (at(bytes), Arg::At(bytes, place.scales_at()));
        let (tokens_arg, out, dim) = (turn.list_arg(list), at(out), Arg::U32(dim));
        let row_bytes = Arg::U32(place.row_bytes);
        let launch = |kernel, args: &[Arg<'_>]| {
            let grid = Grid::of(tokens.len(), THREADS);
            turn.queue().launch(kernel, grid, args)
        };
        match table.format() {
            WeightFormat::Int8 { .. } => {
                let args = [bytes, scales, tokens_arg, out, dim, row_bytes];
                launch("embed_int8", &args)
            }
            WeightFormat::Int4 { .. } => {
                let words = Arg::U32(place.scale_words);
                let shift = Arg::U32(place.group_shift());
                let args = [bytes, scales, tokens_arg, out, dim, row_bytes, words, shift];
                launch("embed_int4", &args)
            }
            WeightFormat::F32 => launch("embed_f32", &[bytes, tokens_arg, out, dim, row_bytes]),
            _ => launch("embed_bf16", &[bytes, tokens_arg, out, dim, row_bytes]),
        }
    }
}
