//! Remembering: which contents get a name, and when they lose it.
//!
//! A block is named when a *committed* step has filled it. If its name is taken, another block holds the same
//! tokens after the same prefix, and because a token's keys and values do not depend on the batch it was
//! computed in, the same bits: the sequence moves over to that block and gives its own back. So a name
//! belongs to one block, and a sequence holds the blocks that its named prefix leads to, from which follows
//! that a block is evicted before the one it depends on.
//!
//! A step in flight reads the table that it was planned with. If a sequence moves over meanwhile, the block that
//! it gives back stays held until that step is done. And a block that is still to be copied from the host tier is
//! no block to move over to: if its own sequence leaves before it is copied, it loses its name again.
//!
//! All of this happens in each group by itself. A block can be reused when every group has named what it has of it.
//!
//! A fork may share blocks that have no name yet. If one of the two has moved over and the other has not, the
//! blocks they still share depend on different ones: the one that moved leaves it to the other to name them.

use std::ops::Range;

use crate::index::Contents;
use crate::name::Name;
use crate::table::Table;
use crate::{BlockId, CacheEvent, HashChain, KvManager, SeqId};

impl KvManager {
    /// Names the full blocks of `sequence` among its first `computed` positions, which committed steps have
    /// written; `tokens` are the sequence's and `chain` has the hashes of their full blocks.
    ///
    /// No step in flight may read or write the sequence, because its table may change, and the moves that it
    /// [awaits](KvManager::awaits_moves) must be settled.
    pub fn commit(&mut self, sequence: SeqId, chain: &HashChain, tokens: &[u32], computed: usize) {
        for block in self.name_full(sequence, chain, tokens, computed) {
            self.let_go(block);
        }
    }

    /// As [`KvManager::commit`], while steps in flight read the table as it was; none of them writes to the
    /// first `computed` positions. Returns the blocks that left the table. They stay as they are until
    /// [`KvManager::let_go_replaced`], which is due when the last of these steps is done or taken back; the
    /// sequence must not be released before.
    #[must_use = "the blocks are held until they are let go"]
    pub fn commit_in_flight(
        &mut self,
        sequence: SeqId,
        chain: &HashChain,
        tokens: &[u32],
        computed: usize,
    ) -> Vec<BlockId> {
        let replaced = self.name_full(sequence, chain, tokens, computed);
        self.pinned.extend(&replaced);
        replaced
    }

    /// Lets go of blocks that [`KvManager::commit_in_flight`] returned.
    pub fn let_go_replaced(&mut self, replaced: &[BlockId]) {
        for &block in replaced {
            self.unpin(block);
        }
    }

    /// Returns the blocks that are not in the table any more, still held.
    fn name_full(
        &mut self,
        sequence: SeqId,
        chain: &HashChain,
        tokens: &[u32],
        computed: usize,
    ) -> Vec<BlockId> {
        let mut replaced = Vec::new();
        if !self.config.prefix_cache {
            return replaced;
        }
        let full = computed.min(tokens.len()) / self.config.block_size as usize;
        let end = full.min(chain.hashes().len());
        // Most steps fill no block: they leave the table where it is.
        let tables = self.tables.get(&sequence);
        if !tables.is_some_and(|tables| tables.may_name_before(end)) {
            return replaced;
        }
        let Some(mut tables) = self.tables.remove(&sequence) else {
            return replaced;
        };
        for (group, table) in tables.groups.iter_mut().enumerate() {
            let first = table.named.max(table.first_block);
            for index in first..end.min(table.end()) {
                if !self.name_block(group, table, index, chain, tokens, &mut replaced) {
                    break;
                }
                table.named = index + 1;
            }
        }
        for (group, states) in tables.states.iter().enumerate() {
            self.name_states(group, states, end, chain, tokens);
        }
        self.tables.insert(sequence, tables);
        replaced
    }

    /// Sees to it that block `index` of a table is the one that its name leads to. Returns whether it is.
    fn name_block(
        &mut self,
        group: usize,
        table: &mut Table,
        index: usize,
        chain: &HashChain,
        tokens: &[u32],
        replaced: &mut Vec<BlockId>,
    ) -> bool {
        let (Some(own), Some(&hash)) = (table.get(index), chain.hashes().get(index)) else {
            return false;
        };
        let is_shared = self.num_tables(own) > 1;
        match self.index.find(Name::new(hash, group)) {
            None if table.has_left_others && is_shared => return false,
            None => {
                let contents = Contents::new(hash, group);
                self.name(own, contents, chain, index, tokens);
                self.announce(contents, chain, index, tokens);
            }
            Some(known) if known == own => {}
            Some(known) if self.is_awaited_from_host(known) => return false,
            Some(known) => {
                table.has_left_others |= is_shared;
                self.pool.hold(known);
                table.replace(index, known);
                replaced.push(own);
                self.counts.merged += 1;
            }
        }
        true
    }

    /// Forgets all contents that idle blocks and the host tier hold, and lets no live sequence name what
    /// it has computed so far. Returns how many names are gone.
    pub fn reset_prefix_cache(&mut self) -> usize {
        let named = self.index.clear();
        for &block in &named {
            self.pool.unname(block);
        }
        for tables in self.tables.values_mut() {
            tables.outdated = true;
        }
        let forgotten = named.len() + self.host.len();
        self.host.clear();
        self.tell(|| CacheEvent::Cleared);
        forgotten
    }

    /// Names what `block` has of block `index` of `chain`, the hashes of `tokens`, or of the state behind it.
    pub(crate) fn name(
        &mut self,
        block: BlockId,
        contents: Contents,
        chain: &HashChain,
        index: usize,
        tokens: &[u32],
    ) {
        let tokens = &tokens[self.positions(index)];
        self.index
            .insert(block, contents, chain.parent(index), index == 0, tokens);
    }

    /// Says that block `index` of `chain` can be reused, now that these contents of it have a name, if all others
    /// have and it could not be before.
    pub(crate) fn announce(
        &mut self,
        contents: Contents,
        chain: &HashChain,
        index: usize,
        tokens: &[u32],
    ) {
        if !self.host.contains(contents.name()) && self.is_kept_beside(contents) {
            let tokens = &tokens[self.positions(index)];
            self.tell(|| CacheEvent::Stored {
                hash: contents.hash,
                parent: (index > 0).then(|| chain.parent(index)),
                tokens: tokens.to_vec(),
            });
        }
    }

    fn positions(&self, index: usize) -> Range<usize> {
        let size = self.config.block_size as usize;
        index * size..(index + 1) * size
    }
}
