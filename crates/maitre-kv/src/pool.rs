//! The pool: which pages are empty, which are idle, and how many holders each of the others has.
//!
//! A page that a sequence holds is a block of one of its tables. It is *held* (its reference count is not zero), *empty*, or *idle*: no sequence holds it, but its
//! contents have a name and may be asked for again. Empty pages are handed out first, then the idle page
//! that was used least recently. Every operation is O(1), and nothing is allocated after the start.

use crate::lru::Lru;

/// One page of the pool, numbered from 0: a block of the tables that name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u32);

impl BlockId {
    /// No page.
    pub(crate) const NONE: Self = Self(u32::MAX);
}

impl From<BlockId> for u32 {
    fn from(block: BlockId) -> Self {
        block.0
    }
}

/// A block that was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allocated {
    /// It was empty.
    Empty(BlockId),
    /// It was idle: its contents are lost, and the index must forget their name.
    Evicted(BlockId),
}

/// All blocks of one pool.
#[derive(Debug, Clone)]
pub(crate) struct BlockPool {
    /// Empty blocks; the last one is handed out next.
    pub(crate) empty: Vec<BlockId>,
    /// Idle blocks, least recently used first.
    pub(crate) idle: Lru,
    /// Per block, the number of its holders.
    pub(crate) ref_counts: Vec<u32>,
}

impl BlockPool {
    pub(crate) fn new(num_pages: u32) -> Self {
        Self {
            empty: (0..num_pages).rev().map(BlockId).collect(),
            idle: Lru::new(num_pages),
            ref_counts: vec![0; num_pages as usize],
        }
    }

    /// Blocks that can be handed out.
    pub(crate) fn num_free(&self) -> usize {
        self.empty.len() + self.idle.len()
    }

    pub(crate) fn num_held(&self) -> usize {
        self.ref_counts.len() - self.num_free()
    }

    pub(crate) fn is_idle(&self, block: BlockId) -> bool {
        self.idle.contains(block.0)
    }

    /// Takes a block for one holder.
    pub(crate) fn allocate(&mut self) -> Option<Allocated> {
        let allocated = match self.empty.pop() {
            Some(block) => Allocated::Empty(block),
            None => Allocated::Evicted(BlockId(self.idle.pop()?)),
        };
        let (Allocated::Empty(block) | Allocated::Evicted(block)) = allocated;
        self.ref_counts[block.0 as usize] = 1;
        Some(allocated)
    }

    /// One more holder for a block that is held or idle.
    pub(crate) fn hold(&mut self, block: BlockId) {
        self.idle.remove(block.0);
        self.ref_counts[block.0 as usize] += 1;
    }

    /// One holder lets go of `block`. The last one leaves it idle if its contents have a name
    /// (`named`), empty otherwise.
    pub(crate) fn release(&mut self, block: BlockId, named: bool) {
        let count = &mut self.ref_counts[block.0 as usize];
        debug_assert!(
            *count > 0,
            "{block:?} was released more often than it was taken"
        );
        *count = count.saturating_sub(1);
        if *count == 0 {
            if named {
                self.idle.push(block.0);
            } else {
                self.empty.push(block);
            }
        }
    }

    /// The contents of `block` lost their name: if no sequence holds it, it is empty.
    pub(crate) fn unname(&mut self, block: BlockId) {
        if self.is_idle(block) {
            self.idle.remove(block.0);
            self.empty.push(block);
        }
    }
}
