//! Rotation of queries and keys, and the write into the paged cache.

use super::check::{Check, describe};
use super::{Backend, rows_per_tile};
use crate::element::Element;
use crate::kernels::Kernels;
use crate::team::{Scratch, Turn};
use crate::tiles::{RowBlocks, SlotShare, SlotShares};
use crate::{DType, LayerCache, NO_SLOT, RopeStore, TensorError};

use half::{bf16, f16};

/// Shares per thread into which the cache is dealt, so that a slow member delays little.
const SHARES_PER_THREAD: usize = 4;

impl Backend {
    /// Splits fused projections into heads, normalises query and key heads if asked, rotates them
    /// by their positions (half-split layout), writes the queries to `q_out` and each token's keys
    /// and values to its cache slot, rounded to the cache's format.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`]; positions must be below the rows of `cos` and `sin`,
    /// slots below those of the cache or [`NO_SLOT`].
    pub fn rope_and_store(&self, args: RopeStore<'_>) -> Result<(), TensorError> {
        let check = Check("rope_and_store");
        let heads = Heads::checked(check, self.kernels(), &args)?;
        check_slots(check, &args)?;
        let (rows, dim) = (args.positions.len(), args.head_dim);
        let q_width = args.heads * dim;
        let q_out = check.matrix_mut("q_out", args.q_out, rows, q_width)?;
        let mut turn = self.turn("rope_and_store");

        let blocks = RowBlocks::new(q_out, q_width, rows_per_tile(q_width));
        turn.for_each(blocks, |block, _| {
            for (i, out) in block.data.chunks_exact_mut(q_width).enumerate() {
                for (head, out) in out.chunks_exact_mut(dim).enumerate() {
                    heads.rotated(block.first + i, head, heads.q_norm, out);
                }
            }
        })?;

        let work = rows * 2 * heads.kv_heads * dim;
        let most = self.threads() * SHARES_PER_THREAD;
        let shares = work.div_ceil(super::ELEMENTS_PER_TILE).clamp(1, most);
        let LayerCache { k, v } = args.cache;
        match k.dtype() {
            DType::F32 => heads.store::<f32>(&mut turn, args.slots, (k, v), shares),
            DType::Bf16 => heads.store::<bf16>(&mut turn, args.slots, (k, v), shares),
            DType::F16 => heads.store::<f16>(&mut turn, args.slots, (k, v), shares),
        }
    }
}

fn check_slots(check: Check, args: &RopeStore<'_>) -> Result<(), TensorError> {
    let LayerCache { k, v } = &*args.cache;
    let width = args.kv_heads * args.head_dim;
    let alike = k.dtype() == v.dtype() && k.len() == v.len();
    check.rule(
        alike,
        "cache.v",
        "as large as `cache.k` and of its format",
        describe(v),
    )?;
    let whole = k.len().is_multiple_of(width);
    check.rule(
        whole,
        "cache.k",
        format_args!("whole slots of {width} elements"),
        describe(k),
    )?;
    let rows = args.positions.len();
    let expected = format_args!("as many as `positions` ({rows})");
    check.rule(
        args.slots.len() == rows,
        "slots",
        expected,
        args.slots.len(),
    )?;
    let limit = k.len() / width;
    match args
        .slots
        .iter()
        .position(|&slot| slot != NO_SLOT && slot as usize >= limit)
    {
        None => Ok(()),
        Some(at) => Err(TensorError::Index {
            operator: check.0,
            argument: "slots",
            at,
            value: args.slots[at],
            limit,
        }),
    }
}

/// The heads of the fused projections, and what is done to them.
struct Heads<'a> {
    kernels: &'static Kernels,
    qkv: &'a [f32],
    /// Numbers per row of `qkv`.
    width: usize,
    q_norm: Option<&'a [f32]>,
    k_norm: Option<&'a [f32]>,
    eps: f32,
    cos: &'a [f32],
    sin: &'a [f32],
    positions: &'a [u32],
    heads: usize,
    kv_heads: usize,
    dim: usize,
}

