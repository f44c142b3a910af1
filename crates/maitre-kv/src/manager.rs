//! The KV manager: block tables over the pool.
//!
//! The one idea: a table grows and shrinks at its end only, by whole blocks, and a call that cannot be served
//! in full changes nothing. What to do when blocks run out is the scheduler's decision. Sharing between
//! sequences, and the blocks that outlive them, are in `prefix.rs` and `naming.rs`.

use std::ops::Range;

use crate::host::{HostTier, Stored};
use crate::index::PrefixIndex;
use crate::moves::BlockMoves;
use crate::moving::Arrival;
use crate::numbers::NumberMap;
use crate::pool::{Allocated, BlockPool};
use crate::table::Table;
use crate::{BlockId, CacheEvent, HashChain, KvConfig, KvError, Namespace, TableDelta};

/// One sequence that owns a block table. The caller picks the numbers and never reuses a live one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeqId(pub u64);

/// What the manager has done since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KvCounts {
    /// Idle blocks that were taken for something else.
    pub evicted: u64,
    /// Blocks that were found equal to another and given back.
    pub merged: u64,
    /// Blocks copied to the host tier.
    pub swapped_out: u64,
    /// Blocks copied back from it.
    pub swapped_in: u64,
    /// Blocks copied within the pool.
    pub copied: u64,
}

/// Owns the block pool, every sequence's block table, and the prefix index.
#[derive(Debug, Clone)]
pub struct KvManager {
    pub(crate) config: KvConfig,
    pub(crate) pool: BlockPool,
    pub(crate) index: PrefixIndex,
    pub(crate) host: HostTier,
    /// Tables of the sequences that hold at least one block. Never iterated where order could show.
    pub(crate) tables: NumberMap<SeqId, Table>,
    /// Planned since [`KvManager::take_moves`].
    pub(crate) moves: BlockMoves,
    /// Per place of the host tier that they write, which move out does.
    pub(crate) places_planned: NumberMap<u32, usize>,
    /// Blocks that moves which were taken and are not settled write.
    pub(crate) arriving: NumberMap<BlockId, Arrival>,
    /// Blocks that no table holds them for: copies that are not settled read them, or a step in flight reads
    /// a table of before [`KvManager::commit_in_flight`]. One entry for each time that they are held.
    pub(crate) pinned: Vec<BlockId>,
    /// Places of the host tier that planned moves read, likewise.
    pub(crate) places_in_use: usize,
    /// Whether a block that is evicted goes to the host tier.
    pub(crate) offload: bool,
    pub(crate) events: Vec<CacheEvent>,
    pub(crate) counts: KvCounts,
}

impl KvManager {
    /// A manager whose blocks are all empty.
    ///
    /// # Errors
    ///
    /// What [`KvConfig::validate`] refuses.
    pub fn new(config: KvConfig) -> Result<Self, KvError> {
        config.validate()?;
        let named_blocks = if config.prefix_cache {
            config.num_blocks
        } else {
            0
        };
        Ok(Self {
            config,
            pool: BlockPool::new(config.num_blocks),
            index: PrefixIndex::new(named_blocks, config.block_size),
            host: HostTier::new(config.num_host_blocks),
            tables: NumberMap::default(),
            moves: BlockMoves::default(),
            places_planned: NumberMap::default(),
            arriving: NumberMap::default(),
            pinned: Vec::new(),
            places_in_use: 0,
            offload: true,
            events: Vec::new(),
            counts: KvCounts::default(),
        })
    }

    /// The size of the pool.
    pub fn config(&self) -> &KvConfig {
        &self.config
    }

    /// Blocks that can be handed out: empty ones, and idle ones that are kept for their contents.
    pub fn free_blocks(&self) -> usize {
        self.pool.num_free()
    }

    /// Idle blocks: no sequence holds them, and a later sequence may share them.
    pub fn idle_blocks(&self) -> usize {
        self.pool.idle.len()
    }

    /// Blocks that at least one table holds.
    pub fn used_blocks(&self) -> usize {
        self.pool.num_held()
    }

    /// Blocks whose contents have a name, held or idle.
    pub fn named_blocks(&self) -> usize {
        self.index.len()
    }

