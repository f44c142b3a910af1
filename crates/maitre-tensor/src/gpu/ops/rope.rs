//! Rotation of queries and keys, and the write into the paged cache.

use super::{Device, at, bytes, bytes_mut, maybe};
use crate::gpu::{Arg, Grid};
use crate::operators::Rotation;
use crate::{KvFormat, RopeStore, TensorError};

/// Heads of a row that a block of threads takes, a warp each.
const HEADS_PER_BLOCK: usize = 8;

impl Rotation for Device {
    fn rope_and_store(&self, args: RopeStore<'_>) -> Result<(), TensorError> {
        let (rows, dim) = (args.positions.len(), args.head_dim);
        let all_heads = args.heads + 2 * args.kv_heads;
        let [qkv, cos, sin] = [bytes(args.qkv)?, bytes(args.cos)?, bytes(args.sin)?];
        let (q_norm, k_norm) = (maybe(args.q_norm)?, maybe(args.k_norm)?);
        let q_factors = maybe(args.q_factors)?;
        let q_out = bytes_mut(args.q_out)?;
        let kernel = match args.cache.format() {
            KvFormat::F32 => "rope_store_f32",
            KvFormat::Bf16 => "rope_store_bf16",
            KvFormat::Int8 => "rope_store_int8",
        };
        let cache = args.cache.memory_mut().checked_mut()?;

        let mut turn = self.turn();
        let [positions, slots] = [turn.list(args.positions)?, turn.list(args.slots)?];
        let grid = Grid {
            blocks: [rows, all_heads.div_ceil(HEADS_PER_BLOCK), 1],
            threads: HEADS_PER_BLOCK * 32,
            shared_bytes: size_of::<u32>(),
        };
        let args = [
            at(qkv),
            q_norm,
            k_norm,
            Arg::F32(args.eps),
            at(cos),
            at(sin),
            q_factors,
            turn.list_arg(positions),
            turn.list_arg(slots),
            Arg::U32(args.heads),
            Arg::U32(args.kv_heads),
            Arg::U32(dim),
            Arg::U32(args.rotary_dim),
            at(q_out),
            at(cache),
        ];
        turn.queue().launch_early(kernel, grid, &args)
    }
}
