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

use super::Backend;
use super::check::{Check, check_lanes, check_shape};
use crate::cache::{CellShape, GROUP};
use crate::kernels::{Kernels, RopeHead};
use crate::team::Scratch;
use crate::tiles::{CellShare, Cells, Grid};
use crate::{NO_SLOT, RopeStore, TensorError};

/// Parts per thread into which the work is cut at most, so that a slow member delays little.
const PARTS_PER_THREAD: usize = 4;

impl Backend {
    /// Splits fused projections into heads, normalises query and key heads if asked, rotates them
    /// by their positions (half-split layout), writes the queries to `q_out` and each token's keys
    /// and values to its cache slot, rounded to the cache's format.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`]; `heads` must be a multiple of `kv_heads`, positions
    /// below the rows of `cos` and `sin`, slots below those of the cache or [`NO_SLOT`].
    pub fn rope_and_store(&self, args: RopeStore<'_>) -> Result<(), TensorError> {
        if let Some(device) = self.device() {
            self.inner.heartbeat.beat();
            return device.rope_and_store(args);
        }
        let check = Check("rope_and_store");
        let heads = Heads::checked(check, self.kernels(), &args)?;
        check_slots(check, &args)?;
        check_lanes(check, "cache", args.cache)?;
        let (rows, dim, kv_heads) = (args.positions.len(), args.head_dim, args.kv_heads);
        let q_width = args.heads * dim;
        let q_out = check.matrix_mut("q_out", args.q_out, rows, q_width)?;
        let mut turn = self.turn("rope_and_store");
        if rows == 0 {
            return Ok(());
        }
        let most = (rows * heads.width).div_ceil(super::ELEMENTS_PER_TILE);
        let parts = (self.threads() * PARTS_PER_THREAD).min(most);
        let block = rows.div_ceil(parts.div_ceil(kv_heads));
        let shares = rows.div_ceil(block);
        let queries = Grid::new(q_out, q_width, block, q_width / kv_heads);
        let words = heads.shape.words();
        let cells = Cells::new(args.cache.words_mut(), kv_heads, words, shares);
        turn.for_each((queries, cells), |(mut queries, cells), scratch| {
            for row in queries.rows() {
                let first = queries.cols().start / dim;
                let outs = queries.row_mut(row).chunks_exact_mut(dim);
                for (head, out) in outs.enumerate() {
                    heads.rotate(row, first + head, heads.q_norm, out);
                }
            }
            heads.store(args.slots, cells, scratch);
        })
    }
}

/// The rules of heads and positions. Returns the number of positions that there are angles for.
pub(crate) fn check_heads(check: Check, args: &RopeStore<'_>) -> Result<usize, TensorError> {
    let dim = args.head_dim;
    check.rule(
        dim > 0 && dim.is_multiple_of(2),
        "head_dim",
        "even and above 0",
        dim,
    )?;
    check.rule(args.kv_heads > 0, "kv_heads", "above 0", args.kv_heads)?;
    let expected = format_args!("a multiple of `kv_heads` ({}) above 0", args.kv_heads);
    let grouped = args.heads > 0 && args.heads.is_multiple_of(args.kv_heads);
    check.rule(grouped, "heads", expected, args.heads)?;
    let max_positions = args.cos.len() / (dim / 2);
    check.indices("positions", args.positions, max_positions)?;
    Ok(max_positions)
}

/// That there is a slot for each row, of a cache with such heads, or none.
pub(crate) fn check_slots(check: Check, args: &RopeStore<'_>) -> Result<(), TensorError> {
    check_shape(check, args.cache, args.kv_heads, args.head_dim)?;
    let rows = args.positions.len();
    let expected = format_args!("as many as `positions` ({rows})");
    check.rule(
        args.slots.len() == rows,
        "slots",
        expected,
        args.slots.len(),
    )?;
    let limit = args.cache.slots();
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
    shape: CellShape,
}

impl<'a> Heads<'a> {
    fn checked(
        check: Check,
        kernels: &'static Kernels,
        args: &RopeStore<'a>,
    ) -> Result<Self, TensorError> {
        let max_positions = check_heads(check, args)?;
        let dim = args.head_dim;
        let (rows, half) = (args.positions.len(), dim / 2);
        let width = (args.heads + 2 * args.kv_heads) * dim;
        let norm = |argument, norm: Option<&'a crate::Buffer>| {
            norm.map(|norm| check.vector(argument, norm, dim))
                .transpose()
        };
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
            shape: args.cache.shape(),
        })
    }

    /// Head `head` of a row, counting queries, keys and values through.
    fn head(&self, row: usize, head: usize) -> &'a [f32] {
        &self.qkv[row * self.width + head * self.dim..][..self.dim]
    }

    /// Writes a head normalised and rotated.
    fn rotate(&self, row: usize, head: usize, norm: Option<&[f32]>, out: &mut [f32]) {
        let half = self.dim / 2;
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

    /// Writes the keys and values of those tokens whose slots belong to the share, in order.
    fn store(&self, slots: &[u32], mut cells: CellShare<'_>, scratch: &mut Scratch) {
        let key = scratch.floats(self.dim);
        let head = self.heads + cells.kv_head();
        for (row, &slot) in slots.iter().enumerate() {
            let (group, slot) = (slot as usize / GROUP, slot as usize % GROUP);
            if slots[row] == NO_SLOT || !cells.owns(group) {
                continue;
            }
            self.rotate(row, head, self.k_norm, key);
            let cell = cells.cell_mut(group);
            (self.kernels.store_key)(self.shape, cell, slot, key);
            let value = self.head(row, head + self.kv_heads);
            (self.kernels.store_value)(self.shape, cell, slot, value);
        }
    }
}