    /// Blocks in the host tier.
    pub fn host_blocks(&self) -> usize {
        self.host.len()
    }

    /// What has been done since the start.
    pub fn counts(&self) -> KvCounts {
        self.counts
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

    /// The namespace of these parts under this manager's key.
    pub fn namespace(&self, parts: &[&[u8]]) -> Namespace {
        Namespace::new(&self.config.hash_key, parts)
    }

    /// Hashes the full blocks of `tokens`, a sequence from its start, that its chain does not have yet.
    /// Without a prefix cache nothing is hashed.
    pub fn extend_chain(&self, chain: &mut HashChain, tokens: &[u32]) {
        if self.config.prefix_cache {
            chain.extend(
                &self.config.hash_key,
                self.config.block_size as usize,
                tokens,
            );
        }
    }

    /// Makes `sequence`'s table cover at least `tokens` positions. A table that already does is left
    /// alone.
    ///
    /// # Errors
    ///
    /// [`KvError::OutOfBlocks`] if the free blocks do not suffice; nothing has changed then.
    pub fn grow(&mut self, sequence: SeqId, tokens: usize) -> Result<(), KvError> {
        let held = self.block_table(sequence).len();
        let needed = self.blocks_for(tokens).saturating_sub(held);
        if needed == 0 {
            return Ok(());
        }
        let free = self.pool.num_free();
        if needed > free {
            return Err(KvError::OutOfBlocks { needed, free });
        }
        let blocks: Vec<BlockId> = (0..needed).map_while(|_| self.allocate()).collect();
        self.tables
            .entry(sequence)
            .or_default()
            .blocks
            .extend(blocks);
        Ok(())
    }

    /// Gives back the blocks that `sequence` holds beyond those that its first `tokens` positions (at least
    /// one) take, and returns how many it let go of. Blocks that have a name are kept, whatever `tokens` says.
    ///
    /// No step in flight may write to what is given back.
    pub fn shrink(&mut self, sequence: SeqId, tokens: usize) -> usize {
        let kept = self.blocks_for(tokens.max(1));
        let Some(table) = self.tables.get_mut(&sequence) else {
            return 0;
        };
        let gone = table.cut(kept);
        for &block in gone.iter().rev() {
            self.let_go(block);
        }
        gone.len()
    }

    /// The blocks of `sequence`, in the order of their positions; empty if it holds none.
    pub fn block_table(&self, sequence: SeqId) -> &[BlockId] {
        self.tables
            .get(&sequence)
            .map_or(&[], |table| table.blocks.as_slice())
    }

    /// What changed in the first `blocks_for(tokens)` entries of `sequence`'s table since this was last
    /// asked. A copy that applies each delta has exactly these entries afterwards, even if it had more before.
    pub fn take_delta(&mut self, sequence: SeqId, tokens: usize) -> TableDelta {
        let reach = self.blocks_for(tokens);
        match self.tables.get_mut(&sequence) {
            Some(table) => table.take_delta(reach),
            None => TableDelta {
                keep: 0,
                blocks: Vec::new(),
            },
        }
    }

    /// Where the token at `position` of `sequence` is kept: `block * block_size + offset`. `None` if the
    /// table does not reach that far, or the position lies behind the window.
    pub fn slot(&self, sequence: SeqId, position: usize) -> Option<u32> {
        self.slot_in(self.block_table(sequence), position)
    }

    fn slot_in(&self, table: &[BlockId], position: usize) -> Option<u32> {
        let block_size = self.config.block_size as usize;
        let block = *table.get(position / block_size)?;
        // The offset is below block_size, a u32; `validate` keeps the sum below u32::MAX.
        (block != BlockId::NONE)
            .then(|| (block.0 as usize * block_size + position % block_size) as u32)
    }

    /// The blocks that `sequence` holds: its table without those behind the window.
    pub fn held_blocks(&self, sequence: SeqId) -> &[BlockId] {
        self.tables.get(&sequence).map_or(&[], Table::held)
    }

    /// Blocks of `sequence` that others hold too.
    pub fn shared_blocks(&self, sequence: SeqId) -> usize {
        let held = self.held_blocks(sequence).iter();
        held.filter(|&&block| self.num_tables(block) > 1).count()
    }

    /// Tables that hold `block`.
    pub(crate) fn num_tables(&self, block: BlockId) -> usize {
        let pins = self.pinned.iter().filter(|&&pinned| pinned == block);
        self.pool.ref_counts[block.0 as usize] as usize - pins.count()
    }

    /// The slots of `positions` of `sequence`, in order, as far as its table reaches.
    pub fn slots(&self, sequence: SeqId, positions: Range<usize>) -> impl Iterator<Item = u32> {
        let table = self.block_table(sequence);
        positions.map_while(move |position| self.slot_in(table, position))
    }

    /// Drops `sequence`'s table and returns how many blocks became free. Unknown sequences hold none.
    ///
    /// Named blocks stay idle for later sequences. The last block of a sequence is evicted before the first,
    /// because a block is found only as long as all blocks before it are. Planned moves that write to a block
    /// which no table holds any more are not made. Those that were taken must be settled before.
    pub fn release(&mut self, sequence: SeqId) -> usize {
        let free_before = self.pool.num_free();
        if let Some(table) = self.tables.remove(&sequence) {
            for &block in table.held().iter().rev() {
                self.let_go(block);
            }
        }
        self.pool.num_free() - free_before
    }

    /// Gives back the blocks of `sequence` that no token from `position` on reads, and returns how many
    /// it let go of. None under full attention.
    ///
    /// The sequence must not [await moves](Self::awaits_moves): a copy would be made into a block of another.
    pub fn release_behind(&mut self, sequence: SeqId, position: usize) -> usize {
        let visible = self.config.first_read(position) / self.config.block_size as usize;
        let Some(table) = self.tables.get_mut(&sequence) else {
            return 0;
        };
        let gone = table.behind..visible.min(table.blocks.len()).max(table.behind);
        table.behind = gone.end;
        let blocks: Vec<BlockId> = table.blocks[gone].iter_mut().map(std::mem::take).collect();
        for &block in blocks.iter().rev() {
            self.let_go(block);
        }
        blocks.len()
    }

    /// Whether blocks that the pool evicts go to the host tier from now on. They do at the start.
    pub fn set_offload(&mut self, offload: bool) {
        self.offload = offload;
    }

    /// The changes of the prefix cache since the last call, if [`KvConfig::events`] asks for them.
    pub fn take_events(&mut self) -> Vec<CacheEvent> {
        std::mem::take(&mut self.events)
    }

    pub(crate) fn let_go(&mut self, block: BlockId) {
        if block != BlockId::NONE {
            if self.pool.ref_counts[block.0 as usize] == 1 {
                self.forgo_arrival(block);
            }
            self.pool.release(block, self.index.is_named(block));
        }
    }

    /// Takes a block, an empty one if there is one.
    pub(crate) fn allocate(&mut self) -> Option<BlockId> {
        match self.pool.allocate()? {
            Allocated::Empty(block) => Some(block),
            Allocated::Evicted(block) => {
                self.counts.evicted += 1;
                self.forget(block);
                Some(block)
            }
        }
    }

    /// The contents of `block` are about to be overwritten: off to the host tier, or lost.
    fn forget(&mut self, block: BlockId) {
        let Some(record) = self.index.remove(block) else {
            return;
        };
        let stored = match self.host.contains(record.hash) || self.offload {
            true => self.host.store(record.hash),
            false => Stored::NoPlace,
        };
        let gone = match stored {
            Stored::Present => None,
            Stored::NoPlace => Some(record.hash),
            Stored::Copy { place, forgotten } => {
                self.plan_swap_out(block, place);
                // What was computed again meanwhile is still in the pool.
                forgotten.filter(|&hash| self.index.find(hash).is_none())
            }
        };
        if let Some(hash) = gone {
            self.tell(|| CacheEvent::Removed { hash });
        }
    }

    pub(crate) fn tell(&mut self, event: impl FnOnce() -> CacheEvent) {
        if self.config.events {
            self.events.push(event());
        }
    }
}

impl Default for BlockId {
    fn default() -> Self {
        Self::NONE
    }
}
