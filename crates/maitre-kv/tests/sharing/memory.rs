//! The memory that the blocks stand for: for each position a hash of everything up to it, so that a reader
//! sees whether a block is what its name says.

use maitre_kv::{BlockId, BlockMoves};

/// What is kept at each position of `tokens`.
pub(crate) fn cells(namespace: usize, tokens: &[u32]) -> Vec<u64> {
    let cells = tokens.iter().scan(namespace as u64, |hash, &token| {
        *hash = (*hash ^ 0xcbf2_9ce4_8422_2325 ^ u64::from(token))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(23);
        Some(*hash)
    });
    cells.collect()
}

/// The pool and the host tier.
pub(crate) struct Memory {
    block_size: usize,
    pool: Vec<Vec<u64>>,
    host: Vec<Vec<u64>>,
}

impl Memory {
    pub(crate) fn new(num_blocks: u32, num_host_blocks: u32, block_size: u32) -> Self {
        let empty = vec![0; block_size as usize];
        Self {
            block_size: block_size as usize,
            pool: vec![empty.clone(); num_blocks as usize],
            host: vec![empty; num_host_blocks as usize],
        }
    }

    pub(crate) fn make(&mut self, moves: &BlockMoves) {
        for moved in &moves.swap_out {
            self.host[moved.to as usize] = self.pool[moved.from as usize].clone();
        }
        for moved in &moves.swap_in {
            self.pool[moved.to as usize] = self.host[moved.from as usize].clone();
        }
        for moved in &moves.copies {
            self.pool[moved.to as usize] = self.pool[moved.from as usize].clone();
        }
    }

    pub(crate) fn read(&self, table: &[BlockId], position: usize) -> u64 {
        let block = table[position / self.block_size];
        self.pool[block.0 as usize][position % self.block_size]
    }

    pub(crate) fn write(&mut self, slot: u32, cell: u64) {
        let slot = slot as usize;
        self.pool[slot / self.block_size][slot % self.block_size] = cell;
    }
}
