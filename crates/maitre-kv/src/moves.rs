//! Copies of whole blocks that have to happen before a step computes.

/// One block to copy. Which pool the numbers belong to is said by the list it stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockMove {
    /// The block that is read.
    pub from: u32,
    /// The block that is written.
    pub to: u32,
}

/// What has to be copied before a step, in this order: out, in, copies. Within a list the order does
/// not matter: no block is written twice, and none is written that another move of the list reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockMoves {
    /// From the pool to the host tier.
    pub swap_out: Vec<BlockMove>,
    /// From the host tier to the pool.
    pub swap_in: Vec<BlockMove>,
    /// Within the pool.
    pub copies: Vec<BlockMove>,
}

impl BlockMoves {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Blocks to be copied.
    pub fn len(&self) -> usize {
        self.swap_out.len() + self.swap_in.len() + self.copies.len()
    }
}
