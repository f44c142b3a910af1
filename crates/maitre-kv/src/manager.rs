//! The KV manager: block tables over the pool.
//!
//! The one idea: a table only ever grows at its end, by whole blocks, and a call that cannot be served in
//! full changes nothing. Whoever decides what to do when blocks run out sits above.

use std::collections::HashMap;
use std::ops::Range;

use crate::pool::BlockPool;
use crate::{BlockId, KvConfig, KvError};

/// One sequence that owns a block table. The caller picks the numbers and never reuses a live one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeqId(pub u64);

/// Owns the block pool and every sequence's block table.
#[derive(Debug, Clone)]
pub struct KvManager {
    config: KvConfig,
    pub(crate) pool: BlockPool,
    /// Tables of the sequences that hold at least one block. Never iterated where order could show.
    pub(crate) tables: HashMap<SeqId, Vec<BlockId>>,
}

impl KvManager {
    /// A manager whose blocks are all free.
    ///
    /// # Errors
    ///
    /// What [`KvConfig::validate`] refuses.
    pub fn new(config: KvConfig) -> Result<Self, KvError> {
        config.validate()?;
        Ok(Self {
            config,
            pool: BlockPool::new(config.num_blocks),
            tables: HashMap::new(),
        })
    }

    /// The size of the pool.
    pub fn config(&self) -> &KvConfig {
        &self.config
    }

    /// Blocks nobody holds.
    pub fn free_blocks(&self) -> usize {
        self.pool.num_free()
    }

    /// Blocks that at least one table holds.
    pub fn used_blocks(&self) -> usize {
        self.pool.num_used()
    }

    /// Sequences that hold at least one block.
    pub fn num_sequences(&self) -> usize {
        self.tables.len()
    }

    /// Blocks that hold `tokens` positions.
    pub fn blocks_for(&self, tokens: usize) -> usize {
        self.config.blocks_for(tokens)
    }

    /// Token positions the whole pool holds.
    pub fn capacity_tokens(&self) -> usize {
        self.config.capacity_tokens()
    }

    /// Makes `sequence`'s table cover at least `tokens` positions. A table that already does is left
    /// alone; it never shrinks.
    ///
    /// # Errors
    ///
    /// [`KvError::OutOfBlocks`] if the free blocks do not suffice; nothing has changed then.
    pub fn grow(&mut self, sequence: SeqId, tokens: usize) -> Result<(), KvError> {
        let needed = self
            .blocks_for(tokens)
            .saturating_sub(self.block_table(sequence).len());
        if needed == 0 {
            return Ok(());
        }
        let free = self.pool.num_free();
        if needed > free {
            return Err(KvError::OutOfBlocks { needed, free });
        }
        let table = self.tables.entry(sequence).or_default();
        table.extend((0..needed).map_while(|_| self.pool.allocate()));
        Ok(())
    }

    /// The blocks of `sequence`, in the order of their positions; empty if it holds none.
    pub fn block_table(&self, sequence: SeqId) -> &[BlockId] {
        self.tables.get(&sequence).map_or(&[], Vec::as_slice)
    }

    /// Where the token at `position` of `sequence` is kept: `block * block_size + offset`.
    /// `None` if the table does not reach that far.
    pub fn slot(&self, sequence: SeqId, position: usize) -> Option<u32> {
        self.slots(sequence, position..position.checked_add(1)?)
            .next()
    }

    /// The slots of `positions` of `sequence`, in order, as far as its table reaches.
    pub fn slots(&self, sequence: SeqId, positions: Range<usize>) -> impl Iterator<Item = u32> {
        self.config.slots(self.block_table(sequence), positions)
    }

    /// Drops `sequence`'s table and returns how many blocks became free. Unknown sequences hold none.
    pub fn release(&mut self, sequence: SeqId) -> usize {
        let free_before = self.pool.num_free();
        // Last block first, so that the stack hands them out again in the order they had.
        for block in self
            .tables
            .remove(&sequence)
            .unwrap_or_default()
            .into_iter()
            .rev()
        {
            self.pool.release(block);
        }
        self.pool.num_free() - free_before
    }
}
