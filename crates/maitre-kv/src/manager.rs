//! The KV manager: block tables over the pool, for each sequence one in each group.
//!
//! The one idea: all tables of a sequence grow and shrink at their ends together, by whole blocks, and a call that
//! cannot be served in full, in every group, changes nothing. What to do when pages run out is the scheduler's
//! decision. Sharing between sequences, and the blocks that outlive them, are in `prefix.rs` and `naming.rs`.

use std::ops::Range;

use smallvec::SmallVec;

use crate::host::{HostTier, Stored};
use crate::index::{Contents, PrefixIndex};
use crate::moves::BlockMoves;
use crate::moving::Arrival;
use crate::name::Name;
use crate::numbers::NumberMap;
use crate::pool::{Allocated, BlockPool};
use crate::states::States;
use crate::table::{Table, Tables};
use crate::{BlockId, CacheEvent, HashChain, KvConfig, KvError, KvSpec, Namespace, TableDelta};

/// One sequence that owns block tables. The caller picks the numbers and never reuses a live one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeqId(pub u64);

/// What the manager has done since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KvCounts {
    /// Idle pages that were taken for something else.
    pub evicted: u64,
    /// Pages that were found equal to another and given back.
    pub merged: u64,
    /// Pages copied to the host tier.
    pub swapped_out: u64,
    /// Pages copied back from it.
    pub swapped_in: u64,
    /// Pages copied within the pool.
    pub copied: u64,
}