impl<'a> Heads<'a> {
    fn checked(
        check: Check,
        kernels: &'static Kernels,
        args: &RopeStore<'a>,
    ) -> Result<Self, TensorError> {
        let dim = args.head_dim;
        check.rule(
            dim > 0 && dim.is_multiple_of(2),
            "head_dim",
            "even and above 0",
            dim,
        )?;
        check.rule(args.heads > 0, "heads", "above 0", args.heads)?;
        check.rule(args.kv_heads > 0, "kv_heads", "above 0", args.kv_heads)?;
        let (rows, half) = (args.positions.len(), dim / 2);
        let width = (args.heads + 2 * args.kv_heads) * dim;
        let norm = |argument, norm: Option<&'a crate::Buffer>| {
            norm.map(|norm| check.vector(argument, norm, dim))
                .transpose()
        };
        let max_positions = args.cos.len() / half;
        check.indices("positions", args.positions, max_positions)?;
        Ok(Self {
            kernels,
            qkv: check.matrix("qkv", args.qkv, rows, width)?,
            width,
            q_norm: norm("q_norm", args.q_norm)?,
            k_norm: norm("k_norm", args.k_norm)?,
            eps: args.eps,
            cos: check.matrix("cos", args.cos, max_positions, half)?,
            sin: check.matrix("sin", args.sin, max_positions, half)?,
            positions: args.positions,
            heads: args.heads,
            kv_heads: args.kv_heads,
            dim,
        })
    }

    /// Head `head` of a row, counting queries, keys and values through.
    fn head(&self, row: usize, head: usize) -> &'a [f32] {
        &self.qkv[row * self.width + head * self.dim..][..self.dim]
    }

    /// Writes a normalised and rotated head.
    fn rotated(&self, row: usize, head: usize, norm: Option<&[f32]>, out: &mut [f32]) {
        let input = self.head(row, head);
        match norm {
            Some(weight) => (self.kernels.rms_norm)(input, weight, self.eps, out),
            None => out.copy_from_slice(input),
        }
        let angles = self.positions[row] as usize * self.dim / 2;
        let half = self.dim / 2;
        let (cos, sin) = (&self.cos[angles..][..half], &self.sin[angles..][..half]);
        (self.kernels.rotate)(out, cos, sin);
    }

    fn store<T: Element>(
        &self,
        turn: &mut Turn<'_>,
        slots: &[u32],
        (k, v): (&mut crate::Buffer, &mut crate::Buffer),
        shares: usize,
    ) -> Result<(), TensorError> {
        let width = self.kv_heads * self.dim;
        let k = SlotShares::new(k.elements_mut::<T>()?, width, shares);
        let v = SlotShares::new(v.elements_mut::<T>()?, width, shares);
        turn.for_each((k, v), |share, scratch| {
            self.store_share(slots, share, scratch)
        })
    }

    /// Writes those tokens whose slots belong to the share, in order.
    fn store_share<T: Element>(
        &self,
        slots: &[u32],
        (mut k, mut v): (SlotShare<'_, T>, SlotShare<'_, T>),
        scratch: &mut Scratch,
    ) {
        let rotated = scratch.floats(self.dim);
        for (row, &slot) in slots.iter().enumerate() {
            if slot == NO_SLOT || !k.owns(slot as usize) {
                continue;
            }
            let keys = k.slot_mut(slot as usize).chunks_exact_mut(self.dim);
            let values = v.slot_mut(slot as usize).chunks_exact_mut(self.dim);
            for (kv_head, (key, value)) in keys.zip(values).enumerate() {
                let head = self.heads + kv_head;
                self.rotated(row, head, self.k_norm, rotated);
                round_into(rotated, key);
                round_into(self.head(row, head + self.kv_heads), value);
            }
        }
    }
}

fn round_into<T: Element>(values: &[f32], out: &mut [T]) {
    for (out, value) in out.iter_mut().zip(values) {
        *out = T::round(*value);
    }
}
