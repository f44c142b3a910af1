//! Copies of blocks: within a cache, and to a cache from another of the same shape.
//!
//! A block of a multiple of 16 slots is a whole number of cells per key head, and these are copied as
//! they are; other blocks, and the rest of a block that is copied in part, go slot by slot.
//!
//! A part of the work is the cells of one key head. Each takes the list in order, so that a copy may
//! read what an earlier one wrote. Between caches, where nothing that is read is written, the target's
//! groups of slots are dealt out too.

use std::fmt::{self, Display};

use super::Backend;
use super::check::{Check, check_lanes};
use crate::cache::{CellShape, GROUP};
use crate::team::Scratch;
use crate::tiles::{CellShare, Cells};
use crate::{LayerCache, TensorError};

/// A copy of keys and values: of the first `positions` positions of block `from` to block `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockCopy {
    /// The block that is read.
    pub from: u32,
    /// The block that is written.
    pub to: u32,
    /// Positions that are copied, at most those of a block; the others keep what they hold.
    pub positions: usize,
}

impl Backend {
    /// Copies blocks of `block_size` slots of a cache to others of its blocks, in the order of the
    /// list. A copy of a block to itself does nothing.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`]; blocks must exist, `positions` not exceed `block_size`.
    pub fn copy_blocks(
        &self,
        cache: &mut LayerCache,
        block_size: usize,
        copies: &[BlockCopy],
    ) -> Result<(), TensorError> {
        let check = Check("copy_blocks");
        check_copies(check, block_size, copies, [cache.slots(); 2])?;
        if let Some(device) = self.device() {
            self.inner.heartbeat.beat();
            return device.copy_blocks(cache, block_size, copies);
        }
        check_lanes(check, "cache", cache)?;
        self.copy(check, None, cache, block_size, copies)
    }

    /// Copies blocks of `block_size` slots of one cache to those of another, in the order of the
    /// list. Both have the same heads and format, and any number of slots.
    ///
    /// # Errors
    ///
    /// As for [`Backend::copy_blocks`]; [`TensorError::Argument`] for caches of different shapes.
    pub fn copy_blocks_from(
        &self,
        source: &LayerCache,
        target: &mut LayerCache,
        block_size: usize,
        copies: &[BlockCopy],
    ) -> Result<(), TensorError> {
        let check = Check("copy_blocks_from");
        let alike = source.shape() == target.shape()
            && source.kv_heads() == target.kv_heads()
            && source.order() == target.order();
        check.rule(alike, "source", describe(target), describe(source))?;
        let slots = [source.slots(), target.slots()];
        check_copies(check, block_size, copies, slots)?;
        if let Some(device) = self.device() {
            self.inner.heartbeat.beat();
            return device.copy_blocks_from(source, target, block_size, copies);
        }
        check_lanes(check, "target", target)?;
        self.copy(check, Some(source), target, block_size, copies)
    }

    fn copy(
        &self,
        check: Check,
        source: Option<&LayerCache>,
        target: &mut LayerCache,
        block_size: usize,
        copies: &[BlockCopy],
    ) -> Result<(), TensorError> {
        if copies.is_empty() {
            return Ok(());
        }
        let (shape, kv_heads) = (target.shape(), target.kv_heads());
        let shares = source.map_or(1, |_| self.threads());
        let cells = Cells::new(target.words_mut(), kv_heads, shape.words(), shares);
        let work = Work {
            shape,
            source,
            block_size,
            copies,
        };
        self.for_each_tile(check.0, cells, |mut share, scratch| {
            work.copy_share(&mut share, scratch);
        })
    }
}

/// That blocks exist, in the source and in the target, and positions within them.
fn check_copies(
    check: Check,
    block_size: usize,
    copies: &[BlockCopy],
    slots: [usize; 2],
) -> Result<(), TensorError> {
    check.rule(block_size > 0, "block_size", "above 0", block_size)?;
    let [from_limit, to_limit] = slots.map(|slots| slots / block_size);
    for (at, copy) in copies.iter().enumerate() {
        for (argument, value, limit) in [
            ("copies.from", copy.from, from_limit),
            ("copies.to", copy.to, to_limit),
        ] {
            if value as usize >= limit {
                return Err(TensorError::Index {
                    operator: check.0,
                    argument,
                    at,
                    value,
                    limit,
                });
            }
        }
        check.rule(
            copy.positions <= block_size,
            "copies.positions",
            format_args!("at most `block_size` ({block_size})"),
            copy.positions,
        )?;
    }
    Ok(())
}

/// The shape of a cache in an error message.
fn describe(cache: &LayerCache) -> impl Display + '_ {
    fmt::from_fn(|f| {
        let (heads, dim) = (cache.kv_heads(), cache.head_dim());
        write!(f, "{heads} heads of {dim} {} elements", cache.format())
    })
}

/// What every part of the work knows.
struct Work<'a> {
    shape: CellShape,
    /// What is read, unless that is the cache that is written.
    source: Option<&'a LayerCache>,
    block_size: usize,
    copies: &'a [BlockCopy],
}

impl Work<'_> {
    /// Takes the list in order, and of each copy what the share owns.
    fn copy_share(&self, share: &mut CellShare<'_>, scratch: &mut Scratch) {
        for copy in self.copies {
            let [mut from, mut to] = [copy.from, copy.to].map(|b| b as usize * self.block_size);
            let end = from + copy.positions;
            while from < end {
                // Slots of one group that become slots of one group.
                let most = GROUP - (from % GROUP).max(to % GROUP);
                let slots = most.min(end - from);
                if share.owns(to / GROUP) {
                    self.copy_slots(share, [from, to], slots, scratch);
                }
                (from, to) = (from + slots, to + slots);
            }
        }
    }

    fn copy_slots(
        &self,
        share: &mut CellShare<'_>,
        [from, to]: [usize; 2],
        slots: usize,
        scratch: &mut Scratch,
    ) {
        let [source, target] = [from, to].map(|slot| slot / GROUP);
        let whole = slots == GROUP;
        let cell = match self.source {
            Some(cache) => cache.cell(source, share.kv_head()),
            None if whole => return share.copy_cell(source, target),
            None => {
                // The cell that is read may be the one that is written.
                let (cell, _) = scratch.words_and_floats(self.shape.words(), 0);
                cell.copy_from_slice(share.cell_mut(source));
                &*cell
            }
        };
        let target = share.cell_mut(target);
        if whole {
            return target.copy_from_slice(cell);
        }
        for slot in 0..slots {
            let [from, to] = [from, to].map(|first| first % GROUP + slot);
            self.shape.copy_slot((cell, from), (target, to));
        }
    }
}
