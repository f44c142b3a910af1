//! Copies of blocks: within a cache, and to a cache from another of the same shape.
//!
//! A block of a multiple of 16 slots is a whole number of cells per key head, and these are copied as
//! they are; other blocks, and the rest of a block that is copied in part, go slot by slot.
//!
//! A part of the work is the cells of one key head. Each takes the list in order, so that a copy may
//! read what an earlier one wrote. Between caches, where nothing that is read is written, the target's
//! groups of slots are dealt out too.

use super::Processor;
use crate::cache::{CellShape, GROUP};
use crate::operators::BlockCopies;
use crate::team::Scratch;
use crate::tiles::{CellShare, Cells};
use crate::{BlockCopy, LayerCache, TensorError};

impl BlockCopies for Processor {
    fn copy_blocks(
        &self,
        cache: &mut LayerCache,
        block_size: usize,
        copies: &[BlockCopy],
    ) -> Result<(), TensorError> {
        self.copy("copy_blocks", None, cache, block_size, copies)
    }

    fn copy_blocks_from(
        &self,
        source: &LayerCache,
        target: &mut LayerCache,
        block_size: usize,
        copies: &[BlockCopy],
    ) -> Result<(), TensorError> {
        let name = "copy_blocks_from";
        self.copy(name, Some(source), target, block_size, copies)
    }
}

impl Processor {
    fn copy(
        &self,
        operator: &'static str,
        source: Option<&LayerCache>,
        target: &mut LayerCache,
        block_size: usize,
        copies: &[BlockCopy],
    ) -> Result<(), TensorError> {
        if copies.is_empty() {
            return Ok(());
        }
        let (shape, kv_heads) = (target.shape(), target.kv_heads());
        let shares = source.map_or(1, |_| self.team.threads());
        let cells = Cells::new(target.words_mut(), kv_heads, shape.words(), shares);
        let work = Work {
            shape,
            source,
            block_size,
            copies,
        };
        self.for_each_tile(operator, cells, |mut share, scratch| {
            work.copy_share(&mut share, scratch);
        })
    }
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
