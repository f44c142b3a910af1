//! The memory that the pages stand for: for each position a hash of everything up to it and of the group, so that a
//! reader sees whether a block is what its name says.

use maitre_kv::{BlockMoves, StateRef};

/// What a group keeps at each position of `tokens`.
pub(crate) fn cells(namespace: usize, group: usize, tokens: &[u32]) -> Vec<u64> {
    let start = (namespace + 1000 * group) as u64;
    let cells = tokens.iter().scan(start, |hash, &token| {
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
    pub(crate) fn new(num_pages: u32, num_host_pages: u32, block_size: u32) -> Self {
        let empty = vec![0; block_size as usize];
        Self {
            block_size: block_size as usize,
            pool: vec![empty.clone(); num_pages as usize],
            host: vec![empty; num_host_pages as usize],
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

    pub(crate) fn read(&self, slot: u32) -> u64 {
        let slot = slot as usize;
        self.pool[slot / self.block_size][slot % self.block_size]
    }

    pub(crate) fn write(&mut self, slot: u32, cell: u64) {
        let slot = slot as usize;
        self.pool[slot / self.block_size][slot % self.block_size] = cell;
    }

    /// Whether all pages of a state hold `cell`, each in its own way.
    pub(crate) fn has_state(&self, at: &StateRef, cell: u64) -> bool {
        let mut pages = at.pages().iter().enumerate();
        pages.all(|(part, page)| self.pool[page.0 as usize][0] == cell ^ part as u64)
    }

    pub(crate) fn write_state(&mut self, at: &StateRef, cell: u64) {
        for (part, page) in at.pages().iter().enumerate() {
            self.pool[page.0 as usize].fill(cell ^ part as u64);
        }
    }
}