/// Owns the pool, every sequence's block tables, and the prefix index.
#[derive(Debug, Clone)]
pub struct KvManager {
    pub(crate) config: KvConfig,
    /// Whether any group does.
    forgets: bool,
    /// Whether any group keeps states.
    pub(crate) has_state: bool,
    pub(crate) pool: BlockPool,
    pub(crate) index: PrefixIndex,
    pub(crate) host: HostTier,
    /// Tables of the sequences that hold at least one page. Never iterated where order could show.
    pub(crate) tables: NumberMap<SeqId, Tables>,
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
    /// A manager whose pages are all empty.
    ///
    /// # Errors
    ///
    /// What [`KvConfig::validate`] refuses.
    pub fn new(config: KvConfig) -> Result<Self, KvError> {
        config.validate()?;
        let named_pages = if config.prefix_cache {
            config.num_pages
        } else {
            0
        };
        Ok(Self {
            pool: BlockPool::new(config.num_pages),
            index: PrefixIndex::new(named_pages, config.block_size),
            host: HostTier::new(config.num_host_pages),
            forgets: config.forgets(),
            has_state: config.has_state(),
            config,
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

    /// Whether some group forgets, as [`KvConfig::forgets`] says.
    pub fn forgets(&self) -> bool {
        self.forgets
    }

    /// Groups of layers, each with a table per sequence.
    pub fn num_groups(&self) -> usize {
        self.config.groups.len()
    }

    /// Pages that can be handed out: empty ones, and idle ones that are kept for their contents.
    pub fn free_pages(&self) -> usize {
        self.pool.num_free()
    }

    /// Idle pages: no sequence holds them, and a later sequence may share them.
    pub fn idle_pages(&self) -> usize {
        self.pool.idle.len()
    }

    /// Pages that at least one table holds.
    pub fn used_pages(&self) -> usize {
        self.pool.num_held()
    }

    /// Pages whose contents have a name, held or idle.
    pub fn named_pages(&self) -> usize {
        self.index.len()
    }

    /// Pages in the host tier.
    pub fn host_pages(&self) -> usize {
        self.host.len()
    }

    /// What has been done since the start.
    pub fn counts(&self) -> KvCounts {
        self.counts
    }

    /// Sequences that hold at least one page.
    pub fn num_sequences(&self) -> usize {
        self.tables.len()
    }

    /// Blocks that hold `tokens` positions, in each group.
    pub fn blocks_for(&self, tokens: usize) -> usize {
        self.config.blocks_for(tokens)
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

    /// Makes `sequence`'s tables cover at least `tokens` positions, but for those behind a window, with a state to write in
    /// each group that keeps states. Tables that already do are left alone.
    ///
    /// # Errors
    ///
    /// [`KvError::OutOfPages`] if the free pages do not suffice; nothing has changed then.
    pub fn grow(&mut self, sequence: SeqId, tokens: usize) -> Result<(), KvError> {
        let reach = self.blocks_for(tokens);
        let (blocks, states) = match self.tables.get(&sequence) {
            // Mostly, and asked for each decode of each step.
            Some(tables) if !self.has_state && tables.reach_to(reach) => return Ok(()),
            Some(tables) => (self.missing(tables, reach), self.missing_states(tables, 1)),
            None => {
                let states = usize::from(reach > 0) * self.config.pages_per_state();
                (reach * self.config.num_block_groups(), states)
            }
        };
        let needed = blocks + states;
        if needed == 0 {
            return Ok(());
        }
        let free = self.pool.num_free();
        if needed > free {
            return Err(KvError::OutOfPages { needed, free });
        }
        let pages: Vec<BlockId> = (0..blocks).map_while(|_| self.allocate()).collect();
        let mut pages = pages.into_iter();
        if !self.tables.contains_key(&sequence) {
            self.tables.insert(sequence, self.no_tables(1));
        }
        if let Some(tables) = self.tables.get_mut(&sequence) {
            for (spec, table) in self.config.groups.iter().zip(&mut tables.groups) {
                let needed = missing_in(*spec, table, reach);
                table.blocks.extend(pages.by_ref().take(needed));
            }
        }
        self.reserve_states(sequence, 1)
    }

    /// Gives back the blocks that `sequence` holds beyond those that its first `tokens` positions (at least
    /// one) take, and returns how many pages it let go of. Blocks that have a name are kept, whatever `tokens` says.
    ///
    /// No step in flight may write to what is given back.
    pub fn shrink(&mut self, sequence: SeqId, tokens: usize) -> usize {
        let kept = self.blocks_for(tokens.max(1));
        let mut let_go = 0;
        for group in 0..self.num_groups() {
            let table = self.table_mut(sequence, group);
            let gone = table.map(|table| table.cut(kept)).unwrap_or_default();
            gone.iter().rev().for_each(|&block| self.let_go(block));
            let_go += gone.len();
        }
        let_go
    }

    /// The block table of `sequence` in a group: the blocks from [`first_block`](Self::first_block) on, in the order
    /// of their positions; empty if it holds none.
    pub fn block_table(&self, sequence: SeqId, group: usize) -> &[BlockId] {
        let table = self.table(sequence, group);
        table.map_or(&[], |table| table.blocks.as_slice())
    }

    /// The block that the first entry of `sequence`'s table in a group is for: those before it lie behind the window.
    pub fn first_block(&self, sequence: SeqId, group: usize) -> usize {
        self.table(sequence, group)
            .map_or(0, |table| table.first_block)
    }

    /// Positions that the tables of `sequence` reach to in every group; any number if all groups keep states.
    pub fn covered(&self, sequence: SeqId) -> usize {
        let Some(tables) = self.tables.get(&sequence) else {
            return 0;
        };
        let groups = self.config.groups.iter().zip(&tables.groups);
        let blocks = groups.filter(|(spec, _)| !spec.is_state());
        let ends = blocks.map(|(_, table)| table.end());
        let block_size = self.config.block_size as usize;
        ends.min().map_or(usize::MAX, |end| end * block_size)
    }

    /// Tables of a sequence that holds nothing, of which at most so many steps are in flight.
    pub(crate) fn no_tables(&self, steps: usize) -> Tables {
        let mut tables = Tables::new(self.num_groups());
        if self.has_state {
            tables.states = vec![States::new(steps); self.num_groups()];
        }
        tables
    }

    /// Pages that tables take to reach to block `reach`.
    fn missing(&self, tables: &Tables, reach: usize) -> usize {
        let groups = self.config.groups.iter().zip(&tables.groups);
        let missing = groups.map(|(spec, table)| missing_in(*spec, table, reach));
        missing.sum()
    }

    pub(crate) fn table(&self, sequence: SeqId, group: usize) -> Option<&Table> {
        self.tables.get(&sequence)?.groups.get(group)
    }

    fn table_mut(&mut self, sequence: SeqId, group: usize) -> Option<&mut Table> {
        self.tables.get_mut(&sequence)?.groups.get_mut(group)
    }

    /// What a step has to know of `sequence` to compute some of its positions, group by group: what changed among the
    /// blocks of its first `tokens` positions since this was last asked, and where each of `positions` is kept, as
    /// [`slots`](Self::slots). A copy that [applies](TableDelta::apply) each change has exactly these blocks
    /// afterwards, even if it had more before.
    pub fn take_deltas(
        &mut self,
        sequence: SeqId,
        tokens: usize,
        positions: Range<usize>,
    ) -> impl Iterator<Item = (TableDelta, impl Iterator<Item = u32>)> {
        let block_size = self.config.block_size as usize;
        let reach = self.config.blocks_for(tokens);
        let tables = self.tables.get_mut(&sequence).map(|it| &mut it.groups[..]);
        tables.unwrap_or_default().iter_mut().map(move |table| {
            let delta = table.take_delta(reach);
            (delta, slots_in(table, positions.clone(), block_size))
        })
    }

    /// Where the token at `position` of `sequence` is kept in a group: `page * block_size + offset`. `None` if the
    /// table does not reach that far, or the position lies behind the window.
    pub fn slot(&self, sequence: SeqId, group: usize, position: usize) -> Option<u32> {
        self.slots(sequence, group, position..position + 1).next()
    }

    /// The slots of `positions` of `sequence` in a group, in order, as far as its table reaches.
    pub fn slots(
        &self,
        sequence: SeqId,
        group: usize,
        positions: Range<usize>,
    ) -> impl Iterator<Item = u32> {
        let block_size = self.config.block_size as usize;
        let table = self.table(sequence, group).into_iter();
        table.flat_map(move |table| slots_in(table, positions.clone(), block_size))
    }

    /// The pages that `sequence` holds in all groups.
    pub fn held_pages(&self, sequence: SeqId) -> impl Iterator<Item = BlockId> {
        self.tables
            .get(&sequence)
            .into_iter()
            .flat_map(Tables::held)
    }

    /// Blocks of `sequence` that others hold too, in the group where these are fewest. Groups with a window do not
    /// count if one has none: there, only the last blocks are held.
    pub fn shared_blocks(&self, sequence: SeqId) -> usize {
        let Some(tables) = self.tables.get(&sequence) else {
            return 0;
        };
        let shared = |table: &Table| {
            let held = table.blocks.iter();
            held.filter(|&&block| self.num_tables(block) > 1).count()
        };
        let groups = || {
            let groups = self.config.groups.iter().zip(&tables.groups);
            groups.filter(|(spec, _)| !spec.is_state())
        };
        let full = groups().filter(|(spec, _)| **spec == KvSpec::Full);
        let fewest = full.map(|(_, table)| shared(table)).min();
        let fewest = fewest.or_else(|| groups().map(|(_, table)| shared(table)).min());
        fewest.unwrap_or(0)
    }

    /// Tables that hold `block`.
    pub(crate) fn num_tables(&self, block: BlockId) -> usize {
        let pins = self.pinned.iter().filter(|&&pinned| pinned == block);
        self.pool.ref_counts[block.0 as usize] as usize - pins.count()
    }

    /// Drops `sequence`'s tables and returns how many pages became free. Unknown sequences hold none.
    ///
    /// Named blocks stay idle for later sequences. The last block of a sequence is evicted before the first,
    /// because a block is found only as long as all blocks before it are; and what the groups have of one block is
    /// evicted together, because it is of no use alone. Planned moves that write to a page
    /// which no table holds any more are not made. Those that were taken must be settled before.
    pub fn release(&mut self, sequence: SeqId) -> usize {
        let free_before = self.pool.num_free();
        if let Some(tables) = self.tables.remove(&sequence) {
            for block in tables.held_backwards() {
                self.let_go(block);
            }
        }
        self.pool.num_free() - free_before
    }

    /// Gives back the blocks of `sequence` that no token from `position` on reads, and the states before the one behind its
    /// first `position` tokens. Returns how many pages of blocks it let go of: none under full attention.
    ///
    /// The sequence must not [await moves](Self::awaits_moves): a copy would be made into a block of another.
    pub fn release_behind(&mut self, sequence: SeqId, position: usize) -> usize {
        if !self.forgets {
            return 0;
        }
        self.drop_states_before(sequence, position);
        let Some(tables) = self.tables.get_mut(&sequence) else {
            return 0;
        };
        let mut gone: SmallVec<[BlockId; 8]> = SmallVec::new();
        for (spec, table) in self.config.groups.iter().zip(&mut tables.groups) {
            let first = self.config.first_block(*spec, position);
            if table.first_block < first {
                gone.extend(table.drop_before(first));
            }
        }
        gone.iter().rev().for_each(|&block| self.let_go(block));
        gone.len()
    }

    /// Whether pages that the pool evicts go to the host tier from now on. They do at the start.
    pub fn set_offload(&mut self, offload: bool) {
        self.offload = offload;
    }

    /// The changes of the prefix cache since the last call, if [`KvConfig::events`] asks for them.
    pub fn take_events(&mut self) -> Vec<CacheEvent> {
        std::mem::take(&mut self.events)
    }

    pub(crate) fn let_go(&mut self, block: BlockId) {
        if self.pool.ref_counts[block.0 as usize] == 1 {
            self.forgo_arrival(block);
        }
        self.pool.release(block, self.index.is_named(block));
    }

    /// Takes a page, an empty one if there is one.
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
        let contents = record.contents();
        let stored = match self.host.contains(contents.name()) || self.offload {
            true => self.host.store(contents),
            false => Stored::NoPlace,
        };
        let gone = match stored {
            Stored::Present => None,
            Stored::NoPlace => Some(contents),
            Stored::Copy { place, forgotten } => {
                self.plan_swap_out(block, place);
                // What was computed again meanwhile is still in the pool.
                forgotten.filter(|gone| self.index.find(gone.name()).is_none())
            }
        };
        if let Some(gone) = gone.filter(|gone| self.is_kept_beside(*gone)) {
            self.tell(|| CacheEvent::Removed { hash: gone.hash });
        }
    }

    /// Whether everything else is kept of the same block and of the states behind it. Only asked for the sake of events.
    pub(crate) fn is_kept_beside(&self, contents: Contents) -> bool {
        let is_kept_in = |(group, spec): (usize, &KvSpec)| {
            let parts = (0..spec.parts()).map(|part| Contents::of_part(contents.hash, group, part));
            let mut others = parts.filter(|part| *part != contents);
            others.all(|part| self.is_kept(part.name()))
        };
        self.config.events && self.config.groups.iter().enumerate().all(is_kept_in)
    }

    /// Whether the pool or the host tier has the contents of this name.
    fn is_kept(&self, name: Name) -> bool {
        self.index.find(name).is_some() || self.host.contains(name)
    }

    pub(crate) fn tell(&mut self, event: impl FnOnce() -> CacheEvent) {
        if self.config.events {
            self.events.push(event());
        }
    }
}

/// Pages that the table of a group takes to reach to block `reach`.
fn missing_in(spec: KvSpec, table: &Table, reach: usize) -> usize {
    match spec.is_state() {
        true => 0,
        false => reach.saturating_sub(table.end()),
    }
}

/// The slots of `positions`, as far as the table reaches.
fn slots_in(
    table: &Table,
    positions: Range<usize>,
    block_size: usize,
) -> impl Iterator<Item = u32> {
    positions.map_while(move |position| {
        let block = table.get(position / block_size)?;
        // The offset is below block_size, a u32; `validate` keeps the sum below u32::MAX.
        Some((block.0 as usize * block_size + position % block_size) as u32)
    })
}
