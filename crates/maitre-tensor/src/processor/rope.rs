//! Rotation of queries and keys, and the write into the paged cache.
//!
//! One pass over the team. A part of the work is one key head and a share of the rows:
//!
//! ```text
//! part (share, key head)   rotates the head's queries of a block of token rows
//!                          stores the head's keys and values of a share of the groups of slots
//! ```
//!
//! Slots are dealt out by group because neighbouring slots share words, and because rows that name
//! one slot must meet in one part, where the later wins.

use std::ops::Range;

use super::{Processor, floats, floats_mut};
use crate::cache::{CellShape, GROUP};
use crate::kernels::{Kernels, RopeHead};
use crate::operators::Rotation;
use crate::team::Scratch;
use crate::tiles::{CellShare, Cells, Grid};
use crate::{Buffer, NO_SLOT, RopeStore, TensorError};

/// Parts per thread into which the work is cut at most, so that a slow member delays little.
const PARTS_PER_THREAD: usize = 4;

impl Rotation for Processor {
    fn rope_and_store(&self, args: RopeStore<'_>) -> Result<(), TensorError> {
        let heads = Heads::of(self.kernels, &args)?;
        let (rows, dim, kv_heads) = (args.positions.len(), args.head_dim, args.kv_heads);
        let q_width = args.heads * dim;
        let q_out = floats_mut(args.q_out, rows * q_width)?;
        let mut turn = self.team.lead("rope_and_store");
        if rows == 0 {
            return Ok(());
        }
        let most = (rows * heads.width).div_ceil(super::ELEMENTS_PER_TILE);
        let parts = (self.team.threads() * PARTS_PER_THREAD).min(most);
        let block = rows.div_ceil(parts.div_ceil(kv_heads));
        let shares = rows.div_ceil(block);
        let queries = Grid::new(q_out, q_width, block, q_width / kv_heads);
        let words = heads.shape.words();
        let cells = Cells::new(args.cache.words_mut(), kv_heads, words, shares);
        turn.for_each((queries, cells), |(mut queries, cells), scratch| {
            let first = queries.cols().start / dim;
            for row in queries.rows() {
                heads.fetch(row + 1, first..queries.cols().end / dim);
                let outs = queries.row_mut(row).chunks_exact_mut(dim);
                for (head, out) in outs.enumerate() {
                    heads.rotate(row, first + head, heads.q_norm, out);
                    heads.multiply(row, out);
                }
            }
            heads.store(args.slots, cells, scratch);
        })
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
    q_factors: Option<&'a [f32]>,
    positions: &'a [u32],
    heads: usize,
    kv_heads: usize,
    dim: usize,
    /// Pairs of a head that are rotated.
    half: usize,
    shape: CellShape,
}

impl<'a> Heads<'a> {
    fn of(kernels: &'static Kernels, args: &RopeStore<'a>) -> Result<Self, TensorError> {
        let (rows, dim) = (args.positions.len(), args.head_dim);
        let width = (args.heads + 2 * args.kv_heads) * dim;
        Ok(Self {
            kernels,
            qkv: floats(args.qkv, rows * width)?,
            width,
            q_norm: args.q_norm.map(Buffer::f32s).transpose()?,
            k_norm: args.k_norm.map(Buffer::f32s).transpose()?,
            eps: args.eps,
            cos: args.cos.f32s()?,
            sin: args.sin.f32s()?,
            q_factors: args.q_factors.map(Buffer::f32s).transpose()?,
            positions: args.positions,
            heads: args.heads,
            kv_heads: args.kv_heads,
            dim,
            half: args.rotary_dim / 2,
            shape: args.cache.shape(),
        })
    }

    /// Head `head` of a row, counting queries, keys and values through.
    fn head(&self, row: usize, head: usize) -> &'a [f32] {
        &self.qkv[row * self.width + head * self.dim..][..self.dim]
    }

    /// Prefetches heads of a row, if there is one: rows lie too far apart for the processor to foresee the next.
    fn fetch(&self, row: usize, heads: Range<usize>) {
        if row < self.positions.len() {
            let row = &self.qkv[row * self.width..][..self.width];
            (self.kernels.fetch)(&row[heads.start * self.dim..heads.end * self.dim]);
        }
    }

    /// Writes a head normalised and rotated.
    fn rotate(&self, row: usize, head: usize, norm: Option<&[f32]>, out: &mut [f32]) {
        let half = self.half;
        let angles = self.positions[row] as usize * half;
        let head = RopeHead {
            input: self.head(row, head),
            norm,
            eps: self.eps,
            cos: &self.cos[angles..][..half],
            sin: &self.sin[angles..][..half],
        };
        (self.kernels.rope)(&head, out);
    }

    /// Multiplies a rotated query by the factor of its position.
    fn multiply(&self, row: usize, query: &mut [f32]) {
        if let Some(factors) = self.q_factors {
            let factor = factors[self.positions[row] as usize];
            query.iter_mut().for_each(|number| *number *= factor);
        }
    }

    /// Writes the keys and values of those tokens whose slots belong to the share, in order.
    fn store(&self, slots: &[u32], mut cells: CellShare<'_>, scratch: &mut Scratch) {
        let key = scratch.floats(self.dim);
        let head = self.heads + cells.kv_head();
        let value = head + self.kv_heads;
        for (row, &slot) in slots.iter().enumerate() {
            let (group, slot) = (slot as usize / GROUP, slot as usize % GROUP);
            if slots[row] == NO_SLOT || !cells.owns(group) {
                continue;
            }
            for head in [head, value] {
                self.fetch(row + 1, head..head + 1);
            }
            self.rotate(row, head, self.k_norm, key);
            let cell = cells.cell_mut(group);
            (self.kernels.store_key)(self.shape, cell, slot, key);
            (self.kernels.store_value)(self.shape, cell, slot, self.head(row, value));
        }
    }
}
