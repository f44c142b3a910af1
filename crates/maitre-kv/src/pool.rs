//! The block pool: which blocks are free, and how many tables hold each of the others.
//!
//! Allocation, release and the counts are O(1). The free list is a stack that is as large as it can
//! ever be from the start, so a step allocates no host memory here.

/// One block of the pool, numbered from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u32);

/// All blocks of one pool.
#[derive(Debug, Clone)]
pub(crate) struct BlockPool {
    /// Free blocks; the last one is handed out next.
    pub(crate) free: Vec<BlockId>,
    /// Per block, the number of block tables that hold it.
    pub(crate) ref_counts: Vec<u32>,
}

impl BlockPool {
    pub(crate) fn new(num_blocks: u32) -> Self {
        Self {
            free: (0..num_blocks).rev().map(BlockId).collect(),
            ref_counts: vec![0; num_blocks as usize],
        }
    }

    pub(crate) fn num_free(&self) -> usize {
        self.free.len()
    }

    pub(crate) fn num_used(&self) -> usize {
        self.ref_counts.len() - self.free.len()
    }

    /// Takes a free block for one holder.
    pub(crate) fn allocate(&mut self) -> Option<BlockId> {
        let block = self.free.pop()?;
        self.ref_counts[block.0 as usize] = 1;
        Some(block)
    }

    /// One holder lets go of `block`; the last one frees it.
    pub(crate) fn release(&mut self, block: BlockId) {
        let count = &mut self.ref_counts[block.0 as usize];
        debug_assert!(
            *count > 0,
            "{block:?} was released more often than it was taken"
        );
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.free.push(block);
        }
    }
}
