//! Rotation of queries and keys, and the write into the paged cache.

use super::{Device, at};
use crate::backend::check::Check;
use crate::backend::rope::{check_heads, check_slots};
use crate::gpu::{Arg, Grid};
use crate::{KvFormat, RopeStore, TensorError};

/// Heads of a row that a block of threads takes, a warp each.
const HEADS_PER_BLOCK: usize = 8;

impl Device {
    /// [`Backend::rope_and_store`](crate::Backend::rope_and_store).
    pub(crate) fn rope_and_store(&self, args: RopeStore<'_>) -> Result<(), TensorError> {
        const OPERATOR: &str = "rope_and_store";
        let (operands, check) = (self.operands(OPERATOR), Check(OPERATOR));
        let max_positions = check_heads(check, &args)?;
        let (rows, dim) = (args.positions.len(), args.head_dim);
        let all_heads = args.heads + 2 * args.kv_heads;
        let qkv = operands.matrix("qkv", args.qkv, rows, all_heads * dim)?;
        let norm = |argument, norm: Option<_>| {
            let norm = norm.map(|norm| operands.vector(argument, norm, dim));
            norm.transpose().map(|norm| norm.map_or(Arg::Nothing, at))
        };
        let q_norm = norm("q_norm", args.q_norm)?;
        let k_norm = norm("k_norm", args.k_norm)?;
        let cos = operands.matrix("cos", args.cos, max_positions, dim / 2)?;
        let sin = operands.matrix("sin", args.sin, max_positions, dim / 2)?;
        check_slots(check, &args)?;
        let q_out = operands.matrix_mut("q_out", args.q_out, rows, args.heads * dim)?;
        let kernel = match args.cache.format() {
            KvFormat::F32 => "rope_store_f32",
            KvFormat::Bf16 => "rope_store_bf16",
            KvFormat::Int8 => "rope_store_int8",
        };
        let cache = operands.bytes_mut("cache", args.cache.memory_mut())?;

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
            turn.list_arg(positions),
            turn.list_arg(slots),
            Arg::U32(args.heads),
            Arg::U32(args.kv_heads),
            Arg::U32(dim),
            at(q_out),
            at(cache),
        ];
        turn.queue().launch_early(kernel, grid, &args)
    }
}
